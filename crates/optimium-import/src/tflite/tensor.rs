//! Tensors of a model: type, shape, quantization, content.

use std::collections::HashMap;
use std::sync::Arc;

use optimium_tensor::{Buffer, ElementType, Error, QuantParam, QuantScheme, Result, Tensor};

use super::flatbuffer::Table;

/// What a model says about a tensor.
pub(super) struct Declared {
    /// Its name; not unique.
    pub(super) name: String,
    /// The type of its elements; a quantized one where there is a scheme.
    pub(super) element_type: ElementType,
    /// How its integers stand for reals.
    pub(super) scheme: Option<Arc<QuantScheme>>,
    /// Its dimensions; `None` where one is known at run time only.
    pub(super) dims: Vec<Option<usize>>,
    /// Whether an empty list of dimensions means that nothing is known of them.
    pub(super) is_unranked: bool,
    /// Its content.
    pub(super) constant: Option<Tensor>,
}

/// Reads the tensors of a model; those that share a buffer of the file share memory.
pub(super) struct TensorReader<'a> {
    file: &'a [u8],
    buffers: Vec<Table<'a>>,
    loaded: HashMap<(usize, usize), Arc<Buffer>>,
}

impl<'a> TensorReader<'a> {
    /// A reader for the file `file`, whose root is `model`.
    pub(super) fn new(file: &'a [u8], model: Table<'a>) -> Result<TensorReader<'a>> {
        Ok(TensorReader { file, buffers: model.tables(4)?, loaded: HashMap::new() })
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where content and shape do not fit;
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for types that tensors cannot have.
    pub(super) fn read(&mut self, table: Table<'a>) -> Result<Declared> {
        let name = table.string(3)?;
        self.read_here(table, &name).map_err(|error| error.context(format!("the tensor {name:?}")))
    }

    fn read_here(&mut self, table: Table<'a>, name: &str) -> Result<Declared> {
        let storage = element_type(table.i8(1)?)?;
        if table.table(6)?.is_some() {
            return Err(Error::not_implemented("sparse constants"));
        }
        if table.u32(10)? != 0 {
            return Err(Error::not_implemented("constants outside of the file"));
        }
        let shape = table.i32s(0)?;
        let scheme = match table.table(4)? {
            Some(quantization) if storage.quantized().is_some() => scheme(quantization, shape.len())?,
            _ => None,
        };
        let element_type = match (&scheme, storage.quantized()) {
            (Some(_), Some(quantized)) => quantized,
            _ => storage,
        };
        let signature = table.i32s(7)?;
        let signature = if signature.len() == shape.len() { signature } else { shape.clone() };
        let dims: Vec<Option<usize>> = signature.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let is_unranked = dims.is_empty() && !table.bool(8)?;
        let constant = match self.content(table.u32(2)?)? {
            None => None,
            Some(buffer) => Some(constant(&shape, element_type, buffer)?.with_scheme(scheme.clone())),
        };
        Ok(Declared { name: name.to_owned(), element_type, scheme, dims, is_unranked, constant })
    }

    /// The content of a buffer; `None` for one without.
    fn content(&mut self, index: u32) -> Result<Option<Arc<Buffer>>> {
        let Some(table) = self.buffers.get(index as usize) else {
            return Err(Error::model(format!("its content is in buffer {index}, which is not there")));
        };
        let bytes = match table.u64(1)? {
            // Files larger than an offset can reach keep content behind the flatbuffer.
            0 | 1 => table.bytes(0)?,
            offset => usize::try_from(offset)
                .ok()
                .zip(usize::try_from(table.u64(2)?).ok())
                .and_then(|(start, size)| self.file.get(start..start.checked_add(size)?))
                .ok_or_else(|| Error::model("its content is behind the end of the file"))?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let key = (bytes.as_ptr().addr(), bytes.len());
        if let Some(buffer) = self.loaded.get(&key) {
            return Ok(Some(Arc::clone(buffer)));
        }
        let tensor = Tensor::from_slice(&[bytes.len()], bytes)?;
        let Some((buffer, _)) = tensor.buffer() else { return Ok(None) };
        self.loaded.insert(key, Arc::clone(buffer));
        Ok(Some(Arc::clone(buffer)))
    }
}

fn constant(shape: &[i32], element_type: ElementType, buffer: Arc<Buffer>) -> Result<Tensor> {
    if element_type == ElementType::String {
        return Err(Error::not_implemented("constants of type STRING"));
    }
    let dims: Option<Vec<usize>> = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let dims = dims.ok_or_else(|| Error::model(format!("the shape {shape:?} of a constant")))?;
    let given = buffer.len();
    let tensor = Tensor::from_buffer(element_type, &dims, buffer, 0)
        .map_err(|error| Error::model(format!("{dims:?} does not fit {given} bytes")).with_cause(error))?;
    if tensor.byte_len() != given {
        return Err(Error::model(format!(
            "{element_type} {dims:?} needs {} bytes, but has {given}",
            tensor.byte_len()
        )));
    }
    if element_type != ElementType::Bool {
        return Ok(tensor);
    }
    // Kernels rely on BOOL being 0 or 1.
    let flags: Vec<u8> = tensor.read_bytes()?.iter().map(|&byte| u8::from(byte != 0)).collect();
    Tensor::from_bytes(ElementType::Bool, &dims, &flags)
}

/// The element type of that number in TFLite's `TensorType`.
pub(super) fn element_type(number: i8) -> Result<ElementType> {
    use ElementType::*;
    let unsupported = match number {
        0 => return Ok(F32),
        1 => return Ok(F16),
        2 => return Ok(I32),
        3 => return Ok(U8),
        4 => return Ok(I64),
        5 => return Ok(String),
        6 => return Ok(Bool),
        7 => return Ok(I16),
        9 => return Ok(I8),
        10 => return Ok(F64),
        12 => return Ok(U64),
        15 => return Ok(U32),
        16 => return Ok(U16),
        18 => return Ok(BF16),
        8 => "COMPLEX64",
        11 => "COMPLEX128",
        13 => "RESOURCE",
        14 => "VARIANT",
        17 => "INT4",
        19 => "INT2",
        20 => "UINT4",
        21 => "FLOAT8_E4M3FN",
        22 => "FLOAT8_E5M2",
        _ => return Err(Error::model(format!("{number} is not an element type"))),
    };
    Err(Error::not_implemented(format!("element type {unsupported}")))
}

/// The scheme of quantization parameters; none where they hold nothing but statistics.
fn scheme(quantization: Table<'_>, rank: usize) -> Result<Option<Arc<QuantScheme>>> {
    let scales = quantization.f32s(2)?;
    if quantization.i8(4)? != 0 {
        return Err(Error::not_implemented("quantization other than one scale for all or one a channel"));
    }
    if scales.is_empty() {
        return Ok(None);
    }
    if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale >= 0.0)) {
        return Err(Error::model(format!("the quantization scale {scale}")));
    }
    let zero_points = quantization.i64s(3)?;
    if !zero_points.is_empty() && zero_points.len() != scales.len() && zero_points.len() != 1 {
        return Err(Error::model("quantization with another number of zero points than of scales"));
    }
    let zero_point = |index: usize| match zero_points.get(index).or(zero_points.first()) {
        None => Ok(0),
        Some(&zero) => i32::try_from(zero).map_err(|_| Error::model(format!("the zero point {zero}"))),
    };
    let param = |(index, &scale)| Ok(QuantParam { scale, zero_point: zero_point(index)? });
    let params: Vec<QuantParam> = scales.iter().enumerate().map(param).collect::<Result<_>>()?;
    if let [param] = params.as_slice() {
        return Ok(Some(Arc::new(QuantScheme::per_tensor(param.scale, param.zero_point))));
    }
    let axis = usize::try_from(quantization.i32_or(6, 0)?).ok().filter(|&axis| axis < rank);
    let axis =
        axis.ok_or_else(|| Error::model("quantization along an axis that the tensor does not have"))?;
    Ok(Some(Arc::new(QuantScheme::per_channel(axis, params)?)))
}
