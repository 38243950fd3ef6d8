//! Columns of a compressed matrix picked by indices: embeddings.

use super::stored::StoredMatrix;
use crate::movement::{Index, IndexOutOfRange, position};
use crate::{Part, SharedSlice};

/// Writes column `indices[i]` of `matrix` to row `i` of `out`, for this part's share of the indices. Negative indices count from the
/// end.
///
/// # Errors
/// The first index of this part that is out of range; what is written by then is unspecified.
///
/// # Panics
/// Where `out` does not have `k` elements for each index.
pub fn gather<I: Index>(
    matrix: &StoredMatrix,
    indices: &[I],
    out: SharedSlice<f32>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let k = matrix.k();
    assert!(
        indices.len().checked_mul(k) == Some(out.len()),
        "{} rows of {k} in {}",
        indices.len(),
        out.len()
    );
    for row in part.range(indices.len()) {
        let column = position(indices[row], matrix.n())?;
        // SAFETY: each row belongs to one part.
        matrix.read_column(column, unsafe { out.slice(row * k..(row + 1) * k) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, Scales};
    use super::*;

    #[test]
    fn columns_are_picked() {
        let data: Vec<u8> = (0..48).collect();
        let scales = Scales::F32(&[1.0, 0.5, 2.0]);
        let matrix = StoredMatrix::blocks(Encoding::Int8, [2, 3, 16], &data, scales, Some(&[0; 3])).unwrap();
        let mut out = vec![f32::NAN; 6];
        let shared = SharedSlice::new(&mut out);
        for index in 0..2 {
            gather(&matrix, &[2i64, 0, -2], shared, Part { index, count: 2 }).unwrap();
        }
        assert_eq!(out, [64.0, 66.0, 0.0, 1.0, 8.0, 8.5]);
        for index in [3, -4, i32::MIN] {
            let mut out = [0.0; 2];
            assert!(gather(&matrix, &[index], SharedSlice::new(&mut out), Part::WHOLE).is_err());
        }
    }
}
