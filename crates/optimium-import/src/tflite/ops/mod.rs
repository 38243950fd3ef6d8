//! The operators that can be lowered. [`find`] lists them; the reader functions are in a file for each family.

mod elementwise;
mod indexing;
mod matrix;
mod normalization;
mod quantization;
mod reduction;
mod shaping;
mod slicing;
mod spatial;

use optimium_graph::ops::{Activation, Binary, Comparison, Reduction, Unary};
use optimium_tensor::Result;

use super::operator::OperatorReader;

/// Lowers one operator into the graph.
pub(super) type Read = fn(&mut OperatorReader<'_, '_>) -> Result<()>;

/// The reader of the builtin operator of that number.
pub(super) fn find(code: i32) -> Option<Read> {
    OPERATIONS.iter().find(|(known, _)| *known == code).map(|&(_, read)| read)
}

use elementwise as e;

const OPERATIONS: &[(i32, Read)] = &[
    (0, |o| e::fused_binary(o, Binary::Add)),
    (1, spatial::average_pool),
    (2, indexing::concatenation),
    (3, spatial::conv),
    (4, spatial::depthwise_conv),
    (5, spatial::depth_to_space),
    (6, quantization::dequantize),
    (7, indexing::embedding_lookup),
    (8, |o| e::unary(o, Unary::Floor)),
    (9, matrix::fully_connected),
    (11, normalization::l2),
    (12, spatial::l2_pool),
    (13, normalization::local_response),
    (14, |o| e::activation(o, Activation::Sigmoid)),
    (17, spatial::max_pool),
    (18, |o| e::fused_binary(o, Binary::Mul)),
    (19, |o| e::activation(o, Activation::Relu)),
    (20, |o| e::clip(o, -1.0, 1.0)),
    (21, |o| e::clip(o, 0.0, 6.0)),
    (22, shaping::reshape),
    (23, spatial::resize_bilinear),
    (25, |o| normalization::softmax(o, false)),
    (26, spatial::space_to_depth),
    (28, |o| e::activation(o, Activation::Tanh)),
    (34, shaping::pad),
    (36, indexing::gather),
    (39, shaping::transpose),
    (40, |o| reduction::reduce(o, Reduction::Mean)),
    (41, |o| e::fused_binary(o, Binary::Sub)),
    (42, |o| e::fused_binary(o, Binary::Div)),
    (43, shaping::squeeze),
    (45, slicing::strided_slice),
    (47, |o| e::unary(o, Unary::Exp)),
    (48, indexing::top_k),
    (49, indexing::split),
    (50, |o| normalization::softmax(o, true)),
    (53, e::cast),
    (54, e::prelu),
    (55, |o| e::binary(o, Binary::Max)),
    (56, |o| reduction::arg(o, true)),
    (57, |o| e::binary(o, Binary::Min)),
    (58, |o| e::comparison(o, Comparison::Less)),
    (59, |o| e::unary(o, Unary::Neg)),
    (60, shaping::pad),
    (61, |o| e::comparison(o, Comparison::Greater)),
    (62, |o| e::comparison(o, Comparison::GreaterOrEqual)),
    (63, |o| e::comparison(o, Comparison::LessOrEqual)),
    (64, e::select),
    (65, slicing::slice),
    (66, |o| e::unary(o, Unary::Sin)),
    (67, spatial::transpose_conv),
    (69, shaping::tile),
    (70, shaping::expand_dims),
    (71, |o| e::comparison(o, Comparison::Equal)),
    (72, e::not_equal),
    (73, |o| e::unary(o, Unary::Log)),
    (74, |o| reduction::reduce(o, Reduction::Sum)),
    (75, |o| e::unary(o, Unary::Sqrt)),
    (76, |o| e::unary(o, Unary::Rsqrt)),
    (77, shaping::shape),
    (78, |o| e::binary(o, Binary::Pow)),
    (79, |o| reduction::arg(o, false)),
    (81, |o| reduction::reduce(o, Reduction::Prod)),
    (82, |o| reduction::reduce(o, Reduction::Max)),
    (83, indexing::pack),
    (84, |o| e::binary(o, Binary::Or)),
    (85, indexing::one_hot),
    (86, |o| e::binary(o, Binary::And)),
    (87, |o| e::unary(o, Unary::Not)),
    (88, indexing::unpack),
    (89, |o| reduction::reduce(o, Reduction::Min)),
    (90, e::floor_div),
    (91, |o| reduction::reduce_bool(o, Reduction::Max)),
    (92, |o| e::unary(o, Unary::Square)),
    (93, shaping::zeros_like),
    (94, shaping::fill),
    (95, |o| e::binary(o, Binary::Mod)),
    (96, shaping::range),
    (97, spatial::resize_nearest),
    (98, e::leaky_relu),
    (99, |o| e::binary(o, Binary::SquaredDifference)),
    (100, shaping::mirror_pad),
    (101, |o| e::unary(o, Unary::Abs)),
    (102, indexing::split_v),
    (104, |o| e::unary(o, Unary::Ceil)),
    (105, slicing::reverse),
    (106, e::add_n),
    (107, indexing::gather_nd),
    (108, |o| e::unary(o, Unary::Cos)),
    (110, shaping::rank),
    (111, |o| e::activation(o, Activation::Elu { alpha: 1.0 })),
    (112, indexing::reverse_sequence),
    (114, quantization::quantize),
    (116, |o| e::unary(o, Unary::Round)),
    (117, |o| e::activation(o, Activation::HardSwish)),
    (122, indexing::scatter_nd),
    (123, e::select_v2),
    (126, matrix::batch_matmul),
    (128, reduction::cumulative_sum),
    (130, shaping::broadcast_to),
    (132, spatial::conv_3d),
    (140, |o| reduction::reduce_bool(o, Reduction::Min)),
    (150, e::gelu),
    (152, |o| e::clip(o, 0.0, 1.0)),
    (158, |o| e::unary(o, Unary::Sign)),
    (160, |o| e::binary(o, Binary::BitwiseXor)),
    (161, |o| e::binary(o, Binary::ShiftRight)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_listed_once_and_in_order() {
        assert!(OPERATIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
