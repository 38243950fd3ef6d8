//! Scaled dot-product attention, and rotary embeddings.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Attention, AttentionScores, Binary, Comparison, LinearAttention, Operator, Pad, PadMode, RotaryEmbedding,
};
use optimium_tensor::{ElementType, Error, Result, Tensor};

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
        masked_score: None,
    };
    if op.softcap < 0.0 {
        return unsupported(format!("a softcap of {}", op.softcap));
    }
    let bound = |size: i64| (size >= 0).then_some(size);
    let left = bound(node.attributes.int_or("left_window_size", -1)?);
    let right = bound(node.attributes.int_or("right_window_size", -1)?);
    if left.is_some() || right.is_some() {
        let mask = windowed_mask(node, &op, left, right)?;
        node.inputs.resize(node.inputs.len().max(4), None);
        node.inputs[3] = Some(mask);
    }
    node.finish_with_all_inputs(Operator::Attention(op))
}

/// The mask that also leaves out keys further than `left` before the position of a query, or than `right` behind it.
fn windowed_mask(
    node: &mut NodeReader<'_, '_>,
    op: &Attention,
    left: Option<i64>,
    right: Option<i64>,
) -> Result<ValueId> {
    let axis = if op.query_heads.is_some() { 1 } else { 2 };
    let (queries, mut keys) = (node.required(0)?, node.required(1)?);
    let queries = node.size(queries, axis);
    keys = node.size(keys, axis);
    let mut first = None;
    if let Some(past) = node.input(4) {
        let past = node.size(past, 2);
        keys = node.binary(Binary::Add, keys, past);
        first = Some(past);
    }
    if let Some(counts) = node.input(6) {
        let counts = node.unsqueeze(counts, &[1, 2, 3]);
        first = Some(node.binary(Binary::Sub, counts, queries));
    }
    let query = node.count_to(queries)?;
    let mut position = node.unsqueeze(query, &[1]);
    if let Some(first) = first {
        position = node.binary(Binary::Add, position, first);
    }
    let key = node.count_to(keys)?;
    let behind = node.binary(Binary::Sub, position, key);
    let mut inside = None;
    for (bound, function, sign) in
        [(left, Comparison::LessOrEqual, 1), (right, Comparison::GreaterOrEqual, -1)]
    {
        let Some(bound) = bound else { continue };
        let bound = node.scalar("bound", sign * bound)?;
        let holds = node.compare(function, behind, bound);
        inside = Some(match inside {
            Some(other) => node.binary(Binary::And, other, holds),
            None => holds,
        });
    }
    let inside = inside.ok_or_else(|| Error::model("a window without bounds"))?;
    with_mask(node, inside, keys)
}

/// The node's own mask where `inside` holds, and what takes no part elsewhere.
fn with_mask(node: &mut NodeReader<'_, '_>, inside: ValueId, keys: ValueId) -> Result<ValueId> {
    let Some(mask) = node.input(3) else { return Ok(inside) };
    let (Some(rank), Some(element_type)) = (node.rank(mask), node.element_type(mask)) else {
        return unsupported("a window and a mask of unknown type");
    };
    // Columns that a mask lacks take no part.
    let own = node.size(mask, -1);
    let missing = node.binary(Binary::Sub, keys, own);
    let zeros = node.add_i64s("before", &vec![0; 2 * rank - 1])?;
    let pads = node.concat(&[zeros, missing], 0);
    let boolean = element_type == ElementType::Bool;
    let nothing = match boolean {
        true => node.add_constant("outside", Tensor::from_bytes(ElementType::Bool, &[], &[0])?),
        false => node.scalar_like("outside", mask, f32::NEG_INFINITY)?,
    };
    let pad = Pad { mode: PadMode::Constant, pads: None };
    let mask = node.step(Operator::Pad(pad), [Some(mask), Some(pads), Some(nothing)]);
    Ok(match boolean {
        true => node.binary(Binary::And, mask, inside),
        false => node.select(inside, mask, nothing),
    })
}

/// Inputs: q, k, v, past state or none, decays or none, rates or none.
pub(super) fn linear_attention(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    // How the computation is divided is no part of what is computed.
    attributes.ignore(&["chunk_size"]);
    let op = LinearAttention {
        query_heads: attributes.required_positive("q_num_heads")?,
        heads: attributes.required_positive("kv_num_heads")?,
        scale: attributes.float("scale")?.filter(|&scale| scale != 0.0),
    };
    let (decays, rates) = match attributes.string_or("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Error::model(format!("the rule {other:?}"))),
    };
    if node.input(4).is_some() != decays || node.input(5).is_some() != rates {
        return Err(Error::model("decays or rates that its rule does not have"));
    }
    // The state is kept where its output is.
    node.outputs.resize(2, None);
    if node.outputs[1].is_none() {
        node.outputs[1] = Some(node.intermediate("state"));
    }
    node.finish_with_all_inputs(Operator::LinearAttention(op))
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
        masked_score: None,
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
            masked_score: None,
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
