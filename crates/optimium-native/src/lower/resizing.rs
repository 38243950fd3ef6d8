//! Resampling.

use std::sync::Arc;

use optimium_graph::ops::{CoordinateMode, NearestMode, Resize, ResizeMode};
use optimium_kernels::Part;
use optimium_kernels::resize::{self, Coordinates, Mode, ResizeOptions};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Expr, Result, TensorShape};

use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};
use crate::memory::{Memory, Operand};

fn options(op: &Resize) -> ResizeOptions {
    let (mode, nearest_mode, cubic_coefficient) = match op.mode {
        ResizeMode::Nearest(nearest) => {
            let nearest = match nearest {
                NearestMode::RoundPreferFloor => resize::NearestMode::RoundPreferFloor,
                NearestMode::RoundPreferCeil => resize::NearestMode::RoundPreferCeil,
                NearestMode::Floor => resize::NearestMode::Floor,
                NearestMode::Ceil => resize::NearestMode::Ceil,
            };
            (Mode::Nearest, nearest, -0.75)
        }
        ResizeMode::Linear => (Mode::Linear, resize::NearestMode::default(), -0.75),
        ResizeMode::Cubic(coefficient) => (Mode::Cubic, resize::NearestMode::default(), coefficient),
    };
    let coordinates = match op.coordinates {
        CoordinateMode::HalfPixel => Coordinates::HalfPixel,
        CoordinateMode::HalfPixelSymmetric => Coordinates::HalfPixelSymmetric,
        CoordinateMode::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        CoordinateMode::AlignCorners => Coordinates::AlignCorners,
        CoordinateMode::Asymmetric => Coordinates::Asymmetric,
        CoordinateMode::TfHalfPixelForNn => Coordinates::TfHalfPixelForNn,
        CoordinateMode::TfCropAndResize => Coordinates::TfCropAndResize,
    };
    ResizeOptions {
        mode,
        nearest_mode,
        coordinates,
        cubic_coefficient,
        exclude_outside: op.exclude_outside,
        antialias: op.antialias,
        extrapolation_value: op.extrapolation_value,
    }
}

/// Values for some axes as values for all.
fn spread(values: &[f32], op: &Resize, rank: usize, missing: f32) -> Result<Vec<f32>> {
    let mut all = vec![missing; rank];
    match &op.axes {
        None if values.len() == rank => all.copy_from_slice(values),
        Some(axes) if values.len() == axes.len() => {
            for (&axis, &value) in axes.iter().zip(values) {
                all[normalize_axis(axis, rank)?] = value;
            }
        }
        _ => return Err(Error::model(format!("{} values for {rank} axes", values.len()))),
    }
    Ok(all)
}

/// Numbers that the model gives, or data.
#[derive(Clone)]
enum Numbers {
    None,
    Known(Arc<[f32]>),
    Input(usize),
}

impl Numbers {
    fn of(view: &NodeView, index: usize) -> Result<Numbers> {
        Ok(match view.floats(index)? {
            Some(values) if values.is_empty() => Numbers::None,
            Some(values) => Numbers::Known(values),
            None if view.has_input(index) => Numbers::Input(index),
            None => Numbers::None,
        })
    }

    fn bind(&self, b: &Binding) -> Result<BoundNumbers> {
        Ok(match self {
            Numbers::None => BoundNumbers::Known([].into()),
            Numbers::Known(values) => BoundNumbers::Known(values.clone()),
            Numbers::Input(index) => BoundNumbers::Input(b.input(*index)?.operand),
        })
    }
}

/// The same with their place.
enum BoundNumbers {
    Known(Arc<[f32]>),
    Input(Operand),
}

impl BoundNumbers {
    fn read<'a>(&'a self, memory: Option<&Memory<'a>>) -> Option<&'a [f32]> {
        match self {
            BoundNumbers::Known(values) => Some(values),
            BoundNumbers::Input(operand) => memory.map(|memory| memory.read(*operand)),
        }
    }
}

/// What is resized to what.
struct Request {
    level: Level,
    op: Resize,
    x: Bound,
    y: Bound,
    scales: BoundNumbers,
    regions: BoundNumbers,
}

impl Request {
    /// The tables, or none where their numbers are not known before `memory` is.
    fn tables(&self, memory: Option<&Memory>) -> Result<Option<resize::Resize>> {
        let (Some(scales), Some(regions)) = (self.scales.read(memory), self.regions.read(memory)) else {
            return Ok(None);
        };
        let (x, y, rank) = (&self.x.dims, &self.y.dims, self.x.dims.len());
        let scales = if scales.is_empty() {
            (0..rank).map(|axis| y[axis] as f32 / x[axis].max(1) as f32).collect()
        } else {
            spread(scales, &self.op, rank, 1.0)?
        };
        if scales.iter().any(|scale| !scale.is_finite() || *scale < 0.0) {
            return Err(Error::infer(format!("impossible scales {scales:?}")));
        }
        let regions = if self.op.coordinates == CoordinateMode::TfCropAndResize {
            let (begin, end) = regions.split_at(regions.len() / 2);
            let (begin, end) = (spread(begin, &self.op, rank, 0.0)?, spread(end, &self.op, rank, 1.0)?);
            Some(begin.into_iter().zip(end).collect::<Vec<_>>())
        } else {
            None
        };
        let options = options(&self.op);
        let resize = resize::Resize::new(self.level, &options, x, y, &scales, regions.as_deref());
        let keeps_channels = x.last() == y.last() && x.last() == Some(&resize.pixel());
        Ok(Some(if keeps_channels {
            resize.with_strides(self.x.row_stride, self.y.row_stride)
        } else {
            resize
        }))
    }
}

pub(super) fn resize(view: &NodeView, op: &Resize) -> Result<Layer> {
    let rank = view.input_shape(0)?.rank();
    let (scales, regions) = (Numbers::of(view, 2)?, Numbers::of(view, 1)?);
    let crops = op.coordinates == CoordinateMode::TfCropAndResize;
    let regions = if crops { regions } else { Numbers::None };
    if crops && matches!(regions, Numbers::None) {
        return Err(Error::model("the region of interest is missing"));
    }
    let (level, op, element_type) = (view.level, op.clone(), view.input_type(0)?);
    let (size, mode) = (element_type.size(), options(&op).mode);
    if size == 0 || !(mode == Mode::Nearest || element_type.storage() == ElementType::F32) {
        return Err(unsupported_type(element_type));
    }
    let columns = !crops && keeps_channels(view, &scales, &op)?;
    let layer = Layer::new(format!("resize {mode:?}").to_lowercase(), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if (0..rank).any(|axis| x.dims[axis] == 0 && y.dims[axis] > 0) {
            return Err(Error::shape(format!("an empty axis of {:?} cannot grow to {:?}", x.dims, y.dims)));
        }
        let float = element_type.storage() == ElementType::F32;
        let outside = if float { op.extrapolation_value.to_ne_bytes().to_vec() } else { vec![0; size] };
        let run = move |resize: &resize::Resize, [x, y]: [Operand; 2], memory: &Memory, part: Part| {
            if mode == Mode::Nearest {
                resize.run_bytes(memory.read(x), &outside, size, memory.write(y), part);
            } else {
                resize.run(memory.read(x), memory.write(y), part);
            }
        };
        let operands = [x.operand, y.operand];
        let (scales, regions) = (scales.bind(b)?, regions.bind(b)?);
        let request = Request { level, op: op.clone(), x, y, scales, regions };
        Ok(match request.tables(None)? {
            Some(tables) => Step::parallel(move |memory, part| {
                run(&tables, operands, memory, part);
                Ok(())
            }),
            None => Step::parallel(move |memory, part| {
                let tables = request.tables(Some(memory))?;
                let tables = tables.ok_or_else(|| Error::infer("the scales are not known"))?;
                run(&tables, operands, memory, part);
                Ok(())
            }),
        })
    });
    Ok(if columns { layer.reads_columns(&[0]).writes_columns() } else { layer })
}

/// Whether the last axis is known to stay as it is.
fn keeps_channels(view: &NodeView, scales: &Numbers, op: &Resize) -> Result<bool> {
    let last = |shape: &TensorShape| shape.dims().last().and_then(Expr::as_const);
    let (x, y) = (view.input_shape(0)?, view.output_shape(0)?);
    let unscaled = match scales {
        Numbers::None => true,
        Numbers::Known(scales) => spread(scales, op, x.rank(), 1.0)?.last() == Some(&1.0),
        Numbers::Input(_) => false,
    };
    Ok(unscaled && last(x).is_some() && last(x) == last(y))
}
