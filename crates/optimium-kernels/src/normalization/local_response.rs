//! Normalization by the neighbouring channels.

use crate::{Part, SharedSlice};

/// `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` channels around each, of which one more lies behind it
/// where the size is even.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalResponse {
    /// Number of channels summed.
    pub size: usize,
    /// Factor of the mean of squares.
    pub alpha: f32,
    /// The power.
    pub beta: f32,
    /// Added before the power.
    pub bias: f32,
}

/// Normalizes a tensor of `outer`, `channels`, `inner` dimensions (`inner` is 1 where channels are last).
///
/// # Panics
/// Where the lengths do not fit, or the size is 0.
pub fn local_response_norm(
    norm: LocalResponse,
    x: &[f32],
    [outer, channels, inner]: [usize; 3],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let length = outer * channels * inner;
    assert!(x.len() == length && y.len() == length, "{} elements for {} of {length}", x.len(), y.len());
    assert!(norm.size > 0, "no channels to be summed");
    let factor = norm.alpha / norm.size as f32;
    for row in part.range(outer * channels) {
        let channel = row % channels;
        let first = channel.saturating_sub((norm.size - 1) / 2);
        let end = channels.min(channel.saturating_add(norm.size / 2 + 1));
        let image = (row - channel) * inner;
        // SAFETY: the row is this part's own.
        let out = unsafe { y.slice(row * inner..(row + 1) * inner) };
        for (i, out) in out.iter_mut().enumerate() {
            let at = |channel: usize| x[image + channel * inner + i];
            let sum: f32 = (first..end).map(|channel| at(channel) * at(channel)).sum();
            *out = at(channel) / (norm.bias + factor * sum).powf(norm.beta);
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    #[test]
    fn neighbours_are_those_of_onnx() {
        each_case([1usize, 2, 3, 4, 9], |&size| {
            let (outer, channels, inner) = (2, 5, 3);
            let norm = LocalResponse { size, alpha: 0.3, beta: 0.75, bias: 1.5 };
            let x = Random::new(size as u64).floats(outer * channels * inner);
            let expected: Vec<f32> = (0..x.len())
                .map(|i| {
                    let channel = (i / inner % channels) as isize;
                    let (before, behind) = ((size as isize - 1) / 2, size as isize / 2);
                    let near =
                        (channel - before..=channel + behind).filter(|c| (0..channels as isize).contains(c));
                    let sum: f32 = near
                        .map(|c| x[(i as isize + (c - channel) * inner as isize) as usize])
                        .map(|x| x * x)
                        .sum();
                    x[i] / (1.5 + 0.3 / size as f32 * sum).powf(0.75)
                })
                .collect();
            for count in [1, 2, 3] {
                let mut y = vec![0.0; x.len()];
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    local_response_norm(norm, &x, [outer, channels, inner], shared, Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(1e-6))?;
            }
            Ok(())
        });
    }
}
