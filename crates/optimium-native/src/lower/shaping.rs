//! Copies, transposes, and tensors made of shapes.

use optimium_graph::ops::{ConstantOfShape, Pad, PadMode, Range, Shape, Tile, Transpose};
use optimium_kernels::movement::{self, StridedCopy, contiguous_strides};
use optimium_tensor::{ElementType, Error, Expr, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Bound, Layer, Step};

/// Elements of one tensor as they are: what a view does where it cannot be one.
pub(super) fn copy(view: &NodeView) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let size = view.output_type(0)?.size();
    let layer = Layer::new("copy", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if x.len() != y.len() {
            return Err(Error::shape(format!("{:?} cannot be reshaped to {:?}", x.dims, y.dims)));
        }
        if x.operand == y.operand {
            return Ok(Step::nothing());
        }
        let copy = StridedCopy::new(&x.dims, &x.strides(), &contiguous_strides(&x.dims), size);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            copy.run(memory.read(x), 0, memory.write(y), 0, part);
            Ok(())
        }))
    });
    Ok(layer.reads_columns(&[0]))
}

/// At inference nothing is dropped: the result is the input, the mask all true.
pub(super) fn dropout(view: &NodeView) -> Result<Layer> {
    check_bytes(view.input_type(0)?)?;
    Ok(Layer::new("copy", |b| {
        let (x, y, mask) = (b.input(0)?, b.optional_output(0), b.optional_output(1));
        let copy = StridedCopy::new(&[x.operand.bytes], &[1], &[1], 1);
        let fill = StridedCopy::expand(&[], &[mask.as_ref().map_or(0, |mask| mask.len())], 1);
        Ok(Step::parallel(move |memory, part| {
            if let Some(y) = &y {
                copy.run(memory.read(x.operand), 0, memory.write(y.operand), 0, part);
            }
            if let Some(mask) = &mask {
                fill.run(&[1u8], 0, memory.write(mask.operand), 0, part);
            }
            Ok(())
        }))
    }))
}

/// Refuses types whose elements are not bytes in a row.
pub(super) fn check_bytes(element_type: ElementType) -> Result<()> {
    if element_type.size() == 0 { Err(unsupported_type(element_type)) } else { Ok(()) }
}

pub(super) fn transpose(view: &NodeView, transpose: &Transpose) -> Result<Layer> {
    let size = view.output_type(0)?.size();
    check_bytes(view.output_type(0)?)?;
    let permutation = transpose.permutation.clone();
    let level = view.level;
    Ok(Layer::new(format!("transpose {permutation:?}"), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let transpose = movement::Transpose::new(&x.dims, &permutation, size).with_level(level);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            transpose.run(memory.read(x), memory.write(y), part);
            Ok(())
        }))
    }))
}

pub(super) fn expand(view: &NodeView) -> Result<Layer> {
    let size = view.output_type(0)?.size();
    check_bytes(view.output_type(0)?)?;
    Ok(Layer::new("expand", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if optimium_kernels::elementwise::broadcast_strides(&x.dims, &y.dims).is_none() {
            return Err(Error::shape(format!("{:?} cannot be broadcast to {:?}", x.dims, y.dims)));
        }
        let copy = StridedCopy::expand(&x.dims, &y.dims, size);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            copy.run(memory.read(x), 0, memory.write(y), 0, part);
            Ok(())
        }))
    }))
}

pub(super) fn tile(view: &NodeView, tile: &Tile) -> Result<Layer> {
    let size = view.output_type(0)?.size();
    check_bytes(view.output_type(0)?)?;
    let repeats = tile.repeats.clone().ok_or_else(|| Error::not_implemented("repeats that data decide"))?;
    Ok(Layer::new("tile", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let repeats = repeats.iter().map(|n| b.evaluate_size(n)).collect::<Result<Vec<_>>>()?;
        let copy = StridedCopy::tile(&x.dims, &repeats, size);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            copy.run(memory.read(x), 0, memory.write(y), 0, part);
            Ok(())
        }))
    }))
}

pub(super) fn pad(view: &NodeView, pad: &Pad) -> Result<Layer> {
    let size = view.output_type(0)?.size();
    check_bytes(view.output_type(0)?)?;
    let pads = pad.pads.clone().ok_or_else(|| Error::not_implemented("pads that data decide"))?;
    let mode = match pad.mode {
        PadMode::Constant => movement::PadMode::Constant,
        PadMode::Reflect => movement::PadMode::Reflect,
        PadMode::Edge => movement::PadMode::Edge,
        PadMode::Wrap => movement::PadMode::Wrap,
    };
    let columns = pads_columns(pad);
    let layer = Layer::new("pad", move |b| {
        let (x, y, value) = (b.input(0)?, b.output(0)?, b.optional_input(2));
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        for (axis, (before, after)) in pads.iter().enumerate() {
            let (before, after) = (b.evaluate(before)? as isize, b.evaluate(after)? as isize);
            let fits =
                usize::try_from(x.dims[axis] as i128 + before as i128 + after as i128) == Ok(y.dims[axis]);
            let empty = x.dims[axis] == 0 && y.dims[axis] > 0 && mode != movement::PadMode::Constant;
            if !fits || empty {
                return Err(Error::shape(format!(
                    "pads {before} and {after} do not fit axis {axis} of {:?}",
                    x.dims
                )));
            }
            begin.push(before);
            end.push(after);
        }
        if columns {
            return Ok(pad_columns(&x, &y, begin.last().map_or(0, |&begin| begin as usize), value));
        }
        let pad = movement::Pad::new(&x.dims, &begin, &end, mode, size);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let zero = [0u8; 8];
            let value = value.as_ref().map_or(&zero[..size], |value| memory.read(value.operand));
            pad.run(memory.read(x), value, memory.write(y), part);
            Ok(())
        }))
    });
    Ok(if columns { layer.reads_columns(&[0]).interleaves(&[0]) } else { layer })
}

/// Whether a pad puts a constant beside the rows of the last axis and nothing else.
fn pads_columns(pad: &Pad) -> bool {
    let Some((last, others)) = pad.pads.as_deref().and_then(<[_]>::split_last) else { return false };
    let is_zero = |expr: &Expr| expr.as_const() == Some(0);
    let grows = |expr: &Expr| expr.as_const().is_some_and(|n| n >= 0);
    pad.mode == PadMode::Constant
        && grows(&last.0)
        && grows(&last.1)
        && others.iter().all(|(before, after)| is_zero(before) && is_zero(after))
}

/// Fills the columns before and behind those of `x`, which begin at `first`, and copies `x` where it does not lie there already.
fn pad_columns(x: &Bound, y: &Bound, first: usize, value: Option<Bound>) -> Step {
    let size = x.element_type.size();
    let (length, row) = (x.dims.last().copied().unwrap_or(1), y.dims.last().copied().unwrap_or(1));
    let there = x.operand.base == y.operand.base
        && x.operand.offset == y.operand.offset + first * size
        && x.row_stride == y.row_stride;
    let fill = |first: usize, count: usize| {
        let mut dims = y.dims.clone();
        dims.iter_mut().next_back().into_iter().for_each(|last| *last = count);
        (StridedCopy::new(&dims, &vec![0; dims.len()], &y.strides(), size), first)
    };
    let fills = [fill(0, first), fill(first + length, row - first - length)];
    let copy = (!there).then(|| StridedCopy::new(&x.dims, &x.strides(), &y.strides(), size));
    let (x, y) = (x.operand, y.operand);
    Step::parallel(move |memory, part| {
        let zero = [0u8; 8];
        let value = value.as_ref().map_or(&zero[..size], |value| memory.read(value.operand));
        for (fill, first) in &fills {
            fill.run(value, 0, memory.write(y), *first, part);
        }
        if let Some(copy) = &copy {
            copy.run_between(memory.read_columns(x), 0, memory.write(y), first, part);
        }
        Ok(())
    })
}

pub(super) fn shape(view: &NodeView, shape: &Shape) -> Result<Layer> {
    let rank = view.input_shape(0)?.rank() as i64;
    let clamp = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (clamp(shape.start), shape.end.map_or(rank as usize, clamp));
    Ok(Layer::new("shape", move |b| {
        let dims: Vec<i64> = b.input(0)?.dims[start..end.max(start)].iter().map(|&n| n as i64).collect();
        write_i64s(b.output(0)?.operand, dims)
    }))
}

pub(super) fn size(_view: &NodeView) -> Result<Layer> {
    Ok(Layer::new("size", |b| write_i64s(b.output(0)?.operand, vec![b.input(0)?.len() as i64])))
}

/// A step that writes numbers which are known when it is bound.
fn write_i64s(y: crate::memory::Operand, values: Vec<i64>) -> Result<Step> {
    Ok(Step::parallel(move |memory, part| {
        let copy = StridedCopy::new(&[values.len()], &[1], &[1], size_of::<i64>());
        copy.run(bytemuck::cast_slice(&values), 0, memory.write(y), 0, part);
        Ok(())
    }))
}

pub(super) fn range(view: &NodeView, range: &Range) -> Result<Layer> {
    let element_type = view.output_type(0)?;
    let bounds = range.bounds.clone();
    macro_rules! of {
        ($T:ty) => {
            Ok(Layer::new("range", move |b| {
                let y = b.output(0)?.operand;
                let known = match &bounds {
                    Some([start, _, delta]) => Some((b.evaluate(start)?, b.evaluate(delta)?)),
                    None => None,
                };
                let (start, delta) = (b.optional_input(0), b.optional_input(2));
                Ok(Step::parallel(move |memory, part| {
                    let first = |x: &Option<crate::layer::Bound>| -> Result<$T> {
                        let x = x.as_ref().ok_or_else(|| Error::model("a bound is missing"))?;
                        memory
                            .read::<$T>(x.operand)
                            .first()
                            .copied()
                            .ok_or_else(|| Error::infer("a bound is empty"))
                    };
                    let (start, delta) = match known {
                        Some((start, delta)) => (start as $T, delta as $T),
                        None => (first(&start)?, first(&delta)?),
                    };
                    movement::range::<$T>(start, delta, memory.write(y), part);
                    Ok(())
                }))
            }))
        };
    }
    match element_type.storage() {
        ElementType::F32 => of!(f32),
        ElementType::F64 => of!(f64),
        ElementType::I16 => of!(i16),
        ElementType::I32 => of!(i32),
        ElementType::I64 => of!(i64),
        other => Err(unsupported_type(other)),
    }
}

pub(super) fn constant_of_shape(view: &NodeView, constant: &ConstantOfShape) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let size = constant.element_type.size();
    if constant.value.len() != size {
        return Err(Error::model(format!("a value of {} bytes, expected {size}", constant.value.len())));
    }
    let value = constant.value.clone();
    Ok(Layer::new("fill", move |b| {
        let y = b.output(0)?;
        let copy = StridedCopy::expand(&[], &y.dims, size);
        let (value, y) = (value.clone(), y.operand);
        Ok(Step::parallel(move |memory, part| {
            copy.run(&value, 0, memory.write(y), 0, part);
            Ok(())
        }))
    }))
}
