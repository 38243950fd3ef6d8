//! Images read between their pixels.

use optimium_graph::ops::{DeformableColumns, GridSample, RoiAlign, SampleMode, SamplePadding};
use optimium_kernels::sampling::{self as kernels, GridSampler, RegionPool, RegionSampling};
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Layer, Step};

fn check_f32(view: &NodeView, inputs: &[usize]) -> Result<()> {
    for &index in inputs.iter().filter(|&&index| view.has_input(index)) {
        if view.input_type(index)?.storage() != ElementType::F32 {
            return Err(unsupported_type(view.input_type(index)?));
        }
    }
    Ok(())
}

pub(super) fn grid_sample(view: &NodeView, op: &GridSample) -> Result<Layer> {
    check_f32(view, &[0, 1])?;
    let mode = match op.mode {
        SampleMode::Nearest => kernels::SampleMode::Nearest,
        SampleMode::Linear => kernels::SampleMode::Linear,
        SampleMode::Cubic => kernels::SampleMode::Cubic,
    };
    let padding = match op.padding {
        SamplePadding::Zeros => kernels::SamplePadding::Zeros,
        SamplePadding::Border => kernels::SamplePadding::Border,
        SamplePadding::Reflection => kernels::SamplePadding::Reflection,
    };
    let align_corners = op.align_corners;
    Ok(Layer::new("grid sample", move |b| {
        let (x, grid, y) = (b.input(0)?, b.input(1)?, b.output(0)?.operand);
        let rank = x.dims.len();
        let fits = grid.dims.len() == rank
            && grid.dims[0] == x.dims[0]
            && (1..=3).contains(&(rank - 2))
            && grid.dims[rank - 1] == rank - 2;
        if !fits {
            return Err(Error::shape(format!("a grid {:?} for {:?}", grid.dims, x.dims)));
        }
        let sampler = GridSampler {
            mode,
            padding,
            align_corners,
            batch: x.dims[0],
            channels: x.dims[1],
            spatial: x.dims[2..].to_vec(),
            points: grid.dims[1..rank - 1].iter().product(),
        };
        let (x, grid) = (x.operand, grid.operand);
        Ok(Step::parallel(move |memory, part| {
            sampler.run(memory.read(x), memory.read(grid), memory.write(y), part);
            Ok(())
        }))
    }))
}

pub(super) fn roi_align(view: &NodeView, op: &RoiAlign) -> Result<Layer> {
    check_f32(view, &[0, 1])?;
    let op = op.clone();
    Ok(Layer::new("roi align", move |b| {
        let (x, regions, images) = (b.input(0)?, b.input(1)?, b.input(2)?);
        let batch = x.dims[0];
        let sampling = RegionSampling {
            pool: if op.max { RegionPool::Max } else { RegionPool::Average },
            half_pixel: op.half_pixel,
            samples: op.samples,
            scale: op.scale,
            channels: x.dims[1],
            size: [x.dims[2], x.dims[3]],
            bins: [op.rows, op.columns],
        };
        if sampling.size.contains(&0) || images.len() * 4 != regions.len() {
            return Err(Error::shape(format!("{:?} regions of {:?}", regions.dims, x.dims)));
        }
        let (x, regions, images, y) = (x.operand, regions.operand, images.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            let (regions, images) = (memory.read::<[f32; 4]>(regions), memory.read::<i64>(images));
            // Every part looks at all of them, so that all agree.
            if let Some(wrong) = images.iter().find(|&&image| image < 0 || image as usize >= batch) {
                return Err(Error::infer(format!("a region of image {wrong} of {batch}")));
            }
            if let Some(wrong) = regions.iter().find(|region| !sampling.is_sensible(region)) {
                return Err(Error::infer(format!("the region {wrong:?}")));
            }
            sampling.run(memory.read(x), regions, images, memory.write(y), part);
            Ok(())
        }))
    }))
}

pub(super) fn deformable_columns(view: &NodeView, op: &DeformableColumns) -> Result<Layer> {
    check_f32(view, &[0, 1, 2])?;
    let op = op.clone();
    Ok(Layer::new("deformable columns", move |b| {
        let (x, offsets, mask) = (b.input(0)?, b.input(1)?, b.optional_input(2));
        let columns = kernels::DeformableColumns {
            batch: x.dims[0],
            channels: x.dims[1],
            input: [x.dims[2], x.dims[3]],
            output: [offsets.dims[2], offsets.dims[3]],
            kernel: op.kernel,
            stride: op.strides,
            dilation: op.dilations,
            padding: op.padding,
            groups: op.groups,
        };
        let places = columns.batch * op.groups * op.kernel[0] * op.kernel[1];
        let points = columns.output[0] * columns.output[1];
        let fits = columns.channels.is_multiple_of(op.groups.max(1))
            && offsets.len() == 2 * places * points
            && mask.as_ref().is_none_or(|mask| mask.len() == places * points);
        if !fits {
            return Err(Error::shape(format!("offsets {:?} for {:?}", offsets.dims, x.dims)));
        }
        let (x, offsets, mask) = (x.operand, offsets.operand, mask.map(|mask| mask.operand));
        let y = b.output(0)?.operand;
        Ok(Step::parallel(move |memory, part| {
            let mask = mask.map(|mask| memory.read(mask));
            columns.run(memory.read(x), memory.read(offsets), mask, memory.write(y), part);
            Ok(())
        }))
    }))
}
