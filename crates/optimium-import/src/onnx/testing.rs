//! What the tests of the ONNX reader share: models in memory.

use optimium_graph::Graph;
use optimium_graph::ops::Operator;
use optimium_tensor::Result;
use prost::Message;

use super::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetId, ShapeProto, TensorProto,
    TensorType, TypeProto, ValueInfoProto, attribute_type,
};

/// A node whose attributes are added with the methods below.
pub(super) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    NodeProto {
        op_type: op_type.to_owned(),
        input: texts(inputs),
        output: texts(outputs),
        ..NodeProto::default()
    }
}

impl NodeProto {
    fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }

    pub(super) fn int(self, name: &str, i: i64) -> NodeProto {
        let name = name.to_owned();
        self.with(AttributeProto { name, i, r#type: attribute_type::INT, ..AttributeProto::default() })
    }

    pub(super) fn ints(self, name: &str, ints: &[i64]) -> NodeProto {
        let (name, ints) = (name.to_owned(), ints.to_vec());
        self.with(AttributeProto { name, ints, r#type: attribute_type::INTS, ..AttributeProto::default() })
    }

    pub(super) fn float(self, name: &str, f: f32) -> NodeProto {
        let name = name.to_owned();
        self.with(AttributeProto { name, f, r#type: attribute_type::FLOAT, ..AttributeProto::default() })
    }

    pub(super) fn floats(self, name: &str, floats: &[f32]) -> NodeProto {
        let (name, floats) = (name.to_owned(), floats.to_vec());
        self.with(AttributeProto {
            name,
            floats,
            r#type: attribute_type::FLOATS,
            ..AttributeProto::default()
        })
    }

    pub(super) fn text(self, name: &str, text: &str) -> NodeProto {
        let (name, s) = (name.to_owned(), text.as_bytes().to_vec());
        self.with(AttributeProto { name, s, r#type: attribute_type::STRING, ..AttributeProto::default() })
    }

    pub(super) fn graph(self, name: &str, graph: GraphProto) -> NodeProto {
        let (name, g) = (name.to_owned(), Some(graph));
        self.with(AttributeProto { name, g, r#type: attribute_type::GRAPH, ..AttributeProto::default() })
    }

    pub(super) fn tensor(self, name: &str, tensor: TensorProto) -> NodeProto {
        let (name, t) = (name.to_owned(), Some(tensor));
        self.with(AttributeProto { name, t, r#type: attribute_type::TENSOR, ..AttributeProto::default() })
    }

    pub(super) fn reference(self, name: &str, r#type: i32, reference: &str) -> NodeProto {
        let (name, ref_attr_name) = (name.to_owned(), reference.to_owned());
        self.with(AttributeProto { name, r#type, ref_attr_name, ..AttributeProto::default() })
    }
}

/// An F32 value; dimensions are numbers or names, an empty one for neither.
pub(super) fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dimension = |&dim: &&str| match dim.parse() {
        Ok(number) => Dimension { dim_value: Some(number), dim_param: None },
        Err(_) if dim.is_empty() => Dimension::default(),
        Err(_) => Dimension { dim_value: None, dim_param: Some(dim.to_owned()) },
    };
    let shape = Some(ShapeProto { dim: dims.iter().map(dimension).collect() });
    let tensor_type = Some(TensorType { elem_type: 1, shape });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type, ..TypeProto::default() }) }
}

/// An F32 constant of zeros.
pub(super) fn zeros(name: &str, dims: &[i64]) -> TensorProto {
    let float_data = vec![0.0; dims.iter().product::<i64>() as usize];
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data,
        ..TensorProto::default()
    }
}

/// An I64 constant.
pub(super) fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A graph that gives the outputs of its last node.
pub(super) fn graph(
    inputs: Vec<ValueInfoProto>,
    constants: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
) -> GraphProto {
    let results = nodes.last().map(|node| node.output.clone()).unwrap_or_default();
    let output = |name| ValueInfoProto { name, r#type: None };
    GraphProto {
        name: "test".to_owned(),
        input: inputs,
        output: results.into_iter().filter(|name| !name.is_empty()).map(output).collect(),
        initializer: constants,
        node: nodes,
        ..GraphProto::default()
    }
}

/// A model in that version of ONNX's operators.
pub(super) fn model(opset: i64, graph: GraphProto) -> ModelProto {
    let import = |domain: &str, version| OperatorSetId { domain: domain.to_owned(), version };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![import("", opset), import("com.microsoft", 1), import("local", 1)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Reads a model as from a file.
pub(super) fn read(model: &ModelProto) -> Result<Graph> {
    super::read(&model.encode_to_vec(), None)
}

/// Reads a graph in that version.
pub(super) fn read_graph(opset: i64, graph: GraphProto) -> Result<Graph> {
    read(&model(opset, graph))
}

/// What the nodes of one node's graph do, in order. Every input of the node is a graph input `[2, 3, 8, 8]`, unless
/// it is one of the constants.
pub(super) fn operators(opset: i64, node: NodeProto, constants: Vec<TensorProto>) -> Result<Vec<Operator>> {
    let is_constant = |name: &str| constants.iter().any(|constant| constant.name == name);
    let given = node.input.iter().filter(|name| !name.is_empty() && !is_constant(name));
    let inputs = given.map(|name| value(name, &["2", "3", "8", "8"])).collect();
    let graph = read_graph(opset, graph(inputs, constants, vec![node]))?;
    Ok(graph.nodes().iter().map(|node| node.op.clone()).collect())
}

/// One case of a table: what a node of that version becomes.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) opset: i64,
    pub(super) node: NodeProto,
    pub(super) constants: Vec<TensorProto>,
    pub(super) expected: Vec<Operator>,
}

/// A case without constants, that becomes one node.
pub(super) fn case(opset: i64, node: NodeProto, expected: Operator) -> Case {
    Case { opset, node, constants: Vec::new(), expected: vec![expected] }
}

/// Checks a table of cases.
pub(super) fn check(cases: impl IntoIterator<Item = Case>) {
    optimium_testing::each_case(cases, |case| {
        let actual = operators(case.opset, case.node.clone(), case.constants.clone())
            .map_err(|error| format!("{error:?}"))?;
        if actual == case.expected { Ok(()) } else { Err(format!("it became {actual:?}")) }
    });
}
