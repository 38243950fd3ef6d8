//! Weights in mapped memory.

use std::fs::File;
use std::ptr::NonNull;

use memmap2::{Mmap, MmapOptions};
use optimium_tensor::Buffer;

/// The whole of `file`, mapped read-only; `length` is its size, not zero.
pub(crate) fn map(file: &File, length: usize) -> std::io::Result<Buffer> {
    // SAFETY: the map is private and read-only. That nobody changes the file in place while a model of it is loaded is
    // the contract of a model folder; `save` replaces folders and never writes into them.
    let map: Mmap = unsafe { MmapOptions::new().len(length).map_copy_read_only(file)? };
    let pointer = NonNull::from(&map[..]).cast::<u8>();
    // SAFETY: the bytes are initialized and stay mapped at this address until the map, which the buffer owns, is dropped.
    Ok(unsafe { Buffer::foreign(pointer, length, false, map) })
}
