//! Between reals and integers, and integer products whose result is real.

use std::sync::Arc;

use optimium_graph::ops::{DequantizeLinear, DynamicQuantizedMatMul, QuantizeLinear};
use optimium_kernels::epilogue::finish_rows;
use optimium_kernels::quantized::{
    self as kernels, Activations, Blocks, Channels, Dequantize, Output, PackedMatrix, QuantizedElement, Rows,
    Weights,
};
use optimium_kernels::{Part, SharedSlice};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, QuantScheme, Result};

use super::epilogue::EpilogueSource;
use super::matrix::Batch;
use super::normalization::around;
use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};
use crate::memory::Memory;

/// Scales and zero points: known, or inputs of the node.
#[derive(Clone)]
enum Scales {
    Known { scales: Arc<[f32]>, zero_points: Arc<[i32]> },
    Inputs,
}

impl Scales {
    /// Those of a scheme, or of inputs 1 and 2.
    fn of(view: &NodeView, scheme: Option<&QuantScheme>) -> Result<Scales> {
        if let Some(scheme) = scheme {
            let scales = scheme.params().iter().map(|param| param.scale).collect();
            let zero_points = scheme.params().iter().map(|param| param.zero_point).collect();
            return Ok(Scales::Known { scales, zero_points });
        }
        match (view.floats(1)?, view.constant(2)) {
            (Some(scales), zero) if zero.is_some() || !view.has_input(2) => {
                let zero_points = zero.map(|zero| zero.to_i64s()).transpose()?.unwrap_or_default();
                let zero_points = zero_points.into_iter().map(|zero| zero as i32).collect();
                Ok(Scales::Known { scales, zero_points })
            }
            _ => Ok(Scales::Inputs),
        }
    }

    /// Calls `run` with the values.
    fn with<T: bytemuck::Pod + QuantizedElement>(
        &self,
        memory: &Memory,
        inputs: &[Option<Bound>; 2],
        run: impl FnOnce(&[f32], &[i32]),
    ) -> Result<()> {
        match self {
            Scales::Known { scales, zero_points } => run(scales, zero_points),
            Scales::Inputs => {
                let [scales, zero_points] = inputs;
                let scales = scales.as_ref().ok_or_else(|| Error::model("the scale is missing"))?;
                let zero_points: Vec<i32> = zero_points
                    .as_ref()
                    .map(|zero| memory.read::<T>(zero.operand).iter().map(|&zero| zero.to_i32()).collect())
                    .unwrap_or_default();
                run(memory.read(scales.operand), &zero_points);
            }
        }
        Ok(())
    }
}

/// How a tensor's elements share scales.
#[derive(Clone, Copy)]
enum Sharing {
    Channels(Channels),
    Blocks(Blocks),
}

impl Sharing {
    fn of(dims: &[usize], scales: usize, axis: i64, block: usize) -> Result<Sharing> {
        let length = dims.iter().product();
        if block == 0 && scales == 1 {
            return Ok(Sharing::Channels(Channels::per_tensor(length)));
        }
        let [outer, axis, inner] = around(dims, normalize_axis(axis, dims.len())?);
        let needed = if block == 0 { axis } else { outer * axis.div_ceil(block) * inner };
        if scales != needed {
            return Err(Error::shape(format!("{scales} scales for {dims:?}, expected {needed}")));
        }
        Ok(if block == 0 {
            Sharing::Channels(Channels { outer, channels: axis, inner })
        } else {
            Sharing::Blocks(Blocks { outer, axis, inner, block })
        })
    }
}

/// What a conversion between reals and integers is bound to.
struct Conversion {
    scales: Scales,
    inputs: [Option<Bound>; 2],
    sharing: Sharing,
}

impl Conversion {
    fn bind(b: &Binding, scales: &Scales, axis: i64, block: usize) -> Result<Conversion> {
        let inputs = [b.optional_input(1), b.optional_input(2)];
        let count = match (scales, &inputs[0]) {
            (Scales::Known { scales, .. }, _) => scales.len(),
            (Scales::Inputs, Some(scale)) => scale.len(),
            (Scales::Inputs, None) => return Err(Error::model("the scale is missing")),
        };
        let sharing = Sharing::of(&b.input(0)?.dims, count, axis, block)?;
        Ok(Conversion { scales: scales.clone(), inputs, sharing })
    }
}

/// The axis that a scheme speaks of, or that the operator does.
fn axis_of(scheme: Option<&QuantScheme>, axis: i64) -> i64 {
    scheme.and_then(QuantScheme::axis).map_or(axis, |axis| axis as i64)
}

pub(super) fn quantize(view: &NodeView, op: &QuantizeLinear) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    match view.output_type(0)?.storage() {
        ElementType::U8 => quantize_to::<u8>(view, op),
        ElementType::I8 => quantize_to::<i8>(view, op),
        ElementType::U16 => quantize_to::<u16>(view, op),
        ElementType::I16 => quantize_to::<i16>(view, op),
        other => Err(unsupported_type(other)),
    }
}

fn quantize_to<T: bytemuck::Pod + QuantizedElement>(view: &NodeView, op: &QuantizeLinear) -> Result<Layer> {
    let output = view.node.output(0).map(|id| view.graph.value(id));
    let scheme = output.and_then(|value| value.scheme.as_deref());
    let (scales, axis, block, level) =
        (Scales::of(view, scheme)?, axis_of(scheme, op.axis), op.block_size, view.level);
    Ok(Layer::new("quantize", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        let conversion = Conversion::bind(b, &scales, axis, block)?;
        Ok(Step::parallel(move |memory, part| {
            let (x, y) = (memory.read::<f32>(x), memory.write::<T>(y));
            conversion.scales.with::<T>(memory, &conversion.inputs, |scales, zeros| {
                match conversion.sharing {
                    Sharing::Channels(channels) => {
                        kernels::quantize_linear(level, x, channels, scales, zeros, y, part)
                    }
                    Sharing::Blocks(blocks) => {
                        kernels::quantize_linear_blocked(x, blocks, scales, zeros, y, part)
                    }
                }
            })
        }))
    }))
}

pub(super) fn dequantize(view: &NodeView, op: &DequantizeLinear) -> Result<Layer> {
    if view.output_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.output_type(0)?));
    }
    match view.input_type(0)?.storage() {
        ElementType::U8 => dequantize_from::<u8>(view, op),
        ElementType::I8 => dequantize_from::<i8>(view, op),
        ElementType::U16 => dequantize_from::<u16>(view, op),
        ElementType::I16 => dequantize_from::<i16>(view, op),
        ElementType::I32 => dequantize_from::<i32>(view, op),
        other => Err(unsupported_type(other)),
    }
}

fn dequantize_from<T: bytemuck::Pod + QuantizedElement>(
    view: &NodeView,
    op: &DequantizeLinear,
) -> Result<Layer> {
    let scheme = view.node.input(0).and_then(|id| view.graph.value(id).scheme.as_deref());
    let (scales, axis, block, level) =
        (Scales::of(view, scheme)?, axis_of(scheme, op.axis), op.block_size, view.level);
    Ok(Layer::new("dequantize", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        let conversion = Conversion::bind(b, &scales, axis, block)?;
        Ok(Step::parallel(move |memory, part| {
            let (x, y) = (memory.read::<T>(x), memory.write::<f32>(y));
            conversion.scales.with::<T>(memory, &conversion.inputs, |scales, zeros| {
                match conversion.sharing {
                    Sharing::Channels(channels) => {
                        kernels::dequantize_linear(level, x, channels, scales, zeros, y, part)
                    }
                    Sharing::Blocks(blocks) => {
                        kernels::dequantize_linear_blocked(x, blocks, scales, zeros, y, part)
                    }
                }
            })
        }))
    }))
}

pub(super) fn dynamic_quantize(view: &NodeView) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let level = view.level;
    Ok(Layer::new("dynamic quantize", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        let (scale, zero) = (b.optional_output(1), b.optional_output(2));
        Ok(Step::parallel(move |memory, part| {
            // Every part looks at all of x: cheaper than to wait for the others.
            let x = memory.read::<f32>(x);
            let (step, zero_point) = kernels::dynamic_range(level, x);
            let (y, channels) = (memory.write::<u8>(y), Channels::per_tensor(x.len()));
            kernels::quantize_linear(level, x, channels, &[step], &[i32::from(zero_point)], y, part);
            if part.index == 0 {
                for (output, value) in [(&scale, &step.to_ne_bytes()[..]), (&zero, &[zero_point])] {
                    if let Some(output) = output {
                        write_bytes(memory.write::<u8>(output.operand), value);
                    }
                }
            }
            Ok(())
        }))
    }))
}

fn write_bytes(to: SharedSlice<u8>, bytes: &[u8]) {
    let copy = optimium_kernels::movement::StridedCopy::new(&[bytes.len()], &[1], &[1], 1);
    copy.run(bytes, 0, to, 0, Part::WHOLE);
}

/// A constant right matrix of bytes.
struct ConstantMatrix {
    dims: Vec<usize>,
    packed: PackedMatrix,
}

impl ConstantMatrix {
    /// Input `index`, packed with the zero points of input `zero_index`.
    fn of(view: &NodeView, index: usize, zero_index: usize) -> Result<ConstantMatrix> {
        let computed = || Error::not_implemented("a right matrix that is computed");
        let tensor = view.constant(index).ok_or_else(computed)?;
        let [leading @ .., k, n] = tensor.dims() else {
            return Err(Error::not_implemented("a right vector"));
        };
        if leading.iter().any(|&dim| dim != 1) {
            return Err(Error::not_implemented("a batch of right matrices"));
        }
        let zero_points: Vec<i32> = match view.constant(zero_index) {
            Some(zero) => zero.to_i64s()?.into_iter().map(|zero| zero as i32).collect(),
            None if view.has_input(zero_index) => return Err(Error::not_implemented("computed zero points")),
            None => Vec::new(),
        };
        if zero_points.len() > 1 && zero_points.len() != *n {
            return Err(Error::model(format!("{} zero points for {n} columns", zero_points.len())));
        }
        let signed = match tensor.element_type().storage() {
            ElementType::I8 => true,
            ElementType::U8 => false,
            other => return Err(unsupported_type(other)),
        };
        let data = tensor.read_bytes()?;
        let weights = Weights {
            data: &data,
            k: *k,
            n: *n,
            row_stride: *n,
            column_stride: 1,
            signed,
            zero_point: &zero_points,
        };
        let dims = vec![*k, *n];
        Ok(ConstantMatrix { dims, packed: PackedMatrix::new(view.level, &weights, view.packing) })
    }
}

pub(super) fn matmul_integer(view: &NodeView) -> Result<Layer> {
    let signed = match view.input_type(0)? {
        ElementType::I8 => true,
        ElementType::U8 => false,
        other => return Err(unsupported_type(other)),
    };
    if view.constant(1).is_none() {
        return computed_integer(view);
    }
    let (matrix, level) = (Arc::new(ConstantMatrix::of(view, 1, 3)?), view.level);
    Ok(Layer::new("integer gemm", move |b| {
        let (a, zero, y) = (b.input(0)?, b.optional_input(2), b.output(0)?);
        let batch = Batch::of(&a.dims, &matrix.dims, false, false)?.merged();
        check_zero_points(zero.as_ref(), batch.m)?;
        let matrix = matrix.clone();
        Ok(Step::parallel(move |memory, part| {
            let zeros = zero_points(memory, zero.as_ref(), signed);
            let activations = Activations {
                data: memory.read(a.operand),
                stride: batch.k,
                signed,
                zero_point: if zeros.len() == 1 { Rows::Same(zeros[0]) } else { Rows::Each(&zeros) },
            };
            let output = Output::I32(memory.write(y.operand));
            kernels::gemm(level, batch.m, &activations, &matrix.packed, &output, batch.n, part);
            Ok(())
        }))
    }))
}

fn check_zero_points(zero: Option<&Bound>, rows: usize) -> Result<()> {
    match zero {
        Some(zero) if zero.len() != 1 && zero.len() != rows => {
            Err(Error::shape(format!("zero points of {:?} for {rows} rows", zero.dims)))
        }
        _ => Ok(()),
    }
}

/// Zero points as integers; one zero where there are none.
pub(super) fn zero_points(memory: &Memory, zero: Option<&Bound>, signed: bool) -> Vec<i32> {
    let Some(zero) = zero else { return vec![0] };
    let value = |&byte: &u8| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    memory.read::<u8>(zero.operand).iter().map(value).collect()
}

/// Both matrices are computed: the plain kernel.
fn computed_integer(view: &NodeView) -> Result<Layer> {
    match (view.input_type(0)?, view.input_type(1)?) {
        (ElementType::U8, ElementType::U8) => computed_integer_of::<u8, u8>(false, false),
        (ElementType::U8, ElementType::I8) => computed_integer_of::<u8, i8>(false, true),
        (ElementType::I8, ElementType::U8) => computed_integer_of::<i8, u8>(true, false),
        (ElementType::I8, ElementType::I8) => computed_integer_of::<i8, i8>(true, true),
        (_, other) => Err(unsupported_type(other)),
    }
}

fn computed_integer_of<A, B>(a_signed: bool, b_signed: bool) -> Result<Layer>
where
    A: bytemuck::Pod + QuantizedElement,
    B: bytemuck::Pod + QuantizedElement,
{
    Ok(Layer::new("general integer product", move |b| {
        let (a, right, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let (a_zero, b_zero) = (b.optional_input(2), b.optional_input(3));
        let batch = Batch::of(&a.dims, &right.dims, false, false)?;
        check_zero_points(a_zero.as_ref(), batch.m)?;
        check_zero_points(b_zero.as_ref(), batch.n)?;
        let (m, k, n) = (batch.m, batch.k, batch.n);
        Ok(Step::parallel(move |memory, part| {
            let (left, right) = (memory.read::<A>(a.operand), memory.read::<B>(right.operand));
            let a_zeros = zero_points(memory, a_zero.as_ref(), a_signed);
            let b_zeros = zero_points(memory, b_zero.as_ref(), b_signed);
            let rows = if a_zeros.len() == 1 { Rows::Same(a_zeros[0]) } else { Rows::Each(&a_zeros) };
            let out = memory.write::<i32>(y.operand);
            for (i, &(of_a, of_b)) in batch.pairs.iter().enumerate() {
                let (left, right) = (&left[of_a * m * k..], &right[of_b * k * n..]);
                let out = out.narrow(i * m * n..(i + 1) * m * n);
                kernels::general::matmul::<A, B>([m, k, n], left, rows, right, &b_zeros, out, part);
            }
            Ok(())
        }))
    }))
}

/// Rows of a below which a product is not divided between workers.
const ROWS_WORTH_DIVIDING: usize = 16;

pub(super) fn dynamic_matmul(view: &NodeView, op: &DynamicQuantizedMatMul) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let (matrix, level) = (Arc::new(ConstantMatrix::of(view, 1, 3)?), view.level);
    let n = matrix.dims[1];
    let scale = view.floats(2)?.ok_or_else(|| Error::not_implemented("scales that are computed"))?;
    if scale.len() != 1 && scale.len() != n {
        return Err(Error::model(format!("{} scales for {n} columns", scale.len())));
    }
    let scale: Arc<[f32]> = if scale.len() == 1 { vec![scale[0]; n].into() } else { scale };
    let epilogue = EpilogueSource::of(view, 4, op.fusion, Some(n))?;
    Ok(Layer::new(format!("dynamic quantized gemm{}", epilogue.describe()), move |b| {
        let (a, y) = (b.input(0)?.operand, b.output(0)?.operand);
        let batch = Batch::of(&b.input(0)?.dims, &matrix.dims, false, false)?.merged();
        let epilogue = epilogue.bind(b, n)?;
        b.need_scratch::<u8>(batch.m * batch.k);
        let product =
            DynamicProduct { level, matrix: matrix.clone(), scale: scale.clone(), m: batch.m, k: batch.k, n };
        let parallel = batch.m >= ROWS_WORTH_DIVIDING;
        let run = move |memory: &Memory, part: Part| {
            let rows = part.range(batch.m);
            if !rows.is_empty() {
                let scratch = memory.scratch(part.index, rows.len() * batch.k);
                let quantized = product.quantize(memory.read(a), rows.clone(), scratch);
                for start in rows.clone().step_by(ROWS_AT_ONCE) {
                    let count = ROWS_AT_ONCE.min(rows.end - start);
                    let epilogue = epilogue.read_from(memory, start);
                    product.run(&quantized, start - rows.start, [start, count], &epilogue, memory.write(y));
                }
            }
            Ok(())
        };
        Ok(if parallel { Step::parallel(run) } else { Step::serial(move |memory| run(memory, Part::WHOLE)) })
    }))
}

/// Rows of a result that are finished while they are near.
const ROWS_AT_ONCE: usize = 48;

/// A product whose left matrix is quantized on the way.
struct DynamicProduct {
    level: Level,
    matrix: Arc<ConstantMatrix>,
    scale: Arc<[f32]>,
    m: usize,
    k: usize,
    n: usize,
}

/// Some rows of the left matrix as bytes.
struct QuantizedRows<'a> {
    bytes: &'a [u8],
    step: f32,
    zero_point: i32,
}

impl DynamicProduct {
    /// Quantizes these rows of `a`.
    fn quantize<'s>(
        &self,
        a: &[f32],
        rows: std::ops::Range<usize>,
        scratch: &'s mut [u8],
    ) -> QuantizedRows<'s> {
        // The range is that of the whole tensor, whatever share of it is multiplied here.
        let (step, zero_point) = kernels::dynamic_range(self.level, &a[..self.m * self.k]);
        let own = &a[rows.start * self.k..rows.end * self.k];
        let (channels, zero_point) = (Channels::per_tensor(own.len()), i32::from(zero_point));
        let bytes = SharedSlice::new(scratch);
        kernels::quantize_linear(self.level, own, channels, &[step], &[zero_point], bytes, Part::WHOLE);
        QuantizedRows { bytes: scratch, step, zero_point }
    }

    /// Computes rows `start..start + count` of the result, the first of which is row `first` of `quantized`.
    fn run(
        &self,
        quantized: &QuantizedRows,
        first: usize,
        [start, count]: [usize; 2],
        epilogue: &optimium_kernels::epilogue::Epilogue,
        y: SharedSlice<f32>,
    ) {
        let (k, n) = (self.k, self.n);
        let activations = Activations {
            data: &quantized.bytes[first * k..][..count * k],
            stride: k,
            signed: false,
            zero_point: Rows::Same(quantized.zero_point),
        };
        let c = y.narrow(start * n..(start + count) * n);
        let output = Output::F32(Dequantize {
            c,
            scale: &self.scale,
            row_scale: Rows::Same(quantized.step),
            bias: epilogue.bias,
            activation: Default::default(),
        });
        kernels::gemm(self.level, count, &activations, &self.matrix.packed, &output, n, Part::WHOLE);
        finish_rows(self.level, epilogue, [count, n], c, n);
    }
}
