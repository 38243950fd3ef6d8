//! A panel of compressed weights to `f32`.

use optimium_simd::{Simd, SimdTask};

use super::encoding::{Bf16, Int4, Int8, Widen};
use super::packed::{CompactMatrix, ScaleForm};
use super::stored::Encoding;

/// Writes panel `panel` as `f32` to `out`: a row of `vectors` vectors for each of the matrix's rows, filled up to whole words.
pub(super) struct WidenPanel<'a> {
    pub(super) matrix: &'a CompactMatrix,
    pub(super) panel: usize,
    /// Vectors of columns that exist.
    pub(super) vectors: usize,
    pub(super) out: &'a mut [f32],
}

impl SimdTask for WidenPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.matrix.encoding {
            Encoding::Bf16 => self.of::<S, Bf16>(simd),
            Encoding::Int8 => self.of::<S, Int8>(simd),
            Encoding::Int4 => self.of::<S, Int4>(simd),
        }
    }
}

impl WidenPanel<'_> {
    #[inline(always)]
    fn of<S: Simd, E: Widen>(self, simd: S) {
        let WidenPanel { matrix, panel, vectors, out } = self;
        let (width, head) = (matrix.width(), matrix.head_words());
        assert!(vectors * S::LANES <= width, "{vectors} vectors of {width} columns");
        assert!(out.len() >= matrix.padded_k() * vectors * S::LANES, "room for a panel");
        let mut words = matrix.panel_of(panel).as_ptr();
        let mut out = out.as_mut_ptr();
        for block in 0..matrix.blocks() {
            let rows = matrix.word_rows(block);
            for v in 0..vectors {
                // SAFETY: a panel has a head and so many rows of words for each block, and `out` room for all of them.
                unsafe {
                    let (scale, excess) = scale_of::<S, E>(simd, matrix, words.cast(), v);
                    let from = words.add(head + v * S::LANES);
                    let to = out.add(v * S::LANES);
                    for row in 0..rows {
                        let stored = simd.load_i32(from.add(row * width).cast());
                        let to = to.add(row * E::PER_WORD * vectors * S::LANES);
                        let target = Target { to, stride: vectors * S::LANES, scale, excess };
                        widen_word::<S, E>(simd, stored, &target);
                    }
                }
            }
            words = words.wrapping_add(head + rows * width);
            out = out.wrapping_add(rows * E::PER_WORD * vectors * S::LANES);
        }
    }
}

/// Where the elements of a word go, and what is done to them on the way.
struct Target<S: Simd> {
    to: *mut f32,
    stride: usize,
    scale: S::F32,
    excess: S::F32,
}

/// The scales of vector `v`, and what their elements are too large.
///
/// # Safety
/// The head of the block is readable at `head`.
#[inline(always)]
unsafe fn scale_of<S: Simd, E: Widen>(
    simd: S,
    matrix: &CompactMatrix,
    head: *const u8,
    v: usize,
) -> (S::F32, S::F32) {
    let column = v * S::LANES;
    // SAFETY: forwarded.
    let (scale, bytes) = unsafe {
        match matrix.scales {
            ScaleForm::None => (simd.splat(1.0), 0),
            ScaleForm::F32 => (simd.load(head.cast::<f32>().add(column)), 4),
            ScaleForm::F16 => (simd.load_f16(head.cast::<u16>().add(column), S::LANES), 2),
        }
    };
    if !matrix.has_zeros {
        return (scale, simd.splat(E::BASE + f32::from(matrix.encoding.middle())));
    }
    let zeros = head.wrapping_add(bytes * matrix.width() + column);
    // SAFETY: the zero points follow the scales.
    let zeros = simd.to_f32(unsafe { simd.load_u8(zeros, S::LANES) });
    (scale, simd.add(zeros, simd.splat(E::BASE)))
}

/// The elements of the words, one after the other.
///
/// # Safety
/// The rows of the target are writable.
#[inline(always)]
unsafe fn widen_word<S: Simd, E: Widen>(simd: S, words: S::I32, target: &Target<S>) {
    // SAFETY: forwarded.
    unsafe {
        widen_element::<S, E, 0>(simd, words, target);
        widen_element::<S, E, 1>(simd, words, target);
        if E::PER_WORD > 2 {
            widen_element::<S, E, 2>(simd, words, target);
            widen_element::<S, E, 3>(simd, words, target);
        }
        if E::PER_WORD > 4 {
            widen_element::<S, E, 4>(simd, words, target);
            widen_element::<S, E, 5>(simd, words, target);
            widen_element::<S, E, 6>(simd, words, target);
            widen_element::<S, E, 7>(simd, words, target);
        }
    }
}

/// Element `J` of the words.
///
/// # Safety
/// Row `J` of the target is writable.
#[inline(always)]
unsafe fn widen_element<S: Simd, E: Widen, const J: usize>(simd: S, words: S::I32, target: &Target<S>) {
    let raised = E::element::<S, J>(simd, words);
    let element = if E::SCALED { simd.mul(simd.sub(raised, target.excess), target.scale) } else { raised };
    // SAFETY: forwarded.
    unsafe { simd.store(target.to.add(J * target.stride), element) };
}
