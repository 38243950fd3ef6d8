//! What each output position of one axis reads.

use super::coordinates::Scaling;
use super::{Coordinates, Mode, ResizeOptions};

/// The taps of one axis: for each output position the same number of input positions with their weights,
/// which sum to one.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisTable {
    input: usize,
    output: usize,
    taps: usize,
    indices: Vec<usize>,
    weights: Vec<f32>,
    /// Whether an output position lies beyond the input; empty where none does.
    outside: Vec<bool>,
}

impl AxisTable {
    /// The table of an axis that goes from `input` to `output` elements.
    ///
    /// `region` is used by [`Coordinates::TfCropAndResize`] alone.
    ///
    /// # Panics
    /// Where the input is empty and the output is not.
    pub fn new(
        options: &ResizeOptions,
        input: usize,
        output: usize,
        scale: f32,
        region: (f32, f32),
    ) -> AxisTable {
        assert!(input > 0 || output == 0, "an empty axis cannot become one of {output} elements");
        let scaling = Scaling { coordinates: options.coordinates, input, output, scale, region };
        let crops = options.coordinates == Coordinates::TfCropAndResize;
        if input == output && if crops { region == (0.0, 1.0) } else { scale == 1.0 } {
            return Self::identity(input);
        }
        let positions: Vec<f32> = (0..output).map(|x| scaling.position(x)).collect();
        let mut outside: Vec<bool> = positions.iter().map(|&x| scaling.is_outside(x)).collect();
        if !outside.contains(&true) {
            outside.clear();
        }
        let filter = Filter::new(options, scale, input);
        let rows: Vec<Vec<(usize, f32)>> =
            positions.iter().map(|&x| filter.taps(options, x, input)).collect();
        let taps = rows.iter().map(Vec::len).max().unwrap_or(1);
        let mut table = AxisTable { input, output, taps, indices: Vec::new(), weights: Vec::new(), outside };
        for row in rows {
            let last = row.last().map_or(0, |&(index, _)| index);
            let padding = std::iter::repeat_n((last, 0.0), taps - row.len());
            for (index, weight) in row.into_iter().chain(padding) {
                table.indices.push(index);
                table.weights.push(weight);
            }
        }
        table
    }

    fn identity(size: usize) -> AxisTable {
        AxisTable {
            input: size,
            output: size,
            taps: 1,
            indices: (0..size).collect(),
            weights: vec![1.0; size],
            outside: Vec::new(),
        }
    }

    /// Elements of the input.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Elements of the output.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Input elements that an output element reads.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// The input positions of that output position, all below [`input`](Self::input).
    #[inline(always)]
    pub fn indices(&self, output: usize) -> &[usize] {
        &self.indices[output * self.taps..][..self.taps]
    }

    /// Their weights.
    #[inline(always)]
    pub fn weights(&self, output: usize) -> &[f32] {
        &self.weights[output * self.taps..][..self.taps]
    }

    /// Whether that output position lies beyond the input.
    #[inline(always)]
    pub fn is_outside(&self, output: usize) -> bool {
        self.outside.get(output).is_some_and(|&outside| outside)
    }

    /// Whether every output lies between two elements of the input.
    pub(super) fn is_linear(&self) -> bool {
        self.taps == 2 && self.outside.is_empty()
    }

    /// Whether the output is the input.
    pub fn is_identity(&self) -> bool {
        self.taps == 1
            && self.input == self.output
            && self.outside.is_empty()
            && self.indices.iter().copied().eq(0..self.input)
    }
}

/// The weights by distance.
#[derive(Clone, Copy, Debug)]
struct Filter {
    /// The distance from which on weights are zero.
    support: f32,
    /// Distances are multiplied by it: below one for a widened filter.
    shrink: f32,
}

impl Filter {
    fn new(options: &ResizeOptions, scale: f32, input: usize) -> Filter {
        let shrink = if options.antialias && scale < 1.0 { scale } else { 1.0 };
        let reach = if options.mode == Mode::Cubic { 2.0 } else { 1.0 };
        // A scale that is not that of the sizes must not ask for more taps than there are elements.
        Filter { support: (reach / shrink).min(2.0 * input as f32 + reach), shrink }
    }

    fn taps(&self, options: &ResizeOptions, position: f32, input: usize) -> Vec<(usize, f32)> {
        let last = input as f32 - 1.0;
        let clamped = |x: f32| x.clamp(0.0, last) as usize;
        if options.mode == Mode::Nearest {
            return vec![(clamped(options.nearest_mode.round(position)), 1.0)];
        }
        // A position that is no number, from a region that is none, reads the first element.
        let position = if position.is_finite() { position.clamp(-1e6, last + 1e6) } else { 0.0 };
        let position = if self.shrink == 1.0 && options.mode == Mode::Linear {
            position.clamp(0.0, last)
        } else {
            position
        };
        // Taps begin at a whole number, so that all rows of an axis have nearly the same count.
        let begin = (position - self.support).floor() + 1.0;
        let count = (2.0 * self.support).ceil() as usize;
        let mut taps: Vec<(usize, f32)> = Vec::with_capacity(count);
        for x in (0..count).map(|tap| begin + tap as f32) {
            let weight = self.weight(options, x - position);
            let inside = (0.0..=last).contains(&x);
            if inside || !options.exclude_outside {
                taps.push((clamped(x), weight));
            }
        }
        let sum: f32 = taps.iter().map(|tap| tap.1).sum();
        if sum == 0.0 || taps.is_empty() {
            return vec![(clamped(position.round()), 1.0)];
        }
        if options.exclude_outside || self.shrink != 1.0 {
            taps.iter_mut().for_each(|tap| tap.1 /= sum);
        }
        taps
    }

    fn weight(&self, options: &ResizeOptions, distance: f32) -> f32 {
        let x = (distance * self.shrink).abs();
        let a = options.cubic_coefficient;
        match options.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resize::NearestMode;
    use optimium_testing::{Tolerance, compare, each_case};

    /// Mode, coordinates, antialias, exclude outside, output size, scale, expected output of `INPUT`.
    type Case = (Mode, Coordinates, bool, bool, usize, f32, &'static [f32]);

    const INPUT: [f32; 4] = [1.0, 2.0, 3.0, 4.0];

    fn resized(table: &AxisTable, input: &[f32]) -> Vec<f32> {
        let sum = |x: usize| table.indices(x).iter().zip(table.weights(x)).map(|(&i, &w)| input[i] * w).sum();
        (0..table.output()).map(sum).collect()
    }

    /// The examples of the operator's definition, along one axis.
    #[test]
    fn known_axes() {
        use Coordinates::{AlignCorners, Asymmetric, HalfPixel, PytorchHalfPixel};
        let cases: Vec<Case> = vec![
            (Mode::Linear, HalfPixel, false, false, 8, 2.0, &[1.0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.0]),
            (Mode::Linear, AlignCorners, false, false, 7, 1.75, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]),
            (Mode::Linear, Asymmetric, false, false, 8, 2.0, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]),
            (Mode::Linear, PytorchHalfPixel, false, false, 1, 0.25, &[1.0]),
            (Mode::Linear, HalfPixel, false, false, 2, 0.6, &[1.333_333_3, 3.0]),
            (Mode::Linear, HalfPixel, true, false, 2, 0.5, &[1.625, 3.375]),
            (
                Mode::Cubic,
                Asymmetric,
                false,
                false,
                8,
                2.0,
                &[1.0, 1.40625, 2.0, 2.5, 3.0, 3.59375, 4.0, 4.09375],
            ),
            (Mode::Nearest, HalfPixel, false, false, 8, 2.0, &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]),
            (Mode::Nearest, AlignCorners, false, false, 3, 0.75, &[1.0, 2.0, 4.0]),
        ];
        each_case(cases, |&(mode, coordinates, antialias, exclude_outside, output, scale, expected)| {
            let options =
                ResizeOptions { mode, coordinates, antialias, exclude_outside, ..ResizeOptions::default() };
            let table = AxisTable::new(&options, 4, output, scale, (0.0, 1.0));
            compare(&resized(&table, &INPUT), expected, Tolerance::Relative(1e-6))
        });
    }

    #[test]
    fn halves_round_as_named() {
        let cases = [
            (NearestMode::RoundPreferFloor, [0, 0, 1, 1]),
            (NearestMode::RoundPreferCeil, [0, 1, 1, 1]),
            (NearestMode::Floor, [0, 0, 1, 1]),
            (NearestMode::Ceil, [0, 1, 1, 1]),
        ];
        each_case(cases, |&(nearest_mode, expected)| {
            let options = ResizeOptions {
                nearest_mode,
                coordinates: Coordinates::Asymmetric,
                ..ResizeOptions::default()
            };
            let table = AxisTable::new(&options, 2, 4, 2.0, (0.0, 1.0));
            let chosen: Vec<usize> = (0..4).map(|x| table.indices(x)[0]).collect();
            if chosen == expected { Ok(()) } else { Err(format!("{chosen:?}")) }
        });
    }

    #[test]
    fn weights_sum_to_one() {
        let mut cases = Vec::new();
        for mode in [Mode::Linear, Mode::Cubic] {
            for (antialias, exclude) in [(false, false), (false, true), (true, false), (true, true)] {
                for (input, output) in [(1, 5), (5, 1), (7, 3), (3, 7), (100, 9)] {
                    cases.push((mode, antialias, exclude, input, output));
                }
            }
        }
        each_case(cases, |&(mode, antialias, exclude_outside, input, output)| {
            let options = ResizeOptions { mode, antialias, exclude_outside, ..ResizeOptions::default() };
            let scale = output as f32 / input as f32;
            let table = AxisTable::new(&options, input, output, scale, (0.0, 1.0));
            compare(&resized(&table, &vec![1.0; input]), &vec![1.0; output], Tolerance::Relative(1e-5))
        });
    }

    #[test]
    fn regions_exceed_the_input() {
        let options = ResizeOptions {
            mode: Mode::Linear,
            coordinates: Coordinates::TfCropAndResize,
            ..ResizeOptions::default()
        };
        let table = AxisTable::new(&options, 4, 3, 0.75, (-1.0, 1.0));
        assert_eq!([0, 1, 2].map(|x| table.is_outside(x)), [true, false, false]);
        assert_eq!(resized(&table, &INPUT)[1..], [1.0, 4.0]);
    }
}
