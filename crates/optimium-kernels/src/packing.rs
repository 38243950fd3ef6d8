//! Packed weights: where they lie, and where they come from.
//!
//! A prepared kernel keeps its weights in an order of its own. It asks a [`Packing`] for each block of them, and says how the
//! block is filled: where it was packed before and is stored, the stored one is shared and nothing is read or written; else
//! fresh memory is filled. What a block holds is never relied on for anything but results: a stored block may come from anywhere.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use optimium_tensor::Buffer;

/// Counts the orders of weights: it is raised whenever a kernel reads the same [form](Packing::block) in another order than before.
pub const PACKING_VERSION: u32 = 1;

/// Alignment of every block in bytes.
pub const PACKED_ALIGNMENT: usize = 64;

/// Elements in packed order, which start at a 64-byte boundary and never change. Cloning shares them.
pub struct Packed<T> {
    pointer: NonNull<T>,
    length: usize,
    owner: Arc<Buffer>,
    element: PhantomData<T>,
}

// SAFETY: the elements are only read, and their owner is shared between threads.
unsafe impl<T: Sync> Send for Packed<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Packed<T> {}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        let owner = self.owner.clone();
        Self { pointer: self.pointer, length: self.length, owner, element: PhantomData }
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<T> Deref for Packed<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the constructors checked bounds and alignment, and every bit pattern is a T; the owner keeps the memory, and
        // nobody writes it any more.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.length) }
    }
}

impl<T: bytemuck::Pod> Packed<T> {
    /// `length` elements in memory of their own: zeros, but for what `fill` writes.
    pub fn filled(length: usize, fill: impl FnOnce(&mut [T])) -> Packed<T> {
        let bytes = byte_count::<T>(length);
        Packed::fresh(Fresh { owner: zeros(bytes), offset: 0 }, length, fill)
    }

    /// The elements from byte `offset` of `buffer` on; `None` where they do not lie in it, are not aligned, or the buffer can be
    /// written.
    pub fn stored(buffer: &Arc<Buffer>, offset: usize, length: usize) -> Option<Packed<T>> {
        let end = length.checked_mul(size_of::<T>())?.checked_add(offset)?;
        let pointer = buffer.as_ptr().wrapping_add(offset);
        let aligned = pointer.addr().is_multiple_of(PACKED_ALIGNMENT);
        if end > buffer.len() || !aligned || buffer.is_writable() {
            return None;
        }
        let pointer = NonNull::new(pointer.cast())?;
        Some(Packed { pointer, length, owner: buffer.clone(), element: PhantomData })
    }

    /// Fills `fresh` memory, which holds so many elements.
    fn fresh(fresh: Fresh, length: usize, fill: impl FnOnce(&mut [T])) -> Packed<T> {
        let Fresh { owner, offset } = fresh;
        assert!(offset + byte_count::<T>(length) <= owner.len(), "{length} elements in fresh memory");
        let start = owner.as_ptr().wrapping_add(offset).cast::<T>();
        let pointer = NonNull::new(start).unwrap_or(NonNull::dangling());
        // SAFETY: in bounds by the assertion, aligned as all fresh memory is, zeros, and handed out here alone; nobody else
        // sees the elements before the loan ends.
        fill(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), length) });
        Packed { pointer, length, owner, element: PhantomData }
    }

    /// The elements of `range`, as others of a size that divides the range.
    ///
    /// # Panics
    /// Where the range is out of bounds, or does not hold whole and aligned elements.
    pub fn part<U: bytemuck::Pod>(&self, range: Range<usize>) -> Packed<U> {
        let part: &[U] = bytemuck::cast_slice(&self[range]);
        let (pointer, length) = (NonNull::from(part).cast(), part.len());
        Packed { pointer, length, owner: self.owner.clone(), element: PhantomData }
    }
}

/// Zeros that nobody else knows, from byte `offset` of `owner` on, aligned to [`PACKED_ALIGNMENT`].
struct Fresh {
    owner: Arc<Buffer>,
    offset: usize,
}

fn byte_count<T>(length: usize) -> usize {
    length.checked_mul(size_of::<T>()).unwrap_or_else(|| out_of_memory(usize::MAX))
}

fn out_of_memory(bytes: usize) -> ! {
    let layout = Layout::from_size_align(bytes.min(isize::MAX as usize / 2), PACKED_ALIGNMENT);
    handle_alloc_error(layout.unwrap_or(Layout::new::<u8>()))
}

/// Memory for many blocks, which is taken from the system in few large pieces: they may have huge pages, which spares most faults.
#[derive(Debug)]
pub struct PackingArena {
    piece: usize,
    current: Mutex<Option<Fresh>>,
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Pieces are at most that large, but for blocks that are larger.
const LARGEST_PIECE: usize = 32 << 20;

impl PackingArena {
    /// An arena for about that many bytes in all.
    pub fn new(expected: usize) -> PackingArena {
        PackingArena { piece: expected.clamp(1 << 16, LARGEST_PIECE), current: Mutex::new(None) }
    }

    /// Fresh memory of that size.
    fn take(&self, bytes: usize) -> Fresh {
        let bytes = bytes.next_multiple_of(PACKED_ALIGNMENT);
        if bytes >= self.piece {
            return Fresh { owner: zeros(bytes), offset: 0 };
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match &mut *current {
            Some(open) if open.owner.len() - open.offset >= bytes => open,
            full => full.insert(Fresh { owner: zeros(self.piece), offset: 0 }),
        };
        let offset = open.offset;
        open.offset += bytes;
        Fresh { owner: open.owner.clone(), offset }
    }
}

/// Zeros that nobody else knows.
fn zeros(bytes: usize) -> Arc<Buffer> {
    Arc::new(Buffer::zeroed(bytes).unwrap_or_else(|_| out_of_memory(bytes)))
}

/// Blocks that were packed before.
pub trait StoredBlocks: Sync {
    /// Where the `bytes` of block `index` of that form lie: a buffer that cannot be written, and an offset in bytes. `None` where
    /// there is no such block.
    fn find(&self, index: usize, form: &str, bytes: usize) -> Option<(Arc<Buffer>, usize)>;
}

/// One block as it was asked for.
#[derive(Clone, Debug)]
pub struct PackedBlock {
    /// All that its content depends on, but for the weights.
    pub form: String,
    /// Its bytes.
    pub bytes: Packed<u8>,
    /// Whether it was there, and nothing had to be filled.
    pub stored: bool,
}

/// Where the prepared kernels of one node get their packed weights from.
#[derive(Default)]
pub struct Packing<'a> {
    stored: Option<&'a dyn StoredBlocks>,
    arena: Option<&'a PackingArena>,
    blocks: RefCell<Vec<PackedBlock>>,
}

impl<'a> Packing<'a> {
    /// Takes what is `stored`, and room for the rest from `arena`.
    pub fn new(stored: Option<&'a dyn StoredBlocks>, arena: &'a PackingArena) -> Packing<'a> {
        Packing { stored, arena: Some(arena), blocks: RefCell::default() }
    }

    /// The next block, of `length` elements: stored, or zeros but for what `fill` writes.
    ///
    /// `form` says all that the order and the values depend on besides the weights and the sizes and attributes of their node:
    /// the instruction set, the tile, the algorithm. `fill` must do everything that reads the weights.
    pub fn block<T: bytemuck::Pod>(
        &self,
        form: impl Display,
        length: usize,
        fill: impl FnOnce(&mut [T]),
    ) -> Packed<T> {
        let (index, form) = (self.blocks.borrow().len(), form.to_string());
        let bytes = byte_count::<T>(length);
        let found = self.stored.and_then(|stored| stored.find(index, &form, bytes));
        let found = found.and_then(|(buffer, offset)| Packed::stored(&buffer, offset, length));
        let stored = found.is_some();
        let packed = found.unwrap_or_else(|| match self.arena {
            Some(arena) => Packed::fresh(arena.take(bytes), length, fill),
            None => Packed::filled(length, fill),
        });
        self.blocks.borrow_mut().push(PackedBlock { form, bytes: packed.part(0..length), stored });
        packed
    }

    /// Whether the next [block](Packing::block) is stored, if it is asked for in that form.
    pub fn has_stored<T: bytemuck::Pod>(&self, form: impl Display, length: usize) -> bool {
        let index = self.blocks.borrow().len();
        let find = |stored: &dyn StoredBlocks| stored.find(index, &form.to_string(), byte_count::<T>(length));
        self.stored.is_some_and(|stored| find(stored).is_some())
    }

    /// The blocks so far, in order.
    pub fn into_blocks(self) -> Vec<PackedBlock> {
        self.blocks.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(Arc<Buffer>, usize);

    impl StoredBlocks for One {
        fn find(&self, index: usize, form: &str, bytes: usize) -> Option<(Arc<Buffer>, usize)> {
            (index == 0 && form == "known" && bytes == 64).then(|| (self.0.clone(), self.1))
        }
    }

    fn stored() -> Arc<Buffer> {
        Arc::new(Buffer::read_only(&[0; 256]).unwrap())
    }

    #[test]
    fn stored_blocks_are_shared_and_others_filled() {
        let (arena, buffer) = (PackingArena::new(0), stored());
        let cases = [("known", 16, 64, true), ("other", 16, 64, false), ("known", 15, 64, false)];
        for (form, length, offset, hit) in cases {
            let one = One(buffer.clone(), offset);
            let packing = Packing::new(Some(&one), &arena);
            assert_eq!(packing.has_stored::<f32>(form, length), hit, "{form}, {length}");
            let block = packing.block(form, length, |out: &mut [f32]| out.fill(1.0));
            let expected = if hit { vec![0.0; length] } else { vec![1.0; length] };
            assert_eq!(&block[..], &expected[..], "{form}, {length}");
            let again = packing.block(form, length, |out: &mut [f32]| out.fill(2.0));
            assert_eq!(&again[..], &vec![2.0; length][..]);
            assert_eq!(packing.into_blocks().len(), 2);
        }
    }

    #[test]
    fn stored_blocks_out_of_place_are_not_used() {
        let read_only = stored();
        let writable = Arc::new(Buffer::zeroed(256).unwrap());
        assert!(Packed::<f32>::stored(&read_only, 64, 48).is_some());
        assert!(Packed::<f32>::stored(&read_only, 64, 49).is_none());
        assert!(Packed::<f32>::stored(&read_only, 32, 1).is_none());
        assert!(Packed::<f32>::stored(&read_only, 320, 0).is_none());
        assert!(Packed::<f32>::stored(&read_only, 0, usize::MAX).is_none());
        assert!(Packed::<f32>::stored(&read_only, usize::MAX, 1).is_none());
        assert!(Packed::<f32>::stored(&writable, 0, 1).is_none());
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_apart() {
        for expected in [0, 1000, 10 << 20] {
            let arena = PackingArena::new(expected);
            let packing = Packing::new(None, &arena);
            let blocks: Vec<Packed<u8>> = (0..200usize)
                .map(|i| {
                    packing.block("", i * 37, |out: &mut [u8]| {
                        assert!(out.iter().all(|&x| x == 0));
                        out.fill(i as u8);
                    })
                })
                .collect();
            for (i, block) in blocks.iter().enumerate() {
                assert_eq!(block.len(), i * 37);
                assert!(block.is_empty() || block.as_ptr().addr().is_multiple_of(PACKED_ALIGNMENT));
                assert!(block.iter().all(|&x| x == i as u8));
            }
        }
    }
}
