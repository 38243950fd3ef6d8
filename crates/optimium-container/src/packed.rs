//! Files of packed weights: what a backend made of the weights for one kind of machine.
//!
//! ```text
//! header   128 bytes: magic, version, alignment, sizes, digests of the graph and of the index; numbers are little-endian
//! index    JSON: the key, offset and size of every block
//! blocks   each aligned to 64 bytes, the first to a page
//! ```
//!
//! A folder is whole without them. A file that does not belong to the graph, or that this version does not understand, is
//! passed over when a model is opened, and reported by `verify`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use optimium_tensor::{Buffer, Error, Result};
use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::files;
use crate::manifest::FileEntry;
use crate::mapping::{self, Mapping};

/// The role of such files in the manifest.
pub(crate) const ROLE: &str = "packed";

const MAGIC: &[u8; 8] = b"OPTMPCK\0";
const VERSION: u32 = 1;
const ALIGNMENT: u64 = 64;
const HEADER: u64 = 128;
const PAGE: u64 = 4096;
/// Larger indices are refused.
const MAX_INDEX: u64 = 64 << 20;

/// Packed weights to be stored.
#[derive(Clone, Debug, Default)]
pub struct PackedBlocks<'a> {
    /// What they are packed for; a part of a file name, of at most 64 letters, digits, `-` and `_`.
    pub target: String,
    /// Key and bytes of every block; no key comes twice.
    pub blocks: Vec<(String, &'a [u8])>,
}

/// Packed weights of a folder.
#[derive(Clone, Debug)]
pub struct StoredPacked {
    /// The whole file, mapped.
    pub buffer: Arc<Buffer>,
    /// Where in it the block of each key lies: aligned to 64 bytes.
    pub places: HashMap<String, Range<usize>>,
}

/// The name of the file for `target`.
///
/// # Errors
/// `InvalidArgument` where the target cannot be a part of a file name.
pub(crate) fn file_name(target: &str) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=64).contains(&target.len()) || !target.bytes().all(allowed) {
        return Err(Error::invalid_argument(format!("weights cannot be stored as packed for {target:?}")));
    }
    Ok(format!("packed.{target}.bin"))
}

/// Where a block lies in the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    key: String,
    offset: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Of the whole file.
    size: u64,
    /// Bytes of the index.
    index_size: u64,
    /// SHA-256 of `graph.json`, which names the weights by theirs.
    graph: Digest,
    /// SHA-256 of the index.
    index: Digest,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(ALIGNMENT as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index_size.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.graph);
        bytes[64..96].copy_from_slice(&self.index);
        bytes
    }

    /// Reads the header of a file of `size` bytes.
    fn read(bytes: &[u8; HEADER as usize], size: u64) -> Result<Header> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let digest = |at: usize| std::array::from_fn(|i| bytes[at + i]);
        let header = Header { size, index_size: number(24), graph: digest(32), index: digest(64) };
        if !bytes.starts_with(MAGIC) || *bytes != header.to_bytes() {
            return Err(Error::container(format!(
                "expected a header of packed weights of version {VERSION} in a file of {size} bytes"
            )));
        }
        if header.index_size > MAX_INDEX || header.index_size > size - HEADER {
            return Err(Error::container(format!(
                "an index of {} bytes does not lie in the file",
                header.index_size
            )));
        }
        Ok(header)
    }
}

/// Writes the file for the graph of that digest into `folder`.
///
/// # Errors
/// `InvalidArgument` for a target that cannot be a part of a file name; `Container` where the file cannot be written.
pub(crate) fn write(folder: &Path, packed: &PackedBlocks<'_>, graph: Digest) -> Result<FileEntry> {
    let name = file_name(&packed.target)?;
    let written = || -> std::io::Result<(u64, Digest)> {
        let path = folder.join(&name);
        let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
        let size = write_blocks(&file, packed, graph)?;
        file.sync_all()?;
        file.rewind()?;
        Ok((size, digest::of_reader(Read::by_ref(&mut file))?))
    };
    let (size, digest) =
        written().map_err(|cause| Error::container(format!("{name} cannot be written")).with_cause(cause))?;
    Ok(FileEntry { name, size, sha256: digest::text(&digest), role: ROLE.into() })
}

fn write_blocks(file: &File, packed: &PackedBlocks<'_>, graph: Digest) -> std::io::Result<u64> {
    // The offsets count from the first block on, so that they do not change the size of the index that they stand in.
    let mut end = 0;
    let entry = |(key, bytes): &(String, &[u8])| {
        let entry = Entry { key: key.clone(), offset: end, bytes: bytes.len() as u64 };
        end = (end + entry.bytes).next_multiple_of(ALIGNMENT);
        entry
    };
    let entries: Vec<Entry> = packed.blocks.iter().map(entry).collect();
    let index = serde_json::to_vec(&entries)?;
    if index.len() as u64 > MAX_INDEX {
        return Err(std::io::Error::other(format!("its index would have {} bytes", index.len())));
    }
    let first = first_block(index.len() as u64);
    let header =
        Header { size: first + end, index_size: index.len() as u64, graph, index: digest::of_bytes(&index) };
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    writer.write_all(&header.to_bytes())?;
    writer.write_all(&index)?;
    writer.write_all(&vec![0; (first - HEADER - header.index_size) as usize])?;
    for (_, bytes) in &packed.blocks {
        writer.write_all(bytes)?;
        writer.write_all(
            &[0; ALIGNMENT as usize][..bytes.len().next_multiple_of(ALIGNMENT as usize) - bytes.len()],
        )?;
    }
    writer.flush()?;
    Ok(header.size)
}

/// Where the first block lies behind an index of that size.
fn first_block(index_size: u64) -> u64 {
    (HEADER + index_size).next_multiple_of(PAGE)
}

/// Maps the file of `entry`, which is checked against the graph of that digest. The blocks are not read.
///
/// # Errors
/// `Container` where it cannot be read, is damaged, or belongs to another graph.
pub(crate) fn open(folder: &Path, entry: &FileEntry, graph: &Digest) -> Result<(StoredPacked, Mapping)> {
    let opened = || {
        let failed = |cause| Error::container("cannot be read").with_cause(cause);
        let (mut file, size) = files::open_file(folder, &entry.name)?;
        if size < HEADER || size != entry.size {
            return Err(Error::container(format!("has {size} bytes, expected {}", entry.size)));
        }
        let mut bytes = [0; HEADER as usize];
        file.read_exact(&mut bytes).map_err(failed)?;
        let header = Header::read(&bytes, size)?;
        if header.graph != *graph {
            return Err(Error::container("is packed for another graph"));
        }
        let mut index = vec![0; header.index_size as usize];
        file.read_exact(&mut index).map_err(failed)?;
        let places = places(&header, &index)?;
        let length = usize::try_from(size).map_err(|_| Error::container("is larger than memory"))?;
        let mapping = mapping::map(&file, length).map_err(failed)?;
        Ok((StoredPacked { buffer: Arc::new(mapping.buffer()), places }, mapping))
    };
    opened().map_err(|error: Error| error.context(&entry.name))
}

/// The places of the blocks, which lie within the file.
fn places(header: &Header, index: &[u8]) -> Result<HashMap<String, Range<usize>>> {
    if digest::of_bytes(index) != header.index {
        return Err(Error::container("its index is damaged"));
    }
    let entries: Vec<Entry> = serde_json::from_slice(index)
        .map_err(|cause| Error::container(format!("its index is damaged: {cause}")).with_cause(cause))?;
    let first = first_block(header.index_size);
    let mut places = HashMap::with_capacity(entries.len());
    for Entry { key, offset, bytes } in entries {
        let start = first.checked_add(offset).filter(|start| start.is_multiple_of(ALIGNMENT));
        let end = start.and_then(|start| start.checked_add(bytes)).filter(|&end| end <= header.size);
        let (Some(start), Some(end)) = (start.map(usize::try_from), end.map(usize::try_from)) else {
            return Err(Error::container(format!("{bytes} bytes at {offset} do not lie in the file")));
        };
        let (Ok(start), Ok(end)) = (start, end) else {
            return Err(Error::container("is larger than memory"));
        };
        if places.insert(key, start..end).is_some() {
            return Err(Error::container("its index names a block twice"));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn every_changed_bit_of_a_header_is_noticed() {
        let digest = |first: u8| std::array::from_fn(|i| first + i as u8);
        let header = Header { size: 9000, index_size: 100, graph: digest(0), index: digest(100) };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&bytes, 9000).unwrap(), header);
        each_case(0..bytes.len() * 8, |&bit| {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            match Header::read(&changed, 9000) {
                Ok(read) if read == header => Err("the change was not noticed".into()),
                _ => Ok(()),
            }
        });
        assert!(Header::read(&bytes, 9001).is_err());
    }

    #[test]
    fn places_lie_within_the_file() {
        let cases = [
            (0, 64, true),
            (64, 100, true),
            (0, 904, true),
            (0, 905, false),
            (1, 8, false),
            (u64::MAX - 63, 64, false),
            (u64::MAX, u64::MAX, false),
            (0, u64::MAX, false),
        ];
        each_case(cases, |&(offset, bytes, allowed)| {
            let index = format!(r#"[{{"key":"a","offset":{offset},"bytes":{bytes}}}]"#);
            let index_digest = digest::of_bytes(index.as_bytes());
            let header = Header { size: 5000, index_size: 100, graph: [0; 32], index: index_digest };
            let result = places(&header, index.as_bytes());
            if result.is_ok() == allowed { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }

    #[test]
    fn targets_are_parts_of_file_names() {
        let cases =
            [("avx2", true), ("a-b_C9", true), ("", false), ("a/b", false), ("..", false), ("é", false)];
        each_case(
            cases,
            |&(target, allowed)| {
                if file_name(target).is_ok() == allowed { Ok(()) } else { Err("wrong".into()) }
            },
        );
        assert!(file_name(&"a".repeat(65)).is_err());
    }
}
