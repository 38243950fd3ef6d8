//! Products with weights in few bits.

use optimium_graph::ops::{Cast, CompressedMatMul, CompressedWeights, Fusion, Operator, WeightEncoding};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::node::{NodeReader, support, unsupported};

/// Inputs: a, weights `[n, blocks, bytes]`, scales, zero points or none, order of the rows or none, bias or none.
pub(super) fn matmul(node: &mut NodeReader<'_, '_>) -> Result<()> {
    // How exact the product has to be at least: it is computed in f32, which is always enough.
    node.attributes.ignore(&["accuracy_level"]);
    let k = node.attributes.required_positive("K")?;
    let n = node.attributes.required_positive("N")?;
    let block_size = node.attributes.required_positive("block_size")?;
    let encoding = match node.attributes.int_or("bits", 4)? {
        4 => WeightEncoding::Int4,
        8 => WeightEncoding::Int8,
        bits => return unsupported(format!("weights of {bits} bits")),
    };
    support(block_size.is_multiple_of(16), "blocks of another size than multiples of 16")?;
    support(node.input(4).is_none(), "reordered rows of the weights")?;
    let weights = CompressedWeights { encoding, k, block_size };
    let stored_len = weights.stored_len().ok_or_else(|| Error::model("weights larger than memory"))?;
    let data = constant(node, 1, "weights")?.reshaped(&[n, stored_len])?;
    let scales = constant(node, 2, "scales")?.reshaped(&[n, weights.blocks()])?;
    let zeros = zero_points(node, &weights, n)?;
    let data = node.add_constant("weights", data);
    let scales = node.add_constant("scales", scales);
    let zeros = zeros.map(|zeros| node.add_constant("zero_points", zeros));
    let op = Operator::CompressedMatMul(CompressedMatMul { weights, fusion: Fusion::default() });
    let (mut a, mut bias) = (node.required(0)?, node.input(5));
    if node.element_type(a) != Some(ElementType::F16) {
        return node.finish(op, [Some(a), Some(data), Some(scales), zeros, bias]);
    }
    let cast = |to| Operator::Cast(Cast { to });
    a = node.step(cast(ElementType::F32), [Some(a)]);
    bias = bias.map(|bias| node.step(cast(ElementType::F32), [Some(bias)]));
    let product = node.step(op, [Some(a), Some(data), Some(scales), zeros, bias]);
    node.finish(cast(ElementType::F16), [Some(product)])
}

fn constant(node: &mut NodeReader<'_, '_>, index: usize, what: &str) -> Result<Tensor> {
    let value = node.required(index)?;
    node.constant(value).ok_or_else(|| Error::not_implemented(format!("computed {what}")))
}

/// One byte for each block, of which the model packs several to a byte where they have fewer bits.
fn zero_points(
    node: &mut NodeReader<'_, '_>,
    weights: &CompressedWeights,
    n: usize,
) -> Result<Option<Tensor>> {
    if node.input(3).is_none() {
        return Ok(None);
    }
    let packed = constant(node, 3, "zero points")?;
    support(packed.element_type() == ElementType::U8, "zero points that are no bytes")?;
    let blocks = weights.blocks();
    if weights.encoding == WeightEncoding::Int8 {
        return packed.reshaped(&[n, blocks]).map(Some);
    }
    let packed = packed.reshaped(&[n, blocks.div_ceil(2)])?;
    let bytes = packed.read_bytes()?;
    let of_vector = |vector: &[u8]| -> Vec<u8> {
        vector.iter().flat_map(|&pair| [pair & 0xf, pair >> 4]).take(blocks).collect()
    };
    let zeros: Vec<u8> = bytes.chunks(blocks.div_ceil(2).max(1)).flat_map(of_vector).collect();
    Tensor::from_slice(&[n, blocks], &zeros).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::{NodeProto, TensorProto};
    use super::super::super::testing::{graph, node, read_graph, value, zeros};
    use super::*;

    fn bytes(name: &str, dims: &[i64], data: &[u8]) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: 2,
            raw_data: Some(data.to_vec().into()),
            ..TensorProto::default()
        }
    }

    fn product(bits: i64, block_size: i64) -> NodeProto {
        let mut node = node("MatMulNBits", &["a", "b", "scales", "zeros"], &["y"]);
        node.domain = "com.microsoft".to_owned();
        node.int("K", 40).int("N", 2).int("bits", bits).int("block_size", block_size)
    }

    fn read(product: NodeProto, constants: Vec<TensorProto>) -> Result<Vec<Vec<u8>>> {
        let graph = read_graph(21, graph(vec![value("a", &["m", "40"])], constants, vec![product]))?;
        let node = &graph.nodes()[0];
        assert!(matches!(node.op, Operator::CompressedMatMul(_)));
        let constants = node.inputs.iter().flatten().filter_map(|&input| graph.constant(input));
        constants.map(|tensor| Ok(tensor.read_bytes()?.to_vec())).collect()
    }

    #[test]
    fn weights_and_zero_points_are_unpacked() {
        let data: Vec<u8> = (0..48).collect();
        let constants = vec![
            bytes("b", &[2, 3, 8], &data),
            zeros("scales", &[6]),
            bytes("zeros", &[2, 2], &[0x21, 0x03, 0x54, 0xf6]),
        ];
        let constants = read(product(4, 16), constants).unwrap();
        assert_eq!(constants, [data, vec![0; 24], vec![1, 2, 3, 4, 5, 6]]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let constants = |bytes_of_b: usize, zero_points: usize| {
            vec![
                bytes("b", &[bytes_of_b as i64], &vec![0; bytes_of_b]),
                zeros("scales", &[6]),
                bytes("zeros", &[zero_points as i64], &vec![0; zero_points]),
            ]
        };
        assert!(read(product(4, 16), constants(48, 4)).is_ok());
        assert!(read(product(8, 16), constants(96, 6)).is_ok());
        assert!(read(product(4, 16), constants(47, 4)).is_err());
        assert!(read(product(4, 16), constants(48, 3)).is_err());
        assert!(read(product(4, 8), constants(48, 4)).is_err());
        assert!(read(product(4, 0), constants(48, 4)).is_err());
        assert!(read(product(2, 16), constants(24, 4)).is_err());
        assert!(read(product(4, i64::MAX), constants(48, 4)).is_err());
        assert!(read(product(4, 16), Vec::new()).is_err());
    }
}
