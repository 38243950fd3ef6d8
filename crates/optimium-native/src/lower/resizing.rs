//! Resampling.

use optimium_graph::ops::{CoordinateMode, NearestMode, Resize, ResizeMode};
use optimium_kernels::resize::{self, Coordinates, Mode, ResizeOptions};
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Layer, Step};

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

/// The scale of each axis, where the model gives scales; otherwise they follow from the sizes.
fn given_scales(view: &NodeView, op: &Resize, rank: usize) -> Result<Option<Vec<f32>>> {
    let Some(scales) = view.floats(2)?.filter(|scales| !scales.is_empty()) else { return Ok(None) };
    spread(&scales, op, rank, 1.0).map(Some)
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

fn regions(view: &NodeView, op: &Resize, rank: usize) -> Result<Option<Vec<(f32, f32)>>> {
    if op.coordinates != CoordinateMode::TfCropAndResize {
        return Ok(None);
    }
    let roi = view.floats(1)?.ok_or_else(|| Error::not_implemented("a region that data decide"))?;
    let (begin, end) = roi.split_at(roi.len() / 2);
    let (begin, end) = (spread(begin, op, rank, 0.0)?, spread(end, op, rank, 1.0)?);
    Ok(Some(begin.into_iter().zip(end).collect()))
}

pub(super) fn resize(view: &NodeView, op: &Resize) -> Result<Layer> {
    let rank = view.input_shape(0)?.rank();
    let (options, scales, regions) = (options(op), given_scales(view, op, rank)?, regions(view, op, rank)?);
    let (level, element_type) = (view.level, view.input_type(0)?);
    let size = element_type.size();
    let nearest = options.mode == Mode::Nearest;
    if size == 0 || !(nearest || element_type.storage() == ElementType::F32) {
        return Err(unsupported_type(element_type));
    }
    Ok(Layer::new(format!("resize {:?}", options.mode).to_lowercase(), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if (0..rank).any(|axis| x.dims[axis] == 0 && y.dims[axis] > 0) {
            return Err(Error::shape(format!("an empty axis of {:?} cannot grow to {:?}", x.dims, y.dims)));
        }
        let of_sizes = || (0..rank).map(|axis| y.dims[axis] as f32 / x.dims[axis].max(1) as f32).collect();
        let scales = scales.clone().unwrap_or_else(of_sizes);
        let resize = resize::Resize::new(level, &options, &x.dims, &y.dims, &scales, regions.as_deref());
        let float = element_type.storage() == ElementType::F32;
        let outside = if float { options.extrapolation_value.to_ne_bytes().to_vec() } else { vec![0; size] };
        Ok(Step::parallel(move |memory, part| {
            if nearest {
                resize.run_bytes(memory.read(x.operand), &outside, size, memory.write(y.operand), part);
            } else {
                resize.run(memory.read(x.operand), memory.write(y.operand), part);
            }
            Ok(())
        }))
    }))
}
