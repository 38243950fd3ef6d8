//! From the tables of a model to its graph.

use std::collections::HashMap;

use optimium_graph::{Graph, Unsupported, Value, ValueId, ValueType};
use optimium_tensor::{Error, ErrorKind, Expr, Result, Tensor, TensorShape};

use super::builtin;
use super::flatbuffer::Table;
use super::operator::OperatorReader;
use super::ops;
use super::tensor::{Declared, TensorReader};
use super::transpose::transposed;
use crate::check;
use crate::names::Names;

/// The only version of the format that is in use.
const VERSION: u32 = 3;

/// The graph of a model.
pub(super) fn lower<'a>(file: &'a [u8], model: Table<'a>, name: &str) -> Result<Graph> {
    if model.u32(0)? != VERSION {
        return Err(Error::not_implemented(format!("version {} of the format", model.u32(0)?)));
    }
    let subgraphs = model.tables(2)?;
    let subgraph = *subgraphs.first().ok_or_else(|| Error::model("the model has no graph"))?;
    let codes = model.tables(1)?.into_iter().map(OperatorCode::read).collect::<Result<Vec<_>>>()?;
    let mut lowering = Lowering {
        graph: Graph::new(name),
        tensors: Vec::new(),
        value_names: Names::default(),
        node_names: Names::default(),
        unsupported: Vec::new(),
        transposed: HashMap::new(),
        // A constant may be stored once and used in several forms, but not grow without end.
        growth: file.len().saturating_mul(8).saturating_add(1 << 20),
    };
    lowering.read_tensors(TensorReader::new(file, model)?, subgraph)?;
    for (index, operator) in subgraph.tables(3)?.into_iter().enumerate() {
        lowering.read_operator(operator, index, &codes)?;
    }
    lowering.finish()
}

/// What an operator of the file is.
struct OperatorCode {
    number: i32,
    custom: String,
}

impl OperatorCode {
    fn read(table: Table<'_>) -> Result<OperatorCode> {
        // The older field is a byte, and holds a constant where the number does not fit.
        let number = i32::from(table.i8(0)?).max(table.i32_or(3, 0)?);
        Ok(OperatorCode { number, custom: table.string(1)? })
    }

    fn name(&self) -> String {
        match (self.number, builtin::name(self.number)) {
            (builtin::CUSTOM, _) => format!("CUSTOM {}", self.custom),
            (_, Some(name)) => name.to_owned(),
            (number, None) => format!("builtin operator {number}"),
        }
    }
}

/// The state of a lowering: the graph under construction, and a value for every tensor of the file.
pub(super) struct Lowering {
    pub(super) graph: Graph,
    tensors: Vec<ValueId>,
    pub(super) value_names: Names,
    pub(super) node_names: Names,
    unsupported: Vec<Unsupported>,
    transposed: HashMap<(ValueId, Vec<usize>), ValueId>,
    growth: usize,
}

impl Lowering {
    fn read_tensors<'a>(&mut self, mut reader: TensorReader<'a>, subgraph: Table<'a>) -> Result<()> {
        let mut declared = Vec::new();
        for (index, table) in subgraph.tables(0)?.into_iter().enumerate() {
            match reader.read(table) {
                Ok(tensor) => declared.push(Some(tensor)),
                Err(error) if error.kind() == ErrorKind::NotImplemented => {
                    self.report(format!("TENSOR ({})", error.message()), &format!("tensor {index}"));
                    declared.push(None);
                }
                Err(error) => return Err(error),
            }
        }
        let inputs = indices(&subgraph.i32s(1)?, declared.len())?;
        let outputs = indices(&subgraph.i32s(2)?, declared.len())?;
        let mut produced = vec![false; declared.len()];
        for operator in subgraph.tables(3)? {
            for output in indices(&operator.i32s(2)?, declared.len())?.into_iter().flatten() {
                produced[output] = true;
            }
        }
        let is_dynamic = |tensor: &Declared| tensor.dims.iter().any(Option::is_none);
        let dynamic = inputs.iter().flatten().any(|&input| declared[input].as_ref().is_some_and(is_dynamic));
        for (index, tensor) in declared.into_iter().enumerate() {
            let is_input = inputs.contains(&Some(index));
            let id = match tensor {
                Some(tensor) => self.add_tensor(tensor, is_input, produced[index], dynamic)?,
                None => self.graph.add_unknown(self.value_names.unique(&format!("tensor_{index}"))),
            };
            self.tensors.push(id);
        }
        let missing = || Error::model("the graph has an input or output that is no tensor");
        for input in inputs {
            let id = self.tensors[input.ok_or_else(missing)?];
            if self.graph.constant(id).is_none() {
                self.graph.inputs.push(id);
            }
        }
        for output in outputs {
            self.graph.outputs.push(self.tensors[output.ok_or_else(missing)?]);
        }
        Ok(())
    }

    fn add_tensor(
        &mut self,
        tensor: Declared,
        input: bool,
        produced: bool,
        dynamic: bool,
    ) -> Result<ValueId> {
        let name = self.value_names.unique(&tensor.name);
        if let Some(constant) = tensor.constant {
            return Ok(self.graph.add_constant(name, constant));
        }
        if !input && !produced && tensor.dims.contains(&Some(0)) {
            // A constant without elements has no content.
            let dims: Vec<usize> = tensor.dims.iter().map(|dim| dim.unwrap_or(0)).collect();
            let empty = Tensor::from_bytes(tensor.element_type, &dims, &[])?.with_scheme(tensor.scheme);
            return Ok(self.graph.add_constant(name, empty));
        }
        let symbol = |axis: usize| Expr::symbol(&format!("{name}_dim_{axis}"));
        let shape = if input {
            let dim = |(axis, dim): (usize, &Option<usize>)| dim.map_or_else(|| symbol(axis), Expr::from);
            Some(tensor.dims.iter().enumerate().map(dim).collect::<TensorShape>())
        } else if dynamic || tensor.is_unranked {
            // The file has the shapes of one example only.
            None
        } else {
            tensor.dims.iter().map(|dim| dim.map(Expr::from)).collect()
        };
        let value_type = ValueType::Tensor { element_type: tensor.element_type, shape };
        Ok(self.graph.add_value(Value { name, value_type, scheme: tensor.scheme, constant: None }))
    }

    fn read_operator(&mut self, operator: Table<'_>, index: usize, codes: &[OperatorCode]) -> Result<()> {
        let code = codes
            .get(operator.u32(0)? as usize)
            .ok_or_else(|| Error::model(format!("operator {index} is of no known kind")))?;
        let name = self.node_names.unique(&format!("{}_{index}", code.name()));
        let values = |field: usize| -> Result<Vec<Option<ValueId>>> {
            let indices = indices(&operator.i32s(field)?, self.tensors.len())?;
            Ok(indices.into_iter().map(|index| index.map(|index| self.tensors[index])).collect())
        };
        let (inputs, outputs) = (values(1)?, values(2)?);
        let Some(operation) = ops::find(code.number) else {
            self.report(code.name(), &name);
            return Ok(());
        };
        let options = operator.table(4)?;
        let mut reader = OperatorReader::new(self, &name, options, inputs, outputs);
        match operation(&mut reader) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotImplemented => {
                self.report(format!("{} ({})", code.name(), error.message()), &name);
                Ok(())
            }
            Err(error) => Err(error.context(format!("the operator {name:?}"))),
        }
    }

    fn report(&mut self, operation: String, node: &str) {
        self.unsupported.push(Unsupported { operation, node: node.to_owned() });
    }

    fn finish(mut self) -> Result<Graph> {
        if !self.unsupported.is_empty() {
            return Err(Unsupported::error(&self.graph.name, &self.unsupported));
        }
        check::producers(&self.graph, std::iter::empty())?;
        self.graph.sort()?;
        self.graph.drop_unused_values();
        Ok(self.graph)
    }

    /// Takes memory for a constant that is made of others.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.growth = self
            .growth
            .checked_sub(bytes)
            .ok_or_else(|| Error::model("the model's constants grow beyond any measure"))?;
        Ok(())
    }

    /// A constant with its axes in another order, made once for all who need it.
    pub(super) fn transposed(&mut self, value: ValueId, permutation: &[usize]) -> Result<Option<ValueId>> {
        let Some(tensor) = self.graph.constant(value).cloned() else { return Ok(None) };
        if tensor.dims().len() != permutation.len() {
            return Err(Error::model(format!("weights of the shape {:?}", tensor.dims())));
        }
        let key = (value, permutation.to_vec());
        if let Some(&known) = self.transposed.get(&key) {
            return Ok(Some(known));
        }
        self.grow(tensor.byte_len())?;
        let name = format!("{}/transposed", self.graph.value(value).name);
        let name = self.value_names.unique(&name);
        let id = self.graph.add_constant(name, transposed(&tensor, permutation)?);
        self.transposed.insert(key, id);
        Ok(Some(id))
    }
}

/// Indices of tensors; -1 is one that is left out.
fn indices(numbers: &[i32], tensors: usize) -> Result<Vec<Option<usize>>> {
    let index = |&number: &i32| match (number, usize::try_from(number)) {
        (-1, _) => Ok(None),
        (_, Ok(index)) if index < tensors => Ok(Some(index)),
        _ => Err(Error::model(format!("the tensor {number}, which is not there"))),
    };
    numbers.iter().map(index).collect()
}
