//! From the messages of a model to its graph.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use optimium_graph::{Graph, Unsupported, Value, ValueId, ValueType};
use optimium_tensor::{Error, ErrorKind, Expr, Result, Tensor, TensorShape};

use super::attributes::{Attributes, FunctionAttributes};
use super::level::{Body, Capture, Level, Opsets, Scope, Structure};
use super::node::NodeReader;
use super::ops::{self, Operation};
use super::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetId, TensorProto, ValueInfoProto,
};
use super::{tensor, types};
use crate::{InputSequences, check, no_sequence};

/// The versions of ONNX's own operators that are known.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// The first version that all operators are known of. Of older ones those are known whose meaning did not change.
const COMPLETE: i64 = 7;

/// How deep bodies and functions may be nested.
const DEPTH: usize = 32;

/// How many nodes functions may expand to: functions that call functions grow exponentially.
const EXPANDED_NODES: usize = 1 << 17;

/// The graph of a model.
pub(super) fn import(
    mut model: ModelProto,
    folder: Option<&Path>,
    sequences: &InputSequences,
) -> Result<Graph> {
    let graph = model.graph.as_mut().ok_or_else(|| Error::model("the model has no graph"))?;
    // Each message is given up as soon as it is a tensor.
    let initializers = std::mem::take(&mut graph.initializer);
    let model = model;
    let graph = model.graph.as_ref().ok_or_else(|| Error::model("the model has no graph"))?;
    if !graph.quantization_annotation.is_empty() {
        return Err(Error::not_implemented("quantization by annotations of tensors"));
    }
    let mut functions = HashMap::new();
    for function in &model.functions {
        let key = (domain(&function.domain), function.name.as_str(), function.overload.as_str());
        if functions.insert(key, function).is_some() {
            return Err(Error::model(format!("the function {:?} is defined twice", function.name)));
        }
    }
    let opsets = opsets(&model.opset_import)?;
    let is_structured = |name: &str| {
        let input = graph.input.iter().find(|input| input.name == name);
        input.and_then(|input| input.r#type.as_ref()).is_some_and(|declared| declared.tensor_type.is_none())
    };
    if let Some(name) = sequences.keys().find(|name| !is_structured(name)) {
        return Err(no_sequence(name));
    }
    let mut importer = Importer {
        folder,
        sequences,
        functions,
        levels: Vec::new(),
        tensors: HashMap::new(),
        unsupported: Vec::new(),
        expanded: 0,
    };
    let scope = Scope { opsets, ..Scope::default() };
    let read = |constant: TensorProto| (tensor::read(&constant, folder), constant.name);
    let constants = initializers.into_iter().map(read).map(|(tensor, name)| (name, tensor)).collect();
    let graph = importer.read_graph(graph, constants, scope)?.graph;
    if importer.unsupported.is_empty() {
        Ok(graph)
    } else {
        Err(Unsupported::error(&graph.name, &importer.unsupported))
    }
}

/// `ai.onnx` is another name of the default domain.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn opsets(imports: &[OperatorSetId]) -> Result<Opsets<'_>> {
    let mut opsets = HashMap::new();
    for import in imports {
        let domain = domain(&import.domain);
        if domain.is_empty() && !OPSETS.contains(&import.version) {
            return Err(Error::not_implemented(format!(
                "version {} of ONNX's operators; known are {} to {}",
                import.version,
                OPSETS.start(),
                OPSETS.end()
            )));
        }
        opsets.insert(domain, import.version);
    }
    Ok(Rc::new(opsets))
}

/// The state of an import: the graph under construction, inside of those that it is a body in.
pub(super) struct Importer<'m> {
    folder: Option<&'m Path>,
    sequences: &'m InputSequences,
    functions: HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    levels: Vec<Level<'m>>,
    /// Tensors that were read, by the address of their messages.
    tensors: HashMap<usize, Tensor>,
    unsupported: Vec<Unsupported>,
    expanded: usize,
}

/// A constant's name, and its tensor or why it has none.
type Constant = (String, Result<Tensor>);

impl<'m> Importer<'m> {
    /// The graph under construction.
    pub(super) fn level(&mut self) -> &mut Level<'m> {
        self.levels.last_mut().expect("nodes are read into a graph")
    }

    /// The tensor of a message. A function or body that is read again shares its constants with the first reading.
    pub(super) fn tensor(&mut self, proto: &'m TensorProto) -> Result<Tensor> {
        let key = std::ptr::from_ref(proto).addr();
        if let Some(known) = self.tensors.get(&key) {
            return Ok(known.clone());
        }
        let tensor = tensor::read(proto, self.folder)?;
        self.tensors.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// The tensor of a sparse message.
    pub(super) fn sparse_tensor(&self, proto: &super::proto::SparseTensorProto) -> Result<Tensor> {
        tensor::read_sparse(proto, self.folder)
    }

    /// Reads the body of a control-flow operator. The captured values are not yet among its inputs.
    pub(super) fn read_body(&mut self, body: &'m GraphProto) -> Result<Body> {
        let around = self.level().scope();
        let scope = Scope {
            opsets: Rc::clone(&around.opsets),
            attributes: Rc::clone(&around.attributes),
            prefix: around.prefix.clone(),
            values: HashMap::new(),
        };
        self.check_depth()?;
        let constants =
            body.initializer.iter().map(|constant| (constant.name.clone(), self.tensor(constant))).collect();
        self.read_graph(body, constants, scope)
            .map_err(|error| error.context(format!("the body {:?}", body.name)))
    }

    fn check_depth(&self) -> Result<()> {
        let depth: usize = self.levels.iter().map(|level| level.scopes.len()).sum();
        if depth > DEPTH {
            return Err(Error::model(format!("bodies and functions are nested deeper than {DEPTH}")));
        }
        Ok(())
    }

    fn read_graph(
        &mut self,
        proto: &'m GraphProto,
        constants: Vec<Constant>,
        scope: Scope<'m>,
    ) -> Result<Body> {
        self.levels.push(Level::new(&proto.name, scope));
        self.declare_inputs(proto, &constants)?;
        self.declare_constants(proto, constants)?;
        self.declare_results(&proto.node)?;
        // Sizes may decide ranks where branches are: what comes out is then known by its declaration alone.
        let has_bodies =
            proto.node.iter().flat_map(|node| &node.attribute).any(|argument| argument.g.is_some());
        self.declare_types(proto.value_info.iter(), false);
        self.declare_types(proto.output.iter(), has_bodies);
        for output in &proto.output {
            let id = self.resolve(&output.name)?.ok_or_else(|| {
                Error::model(format!("the graph's output {:?} is computed by no node", output.name))
            })?;
            self.level().graph.outputs.push(id);
        }
        self.read_nodes(&proto.node)?;
        let mut level = self.levels.pop().expect("pushed above");
        if self.levels.is_empty() {
            level.name_outputs();
        }
        let outputs = level.expand_outputs();
        if self.unsupported.is_empty() {
            check::producers(&level.graph, level.captures.iter().map(|capture| capture.inner))?;
        }
        level.graph.sort()?;
        Ok(Body { graph: level.graph, captures: level.captures, outputs })
    }

    fn declare_inputs(&mut self, proto: &'m GraphProto, constants: &[Constant]) -> Result<()> {
        // Old models list their constants as inputs too.
        let sparse = proto.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        let sparse = sparse.map(|values| values.name.as_str());
        let constants: HashSet<&str> =
            constants.iter().map(|(name, _)| name.as_str()).chain(sparse).collect();
        for input in proto.input.iter().filter(|input| !constants.contains(input.name.as_str())) {
            let id = self.declare(&input.name)?;
            let level = self.level();
            level.graph.inputs.push(id);
            let mut symbols = Vec::new();
            let mut dimension = |index: usize, number: Option<i64>, name: Option<&str>| match number {
                Some(number) => Some(Expr::from(number)),
                None => {
                    let symbol = name.map_or_else(|| format!("{}_dim_{index}", input.name), str::to_owned);
                    let expr = Expr::symbol(&symbol);
                    symbols.push(symbol);
                    Some(expr)
                }
            };
            let declared = input.r#type.as_ref().map(|declared| types::value_type(declared, &mut dimension));
            match declared {
                Some(Ok(ValueType::Tensor { element_type, shape })) => {
                    level.graph.value_mut(id).value_type = ValueType::Tensor { element_type, shape };
                }
                Some(Ok(structured)) => self.declare_structured(id, &input.name, structured)?,
                Some(Err(error)) => self.unsupported("input", &input.name, error)?,
                // Bodies may leave the types of their inputs out.
                None => {}
            }
            self.level().symbols.extend(symbols);
        }
        Ok(())
    }

    /// An input that is no tensor: it becomes those that the caller says it stands for.
    fn declare_structured(&mut self, id: ValueId, name: &str, value_type: ValueType) -> Result<()> {
        let said = self.sequences.get(name).filter(|_| self.levels.len() == 1);
        let (is_optional, inner) = match value_type {
            ValueType::Optional(inner) => (true, *inner),
            other => (false, other),
        };
        let level = self.level();
        let element_type = match (inner, said) {
            (_, Some(None)) if is_optional => {
                level.graph.inputs.pop();
                level.structures.insert(id, Structure::Absent);
                return Ok(());
            }
            // An optional that is given has a value.
            (tensor @ ValueType::Tensor { .. }, None) => {
                level.graph.value_mut(id).value_type = tensor;
                return Ok(());
            }
            (ValueType::Sequence(inner), Some(Some(_))) => inner.element_type(),
            (_, None) | (ValueType::Sequence(_), _) => {
                let error = Error::not_implemented("a sequence, whose length the model does not say");
                return self.unsupported("input", name, error);
            }
            _ => None,
        };
        let (Some(element_type), Some(Some(shapes))) = (element_type, said) else {
            return Err(Error::invalid_argument(format!(
                "sequences: the input {name:?} is no such sequence"
            )));
        };
        level.graph.inputs.pop();
        let mut values = Vec::with_capacity(shapes.len());
        for (index, shape) in shapes.iter().enumerate() {
            let name = level.value_names.unique(&format!("{name}.{index}"));
            values.push(level.graph.add_tensor(name, element_type, Some(TensorShape::fixed(shape))));
        }
        level.graph.inputs.extend(&values);
        level.structures.insert(id, Structure::Sequence(values));
        Ok(())
    }

    fn declare_constants(&mut self, proto: &'m GraphProto, constants: Vec<Constant>) -> Result<()> {
        for (name, tensor) in constants {
            let id = self.declare(&name)?;
            match tensor {
                Ok(tensor) => self.set_constant(id, tensor),
                Err(error) => self.unsupported("constant", &name, error)?,
            }
        }
        for initializer in &proto.sparse_initializer {
            let name = initializer.values.as_ref().map_or("", |values| values.name.as_str());
            let id = self.declare(name)?;
            match self.sparse_tensor(initializer) {
                Ok(tensor) => self.set_constant(id, tensor),
                Err(error) => self.unsupported("constant", name, error)?,
            }
        }
        Ok(())
    }

    /// Makes a constant of a value.
    pub(super) fn set_constant(&mut self, id: ValueId, tensor: Tensor) {
        let value = self.level().graph.value_mut(id);
        value.value_type =
            ValueType::Tensor { element_type: tensor.element_type(), shape: Some(tensor.shape()) };
        value.constant = Some(tensor);
    }

    /// Declares what nodes compute, so that nodes may stand in any order.
    fn declare_results(&mut self, nodes: &'m [NodeProto]) -> Result<()> {
        for output in nodes.iter().flat_map(|node| &node.output).filter(|output| !output.is_empty()) {
            if !self.level().scope().values.contains_key(output.as_str()) {
                self.declare(output)?;
            } else if self.level().scopes.len() == 1 {
                return Err(Error::model(format!("the tensor {output:?} is computed twice")));
            }
        }
        Ok(())
    }

    /// A new value of that name in the names in force.
    fn declare(&mut self, name: &str) -> Result<ValueId> {
        let level = self.level();
        if name.is_empty() {
            return Err(Error::model("a tensor without a name"));
        }
        let unique = format!("{}{name}", level.scope().prefix);
        let unique = level.value_names.unique(&unique);
        let id = level.graph.add_unknown(unique);
        if level.scope_mut().values.insert(name.to_owned(), id).is_some() {
            return Err(Error::model(format!("two tensors have the name {name:?}")));
        }
        Ok(id)
    }

    /// Takes the types that the model declares. Shapes with symbols that no input has are no help to shape
    /// inference, and dropped, unless `keep_ranks` says that their number of dimensions is: the symbols are then new ones.
    fn declare_types(&mut self, declared: impl Iterator<Item = &'m ValueInfoProto>, keep_ranks: bool) {
        let level = self.level();
        for info in declared {
            let (Some(&id), Some(declared)) = (level.scope().values.get(&info.name), info.r#type.as_ref())
            else {
                continue;
            };
            if level.graph.value(id).value_type != ValueType::Unknown {
                continue;
            }
            if let Some(shape) = declared.tensor_type.as_ref().and_then(|tensor| tensor.shape.as_ref()) {
                level.declare_rank(id, shape.dim.len());
            }
            let symbols = &level.symbols;
            let value_name = &level.graph.value(id).name;
            let mut dimension = |axis: usize, number: Option<i64>, name: Option<&str>| {
                let known = number
                    .map(Expr::from)
                    .or_else(|| name.filter(|&n| symbols.contains(n)).map(Expr::symbol));
                known.or_else(|| keep_ranks.then(|| Expr::symbol(&format!("{value_name}.{axis}"))))
            };
            if let Ok(value_type) = types::value_type(declared, &mut dimension) {
                level.graph.value_mut(id).value_type = value_type;
            }
        }
    }

    /// The value of that name: of the names in force, or of the graphs around, from where it is captured.
    pub(super) fn resolve(&mut self, name: &str) -> Result<Option<ValueId>> {
        let found = self.levels.iter().enumerate().rev().find_map(|(index, level)| {
            let known = level.scope().values.get(name).map(|&id| (index, Some(id)));
            // A function sees nothing but its own names.
            known.or((level.scopes.len() > 1).then_some((index, None)))
        });
        let Some((found, Some(mut id))) = found else { return Ok(None) };
        for index in found + 1..self.levels.len() {
            id = self.capture(index, name, id);
        }
        Ok(Some(id))
    }

    /// Gives the body at `index` an input for a value of the graph around it; constants are shared instead.
    fn capture(&mut self, index: usize, name: &str, outer: ValueId) -> ValueId {
        let inner = match self.levels[index - 1].structures.get(&outer).cloned() {
            None => self.capture_tensor(index, name, outer),
            Some(structure) => {
                let structure = match structure {
                    Structure::Sequence(values) => {
                        let element = |value| self.capture_tensor(index, name, value);
                        Structure::Sequence(values.into_iter().map(element).collect())
                    }
                    Structure::Absent => Structure::Absent,
                };
                let level = &mut self.levels[index];
                let inner = level.add_intermediate(name);
                level.structures.insert(inner, structure);
                inner
            }
        };
        self.levels[index].scope_mut().values.insert(name.to_owned(), inner);
        inner
    }

    /// The body's value for a tensor of the graph around it.
    fn capture_tensor(&mut self, index: usize, name: &str, outer: ValueId) -> ValueId {
        if let Some(known) = self.levels[index].captures.iter().find(|capture| capture.outer == outer) {
            return known.inner;
        }
        let value = self.levels[index - 1].graph.value(outer);
        let constant = value.constant.clone();
        let value_type = match (&value.value_type, self.levels[index - 1].element_type(outer)) {
            (ValueType::Unknown, Some(element_type)) => ValueType::Tensor { element_type, shape: None },
            (known, _) => known.clone(),
        };
        let level = &mut self.levels[index];
        let unique = level.value_names.unique(name);
        let Some(tensor) = constant else {
            let inner =
                level.graph.add_value(Value { name: unique, value_type, scheme: None, constant: None });
            level.captures.push(Capture { outer, inner });
            return inner;
        };
        level.graph.add_constant(unique, tensor)
    }

    fn read_nodes(&mut self, nodes: &'m [NodeProto]) -> Result<()> {
        // Readers ask for constants, wherever those stand.
        let is_constant = |node: &&NodeProto| node.op_type == "Constant" && domain(&node.domain).is_empty();
        let constants = nodes.iter().enumerate().filter(|(_, node)| is_constant(node));
        let others = nodes.iter().enumerate().filter(|(_, node)| !is_constant(node));
        for (index, node) in constants.chain(others) {
            let name = match node.name.as_str() {
                "" => format!("{}_{index}", node.op_type),
                name => name.to_owned(),
            };
            let name = format!("{}{name}", self.level().scope().prefix);
            let name = self.level().node_names.unique(&name);
            let depth = self.levels.len();
            match self.read_node(node, &name) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotImplemented => {
                    // Bodies that were being read are given up.
                    self.levels.truncate(depth);
                    self.unsupported(&node.op_type, &name, error)?;
                }
                Err(error) => {
                    return Err(error.context(format!("the node {name:?} ({})", node.op_type)));
                }
            }
        }
        Ok(())
    }

    /// Collects what is unsupported, passes other errors on.
    fn unsupported(&mut self, operation: &str, node: &str, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::NotImplemented {
            return Err(error.context(format!("the {operation} {node:?}")));
        }
        let what = match error.message() {
            "" => operation.to_owned(),
            message => format!("{operation} ({message})"),
        };
        self.unsupported.push(Unsupported { operation: what, node: node.to_owned() });
        Ok(())
    }

    fn read_node(&mut self, node: &'m NodeProto, name: &str) -> Result<()> {
        let inputs = self.values(&node.input, "input")?;
        let outputs = self.values(&node.output, "output")?;
        let node_domain = domain(&node.domain);
        let attributes = Attributes::new(node, &Rc::clone(&self.level().scope().attributes))?;
        let key = (node_domain, node.op_type.as_str(), node.overload.as_str());
        if let Some(&function) = self.functions.get(&key) {
            return self.inline(function, name, &inputs, &outputs, attributes);
        }
        let opset = *self.level().scope().opsets.get(node_domain).ok_or_else(|| {
            Error::model(format!("the model imports no operators of the domain {node_domain:?}"))
        })?;
        let operation = ops::find(node_domain, &node.op_type)
            .ok_or_else(|| Error::not_implemented(if node_domain.is_empty() { "" } else { node_domain }))?;
        if node_domain.is_empty() && opset < COMPLETE && !ops::UNCHANGED.contains(&operation.name) {
            return Err(Error::not_implemented(format!("version {opset} of the operators")));
        }
        check_arity(operation, &inputs, &outputs)?;
        let is_structured =
            |id: &ValueId| self.levels.last().is_some_and(|level| level.structures.contains_key(id));
        if !ops::STRUCTURED.contains(&operation.name) && inputs.iter().flatten().any(is_structured) {
            return Err(Error::not_implemented("of a sequence or an optional"));
        }
        let mut reader = NodeReader::new(self, name, &node.op_type, opset, inputs, outputs, attributes);
        (operation.read)(&mut reader)?;
        let unread: Vec<&str> = reader.attributes.unread().collect();
        match unread.as_slice() {
            [] => Ok(()),
            unread => Err(Error::not_implemented(format!("attribute {}", unread.join(", ")))),
        }
    }

    fn values(&mut self, names: &[String], kind: &str) -> Result<Vec<Option<ValueId>>> {
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            values.push(match name.as_str() {
                "" => None,
                name => Some(self.resolve(name)?.ok_or_else(|| {
                    Error::model(format!("its {kind} {name:?} is neither given nor computed"))
                })?),
            });
        }
        Ok(values)
    }

    /// Fails where functions and loops expand to too many nodes.
    fn count_expanded(&mut self, nodes: usize) -> Result<()> {
        self.expanded = self.expanded.saturating_add(nodes);
        if self.expanded > EXPANDED_NODES {
            return Err(Error::model(format!(
                "functions and loops expand to more than {EXPANDED_NODES} nodes"
            )));
        }
        Ok(())
    }

    /// Reads the nodes of a function in place of its call.
    fn inline(
        &mut self,
        function: &'m FunctionProto,
        name: &str,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
        mut attributes: Attributes<'m>,
    ) -> Result<()> {
        self.check_depth()?;
        self.count_expanded(function.node.len())?;
        if inputs.len() > function.input.len() || outputs.len() > function.output.len() {
            return Err(Error::model(format!("it calls {:?} with too many values", function.name)));
        }
        let given = function_attributes(function, &mut attributes)?;
        let scope = Scope {
            values: HashMap::new(),
            opsets: opsets(&function.opset_import)?,
            attributes: Rc::new(given),
            prefix: format!("{name}/"),
        };
        self.level().scopes.push(scope);
        let read = self.read_function(function, inputs, outputs);
        self.level().scopes.pop();
        read
    }

    /// Reads the nodes of a graph that is no body of control flow in place of a node's call; gives its outputs.
    pub(super) fn inline_graph(
        &mut self,
        proto: &'m GraphProto,
        name: &str,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        self.check_depth()?;
        self.count_expanded(proto.node.len())?;
        if inputs.len() != proto.input.len() {
            return Err(Error::model(format!("its graph {:?} has {} inputs", proto.name, proto.input.len())));
        }
        let mut values: HashMap<String, ValueId> = HashMap::new();
        let own: HashSet<&str> = (proto.node.iter().flat_map(|node| &node.output))
            .chain(proto.initializer.iter().map(|constant| &constant.name))
            .map(String::as_str)
            .collect();
        for read in names_read(proto) {
            if !own.contains(read.as_str())
                && let Some(id) = self.resolve(read)?
            {
                values.insert(read.clone(), id);
            }
        }
        values.extend(proto.input.iter().map(|input| input.name.clone()).zip(inputs.iter().copied()));
        let around = self.level().scope();
        let (opsets, attributes) = (Rc::clone(&around.opsets), Rc::clone(&around.attributes));
        let scope = Scope { values, opsets, attributes, prefix: format!("{name}/") };
        self.level().scopes.push(scope);
        let read = self.read_inlined(proto);
        self.level().scopes.pop();
        read
    }

    fn read_inlined(&mut self, proto: &'m GraphProto) -> Result<Vec<ValueId>> {
        let constants: Vec<Constant> =
            proto.initializer.iter().map(|constant| (constant.name.clone(), self.tensor(constant))).collect();
        self.declare_constants(proto, constants)?;
        self.declare_results(&proto.node)?;
        self.declare_types(proto.value_info.iter(), false);
        self.read_nodes(&proto.node)?;
        let output = |output: &ValueInfoProto| {
            self.resolve(&output.name)?.ok_or_else(|| {
                Error::model(format!("its graph's output {:?} is computed by no node", output.name))
            })
        };
        proto.output.iter().map(output).collect()
    }

    fn read_function(
        &mut self,
        function: &'m FunctionProto,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
    ) -> Result<()> {
        let scope = self.level().scope_mut();
        for (name, id) in function.input.iter().zip(inputs) {
            if let Some(id) = id {
                scope.values.insert(name.clone(), *id);
            }
        }
        for (name, id) in function.output.iter().zip(outputs) {
            if let Some(id) = id
                && scope.values.insert(name.clone(), *id).is_some()
            {
                return Err(Error::not_implemented(format!("a function that gives its input {name:?} back")));
            }
        }
        self.declare_results(&function.node)?;
        self.declare_types(function.value_info.iter(), false);
        self.read_nodes(&function.node)
    }
}

/// The names that a graph reads or gives, in the bodies inside of it as well.
fn names_read(graph: &GraphProto) -> Vec<&String> {
    let mut names: Vec<&String> = graph.output.iter().map(|output| &output.name).collect();
    for node in &graph.node {
        names.extend(&node.input);
        let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        bodies.for_each(|body| names.extend(names_read(body)));
    }
    names
}

/// What a call gives for a function's attributes, or their defaults.
fn function_attributes<'m>(
    function: &'m FunctionProto,
    attributes: &mut Attributes<'m>,
) -> Result<FunctionAttributes<'m>> {
    let mut given: FunctionAttributes<'m> =
        function.attribute_proto.iter().map(|default| (default.name.as_str(), default)).collect();
    for (name, attribute) in attributes.all() {
        if !given.contains_key(name) && !function.attribute.iter().any(|known| known == name) {
            return Err(Error::not_implemented(format!("attribute {name}")));
        }
        given.insert(name, attribute);
    }
    // One that is neither given nor has a default is left out wherever the function passes it on.
    Ok(given)
}

fn check_arity(operation: &Operation, inputs: &[Option<ValueId>], outputs: &[Option<ValueId>]) -> Result<()> {
    let (least, most) = operation.inputs;
    if inputs.len() > most || outputs.len() > operation.outputs {
        return Err(Error::model(format!(
            "it has {} inputs and {} outputs, more than the operator",
            inputs.len(),
            outputs.len()
        )));
    }
    match (0..least).find(|&index| inputs.get(index).copied().flatten().is_none()) {
        Some(index) => Err(Error::model(format!("its input {index} is missing"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::attribute_type;
    use super::super::testing::{graph, model, node, read, read_graph, value, zeros};
    use super::*;

    fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: name.to_owned(),
            domain: "local".to_owned(),
            input: vec!["x".to_owned()],
            output: vec!["y".to_owned()],
            attribute: vec!["slope".to_owned()],
            node: nodes,
            opset_import: vec![
                OperatorSetId { domain: String::new(), version: 17 },
                OperatorSetId { domain: "local".to_owned(), version: 1 },
            ],
            ..FunctionProto::default()
        }
    }

    fn call(name: &str, input: &str, output: &str) -> NodeProto {
        NodeProto { domain: "local".to_owned(), ..node(name, &[input], &[output]) }
    }

    #[test]
    fn functions_are_inlined() {
        let leaky = node("LeakyRelu", &["x"], &["t"]).reference("alpha", attribute_type::FLOAT, "slope");
        let calls = vec![call("F", "a", "b").float("slope", 0.25), call("F", "b", "c")];
        let mut model = model(17, graph(vec![value("a", &["n"])], vec![], calls));
        model.functions.push(function("F", vec![leaky, node("Neg", &["t"], &["y"])]));
        let graph = read(&model).unwrap();
        let names: Vec<&str> = graph.nodes().iter().map(|node| node.op.name()).collect();
        assert_eq!(names, ["LeakyRelu", "Neg", "LeakyRelu", "Neg"]);
        use optimium_graph::ops::{Activation, Operator};
        let slope = |alpha| Operator::Activation { function: Activation::LeakyRelu { alpha } };
        assert_eq!((&graph.nodes()[0].op, &graph.nodes()[2].op), (&slope(0.25), &slope(0.01)));
        assert!(graph.find_value("F_0/t").is_some());
    }

    #[test]
    fn functions_that_never_end_are_errors() {
        let twice = |next: &str| vec![call(next, "x", "t"), call(next, "t", "y")];
        let mut itself = model(17, graph(vec![value("a", &[])], vec![], vec![call("F", "a", "b")]));
        itself.functions.push(function("F", twice("F")));
        assert_eq!(read(&itself).unwrap_err().kind(), ErrorKind::Model);
        let mut growing = model(17, graph(vec![value("a", &[])], vec![], vec![call("F0", "a", "b")]));
        for level in 0..24 {
            growing.functions.push(function(&format!("F{level}"), twice(&format!("F{}", level + 1))));
        }
        growing.functions.push(function("F24", vec![node("Neg", &["x"], &["y"])]));
        assert_eq!(read(&growing).unwrap_err().kind(), ErrorKind::Model);
    }

    #[test]
    fn open_dimensions_become_symbols() {
        let inputs = vec![value("x", &["batch", "3", "", "?", " ", "?"])];
        let mut proto = graph(inputs, vec![], vec![node("Relu", &["x"], &["y"])]);
        proto.value_info.push(value("y", &["batch", "other", "", "?", " ", "?"]));
        let graph = read_graph(17, proto).unwrap();
        let shape = graph.value(graph.inputs[0]).shape().unwrap().to_string();
        assert_eq!(shape, "[batch, 3, x_dim_2, x_dim_3, x_dim_4, x_dim_5]");
        assert_eq!(graph.value(graph.outputs[0]).shape(), None);
    }

    #[test]
    fn ranks_are_kept_where_branches_are() {
        let shape_of = |choice: NodeProto| {
            let mut proto = graph(vec![value("c", &[]), value("x", &["2"])], vec![], vec![choice]);
            proto.output = vec![value("y", &["2", "other", "?"])];
            let graph = read_graph(17, proto).unwrap();
            graph.value(graph.outputs[0]).shape().map(ToString::to_string)
        };
        let branch = || graph(vec![], vec![], vec![node("Neg", &["x"], &["r"])]);
        let choice = node("If", &["c"], &["y"]).graph("then_branch", branch()).graph("else_branch", branch());
        assert_eq!(shape_of(choice).as_deref(), Some("[2, y.1, y.2]"));
        assert_eq!(shape_of(node("Neg", &["x"], &["y"])), None);
    }

    #[test]
    fn all_that_is_unsupported_is_reported() {
        let nodes = vec![node("NoSuch", &["x"], &["a"]), node("ImageDecoder", &["a"], &["b"])];
        let error = read_graph(18, graph(vec![value("x", &[])], vec![], nodes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        assert!(
            error.message().contains("NoSuch") && error.message().contains("ImageDecoder_1"),
            "{error:?}"
        );
    }

    #[test]
    fn wrong_models_are_errors() {
        let x = || vec![value("x", &["2"])];
        let relu = |input: &str, output: &str| node("Relu", &[input], &[output]);
        let mut short = zeros("k", &[4]);
        short.float_data.pop();
        let mut huge = zeros("k", &[1]);
        huge.dims = vec![1 << 40, 1 << 40];
        let mut negative = zeros("k", &[1]);
        negative.dims = vec![-1];
        let mut external = zeros("k", &[1]);
        external.data_location = super::super::proto::EXTERNAL;
        let cases = [
            ("dangling input", graph(x(), vec![], vec![relu("nothing", "y")])),
            ("computed twice", graph(x(), vec![], vec![relu("x", "y"), relu("x", "y")])),
            ("computed input", graph(x(), vec![], vec![relu("x", "x")])),
            ("cycle", graph(x(), vec![], vec![relu("b", "a"), relu("a", "b")])),
            ("constant twice", graph(x(), vec![zeros("k", &[1]), zeros("k", &[1])], vec![relu("x", "y")])),
            ("short constant", graph(x(), vec![short], vec![relu("x", "y")])),
            ("huge constant", graph(x(), vec![huge], vec![relu("x", "y")])),
            ("negative size", graph(x(), vec![negative], vec![relu("x", "y")])),
            ("external data without folder", graph(x(), vec![external], vec![relu("x", "y")])),
            ("too many inputs", graph(x(), vec![], vec![node("Relu", &["x", "x"], &["y"])])),
            ("missing input", graph(x(), vec![], vec![node("Add", &["x"], &["y"])])),
        ];
        optimium_testing::each_case(cases, |(what, graph)| match read_graph(17, graph.clone()) {
            Err(error) if error.kind() == ErrorKind::Model => Ok(()),
            other => Err(format!("{what}: {:?}", other.map(|_| ()))),
        });
        let known = graph(x(), vec![], vec![relu("x", "y")]);
        assert_eq!(read_graph(99, known).unwrap_err().kind(), ErrorKind::NotImplemented);
    }
}
