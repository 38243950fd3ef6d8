//! The positions of elements that are not zero.

use crate::SharedSlice;

/// How many elements of `x` are not zero. NaN is not zero.
pub fn count_nonzero<T: Copy + Default + PartialEq>(x: &[T]) -> usize {
    x.iter().filter(|&&value| value != T::default()).count()
}

/// The positions of the elements of `x` that are not zero, in row-major order: one row of `destination`
/// an axis of `shape`, one column an element.
///
/// # Panics
/// Where a slice does not have the size that the shape or [`count_nonzero`] say.
pub fn nonzero<T: Copy + Default + PartialEq>(x: &[T], shape: &[usize], destination: SharedSlice<'_, i64>) {
    let count = count_nonzero(x);
    assert_eq!(x.len(), shape.iter().product::<usize>(), "elements of {shape:?}");
    assert_eq!(destination.len(), shape.len() * count, "positions of {count} elements of {shape:?}");
    // SAFETY: one call writes all of the destination.
    let positions = unsafe { destination.slice(0..destination.len()) };
    let found = x.iter().enumerate().filter(|&(_, &value)| value != T::default());
    for (column, (i, _)) in found.enumerate() {
        let mut rest = i;
        for axis in (0..shape.len()).rev() {
            positions[axis * count + column] = (rest % shape[axis]) as i64;
            rest /= shape[axis];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_by_axis() {
        let x = [0.0, 1.0, f32::NAN, -0.0, 0.0, 2.0];
        assert_eq!(count_nonzero(&x), 3);
        let mut y = [0; 6];
        nonzero(&x, &[2, 3], SharedSlice::new(&mut y));
        assert_eq!(y, [0, 0, 1, 1, 2, 2]);
        nonzero(&[0u8; 0], &[0, 3], SharedSlice::new(&mut []));
        nonzero(&[5i64], &[], SharedSlice::new(&mut []));
    }
}
