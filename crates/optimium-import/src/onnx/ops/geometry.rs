//! Operators on the places of elements: crops, grids, columns put together to images.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, ConvTranspose, Fusion, ImageLayout, Operator, Pad, PadMode, Padding, Slice,
};
use optimium_tensor::{Error, Result, Tensor};

use super::super::node::{NodeReader, unsupported};

/// Inputs: x, the sizes wanted. Output: x cut off or filled up with zeros on both sides.
pub(super) fn center_crop_pad(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axes = node.attributes.ints("axes")?;
    let (x, wanted) = (node.required(0)?, node.required(1)?);
    let whole = node.sizes(x, 0, None);
    let (sizes, axes) = match axes {
        None => (whole, None),
        Some(axes) => {
            let axes = node.add_i64s("axes", &axes)?;
            (node.gather(whole, axes, 0), Some(axes))
        }
    };
    let zero = node.scalar("zero", 0)?;
    let start = half_of_excess(node, sizes, wanted, zero)?;
    let kept = node.binary(Binary::Min, sizes, wanted);
    let end = node.binary(Binary::Add, start, kept);
    let cut = node.step(Operator::Slice(Slice { ranges: None }), [Some(x), Some(start), Some(end), axes]);
    let before = half_of_excess(node, wanted, sizes, zero)?;
    let after = node.binary(Binary::Sub, wanted, kept);
    let after = node.binary(Binary::Sub, after, before);
    let pads = node.concat(&[before, after], 0);
    let pad = Pad { mode: PadMode::Constant, pads: None };
    node.finish(Operator::Pad(pad), [Some(cut), Some(pads), None, axes])
}

/// `max(a - b, 0) / 2`
fn half_of_excess(node: &mut NodeReader<'_, '_>, a: ValueId, b: ValueId, zero: ValueId) -> Result<ValueId> {
    let excess = node.binary(Binary::Sub, a, b);
    let excess = node.binary(Binary::Max, excess, zero);
    let two = node.scalar("two", 2)?;
    Ok(node.binary(Binary::Div, excess, two))
}

/// Inputs: matrices `[n, 2, 3]` or `[n, 3, 4]`, the size `[n, channels, spatial…]`. Output: `[n, spatial…, 2 or 3]`, where each
/// element of the output lies in the input.
pub(super) fn affine_grid(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let align_corners = node.attributes.flag("align_corners", false)?;
    let (theta, size) = (node.required(0)?, node.required(1)?);
    let spatial = match (node.last_size(theta), node.last_size(size)) {
        (Some(3), _) | (None, Some(4)) => 2,
        (Some(4), _) | (None, Some(5)) => 3,
        (None, None) => return unsupported("matrices of unknown shape"),
        _ => return Err(Error::model("matrices that are neither [n, 2, 3] nor [n, 3, 4]")),
    };
    // Columns of the matrices, to be broadcast to the grid; the last one is the offset.
    let between: Vec<i64> = (1..=spatial).collect();
    let mut columns = Vec::new();
    for column in 0..=spatial {
        let column = node.slice(theta, 2, column, column + 1)?;
        let column = node.squeeze(column, &[2]);
        columns.push(node.unsqueeze(column, &between));
    }
    let mut grid = columns[spatial as usize];
    for dimension in 0..spatial {
        let length = node.slice(size, 0, 2 + dimension, 3 + dimension)?;
        let places = places(node, length, align_corners)?;
        let behind: Vec<i64> = (1..=spatial - dimension).collect();
        let places = node.unsqueeze(places, &behind);
        let places = node.cast_from(places, optimium_tensor::ElementType::F32, theta);
        // The first spatial dimension is the last coordinate.
        let part = node.binary(Binary::Mul, places, columns[(spatial - 1 - dimension) as usize]);
        grid = node.binary(Binary::Add, grid, part);
    }
    node.give(0, grid);
    Ok(())
}

/// The centres of `length` pixels between -1 and 1; or their places where the first is at -1 and the last at 1.
fn places(node: &mut NodeReader<'_, '_>, length: ValueId, align_corners: bool) -> Result<ValueId> {
    let index = node.count_to(length)?;
    let index = node.cast(index, optimium_tensor::ElementType::F32);
    let length = node.cast(length, optimium_tensor::ElementType::F32);
    let (first, steps) = match align_corners {
        true => (index, node.plus(length, -1.0)?),
        false => (node.plus(index, 0.5)?, length),
    };
    let doubled = node.times(first, 2.0)?;
    let place = node.binary(Binary::Div, doubled, steps);
    node.plus(place, -1.0)
}

/// The most elements of a block of [`columns_to_image`].
const LARGEST_BLOCK: usize = 1 << 10;

/// Inputs: columns `[n, channels · block, places]`, size of the image, size of a block (constants). Output: the image, where
/// blocks that overlap are added: the product of the columns with a unit matrix, transposed as a convolution is.
pub(super) fn columns_to_image(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let image = constant_sizes(node, 1)?;
    let block = constant_sizes(node, 2)?;
    let count = block.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.filter(|&count| (1..=LARGEST_BLOCK).contains(&count));
    let Some(count) = count else { return unsupported(format!("blocks of size {block:?}")) };
    if image.len() != block.len() || image.is_empty() {
        return Err(Error::model(format!("an image of size {image:?} of blocks of size {block:?}")));
    }
    let geometry = super::spatial::geometry(&mut node.attributes, image.len())?;
    let Padding::Explicit { begin, end } = &geometry.padding else {
        return unsupported("attribute auto_pad");
    };
    let (mut places, mut output_padding) = (Vec::new(), Vec::new());
    for (i, (&image, &block)) in image.iter().zip(&block).enumerate() {
        let reach = geometry.dilations[i] * (block - 1) + 1;
        let Some(free) = (image + begin[i] + end[i]).checked_sub(reach) else {
            return Err(Error::model(format!("blocks of {block} elements in {image}")));
        };
        places.push((free / geometry.strides[i] + 1) as i64);
        output_padding.push(free % geometry.strides[i]);
    }
    let x = node.required(0)?;
    let count = count as i64;
    let batch = node.sizes(x, 0, Some(1));
    let shape: Vec<i64> = [-1, count].into_iter().chain(places).collect();
    let x = node.reshape(x, &shape)?;
    let weights = unit_blocks(node, count as usize, &block)?;
    let op = ConvTranspose {
        layout: ImageLayout::ChannelsFirst,
        strides: geometry.strides,
        dilations: geometry.dilations,
        groups: 1,
        padding: geometry.padding,
        output_padding,
        output_shape: None,
        fusion: Fusion::default(),
    };
    let y = node.step(Operator::ConvTranspose(op), [Some(x), Some(weights)]);
    let rest: Vec<i64> = std::iter::once(-1).chain(image.iter().map(|&size| size as i64)).collect();
    let rest = node.add_i64s("rest", &rest)?;
    let shape = node.concat(&[batch, rest], 0);
    let y = node.reshape_to(y, shape);
    node.give(0, y);
    Ok(())
}

/// Weights of a transposed convolution that put element `i` of a block in its place.
fn unit_blocks(node: &mut NodeReader<'_, '_>, count: usize, block: &[usize]) -> Result<ValueId> {
    let dims: Vec<usize> = [count, 1].into_iter().chain(block.iter().copied()).collect();
    let mut unit = vec![0f32; count * count];
    unit.iter_mut().step_by(count + 1).for_each(|one| *one = 1.0);
    Ok(node.add_constant("unit", Tensor::from_slice(&dims, &unit)?))
}

fn constant_sizes(node: &mut NodeReader<'_, '_>, index: usize) -> Result<Vec<usize>> {
    let value = node.required(index)?;
    let Some(tensor) = node.constant(value) else { return unsupported("sizes that data decide") };
    let size = |&size: &i64| usize::try_from(size).ok().filter(|size| (1..=1 << 32).contains(size));
    let sizes: Option<Vec<usize>> = tensor.to_i64s()?.iter().map(size).collect();
    sizes.ok_or_else(|| Error::model(format!("its input {index} has a size that is no size")))
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::NodeProto;
    use super::super::super::testing::{graph, integers, node, read_graph, value};

    /// The shape of the only output of a node on `x`, with a constant of integers for every other input.
    fn shape(node: NodeProto, dims: &[&str], constants: &[(&str, &[i64])]) -> Result<String, String> {
        let constants = constants.iter().map(|(name, values)| integers(name, values)).collect();
        let mut graph = read_graph(20, graph(vec![value("x", dims)], constants, vec![node]))
            .map_err(|error| error.message().to_owned())?;
        optimium_graph::shapes::infer(&mut graph).map_err(|error| error.to_string())?;
        Ok(graph.value(graph.outputs[0]).shape().unwrap().to_string())
    }

    #[test]
    fn shapes_follow_constants() {
        let crop = node("CenterCropPad", &["x", "s"], &["y"]);
        let some = node("CenterCropPad", &["x", "s"], &["y"]).ints("axes", &[0, -1]);
        assert_eq!(shape(crop, &["20", "8", "3"], &[("s", &[10, 9, 3])]).unwrap(), "[10, 9, 3]");
        assert_eq!(shape(some, &["20", "8", "3"], &[("s", &[10, 5])]).unwrap(), "[10, 8, 5]");
        let grid = || node("AffineGrid", &["x", "s"], &["y"]);
        assert_eq!(shape(grid(), &["2", "2", "3"], &[("s", &[2, 3, 5, 6])]).unwrap(), "[2, 5, 6, 2]");
        assert_eq!(shape(grid(), &["N", "3", "4"], &[("s", &[2, 3, 4, 5, 6])]).unwrap(), "[N, 4, 5, 6, 3]");
        assert!(shape(grid(), &["2", "2", "5"], &[("s", &[2, 3, 5, 6])]).is_err());
        let image = |image: &[i64], block: &[i64]| {
            let node = node("Col2Im", &["x", "i", "b"], &["y"]).ints("pads", &[0, 1, 0, 1]);
            shape(node, &["N", "10", "15"], &[("i", image), ("b", block)])
        };
        assert_eq!(image(&[5, 5], &[1, 5]).unwrap(), "[N, 2, 5, 5]");
        for (size, block) in [([5, 5], [1, 9]), ([5, -5], [1, 5]), ([5, 5], [0, 5]), ([5, 5], [1 << 40, 5])] {
            assert!(image(&size, &block).is_err(), "{size:?} {block:?}");
        }
    }
}
