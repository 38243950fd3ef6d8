//! Functions of one quantized element as tables.

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
pub fn lookup(table: &LookupTable, x: &[u8], y: SharedSlice<'_, u8>, part: Part) {
    assert!(x.len() == y.len(), "{} elements into {}", x.len(), y.len());
    let range = part.range_of_granules(x.len(), 64);
    // SAFETY: the ranges of the parts are disjoint.
    let y = unsafe { y.slice(range.clone()) };
    for (y, &x) in y.iter_mut().zip(&x[range]) {
        *y = table.get(x);
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
        let x: Vec<u8> = (0..=255).collect();
        for count in 1..=3 {
            let mut y = vec![0; 256];
            let shared = SharedSlice::new(&mut y);
            (0..count).for_each(|index| lookup(&table, &x, shared, Part { index, count }));
            for (&x, &y) in x.iter().zip(&y) {
                let value = (f32::from(x as i8) - 5.0) * 0.1;
                let expected = (256.0 / (1.0 + (-value).exp())).round_ties_even().clamp(0.0, 255.0);
                assert_eq!(f32::from(y), expected, "at {x}");
            }
        }
    }
}
