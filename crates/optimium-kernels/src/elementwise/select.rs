//! The choice between two elements.

use super::{Broadcast, Source};
use crate::{Part, SharedSlice};

/// `y = a` where `condition` is not 0, else `b`; any type of element, by its bytes.
///
/// The operands of `broadcast` are the condition, `a` and `b`. One that is not broadcast and contiguous
/// may be the memory of `y`.
///
/// # Panics
/// Where `broadcast` reads beyond an operand, `y` has another length than it, or an operand overlaps
/// `y` otherwise than element by element.
pub fn select<'a, T: Copy + 'a>(
    broadcast: &Broadcast<3>,
    condition: impl Into<Source<'a, u8>>,
    a: impl Into<Source<'a, T>>,
    b: impl Into<Source<'a, T>>,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let (condition, a, b) = (condition.into(), a.into(), b.into());
    broadcast.check(0, condition, y);
    broadcast.check(1, a, y);
    broadcast.check(2, b, y);
    for plane in broadcast.planes(part.range_of_granules(broadcast.len(), 64)) {
        for row in 0..plane.rows {
            let offset = |k: usize| plane.offsets[k] + row * plane.row_strides[k];
            // SAFETY: the plane lies in the operands and in the output, whose lengths were checked,
            // and its output elements are this part's own.
            unsafe {
                let condition = condition.as_ptr().add(offset(0));
                let a = a.as_ptr().add(offset(1));
                let b = b.as_ptr().add(offset(2));
                let y = y.as_mut_ptr().add(plane.output + row * plane.columns);
                // The steps as constants, for loops that the compiler can turn into vectors.
                match plane.strides {
                    [1, 1, 1] => select_row([1, 1, 1], condition, a, b, y, plane.columns),
                    [1, 1, 0] => select_row([1, 1, 0], condition, a, b, y, plane.columns),
                    [1, 0, 1] => select_row([1, 0, 1], condition, a, b, y, plane.columns),
                    [0, 1, 1] => select_row([0, 1, 1], condition, a, b, y, plane.columns),
                    strides => select_row(strides, condition, a, b, y, plane.columns),
                }
            }
        }
    }
}

/// Elements that are chosen together.
const CHUNK: usize = 16;

/// The elements from number `at` on, or the same one again and again where they are no step apart.
///
/// # Safety
/// They are readable, and no step or one apart.
#[inline(always)]
unsafe fn read_chunk<T: Copy>(p: *const T, at: usize, stride: usize) -> [T; CHUNK] {
    // SAFETY: the caller's promise.
    unsafe { if stride == 0 { [p.read(); CHUNK] } else { p.add(at).cast::<[T; CHUNK]>().read_unaligned() } }
}

/// # Safety
/// `n` elements are readable at the operands in those steps, and writable at `y`.
#[inline(always)]
unsafe fn select_row<T: Copy>(
    strides: [usize; 3],
    condition: *const u8,
    a: *const T,
    b: *const T,
    y: *mut T,
    n: usize,
) {
    let mut done = 0;
    if strides.iter().all(|&stride| stride <= 1) {
        while n - done >= CHUNK {
            // SAFETY: by the caller's promise. All is read before anything is written, which may be where an operand is.
            unsafe {
                let condition = read_chunk(condition, done, strides[0]);
                let (on, off) = (read_chunk(a, done, strides[1]), read_chunk(b, done, strides[2]));
                let chosen: [T; CHUNK] =
                    std::array::from_fn(|i| if condition[i] != 0 { on[i] } else { off[i] });
                y.add(done).cast::<[T; CHUNK]>().write_unaligned(chosen);
            }
            done += CHUNK;
        }
    }
    for i in done..n {
        // SAFETY: by the caller's promise.
        unsafe {
            let (on, off) = (a.add(i * strides[1]).read(), b.add(i * strides[2]).read());
            y.add(i).write(if condition.add(i * strides[0]).read() != 0 { on } else { off });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_also_in_their_own_place() {
        for n in [15, 16, 17, 50] {
            let condition: Vec<u8> = (0..n).map(|i| (i * 7 % 3 == 0).into()).collect();
            let a: Vec<u32> = (0..n as u32).collect();
            for strides in [[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]] {
                let [c, p, q] = strides.map(|stride| [stride]);
                let broadcast = Broadcast::of(&[n], [&c, &p, &q]);
                let b: Vec<u32> = (100..100 + n as u32).collect();
                let expected: Vec<u32> = (0..n)
                    .map(|i| if condition[i * c[0]] != 0 { a[i * p[0]] } else { b[i * q[0]] })
                    .collect();
                let mut y = vec![0; n];
                select(&broadcast, &condition, &a, &b, SharedSlice::new(&mut y), Part::WHOLE);
                assert_eq!(y, expected, "{strides:?}");
                if strides[1] == 1 {
                    let mut y = a.clone();
                    let place = SharedSlice::new(&mut y);
                    select(&broadcast, &condition, place, &b, place, Part::WHOLE);
                    assert_eq!(y, expected, "{strides:?} in place");
                }
            }
        }
    }

    #[test]
    fn three_operands_broadcast() {
        let condition: Vec<u8> = (0..20).map(|i| (i * 7 % 3 == 0).into()).collect();
        let a: Vec<u64> = (0..60).collect();
        let b: Vec<u64> = (100..160).collect();
        let shape = [3, 4, 5];
        let layouts: [[[usize; 3]; 3]; 4] = [
            [[0, 5, 1], [20, 5, 1], [0, 0, 0]],
            [[0, 5, 1], [20, 5, 1], [20, 5, 1]],
            [[5, 0, 1], [0, 0, 0], [1, 3, 12]],
            [[0, 1, 0], [0, 0, 1], [20, 5, 1]],
        ];
        for strides in layouts {
            let broadcast = Broadcast::of(&shape, [&strides[0], &strides[1], &strides[2]]);
            let at = |i: usize, s: [usize; 3]| i / 20 * s[0] + i / 5 % 4 * s[1] + i % 5 * s[2];
            let expected: Vec<u64> = (0..60)
                .map(|i| {
                    if condition[at(i, strides[0])] != 0 {
                        a[at(i, strides[1])]
                    } else {
                        b[at(i, strides[2])]
                    }
                })
                .collect();
            for count in 1..4 {
                let mut y = vec![0; 60];
                for index in 0..count {
                    let y = SharedSlice::new(&mut y);
                    select(&broadcast, &condition, &a, &b, y, Part { index, count });
                }
                assert_eq!(y, expected, "{strides:?}");
            }
        }
    }
}
