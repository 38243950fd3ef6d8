//! Which values share memory by meaning: views, joined parts, and results written over their operands.
//!
//! Every value belongs to a *root* at a byte offset. A reshape and a slice of leading elements are views of their
//! operand; the parts of a concatenation along the leading axis are written where the whole will be; an elementwise
//! result may take over an operand that nobody needs any more. Along the last axis, parts lie in the whole as
//! [columns](columns), where all layers concerned can handle that.

mod columns;

use optimium_graph::ops::Operator;
use optimium_graph::{Graph, Node, ValueId};
use optimium_tensor::{Expr, TensorShape};

use crate::chain::{Operands, operands};
use crate::layer::Layer;

/// For each value the root whose memory it lies in, and its first byte there.
#[derive(Clone, Debug)]
pub(crate) struct Aliases {
    parents: Vec<Option<Link>>,
}

/// A value's place in another.
#[derive(Clone, Debug)]
struct Link {
    parent: ValueId,
    /// In bytes.
    offset: Expr,
    /// The elements of the parent's rows, where the value is columns of them. A link without it keeps the rows as they
    /// are, or all elements in a row.
    row: Option<usize>,
}

impl Aliases {
    /// The root of `value` and the offset in it, in bytes.
    pub(crate) fn root(&self, value: ValueId) -> (ValueId, Expr) {
        let (mut root, mut offset) = (value, Expr::from(0i64));
        while let Some(link) = &self.parents[root.index()] {
            offset = offset + link.offset.clone();
            root = link.parent;
        }
        (root, offset)
    }

    /// The elements from row to row of `value`, where it lies in its root as columns.
    pub(crate) fn row_stride(&self, value: ValueId) -> Option<usize> {
        let (mut value, mut stride) = (value, None);
        while let Some(link) = &self.parents[value.index()] {
            stride = link.row.or(stride);
            value = link.parent;
        }
        stride
    }

    fn attach(&mut self, value: ValueId, link: Link) {
        debug_assert!(self.root(link.parent).0 != value, "a value cannot lie in itself");
        self.parents[value.index()] = Some(link);
    }
}

/// Decides for the values of a sorted graph. `in_place` is false where every tensor must stay readable.
pub(crate) fn decide(graph: &Graph, layers: &[Layer], in_place: bool) -> Aliases {
    let mut planner = Planner::new(graph, layers, in_place);
    for (index, (node, layer)) in graph.nodes().iter().zip(layers).enumerate() {
        match &node.op {
            Operator::Reshape(_) | Operator::Identity => planner.view(node, Expr::from(0i64)),
            Operator::Slice(slice) => planner.slice(node, slice),
            Operator::Split(split) => planner.split(node, split.axis),
            Operator::Concat(concat) => planner.concat(node, concat.axis),
            Operator::Pad(pad) => planner.pad(node, pad),
            _ if in_place => planner.take_over(index, node, layer),
            _ => {}
        }
    }
    planner.aliases
}

/// Bytes of one tensor, as an expression.
pub(crate) fn byte_count(graph: &Graph, value: ValueId) -> Option<Expr> {
    let value = graph.value(value);
    Some(value.shape()?.element_count() * Expr::from(value.element_type()?.size()))
}

struct Planner<'a> {
    graph: &'a Graph,
    layers: &'a [Layer],
    /// Whether values may lie as columns of others.
    columns: bool,
    /// The node that computes each value.
    producers: Vec<Option<usize>>,
    /// The nodes that read each value, and as which input.
    readers: Vec<Vec<(usize, usize)>>,
    aliases: Aliases,
    /// The last node that reads each value; `usize::MAX` for what the caller reads.
    last_use: Vec<usize>,
    /// The values in the memory of each root.
    members: Vec<Vec<ValueId>>,
    /// Whether a value's memory is the runtime's own: computed, and not the caller's.
    own: Vec<bool>,
    computed: Vec<bool>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, layers: &'a [Layer], columns: bool) -> Self {
        let count = graph.values().len();
        let (mut last_use, mut producers) = (vec![0; count], vec![None; count]);
        let mut readers = vec![Vec::new(); count];
        for index in 0..graph.nodes().len() {
            let Operands { inputs, outputs } = operands(graph, layers, index);
            inputs.iter().flatten().for_each(|value| last_use[value.index()] = index);
            outputs.iter().flatten().for_each(|value| producers[value.index()] = Some(index));
            for (input, value) in inputs.iter().enumerate() {
                value.iter().for_each(|value| readers[value.index()].push((index, input)));
            }
        }
        let computed: Vec<bool> = producers.iter().map(Option::is_some).collect();
        let mut own = computed.clone();
        for output in &graph.outputs {
            last_use[output.index()] = usize::MAX;
            own[output.index()] = false;
        }
        let members = (0..count).map(|index| vec![ValueId::from_index(index)]).collect();
        let aliases = Aliases { parents: vec![None; count] };
        Planner { graph, layers, columns, producers, readers, aliases, last_use, members, own, computed }
    }

    /// Moves the memory of root `from` into that of `to`.
    fn join(&mut self, from: ValueId, to: ValueId, offset: Expr) {
        self.join_as(from, Link { parent: to, offset, row: None });
    }

    fn join_as(&mut self, from: ValueId, link: Link) {
        let to = link.parent;
        self.aliases.attach(from, link);
        let root = self.aliases.root(to).0;
        let moved = std::mem::take(&mut self.members[from.index()]);
        self.members[root.index()].extend(moved);
    }

    /// Whether `value` is all of a root that the runtime owns.
    fn is_whole_own_root(&self, value: ValueId) -> bool {
        let (root, offset) = self.aliases.root(value);
        self.own[root.index()]
            && offset.as_const() == Some(0)
            && byte_count(self.graph, root).is_some()
            && byte_count(self.graph, root) == byte_count(self.graph, value)
    }

    /// Output 0 is input 0 from `offset` on.
    fn view(&mut self, node: &Node, offset: Expr) {
        let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { return };
        self.view_of(input, output, offset);
    }

    fn view_of(&mut self, input: ValueId, output: ValueId, offset: Expr) {
        if self.aliases.row_stride(input).is_some() {
            if offset.as_const() == Some(0) {
                self.view_columns(input, output);
            }
        } else if self.own[output.index()] {
            self.join(output, input, offset);
        } else if offset.as_const() == Some(0)
            && self.is_whole_own_root(input)
            && byte_count(self.graph, input) == byte_count(self.graph, output)
        {
            let root = self.aliases.root(input).0;
            self.join(root, output, Expr::from(0i64));
        }
    }

    /// Bytes of one index of `axis`, where all axes before it have size one and the memory is contiguous.
    fn leading_stride(&self, value: ValueId, axis: usize) -> Option<Expr> {
        let shape = self.graph.value(value).shape()?;
        let leading = self.aliases.row_stride(value).is_none()
            && axis < shape.rank()
            && shape.dims()[..axis].iter().all(|dim| dim.as_const() == Some(1));
        let inner = || shape.dims()[axis + 1..].iter().cloned().collect::<TensorShape>().element_count();
        leading.then(|| inner() * Expr::from(self.graph.value(value).element_type().map_or(0, |t| t.size())))
    }

    fn slice(&mut self, node: &Node, slice: &optimium_graph::ops::Slice) {
        let (Some(input), Some([range])) = (node.input(0), slice.ranges.as_deref()) else { return };
        if range.step != 1 {
            return;
        }
        if let Some(stride) = self.leading_stride(input, range.axis) {
            self.view(node, range.start.clone() * stride);
        } else if let (Some(output), Some(first)) = (node.output(0), range.start.as_const()) {
            self.cut_columns(input, output, range.axis, first);
        }
    }

    fn split(&mut self, node: &Node, axis: i64) {
        let Some(input) = node.input(0) else { return };
        let Some(axis) = normalized(self.graph, input, axis) else { return };
        let Some(stride) = self.leading_stride(input, axis) else {
            return self.split_columns(node, input, axis);
        };
        let mut offset = Expr::from(0i64);
        // The offset of a part is known only where all parts before it are.
        for output in &node.outputs {
            let Some(output) = *output else { return };
            self.view_of(input, output, offset.clone());
            let Some(shape) = self.graph.value(output).shape() else { return };
            offset = offset + shape[axis].clone() * stride.clone();
        }
    }

    fn concat(&mut self, node: &Node, axis: i64) {
        let Some(output) = node.output(0) else { return };
        let Some(axis) = normalized(self.graph, output, axis) else { return };
        let Some(stride) = self.leading_stride(output, axis) else {
            return self.concat_columns(node, output, axis);
        };
        let mut offset = Expr::from(0i64);
        for input in node.inputs.iter().flatten() {
            let root = self.aliases.root(*input).0;
            // A root joined once is no longer whole, so that an operand that occurs twice is copied the second time.
            if self.is_whole_own_root(*input) && root != self.aliases.root(output).0 {
                self.join(root, output, offset.clone());
            }
            let Some(shape) = self.graph.value(*input).shape() else { return };
            offset = offset + shape[axis].clone() * stride.clone();
        }
    }

    /// Lets output 0 take over the memory of an operand that nobody reads later.
    fn take_over(&mut self, index: usize, node: &Node, layer: &Layer) {
        let Some(output) = node.output(0).filter(|output| self.own[output.index()]) else { return };
        for input in layer.in_place.iter().filter_map(|&input| node.input(input)) {
            let root = self.aliases.root(input).0;
            let free = self.members[root.index()].iter().all(|member| {
                self.last_use[member.index()] <= index && (self.computed[member.index()] || *member == output)
            });
            if free
                && self.is_whole_own_root(input)
                && byte_count(self.graph, output) == byte_count(self.graph, input)
            {
                self.join(output, root, Expr::from(0i64));
                return;
            }
        }
    }
}

/// `axis` as an index, where it is one.
fn normalized(graph: &Graph, value: ValueId, axis: i64) -> Option<usize> {
    let rank = i64::try_from(graph.value(value).shape()?.rank()).ok()?;
    usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&axis| (axis as i64) < rank)
}
