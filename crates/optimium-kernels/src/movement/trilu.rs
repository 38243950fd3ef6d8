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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles() {
        for (rows, columns) in [(3, 4), (4, 2), (1, 1), (0, 3), (3, 0)] {
            for (diagonal, upper) in (-5..6).chain([i64::MIN, i64::MAX]).flat_map(|k| [(k, true), (k, false)])
            {
                let x: Vec<u8> = (1..=(2 * rows * columns) as u8).collect();
                let expected: Vec<u8> = (0..x.len())
                    .map(|i| {
                        let off = (i % columns) as i128 - (i / columns % rows) as i128;
                        let kept = if upper { off >= diagonal.into() } else { off <= diagonal.into() };
                        if kept { x[i] } else { 0 }
                    })
                    .collect();
                for count in 1..4 {
                    let mut y = vec![9; x.len()];
                    for index in 0..count {
                        let (y, part) = (SharedSlice::new(&mut y), Part { index, count });
                        trilu(&x, &[2, rows, columns], diagonal, upper, 1, y, part);
                    }
                    assert_eq!(y, expected, "{rows} x {columns}, {diagonal}, upper: {upper}");
                }
            }
        }
    }
}
