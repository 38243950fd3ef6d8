//! The product of matrices of the other number types.

use crate::{Part, SharedSlice};

/// A number that can be multiplied and summed; integers wrap.
pub trait Number: Copy + Default + Send + Sync {
    /// `self + a * b`
    fn add_product(self, a: Self, b: Self) -> Self;
}

impl Number for f32 {
    fn add_product(self, a: f32, b: f32) -> f32 {
        self + a * b
    }
}
impl Number for f64 {
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}
impl Number for i32 {
    fn add_product(self, a: i32, b: i32) -> i32 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}
impl Number for i64 {
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}
impl Number for u32 {
    fn add_product(self, a: u32, b: u32) -> u32 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}
impl Number for u64 {
    fn add_product(self, a: u64, b: u64) -> u64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// `C[m,n] = A[m,k] · B[k,n]` for any number type; this part computes its share of the rows.
///
/// The strides are from row to row and from column to column; `c` is contiguous.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub fn matmul_general<T: Number>(
    m: usize,
    n: usize,
    k: usize,
    a: &[T],
    a_strides: [usize; 2],
    b: &[T],
    b_strides: [usize; 2],
    c: SharedSlice<T>,
    part: Part,
) {
    assert!(c.len() >= m * n, "{} elements for a {m}x{n} result", c.len());
    let rows = part.range(m);
    // SAFETY: each part has its own rows.
    let c = unsafe { c.slice(rows.start * n..rows.end * n) };
    c.fill(T::default());
    if n == 0 {
        return;
    }
    for (i, row) in rows.zip(c.chunks_exact_mut(n)) {
        for p in 0..k {
            let factor = a[i * a_strides[0] + p * a_strides[1]];
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = sum.add_product(factor, b[p * b_strides[0] + j * b_strides[1]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn products_are_exact_at_all_strides_and_parts() {
        let cases = [[1, 1, 1], [3, 4, 5], [7, 2, 9], [0, 3, 2], [3, 0, 2], [3, 2, 0]];
        each_case(cases, |&[m, n, k]| {
            let value = |i: usize| (i as i64).wrapping_mul(0x1234_5678_9abc_def1);
            let a: Vec<i64> = (0..m * k).map(value).collect();
            let b: Vec<i64> = (0..k * n).map(|i| value(i + 99)).collect();
            let expected: Vec<i64> = (0..m * n)
                .map(|at| {
                    let (i, j) = (at / n, at % n);
                    // A is stored by columns, B by rows.
                    (0..k).fold(0i64, |sum, p| sum.wrapping_add(a[p * m + i].wrapping_mul(b[p * n + j])))
                })
                .collect();
            for count in 1..=3 {
                let mut c = vec![7; m * n];
                let shared = SharedSlice::new(&mut c);
                for index in 0..count {
                    matmul_general(m, n, k, &a, [1, m], &b, [n, 1], shared, Part { index, count });
                }
                if c != expected {
                    return Err(format!("{c:?} instead of {expected:?} with {count} parts"));
                }
            }
            Ok(())
        });
    }
}
