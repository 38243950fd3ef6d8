//! Values as columns: the parts that a concatenation, a pad, a split or a slice along the last axis has.
//!
//! A part of larger rows keeps its rows apart by the length of those. Kernels for images take such strides; a
//! layer says for which operands ([`Columns`](crate::layer::Columns)), and a value lies as columns only where its producer can
//! write it so and all its readers can read it so. All others are contiguous, and concatenations and splits copy them.

use optimium_graph::ops::{Operator, Pad, PadMode};
use optimium_graph::{Node, ValueId};
use optimium_tensor::{Expr, TensorShape};

use super::{Link, Planner, byte_count};
use crate::chain::operands;

impl Planner<'_> {
    /// Elements of one row, where that is known.
    fn row_length(&self, value: ValueId) -> Option<usize> {
        usize::try_from(self.graph.value(value).shape()?.dims().last()?.as_const()?).ok()
    }

    fn element_size(&self, value: ValueId) -> usize {
        self.graph.value(value).element_type().map_or(0, |element_type| element_type.size())
    }

    fn rank(&self, value: ValueId) -> Option<usize> {
        self.graph.value(value).shape().map(TensorShape::rank)
    }

    fn is_last_axis(&self, value: ValueId, axis: usize) -> bool {
        self.rank(value) == Some(axis + 1)
    }

    /// Whether two values differ in their last axis alone.
    fn same_rows(&self, a: ValueId, b: ValueId) -> bool {
        let leading =
            |value: ValueId| self.graph.value(value).shape()?.dims().split_last().map(|(_, rest)| rest);
        leading(a).is_some() && leading(a) == leading(b)
    }

    fn all_read_columns(&self, value: ValueId) -> bool {
        let reads = |&(node, input): &(usize, usize)| self.layers[node].columns.reads.contains(&input);
        self.readers[value.index()].iter().all(reads)
    }

    /// Output is input, which lies as columns, with the same rows.
    pub(super) fn view_columns(&mut self, input: ValueId, output: ValueId) {
        let same = self.row_length(input).is_some() && self.row_length(input) == self.row_length(output);
        if same && self.own[output.index()] && self.all_read_columns(output) {
            self.join(output, input, Expr::from(0i64));
        }
    }

    /// The output is the input's columns from `first` on.
    pub(super) fn cut_columns(&mut self, input: ValueId, output: ValueId, axis: usize, first: i64) {
        let size = self.element_size(input);
        let (Some(row), Some(length)) = (self.row_length(input), self.row_length(output)) else { return };
        let inside = usize::try_from(first).is_ok_and(|first| first + length <= row);
        let possible = self.columns && size > 0 && inside && self.is_last_axis(input, axis);
        if possible
            && self.same_rows(input, output)
            && self.own[output.index()]
            && self.all_read_columns(output)
        {
            let offset = Expr::from(first) * Expr::from(size);
            self.join_as(output, Link { parent: input, offset, row: Some(row) });
        }
    }

    /// The outputs are columns of the input, one after the other.
    pub(super) fn split_columns(&mut self, node: &Node, input: ValueId, axis: usize) {
        let mut first = 0;
        for output in &node.outputs {
            let Some(output) = *output else { return };
            self.cut_columns(input, output, axis, first);
            let Some(length) = self.row_length(output).and_then(|n| i64::try_from(n).ok()) else { return };
            first += length;
        }
    }

    /// The inputs lie in the output as columns, where they can.
    pub(super) fn concat_columns(&mut self, node: &Node, output: ValueId, axis: usize) {
        if !self.columns || !self.is_last_axis(output, axis) {
            return;
        }
        let inputs: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let (mut first, mut index) = (0, 0);
        while index < inputs.len() {
            let whole = self.covering(&inputs[index..]);
            if whole > 0 {
                self.place_columns(inputs[index], output, first);
            }
            for &input in &inputs[index..index + whole.max(1)] {
                let Some(length) = self.row_length(input) else { return };
                first += length;
            }
            index += whole.max(1);
        }
    }

    /// A pad of the last axis with a constant: the input lies in the output as columns, where it can.
    pub(super) fn pad(&mut self, node: &Node, pad: &Pad) {
        let (Some(input), Some(output), Some(pads)) = (node.input(0), node.output(0), &pad.pads) else {
            return;
        };
        let Some(((before, after), others)) = pads.split_last() else { return };
        let nothing = |expr: &Expr| expr.as_const() == Some(0);
        let others = others.iter().all(|(before, after)| nothing(before) && nothing(after));
        let grows = after.as_const().is_some_and(|after| after >= 0);
        let Some(first) = before.as_const().and_then(|before| usize::try_from(before).ok()) else { return };
        if self.columns && others && grows && pad.mode == PadMode::Constant && self.covering(&[input]) == 1 {
            self.place_columns(input, output, first);
        }
    }

    /// How many of these values, from the first on, together are all columns of one root that the runtime owns.
    fn covering(&self, values: &[ValueId]) -> usize {
        let Some(&head) = values.first() else { return 0 };
        let root = self.aliases.root(head).0;
        let Some(row) = self.row_length(root).filter(|_| self.own[root.index()]) else { return 0 };
        let size = self.element_size(root) as i64;
        let mut covered = 0;
        for (index, &value) in values.iter().enumerate() {
            let (other, offset) = self.aliases.root(value);
            let whole = self.aliases.row_stride(value).is_some()
                || byte_count(self.graph, value) == byte_count(self.graph, root);
            let Some(length) = self.row_length(value).filter(|_| whole && other == root) else { return 0 };
            if offset.as_const() != Some(covered as i64 * size) {
                return 0;
            }
            covered += length;
            if covered >= row {
                return if covered == row { index + 1 } else { 0 };
            }
        }
        0
    }

    /// Puts the root of `part` into `whole` as its columns from `first` on, where all layers concerned can do that.
    fn place_columns(&mut self, part: ValueId, whole: ValueId, first: usize) {
        let (root, size) = (self.aliases.root(part).0, self.element_size(part));
        let Some(row) = self.row_length(whole) else { return };
        // Whether the rows are the same number is known when shapes are: a layer whose operands do not fit is not bound.
        let same_rank = self.rank(part) == self.rank(whole);
        let fits = size > 0 && same_rank && self.aliases.root(whole).0 != root;
        if fits && self.can_be_columns(root) && self.can_interleave(root, whole) {
            let offset = Expr::from(first) * Expr::from(size);
            self.join_as(root, Link { parent: whole, offset, row: Some(row) });
        }
    }

    /// Whether everything that lies in `root` has its rows, is written by layers that can write columns, and read by such that
    /// can read them.
    fn can_be_columns(&self, root: ValueId) -> bool {
        self.members[root.index()].iter().all(|&member| {
            let (_, offset) = self.aliases.root(member);
            let whole = offset.as_const() == Some(0)
                && self.row_length(member) == self.row_length(root)
                && byte_count(self.graph, member) == byte_count(self.graph, root);
            let in_rows = whole || self.aliases.row_stride(member).is_some();
            in_rows && self.all_read_columns(member) && self.can_write_columns(member)
        })
    }

    fn can_write_columns(&self, value: ValueId) -> bool {
        let Some(node) = self.producers[value.index()] else { return false };
        self.layers[node].columns.writes || self.is_view(node, value)
    }

    /// Whether the node leaves `value` where its input lies.
    fn is_view(&self, node: usize, value: ValueId) -> bool {
        let node = &self.graph.nodes()[node];
        let views = matches!(
            node.op,
            Operator::Reshape(_) | Operator::Identity | Operator::Slice(_) | Operator::Split(_)
        );
        views && node.input(0).is_some_and(|input| self.aliases.root(input).0 == self.aliases.root(value).0)
    }

    /// Whether, with both in one memory, no layer meets there what it reads and what it writes, but those that can.
    fn can_interleave(&self, root: ValueId, whole: ValueId) -> bool {
        let outer = self.aliases.root(whole).0;
        let within = |value: ValueId| [root, outer].contains(&self.aliases.root(value).0);
        let members = self.members[root.index()].iter().chain(&self.members[outer.index()]);
        members.copied().all(|member| {
            let Some(index) = self.producers[member.index()] else { return true };
            self.is_view(index, member)
                || operands(self.graph, self.layers, index).inputs.iter().enumerate().all(|(input, value)| {
                    let Some(value) = *value else { return true };
                    !within(value)
                        || self.layers[index].columns.interleaved.contains(&input)
                        || self.aliases.root(value) == self.aliases.root(member)
                })
        })
    }
}
