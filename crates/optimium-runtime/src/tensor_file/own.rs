//! The runtime's own tensor format.

use optimium_tensor::{ElementType, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::damaged;

const MAGIC: &[u8; 8] = b"OPTENSOR";

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "type")]
    element_type: String,
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strings: Option<Vec<String>>,
}

/// The file of `tensor`.
pub(super) fn write(tensor: &Tensor) -> Result<Vec<u8>> {
    let header = Header {
        element_type: tensor.element_type().name().to_string(),
        shape: tensor.dims().to_vec(),
        strings: tensor.strings().map(<[String]>::to_vec),
    };
    let header = serde_json::to_vec(&header)
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot write the header").with_cause(cause))?;
    let length = u32::try_from(header.len()).map_err(|_| damaged("the strings are too long"))?;
    let mut file = [MAGIC.as_slice(), &length.to_le_bytes(), &header].concat();
    if tensor.strings().is_none() {
        file.extend_from_slice(&tensor.read_bytes()?);
    }
    Ok(file)
}

/// The tensor in `file`.
pub(super) fn read(file: &[u8]) -> Result<Tensor> {
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| damaged("this is not a tensor file"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| damaged("the tensor file is cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, elements) =
        rest.split_at_checked(length).ok_or_else(|| damaged("the tensor file is cut short"))?;
    let header: Header =
        serde_json::from_slice(header).map_err(|cause| damaged("its header is damaged").with_cause(cause))?;
    let element_type = ElementType::ALL
        .into_iter()
        .find(|element_type| element_type.name() == header.element_type)
        .ok_or_else(|| Error::type_mismatch(format!("there is no element type {:?}", header.element_type)))?;
    let tensor = match header.strings {
        Some(strings) if element_type == ElementType::String => Tensor::from_strings(&header.shape, strings),
        _ => Tensor::from_bytes(element_type, &header.shape, elements),
    };
    tensor.map_err(|error| error.with_kind(ErrorKind::Io))
}
