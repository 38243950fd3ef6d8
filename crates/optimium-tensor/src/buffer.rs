//! Memory that tensors share, whoever owns it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::ptr::NonNull;

use memmap2::MmapOptions;
use optimium_sync::{InUse, Users};

use crate::{Error, ErrorKind, Result};

/// Alignment of memory that the runtime allocates, in bytes: a cache line and the widest vector.
pub(crate) const ALIGNMENT: usize = 64;
/// Bytes from which on memory is taken from the system page by page.
const LARGE: usize = 2 << 20;
/// Bytes from which on huge pages are asked for: they spare most page faults, and waste up to one page at the end.
const WORTH_HUGE_PAGES: usize = 4 << 20;

/// Bytes with an owner, and a count of who reads or writes them now.
///
/// Several tensors and running requests may hold the same buffer. [`acquire`](Buffer::acquire) keeps
/// writers apart from everyone else, at run time and without waiting.
pub struct Buffer {
    pointer: NonNull<u8>,
    length: usize,
    writable: bool,
    owner: Owner,
    users: Users,
}

enum Owner {
    Heap(Layout),
    /// Keeps other memory alive: pages, a mapped file, a NumPy array.
    Foreign(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>),
}

// SAFETY: the memory is plain bytes; access to it goes through `acquire`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// How a buffer is about to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Shared with other readers.
    Read,
    /// Alone.
    Write,
}

impl Buffer {
    /// `length` bytes whose content is unspecified but initialized, aligned to 64 bytes.
    ///
    /// # Errors
    /// As [`zeroed`](Buffer::zeroed).
    pub fn allocate(length: usize) -> Result<Buffer> {
        // Reading an unwritten tensor must be defined, and zeros cost little: large blocks are zero anyway.
        Self::zeroed(length)
    }

    /// `length` zero bytes, aligned to 64 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfResource`] where the size cannot be represented or allocated.
    pub fn zeroed(length: usize) -> Result<Buffer> {
        let too_large = || Error::new(ErrorKind::OutOfResource, format!("cannot allocate {length} bytes"));
        let layout = Layout::from_size_align(length.max(1), ALIGNMENT).map_err(|_| too_large())?;
        if length >= LARGE {
            return Buffer::map_pages(length).map_err(|cause| too_large().with_cause(cause));
        }
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { handle_alloc_error(layout) };
        Ok(Buffer { pointer, length, writable: true, owner: Owner::Heap(layout), users: Users::new() })
    }

    /// A copy of `bytes` that cannot be written.
    ///
    /// # Errors
    /// As [`zeroed`](Buffer::zeroed).
    pub fn read_only(bytes: &[u8]) -> Result<Buffer> {
        let mut buffer = Buffer::zeroed(bytes.len())?;
        // SAFETY: the buffer has that many bytes, and nobody else knows it.
        unsafe { buffer.pointer.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        buffer.writable = false;
        Ok(buffer)
    }

    /// Fresh pages from the system, which are zero and take no memory before they are used.
    fn map_pages(length: usize) -> std::io::Result<Buffer> {
        let mut map = MmapOptions::new().len(length).map_anon()?;
        #[cfg(target_os = "linux")]
        if length >= WORTH_HUGE_PAGES {
            // It is advice: without huge pages everything is only slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let pointer = NonNull::from(&mut map[..]).cast();
        let owner = Owner::Foreign(Box::new(map));
        Ok(Buffer { pointer, length, writable: true, owner, users: Users::new() })
    }

    /// Memory that `owner` keeps alive.
    ///
    /// # Safety
    /// The `length` bytes at `pointer` stay valid for reads (and writes where `writable`) until `owner` is dropped, and
    /// are initialized.
    pub unsafe fn foreign(
        pointer: NonNull<u8>,
        length: usize,
        writable: bool,
        owner: impl Any + Send + Sync,
    ) -> Buffer {
        Buffer { pointer, length, writable, owner: Owner::Foreign(Box::new(owner)), users: Users::new() }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether its bytes may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The first byte's address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    /// Registers a user of the memory; [`release`](Buffer::release) ends the use.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOperation`] where it is in use in a way that excludes `access`, or not writable.
    pub fn acquire(&self, access: Access) -> Result<()> {
        let outcome = match access {
            Access::Read => self.users.begin_read(),
            Access::Write if !self.writable => {
                return Err(Error::new(ErrorKind::InvalidOperation, "the tensor's memory is read-only"));
            }
            Access::Write => self.users.begin_write(),
        };
        outcome.map_err(in_use)
    }

    /// Ends one use that [`acquire`](Buffer::acquire) granted.
    pub fn release(&self, access: Access) {
        match access {
            Access::Read => self.users.end_read(),
            Access::Write => self.users.end_write(),
        }
    }
}

/// The error of a use that another one excludes.
#[cold]
fn in_use(how: InUse) -> Error {
    let what = match how {
        InUse::Read => "being read",
        InUse::Written => "being written",
    };
    Error::new(
        ErrorKind::InvalidOperation,
        format!("the tensor's memory is {what} by a running inference or another view; wait for it first"),
    )
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = &self.owner {
            // SAFETY: allocated by `zeroed` with this layout, and dropped once.
            unsafe { dealloc(self.pointer.as_ptr(), *layout) }
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("length", &self.length).field("writable", &self.writable).finish()
    }
}
