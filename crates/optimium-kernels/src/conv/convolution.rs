//! The prepared convolution.

use optimium_simd::Level;

use super::choice::{Algorithm, Images};
use super::direct::Direct;
use super::one_output::OneOutput;
use super::parameters::{Geometry, Parameters};
use super::sliding::Sliding;
use super::strassen::{self, Strassen};
use super::winograd::{Edge, Winograd};
use crate::epilogue::Epilogue;
use crate::gemm::{Layout, PackedMatrix};
use crate::{Packing, Part, SharedSlice};

/// A convolution with its weights packed.
#[derive(Clone, Debug)]
pub struct Convolution {
    parameters: Parameters,
    algorithm: Algorithm,
    form: Form,
}

/// The weights in the form that the algorithm needs.
#[derive(Clone, Debug)]
enum Form {
    Direct(Direct),
    Strassen(Strassen),
    Sliding(Sliding),
    OneOutput(OneOutput),
    Winograd(Winograd),
}

/// Whether the weights of a convolution of one tap without groups are stored where `packing` says, for that way.
pub fn is_stored((algorithm, layout): (Algorithm, Layout), packing: &Packing) -> bool {
    match algorithm {
        Algorithm::Pointwise => PackedMatrix::is_stored(&layout, PackedMatrix::AS_IT_IS, packing),
        Algorithm::Strassen => strassen::is_stored(&layout, packing),
        _ => false,
    }
}

impl Convolution {
    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, for images
    /// of about the size of `images`, where `packing` says.
    ///
    /// # Panics
    /// Where the numbers do not make a convolution, or `algorithm` does not [serve](Algorithm::serves) it.
    pub fn new(
        level: Level,
        parameters: &Parameters,
        algorithm: Algorithm,
        weights: &[f32],
        images: &Images,
        packing: &Packing,
    ) -> Convolution {
        Convolution::with_layout(level, parameters, (algorithm, None), weights, images, packing)
    }

    /// As [`new`](Convolution::new), with the layout that the products take, one of [`layouts`](super::layouts); none for the
    /// cheapest.
    ///
    /// # Panics
    /// As there, and where the layout is for other sizes.
    pub fn with_layout(
        level: Level,
        parameters: &Parameters,
        (algorithm, layout): (Algorithm, Option<Layout>),
        weights: &[f32],
        images: &Images,
        packing: &Packing,
    ) -> Convolution {
        parameters.check(weights.len());
        assert!(algorithm.serves(parameters), "{algorithm} cannot compute {parameters:?}");
        let direct = |joined| {
            Form::Direct(Direct::new(level, parameters, joined, weights, images.pixels(), layout, packing))
        };
        let winograd =
            |edge| Form::Winograd(Winograd::new(level, parameters, edge, weights, images, layout, packing));
        let pixels = images.pixels();
        let form = match algorithm {
            Algorithm::Strassen => {
                Form::Strassen(Strassen::new(level, parameters, weights, pixels, layout, packing))
            }
            Algorithm::Pointwise | Algorithm::Taps => direct(false),
            Algorithm::Rows => direct(true),
            Algorithm::Sliding => Form::Sliding(Sliding::new(level, parameters, weights, packing)),
            Algorithm::OneOutput => Form::OneOutput(OneOutput::new(level, parameters, weights, packing)),
            Algorithm::Winograd2 => winograd(Edge::Two),
            Algorithm::Winograd4 => winograd(Edge::Four),
        };
        Convolution { parameters: *parameters, algorithm, form }
    }

    /// What was asked for.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        match &self.form {
            Form::Direct(direct) => direct.scratch_len(geometry),
            Form::Strassen(strassen) => strassen.scratch_len(geometry),
            Form::Sliding(_) => 0,
            Form::OneOutput(one) => one.scratch_len(geometry),
            Form::Winograd(winograd) => winograd.scratch_len(geometry),
        }
    }

    /// The weights that this part reads first for such images, as far as they are worth to be fetched ahead.
    pub fn first_weights(&self, geometry: &Geometry, part: Part) -> &[f32] {
        if geometry.output_pixels() == 0 || self.parameters.output_channels == 0 {
            return &[];
        }
        match &self.form {
            Form::Direct(direct) => direct.first_panel(geometry, part),
            Form::Strassen(strassen) => strassen.first_panel(geometry, part),
            Form::Sliding(_) | Form::OneOutput(_) => &[],
            Form::Winograd(winograd) => winograd.first_panel(geometry, part),
        }
    }

    /// Computes this part's share of `y = epilogue(convolution(x))`; rows of the epilogue are output pixels,
    /// batch outermost.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes; `scratch` has [`scratch_len`](Convolution::scratch_len)
    /// elements of this part's own, with any content.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        geometry.check(&self.parameters, x.len(), y.len());
        let (pixels, channels) = (geometry.output_pixels(), self.parameters.output_channels);
        epilogue.check(pixels, channels);
        if pixels == 0 || channels == 0 {
            return;
        }
        match &self.form {
            Form::Direct(direct) => direct.run(geometry, x, epilogue, y, scratch, part),
            Form::Strassen(strassen) => strassen.run(geometry, x, epilogue, y, scratch, part),
            Form::Sliding(sliding) => sliding.run(geometry, x, epilogue, y, part),
            Form::OneOutput(one) => one.run(geometry, x, epilogue, y, scratch, part),
            Form::Winograd(winograd) => winograd.run(geometry, x, epilogue, y, scratch, part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Case;
    use super::*;
    use optimium_testing::{Tolerance, compare, each_case};

    /// `[batch, height, width, inputs, outputs, groups, kernel, kernel, stride, stride, dilation, dilation,
    /// padding begin and end down, across]`
    type Sizes = [usize; 16];

    const CASES: [Sizes; 55] = [
        [2, 9, 40, 8, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 33, 17, 1, 1, 1, 5, 2, 2, 1, 1, 1, 0, 3, 1, 0],
        [1, 7, 5, 4, 1, 1, 3, 3, 1, 1, 2, 1, 2, 2, 1, 1],
        [3, 4, 37, 48, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 6, 50, 2, 1, 1, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 5, 19, 16, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 6, 7, 8, 33, 1, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [1, 6, 7, 8, 5, 1, 1, 1, 1, 2, 1, 1, 1, 0, 0, 1],
        [1, 14, 15, 64, 72, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [3, 11, 7, 34, 130, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 6, 7, 8, 6, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 1],
        [1, 7, 7, 16, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [3, 14, 14, 5, 70, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 9, 11, 3, 16, 1, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1],
        [2, 20, 22, 3, 64, 1, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3],
        [1, 9, 11, 3, 17, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 9, 11, 4, 16, 1, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2],
        [1, 9, 11, 4, 16, 1, 3, 3, 1, 1, 3, 1, 0, 3, 1, 0],
        [2, 8, 9, 12, 8, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 8, 9, 12, 20, 2, 3, 2, 2, 1, 1, 2, 1, 1, 1, 1],
        [1, 8, 9, 6, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 40, 8, 16, 1, 1, 5, 1, 1, 1, 1, 0, 0, 2, 2],
        [1, 12, 12, 2, 4, 1, 9, 9, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 4, 4, 64, 10, 1, 4, 4, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 2, 2, 3, 5, 1, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 120, 130, 12, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [2, 13, 15, 8, 20, 1, 3, 3, 1, 1, 6, 6, 6, 6, 6, 6],
        [1, 20, 21, 5, 16, 1, 3, 3, 1, 1, 12, 18, 12, 12, 18, 18],
        [3, 33, 31, 16, 70, 1, 3, 3, 1, 1, 8, 3, 8, 8, 3, 3],
        [1, 7, 7, 4, 8, 1, 3, 3, 1, 1, 9, 9, 9, 9, 9, 9],
        [2, 15, 14, 8, 6, 2, 3, 3, 2, 1, 5, 4, 5, 5, 4, 4],
        [1, 4, 4, 3, 5, 1, 2, 2, 1, 1, 6, 6, 12, 6, 12, 0],
        [1, 23, 40, 3, 33, 1, 3, 3, 1, 1, 4, 1, 4, 4, 1, 1],
        [1, 9, 11, 64, 64, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [2, 7, 7, 64, 64, 8, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1],
        [2, 14, 30, 32, 32, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 11, 35, 48, 96, 3, 3, 3, 1, 2, 1, 1, 1, 1, 0, 0],
        [1, 17, 16, 32, 32, 8, 5, 3, 1, 1, 2, 1, 4, 4, 1, 1],
        [2, 8, 57, 24, 24, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1],
        [1, 6, 5, 16, 8, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 4, 3, 16, 16, 8, 2, 3, 1, 1, 1, 1, 6, 5, 4, 19],
        [1, 5, 8, 64, 64, 2, 1, 3, 2, 1, 1, 1, 0, 0, 1, 1],
        [1, 3, 29, 16, 16, 4, 3, 3, 1, 2, 4, 1, 4, 4, 1, 1],
        [1, 21, 40, 3, 32, 1, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3],
        [1, 9, 37, 4, 16, 1, 7, 7, 1, 1, 1, 1, 3, 3, 3, 3],
        [2, 33, 65, 3, 24, 1, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1],
        [1, 1, 90, 8, 16, 1, 1, 3, 1, 1, 1, 16, 0, 0, 32, 0],
        [1, 4, 5, 8, 16, 1, 3, 3, 1, 1, 2, 1, 2, 2, 3, 9],
        [1, 5, 4, 64, 64, 1, 3, 3, 1, 1, 1, 2, 0, 12, 0, 9],
        [0, 5, 5, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 3, 0, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 0, 4, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 5, 3, 4, 1, 3, 3, 1, 1, 1, 1, 2, 2, 1, 1],
    ];

    fn case(sizes: &Sizes, gaps: [usize; 2]) -> Case {
        let &[batch, h, w, inputs, outputs, groups, kh, kw, sh, sw, dh, dw, top, bottom, left, right] = sizes;
        let parameters = Parameters {
            input_channels: inputs,
            output_channels: outputs,
            kernel: [kh, kw],
            stride: [sh, sw],
            dilation: [dh, dw],
            groups,
        };
        let [eh, ew] = parameters.extent();
        let output = [(h + top + bottom - eh) / sh + 1, (w + left + right - ew) / sw + 1];
        let geometry = Geometry {
            batch,
            input: [h, w],
            output,
            padding: [top, left],
            input_stride: 0,
            output_stride: 0,
        };
        Case::new(parameters, geometry, gaps)
    }

    fn run(convolution: &Convolution, case: &Case, parts: usize) -> Vec<f32> {
        let mut y = case.blank();
        let shared = SharedSlice::new(&mut y);
        let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
        for index in 0..parts {
            let mut scratch = vec![f32::NAN; convolution.scratch_len(&case.geometry)];
            let part = Part { index, count: parts };
            convolution.run(&case.geometry, &case.x, &epilogue, shared, &mut scratch, part);
        }
        y
    }

    #[test]
    fn convolutions_of_all_kinds_by_all_algorithms() {
        let cases = CASES.iter().flat_map(|sizes| [[0, 0], [3, 2]].map(|gaps| (sizes, gaps)));
        each_case(cases, |&(sizes, gaps)| {
            let case = case(sizes, gaps);
            let expected = case.expected();
            for level in Level::available() {
                for candidate in super::super::candidates(level, &case.parameters, &Images::default()) {
                    let images = Images::default();
                    let convolution = Convolution::new(
                        level,
                        &case.parameters,
                        candidate.algorithm,
                        &case.weights,
                        &images,
                        &Packing::default(),
                    );
                    let whole = run(&convolution, &case, 1);
                    compare(&whole, &expected, Tolerance::dot(case.depth()))
                        .map_err(|e| format!("{level}, {candidate}: {e}"))?;
                    for parts in [2, 3] {
                        compare(&run(&convolution, &case, parts), &whole, Tolerance::Exact)
                            .map_err(|e| format!("{level}, {candidate}, {parts} parts: {e}"))?;
                    }
                }
            }
            Ok(())
        });
    }

    #[test]
    fn every_layout_of_every_algorithm() {
        each_case(CASES.iter().step_by(3), |&sizes| {
            let case = case(sizes, [3, 2]);
            let (expected, images) = (case.expected(), Images::default());
            for level in Level::available() {
                for candidate in super::super::candidates(level, &case.parameters, &images) {
                    for (layout, _) in super::super::layouts(level, &case.parameters, &candidate, &images) {
                        let way = (candidate.algorithm, Some(layout));
                        let (weights, packing) = (&case.weights, Packing::default());
                        let convolution = Convolution::with_layout(
                            level,
                            &case.parameters,
                            way,
                            weights,
                            &images,
                            &packing,
                        );
                        compare(&run(&convolution, &case, 1), &expected, Tolerance::dot(case.depth()))
                            .map_err(|e| format!("{level}, {candidate}, {layout}: {e}"))?;
                    }
                }
            }
            Ok(())
        });
    }
}
