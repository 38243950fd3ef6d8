//! Quantization to and from types of fewer than 8 bits, and of 8-bit floating point: arithmetic in reals, and a cast.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, NarrowCast, Operator, PowerRounding, Tile, Unary};
use optimium_tensor::{ElementType, Result, Tensor};

use super::super::node::{NodeReader, unsupported};

/// How the elements of a tensor share scales and zero points.
pub(super) struct Sharing {
    /// The axis of scales; negative counts from the end.
    pub(super) axis: i64,
    /// Elements along it that share one; 0 for none.
    pub(super) block_size: usize,
}

/// The first output: input 0 by scale and zero point, rounded to a narrow type.
pub(super) fn quantize(
    node: &mut NodeReader<'_, '_>,
    to: ElementType,
    sharing: Sharing,
    saturate: bool,
) -> Result<()> {
    let x = node.required(0)?;
    let (scale, x) = (node.required(1)?, node.cast(x, ElementType::F32));
    let scale = shared(node, x, scale, &sharing)?;
    let mut y = node.binary(Binary::Div, x, scale);
    if integer_range(to).is_some() {
        y = node.unary(Unary::Round, y);
    }
    if let Some(zero) = zero_point(node, to)? {
        let zero = shared(node, x, zero, &sharing)?;
        y = node.binary(Binary::Add, y, zero);
    }
    if let Some((low, high)) = integer_range(to) {
        let [low, high] = [("low", low), ("high", high)]
            .map(|(name, bound)| Tensor::scalar(bound).map(|bound| node.add_constant(name, bound)));
        y = node.step(Operator::Clip, [Some(y), Some(low?), Some(high?)]);
    }
    let y =
        node.step(Operator::NarrowCast(NarrowCast { to, saturate, rounding: PowerRounding::Up }), [Some(y)]);
    node.give(0, y);
    Ok(())
}

/// The first output: the reals that input 0 stands for with scale and zero point.
pub(super) fn dequantize(
    node: &mut NodeReader<'_, '_>,
    from: ElementType,
    to: ElementType,
    sharing: Sharing,
) -> Result<()> {
    let x = node.required(0)?;
    let (scale, mut y) = (node.required(1)?, node.cast(x, ElementType::F32));
    if let Some(zero) = zero_point(node, from)? {
        let zero = shared(node, y, zero, &sharing)?;
        y = node.binary(Binary::Sub, y, zero);
    }
    let scale = shared(node, y, scale, &sharing)?;
    let y = node.binary(Binary::Mul, y, scale);
    let y = if to == ElementType::F32 { y } else { node.cast(y, to) };
    node.give(0, y);
    Ok(())
}

/// Input 2, where it can be anything but zero.
fn zero_point(node: &mut NodeReader<'_, '_>, element_type: ElementType) -> Result<Option<ValueId>> {
    use ElementType::*;
    Ok(match element_type {
        F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 => None,
        _ => node.input(2),
    })
}

fn integer_range(element_type: ElementType) -> Option<(f32, f32)> {
    match element_type {
        ElementType::I4 => Some((-8.0, 7.0)),
        ElementType::U4 => Some((0.0, 15.0)),
        ElementType::I2 => Some((-2.0, 1.0)),
        ElementType::U2 => Some((0.0, 3.0)),
        _ => None,
    }
}

/// Scales or zero points in F32, to be broadcast to `x`.
fn shared(node: &mut NodeReader<'_, '_>, x: ValueId, scale: ValueId, sharing: &Sharing) -> Result<ValueId> {
    let dims = node.constant_dims(scale);
    let scale = node.cast(scale, ElementType::F32);
    if dims.as_ref().is_some_and(|dims| dims.iter().all(|&dim| dim == 1)) {
        return node.reshape(scale, &[]);
    }
    let (Some(dims), Some(rank)) = (dims, node.rank(x).map(|rank| rank as i64)) else {
        return unsupported("scales of unknown shape");
    };
    let axis = if sharing.axis < 0 { sharing.axis + rank } else { sharing.axis };
    if !(0..rank).contains(&axis) {
        return Err(optimium_tensor::Error::model(format!("the axis {} of {rank}", sharing.axis)));
    }
    if sharing.block_size == 0 {
        let mut shape = vec![1; rank as usize];
        shape[axis as usize] = -1;
        return node.reshape(scale, &shape);
    }
    if dims.len() as i64 != rank {
        return Err(optimium_tensor::Error::model(format!("scales {dims:?} for {rank} dimensions")));
    }
    in_blocks(node, x, scale, axis, sharing.block_size)
}

/// Every scale as often along the axis as the block is long, cut off at the end of `x`.
fn in_blocks(
    node: &mut NodeReader<'_, '_>,
    x: ValueId,
    scale: ValueId,
    axis: i64,
    block: usize,
) -> Result<ValueId> {
    let (before, behind) = (node.sizes(x, 0, Some(axis)), node.sizes(x, axis + 1, None));
    let rank = node.rank(x).unwrap_or_default();
    let split = node.unsqueeze(scale, &[axis + 1]);
    let mut repeats = vec![1; rank + 1];
    repeats[axis as usize + 1] = i64::try_from(block).unwrap_or(i64::MAX);
    let repeats = node.add_i64s("repeats", &repeats)?;
    let tiled = node.step(Operator::Tile(Tile { repeats: None }), [Some(split), Some(repeats)]);
    let along = node.add_i64s("along", &[-1])?;
    let shape = node.concat(&[before, along, behind], 0);
    let tiled = node.reshape_to(tiled, shape);
    let (start, end) = (node.add_i64s("start", &[0])?, node.size(x, axis));
    node.slice_to(tiled, axis, start, end)
}

/// A constant of integers of fewer than 8 bits as one of 8; others as they are.
pub(super) fn widened(node: &mut NodeReader<'_, '_>, value: Option<ValueId>) -> Result<Option<ValueId>> {
    let Some(tensor) = value.and_then(|value| node.constant(value)) else { return Ok(value) };
    let element_type = tensor.element_type();
    let Some((low, _)) = integer_range(element_type) else { return Ok(value) };
    let unused = 8 - element_type.bits();
    let bytes = tensor.read_bytes()?;
    let wide = if low < 0.0 {
        let signed: Vec<i8> = bytes.iter().map(|&byte| (byte << unused) as i8 >> unused).collect();
        Tensor::from_slice(tensor.dims(), &signed)?
    } else {
        let unsigned: Vec<u8> = bytes.iter().map(|&byte| byte << unused >> unused).collect();
        Tensor::from_slice(tensor.dims(), &unsigned)?
    };
    drop(bytes);
    Ok(Some(node.add_constant("widened", wide)))
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::{NodeProto, TensorProto};
    use super::super::super::testing::{node, operators};

    fn names(node: NodeProto, constants: &[TensorProto]) -> Result<String, String> {
        let read = operators(25, node, constants.to_vec()).map_err(|error| error.to_string())?;
        Ok(read.iter().map(|op| op.name()).collect::<Vec<_>>().join(" "))
    }

    fn constant(name: &str, data_type: i32, dims: &[i64], values: &[i32]) -> TensorProto {
        let (float_data, int32_data) = match data_type {
            1 => (values.iter().map(|&x| x as f32).collect(), vec![]),
            _ => (vec![], values.to_vec()),
        };
        TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type,
            float_data,
            int32_data,
            ..TensorProto::default()
        }
    }

    #[test]
    fn become_arithmetic_and_a_cast() {
        let scale = constant("s", 1, &[], &[2]);
        let zero = constant("z", 21, &[], &[1]);
        let quantize = || node("QuantizeLinear", &["x", "s", "z"], &["y"]);
        let to_int = "Cast Cast Reshape Div Round Cast Reshape Add Clip Cast Identity";
        assert_eq!(names(quantize(), &[scale.clone(), zero.clone()]).unwrap(), to_int);
        let float = constant("z", 17, &[], &[0]);
        let to_float = "Cast Cast Reshape Div Cast Identity";
        assert_eq!(names(quantize(), &[scale.clone(), float]).unwrap(), to_float);
        let per_axis = constant("s", 1, &[3], &[2, 3, 4]);
        let zeros = constant("z", 21, &[3], &[0x21, 3]);
        assert!(names(quantize().int("axis", 1), &[per_axis.clone(), zeros.clone()]).is_ok());
        assert!(names(quantize().int("axis", 7), &[per_axis.clone(), zeros]).is_err());
        // Constants of few bits are what those of eight are to the passes.
        let weights = constant("x", 22, &[3], &[0x21, 3]);
        let dequantize = || node("DequantizeLinear", &["x", "s"], &["y"]);
        assert_eq!(names(dequantize(), &[weights, scale.clone()]).unwrap(), "DequantizeLinear");
        let weights = constant("x", 17, &[3], &[0x21, 3, 4]);
        assert_eq!(names(dequantize(), &[weights, scale]).unwrap(), "Cast Cast Reshape Mul Identity");
    }
}
