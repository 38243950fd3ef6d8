//! What the tests of this family share.

use optimium_testing::{Random, Tolerance, compare};

use super::{Output, Requantize, byte_value, limits};
use crate::{Part, SharedSlice};

/// `n` random bytes.
pub(super) fn bytes(random: &mut Random, n: usize) -> Vec<u8> {
    (0..n).map(|_| random.bits() as u8).collect()
}

/// The values of bytes.
pub(super) fn values(bytes: &[u8], signed: bool) -> Vec<f32> {
    bytes.iter().map(|&byte| byte_value(byte, signed) as f32).collect()
}

/// Compares integers that `f32` may not hold.
pub(super) fn compare_i32(actual: &[i32], expected: &[i32]) -> Result<(), String> {
    let wrong = (0..expected.len().max(actual.len())).find(|&i| actual.get(i) != expected.get(i));
    wrong
        .map_or(Ok(()), |i| Err(format!("element {i}: {:?} instead of {:?}", actual.get(i), expected.get(i))))
}

/// Compares bytes, exactly.
pub(super) fn compare_bytes(actual: &[u8], expected: &[u8], signed: bool) -> Result<(), String> {
    compare(&values(actual, signed), &values(expected, signed), Tolerance::Exact)
}

/// Bytes from sums, as [`Output::Bytes`] defines them.
pub(super) fn requantized(sums: &[i32], columns: usize, output: &Requantize<'_>) -> Vec<u8> {
    let (low, high) = (output.low as f32, output.high as f32);
    let one = |(i, &sum): (usize, &i32)| {
        let (row, column) = (i / columns, i % columns);
        let sum = sum + output.bias.map_or(0, |bias| bias[column]);
        let mut value = sum as f32 * output.multiplier[column];
        if let Some(residual) = output.residual {
            let byte = byte_value(residual.data[row * residual.stride + column], residual.signed);
            // Fused, as the vectors do where they can; the tests take factors for which it does not matter.
            value += (byte - residual.zero_point) as f32 * residual.multiplier;
        }
        (value.round_ties_even() + output.zero_point as f32).clamp(low, high) as i32 as u8
    };
    sums.iter().enumerate().map(one).collect()
}

/// Runs `call` with an output of bytes and with one of sums, for 1, 2 and 3 parts, and compares with what
/// `sums` says.
pub(super) fn check_outputs(
    sums: &[i32],
    columns: usize,
    signed: bool,
    mut call: impl FnMut(&Output<'_>, Part),
) -> Result<(), String> {
    let (low, high) = limits(signed);
    let multiplier: Vec<f32> = (0..columns).map(|i| 2f32.powi(-12) * (1 + i % 3) as f32).collect();
    let bias: Vec<i32> = (0..columns).map(|i| 100 * i as i32 - 5000).collect();
    for count in 1..=3 {
        let mut actual = vec![0x55u8; sums.len()];
        let output = Requantize {
            c: SharedSlice::new(&mut actual),
            signed,
            multiplier: &multiplier,
            bias: Some(&bias),
            zero_point: 3,
            low: low + 2,
            high: high - 1,
            residual: None,
        };
        let expected = requantized(sums, columns, &output);
        (0..count).for_each(|index| call(&Output::Bytes(output), Part { index, count }));
        compare_bytes(&actual, &expected, signed).map_err(|e| format!("bytes, {count} parts: {e}"))?;
        let mut actual = vec![-1; sums.len()];
        let output = Output::I32(SharedSlice::new(&mut actual));
        (0..count).for_each(|index| call(&output, Part { index, count }));
        compare_i32(&actual, sums).map_err(|e| format!("sums, {count} parts: {e}"))?;
    }
    Ok(())
}
