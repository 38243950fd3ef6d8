//! Puts the channels of images last, through the whole graph, with the least movement of data.
//!
//! Every value of three dimensions or more is stored either as the model says, or with its second axis last. Operators on
//! images want the latter, operators that mix or flatten axes the former, and most do as well with either: their
//! attributes are remapped. Where a producer and a reader disagree, a Transpose stands between them; it costs the bytes that
//! it moves, and nothing where only axes of size one move. Transposes of the model itself are the other way round:
//! they are free where their two sides disagree. The assignment of least cost is a minimum cut between the operators that
//! want channels last and those that don't ([`min_cut`]), found exactly and at once. [`roles`] says what every
//! operator allows, [`rewrite`] carries the assignment out.

mod attributes;
mod min_cut;
mod operands;
mod rewrite;
mod roles;

use optimium_tensor::{Expr, Result};

use super::editor::Editor;
use super::permutation::{channels_last, moves_nothing};
use crate::{NodeId, ValueId};
use min_cut::{Cut, SINK, SOURCE};
use roles::Role;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    let plan = Plan::new(editor);
    Ok(rewrite::rewrite(editor, &plan))
}

/// For every node whether it reads and writes images with channels last.
struct Plan {
    roles: Vec<Role>,
    reads_last: Vec<bool>,
    writes_last: Vec<bool>,
}

impl Plan {
    fn new(editor: &Editor) -> Plan {
        let roles: Vec<Role> = editor.nodes().into_iter().map(|node| Role::of(editor, node)).collect();
        let mut cut = Cut::default();
        let variables: Vec<(usize, usize)> = roles.iter().map(|role| variables(&mut cut, role)).collect();
        for (index, role) in roles.iter().enumerate() {
            add_transpose_costs(editor, &mut cut, NodeId::from_index(index), role, variables[index]);
        }
        for index in 0..editor.graph().values().len() {
            add_value_costs(editor, &mut cut, ValueId::from_index(index), &roles, &variables);
        }
        let source_side = cut.solve();
        Plan {
            reads_last: variables.iter().map(|&(reads, _)| source_side[reads]).collect(),
            writes_last: variables.iter().map(|&(_, writes)| source_side[writes]).collect(),
            roles,
        }
    }

    fn reads_last(&self, node: NodeId) -> bool {
        self.reads_last.get(node.index()).copied().unwrap_or(false)
    }

    fn writes_last(&self, node: NodeId) -> bool {
        self.writes_last.get(node.index()).copied().unwrap_or(false)
    }

    fn role(&self, node: NodeId) -> &Role {
        &self.roles[node.index()]
    }
}

/// The variables of a node's reading and writing; the source side is channels last.
fn variables(cut: &mut Cut, role: &Role) -> (usize, usize) {
    match role {
        Role::Fixed => (SINK, SINK),
        Role::ChannelsLast => (SOURCE, SOURCE),
        Role::Either => {
            let both = cut.variable();
            (both, both)
        }
        Role::Transpose { .. } => (cut.variable(), cut.variable()),
        Role::EitherInput => (cut.variable(), SINK),
    }
}

/// A Transpose to channels last moves nothing where it reads images stored so and writes them as they come; every
/// deviation moves the tensor once.
fn add_transpose_costs(
    editor: &Editor,
    cut: &mut Cut,
    node: NodeId,
    role: &Role,
    (reads, writes): (usize, usize),
) {
    let (Role::Transpose { to_last }, Some(x)) = (role, editor.input(node, 0)) else { return };
    let cost = cost(editor, x);
    let (wants_source, wants_sink) = if *to_last { (reads, writes) } else { (writes, reads) };
    cut.edge(SOURCE, wants_source, cost);
    cut.edge(wants_sink, SINK, cost);
}

/// A value is transposed once where any reader wants it other than it is written.
fn add_value_costs(
    editor: &Editor,
    cut: &mut Cut,
    value: ValueId,
    roles: &[Role],
    variables: &[(usize, usize)],
) {
    if !is_image(editor, value) || !editor.is_read(value) {
        return;
    }
    let written = editor.producer(value).map_or(SINK, |node| variables[node.index()].1);
    let mut readers: Vec<usize> = editor
        .consumers(value)
        .iter()
        .map(|&node| {
            if operands::is_image_operand(editor, node, &roles[node.index()], value) {
                variables[node.index()].0
            } else {
                SINK
            }
        })
        .collect();
    if editor.is_output(value) {
        readers.push(SINK);
    }
    readers.sort_unstable();
    readers.dedup();
    if readers == [written] {
        return;
    }
    let cost = cost(editor, value);
    let (to_first, to_last) = (cut.variable(), cut.variable());
    cut.edge(written, to_first, cost);
    cut.edge(to_last, written, cost);
    for reader in readers {
        cut.edge(to_first, reader, min_cut::INFINITE);
        cut.edge(reader, to_last, min_cut::INFINITE);
    }
}

/// Whether a value can be stored in two ways.
fn is_image(editor: &Editor, value: ValueId) -> bool {
    editor.rank(value).is_some_and(|rank| rank >= 3) && !editor.is_constant(value)
}

/// Symbolic sizes are taken for this.
const TYPICAL_SIZE: i64 = 16;

/// What it costs to transpose a value: its bytes, and a little for the step itself.
fn cost(editor: &Editor, value: ValueId) -> u64 {
    const STEP: u64 = 256;
    let Some(dims) = editor.dims(value) else { return STEP };
    if moves_nothing(dims, &channels_last(dims.len())) {
        return 0;
    }
    let size = |dim: &Expr| {
        let number = dim.substitute(&|_| Some(TYPICAL_SIZE.into())).as_const();
        number.and_then(|n| u64::try_from(n).ok()).unwrap_or(TYPICAL_SIZE as u64)
    };
    let bytes = editor.element_type(value).map_or(4, |element_type| element_type.size() as u64);
    dims.iter().map(size).fold(bytes, u64::saturating_mul).saturating_add(STEP).min(min_cut::INFINITE / 4096)
}
