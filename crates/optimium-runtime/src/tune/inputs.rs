//! Tensors to run a model with.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use optimium_graph::{Graph, ValueId, shapes};
use optimium_tensor::{ElementType, Error, Result, SymbolValues, Tensor, TensorShape};

/// The inputs and outputs of one inference, and what they make of the dynamic dimensions.
pub(super) struct Values {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    symbols: SymbolValues,
}

/// Pixels of an edge of an image, and the length of everything else, where nobody says.
const PIXELS: usize = 224;
const LENGTH: usize = 128;

impl Values {
    /// Random inputs of `graph`, with those sizes of its symbols.
    ///
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for symbols that the inputs do not have;
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where sizes do not fit; [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented)
    /// for strings.
    pub(super) fn new(graph: &Graph, sizes: &HashMap<String, usize>) -> Result<Values> {
        let given = symbol_values(graph, sizes)?;
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let input = |&id: &ValueId| {
            let (element_type, shape) = signature(graph, id)?;
            random.tensor(element_type, &fixed(shape, &given, &graph.value(id).name)?)
        };
        let inputs = graph.inputs.iter().map(input).collect::<Result<Vec<Tensor>>>()?;
        let dims: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
        let symbols = shapes::bind(graph, &dims)?;
        let output = |&id: &ValueId| {
            let (element_type, shape) = signature(graph, id)?;
            Tensor::zeros(element_type, &fixed(shape, &symbols, &graph.value(id).name)?)
        };
        let outputs = graph.outputs.iter().map(output).collect::<Result<Vec<Tensor>>>()?;
        Ok(Values { inputs, outputs, symbols })
    }

    /// The shape of the tensor `name`; of no dimension where it is not known.
    pub(super) fn shape_of(&self, graph: &Graph, name: &str) -> Vec<usize> {
        let shape = graph.find_value(name).and_then(|id| graph.value(id).shape());
        shape.and_then(|shape| shape.evaluate(&self.symbols).ok()).unwrap_or_default()
    }
}

fn signature(graph: &Graph, id: ValueId) -> Result<(ElementType, &TensorShape)> {
    let value = graph.value(id);
    let known = value.element_type().zip(value.shape());
    known.ok_or_else(|| Error::not_implemented(format!("{:?} is not a tensor of known rank", value.name)))
}

fn fixed(shape: &TensorShape, symbols: &SymbolValues, name: &str) -> Result<Vec<usize>> {
    shape.evaluate(symbols).map_err(|error| error.context(format_args!("the tensor {name:?}")))
}

/// Sizes for all symbols of the inputs.
fn symbol_values(graph: &Graph, sizes: &HashMap<String, usize>) -> Result<SymbolValues> {
    let mut values = SymbolValues::new();
    let mut symbols = BTreeSet::new();
    for &id in &graph.inputs {
        let (_, shape) = signature(graph, id)?;
        for (axis, dim) in shape.dims().iter().enumerate() {
            let usual = match (axis, shape.rank()) {
                (0, _) => 1,
                (_, 4) => PIXELS,
                _ => LENGTH,
            };
            dim.visit_symbols(&mut |symbol: &Arc<str>| {
                symbols.insert(symbol.clone());
                let size = sizes.get(&**symbol).copied().unwrap_or(usual);
                values.entry(symbol.clone()).or_insert(i64::try_from(size).unwrap_or(i64::MAX));
            });
        }
    }
    match sizes.keys().find(|name| !symbols.contains(name.as_str())) {
        Some(name) => {
            let known: Vec<&str> = symbols.iter().map(|symbol| &**symbol).collect();
            Err(Error::invalid_argument(format!(
                "the inputs have no dimension {name:?}; they have {known:?}"
            )))
        }
        None => Ok(values),
    }
}

/// Numbers as by chance, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Reals of about one; bytes of all values; other integers 0 and 1, so that they serve as indices.
    fn tensor(&mut self, element_type: ElementType, dims: &[usize]) -> Result<Tensor> {
        use ElementType::*;
        if element_type == String {
            return Err(Error::not_implemented("inputs of strings cannot be random"));
        }
        let tensor = Tensor::zeros(element_type, dims)?;
        let mut bytes = tensor.write_bytes()?;
        for element in bytes.chunks_exact_mut(element_type.size()) {
            let bits = self.next() >> 11;
            let signed = bits as f64 / (1u64 << 52) as f64 - 1.0;
            match element_type.storage() {
                F32 => element.copy_from_slice(&(signed as f32).to_le_bytes()),
                F64 => element.copy_from_slice(&signed.to_le_bytes()),
                // The fraction of a number from one to two.
                F16 => element.copy_from_slice(&(0x3c00 | bits as u16 & 0x3ff).to_le_bytes()),
                BF16 => element.copy_from_slice(&(0x3f80 | bits as u16 & 0x7f).to_le_bytes()),
                I8 | U8 | I4 | U4 | I2 | U2 => element[0] = bits as u8,
                _ => element[0] = bits as u8 & 1,
            }
        }
        drop(bytes);
        Ok(tensor)
    }
}
