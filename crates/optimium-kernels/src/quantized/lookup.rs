//! Functions of one quantized element as tables.

use optimium_simd::Level;

use super::{Quantization, byte_value};
use crate::{Part, SharedSlice};

/// A function of a byte.
#[derive(Clone, Debug)]
pub struct LookupTable([u8; 256]);

impl LookupTable {
    /// The table of `f` between two quantizations.
    pub fn new(input: Quantization, output: Quantization, f: impl Fn(f32) -> f32) -> LookupTable {
        let (low, high) = output.limits();
        LookupTable(std::array::from_fn(|byte| {
            let x = (byte_value(byte as u8, input.signed) - input.zero_point) as f32 * input.scale;
            let steps = (f(x) / output.scale).round_ties_even() + output.zero_point as f32;
            steps.clamp(low as f32, high as f32) as i32 as u8
        }))
    }

    /// The result for a byte.
    #[inline]
    pub fn get(&self, byte: u8) -> u8 {
        self.0[usize::from(byte)]
    }
}

/// `y[i] = table(x[i])`
///
/// # Panics
/// Where the lengths differ.
pub fn lookup(level: Level, table: &LookupTable, x: &[u8], y: SharedSlice<'_, u8>, part: Part) {
    assert!(x.len() == y.len(), "{} elements into {}", x.len(), y.len());
    let range = part.range_of_granules(x.len(), 64);
    // SAFETY: the ranges of the parts are disjoint.
    let y = unsafe { y.slice(range.clone()) };
    let x = &x[range];
    #[cfg(target_arch = "x86_64")]
    if permute::is_available(level) {
        // SAFETY: the machine was just found to have the instructions, and both slices are equally long.
        return unsafe { permute::lookup(&table.0, x, y) };
    }
    let _ = level;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = table.get(x);
    }
}

/// Tables in registers, which are read by permuting their bytes.
#[cfg(target_arch = "x86_64")]
mod permute {
    use std::arch::x86_64::{
        __m512i, _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_mask_storeu_epi8,
        _mm512_maskz_loadu_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8,
    };

    use optimium_simd::Level;

    /// Bytes of a vector.
    const BYTES: usize = 64;

    /// Whether this machine permutes bytes, and the level allows vectors so wide.
    pub(super) fn is_available(level: Level) -> bool {
        matches!(level, Level::Avx512 | Level::Avx512Vnni)
            && level.is_available()
            && is_x86_feature_detected!("avx512vbmi")
    }

    /// `y[i] = table[x[i]]`
    ///
    /// # Safety
    /// The permutation [is available](is_available), and the slices are equally long.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) unsafe fn lookup(table: &[u8; 256], x: &[u8], y: &mut [u8]) {
        // SAFETY: the table has four vectors.
        let quarter = |i: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(i * BYTES).cast()) };
        let quarters: [__m512i; 4] = [quarter(0), quarter(1), quarter(2), quarter(3)];
        for (x, y) in x.chunks(BYTES).zip(y.chunks_mut(BYTES)) {
            let mask = u64::MAX >> (BYTES - x.len());
            // SAFETY: the mask selects the elements of both chunks.
            unsafe {
                let index = _mm512_maskz_loadu_epi8(mask, x.as_ptr().cast());
                let lower = _mm512_permutex2var_epi8(quarters[0], index, quarters[1]);
                let upper = _mm512_permutex2var_epi8(quarters[2], index, quarters[3]);
                let result = _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), lower, upper);
                _mm512_mask_storeu_epi8(y.as_mut_ptr().cast(), mask, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_apply_the_function_between_quantizations() {
        let input = Quantization { scale: 0.1, zero_point: 5, signed: true };
        let output = Quantization { scale: 1.0 / 256.0, zero_point: 0, signed: false };
        let table = LookupTable::new(input, output, |x| 1.0 / (1.0 + (-x).exp()));
        let x: Vec<u8> = (0..300).map(|byte| byte as u8).collect();
        for (level, count) in Level::available().flat_map(|level| (1..=3).map(move |count| (level, count))) {
            let mut y = vec![0; x.len()];
            let shared = SharedSlice::new(&mut y);
            (0..count).for_each(|index| lookup(level, &table, &x, shared, Part { index, count }));
            for (&x, &y) in x.iter().zip(&y) {
                let value = (f32::from(x as i8) - 5.0) * 0.1;
                let expected = (256.0 / (1.0 + (-value).exp())).round_ties_even().clamp(0.0, 255.0);
                assert_eq!(f32::from(y), expected, "at {x}, {level}");
            }
        }
    }
}
