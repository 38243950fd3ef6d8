//! Sequences turned round.

use super::copy_loops::copy_run;
use super::index::{IndexOutOfRange, has_size};
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
    assert!(has_size(source.len(), shape, element_size), "source of {shape:?}");
    assert_eq!(destination.len(), source.len(), "destination of {shape:?}");
    if let Some(&index) = lengths.iter().find(|&&length| length < 0 || length as u64 > time as u64) {
        return Err(IndexOutOfRange { index, size: time });
    }
    let row = |sequence: usize, step: usize| {
        if time_first { step * batch + sequence } else { sequence * time + step }
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_reversed_up_to_the_length() {
        // Two sequences of three steps of two bytes.
        let batch_first = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15];
        let expected = [2, 3, 0, 1, 4, 5, 14, 15, 12, 13, 10, 11];
        let swapped =
            |x: &[u8]| -> Vec<u8> { [0, 6, 2, 8, 4, 10].iter().flat_map(|&at| [x[at], x[at + 1]]).collect() };
        for count in 1..4 {
            for time_first in [false, true] {
                let (x, expected, shape) = if time_first {
                    (swapped(&batch_first), swapped(&expected), [3, 2, 2])
                } else {
                    (batch_first.to_vec(), expected.to_vec(), [2, 3, 2])
                };
                let mut y = vec![0; 12];
                for index in 0..count {
                    let (y, part) = (SharedSlice::new(&mut y), Part { index, count });
                    reverse_sequence(&x, &shape, time_first, &[2, 3], 1, y, part).unwrap();
                }
                assert_eq!(y, expected, "time first: {time_first}, {count} parts");
            }
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let mut y = [0; 3];
        for index in [-1, 4] {
            let result =
                reverse_sequence(&[0; 3], &[1, 3], false, &[index], 1, SharedSlice::new(&mut y), Part::WHOLE);
            assert_eq!(result, Err(IndexOutOfRange { index, size: 3 }));
        }
    }
}
