//! Functions of corresponding elements.

use half::{bf16, f16};
use optimium_graph::ops::{Activation, Binary, Comparison, Unary};
use optimium_kernels::elementwise::{self as kernels, Broadcast, ElementKind, Source, broadcast_strides};
use optimium_kernels::{Part, SharedSlice};
use optimium_tensor::{ElementType, Error, Result};

use super::epilogue::kernel_activation;
use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};
use crate::memory::{Memory, Operand};

/// Evaluates `$body` with `$T` as the Rust type of an integer element type.
macro_rules! with_integer {
    ($element_type:expr, $T:ident => $body:expr) => {
        match $element_type.storage() {
            ElementType::I8 => {
                type $T = i8;
                $body
            }
            ElementType::U8 => {
                type $T = u8;
                $body
            }
            ElementType::I16 => {
                type $T = i16;
                $body
            }
            ElementType::U16 => {
                type $T = u16;
                $body
            }
            ElementType::I32 => {
                type $T = i32;
                $body
            }
            ElementType::U32 => {
                type $T = u32;
                $body
            }
            ElementType::I64 => {
                type $T = i64;
                $body
            }
            ElementType::U64 => {
                type $T = u64;
                $body
            }
            other => return Err(unsupported_type(other)),
        }
    };
}
/// As `with_integer`, for floating-point numbers too.
macro_rules! with_number {
    ($element_type:expr, $T:ident => $body:expr) => {
        match $element_type.storage() {
            ElementType::F32 => {
                type $T = f32;
                $body
            }
            ElementType::F64 => {
                type $T = f64;
                $body
            }
            integer => with_integer!(integer, $T => $body),
        }
    };
}
/// As `with_number`, for plain bytes of the element's size.
macro_rules! with_bytes {
    ($size:expr, $T:ident => $body:expr) => {
        match $size {
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            8 => {
                type $T = u64;
                $body
            }
            size => return Err(Error::not_implemented(format!("elements of {size} bytes"))),
        }
    };
}
pub(super) use {with_bytes, with_integer, with_number};

/// The elements of `x` for a kernel that writes `y`, which may lie in the same memory.
pub(super) fn source<'a, T: bytemuck::Pod, U>(
    memory: &Memory<'a>,
    x: Operand,
    y: Operand,
    out: SharedSlice<'a, U>,
) -> Source<'a, T>
where
    U: bytemuck::Pod,
{
    debug_assert!(out.len() * size_of::<U>() == y.bytes);
    if x == y { memory.write(x).into() } else { memory.read(x).into() }
}

/// How two operands are broadcast to an output.
fn broadcast(a: &Bound, b: &Bound, y: &Bound) -> Result<Broadcast> {
    Ok(Broadcast::new(&y.dims, &strides(a, y)?, &strides(b, y)?))
}

fn strides(x: &Bound, y: &Bound) -> Result<Vec<usize>> {
    let mut strides = broadcast_strides(&x.dims, &y.dims)
        .ok_or_else(|| Error::shape(format!("{:?} cannot be broadcast to {:?}", x.dims, y.dims)))?;
    let missing = strides.len() - x.dims.len();
    for (stride, own) in strides[missing..].iter_mut().zip(x.strides()).filter(|(stride, _)| **stride != 0) {
        *stride = own as usize;
    }
    Ok(strides)
}

/// A step of one operand, element by element.
fn map_step<T: bytemuck::Pod, U: bytemuck::Pod>(
    binding: &Binding,
    run: impl Fn(Source<'_, T>, SharedSlice<'_, U>, Part) + Send + Sync + 'static,
) -> Result<Step> {
    let (x, y) = (binding.input(0)?.operand, binding.output(0)?.operand);
    Ok(Step::parallel(move |memory, part| {
        let out = memory.write::<U>(y);
        run(source(memory, x, y, out), out, part);
        Ok(())
    }))
}

/// A step of two operands, broadcast.
fn zip_step<T: bytemuck::Pod, U: bytemuck::Pod>(
    binding: &Binding,
    run: impl Fn(&Broadcast, Source<'_, T>, Source<'_, T>, SharedSlice<'_, U>, Part) + Send + Sync + 'static,
) -> Result<Step> {
    let (a, b, y) = (binding.input(0)?, binding.input(1)?, binding.output(0)?);
    let broadcast = broadcast(&a, &b, &y)?;
    let (a, b, y) = (a.operand, b.operand, y.operand);
    Ok(Step::parallel(move |memory, part| {
        let out = memory.write::<U>(y);
        run(&broadcast, source(memory, a, y, out), source(memory, b, y, out), out, part);
        Ok(())
    }))
}

pub(super) fn unary(view: &NodeView, function: Unary) -> Result<Layer> {
    let element_type = view.input_type(0)?;
    let name = function.name().to_lowercase();
    let layer = match function {
        Unary::Not => {
            Layer::new(name, |b| map_step::<u8, u8>(b, |x, y, part| kernels::logical_not(x, y, part)))
        }
        Unary::BitwiseNot => {
            with_integer!(element_type, T => Layer::new(name, |b| map_step::<T, T>(b, |x, y, part| kernels::bitwise_not(x, y, part))))
        }
        Unary::IsNan | Unary::IsInf => return predicate(element_type, function),
        Unary::Square => return binary_of_one(element_type, kernels::Binary::Mul),
        Unary::Rsqrt => return inverse_root(view),
        Unary::Softsign => return softsign(view),
        _ => arithmetic(view, function, element_type)?,
    };
    Ok(layer.in_place(&[0]))
}

fn arithmetic(view: &NodeView, function: Unary, element_type: ElementType) -> Result<Layer> {
    let (op, level) = (kernel_unary(function)?, view.level);
    let name = function.name().to_lowercase();
    Ok(match element_type.storage() {
        ElementType::F32 => Layer::new(name, move |b| {
            map_step::<f32, f32>(b, move |x, y, part| kernels::unary_f32(level, op, x, y, part))
        }),
        ElementType::F64 => Layer::new(name, move |b| {
            map_step::<f64, f64>(b, move |x, y, part| kernels::unary_f64(op, x, y, part))
        }),
        integer => with_integer!(integer, T => Layer::new(name, move |b| {
            map_step::<T, T>(b, move |x, y, part| kernels::unary_integer(op, x, y, part))
        })),
    })
}

fn kernel_unary(function: Unary) -> Result<kernels::Unary> {
    use kernels::Unary as Kernel;
    Ok(match function {
        Unary::Abs => Kernel::Abs,
        Unary::Neg => Kernel::Neg,
        Unary::Exp => Kernel::Exp,
        Unary::Log => Kernel::Log,
        Unary::Sqrt => Kernel::Sqrt,
        Unary::Reciprocal => Kernel::Reciprocal,
        Unary::Floor => Kernel::Floor,
        Unary::Ceil => Kernel::Ceil,
        Unary::Round => Kernel::Round,
        Unary::Sign => Kernel::Sign,
        Unary::Erf => Kernel::Erf,
        Unary::Sin => Kernel::Sin,
        Unary::Cos => Kernel::Cos,
        Unary::Tan => Kernel::Tan,
        Unary::Asin => Kernel::Asin,
        Unary::Acos => Kernel::Acos,
        Unary::Atan => Kernel::Atan,
        Unary::Sinh => Kernel::Sinh,
        Unary::Cosh => Kernel::Cosh,
        Unary::Asinh => Kernel::Asinh,
        Unary::Acosh => Kernel::Acosh,
        Unary::Atanh => Kernel::Atanh,
        other => return Err(Error::not_implemented(format!("{} has no kernel of its own", other.name()))),
    })
}

fn predicate(element_type: ElementType, function: Unary) -> Result<Layer> {
    with_number!(element_type, T => Ok(Layer::new(function.name().to_lowercase(), move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            let (x, y) = (memory.read::<T>(x), memory.write(y));
            match function {
                Unary::IsNan => kernels::is_nan(x, y, part),
                _ => kernels::is_infinite(x, true, true, y, part),
            }
            Ok(())
        }))
    })))
}

/// `op(x, x)`
fn binary_of_one(element_type: ElementType, op: kernels::Binary) -> Result<Layer> {
    with_number!(element_type, T => Ok(Layer::new("square", move |b| {
        let whole = b.output(0)?;
        let broadcast = broadcast(&whole, &whole, &whole)?;
        map_step::<T, T>(b, move |x, y, part| kernels::binary(op, &broadcast, x, x, y, part))
    })
    .in_place(&[0])))
}

fn inverse_root(view: &NodeView) -> Result<Layer> {
    let level = view.level;
    match view.input_type(0)?.storage() {
        ElementType::F32 => Ok(Layer::new("rsqrt", move |b| {
            map_step::<f32, f32>(b, move |x, y, part| {
                kernels::unary_f32(level, kernels::Unary::Sqrt, x, y, part);
                kernels::unary_f32(level, kernels::Unary::Reciprocal, y, y, part);
            })
        })
        .in_place(&[0])),
        ElementType::F64 => Ok(Layer::new("rsqrt", |b| {
            map_step::<f64, f64>(b, |x, y, part| {
                kernels::unary_f64(kernels::Unary::Sqrt, x, y, part);
                kernels::unary_f64(kernels::Unary::Reciprocal, y, y, part);
            })
        })
        .in_place(&[0])),
        other => Err(unsupported_type(other)),
    }
}

/// `x / (1 + |x|)`
fn softsign(view: &NodeView) -> Result<Layer> {
    let level = view.level;
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    Ok(Layer::new("softsign", move |b| {
        let whole = b.output(0)?;
        let one = Bound { dims: vec![], ..whole.clone() };
        let (plus_one, ratio) = (broadcast(&whole, &one, &whole)?, broadcast(&whole, &whole, &whole)?);
        map_step::<f32, f32>(b, move |x, y, part| {
            kernels::unary_f32(level, kernels::Unary::Abs, x, y, part);
            kernels::binary_f32(level, kernels::Binary::Add, &plus_one, y, &[1.0][..], y, part);
            kernels::binary_f32(level, kernels::Binary::Div, &ratio, x, y, y, part);
        })
    }))
}

pub(super) fn activation(view: &NodeView, function: Activation) -> Result<Layer> {
    if function == Activation::PRelu {
        return binary(view, Binary::PRelu);
    }
    let (activation, level) = (kernel_activation(function), view.level);
    let element_type = view.input_type(0)?;
    match (element_type.storage(), function) {
        (ElementType::F32, _) => Ok(Layer::new(function.name().to_lowercase(), move |b| {
            map_step::<f32, f32>(b, move |x, y, part| {
                optimium_kernels::activation::activate(level, activation, x, y, part)
            })
        })
        .in_place(&[0])),
        (_, Activation::Relu) => clamp(element_type, Some(0.0), None),
        (_, Activation::Clip { low, high }) => clamp(element_type, low, high),
        (other, _) => Err(unsupported_type(other)),
    }
}

/// Bounds that are constants, for numbers other than `f32`.
fn clamp(element_type: ElementType, low: Option<f32>, high: Option<f32>) -> Result<Layer> {
    use kernels::Number;
    with_number!(element_type, T => Ok(Layer::new("clip", move |b| {
        let whole = b.output(0)?;
        let bound = broadcast(&whole, &Bound { dims: vec![], ..whole.clone() }, &whole)?;
        let low = [low.map_or(<T as Number>::LOWEST, |low| <T as Number>::from_f64(low.into()))];
        let high = [high.map_or(<T as Number>::HIGHEST, |high| <T as Number>::from_f64(high.into()))];
        map_step::<T, T>(b, move |x, y, part| {
            kernels::binary(kernels::Binary::Max, &bound, x, &low[..], y, part);
            kernels::binary(kernels::Binary::Min, &bound, y, &high[..], y, part);
        })
    })
    .in_place(&[0])))
}

pub(super) fn binary(view: &NodeView, function: Binary) -> Result<Layer> {
    let (element_type, other) = (view.input_type(0)?, view.input_type(1)?);
    if element_type.storage() != other.storage() {
        return Err(Error::not_implemented(format!("element types {element_type} and {other}")));
    }
    let name = function.name().to_lowercase();
    let level = view.level;
    let layer = match function {
        Binary::And | Binary::Or | Binary::Xor => {
            let op = match function {
                Binary::And => kernels::Logical::And,
                Binary::Or => kernels::Logical::Or,
                _ => kernels::Logical::Xor,
            };
            Layer::new(name, move |b| {
                zip_step::<u8, u8>(b, move |broadcast, x, z, y, part| {
                    kernels::logical(op, broadcast, x, z, y, part)
                })
            })
        }
        Binary::BitwiseAnd
        | Binary::BitwiseOr
        | Binary::BitwiseXor
        | Binary::ShiftLeft
        | Binary::ShiftRight => {
            let op = match function {
                Binary::BitwiseAnd => kernels::Bitwise::And,
                Binary::BitwiseOr => kernels::Bitwise::Or,
                Binary::BitwiseXor => kernels::Bitwise::Xor,
                Binary::ShiftLeft => kernels::Bitwise::ShiftLeft,
                _ => kernels::Bitwise::ShiftRight,
            };
            with_integer!(element_type, T => Layer::new(name, move |b| {
                zip_step::<T, T>(b, move |broadcast, x, z, y, part| kernels::bitwise(op, broadcast, x, z, y, part))
            }))
        }
        _ => {
            let op = kernel_binary(function)?;
            match element_type.storage() {
                ElementType::F32 => Layer::new(name, move |b| {
                    zip_step::<f32, f32>(b, move |broadcast, x, z, y, part| {
                        kernels::binary_f32(level, op, broadcast, x, z, y, part)
                    })
                }),
                other => with_number!(other, T => Layer::new(name, move |b| {
                    zip_step::<T, T>(b, move |broadcast, x, z, y, part| kernels::binary(op, broadcast, x, z, y, part))
                })),
            }
        }
    };
    Ok(layer.in_place(&[0, 1]).reads_columns(&[0, 1]))
}

fn kernel_binary(function: Binary) -> Result<kernels::Binary> {
    use kernels::Binary as Kernel;
    Ok(match function {
        Binary::Add => Kernel::Add,
        Binary::Sub => Kernel::Sub,
        Binary::Mul => Kernel::Mul,
        Binary::Div => Kernel::Div,
        Binary::Pow => Kernel::Pow,
        Binary::Min => Kernel::Min,
        Binary::Max => Kernel::Max,
        Binary::Mod => Kernel::Mod,
        Binary::Fmod => Kernel::Fmod,
        Binary::SquaredDifference => Kernel::SquaredDifference,
        Binary::PRelu => Kernel::PRelu,
        other => return Err(Error::not_implemented(format!("{} has no kernel of its own", other.name()))),
    })
}

pub(super) fn comparison(view: &NodeView, function: Comparison) -> Result<Layer> {
    let op = match function {
        Comparison::Equal => kernels::Comparison::Equal,
        Comparison::Less => kernels::Comparison::Less,
        Comparison::LessOrEqual => kernels::Comparison::LessOrEqual,
        Comparison::Greater => kernels::Comparison::Greater,
        Comparison::GreaterOrEqual => kernels::Comparison::GreaterOrEqual,
    };
    let element_type = view.input_type(0)?;
    let comparable = if element_type == ElementType::Bool { ElementType::U8 } else { element_type };
    with_number!(comparable, T => Ok(Layer::new(function.name().to_lowercase(), move |b| {
        zip_step::<T, u8>(b, move |broadcast, x, z, y, part| kernels::compare(op, broadcast, x, z, y, part))
    })))
}

/// Clip whose bounds are tensors.
pub(super) fn clip(view: &NodeView) -> Result<Layer> {
    let element_type = view.input_type(0)?;
    with_number!(element_type, T => Ok(Layer::new("clip", |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?);
        let bound = broadcast(&y, &Bound { dims: vec![], ..y.clone() }, &y)?;
        let (low, high) = (b.optional_input(1), b.optional_input(2));
        if let Some(wrong) = [&low, &high].into_iter().flatten().find(|bound| bound.len() != 1) {
            return Err(Error::shape(format!("a bound has the shape {:?}, expected one element", wrong.dims)));
        }
        let (low, high, y) = (low.map(|low| low.operand), high.map(|high| high.operand), y.operand);
        Ok(Step::parallel(move |memory, part| {
            let out = memory.write::<T>(y);
            let mut from: Source<'_, T> = source(memory, x, y, out);
            let lowest = [<T as kernels::Number>::LOWEST];
            let low = low.map_or(&lowest[..], |low| memory.read(low));
            kernels::binary(kernels::Binary::Max, &bound, from, low, out, part);
            from = out.into();
            if let Some(high) = high {
                kernels::binary(kernels::Binary::Min, &bound, from, memory.read::<T>(high), out, part);
            }
            Ok(())
        }))
    })
    .in_place(&[0])))
}

pub(super) fn select(view: &NodeView) -> Result<Layer> {
    with_bytes!(view.output_type(0)?.size(), T => Ok(Layer::new("where", |b| {
        let (condition, on, off, y) = (b.input(0)?, b.input(1)?, b.input(2)?, b.output(0)?);
        let (c, p, q) = (strides(&condition, &y)?, strides(&on, &y)?, strides(&off, &y)?);
        let broadcast = Broadcast::of(&y.dims, [&c[..], &p, &q]);
        let (condition, on, off, y) = (condition.operand, on.operand, off.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let out = memory.write::<T>(y);
            let (on, off) = (source(memory, on, y, out), source(memory, off, y, out));
            kernels::select::<T>(&broadcast, memory.read::<u8>(condition), on, off, out, part);
            Ok(())
        }))
    })
    .in_place(&[1, 2])))
}

pub(super) fn cast(view: &NodeView) -> Result<Layer> {
    let (from, to) = (element_kind(view.input_type(0)?)?, element_kind(view.output_type(0)?)?);
    let level = view.level;
    Ok(Layer::new("cast", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            kernels::cast(level, from, memory.read(x), to, memory.write(y), part);
            Ok(())
        }))
    }))
}

fn element_kind(element_type: ElementType) -> Result<ElementKind> {
    debug_assert!(size_of::<f16>() == 2 && size_of::<bf16>() == 2);
    Ok(match element_type.storage() {
        ElementType::Bool => ElementKind::Bool,
        ElementType::U8 => ElementKind::U8,
        ElementType::I8 => ElementKind::I8,
        ElementType::U16 => ElementKind::U16,
        ElementType::I16 => ElementKind::I16,
        ElementType::U32 => ElementKind::U32,
        ElementType::I32 => ElementKind::I32,
        ElementType::U64 => ElementKind::U64,
        ElementType::I64 => ElementKind::I64,
        ElementType::F16 => ElementKind::F16,
        ElementType::BF16 => ElementKind::Bf16,
        ElementType::F32 => ElementKind::F32,
        ElementType::F64 => ElementKind::F64,
        other => return Err(unsupported_type(other)),
    })
}
