//! Computes once what is computed several times: nodes with the same operator and inputs, and equal small constants.

use std::collections::HashMap;

use optimium_tensor::Result;

use super::editor::Editor;
use crate::{NodeId, Operator, ValueId};

/// Larger constants are compared by identity only, which importers keep.
const MAX_CONSTANT_BYTES: usize = 4096;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(merge_constants(editor) + merge_nodes(editor))
}

fn merge_constants(editor: &mut Editor) -> usize {
    let mut known: HashMap<(String, Vec<u8>), ValueId> = HashMap::new();
    let mut changes = 0;
    for index in 0..editor.graph().values().len() {
        let id = ValueId::from_index(index);
        let Some(key) = constant_key(editor, id) else { continue };
        let first = *known.entry(key).or_insert(id);
        if first != id {
            editor.redirect(id, first);
            changes += 1;
        }
    }
    changes
}

/// Equal for equal constants that somebody reads and the caller does not get.
fn constant_key(editor: &Editor, id: ValueId) -> Option<(String, Vec<u8>)> {
    let tensor = editor.constant(id).filter(|tensor| tensor.byte_len() <= MAX_CONSTANT_BYTES)?;
    if editor.consumers(id).is_empty() || editor.is_output(id) {
        return None;
    }
    let kind = format!("{} {:?} {:?}", tensor.element_type(), tensor.dims(), editor.value(id).scheme);
    Some((kind, tensor.read_bytes().ok()?.to_vec()))
}

fn merge_nodes(editor: &mut Editor) -> usize {
    let mut known: HashMap<(&'static str, Vec<Option<ValueId>>), Vec<NodeId>> = HashMap::new();
    let mut changes = 0;
    for id in editor.nodes() {
        if !editor.is_alive(id) || !is_pure(editor.op(id)) {
            continue;
        }
        let key = (editor.op(id).name(), editor.node(id).inputs.clone());
        let twins = known.entry(key).or_default();
        match twins.iter().find(|&&twin| is_twin(editor, twin, id)) {
            Some(&twin) if merge(editor, twin, id).is_some() => changes += 1,
            _ => twins.push(id),
        }
    }
    changes
}

fn is_pure(op: &Operator) -> bool {
    !matches!(
        op,
        Operator::If(_) | Operator::Loop(_) | Operator::Scan(_) | Operator::Deferred(_) | Operator::Random(_)
    )
}

fn is_twin(editor: &Editor, a: NodeId, b: NodeId) -> bool {
    let kinds = |node: NodeId| {
        editor
            .node(node)
            .outputs
            .iter()
            .map(|o| o.map(|v| (editor.element_type(v), &editor.value(v).scheme)))
            .collect::<Vec<_>>()
    };
    editor.is_alive(a) && editor.op(a) == editor.op(b) && kinds(a) == kinds(b)
}

/// Lets the readers of `second` read `first`; `None` where the caller gets a result of `second`.
fn merge(editor: &mut Editor, first: NodeId, second: NodeId) -> Option<()> {
    let pairs: Vec<(ValueId, ValueId)> = {
        let (a, b) = (editor.node(first), editor.node(second));
        b.outputs.iter().zip(&a.outputs).filter_map(|(&b, &a)| Some((b?, a?))).collect()
    };
    if pairs.iter().any(|&(old, _)| editor.is_output(old)) {
        return None;
    }
    for (old, new) in pairs {
        editor.note_move(old, new, Vec::new());
        editor.redirect(old, new);
    }
    editor.remove(second);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect, expect_simplified};
    use optimium_tensor::ElementType;

    use super::*;
    use crate::ops::{Binary, Distribution, Random, Unary};

    #[test]
    fn equal_nodes_and_constants_become_one() {
        let mut builder = Builder::new();
        let x = builder.input(&[2, 3]);
        let (c, d) = (builder.constant(&[3], &[1.0, 2.0, 3.0]), builder.constant(&[3], &[1.0, 2.0, 3.0]));
        let (a, b) = (builder.binary(Binary::Add, x, c), builder.binary(Binary::Add, x, d));
        let (a, b) = (builder.unary(Unary::Exp, a), builder.unary(Unary::Neg, b));
        let y = builder.binary(Binary::Mul, a, b);
        expect(run, builder.finish(&[y]), &["Add", "Exp", "Neg", "Mul"]).unwrap();
    }

    #[test]
    fn random_numbers_stay_apart() {
        let mut builder = Builder::new();
        let draw = |builder: &mut Builder| {
            let distribution = Distribution::Uniform { low: 0.0, high: 1.0 };
            let (dims, element_type) = (Some(vec![4usize.into()]), ElementType::F32);
            let op = Operator::Random(Random { dims, element_type, distribution, seed: None });
            builder.node(op, &[])
        };
        let (a, b) = (draw(&mut builder), draw(&mut builder));
        let y = builder.binary(Binary::Add, a, b);
        expect_simplified(builder.finish(&[y]), &["RandomUniform", "RandomUniform", "Add"]).unwrap();
    }

    #[test]
    fn outputs_stay_apart() {
        let mut builder = Builder::new();
        let x = builder.input(&[2, 3]);
        let (a, b) = (builder.unary(Unary::Exp, x), builder.unary(Unary::Exp, x));
        expect(run, builder.finish(&[a, b]), &["Exp", "Exp"]).unwrap();
    }
}
