//! NumPy's format, version 1: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use optimium_tensor::{ElementType, Error, ErrorKind, Result, Tensor};

use super::damaged;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Headers are padded so that the elements begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// The types that NumPy names, without the byte order.
const NAMES: [(ElementType, &str); 12] = [
    (ElementType::I8, "i1"),
    (ElementType::U8, "u1"),
    (ElementType::I16, "i2"),
    (ElementType::U16, "u2"),
    (ElementType::I32, "i4"),
    (ElementType::U32, "u4"),
    (ElementType::I64, "i8"),
    (ElementType::U64, "u8"),
    (ElementType::F16, "f2"),
    (ElementType::F32, "f4"),
    (ElementType::F64, "f8"),
    (ElementType::Bool, "b1"),
];

/// The file of `tensor`.
pub(super) fn write(tensor: &Tensor) -> Result<Vec<u8>> {
    let storage = tensor.element_type().storage();
    let stored = storage.as_bits().unwrap_or(storage);
    let name = NAMES.iter().find(|(element_type, _)| *element_type == stored).ok_or_else(|| {
        Error::type_mismatch(format!("a tensor of {} cannot be saved as .npy", tensor.element_type()))
    })?;
    let order = if stored.size() == 1 { '|' } else { '<' };
    let shape: String = tensor.dims().iter().map(|dim| format!("{dim}, ")).collect();
    let mut header = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}), }}",
        name.1,
        shape.trim_end()
    );
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let length =
        u16::try_from(header.len()).map_err(|_| Error::shape("too many dimensions for a .npy file"))?;
    let mut file = [MAGIC.as_slice(), &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
    file.extend_from_slice(&tensor.read_bytes()?);
    Ok(file)
}

/// The tensor in `file`.
pub(super) fn read(file: &[u8]) -> Result<Tensor> {
    let short = || damaged("the .npy file is cut short");
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| damaged("this is not a .npy file"))?;
    let (&[major, _], rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (length, rest) = if major == 1 {
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        (u32::from_le_bytes(*length) as usize, rest)
    };
    let (header, elements) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| damaged("its header is not text"))?;
    if field(header, "fortran_order")?.starts_with("True") {
        return Err(Error::type_mismatch("arrays in Fortran order are not supported; save a C-ordered copy"));
    }
    let element_type = element_type(field(header, "descr")?)?;
    let dims = dims(field(header, "shape")?)?;
    Tensor::from_bytes(element_type, &dims, elements).map_err(|error| error.with_kind(ErrorKind::Io))
}

/// What follows `'name':` in a header.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str> {
    let key = format!("'{name}':");
    let start = header.find(&key).ok_or_else(|| damaged(format!("its header has no {name}")))?;
    Ok(header[start + key.len()..].trim_start())
}

fn element_type(descr: &str) -> Result<ElementType> {
    let descr = descr.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let unknown = || Error::type_mismatch(format!("elements of the type {descr:?} are not supported"));
    let name = descr.strip_prefix(['<', '|', '=']).ok_or_else(unknown)?;
    NAMES.iter().find(|(_, known)| *known == name).map(|(element_type, _)| *element_type).ok_or_else(unknown)
}

fn dims(shape: &str) -> Result<Vec<usize>> {
    let wrong = || damaged("its header has no shape");
    let inside = shape.strip_prefix('(').and_then(|rest| rest.split(')').next()).ok_or_else(wrong)?;
    let numbers = inside.split(',').map(str::trim).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().map_err(|_| wrong())).collect()
}
