//! Triangles of matrices.

use crate::{Part, SharedSlice};

/// Keeps the upper or the lower triangle of every matrix (the last two axes of `shape`), with the
/// `diagonal`-th diagonal in it; the other elements become zero.
///
/// # Panics
/// Where a slice does not have the size that the shape says, or the shape has no matrix.
pub fn trilu(
    source: &[u8],
    shape: &[usize],
    diagonal: i64,
    upper: bool,
    element_size: usize,
    destination: SharedSlice<'_, u8>,
    part: Part,
) {
    let [.., rows, columns] = *shape else { panic!("no matrix in a shape of {shape:?}") };
    let all = shape[..shape.len() - 1].iter().product::<usize>();
    let bytes = columns * element_size;
    assert_eq!(source.len(), all * bytes, "source of {shape:?}");
    assert_eq!(destination.len(), source.len(), "destination of {shape:?}");
    for row in part.range(all) {
        // The first column of the upper triangle; the lower one ends just after the diagonal.
        let on = (row % rows) as i128 + i128::from(diagonal) + i128::from(!upper);
        let cut = on.clamp(0, columns as i128) as usize * element_size;
        // SAFETY: each row is written by one part.
        let to = unsafe { destination.slice(row * bytes..(row + 1) * bytes) };
        let from = &source[row * bytes..(row + 1) * bytes];
        let (kept, zeroed) = if upper { (cut..bytes, 0..cut) } else { (0..cut, cut..bytes) };
        to[zeroed].fill(0);
        to[kept.clone()].copy_from_slice(&from[kept]);
    }
}
