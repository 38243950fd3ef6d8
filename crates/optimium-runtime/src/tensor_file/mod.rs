//! Tensors as files: NumPy's format for paths that end in `.npy`, the runtime's own for all others.
//!
//! The own format holds every element type: the eight bytes `OPTENSOR`, the length of a JSON header as a
//! `u32`, the header `{"type": "F32", "shape": [2, 3]}`, and the elements row by row. Strings stand in the
//! header, as
//! `"strings"`. All numbers are little-endian. NumPy's format has no name for some types: BF16 is written as
//! `uint16`, types of 8 or fewer bits as `uint8`, quantized types as their integers, and strings are refused.

mod npy;
mod own;

use std::fs;
use std::path::Path;

use optimium_tensor::{Error, Result, Tensor};

/// Writes `tensor` to the file at `path`.
///
/// # Errors
/// [`Io`](optimium_tensor::ErrorKind::Io) where it cannot be written;
/// [`Type`](optimium_tensor::ErrorKind::Type) for strings in `.npy` files;
/// [`InvalidOperation`](optimium_tensor::ErrorKind::InvalidOperation) while a running inference writes the
/// tensor.
pub fn save(tensor: &Tensor, path: &Path) -> Result<()> {
    let bytes = if is_npy(path) { npy::write(tensor)? } else { own::write(tensor)? };
    fs::write(path, bytes).map_err(|cause| Error::io(path, cause))
}

/// Reads the tensor in the file at `path`.
///
/// # Errors
/// [`Io`](optimium_tensor::ErrorKind::Io) where it cannot be read or is not such a file;
/// [`Type`](optimium_tensor::ErrorKind::Type) for element types that the runtime does not have.
pub fn load(path: &Path) -> Result<Tensor> {
    let kind = fs::metadata(path).map_err(|cause| Error::io(path, cause))?;
    if !kind.is_file() {
        // Devices and pipes need not end.
        return Err(damaged(format!("{} is not a regular file", path.display())));
    }
    let bytes = fs::read(path).map_err(|cause| Error::io(path, cause))?;
    let read = if is_npy(path) { npy::read(&bytes) } else { own::read(&bytes) };
    read.map_err(|error| error.context(path.display()))
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// The error of a damaged file.
fn damaged(what: impl Into<String>) -> Error {
    Error::new(optimium_tensor::ErrorKind::Io, what)
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, ErrorKind};
    use optimium_testing::each_case;

    use super::*;

    fn sample(element_type: ElementType, dims: &[usize]) -> Tensor {
        let count = dims.iter().product::<usize>();
        if element_type == ElementType::String {
            return Tensor::from_strings(dims, (0..count).map(|i| format!("text {i} ü")).collect()).unwrap();
        }
        let bytes: Vec<u8> = (0..count * element_type.size()).map(|i| (i % 2) as u8).collect();
        Tensor::from_bytes(element_type, dims, &bytes).unwrap()
    }

    fn same(a: &Tensor, b: &Tensor) -> bool {
        let content = match (a.strings(), b.strings()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => *a.read_bytes().unwrap() == *b.read_bytes().unwrap(),
            _ => false,
        };
        a.dims() == b.dims() && content
    }

    #[test]
    fn written_and_read_back() {
        let shapes: [&[usize]; 5] = [&[], &[0], &[3], &[2, 3], &[4, 0, 2]];
        let cases = ElementType::ALL.into_iter().flat_map(|t| shapes.map(|dims| (t, dims)));
        each_case(cases, |&(element_type, dims)| {
            let tensor = sample(element_type, dims);
            let back = own::read(&own::write(&tensor).unwrap()).map_err(|e| e.to_string())?;
            if !same(&tensor, &back) || back.element_type() != element_type {
                return Err(format!("own format: {back:?}"));
            }
            if element_type == ElementType::String {
                return Ok(());
            }
            let back = npy::read(&npy::write(&tensor).unwrap()).map_err(|e| e.to_string())?;
            if same(&tensor, &back) { Ok(()) } else { Err(format!("npy: {back:?}")) }
        });
    }

    #[test]
    fn damaged_files_are_refused() {
        let tensor = sample(ElementType::F32, &[2, 3]);
        for whole in [own::write(&tensor).unwrap(), npy::write(&tensor).unwrap()] {
            for length in 0..whole.len() {
                assert!(
                    own::read(&whole[..length]).is_err() && npy::read(&whole[..length]).is_err(),
                    "{length}"
                );
            }
        }
        let missing = load(Path::new("/nonexistent/tensor.npy")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Io);
        assert_eq!(load(&std::env::temp_dir()).unwrap_err().kind(), ErrorKind::Io);
    }
}
