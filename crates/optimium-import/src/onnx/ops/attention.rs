//! Scaled dot-product attention, and rotary embeddings.

use optimium_graph::ops::{Attention, AttentionScores, Operator, RotaryEmbedding};
use optimium_tensor::{Error, Result};

use super::super::attributes::missing;
use super::super::node::{NodeReader, support, unsupported};

pub(super) fn attention(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    // Scores are computed in single precision, whatever the model asks for.
    attributes.ignore(&["softmax_precision"]);
    let key_heads = attributes.count("kv_num_heads")?;
    let op = Attention {
        query_heads: attributes.count("q_num_heads")?,
        key_heads,
        value_heads: key_heads,
        scale: attributes.float("scale")?,
        softcap: attributes.float_or("softcap", 0.0)?,
        causal: attributes.flag("is_causal", false)?,
        merged: None,
        scores: match attributes.int_or("qk_matmul_output_mode", 0)? {
            0 => AttentionScores::Product,
            1 => AttentionScores::Capped,
            2 => AttentionScores::Masked,
            3 => AttentionScores::Probabilities,
            mode => return Err(Error::model(format!("the output mode {mode}"))),
        },
    };
    if op.softcap < 0.0 {
        return unsupported(format!("a softcap of {}", op.softcap));
    }
    node.finish_with_all_inputs(Operator::Attention(op))
}

/// The operator of ONNX Runtime, of separate queries, keys and values whose biases are added already. Inputs: q, k, v,
/// bias or none, padding mask or none, what is added to the scores or none.
pub(super) fn multi_head_attention(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    attributes.ignore(&["mask_filter_value"]);
    let heads = attributes.count("num_heads")?.ok_or_else(|| missing("num_heads"))?;
    // A scale of zero stands for none.
    let scale = attributes.float("scale")?.filter(|&scale| scale != 0.0);
    let causal = attributes.flag("unidirectional", false)?;
    support(node.input(3).is_none(), "a bias")?;
    support(node.input(4).is_none(), "a padding mask")?;
    let separate = (0..3).all(|index| node.input(index).is_some());
    support(separate, "queries, keys and values in one tensor")?;
    let op = Attention {
        query_heads: Some(heads),
        key_heads: Some(heads),
        value_heads: Some(heads),
        scale,
        softcap: 0.0,
        causal,
        merged: None,
        scores: AttentionScores::Product,
    };
    let inputs = [node.input(0), node.input(1), node.input(2), node.input(5)];
    node.finish(Operator::Attention(op), inputs)
}

pub(super) fn rotary_embedding(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    let op = RotaryEmbedding {
        heads: attributes.count("num_heads")?.filter(|&heads| heads > 0),
        size: attributes.count("rotary_embedding_dim")?.filter(|&size| size > 0),
        interleaved: attributes.flag("interleaved", false)?,
    };
    node.finish_with_all_inputs(Operator::RotaryEmbedding(op))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let plain = Attention {
            query_heads: None,
            key_heads: None,
            value_heads: None,
            scale: None,
            softcap: 0.0,
            causal: false,
            merged: None,
            scores: AttentionScores::Product,
        };
        let heads = Attention {
            query_heads: Some(6),
            key_heads: Some(2),
            value_heads: Some(2),
            scale: Some(0.5),
            causal: true,
            scores: AttentionScores::Probabilities,
            ..plain.clone()
        };
        let same =
            Attention { query_heads: Some(4), key_heads: Some(4), value_heads: Some(4), ..plain.clone() };
        let mut microsoft = node("MultiHeadAttention", &["q", "k", "v"], &["y"]).int("num_heads", 4);
        microsoft.domain = "com.microsoft".to_owned();
        let rotary = RotaryEmbedding { heads: Some(4), size: Some(6), interleaved: true };
        let rotated = node("RotaryEmbedding", &["x", "c", "s"], &["y"]);
        check([
            case(
                23,
                rotated.int("num_heads", 4).int("rotary_embedding_dim", 6).int("interleaved", 1),
                Operator::RotaryEmbedding(rotary),
            ),
            case(13, microsoft, Operator::Attention(same)),
            case(23, node("Attention", &["q", "k", "v"], &["y"]), Operator::Attention(plain)),
            case(
                24,
                node("Attention", &["q", "k", "v", "m"], &["y"])
                    .int("q_num_heads", 6)
                    .int("kv_num_heads", 2)
                    .int("is_causal", 1)
                    .int("qk_matmul_output_mode", 3)
                    .float("scale", 0.5),
                Operator::Attention(heads),
            ),
        ]);
    }
}
