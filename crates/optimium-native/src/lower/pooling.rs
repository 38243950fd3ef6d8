//! Pools.

use optimium_graph::ops::{AveragePool, ImageLayout, LpPool, MaxPool, Padding, PoolWindow};
use optimium_kernels::elementwise::Source;
use optimium_kernels::pool::{self, IndexOrder, PoolGeometry, WindowGeometry};
use optimium_kernels::{Part, SharedSlice};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Result};

use super::spatial::{extent, padding_begin};
use super::view::{NodeView, unsupported_type};
use crate::layer::{Bound, Layer, Step};

/// Sizes of the windows' images: spatial dimensions, and padding before and after each.
struct Spatial {
    input: Vec<usize>,
    output: Vec<usize>,
    begin: Vec<usize>,
    end: Vec<usize>,
}

fn spatial(window: &PoolWindow, x: &Bound, y: &Bound) -> Result<Spatial> {
    let rank = x.dims.len();
    if rank < 3 || y.dims.len() != rank || window.kernel.len() != rank - 2 {
        return Err(Error::shape(format!("windows of {:?} do not fit {:?}", window.kernel, x.dims)));
    }
    if window.strides.contains(&0) || window.dilations.contains(&0) {
        return Err(Error::model("a stride or a dilation of zero"));
    }
    let sizes =
        |dims: &[usize]| (0..rank - 2).map(|i| dims[window.layout.spatial_axis(i)]).collect::<Vec<_>>();
    let (input, output) = (sizes(&x.dims), sizes(&y.dims));
    let extent = extent(&window.kernel, &window.dilations);
    let begin = padding_begin(&window.padding, &input, &output, &extent, &window.strides);
    let end = match &window.padding {
        Padding::Explicit { end, .. } => end.clone(),
        Padding::Valid => vec![0; input.len()],
        _ => (0..input.len())
            .map(|i| {
                ((output[i].saturating_sub(1)) * window.strides[i] + extent[i])
                    .saturating_sub(input[i] + begin[i])
            })
            .collect(),
    };
    Ok(Spatial { input, output, begin, end })
}

/// The geometry of channels-last images of one or two dimensions.
pub(super) fn image_geometry(window: &PoolWindow, x: &Bound, y: &Bound) -> Result<PoolGeometry> {
    let spatial = spatial(window, x, y)?;
    let channels = x.dims[x.dims.len() - 1];
    let two = |list: &[usize], missing: usize| {
        if list.len() == 1 { [missing, list[0]] } else { [list[0], list[1]] }
    };
    Ok(PoolGeometry {
        batch: x.dims[0],
        channels,
        input: two(&spatial.input, 1),
        output: two(&spatial.output, 1),
        kernel: two(&window.kernel, 1),
        stride: two(&window.strides, 1),
        dilation: two(&window.dilations, 1),
        padding: two(&spatial.begin, 0),
        padding_end: two(&spatial.end, 0),
        input_stride: x.row_stride,
        output_stride: y.row_stride,
    })
}

fn window_geometry(window: &PoolWindow, x: &Bound, y: &Bound) -> Result<WindowGeometry> {
    let spatial = spatial(window, x, y)?;
    Ok(WindowGeometry {
        planes: x.dims[0] * x.dims[1],
        input: spatial.input,
        output: spatial.output,
        kernel: window.kernel.clone(),
        stride: window.strides.clone(),
        dilation: window.dilations.clone(),
        padding: spatial.begin,
        padding_end: spatial.end,
    })
}

fn is_image(window: &PoolWindow) -> bool {
    window.layout == ImageLayout::ChannelsLast && (1..=2).contains(&window.kernel.len())
}

fn describe(name: &str, window: &PoolWindow) -> String {
    let kernel = window.kernel.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    format!("{name} {kernel}")
}

pub(super) fn max_pool(view: &NodeView, op: &MaxPool) -> Result<Layer> {
    let window = op.window.clone();
    let name = describe("max pool", &window);
    let (level, element_type) = (view.level, view.input_type(0)?.storage());
    if is_image(&window) && view.node.output(1).is_none() {
        return match element_type {
            ElementType::F32 => image_max(name, window, level, pool::max_pool),
            ElementType::U8 => image_max(name, window, level, pool::max_pool_u8),
            ElementType::I8 => image_max(name, window, level, pool::max_pool_i8),
            other => Err(unsupported_type(other)),
        };
    }
    match element_type {
        ElementType::F32 => general_max::<f32>(name, op),
        ElementType::F64 => general_max::<f64>(name, op),
        ElementType::I8 => general_max::<i8>(name, op),
        ElementType::U8 => general_max::<u8>(name, op),
        other => Err(unsupported_type(other)),
    }
}

/// A kernel for channels-last images of one element type.
type ImageKernel<T> = fn(Level, &PoolGeometry, Source<'_, T>, SharedSlice<'_, T>, Part);

fn image_max<T: bytemuck::Pod>(
    name: String,
    window: PoolWindow,
    level: Level,
    kernel: ImageKernel<T>,
) -> Result<Layer> {
    Ok(Layer::new(name, move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let geometry = image_geometry(&window, &x, &y)?;
        Ok(Step::parallel(move |memory, part| {
            kernel(level, &geometry, memory.read_columns(x.operand), memory.write(y.operand), part);
            Ok(())
        }))
    })
    .reads_columns(&[0])
    .writes_columns()
    .interleaves(&[0]))
}

fn check_channels_first(window: &PoolWindow) -> Result<()> {
    if window.layout == ImageLayout::ChannelsFirst {
        Ok(())
    } else {
        Err(Error::not_implemented("channels-last windows of more than two dimensions, or with indices"))
    }
}

fn general_max<T: bytemuck::Pod + pool::MaxElement>(name: String, op: &MaxPool) -> Result<Layer> {
    check_channels_first(&op.window)?;
    let (window, order) =
        (op.window.clone(), if op.column_major { IndexOrder::ColumnMajor } else { IndexOrder::RowMajor });
    Ok(Layer::new(format!("general {name}"), move |b| {
        let (x, y, indices) = (b.input(0)?, b.output(0)?, b.optional_output(1));
        let geometry = window_geometry(&window, &x, &y)?;
        Ok(Step::parallel(move |memory, part| {
            let indices = indices.as_ref().map(|indices| (memory.write::<i64>(indices.operand), order));
            pool::max_pool_nd::<T>(&geometry, memory.read(x.operand), memory.write(y.operand), indices, part);
            Ok(())
        }))
    }))
}

pub(super) fn average_pool(view: &NodeView, op: &AveragePool) -> Result<Layer> {
    let (window, level, include) = (op.window.clone(), view.level, op.count_include_pad);
    let name = describe("average pool", &window);
    match view.input_type(0)?.storage() {
        ElementType::F32 if is_image(&window) => Ok(Layer::new(name, move |b| {
            let (x, y) = (b.input(0)?, b.output(0)?);
            let geometry = image_geometry(&window, &x, &y)?;
            Ok(Step::parallel(move |memory, part| {
                let (x, y) = (memory.read_columns(x.operand), memory.write(y.operand));
                pool::average_pool(level, &geometry, include, x, y, part);
                Ok(())
            }))
        })
        .reads_columns(&[0])
        .writes_columns()
        .interleaves(&[0])),
        ElementType::F32 => general_average::<f32>(name, op),
        ElementType::F64 => general_average::<f64>(name, op),
        other => Err(unsupported_type(other)),
    }
}

fn general_average<T: bytemuck::Pod + pool::AverageElement>(name: String, op: &AveragePool) -> Result<Layer> {
    check_channels_first(&op.window)?;
    let (window, include) = (op.window.clone(), op.count_include_pad);
    Ok(Layer::new(format!("general {name}"), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let geometry = window_geometry(&window, &x, &y)?;
        Ok(Step::parallel(move |memory, part| {
            pool::average_pool_nd::<T>(
                &geometry,
                include,
                memory.read(x.operand),
                memory.write(y.operand),
                part,
            );
            Ok(())
        }))
    }))
}

pub(super) fn lp_pool(view: &NodeView, op: &LpPool) -> Result<Layer> {
    check_channels_first(&op.window)?;
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let (window, p) = (op.window.clone(), f64::from(op.p));
    Ok(Layer::new(describe("lp pool", &window), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let geometry = window_geometry(&window, &x, &y)?;
        Ok(Step::parallel(move |memory, part| {
            pool::lp_pool_nd::<f32>(&geometry, p, memory.read(x.operand), memory.write(y.operand), part);
            Ok(())
        }))
    }))
}
