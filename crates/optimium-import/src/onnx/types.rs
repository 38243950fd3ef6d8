//! ONNX's element types and value types.

use optimium_graph::ValueType;
use optimium_tensor::{ElementType, Error, Expr, Result, TensorShape};

use super::proto::{ShapeProto, TypeProto};

/// The element type of that number in `TensorProto.DataType`.
///
/// # Errors
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for types that tensors cannot have,
/// [`Model`](optimium_tensor::ErrorKind::Model) for numbers that ONNX does not define.
pub(super) fn element_type(number: i32) -> Result<ElementType> {
    use ElementType::*;
    let unsupported = match number {
        1 => return Ok(F32),
        2 => return Ok(U8),
        3 => return Ok(I8),
        4 => return Ok(U16),
        5 => return Ok(I16),
        6 => return Ok(I32),
        7 => return Ok(I64),
        8 => return Ok(String),
        9 => return Ok(Bool),
        10 => return Ok(F16),
        11 => return Ok(F64),
        12 => return Ok(U32),
        13 => return Ok(U64),
        16 => return Ok(BF16),
        17 => return Ok(F8E4M3FN),
        18 => return Ok(F8E4M3FNUZ),
        19 => return Ok(F8E5M2),
        20 => return Ok(F8E5M2FNUZ),
        21 => return Ok(U4),
        22 => return Ok(I4),
        23 => return Ok(F4E2M1),
        24 => return Ok(F8E8M0),
        25 => return Ok(U2),
        26 => return Ok(I2),
        14 => "COMPLEX64",
        15 => "COMPLEX128",
        27 => "FLOAT6E2M3",
        28 => "FLOAT6E3M2",
        _ => return Err(Error::model(format!("{number} is not an element type"))),
    };
    Err(Error::not_implemented(format!("element type {unsupported}")))
}

/// The same as an attribute's value.
pub(super) fn element_type_of_attribute(number: i64) -> Result<ElementType> {
    i32::try_from(number)
        .map_err(|_| Error::model(format!("{number} is not an element type")))
        .and_then(element_type)
}

/// The type of a value as the model declares it, every dimension by `dimension(index, number, name)`.
///
/// # Errors
/// As [`element_type`]; [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for maps and sparse tensors.
pub(super) fn value_type(
    declared: &TypeProto,
    dimension: &mut dyn FnMut(usize, Option<i64>, Option<&str>) -> Option<Expr>,
) -> Result<ValueType> {
    if let Some(tensor) = &declared.tensor_type {
        let element_type = element_type(tensor.elem_type)?;
        let shape = tensor.shape.as_ref().and_then(|shape| dims(shape, dimension));
        return Ok(ValueType::Tensor { element_type, shape });
    }
    // Decoding bounds how deep these are nested.
    let inner = |container: &super::proto::ContainerType| match &container.elem_type {
        Some(inner) => value_type(inner, &mut |_, number, _| number.map(Expr::from)),
        None => Err(Error::model("a sequence or optional without a type of its elements")),
    };
    if let Some(sequence) = &declared.sequence_type {
        return Ok(ValueType::Sequence(Box::new(inner(sequence)?)));
    }
    if let Some(optional) = &declared.optional_type {
        return Ok(ValueType::Optional(Box::new(inner(optional)?)));
    }
    Err(Error::not_implemented("a value that is neither tensor nor sequence nor optional"))
}

fn dims(
    shape: &ShapeProto,
    dimension: &mut dyn FnMut(usize, Option<i64>, Option<&str>) -> Option<Expr>,
) -> Option<TensorShape> {
    shape
        .dim
        .iter()
        .enumerate()
        .map(|(index, dim)| {
            // Exporters write -1 for what they do not know.
            let number = dim.dim_value.filter(|&number| number >= 0);
            dimension(index, number, dim.dim_param.as_deref().filter(|name| is_name(name)))
        })
        .collect()
}

/// Whether dimensions of that name are one. Paddle's exporter writes `?` for each that is open.
fn is_name(name: &str) -> bool {
    !matches!(name.trim(), "" | "?")
}
