//! The innermost loops of a strided copy, by element size.

use optimium_simd::{Level, Simd, SimdTask};

use super::every::{STEPS, copy_every};
use super::interleave::{Interleave, MOST_ROWS};

/// Rows of the destination that one call of [`copy_plane`] should write, of `along` rows of `across` elements: a few cache lines
/// of the source, more of them where there are enough for all parts, and many where the rows are as short as pixels.
pub(super) fn strip(along: usize, across: usize) -> usize {
    match (along, across) {
        (_, 0..=4) => 1024,
        (LONG.., _) => 256,
        _ => 64,
    }
}

/// Rows that are many.
const LONG: usize = 4096;

/// One axis of elements; steps in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) count: usize,
    pub(super) source: isize,
    pub(super) destination: isize,
}

/// A transposed matrix: `along` rows of `across` elements in the destination. `source` is the step from
/// one element of a row to the next in the source, `destination` the step from row to row in the
/// destination, in bytes; the other two steps are one element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub(super) along: usize,
    pub(super) across: usize,
    pub(super) source: isize,
    pub(super) destination: isize,
}

/// Whether elements of that many bytes have loops of their own.
pub(super) fn is_unit(bytes: usize) -> bool {
    matches!(bytes, 1 | 2 | 4 | 8 | 16)
}

/// Copies `bytes` bytes.
///
/// # Safety
/// They are readable and writable, and do not overlap.
#[inline(always)]
pub(super) unsafe fn copy_run(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: by the caller's promise. Short runs are fixed-size moves instead of calls.
    unsafe {
        match bytes {
            4 => to.cast::<u32>().write_unaligned(from.cast::<u32>().read_unaligned()),
            8 => to.cast::<u64>().write_unaligned(from.cast::<u64>().read_unaligned()),
            12 => to.cast::<[u32; 3]>().write_unaligned(from.cast::<[u32; 3]>().read_unaligned()),
            16 => to.cast::<u128>().write_unaligned(from.cast::<u128>().read_unaligned()),
            24 => to.cast::<[u64; 3]>().write_unaligned(from.cast::<[u64; 3]>().read_unaligned()),
            32 => to.cast::<[u128; 2]>().write_unaligned(from.cast::<[u128; 2]>().read_unaligned()),
            _ => std::ptr::copy_nonoverlapping(from, to, bytes),
        }
    }
}

/// Copies one axis of elements of `unit` bytes.
///
/// # Safety
/// All elements are in bounds, and `unit` is one for which [`is_unit`] holds.
#[inline]
pub(super) unsafe fn copy_line(level: Level, unit: usize, from: *const u8, to: *mut u8, lanes: Lanes) {
    // SAFETY: by the caller's promise.
    unsafe {
        match unit {
            4 if takes_every(from, to, lanes) => {
                copy_every(level, lanes.source / 4, from, to, lanes.count);
            }
            1 => line::<u8>(from, to, lanes),
            2 => line::<u16>(from, to, lanes),
            4 => line::<u32>(from, to, lanes),
            8 => line::<u64>(from, to, lanes),
            _ => line::<u128>(from, to, lanes),
        }
    }
}

/// # Safety
/// As [`copy_line`].
#[inline(always)]
unsafe fn line<T: Copy>(mut from: *const u8, mut to: *mut u8, lanes: Lanes) {
    let size = size_of::<T>() as isize;
    // SAFETY: every element is in bounds by the caller's promise; pointers past the last are not read.
    unsafe {
        if lanes.source == 0 && lanes.destination == size {
            let value = from.cast::<T>().read_unaligned();
            for i in 0..lanes.count {
                to.cast::<T>().add(i).write_unaligned(value);
            }
        } else if lanes.destination == size {
            for i in 0..lanes.count {
                let value = from.offset(i as isize * lanes.source).cast::<T>().read_unaligned();
                to.cast::<T>().add(i).write_unaligned(value);
            }
        } else {
            for _ in 0..lanes.count {
                to.cast::<T>().write_unaligned(from.cast::<T>().read_unaligned());
                from = from.wrapping_offset(lanes.source);
                to = to.wrapping_offset(lanes.destination);
            }
        }
    }
}

/// Transposes a matrix of elements of `unit` bytes.
///
/// # Safety
/// All elements are in bounds, and `unit` is one for which [`is_unit`] holds.
#[inline]
pub(super) unsafe fn copy_plane(level: Level, unit: usize, from: *const u8, to: *mut u8, plane: Plane) {
    // SAFETY: by the caller's promise.
    unsafe {
        match unit {
            1 => blocks::<u8>(from, to, plane),
            2 => blocks::<u16>(from, to, plane),
            4 if plane.along >= 4 && plane.across > 4 && in_words(from, to, plane) => {
                level.run(TransposeWords { from, to, plane });
            }
            4 if (2..=MOST_ROWS).contains(&plane.across)
                && plane.destination == 4 * plane.across as isize
                && in_words(from, to, plane) =>
            {
                let shape = Interleave {
                    rows: plane.across,
                    length: plane.along,
                    row_step: plane.source,
                    positions: 1,
                    steps: [0, 0],
                };
                shape.run(level, from, to);
            }
            4 if takes_every(from, to, plane.row()) && plane.destination % 4 == 0 => {
                for row in 0..plane.along {
                    let to = to.offset(row as isize * plane.destination);
                    copy_every(level, plane.source / 4, from.add(4 * row), to, plane.across);
                }
            }
            4 => blocks::<u32>(from, to, plane),
            8 => blocks::<u64>(from, to, plane),
            _ => blocks::<u128>(from, to, plane),
        }
    }
}

impl Plane {
    /// A row of the destination, of four-byte elements.
    fn row(&self) -> Lanes {
        Lanes { count: self.across, source: self.source, destination: 4 }
    }
}

/// Whether four-byte elements are so few elements apart, and so many, that they are picked out of vectors.
fn takes_every(from: *const u8, to: *const u8, lanes: Lanes) -> bool {
    const FEWEST: usize = 16;
    let step = lanes.source / 4;
    lanes.count >= FEWEST
        && lanes.destination == 4
        && lanes.source % 4 == 0
        && STEPS.contains(&step)
        && from.addr().is_multiple_of(4)
        && to.addr().is_multiple_of(4)
}

/// Whether addresses and steps are whole words, and the steps forward.
fn in_words(from: *const u8, to: *const u8, plane: Plane) -> bool {
    from.addr().is_multiple_of(4)
        && to.addr().is_multiple_of(4)
        && [plane.source, plane.destination].iter().all(|&step| step > 0 && step % 4 == 0)
}

/// Transposes in blocks that stay in the first cache.
///
/// # Safety
/// As [`copy_plane`].
#[inline(always)]
unsafe fn blocks<T: Copy>(from: *const u8, to: *mut u8, plane: Plane) {
    // SAFETY: by the caller's promise.
    unsafe {
        match plane.across {
            2 => interleave::<T, 2>(from, to, plane),
            3 => interleave::<T, 3>(from, to, plane),
            4 => interleave::<T, 4>(from, to, plane),
            _ => {
                const BLOCK: usize = 64;
                for first in (0..plane.across).step_by(BLOCK) {
                    let count = BLOCK.min(plane.across - first);
                    let lanes = Lanes { count, source: plane.source, destination: size_of::<T>() as isize };
                    for row in 0..plane.along {
                        let from = from.offset(first as isize * plane.source).cast::<T>().add(row);
                        let to = to.offset(row as isize * plane.destination).cast::<T>().add(first);
                        line::<T>(from.cast(), to.cast(), lanes);
                    }
                }
            }
        }
    }
}

/// Transposes `N` long rows into rows of `N`.
///
/// # Safety
/// As [`copy_plane`], with `across` equal to `N`.
#[inline(always)]
unsafe fn interleave<T: Copy, const N: usize>(from: *const u8, to: *mut u8, plane: Plane) {
    for row in 0..plane.along {
        // SAFETY: by the caller's promise.
        unsafe {
            let values: [T; N] = std::array::from_fn(|i| {
                from.offset(i as isize * plane.source).cast::<T>().add(row).read_unaligned()
            });
            to.offset(row as isize * plane.destination).cast::<[T; N]>().write_unaligned(values);
        }
    }
}

/// Elements of a destination's row that are written in one go, where the source's rows are shorter: a multiple of all vectors'
/// lanes.
const STRETCH: usize = 64;

/// Transposes four-byte elements in registers; made where all elements are in bounds.
struct TransposeWords {
    from: *const u8,
    to: *mut u8,
    plane: Plane,
}

impl SimdTask for TransposeWords {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Plane { along, across, source, destination } = self.plane;
        let (rows, columns) = (along / S::LANES * S::LANES, across / S::LANES * S::LANES);
        // SAFETY: whoever made the task promised that the whole plane is in bounds; a register block covers
        // LANES rows and columns within it, and the edges are copied element by element.
        unsafe {
            // Some lines of every row at a time: the source's part of them stays in the first cache. Where the source's rows
            // are the longer ones, as few of them as possible are read side by side.
            let stretch = if along > across { S::LANES } else { STRETCH };
            for first in (0..columns).step_by(stretch) {
                for row in (0..rows).step_by(S::LANES) {
                    for column in (first..columns.min(first + stretch)).step_by(S::LANES) {
                        let from = self.from.offset(column as isize * source).add(4 * row);
                        let to = self.to.offset(row as isize * destination).add(4 * column);
                        simd.transpose(from.cast(), source as usize / 4, to.cast(), destination as usize / 4);
                    }
                }
            }
            let lanes = |count| Lanes { count, source, destination: 4 };
            for row in rows..along {
                let to = self.to.offset(row as isize * destination);
                line::<u32>(self.from.add(4 * row), to, lanes(across));
            }
            for row in 0..rows {
                let from = self.from.offset(columns as isize * source).add(4 * row);
                let to = self.to.offset(row as isize * destination).add(4 * columns);
                line::<u32>(from, to, lanes(across - columns));
            }
        }
    }
}
