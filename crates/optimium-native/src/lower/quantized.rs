//! Operators on quantized tensors.

use std::sync::Arc;

use optimium_graph::ops::{
    Activation, AveragePool, Binary, Concat, Conv, ImageLayout, MatMul, MaxPool, Reduce, Reduction, Resize,
};
use optimium_graph::{Operator, Value};
use optimium_kernels::Part;
use optimium_kernels::conv::{Geometry, Parameters};
use optimium_kernels::quantized::{
    self as kernels, Activations, Dequantize, LookupTable, Output, PackedMatrix, PoolWindow, Quantization,
    QuantizedConvolution, QuantizedDepthwise, QuantizedResidual, Requantize, Rows, Weights,
};
use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::epilogue::kernel_activation;
use super::matrix::Batch;
use super::pooling::image_geometry;
use super::reduction::reduced_axes;
use super::spatial::{convolution_geometry, convolution_parameters, extent, padding_begin};
use super::view::{NodeView, normalize_axis};
use super::{indexing, pooling, resizing};
use crate::layer::{Binding, Layer, Step};
use crate::memory::{Memory, Operand};

/// The layer of a node that has quantized tensors.
pub(super) fn lower(view: &NodeView) -> Result<Layer> {
    match &view.node.op {
        Operator::Conv(op) => conv(view, op),
        Operator::MatMul(op) => matmul(view, op),
        Operator::Binary { function: function @ (Binary::Add | Binary::Mul) } => binary(view, *function),
        Operator::Activation { function } => activation(view, *function),
        Operator::MaxPool(op) => max_pool(view, op),
        Operator::AveragePool(op) => average_pool(view, op),
        Operator::Reduce(op) => global_mean(view, op),
        Operator::Concat(op) => concat(view, op),
        Operator::Resize(op) => resize(view, op),
        Operator::Requantize => requantize(view),
        _ => Err(Error::not_implemented("quantized tensors")),
    }
}

/// Whether [`lower`] has a kernel for the node; otherwise it is computed in reals. Nothing is packed to find out.
pub(crate) fn is_supported(view: &NodeView) -> bool {
    match &view.node.op {
        Operator::Conv(op) => ConvForm::of(view, op).is_ok(),
        Operator::MatMul(op) => MatMulForm::of(view, op).is_ok(),
        Operator::Activation { function } => table_ends(view, *function).is_ok(),
        _ => lower(view).is_ok(),
    }
}

fn value<'a>(view: &NodeView<'a>, index: usize) -> Result<&'a Value> {
    let id = view.node.input(index).ok_or_else(|| Error::model(format!("input {index} is missing")))?;
    Ok(view.graph.value(id))
}

fn result<'a>(view: &NodeView<'a>) -> Result<&'a Value> {
    let id = view.node.output(0).ok_or_else(|| Error::model("output 0 is missing"))?;
    Ok(view.graph.value(id))
}

fn is_signed(value: &Value) -> Result<bool> {
    match value.element_type() {
        Some(ElementType::QS8) => Ok(true),
        Some(ElementType::QU8) => Ok(false),
        other => Err(Error::not_implemented(format!("quantized element type {other:?}"))),
    }
}

/// The quantization of a tensor that has one for all elements.
fn quantization(value: &Value) -> Result<Quantization> {
    let signed = is_signed(value)?;
    let scheme = value.scheme.as_ref().filter(|scheme| scheme.params().len() == 1);
    let param = scheme.and_then(|scheme| scheme.param(0));
    let param = param.ok_or_else(|| Error::not_implemented("activations quantized per channel"))?;
    Ok(Quantization { scale: param.scale, zero_point: param.zero_point, signed })
}

/// One value a column of what a scheme gives per tensor or per channel.
fn per_column<T>(
    value: &Value,
    columns: usize,
    get: impl Fn(optimium_tensor::QuantParam) -> T,
) -> Result<Vec<T>> {
    let scheme =
        value.scheme.as_ref().ok_or_else(|| Error::model(format!("{:?} has no scheme", value.name)))?;
    if scheme.params().len() != 1 && scheme.params().len() != columns {
        return Err(Error::model(format!("{} scales for {columns} columns", scheme.params().len())));
    }
    Ok((0..columns).filter_map(|column| scheme.param(column)).map(get).collect())
}

/// What an integer product does to its sums.
#[derive(Clone)]
struct Finish {
    /// Scale of x times scale of the weights, for each column.
    scales: Arc<[f32]>,
    bias: Option<Arc<[i32]>>,
    target: Target,
    residual: Option<(usize, Quantization)>,
}

#[derive(Clone, Copy)]
enum Target {
    Bytes { quantization: Quantization, low: i32, high: i32 },
    Floats { activation: Activation },
}

impl Finish {
    /// For a product of input 0 and the weights of input 1 with `columns` columns, bias in input 2, residual in input 3.
    fn of(view: &NodeView, columns: usize, activation: Activation) -> Result<Finish> {
        let x = quantization(value(view, 0)?)?;
        let weight_scales = per_column(value(view, 1)?, columns, |param| param.scale)?;
        let scales: Arc<[f32]> = weight_scales.iter().map(|scale| scale * x.scale).collect();
        let output = result(view)?;
        let bias = match view.constant(2) {
            None if view.has_input(2) => return Err(Error::not_implemented("a bias that is computed")),
            None => None,
            Some(bias) => Some(bias_steps(bias, &scales)?),
        };
        let target = if output.element_type().is_some_and(ElementType::is_quantized) {
            let quantization = quantization(output)?;
            let (low, high) = bounds(quantization, activation)?;
            Target::Bytes { quantization, low, high }
        } else if output.element_type() == Some(ElementType::F32) && activation != Activation::PRelu {
            Target::Floats { activation }
        } else {
            return Err(Error::not_implemented("the element type of the result"));
        };
        let residual = match (view.has_input(3), target) {
            (false, _) => None,
            (true, Target::Bytes { .. }) => Some((3, quantization(value(view, 3)?)?)),
            (true, Target::Floats { .. }) => {
                return Err(Error::not_implemented("a residual of a real result"));
            }
        };
        Ok(Finish { scales, bias, target, residual })
    }

    fn describe(&self) -> &'static str {
        match (&self.target, &self.residual) {
            (Target::Floats { .. }, _) => " to reals",
            (Target::Bytes { .. }, None) => "",
            (Target::Bytes { .. }, Some(_)) => " + residual",
        }
    }

    fn bind(&self, b: &Binding) -> Result<BoundFinish> {
        let residual = self.residual.map(|(index, quantization)| Ok((b.input(index)?.operand, quantization)));
        let multiplier = match self.target {
            Target::Bytes { quantization, .. } => {
                self.scales.iter().map(|scale| scale / quantization.scale).collect()
            }
            Target::Floats { .. } => self.scales.to_vec(),
        };
        let float_bias = self
            .bias
            .as_ref()
            .map(|bias| bias.iter().zip(&*self.scales).map(|(&b, s)| b as f32 * s).collect());
        let y = b.output(0)?.operand;
        Ok(BoundFinish { finish: self.clone(), multiplier, float_bias, residual: residual.transpose()?, y })
    }
}

/// A bias in steps of the product's scale: integers as they are, reals divided.
fn bias_steps(bias: &optimium_tensor::Tensor, scales: &[f32]) -> Result<Arc<[i32]>> {
    let steps: Vec<i32> = match bias.element_type().storage() {
        ElementType::I32 => bias.to_i64s()?.into_iter().map(|step| step as i32).collect(),
        _ => bias
            .to_f32s()?
            .iter()
            .zip(scales)
            .map(|(bias, scale)| (bias / scale).round_ties_even() as i32)
            .collect(),
    };
    if steps.len() != scales.len() {
        return Err(Error::model(format!("{} biases for {} columns", steps.len(), scales.len())));
    }
    Ok(steps.into())
}

/// The bytes between which a fused activation leaves the result.
fn bounds(y: Quantization, activation: Activation) -> Result<(i32, i32)> {
    let (low, high) = y.limits();
    let byte =
        |real: f32| ((real / y.scale).round_ties_even() as i32).saturating_add(y.zero_point).clamp(low, high);
    match activation {
        Activation::None => Ok((low, high)),
        Activation::Relu => Ok((byte(0.0), high)),
        Activation::Clip { low: from, high: to } => Ok((from.map_or(low, byte), to.map_or(high, byte))),
        other => Err(Error::not_implemented(format!("{} fused behind a quantized product", other.name()))),
    }
}

struct BoundFinish {
    finish: Finish,
    multiplier: Vec<f32>,
    float_bias: Option<Vec<f32>>,
    residual: Option<(Operand, Quantization)>,
    y: Operand,
}

impl BoundFinish {
    fn output<'a>(&'a self, memory: &Memory<'a>, columns: usize) -> Output<'a> {
        match self.finish.target {
            Target::Bytes { quantization, low, high } => Output::Bytes(Requantize {
                c: memory.write(self.y),
                signed: quantization.signed,
                multiplier: &self.multiplier,
                bias: self.finish.bias.as_deref(),
                zero_point: quantization.zero_point,
                low,
                high,
                residual: self.residual.map(|(operand, from)| QuantizedResidual {
                    data: memory.read(operand),
                    stride: columns,
                    signed: from.signed,
                    zero_point: from.zero_point,
                    multiplier: from.scale / quantization.scale,
                }),
            }),
            Target::Floats { activation } => Output::F32(Dequantize {
                c: memory.write(self.y),
                scale: &self.multiplier,
                row_scale: Rows::Same(1.0),
                bias: self.float_bias.as_deref(),
                activation: kernel_activation(activation),
            }),
        }
    }
}

/// A convolution with packed weights.
pub(super) enum Kernel {
    Dense(QuantizedConvolution),
    Depthwise(QuantizedDepthwise),
}

impl Kernel {
    /// Of weights as [`QuantizedConvolution::new`] takes them; `signed` and the zero points are theirs.
    pub(super) fn new(
        view: &NodeView,
        parameters: &Parameters,
        weights: &[u8],
        signed: bool,
        zero_points: &[i32],
    ) -> Kernel {
        let Parameters { groups, input_channels, output_channels, .. } = *parameters;
        let (level, packing) = (view.level, view.packing);
        if groups > 1 && groups == input_channels && groups == output_channels {
            let kernel = QuantizedDepthwise::new(level, parameters, weights, signed, zero_points, packing);
            return Kernel::Depthwise(kernel);
        }
        let kernel = QuantizedConvolution::new(level, parameters, weights, signed, zero_points, packing);
        Kernel::Dense(kernel)
    }

    /// What it is called in a profile.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kernel::Dense(_) => "convolution",
            Kernel::Depthwise(_) => "depthwise",
        }
    }

    pub(super) fn scratch_len(&self, geometry: &Geometry) -> usize {
        match self {
            Kernel::Dense(conv) => conv.scratch_len(geometry),
            Kernel::Depthwise(conv) => conv.scratch_len(geometry),
        }
    }

    pub(super) fn run(
        &self,
        geometry: &Geometry,
        x: &[u8],
        signed: bool,
        zero_point: i32,
        output: &Output<'_>,
        scratch: &mut [u8],
        part: Part,
    ) {
        match self {
            Kernel::Dense(conv) => conv.run(geometry, x, signed, zero_point, output, scratch, part),
            Kernel::Depthwise(conv) => conv.run(geometry, x, signed, zero_point, output, scratch, part),
        }
    }
}

/// A convolution that there is a kernel for.
struct ConvForm<'a> {
    tensor: &'a Tensor,
    x: Quantization,
    signed: bool,
    parameters: Parameters,
    finish: Finish,
    zero_points: Vec<i32>,
}

impl<'a> ConvForm<'a> {
    fn of(view: &NodeView<'a>, op: &Conv) -> Result<ConvForm<'a>> {
        let tensor = view.constant(1).ok_or_else(|| Error::not_implemented("weights that are computed"))?;
        let dims = tensor.dims();
        if op.layout != ImageLayout::ChannelsLast || dims.len() != 4 || op.fusion.residual_after_activation {
            return Err(Error::not_implemented("this form of a quantized convolution"));
        }
        let weights = value(view, 1)?;
        let channels = [dims[1] * op.groups, dims[0]];
        Ok(ConvForm {
            tensor,
            x: quantization(value(view, 0)?)?,
            signed: is_signed(weights)?,
            parameters: convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?,
            finish: Finish::of(view, dims[0], op.fusion.activation)?,
            zero_points: per_column(weights, dims[0], |param| param.zero_point)?,
        })
    }
}

fn conv(view: &NodeView, op: &Conv) -> Result<Layer> {
    let ConvForm { tensor, x, signed, parameters, finish, zero_points } = ConvForm::of(view, op)?;
    let kernel = Kernel::new(view, &parameters, &tensor.read_bytes()?, signed, &zero_points);
    let [kh, kw] = parameters.kernel;
    let (kernel, op) = (Arc::new(kernel), op.clone());
    Ok(Layer::new(format!("quantized {} {kh}x{kw}{}", kernel.name(), finish.describe()), move |b| {
        let geometry = geometry_of(b, &op, &parameters)?;
        let finish = finish.bind(b)?;
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<u8>(scratch);
        let (kernel, input) = (kernel.clone(), b.input(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            let (data, space) = (memory.read::<u8>(input), memory.scratch::<u8>(part.index, scratch));
            let output = finish.output(memory, geometry.output_stride);
            kernel.run(&geometry, data, x.signed, x.zero_point, &output, space, part);
            Ok(())
        }))
    }))
}

fn geometry_of(b: &Binding, op: &Conv, parameters: &Parameters) -> Result<Geometry> {
    let (x, y) = (b.input(0)?, b.output(0)?);
    let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
    let begin =
        padding_begin(&op.padding, input, output, &extent(&parameters.kernel, &op.dilations), &op.strides);
    convolution_geometry(&x, &y, parameters, &begin)
}

/// A matrix product that there is a kernel for.
struct MatMulForm<'a> {
    tensor: &'a Tensor,
    x: Quantization,
    signed: bool,
    k: usize,
    n: usize,
    finish: Finish,
    zero_points: Vec<i32>,
}

impl<'a> MatMulForm<'a> {
    fn of(view: &NodeView<'a>, op: &MatMul) -> Result<MatMulForm<'a>> {
        let computed = || Error::not_implemented("a right matrix that is computed");
        let tensor = view.constant(1).ok_or_else(computed)?;
        let &[rows, columns] = tensor.dims() else {
            return Err(Error::not_implemented("a batch of right matrices"));
        };
        if op.transpose_a || op.alpha != 1.0 || op.fusion.residual_after_activation {
            return Err(Error::not_implemented("this form of a quantized product"));
        }
        let (k, n) = if op.transpose_b { (columns, rows) } else { (rows, columns) };
        let weights = value(view, 1)?;
        Ok(MatMulForm {
            tensor,
            x: quantization(value(view, 0)?)?,
            signed: is_signed(weights)?,
            k,
            n,
            finish: Finish::of(view, n, op.fusion.activation)?,
            zero_points: per_column(weights, n, |param| param.zero_point)?,
        })
    }
}

fn matmul(view: &NodeView, op: &MatMul) -> Result<Layer> {
    let MatMulForm { tensor, x, signed, k, n, finish, zero_points } = MatMulForm::of(view, op)?;
    let (row_stride, column_stride) = if op.transpose_b { (1, k) } else { (n, 1) };
    let data = tensor.read_bytes()?;
    let packed = Weights { data: &data, k, n, row_stride, column_stride, signed, zero_point: &zero_points };
    let (packed, level) = (Arc::new(PackedMatrix::new(view.level, &packed, view.packing)), view.level);
    Ok(Layer::new(format!("quantized gemm{}", finish.describe()), move |b| {
        let a = b.input(0)?;
        let batch = Batch::of(&a.dims, &[k, n], false, false)?.merged();
        let (finish, packed) = (finish.bind(b)?, packed.clone());
        Ok(Step::parallel(move |memory, part| {
            let activations = Activations {
                data: memory.read(a.operand),
                stride: k,
                signed: x.signed,
                zero_point: Rows::Same(x.zero_point),
            };
            kernels::gemm(level, batch.m, &activations, &packed, &finish.output(memory, n), n, part);
            Ok(())
        }))
    }))
}

fn binary(view: &NodeView, function: Binary) -> Result<Layer> {
    let (a, b_quantization) = (quantization(value(view, 0)?)?, quantization(value(view, 1)?)?);
    let (y, level) = (quantization(result(view)?)?, view.level);
    let repeats =
        |a: usize, b: usize| Result::Ok(repetition(view.input_shape(a)?.dims(), view.input_shape(b)?.dims()));
    let (swapped, blocks) = match (repeats(0, 1)?, repeats(1, 0)?) {
        (Some(blocks), _) => (false, blocks),
        (None, Some(blocks)) => (true, blocks),
        _ => return Err(Error::not_implemented("this broadcast of quantized tensors")),
    };
    let run = if function == Binary::Add { kernels::add } else { kernels::mul };
    Ok(Layer::new(format!("quantized {}", function.name().to_lowercase()), move |b| {
        let (first, second, out) = (b.input(0)?, b.input(1)?, b.output(0)?.operand);
        let (whole, p, p_quantization, q, q_quantization) = if swapped {
            (second.dims, second.operand, b_quantization, first.operand, a)
        } else {
            (first.dims, first.operand, a, second.operand, b_quantization)
        };
        let count = whole[..blocks].iter().product::<usize>().max(1);
        Ok(Step::parallel(move |memory, part| {
            let (p, q, out) = (memory.read::<u8>(p), memory.read::<u8>(q), memory.write::<u8>(out));
            let (long, short) = (p.len() / count, q.len() / count);
            for block in 0..count {
                let (p, q) = (&p[block * long..][..long], &q[block * short..][..short]);
                let out = out.narrow(block * long..(block + 1) * long);
                run(level, p, p_quantization, q, q_quantization, out, y, y.limits(), part);
            }
            Ok(())
        }))
    }))
}

/// Where a tensor of shape `b` is a repeated part of each block of one of shape `a`: how many of the first dimensions number the
/// blocks.
fn repetition(a: &[Expr], b: &[Expr]) -> Option<usize> {
    let is_one = |dim: &Expr| dim.as_const() == Some(1);
    let missing = a.len().checked_sub(b.len())?;
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let rest = b.len() - tail;
    if b[..rest].iter().all(is_one) {
        return Some(0);
    }
    let blocks = if missing == 0 { a.iter().zip(b).take_while(|(a, b)| a == b).count() } else { 0 };
    b[blocks..rest].iter().all(is_one).then_some(blocks)
}

/// The quantizations that a table for the function goes between.
fn table_ends(view: &NodeView, function: Activation) -> Result<(Quantization, Quantization)> {
    if function == Activation::PRelu {
        return Err(Error::not_implemented("quantized PRelu"));
    }
    Ok((quantization(value(view, 0)?)?, quantization(result(view)?)?))
}

fn activation(view: &NodeView, function: Activation) -> Result<Layer> {
    let (x, y) = table_ends(view, function)?;
    let (kernel, level) = (kernel_activation(function), view.level);
    let table =
        Arc::new(LookupTable::new(x, y, |real| optimium_kernels::activation::apply_scalar(kernel, real)));
    Ok(Layer::new(format!("lookup {}", function.name().to_lowercase()), move |b| {
        let (input, output, table) = (b.input(0)?.operand, b.output(0)?.operand, table.clone());
        Ok(Step::parallel(move |memory, part| {
            kernels::lookup(level, &table, memory.read(input), memory.write(output), part);
            Ok(())
        }))
    }))
}

/// Refuses a result whose scheme is not that of input 0: kernels that move elements do not convert them.
fn check_same_scheme(view: &NodeView) -> Result<()> {
    let (x, y) = (value(view, 0)?, result(view)?);
    if x.scheme == y.scheme && x.element_type() == y.element_type() {
        Ok(())
    } else {
        Err(Error::not_implemented("a result of another scheme"))
    }
}

fn max_pool(view: &NodeView, op: &MaxPool) -> Result<Layer> {
    check_same_scheme(view)?;
    pooling::max_pool(view, op)
}

fn resize(view: &NodeView, op: &Resize) -> Result<Layer> {
    check_same_scheme(view)?;
    resizing::resize(view, op)
}

fn average_pool(view: &NodeView, op: &AveragePool) -> Result<Layer> {
    let (x, y) = (quantization(value(view, 0)?)?, quantization(result(view)?)?);
    let (window, include, level) = (op.window.clone(), op.count_include_pad, view.level);
    if window.layout != ImageLayout::ChannelsLast || window.kernel.len() != 2 || window.dilations != [1, 1] {
        return Err(Error::not_implemented("this form of a quantized pool"));
    }
    Ok(Layer::new("quantized average pool", move |b| {
        let (input, output) = (b.input(0)?, b.output(0)?);
        let g = image_geometry(&window, &input, &output)?;
        let window = PoolWindow {
            batch: g.batch,
            input: g.input,
            output: g.output,
            channels: g.channels,
            kernel: g.kernel,
            stride: g.stride,
            padding: g.padding,
            padding_end: g.padding_end,
            count_include_pad: include,
        };
        Ok(pool_step(level, window, input.operand, x, output.operand, y))
    }))
}

fn pool_step(
    level: optimium_simd::Level,
    window: PoolWindow,
    input: Operand,
    x: Quantization,
    output: Operand,
    y: Quantization,
) -> Step {
    Step::parallel(move |memory, part| {
        kernels::average_pool(level, &window, memory.read(input), x, memory.write(output), y, part);
        Ok(())
    })
}

/// The mean over both spatial axes of channels-last images.
fn global_mean(view: &NodeView, op: &Reduce) -> Result<Layer> {
    let (x, y, level) = (quantization(value(view, 0)?)?, quantization(result(view)?)?, view.level);
    if op.reduction != Reduction::Mean
        || reduced_axes(view, op)? != [1, 2]
        || view.input_shape(0)?.rank() != 4
    {
        return Err(Error::not_implemented("this reduction of quantized tensors"));
    }
    Ok(Layer::new("quantized global mean", move |b| {
        let (input, output) = (b.input(0)?, b.output(0)?.operand);
        let window = PoolWindow::global(input.dims[0], [input.dims[1], input.dims[2]], input.dims[3]);
        Ok(pool_step(level, window, input.operand, x, output, y))
    }))
}

fn concat(view: &NodeView, op: &Concat) -> Result<Layer> {
    let y = result(view)?;
    let same = |index: &usize| {
        value(view, *index).is_ok_and(|x| x.scheme == y.scheme && x.element_type() == y.element_type())
    };
    normalize_axis(op.axis, view.output_shape(0)?.rank())?;
    if (0..view.node.inputs.len()).all(|index| same(&index)) {
        indexing::concat(view, op)
    } else {
        Err(Error::not_implemented("operands of several schemes"))
    }
}

fn requantize(view: &NodeView) -> Result<Layer> {
    let (x, y, level) = (quantization(value(view, 0)?)?, quantization(result(view)?)?, view.level);
    Ok(Layer::new("requantize", move |b| {
        let (input, output) = (b.input(0)?.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            kernels::requantize(level, memory.read(input), x, memory.write(output), y, part);
            Ok(())
        }))
    }))
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn shapes_that_repeat_in_others() {
        let cases: [(&[i64], &[i64], Option<usize>); 8] = [
            (&[2, 3, 4], &[2, 3, 4], Some(0)),
            (&[2, 3, 4], &[4], Some(0)),
            (&[2, 3, 4], &[1, 1, 4], Some(0)),
            (&[2, 3, 4], &[1], Some(0)),
            (&[2, 3, 3, 4], &[2, 1, 1, 4], Some(1)),
            (&[2, 3, 4], &[2, 3, 1], Some(2)),
            (&[2, 3, 4], &[1, 3, 1], None),
            (&[3, 4], &[1, 3, 4], None),
        ];
        each_case(cases, |&(a, b, expected)| {
            let dims = |list: &[i64]| list.iter().map(|&dim| Expr::from(dim)).collect::<Vec<_>>();
            let found = repetition(&dims(a), &dims(b));
            if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
        });
    }
}
