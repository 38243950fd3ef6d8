//! Weights in mapped memory.

use std::fs::File;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use optimium_tensor::Buffer;

/// A file that is mapped read-only.
#[derive(Clone, Debug)]
pub(crate) struct Mapping(Arc<Mmap>);

/// The whole of `file`; `length` is its size, not zero.
pub(crate) fn map(file: &File, length: usize) -> std::io::Result<Mapping> {
    // SAFETY: the map is private and read-only. That nobody changes the file in place while a model of it is loaded is
    // the contract of a model folder; `save` replaces folders and never writes into them.
    let map: Mmap = unsafe { MmapOptions::new().len(length).map_copy_read_only(file)? };
    Ok(Mapping(Arc::new(map)))
}

impl Mapping {
    /// Its bytes; the buffer keeps the file mapped.
    pub(crate) fn buffer(&self) -> Buffer {
        let pointer = NonNull::from(&self.0[..]).cast::<u8>();
        // SAFETY: the bytes are initialized and stay mapped at this address until the map, which the buffer shares, is dropped.
        unsafe { Buffer::foreign(pointer, self.0.len(), false, self.0.clone()) }
    }

    /// Has the whole file read and mapped by a thread of its own: faster than page by page, as somebody comes to them.
    pub(crate) fn prefetch(&self) {
        #[cfg(target_os = "linux")]
        {
            let map = self.0.clone();
            let read = move || {
                // Advice: without it everything is only slower.
                let _ = map.advise(memmap2::Advice::WillNeed);
                let _ = map.advise(memmap2::Advice::PopulateRead);
            };
            if let Err(error) = std::thread::Builder::new().name("optimium-prefetch".into()).spawn(read) {
                tracing::debug!(%error, "weights are read page by page");
            }
        }
    }

    /// Gives the memory of its pages back. They are read from the file again where they are used again.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        // SAFETY: the pages were never written, so that what is read again is what was there.
        if let Err(error) = unsafe { self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) } {
            tracing::debug!(%error, "pages of weights are kept");
        }
    }
}
