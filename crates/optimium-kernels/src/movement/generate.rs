//! Tensors made from nothing.

use super::index::Index;
use crate::{Part, SharedSlice};

/// An element type of [`range`].
pub trait RangeElement: Copy + Send + Sync {
    /// `start + i · delta`, wrapping for integers.
    fn step(start: Self, delta: Self, i: usize) -> Self;
}

impl RangeElement for f32 {
    #[inline(always)]
    fn step(start: f32, delta: f32, i: usize) -> f32 {
        start + i as f32 * delta
    }
}

impl RangeElement for f64 {
    #[inline(always)]
    fn step(start: f64, delta: f64, i: usize) -> f64 {
        start + i as f64 * delta
    }
}

impl RangeElement for i16 {
    #[inline(always)]
    fn step(start: i16, delta: i16, i: usize) -> i16 {
        start.wrapping_add((i as i16).wrapping_mul(delta))
    }
}

impl RangeElement for i32 {
    #[inline(always)]
    fn step(start: i32, delta: i32, i: usize) -> i32 {
        start.wrapping_add((i as i32).wrapping_mul(delta))
    }
}

impl RangeElement for i64 {
    #[inline(always)]
    fn step(start: i64, delta: i64, i: usize) -> i64 {
        start.wrapping_add((i as i64).wrapping_mul(delta))
    }
}

/// `destination[i] = start + i · delta`
pub fn range<T: RangeElement>(start: T, delta: T, destination: SharedSlice<'_, T>, part: Part) {
    let own = part.range(destination.len());
    // SAFETY: each part writes its own share.
    let elements = unsafe { destination.slice(own.clone()) };
    for (element, i) in elements.iter_mut().zip(own) {
        *element = T::step(start, delta, i);
    }
}

/// Every element becomes `value`.
pub fn fill<T: Copy>(value: T, destination: SharedSlice<'_, T>, part: Part) {
    // SAFETY: each part writes its own share.
    unsafe { destination.slice(part.range_of_granules(destination.len(), 64)) }.fill(value);
}

/// A matrix of `zero` with `one` on the `diagonal`-th diagonal.
///
/// # Panics
/// Where the destination is not of `rows · columns` elements.
pub fn eye_like<T: Copy>(
    rows: usize,
    columns: usize,
    diagonal: i64,
    zero: T,
    one: T,
    destination: SharedSlice<'_, T>,
    part: Part,
) {
    assert_eq!(destination.len(), rows * columns, "a matrix of {rows} x {columns}");
    for row in part.range(rows) {
        // SAFETY: each part writes its own rows.
        let elements = unsafe { destination.slice(row * columns..(row + 1) * columns) };
        elements.fill(zero);
        let column = usize::try_from(row as i128 + i128::from(diagonal)).unwrap_or(columns);
        if let Some(element) = elements.get_mut(column) {
            *element = one;
        }
    }
}

/// `destination[o, d, i]` is `on` where `indices[o, i]` is `d`, else `off`.
///
/// Negative indices count from the end; an index out of range has no `on` at all.
///
/// # Panics
/// Where a slice does not have the size that the three counts say.
pub fn one_hot<T: Copy, I: Index>(
    indices: &[I],
    outer: usize,
    depth: usize,
    inner: usize,
    off: T,
    on: T,
    destination: SharedSlice<'_, T>,
    part: Part,
) {
    assert_eq!(indices.len(), outer * inner, "indices of {outer} x {inner}");
    assert_eq!(destination.len(), outer * depth * inner, "one-hot of {outer} x {depth} x {inner}");
    for row in part.range(outer * depth) {
        let (block, class) = (row / depth, (row % depth) as i64);
        // SAFETY: each part writes its own rows.
        let elements = unsafe { destination.slice(row * inner..(row + 1) * inner) };
        for (element, index) in elements.iter_mut().zip(&indices[block * inner..]) {
            let index = index.wide();
            let hit = index == class || index == class - depth as i64;
            *element = if hit { on } else { off };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of `work` with one to three parts, which must agree.
    fn parts<T: Copy + PartialEq + std::fmt::Debug>(
        empty: T,
        length: usize,
        work: impl Fn(SharedSlice<'_, T>, Part),
    ) -> Vec<T> {
        let results = [1, 2, 3].map(|count| {
            let mut y = vec![empty; length];
            for index in 0..count {
                work(SharedSlice::new(&mut y), Part { index, count });
            }
            y
        });
        assert!(results[0] == results[1] && results[0] == results[2]);
        results[0].clone()
    }

    #[test]
    fn ranges_and_fills() {
        assert_eq!(parts(0.0, 4, |y, part| range(1.0f32, -0.5, y, part)), [1.0, 0.5, 0.0, -0.5]);
        assert_eq!(parts(0.0, 2, |y, part| range(1.0f64, 2.0, y, part)), [1.0, 3.0]);
        assert_eq!(parts(0, 3, |y, part| range(5i16, -3, y, part)), [5, 2, -1]);
        assert_eq!(parts(0, 3, |y, part| range(5i32, 3, y, part)), [5, 8, 11]);
        assert_eq!(parts(0, 0, |y, part| range(5i64, 3, y, part)), []);
        assert_eq!(parts(0, 200, |y, part| fill(7u8, y, part)), [7; 200]);
    }

    #[test]
    fn identities() {
        let eye = |rows, columns, k| {
            parts(9u8, rows * columns, |y, part| eye_like(rows, columns, k, 0, 1, y, part))
        };
        assert_eq!(eye(2, 3, 0), [1, 0, 0, 0, 1, 0]);
        assert_eq!(eye(2, 3, 2), [0, 0, 1, 0, 0, 0]);
        assert_eq!(eye(2, 3, -1), [0, 0, 0, 1, 0, 0]);
        assert_eq!(eye(2, 2, i64::MIN), [0; 4]);
        assert_eq!(eye(0, 2, 0), []);
    }

    #[test]
    fn one_hot_axes() {
        let hot = |indices: &[i64], outer, inner| {
            parts(9u8, outer * 3 * inner, |y, part| one_hot(indices, outer, 3, inner, 0, 1, y, part))
        };
        assert_eq!(hot(&[1, -1], 2, 1), [0, 1, 0, 0, 0, 1]);
        assert_eq!(hot(&[1, -1], 1, 2), [0, 0, 1, 0, 0, 1]);
        assert_eq!(hot(&[3, -4], 2, 1), [0; 6]);
        assert_eq!(hot(&[], 0, 2), []);
    }
}
