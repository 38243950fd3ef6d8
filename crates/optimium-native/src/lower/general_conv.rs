//! Convolutions that no fast kernel does: any number of dimensions, layout and floating-point type.

use optimium_graph::ops::{Conv, ConvTranspose, Fusion, ImageLayout};
use optimium_kernels::conv::{
    GeneralImages, GeneralParameters, convolve_general, transpose_convolve_general,
};
use optimium_kernels::epilogue::finish_rows;
use optimium_kernels::gemm::Number;
use optimium_kernels::{Part, SharedSlice};
use optimium_tensor::{ElementType, Error, Result};

use super::epilogue::EpilogueSource;
use super::spatial::{extent, padding_begin, transposed_begin};
use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};

/// Which of the two convolutions, with its attributes.
#[derive(Clone)]
pub(super) enum Form {
    Plain(Conv),
    Transposed(ConvTranspose),
}

impl Form {
    fn layout(&self) -> ImageLayout {
        match self {
            Form::Plain(op) => op.layout,
            Form::Transposed(op) => op.layout,
        }
    }

    fn fusion(&self) -> Fusion {
        match self {
            Form::Plain(op) => op.fusion,
            Form::Transposed(op) => op.fusion,
        }
    }

    fn steps(&self) -> (&[usize], &[usize], usize) {
        match self {
            Form::Plain(op) => (&op.strides, &op.dilations, op.groups),
            Form::Transposed(op) => (&op.strides, &op.dilations, op.groups),
        }
    }

    /// Input and output channels that weights of those dimensions make.
    fn channels(&self, weights: &[usize]) -> [usize; 2] {
        match self {
            Form::Plain(op) => [weights[1] * op.groups, weights[0]],
            Form::Transposed(op) => [weights[0], weights[1] * op.groups],
        }
    }

    /// What is before, or cut off before, each dimension.
    fn begin(&self, input: &[usize], output: &[usize], kernel: &[usize]) -> Vec<usize> {
        match self {
            Form::Plain(op) => {
                padding_begin(&op.padding, input, output, &extent(kernel, &op.dilations), &op.strides)
            }
            Form::Transposed(op) => transposed_begin(op, input, output, kernel),
        }
    }
}

/// The layer of a convolution with weights of `dims`, constant or computed.
pub(super) fn general(view: &NodeView, form: Form, dims: &[usize]) -> Result<Layer> {
    let fused = form.fusion() != Fusion::default() || view.has_input(3);
    match view.input_type(0)?.storage() {
        ElementType::F32 if fused => fused_layer(view, form, dims),
        ElementType::F32 => plain_layer::<f32>(form, dims),
        ElementType::F64 if !fused => plain_layer::<f64>(form, dims),
        other => Err(unsupported_type(other)),
    }
}

fn plain_layer<T: bytemuck::Pod + Number>(form: Form, dims: &[usize]) -> Result<Layer> {
    let dims = dims.to_vec();
    Ok(Layer::new("general convolution", move |b| {
        let (x, w, y, bias) = (b.input(0)?, b.input(1)?, b.output(0)?, b.optional_input(2));
        let convolution = General::new(&form, &dims, b)?;
        if bias.as_ref().is_some_and(|bias| bias.len() != convolution.output.channels) {
            return Err(Error::shape("a bias of another size than the channels"));
        }
        Ok(Step::parallel(move |memory, part| {
            let bias = bias.as_ref().map(|bias| memory.read::<T>(bias.operand));
            let (x, w) = (memory.read::<T>(x.operand), memory.read::<T>(w.operand));
            convolution.run(x, w, bias, memory.write(y.operand), part);
            Ok(())
        }))
    }))
}

/// The same with an epilogue, which goes over the pixels of this part when their sums are there.
fn fused_layer(view: &NodeView, form: Form, dims: &[usize]) -> Result<Layer> {
    if form.layout() != ImageLayout::ChannelsLast {
        return Err(Error::not_implemented("fusion behind a general convolution with channels first"));
    }
    let (level, dims) = (view.level, dims.to_vec());
    let columns = form.channels(&dims)[1];
    let epilogue = EpilogueSource::of(view, 2, form.fusion(), Some(columns))?;
    Ok(Layer::new(format!("general convolution{}", epilogue.describe()), move |b| {
        let (x, w, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let convolution = General::new(&form, &dims, b)?;
        let epilogue = epilogue.bind(b, columns)?;
        Ok(Step::parallel(move |memory, part| {
            let out = memory.write::<f32>(y.operand);
            let bias = epilogue.read::<f32>(memory).bias;
            convolution.run(memory.read(x.operand), memory.read(w.operand), bias, out, part);
            let rows = part.range(convolution.output.pixels());
            if !rows.is_empty() {
                let own = out.narrow(rows.start * columns..rows.end * columns);
                let epilogue = epilogue.read_from(memory, rows.start);
                finish_rows(level, &epilogue, [rows.len(), columns], own, columns);
            }
            Ok(())
        }))
    }))
}

/// A convolution of images of known sizes.
struct General {
    form: Form,
    kernel: Vec<usize>,
    begin: Vec<usize>,
    input: Images,
    output: Images,
}

impl General {
    fn new(form: &Form, dims: &[usize], b: &Binding) -> Result<General> {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (Images::of(&x, form.layout())?, Images::of(&y, form.layout())?);
        let kernel = dims[2..].to_vec();
        let (strides, dilations, groups) = form.steps();
        let ranks = [strides.len(), dilations.len(), kernel.len()];
        let fits = form.channels(dims) == [input.channels, output.channels]
            && ranks == [input.sizes.len(); 3]
            && dims[0].is_multiple_of(groups)
            && input.batch == output.batch;
        if !fits || strides.contains(&0) {
            return Err(Error::shape(format!(
                "weights of {dims:?} do not fit {:?} and {:?}",
                x.dims, y.dims
            )));
        }
        let begin = form.begin(&input.sizes, &output.sizes, &kernel);
        Ok(General { form: form.clone(), kernel, begin, input, output })
    }

    fn run<T: Number>(&self, x: &[T], w: &[T], bias: Option<&[T]>, y: SharedSlice<T>, part: Part) {
        let (stride, dilation, groups) = self.form.steps();
        let parameters =
            GeneralParameters { kernel: &self.kernel, stride, dilation, padding: &self.begin, groups };
        let run = match self.form {
            Form::Plain(_) => convolve_general,
            Form::Transposed(_) => transpose_convolve_general,
        };
        run(&parameters, x, &self.input.view(), w, bias, y, &self.output.view(), part);
    }
}

/// Where the elements of images of any number of dimensions lie.
struct Images {
    batch: usize,
    channels: usize,
    sizes: Vec<usize>,
    batch_stride: usize,
    channel_stride: usize,
    strides: Vec<usize>,
}

impl Images {
    fn of(tensor: &Bound, layout: ImageLayout) -> Result<Images> {
        let rank = tensor.dims.len();
        if rank < 3 {
            return Err(Error::shape(format!("expected images, found {:?}", tensor.dims)));
        }
        let all: Vec<usize> = optimium_kernels::movement::contiguous_strides(&tensor.dims)
            .iter()
            .map(|&s| s as usize)
            .collect();
        let channel = layout.channel_axis(rank);
        let spatial =
            |list: &[usize]| -> Vec<usize> { (0..rank - 2).map(|i| list[layout.spatial_axis(i)]).collect() };
        Ok(Images {
            batch: tensor.dims[0],
            channels: tensor.dims[channel],
            sizes: spatial(&tensor.dims),
            batch_stride: all[0],
            channel_stride: all[channel],
            strides: spatial(&all),
        })
    }

    /// Positions of all images.
    fn pixels(&self) -> usize {
        self.batch * self.sizes.iter().product::<usize>()
    }

    fn view(&self) -> GeneralImages<'_> {
        GeneralImages {
            batch: self.batch,
            channels: self.channels,
            sizes: &self.sizes,
            batch_stride: self.batch_stride,
            channel_stride: self.channel_stride,
            strides: &self.strides,
        }
    }
}
