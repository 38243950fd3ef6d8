//! Which values are stored in bfloat16, where the precision that was asked for lets products round them anyway.
//!
//! A value is, where the layer that computes it can write it so and all that read it can read it so: it is rounded once, takes
//! half the memory, and products read it as it lies. What the caller sees keeps its type: inputs and outputs of the graph, and
//! every tensor of a plan whose tensors are to be readable.

use optimium_device::{CompileOptions, Precision};
use optimium_graph::{Graph, ValueId, ValueType};
use optimium_kernels::Packing;
use optimium_simd::Level;
use optimium_tensor::ElementType;

use crate::lower::{Chooser, NodeView, Storage, storage_of};

/// Changes the type of the values of `graph`, whose nodes are sorted, that are stored in bfloat16 with those options.
pub(crate) fn decide(graph: &mut Graph, level: Level, options: &CompileOptions) {
    if options.precision != Precision::Bf16 || !options.memory_optimization || !level.has_bf16() {
        return;
    }
    let nodes: Vec<Storage> = (0..graph.nodes().len())
        .map(|index| {
            let (packing, chooser) = (Packing::default(), Chooser::new(options));
            let (node, precision) = (&graph.nodes()[index], options.precision);
            storage_of(&NodeView { graph, node, level, precision, packing: &packing, chooser: &chooser })
        })
        .collect();
    let rounded = largest_set(graph, &nodes);
    for index in (0..rounded.len()).filter(|&index| rounded[index]) {
        if let ValueType::Tensor { element_type, .. } =
            &mut graph.value_mut(ValueId::from_index(index)).value_type
        {
            *element_type = ElementType::BF16;
        }
    }
}

/// For each value whether it is in the largest set that suits all nodes.
fn largest_set(graph: &Graph, nodes: &[Storage]) -> Vec<bool> {
    let mut rounded = vec![false; graph.values().len()];
    for value in graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten()) {
        rounded[value.index()] = graph.value(*value).element_type() == Some(ElementType::F32);
    }
    for output in &graph.outputs {
        rounded[output.index()] = false;
    }
    loop {
        let before = rounded.clone();
        for (node, storage) in graph.nodes().iter().zip(nodes) {
            let outputs = || node.outputs.iter().flatten();
            let alike = || storage.like_outputs.iter().filter_map(|&input| node.input(input));
            let is_rounded = |value: ValueId| rounded[value.index()];
            let together = outputs().copied().chain(alike()).all(is_rounded);
            for (input, value) in node.inputs.iter().enumerate() {
                let Some(value) = value else { continue };
                let allowed =
                    storage.reads.contains(&input) && (together || !storage.like_outputs.contains(&input));
                rounded[value.index()] &= allowed;
            }
            for value in outputs() {
                rounded[value.index()] &= storage.writes && (together || storage.like_outputs.is_empty());
            }
        }
        if rounded == before {
            return rounded;
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_graph::ops::{Conv, Fusion, ImageLayout, Padding, Unary};
    use optimium_graph::{Node, Operator, shapes};
    use optimium_tensor::{Tensor, TensorShape};
    use optimium_testing::each_case;

    use super::*;

    /// A graph of convolutions of square images.
    struct Network {
        graph: Graph,
        last: ValueId,
    }

    impl Network {
        fn new(channels: usize) -> Network {
            let mut graph = Graph::new("test");
            let last =
                graph.add_tensor("x", ElementType::F32, Some(TensorShape::fixed(&[1, 16, 16, channels])));
            graph.inputs.push(last);
            Network { graph, last }
        }

        fn node(mut self, op: Operator, inputs: Vec<Option<ValueId>>) -> Network {
            let name = format!("v{}", self.graph.nodes().len());
            let output = self.graph.add_unknown(name.clone());
            self.graph.add_node(Node { name, op, inputs, outputs: vec![Some(output)] });
            self.last = output;
            self
        }

        fn conv(
            mut self,
            [inputs, outputs, kernel, groups]: [usize; 4],
            residual: Option<ValueId>,
        ) -> Network {
            let dims = [outputs, inputs / groups, kernel, kernel];
            let weights = Tensor::zeros(ElementType::F32, &dims).expect("small");
            let weights = self.graph.add_constant(format!("w{}", self.graph.values().len()), weights);
            let padding = vec![kernel / 2; 2];
            let op = Conv {
                strides: vec![1; 2],
                dilations: vec![1; 2],
                groups,
                padding: Padding::Explicit { begin: padding.clone(), end: padding },
                layout: ImageLayout::ChannelsLast,
                fusion: Fusion::default(),
            };
            let x = self.last;
            self.node(Operator::Conv(op), vec![Some(x), Some(weights), None, residual])
        }

        fn unary(self) -> Network {
            let x = self.last;
            self.node(Operator::Unary { function: Unary::Sin }, vec![Some(x)])
        }

        /// The names of the values that are stored in bfloat16.
        fn rounded(mut self, options: &CompileOptions) -> String {
            self.graph.outputs.push(self.last);
            shapes::infer(&mut self.graph).expect("valid");
            decide(&mut self.graph, Level::best(), options);
            let rounded = |value: &&optimium_graph::Value| value.element_type() == Some(ElementType::BF16);
            let names = self.graph.values().iter().filter(rounded).map(|value| value.name.as_str());
            names.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn values_between_kernels_that_round() {
        if !Level::best().has_bf16() {
            return;
        }
        let wide = || Network::new(64).conv([64, 64, 1, 1], None);
        let with_residual = |network: Network| {
            let residual = network.last;
            network.conv([64, 64, 3, 64], None).conv([64, 64, 1, 1], Some(residual))
        };
        let cases = [
            ("one product", wide(), ""),
            ("two", wide().conv([64, 64, 1, 1], None), "v0"),
            (
                "around a depthwise one",
                wide().conv([64, 64, 3, 64], None).conv([64, 64, 1, 1], None),
                "v0 v1",
            ),
            ("a reader of f32", wide().unary().conv([64, 64, 1, 1], None), ""),
            ("an output of f32 behind a depthwise one", wide().conv([64, 64, 3, 64], None), ""),
            ("a sum that is an output", with_residual(wide()), ""),
            ("a sum that is read", with_residual(wide()).conv([64, 64, 1, 1], None), "v0 v1 v2"),
        ];
        let options = CompileOptions { precision: Precision::Bf16, ..CompileOptions::default() };
        each_case(
            cases.map(|(name, network, expected)| (name, network.rounded(&options), expected)),
            |case| {
                let (_, found, expected) = case;
                if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
            },
        );
        let readable = CompileOptions { memory_optimization: false, ..options };
        assert_eq!(wide().conv([64, 64, 1, 1], None).rounded(&readable), "");
        assert_eq!(wide().conv([64, 64, 1, 1], None).rounded(&CompileOptions::default()), "");
    }
}
