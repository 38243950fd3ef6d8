//! Casts between narrow types and others than F32 go through F32, which has all numbers of narrow types.

use optimium_graph::ops::Cast;
use optimium_graph::{Node, Operator};
use optimium_tensor::ElementType;

use super::Parts;

impl Parts {
    pub(super) fn narrow_cast(&mut self, node: &Node) -> Option<()> {
        let (x, y) = (node.input(0)?, node.output(0)?);
        let value = self.graph.value(x);
        let (from, shape) = (value.element_type()?, value.shape().cloned());
        let to = self.graph.value(y).element_type()?;
        let narrows = matches!(node.op, Operator::NarrowCast(_));
        if from == ElementType::F32 || to == ElementType::F32 || !(from.is_narrow() || narrows) {
            return None;
        }
        let single = self.add_value(y, ElementType::F32, shape);
        self.write(Operator::Cast(Cast { to: ElementType::F32 }), &[x], single);
        let mut node = node.clone();
        node.inputs[0] = Some(single);
        self.nodes.push(node);
        Some(())
    }
}
