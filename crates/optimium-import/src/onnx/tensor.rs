//! Constant tensors: from any of the fields of a `TensorProto`, or from a file beside the model.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::proto::{EXTERNAL, SparseTensorProto, TensorProto};
use super::types::element_type;

/// The tensor that `proto` holds. `folder` is where the files of external data are.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where data and shape do not fit, or the file of external data is
/// not inside of the folder; [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for element types
/// that tensors cannot have.
pub(super) fn read(proto: &TensorProto, folder: Option<&Path>) -> Result<Tensor> {
    read_here(proto, folder).map_err(|error| error.context(format!("the tensor {:?}", proto.name)))
}

fn read_here(proto: &TensorProto, folder: Option<&Path>) -> Result<Tensor> {
    let dims = dims(&proto.dims)?;
    let element_type = element_type(proto.data_type)?;
    match element_type.bits() {
        bits @ 1..8 => packed(proto, element_type, bits, &dims, folder),
        _ => read_as(proto, element_type, &dims, folder),
    }
}

/// A tensor of that type and shape.
fn read_as(
    proto: &TensorProto,
    element_type: ElementType,
    dims: &[usize],
    folder: Option<&Path>,
) -> Result<Tensor> {
    if proto.segment.is_some() {
        return Err(Error::not_implemented("tensors in segments"));
    }
    let count = element_count(dims)?;
    if element_type == ElementType::String {
        return strings(proto, dims, count);
    }
    let size = count
        .checked_mul(element_type.size())
        .ok_or_else(|| Error::model(format!("the shape {dims:?} is larger than memory")))?;
    if proto.data_location == EXTERNAL {
        return external(proto, element_type, dims, size, folder);
    }
    let tensor = match proto.raw_data.as_ref().filter(|raw| !raw.is_empty() || size == 0) {
        Some(raw) => from_bytes(element_type, dims, size, raw),
        None => typed(proto, element_type, dims, count),
    }?;
    normalized(tensor)
}

/// Elements of so few bits that several are in a byte, the first in the lowest.
fn packed(
    proto: &TensorProto,
    element_type: ElementType,
    bits: usize,
    dims: &[usize],
    folder: Option<&Path>,
) -> Result<Tensor> {
    let (count, each) = (element_count(dims)?, 8 / bits);
    let bytes = read_as(proto, ElementType::U8, &[count.div_ceil(each)], folder)?;
    let mask = (1u8 << bits) - 1;
    let elements = |&byte: &u8| (0..each).map(move |index| byte >> (index * bits) & mask);
    let elements: Vec<u8> = bytes.read_bytes()?.iter().flat_map(elements).take(count).collect();
    Tensor::from_bytes(element_type, dims, &elements)
}

fn dims(declared: &[i64]) -> Result<Vec<usize>> {
    let dim = |&dim: &i64| {
        usize::try_from(dim).map_err(|_| Error::model(format!("the shape {declared:?} has a negative size")))
    };
    declared.iter().map(dim).collect()
}

fn element_count(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim))
        .ok_or_else(|| Error::model(format!("the shape {dims:?} is larger than memory")))
}

fn from_bytes(element_type: ElementType, dims: &[usize], size: usize, bytes: &[u8]) -> Result<Tensor> {
    if bytes.len() != size {
        return Err(wrong_size(element_type, dims, size, bytes.len()));
    }
    Tensor::from_bytes(element_type, dims, bytes)
}

fn wrong_size(element_type: ElementType, dims: &[usize], expected: usize, given: usize) -> Error {
    Error::model(format!("{element_type} {dims:?} needs {expected} bytes of data, but has {given}"))
}

fn strings(proto: &TensorProto, dims: &[usize], count: usize) -> Result<Tensor> {
    if proto.string_data.len() != count {
        return Err(Error::model(format!("{dims:?} does not hold {} strings", proto.string_data.len())));
    }
    let text = |bytes: &Vec<u8>| {
        String::from_utf8(bytes.clone()).map_err(|_| Error::model("a string that is not UTF-8"))
    };
    Tensor::from_strings(dims, proto.string_data.iter().map(text).collect::<Result<_>>()?)
}

/// The tensor from the field for its element type.
fn typed(proto: &TensorProto, element_type: ElementType, dims: &[usize], count: usize) -> Result<Tensor> {
    use ElementType::*;
    let narrow = || checked(&proto.int32_data, dims, count);
    match element_type {
        F32 => Tensor::from_slice(dims, checked(&proto.float_data, dims, count)?),
        F64 => Tensor::from_slice(dims, checked(&proto.double_data, dims, count)?),
        I64 => Tensor::from_slice(dims, checked(&proto.int64_data, dims, count)?),
        U64 => Tensor::from_slice(dims, checked(&proto.uint64_data, dims, count)?),
        I32 => Tensor::from_slice(dims, narrow()?),
        U32 => Tensor::from_slice(dims, &mapped(checked(&proto.uint64_data, dims, count)?, |x| x as u32)),
        I16 => Tensor::from_slice(dims, &mapped(narrow()?, |x| x as i16)),
        U16 => Tensor::from_slice(dims, &mapped(narrow()?, |x| x as u16)),
        I8 => Tensor::from_slice(dims, &mapped(narrow()?, |x| x as i8)),
        U8 => Tensor::from_slice(dims, &mapped(narrow()?, |x| x as u8)),
        Bool => Tensor::from_bytes(Bool, dims, &mapped(narrow()?, |x| u8::from(x != 0))),
        F16 => Tensor::from_slice(dims, &mapped(narrow()?, |x| half::f16::from_bits(x as u16))),
        BF16 => Tensor::from_slice(dims, &mapped(narrow()?, |x| half::bf16::from_bits(x as u16))),
        small if small.is_narrow() => Tensor::from_bytes(small, dims, &mapped(narrow()?, |x| x as u8)),
        other => Err(Error::not_implemented(format!("constants of type {other}"))),
    }
}

fn checked<'a, T>(values: &'a [T], dims: &[usize], count: usize) -> Result<&'a [T]> {
    if values.len() != count {
        return Err(Error::model(format!("{dims:?} needs {count} values, but has {}", values.len())));
    }
    Ok(values)
}

fn mapped<T: Copy, U>(values: &[T], map: impl Fn(T) -> U) -> Vec<U> {
    values.iter().map(|&value| map(value)).collect()
}

/// Kernels rely on BOOL being 0 or 1.
fn normalized(tensor: Tensor) -> Result<Tensor> {
    if tensor.element_type() == ElementType::Bool {
        for byte in tensor.write_bytes()?.iter_mut() {
            *byte = u8::from(*byte != 0);
        }
    }
    Ok(tensor)
}

fn external(
    proto: &TensorProto,
    element_type: ElementType,
    dims: &[usize],
    size: usize,
    folder: Option<&Path>,
) -> Result<Tensor> {
    let entry = |key: &str| proto.external_data.iter().find(|entry| entry.key == key);
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(entry) => entry
            .value
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Error::model(format!("external data with the {key} {:?}", entry.value))),
    };
    let location = entry("location").map_or("", |entry| entry.value.as_str());
    let offset = number("offset")?.unwrap_or(0);
    let folder = folder.ok_or_else(|| {
        Error::model(format!("its data is in the file {location:?}, but the model's folder is not known"))
    })?;
    let mut file = open_inside(folder, location)?;
    let place = folder.join(location);
    let file_size = file.metadata().map_err(|cause| Error::io(&place, cause))?.len();
    let available = file_size.saturating_sub(offset);
    let length = number("length")?.unwrap_or(size as u64);
    if length != size as u64 {
        return Err(wrong_size(element_type, dims, size, usize::try_from(length).unwrap_or(usize::MAX)));
    }
    if length > available {
        return Err(Error::model(format!(
            "its data ends {} bytes behind the end of {location:?}",
            length - available
        )));
    }
    let tensor = Tensor::zeros(element_type, dims)?;
    file.seek(SeekFrom::Start(offset)).map_err(|cause| Error::io(&place, cause))?;
    file.read_exact(&mut tensor.write_bytes()?).map_err(|cause| Error::io(&place, cause))?;
    normalized(tensor)
}

/// Opens a file that a model names, which has to lie inside of the model's folder.
fn open_inside(folder: &Path, location: &str) -> Result<File> {
    let outside = || Error::model(format!("its data is in {location:?}, outside of the model's folder"));
    let relative = Path::new(location);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !plain {
        return Err(outside());
    }
    let place = folder.join(relative);
    let real = place.canonicalize().map_err(|cause| Error::io(&place, cause))?;
    // A symbolic link may lead out of the folder.
    let root = folder.canonicalize().map_err(|cause| Error::io(folder, cause))?;
    if !real.starts_with(&root) {
        return Err(outside());
    }
    // Opening a pipe would wait for a writer, and devices have no size.
    let metadata = real.symlink_metadata().map_err(|cause| Error::io(&real, cause))?;
    if !metadata.is_file() {
        return Err(Error::model(format!("its data is in {location:?}, which is not a regular file")));
    }
    File::open(&real).map_err(|cause| Error::io(&real, cause))
}

/// The largest tensor that a sparse one may become, for each byte of the model that describes it: damaged
/// models must not claim all memory.
const DENSE_LIMIT: usize = 1 << 28;

/// A sparse tensor with its zeros.
///
/// # Errors
/// As [`read`]; [`Model`](optimium_tensor::ErrorKind::Model) where an index is outside of the shape.
pub(super) fn read_sparse(proto: &SparseTensorProto, folder: Option<&Path>) -> Result<Tensor> {
    let incomplete = || Error::model("a sparse tensor without values or indices");
    let values = read(proto.values.as_ref().ok_or_else(incomplete)?, folder)?;
    let indices = read(proto.indices.as_ref().ok_or_else(incomplete)?, folder)?;
    let dims = dims(&proto.dims)?;
    let size = values.element_type().size();
    let bytes = element_count(&dims)?.checked_mul(size).filter(|&bytes| bytes <= DENSE_LIMIT);
    if bytes.is_none() || size == 0 {
        return Err(Error::not_implemented(format!("a sparse {} tensor {dims:?}", values.element_type())));
    }
    let positions = positions(&indices.to_i64s()?, &dims, values.len())?;
    let dense = Tensor::zeros(values.element_type(), &dims)?;
    {
        let from = values.read_bytes()?;
        let mut to = dense.write_bytes()?;
        for (index, position) in positions.into_iter().enumerate() {
            let element = &from[index * size..(index + 1) * size];
            to.get_mut(position * size..(position + 1) * size)
                .ok_or_else(|| Error::model("an index outside of a sparse tensor"))?
                .copy_from_slice(element);
        }
    }
    Ok(dense)
}

/// Flat positions, from flat indices or from one row of indices for each value.
fn positions(indices: &[i64], dims: &[usize], values: usize) -> Result<Vec<usize>> {
    let outside = || Error::model("an index outside of a sparse tensor");
    let count = element_count(dims)?;
    if indices.len() == values {
        let flat = |&index: &i64| usize::try_from(index).ok().filter(|&i| i < count).ok_or_else(outside);
        return indices.iter().map(flat).collect();
    }
    if dims.is_empty() || Some(indices.len()) != values.checked_mul(dims.len()) {
        return Err(Error::model("a sparse tensor with another number of indices than of values"));
    }
    let row = |row: &[i64]| {
        row.iter().zip(dims).try_fold(0usize, |flat, (&index, &dim)| {
            let index = usize::try_from(index).ok().filter(|&i| i < dim).ok_or_else(outside)?;
            Ok(flat * dim + index)
        })
    };
    indices.chunks_exact(dims.len()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntry;
    use super::*;

    fn stored(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn every_field_is_read() {
        let int32_data = vec![-1, 2];
        let cases = [
            (TensorProto { float_data: vec![1.0, 2.0], ..stored(1, &[2]) }, vec![0, 0, 128, 63, 0, 0, 0, 64]),
            (TensorProto { int32_data: int32_data.clone(), ..stored(3, &[2]) }, vec![255, 2]),
            (TensorProto { int32_data: int32_data.clone(), ..stored(4, &[2]) }, vec![255, 255, 2, 0]),
            (TensorProto { int32_data: int32_data.clone(), ..stored(9, &[2]) }, vec![1, 1]),
            (TensorProto { int32_data: vec![0x3c00], ..stored(10, &[1]) }, vec![0, 0x3c]),
            (TensorProto { uint64_data: vec![7], ..stored(12, &[]) }, vec![7, 0, 0, 0]),
            (TensorProto { raw_data: Some(vec![0x2f, 0x08].into()), ..stored(21, &[3]) }, vec![15, 2, 8]),
            (TensorProto { int32_data: vec![0x2f, 0x08], ..stored(22, &[3]) }, vec![15, 2, 8]),
            (TensorProto { raw_data: Some(vec![0xe4, 1].into()), ..stored(26, &[5]) }, vec![0, 1, 2, 3, 1]),
            (TensorProto { raw_data: Some(vec![0x7e, 1].into()), ..stored(17, &[2]) }, vec![0x7e, 1]),
            (TensorProto { int32_data: vec![0x81], ..stored(24, &[1]) }, vec![0x81]),
            (TensorProto { raw_data: Some(vec![9, 0].into()), ..stored(9, &[2]) }, vec![1, 0]),
        ];
        optimium_testing::each_case(cases, |(proto, expected)| {
            let tensor = read(proto, None).map_err(|error| format!("{error:?}"))?;
            let bytes = tensor.read_bytes().unwrap().to_vec();
            if bytes == *expected { Ok(()) } else { Err(format!("{bytes:?}")) }
        });
    }

    #[test]
    fn external_data_stays_in_its_folder() {
        let folder = std::env::temp_dir().join(format!("optimium-import-{}", std::process::id()));
        let inside = folder.join("model");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(folder.join("outside"), [0; 8]).unwrap();
        std::fs::write(inside.join("weights"), [0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.join("outside"), inside.join("link")).unwrap();
        let absolute = inside.join("weights").to_string_lossy().into_owned();
        let cases = [
            ("weights", "4", "4", true),
            ("./weights", "0", "4", true),
            ("weights", "5", "4", false),
            ("weights", "18446744073709551615", "4", false),
            ("weights", "-1", "4", false),
            ("weights", "0", "3", false),
            ("../outside", "0", "4", false),
            ("link", "0", "4", false),
            ("nothing", "0", "4", false),
            (&absolute, "0", "4", false),
            ("", "0", "4", false),
        ];
        let entry =
            |key: &str, value: &str| StringStringEntry { key: key.to_owned(), value: value.to_owned() };
        optimium_testing::each_case(cases, |&(location, offset, length, allowed)| {
            let external_data =
                vec![entry("location", location), entry("offset", offset), entry("length", length)];
            let proto = TensorProto { external_data, data_location: EXTERNAL, ..stored(2, &[4]) };
            match (read(&proto, Some(&inside)), allowed) {
                (Ok(_), true) | (Err(_), false) => Ok(()),
                (other, _) => Err(format!("{other:?}")),
            }
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn external_data_is_in_regular_files() {
        let folder = std::env::temp_dir().join(format!("optimium-import-special-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("pipe", folder.join("link")).unwrap();
        optimium_testing::each_case(["folder", "pipe", "link"], |&location| {
            let entry = StringStringEntry { key: "location".to_owned(), value: location.to_owned() };
            let external_data = vec![entry];
            let proto = TensorProto { external_data, data_location: EXTERNAL, ..stored(2, &[4]) };
            match read(&proto, Some(&folder)) {
                Err(error) if error.message().contains("not a regular file") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn sparse_tensors_get_their_zeros() {
        let values = TensorProto { float_data: vec![5.0, 7.0], ..stored(1, &[2]) };
        let flat = TensorProto { int64_data: vec![1, 5], ..stored(7, &[2]) };
        let rows = TensorProto { int64_data: vec![0, 1, 1, 2], ..stored(7, &[2, 2]) };
        optimium_testing::each_case([flat, rows], |indices| {
            let (values, indices) = (Some(values.clone()), Some(indices.clone()));
            let dense = read_sparse(&SparseTensorProto { values, indices, dims: vec![2, 3] }, None).unwrap();
            let expected = [0.0, 5.0, 0.0, 0.0, 0.0, 7.0];
            optimium_testing::compare(
                &dense.to_f32s().unwrap(),
                &expected,
                optimium_testing::Tolerance::Exact,
            )
        });
    }
}
