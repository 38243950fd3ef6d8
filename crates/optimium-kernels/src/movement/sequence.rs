//! Sequences turned round.

use super::copy_loops::copy_run;
use super::index::IndexOutOfRange;
use crate::{Part, SharedSlice};

/// Reverses the first `lengths[b]` steps of every sequence `b`; the steps after them stay.
///
/// `shape` begins with the two axes of batch and time, in the order that `time_first` says.
///
/// # Errors
/// A length that is negative or exceeds the time axis.
///
/// # Panics
/// Where a slice does not have the size that the shape says.
pub fn reverse_sequence(
    source: &[u8],
    shape: &[usize],
    time_first: bool,
    lengths: &[i64],
    element_size: usize,
    destination: SharedSlice<'_, u8>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    assert!(shape.len() >= 2, "sequences of shape {shape:?}");
    let (batch, time) = if time_first { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let bytes = shape[2..].iter().product::<usize>() * element_size;
    assert_eq!(lengths.len(), batch, "one length a sequence");
    assert_eq!(source.len(), batch * time * bytes, "source of {shape:?}");
    assert_eq!(destination.len(), source.len(), "destination of {shape:?}");
    if let Some(&index) = lengths.iter().find(|&&length| length < 0 || length as u64 > time as u64) {
        return Err(IndexOutOfRange { index, size: time });
    }
    let row = |sequence: usize, step: usize| if time_first { step * batch + sequence } else { sequence * time + step };
    for item in part.range(batch * time) {
        let (sequence, step) = (item / time, item % time);
        let length = lengths[sequence] as usize;
        let from = if step < length { length - 1 - step } else { step };
        // SAFETY: both rows are below `batch * time`; each row is written by one part.
        unsafe {
            let to = destination.as_mut_ptr().add(row(sequence, step) * bytes);
            copy_run(source.as_ptr().add(row(sequence, from) * bytes), to, bytes);
        }
    }
    Ok(())
}
