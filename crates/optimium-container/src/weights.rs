//! The file of weights: a header, then tensors one behind the other.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use optimium_tensor::{Error, Result, Tensor};

use crate::digest::{Digest, Hasher};

/// Size of the header, and alignment of every tensor in the file.
pub(crate) const ALIGNMENT: u64 = 64;

const MAGIC: &[u8; 8] = b"OPTMWGT\0";
const VERSION: u32 = 1;

/// What a file of weights begins with: magic, version, alignment, size of the file, SHA-256 of what follows the header;
/// numbers are little-endian, and the rest is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Size of the whole file in bytes.
    pub(crate) size: u64,
    /// Of all bytes after the header.
    pub(crate) content: Digest,
}

impl Header {
    fn to_bytes(self) -> [u8; ALIGNMENT as usize] {
        let mut bytes = [0; ALIGNMENT as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(ALIGNMENT as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.content);
        bytes
    }

    /// Reads the header of a file of `size` bytes.
    ///
    /// # Errors
    /// `Container` where it is not one, or not of a file of that size.
    pub(crate) fn read(bytes: &[u8], size: u64) -> Result<Header> {
        let Some(bytes) = bytes.first_chunk::<{ ALIGNMENT as usize }>() else {
            return Err(Error::container(format!("expected a header of {ALIGNMENT} bytes")));
        };
        if !bytes.starts_with(MAGIC) {
            return Err(Error::container("expected a file of weights, which begins with OPTMWGT"));
        }
        let mut content = [0; 32];
        content.copy_from_slice(&bytes[24..56]);
        let header = Header { size, content };
        if bytes[8..12] != VERSION.to_le_bytes() {
            return Err(Error::container(format!(
                "expected weights of version {VERSION}; others are written by a newer version of the runtime"
            )));
        }
        if *bytes != header.to_bytes() {
            return Err(Error::container(format!(
                "the header does not belong to a file of {size} bytes aligned to {ALIGNMENT}"
            )));
        }
        Ok(header)
    }
}

/// Which tensors go into the file, and where; those that share memory are written once.
#[derive(Default)]
pub(crate) struct Layout {
    tensors: Vec<Tensor>,
    known: HashMap<(usize, usize), u64>,
    end: u64,
}

impl Layout {
    /// An empty file.
    pub(crate) fn new() -> Layout {
        Layout { end: ALIGNMENT, ..Layout::default() }
    }

    /// The offset of `tensor` in the file.
    ///
    /// # Errors
    /// `Type` for strings, which are not stored here; `Container` where the file would become too large.
    pub(crate) fn place(&mut self, tensor: &Tensor) -> Result<u64> {
        let (buffer, offset) =
            tensor.buffer().ok_or_else(|| Error::type_mismatch("strings are not stored among weights"))?;
        let key = (buffer.as_ptr().addr() + offset, tensor.byte_len());
        if let Some(&offset) = self.known.get(&key) {
            return Ok(offset);
        }
        let offset = self.end;
        self.end = offset
            .checked_add(tensor.byte_len() as u64)
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .ok_or_else(|| Error::container("the weights are larger than a file can be"))?;
        self.known.insert(key, offset);
        self.tensors.push(tensor.clone());
        Ok(offset)
    }

    /// Writes the file, header included.
    ///
    /// # Errors
    /// What writing reports, and `InvalidOperation` while somebody writes one of the tensors.
    pub(crate) fn write(&self, file: &File) -> Result<Header> {
        let failed = |cause| Error::container("cannot be written").with_cause(cause);
        let mut writer = BufWriter::with_capacity(1 << 18, file);
        writer.write_all(&[0; ALIGNMENT as usize]).map_err(failed)?;
        let mut hasher = Hasher::default();
        for tensor in &self.tensors {
            let bytes = tensor.read_bytes()?;
            let padding = bytes.len().next_multiple_of(ALIGNMENT as usize) - bytes.len();
            for part in [&bytes[..], &[0; ALIGNMENT as usize][..padding]] {
                hasher.update(part);
                writer.write_all(part).map_err(failed)?;
            }
        }
        let header = Header { size: self.end, content: hasher.finish() };
        writer.seek(SeekFrom::Start(0)).map_err(failed)?;
        writer.write_all(&header.to_bytes()).map_err(failed)?;
        writer.flush().map_err(failed)?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn every_changed_bit_of_a_header_is_noticed() {
        let header = Header { size: 4096, content: std::array::from_fn(|i| i as u8) };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&bytes, 4096).unwrap(), header);
        each_case(0..bytes.len() * 8, |&bit| {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            match Header::read(&changed, 4096) {
                Ok(read) if read == header => Err("the change was not noticed".into()),
                _ => Ok(()),
            }
        });
        assert!(Header::read(&bytes[..63], 4096).is_err());
        assert!(Header::read(&bytes, 4097).is_err());
    }

    #[test]
    fn shared_memory_is_placed_once() {
        let tensor = Tensor::from_slice(&[100], &[1u8; 100]).unwrap();
        let copy = tensor.to_owned_copy().unwrap();
        let mut layout = Layout::new();
        let offsets: Vec<u64> =
            [&tensor, &tensor.clone(), &copy].map(|tensor| layout.place(tensor).unwrap()).to_vec();
        assert_eq!(offsets, [64, 64, 192]);
        assert_eq!(layout.end, 320);
    }
}
