//! Convolutions.

use std::sync::Arc;

use half::bf16;
use optimium_graph::ops::{Activation, Conv, ConvTranspose, ImageLayout, Padding};
use optimium_kernels::conv::{
    self, Algorithm, Convolution, ConvolutionBf16, Geometry, Images, Parameters, TransposedConvolution,
};
use optimium_kernels::depthwise::Depthwise;
use optimium_kernels::gemm::{self, Layout};
use optimium_kernels::{Packing, Part, Real};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Expr, Result, SymbolValues};

use super::epilogue::{BoundEpilogue, EpilogueSource};
use super::general_conv::{Form, general};
use super::right::choose_suited;
use super::storage::{Storage, reads_rounded, writes_rounded};
use super::view::{NodeView, Weights};
use crate::layer::{Bound, FirstWeights, Layer, Step};
use crate::memory::Memory;

/// The padding before each of the dimensions.
pub(super) fn padding_begin(
    padding: &Padding,
    input: &[usize],
    output: &[usize],
    extent: &[usize],
    strides: &[usize],
) -> Vec<usize> {
    let total = |i: usize| (output[i].saturating_sub(1) * strides[i] + extent[i]).saturating_sub(input[i]);
    match padding {
        Padding::Explicit { begin, .. } => begin.clone(),
        Padding::Valid => vec![0; input.len()],
        Padding::SameUpper => (0..input.len()).map(|i| total(i) / 2).collect(),
        Padding::SameLower => (0..input.len()).map(|i| total(i).div_ceil(2)).collect(),
    }
}

/// What a kernel covers of the image, dilation included.
pub(super) fn extent(kernel: &[usize], dilations: &[usize]) -> Vec<usize> {
    kernel.iter().zip(dilations).map(|(&k, &d)| k.saturating_sub(1) * d + 1).collect()
}

/// The weights' shape, which kernels are chosen by.
pub(super) fn weight_dims(view: &NodeView) -> Result<Vec<usize>> {
    view.input_shape(1)?.as_fixed().ok_or_else(|| Error::not_implemented("weights of a dynamic shape"))
}

fn two<T: Copy>(list: &[T]) -> Result<[T; 2]> {
    list.try_into().map_err(|_| Error::model(format!("{} entries for two dimensions", list.len())))
}

/// Which operands of a convolution may be bfloat16: those of the kernels that take such.
pub(super) fn conv_storage(view: &NodeView, conv: &Conv) -> Storage {
    let known = |dims: &Vec<usize>| fits(conv, dims) && is_of_images(view, conv, dims);
    let dims = weight_dims(view).ok().filter(|dims| view.constant(1).is_some() && known(dims));
    let parameters = dims.and_then(|dims| {
        let channels = [dims[1].checked_mul(conv.groups)?, dims[0]];
        convolution_parameters(&dims, channels, &conv.strides, &conv.dilations, conv.groups).ok()
    });
    let Some(parameters) = parameters else { return Storage::default() };
    if Kernel::is_depthwise(&parameters) {
        let once = !view.has_input(3) && conv.fusion.activation != Activation::PRelu;
        return if once { Storage::alike(&[0]) } else { Storage::default() };
    }
    let images = typical_images(view).unwrap_or_default();
    match Way::pick_dense(view, &parameters, &images, true, true) {
        Way::Bf16 => Storage { reads: vec![0, 3], writes: true, like_outputs: vec![3] },
        _ => Storage::default(),
    }
}

/// Whether weights of those dimensions fit the attributes.
pub(super) fn fits(conv: &Conv, dims: &[usize]) -> bool {
    let rank = dims.len();
    rank >= 3 && conv.strides.len() == rank - 2 && conv.dilations.len() == rank - 2 && conv.groups > 0
}

/// Whether it is a convolution of one or two dimensions, channels last, of `f32` or what stands for it.
pub(super) fn is_of_images(view: &NodeView, conv: &Conv, dims: &[usize]) -> bool {
    let reals = matches!(view.input_type(0), Ok(ElementType::F32 | ElementType::BF16));
    (3..=4).contains(&dims.len()) && conv.layout == ImageLayout::ChannelsLast && reals
}

pub(super) fn conv(view: &NodeView, conv: &Conv) -> Result<Layer> {
    let dims = weight_dims(view)?;
    if !fits(conv, &dims) {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let images = is_of_images(view, conv, &dims);
    if images { conv_2d(view, conv, &dims) } else { general(view, Form::Plain(conv.clone()), &dims) }
}

/// Parameters over two dimensions; a one-dimensional convolution gets a height of one.
pub(super) fn convolution_parameters(
    dims: &[usize],
    channels: [usize; 2],
    strides: &[usize],
    dilations: &[usize],
    groups: usize,
) -> Result<Parameters> {
    let two_dimensional = |list: &[usize]| if list.len() == 1 { [1, list[0]] } else { [list[0], list[1]] };
    let parameters = Parameters {
        input_channels: channels[0],
        output_channels: channels[1],
        kernel: two_dimensional(&dims[2..]),
        stride: two_dimensional(strides),
        dilation: two_dimensional(dilations),
        groups,
    };
    let zero = [parameters.kernel, parameters.stride, parameters.dilation].concat().contains(&0);
    let divided = channels.iter().all(|c| c.is_multiple_of(groups));
    if zero || !divided {
        return Err(Error::model(format!("impossible sizes of a convolution: {parameters:?}")));
    }
    Ok(parameters)
}

/// The geometry of channels-last images of one or two dimensions.
pub(super) fn convolution_geometry(
    x: &Bound,
    y: &Bound,
    parameters: &Parameters,
    begin: &[usize],
) -> Result<Geometry> {
    let size = |dims: &[usize]| if dims.len() == 3 { [1, dims[1]] } else { [dims[1], dims[2]] };
    let (Some(&input_channels), Some(&output_channels)) = (x.dims.last(), y.dims.last()) else {
        return Err(Error::shape("a convolution of a scalar"));
    };
    if input_channels != parameters.input_channels || output_channels != parameters.output_channels {
        return Err(Error::shape(format!(
            "an image of {:?} and a result of {:?} for {} to {} channels",
            x.dims, y.dims, parameters.input_channels, parameters.output_channels
        )));
    }
    Ok(Geometry {
        batch: x.dims[0],
        input: size(&x.dims),
        output: size(&y.dims),
        padding: if begin.len() == 1 { [0, begin[0]] } else { two(begin)? },
        input_stride: x.row_stride,
        output_stride: y.row_stride,
    })
}

/// A convolution kernel with its weights.
enum Kernel {
    Dense(Convolution),
    Bf16(ConvolutionBf16),
    Depthwise(Depthwise),
    DepthwiseBf16(Depthwise),
}

/// Where a convolution reads and writes.
struct Images2d {
    x: Bound,
    y: Bound,
    geometry: Geometry,
    epilogue: BoundEpilogue,
}

impl Kernel {
    fn is_depthwise(parameters: &Parameters) -> bool {
        parameters.groups > 1 && parameters.groups == parameters.input_channels
    }

    /// Packs the weights, for images of about that size.
    fn new(
        level: Level,
        parameters: &Parameters,
        way: Way,
        weights: &[f32],
        images: &Images,
        packing: &Packing,
    ) -> Kernel {
        match way {
            Way::Depthwise => Kernel::Depthwise(Depthwise::new(level, parameters, weights, packing)),
            Way::Dense(algorithm, layout) => {
                let way = (algorithm, layout);
                Kernel::Dense(Convolution::with_layout(level, parameters, way, weights, images, packing))
            }
            Way::DepthwiseBf16 => {
                Kernel::DepthwiseBf16(Depthwise::new_bf16(level, parameters, weights, packing))
            }
            Way::Bf16 => Kernel::Bf16(ConvolutionBf16::new(level, parameters, weights, images, packing)),
        }
    }

    fn scratch_len(&self, geometry: &Geometry) -> usize {
        match self {
            Kernel::Dense(conv) => conv.scratch_len(geometry),
            Kernel::Bf16(conv) => conv.scratch_len(geometry),
            Kernel::Depthwise(_) | Kernel::DepthwiseBf16(_) => 0,
        }
    }

    fn run(&self, images: &Images2d, memory: &Memory, scratch: &mut [f32], part: Part) {
        let Images2d { x, y, geometry, epilogue } = images;
        match self {
            Kernel::Dense(conv) => {
                let (x, out) = (memory.read(x.operand), memory.write(y.operand));
                conv.run(geometry, x, &epilogue.read(memory), out, scratch, part);
            }
            Kernel::Bf16(conv) => {
                let scratch = bytemuck::cast_slice_mut(scratch);
                match (x.is_rounded(), y.is_rounded()) {
                    (false, false) => images.run_bf16::<f32, f32>(conv, memory, scratch, part),
                    (false, true) => images.run_bf16::<f32, bf16>(conv, memory, scratch, part),
                    (true, false) => images.run_bf16::<bf16, f32>(conv, memory, scratch, part),
                    (true, true) => images.run_bf16::<bf16, bf16>(conv, memory, scratch, part),
                }
            }
            Kernel::Depthwise(depthwise) => {
                let (x, out) = (memory.read::<f32>(x.operand), memory.write(y.operand));
                depthwise.run(geometry, x, &epilogue.read(memory), out, part);
            }
            Kernel::DepthwiseBf16(depthwise) => {
                let (x, out) = (memory.read::<bf16>(x.operand), memory.write(y.operand));
                depthwise.run(geometry, x, &epilogue.read(memory), out, part);
            }
        }
    }
}

impl Images2d {
    fn run_bf16<L: Real, T: Real>(
        &self,
        conv: &ConvolutionBf16,
        memory: &Memory,
        scratch: &mut [u32],
        part: Part,
    ) {
        let (x, out) = (memory.read::<L>(self.x.operand), memory.write::<T>(self.y.operand));
        conv.run(&self.geometry, x, &self.epilogue.read(memory), out, scratch, part);
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy)]
enum Way {
    Depthwise,
    DepthwiseBf16,
    /// By products of that layout, where the algorithm has several.
    Dense(Algorithm, Option<Layout>),
    Bf16,
}

impl Way {
    /// The fastest way. Weights that are computed when it runs are not worth a transform.
    fn pick(view: &NodeView, parameters: &Parameters, images: &Images, constant_weights: bool) -> Way {
        let rounded = reads_rounded(view, 0) || writes_rounded(view);
        match (Kernel::is_depthwise(parameters), rounded) {
            (true, false) => Way::Depthwise,
            (true, true) => Way::DepthwiseBf16,
            (false, true) => Way::Bf16,
            (false, false) => Way::pick_dense(view, parameters, images, constant_weights, false),
        }
    }

    /// The fastest way for a kernel that is not depthwise, for images that are rounded or not if it could read either.
    fn pick_dense(
        view: &NodeView,
        parameters: &Parameters,
        images: &Images,
        constant_weights: bool,
        rounded: bool,
    ) -> Way {
        let level = view.level;
        let all = conv::candidates(level, parameters, images).into_iter();
        // Kernels of one tap are the same product by every direct algorithm.
        let served = all.filter(|one| match one.algorithm {
            Algorithm::Strassen => constant_weights && !view.prefers_bf16(),
            Algorithm::Rows | Algorithm::Taps => parameters.kernel != [1, 1],
            algorithm => constant_weights || !algorithm.transforms_weights(),
        });
        let layouts = |one: conv::Candidate| {
            let layouts = conv::layouts(level, parameters, &one, images).into_iter();
            let dense = move |(layout, cost)| (Way::Dense(one.algorithm, Some(layout)), cost);
            let single = (Way::Dense(one.algorithm, None), one.cost);
            if layouts.len() == 0 { vec![single] } else { layouts.map(dense).collect() }
        };
        let mut candidates: Vec<(Way, f64)> = served.flat_map(layouts).collect();
        if constant_weights && view.prefers_bf16() && ConvolutionBf16::serves(parameters) {
            candidates.push((Way::Bf16, ConvolutionBf16::cost(level, parameters, images, rounded)));
        }
        let (parameters, images) = (*parameters, *images);
        let name = move || problem_of(&parameters, &images, constant_weights);
        let is_strassen = |way: &Way| matches!(way, Way::Dense(Algorithm::Strassen, _));
        let is_stored = |way: &Way| match *way {
            Way::Dense(algorithm, Some(layout)) => conv::is_stored((algorithm, layout), view.packing),
            _ => false,
        };
        choose_suited(view, name, candidates, is_strassen, is_stored, || suits_strassen(view, &parameters))
    }
}

/// Whether the constant weights of a kernel of one tap may be summed in quarters. All are read.
fn suits_strassen(view: &NodeView, parameters: &Parameters) -> bool {
    let (n, k) = (parameters.output_channels, parameters.input_channels);
    let weights = view.weights(1).ok().flatten();
    weights.is_some_and(|weights| gemm::suits_strassen(view.level, [k, n], &weights, [1, k], 1.0))
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Way::Depthwise => f.write_str("depthwise"),
            Way::DepthwiseBf16 => f.write_str("depthwise bf16"),
            Way::Dense(algorithm, None) => algorithm.fmt(f),
            Way::Dense(algorithm, Some(layout)) => write!(f, "{algorithm}, {layout}"),
            Way::Bf16 => f.write_str("bf16"),
        }
    }
}

impl Way {
    /// What people are told of the convolution by a kernel of that size.
    fn describe(self, [height, width]: [usize; 2]) -> String {
        match self {
            Way::Dense(algorithm, Some(layout)) => format!("{algorithm} {height}x{width}, {layout}"),
            way => format!("{way} {height}x{width}"),
        }
    }
}

/// The convolution in words.
fn problem_of(parameters: &Parameters, images: &Images, constant_weights: bool) -> String {
    let Parameters { input_channels, output_channels, kernel, stride, dilation, groups } = parameters;
    let by = |[down, across]: &[usize; 2]| format!("{down}x{across}");
    let weights = if constant_weights { "" } else { ", computed weights" };
    let (batch, output) = (images.batch, by(&images.output));
    let (kernel, stride, dilation) = (by(kernel), by(stride), by(dilation));
    format!(
        "convolution {kernel}, stride {stride}, dilation {dilation}, groups {groups}, \
         {input_channels} to {output_channels} channels of {batch}x{output}{weights}"
    )
}

/// A convolution of one or two dimensions, channels last. Weights that are computed are packed whenever it runs.
fn conv_2d(view: &NodeView, op: &Conv, dims: &[usize]) -> Result<Layer> {
    let channels = [dims[1] * op.groups, dims[0]];
    let parameters = convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(dims[0]))?;
    let (level, images) = (view.level, typical_images(view).unwrap_or_default());
    let weights = view.weights(1)?;
    let way = Way::pick(view, &parameters, &images, weights.is_some());
    let pack =
        |weights: Weights| Arc::new(Kernel::new(level, &parameters, way, &weights, &images, view.packing));
    let kernel = weights.map(pack);
    let op = op.clone();
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("{}{}", way.describe([kh, kw]), epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let kernel_sizes = if input.len() == 1 { vec![kw] } else { vec![kh, kw] };
        let begin =
            padding_begin(&op.padding, input, output, &extent(&kernel_sizes, &op.dilations), &op.strides);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let images2d = Images2d { x, y, geometry, epilogue };
        let Some(kernel) = kernel.clone() else {
            let weights = b.input(1)?.operand;
            return Ok(Step::serial(move |memory| {
                let (weights, packing) = (memory.read(weights), Packing::default());
                let kernel = Kernel::new(level, &parameters, way, weights, &images, &packing);
                let mut scratch = vec![0.0; kernel.scratch_len(&images2d.geometry)];
                kernel.run(&images2d, memory, &mut scratch, Part::WHOLE);
                Ok(())
            }));
        };
        let scratch = kernel.scratch_len(&images2d.geometry);
        b.need_scratch::<f32>(scratch);
        let first = FirstOfKernel { kernel: kernel.clone(), geometry: images2d.geometry };
        Ok(Step::parallel(move |memory, part| {
            kernel.run(&images2d, memory, memory.scratch(part.index, scratch), part);
            Ok(())
        })
        .reads_first(first))
    })
    .reads_columns(&[0, 3])
    .writes_columns()
    .interleaves(&[3]))
}

/// What a convolution of such images begins with.
struct FirstOfKernel {
    kernel: Arc<Kernel>,
    geometry: Geometry,
}

impl FirstWeights for FirstOfKernel {
    fn of(&self, part: Part) -> &[f32] {
        match &*self.kernel {
            Kernel::Dense(conv) => conv.first_weights(&self.geometry, part),
            Kernel::Bf16(_) | Kernel::Depthwise(_) | Kernel::DepthwiseBf16(_) => &[],
        }
    }
}

/// A length that is assumed for sizes which only requests decide.
const TYPICAL_LENGTH: i64 = 224;

/// The output images, or typical ones where their sizes are not fixed: one image, and all symbols of its height and width
/// alike.
pub(super) fn typical_images(view: &NodeView) -> Option<Images> {
    let dims = view.output_shape(0).ok()?.dims();
    let typical = |dim: &Expr| {
        let mut values = SymbolValues::new();
        dim.visit_symbols(&mut |symbol| {
            values.insert(symbol.clone(), TYPICAL_LENGTH);
        });
        usize::try_from(dim.evaluate(&values).ok()?).ok()
    };
    let batch = dims.first()?.as_const().map_or(Some(1), |batch| usize::try_from(batch).ok())?;
    let output = match dims {
        [_, width, _] => [1, typical(width)?],
        [_, height, width, _] => [typical(height)?, typical(width)?],
        _ => return None,
    };
    Some(Images { batch, output })
}

pub(super) fn conv_transpose(view: &NodeView, op: &ConvTranspose) -> Result<Layer> {
    let dims = weight_dims(view)?;
    let spatial = dims.len().saturating_sub(2);
    if spatial == 0 || op.strides.len() != spatial || op.dilations.len() != spatial || op.groups == 0 {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let images =
        spatial <= 2 && op.layout == ImageLayout::ChannelsLast && view.input_type(0)? == ElementType::F32;
    if images { transposed_2d(view, op, &dims) } else { general(view, Form::Transposed(op.clone()), &dims) }
}

/// A transposed convolution of one or two dimensions, channels last. Weights that are computed are packed whenever it runs.
fn transposed_2d(view: &NodeView, op: &ConvTranspose, dims: &[usize]) -> Result<Layer> {
    let channels = [dims[0], dims[1] * op.groups];
    let parameters = convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(channels[1]))?;
    let level = view.level;
    let adds = epilogue.residual().is_some();
    let pack = move |weights: &[f32], packing: &Packing| {
        TransposedConvolution::new(level, &parameters, weights, adds, packing)
    };
    let kernel = view.weights(1)?.map(|weights: Weights| Arc::new(pack(&weights, view.packing)));
    let (op, kernel_sizes) = (op.clone(), dims[2..].to_vec());
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("transposed convolution {kh}x{kw}{}", epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let begin = transposed_begin(&op, input, output, &kernel_sizes);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let Some(kernel) = kernel.clone() else {
            let weights = b.input(1)?.operand;
            return Ok(Step::serial(move |memory| {
                let (weights, packing) = (memory.read(weights), Packing::default());
                let kernel = pack(weights, &packing);
                let mut scratch = vec![0.0; kernel.scratch_len(&geometry)];
                let (x, out) = (memory.read(x.operand), memory.write(y.operand));
                kernel.run(&geometry, x, &epilogue.read(memory), out, &mut scratch, Part::WHOLE);
                Ok(())
            }));
        };
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<f32>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let (x, out) = (memory.read(x.operand), memory.write(y.operand));
            let scratch = memory.scratch(part.index, scratch);
            kernel.run(&geometry, x, &epilogue.read(memory), out, scratch, part);
            Ok(())
        }))
    })
    .reads_columns(&[0, 3])
    .writes_columns()
    .interleaves(&[3]))
}

/// What is cut off before each dimension: given, or found from the output's size.
pub(super) fn transposed_begin(
    op: &ConvTranspose,
    input: &[usize],
    output: &[usize],
    kernel: &[usize],
) -> Vec<usize> {
    let extent = extent(kernel, &op.dilations);
    let total = |i: usize| {
        let full = input[i].saturating_sub(1) * op.strides[i]
            + extent[i]
            + op.output_padding.get(i).copied().unwrap_or(0);
        full.saturating_sub(output[i])
    };
    match &op.padding {
        Padding::Explicit { begin, .. } if op.output_shape.is_none() => begin.clone(),
        Padding::Valid if op.output_shape.is_none() => vec![0; input.len()],
        Padding::SameLower => (0..input.len()).map(|i| total(i).div_ceil(2)).collect(),
        _ => (0..input.len()).map(|i| total(i) / 2).collect(),
    }
}
