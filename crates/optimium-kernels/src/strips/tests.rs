use half::bf16;
use optimium_simd::Level;
use optimium_testing::{Random, Tolerance, compare, each_case};

use super::*;
use crate::Packing;
use crate::activation::{Activation, apply_scalar};
use crate::conv::{Algorithm, Convolution, ConvolutionBf16, Images};
use crate::epilogue::Residual;
use crate::gemm::{Problem, candidates};

/// Three sums, one after the other.
const CHAINED: Tolerance = Tolerance::Relative(5e-5);
/// Elements between the pixels of input and output.
const GAP: usize = 2;

/// A chain and its operands. All three members are there; a form leaves out some.
struct Case {
    form: Form,
    /// Before, between and behind.
    channels: [usize; 3],
    parameters: Parameters,
    geometry: Geometry,
    activations: [Activation; 3],
    x: Vec<f32>,
    weights: [Vec<f32>; 3],
    biases: [Vec<f32>; 3],
    residual: Vec<f32>,
}

const CLIP: Activation = Activation::Clip { low: -0.5, high: 0.75 };

impl Case {
    fn new(
        form: Form,
        input: [usize; 2],
        kernel: usize,
        stride: usize,
        pads: [usize; 2],
        channels: [usize; 3],
    ) -> Case {
        let [from, between, to] = channels;
        let mut random = Random::new((input[0] * 100 + input[1] + between) as u64);
        let parameters = Parameters {
            input_channels: between,
            output_channels: between,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            groups: between,
        };
        let output = input.map(|size| (size + pads[0] + pads[1]).saturating_sub(kernel) / stride + 1);
        let first = if form.expands() { from } else { between };
        let last = if form.projects() { to } else { between };
        let geometry = Geometry {
            batch: 2,
            input,
            output,
            padding: [pads[0]; 2],
            input_stride: first + GAP,
            output_stride: last + GAP,
        };
        Case {
            form,
            channels,
            parameters,
            geometry,
            activations: [CLIP, Activation::HardSwish, Activation::None],
            x: random.floats(geometry.input_pixels() * geometry.input_stride),
            weights: [from * between, kernel * kernel * between, between * to]
                .map(|count| random.floats(count)),
            biases: [between, between, to].map(|count| random.floats(count)),
            residual: random.floats(geometry.output_pixels() * last),
        }
    }

    /// Channels of the output.
    fn last(&self) -> usize {
        self.geometry.output_stride - GAP
    }

    /// The epilogues, with a residual of the last member where it projects.
    fn epilogues<'a, E: Real>(&'a self, residual: &'a [E]) -> Epilogues<'a, E> {
        let of = |index: usize, residual| Epilogue {
            bias: Some(&self.biases[index][..]),
            residual,
            activation: self.activations[index],
            ..Epilogue::default()
        };
        let stride = self.last();
        let residual = Residual { data: residual.into(), stride, after_activation: false };
        let [middle, end] =
            if self.form.projects() { [None, Some(residual)] } else { [Some(residual), None] };
        Epilogues { expand: of(0, None), depthwise: of(1, middle), project: of(2, end) }
    }

    /// The same by loops over everything.
    fn expected(&self) -> Vec<f32> {
        let (g, [from, between, to]) = (&self.geometry, self.channels);
        let product = |x: &[f32], index: usize, [k, n]: [usize; 2]| -> Vec<f32> {
            let weights = &self.weights[index];
            let sum =
                |o: usize| (0..k).map(|i| x[i] * weights[o * k + i]).sum::<f32>() + self.biases[index][o];
            (0..n).map(sum).collect()
        };
        let pixels = self.x.chunks(g.input_stride);
        let wide: Vec<Vec<f32>> = if self.form.expands() {
            let expanded = |x: &[f32]| product(x, 0, [from, between]).into_iter();
            pixels.map(|x| expanded(x).map(|x| apply_scalar(self.activations[0], x)).collect()).collect()
        } else {
            pixels.map(|x| x[..between].to_vec()).collect()
        };
        let mut y = vec![7.0; g.output_pixels() * g.output_stride];
        for (pixel, y) in y.chunks_mut(g.output_stride).enumerate() {
            let residual = &self.residual[pixel * self.last()..];
            let sums = self.window(&wide, pixel);
            let add = |(sum, residual): (f32, &f32)| sum + residual;
            if self.form.projects() {
                let middle: Vec<f32> =
                    sums.iter().map(|&sum| apply_scalar(self.activations[1], sum)).collect();
                let sums = product(&middle, 2, [between, to]).into_iter().zip(residual).map(add);
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = apply_scalar(self.activations[2], sum));
            } else {
                let sums = sums.into_iter().zip(residual).map(add);
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = apply_scalar(self.activations[1], sum));
            }
        }
        y
    }

    /// The depthwise convolution's sums of output pixel `pixel`.
    fn window(&self, wide: &[Vec<f32>], pixel: usize) -> Vec<f32> {
        let (g, size) = (&self.geometry, self.parameters.kernel[0]);
        let [height, width] = g.output;
        let (image, row, column) = (pixel / (height * width), pixel / width % height, pixel % width);
        let mut sums = self.biases[1].clone();
        for tap in 0..size * size {
            let at = |axis: usize, output: usize, tap: usize| {
                let position = (output * self.parameters.stride[axis] + tap).checked_sub(g.padding[axis])?;
                (position < g.input[axis]).then_some(position)
            };
            let (Some(i), Some(j)) = (at(0, row, tap / size), at(1, column, tap % size)) else { continue };
            let x = &wide[(image * g.input[0] + i) * g.input[1] + j];
            for (channel, sum) in sums.iter_mut().enumerate() {
                *sum += x[channel] * self.weights[1][channel * size * size + tap];
            }
        }
        sums
    }

    /// By strips, in so many parts.
    fn run<E: Real>(&self, strips: &Strips, x: &[E], residual: &[E], blank: E, parts: usize) -> Vec<E> {
        let mut y = vec![blank; self.geometry.output_pixels() * self.geometry.output_stride];
        let shared = SharedSlice::new(&mut y);
        for index in 0..parts {
            let mut scratch = vec![blank; strips.scratch_len::<E>(&self.geometry)];
            let part = Part { index, count: parts };
            strips.run(&self.geometry, x, &self.epilogues(residual), shared, &mut scratch, part);
        }
        y
    }

    fn strips(&self, level: Level, rounded: bool) -> Strips {
        let [from, between, to] = self.channels;
        let packing = Packing::default();
        let pointwise = |channels, index: usize| {
            let new = if rounded { Pointwise::new_bf16 } else { Pointwise::new };
            new(level, channels, &self.weights[index], Images::default().pixels(), &packing)
        };
        let depthwise = if rounded { Depthwise::new_bf16 } else { Depthwise::new };
        Strips::new(
            self.form.expands().then(|| pointwise([from, between], 0)),
            depthwise(level, &self.parameters, &self.weights[1], &packing),
            self.form.projects().then(|| pointwise([between, to], 2)),
        )
    }

    /// A member of one tap, by itself.
    fn pointwise(&self, channels: [usize; 2]) -> (Parameters, Images) {
        let [input_channels, output_channels] = channels;
        let one = [1; 2];
        let parameters = Parameters {
            input_channels,
            output_channels,
            kernel: one,
            stride: one,
            dilation: one,
            groups: 1,
        };
        (parameters, Images::default())
    }

    /// The members one by one; `product` computes the member of that index from images of that size and the strides of the input and
    /// the output.
    fn one_by_one<E: Real>(
        &self,
        x: &[E],
        residual: &[E],
        blank: E,
        depthwise: &Depthwise,
        product: impl Fn(usize, &Geometry, &[E], &Epilogue<E>, SharedSlice<E>),
    ) -> Vec<E> {
        let (g, [_, between, _]) = (self.geometry, self.channels);
        let Epilogues { expand, depthwise: middle, project } = self.epilogues(residual);
        let mut wide = vec![blank; g.input_pixels() * between];
        let (x, input_stride) = if self.form.expands() {
            let of = Geometry { output: g.input, padding: [0; 2], output_stride: between, ..g };
            product(0, &of, x, &expand, SharedSlice::new(&mut wide));
            (&wide[..], between)
        } else {
            (x, g.input_stride)
        };
        let mut y = vec![blank; g.output_pixels() * g.output_stride];
        if !self.form.projects() {
            depthwise.run(&Geometry { input_stride, ..g }, x, &middle, SharedSlice::new(&mut y), Part::WHOLE);
            return y;
        }
        let mut narrow = vec![blank; g.output_pixels() * between];
        let of = Geometry { input_stride, output_stride: between, ..g };
        depthwise.run(&of, x, &middle, SharedSlice::new(&mut narrow), Part::WHOLE);
        let of = Geometry { input: g.output, padding: [0; 2], input_stride: between, ..g };
        product(2, &of, &narrow, &project, SharedSlice::new(&mut y));
        y
    }

    fn channels_of(&self, index: usize) -> [usize; 2] {
        if index == 0 { [self.channels[0], self.channels[1]] } else { [self.channels[1], self.channels[2]] }
    }

    /// Checks all levels, against loops and against the members one by one.
    fn check(&self) -> Result<(), String> {
        let expected = self.expected();
        for level in Level::available() {
            let strips = self.strips(level, false);
            let alone = self.one_by_one(
                &self.x,
                &self.residual,
                7.0,
                &strips.depthwise,
                |index, g, x, epilogue, y| {
                    let (parameters, images) = self.pointwise(self.channels_of(index));
                    let (weights, packing) = (&self.weights[index], Packing::default());
                    let [k, n] = self.channels_of(index);
                    let problem = Problem { m: images.pixels(), n, k };
                    let layout = candidates(level, &problem)[0].layout;
                    let way = (Algorithm::Pointwise, Some(layout));
                    let one = Convolution::with_layout(level, &parameters, way, weights, &images, &packing);
                    one.run(g, x, epilogue, y, &mut [], Part::WHOLE);
                },
            );
            for parts in 1..=4 {
                let found = self.run(&strips, &self.x, &self.residual, 7.0, parts);
                let wrong = |e| format!("{level}, {parts} parts: {e}");
                compare(&found, &expected, CHAINED).map_err(wrong)?;
                compare(&found, &alone, Tolerance::Exact).map_err(wrong)?;
            }
        }
        self.check_rounded()
    }

    /// Images of bfloat16 give what the members give one by one.
    fn check_rounded(&self) -> Result<(), String> {
        if self.channels.iter().any(|channels| channels % 2 == 1) {
            return Ok(());
        }
        let rounded = |x: &[f32]| -> Vec<bf16> { x.iter().map(|&x| bf16::from_f32(x)).collect() };
        let widened = |x: Vec<bf16>| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() };
        let (x, residual, blank) = (rounded(&self.x), rounded(&self.residual), bf16::from_f32(7.0));
        for level in [Level::Portable, Level::best()] {
            let strips = self.strips(level, true);
            let alone =
                self.one_by_one(&x, &residual, blank, &strips.depthwise, |index, g, x, epilogue, y| {
                    let (parameters, images) = self.pointwise(self.channels_of(index));
                    let (weights, packing) = (&self.weights[index], Packing::default());
                    let one = ConvolutionBf16::new(level, &parameters, weights, &images, &packing);
                    one.run(g, x, epilogue, y, &mut vec![0; one.scratch_len(g)], Part::WHOLE);
                });
            let alone = widened(alone);
            for parts in 1..=4 {
                let found = widened(self.run(&strips, &x, &residual, blank, parts));
                compare(&found, &alone, Tolerance::Exact)
                    .map_err(|e| format!("{level}, rounded, {parts} parts: {e}"))?;
            }
        }
        Ok(())
    }
}

const FORMS: [Form; 3] = [Form::First, Form::Last, Form::All];

#[test]
fn strips_of_all_heights() {
    let mut cases = Vec::new();
    for form in FORMS {
        for height in (1..=7).chain([12, 19]) {
            for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)] {
                for width in [5, 30, 97] {
                    let pads = [kernel / 2, (kernel - 1) / 2];
                    cases.push(Case::new(form, [height, width], kernel, stride, pads, [6, 18, 10]));
                }
            }
        }
    }
    each_case_of(cases);
}

#[test]
fn paddings_of_all_kinds() {
    let mut cases = Vec::new();
    for form in FORMS {
        for pads in [[0, 0], [0, 1], [1, 0], [2, 2], [4, 3]] {
            for (kernel, stride) in [(3, 1), (3, 2), (5, 2)] {
                cases.push(Case::new(form, [9, 60], kernel, stride, pads, [3, 16, 5]));
            }
        }
    }
    each_case_of(cases);
}

#[test]
fn channels_around_the_vector() {
    let mut cases = Vec::new();
    for form in FORMS {
        for between in [1, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 80] {
            cases.push(Case::new(form, [13, 14], 3, 1, [1, 1], [2, between, 18]));
        }
    }
    each_case_of(cases);
}

#[test]
fn activations_of_many_instructions() {
    let activations = [Activation::Silu, Activation::Gelu, Activation::Relu, Activation::None];
    let all = activations.iter().flat_map(|&first| activations.map(|second| (first, second)));
    let with = |(form, (first, second)): (Form, (Activation, Activation))| {
        let mut case = Case::new(form, [10, 30], 3, 1, [1, 1], [8, 24, 16]);
        case.activations = [first, second, Activation::Relu];
        case
    };
    each_case_of(
        FORMS.into_iter().flat_map(|form| all.clone().map(move |pair| (form, pair))).map(with).collect(),
    );
}

fn each_case_of(cases: Vec<Case>) {
    let named = cases.iter().map(Named);
    each_case(named, |case| case.0.check());
}

/// A case that is told by its sizes.
struct Named<'a>(&'a Case);

impl std::fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { form, channels, parameters, geometry, activations, .. } = self.0;
        write!(f, "{form}, channels {channels:?}, {activations:?}, {parameters:?}, {geometry:?}")
    }
}

#[test]
fn large_tensors_between_are_not_written() {
    let wide = |images, rounded| Chain {
        depthwise: Parameters {
            input_channels: 96,
            output_channels: 96,
            kernel: [3; 2],
            stride: [2; 2],
            dilation: [1; 2],
            groups: 96,
        },
        expanded_from: Some(16),
        projected_to: Some(24),
        images: Images { batch: 1, output: images },
        rounded,
    };
    let forms = [Form::Apart, Form::First, Form::Last, Form::All];
    let cheapest = |chain: Chain, parts: usize| {
        let cost = |form: &Form| chain.cost(Level::best(), *form, parts);
        forms.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
    };
    for parts in [1, 2] {
        assert!(cheapest(wide([56, 56], false), parts).is_some_and(Form::expands));
        assert!(cheapest(wide([112, 112], true), parts).is_some_and(Form::expands));
        assert_eq!(cheapest(wide([7, 7], false), parts), Some(Form::Apart));
    }
}
