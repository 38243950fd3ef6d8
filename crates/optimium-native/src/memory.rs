//! How steps reach their operands: the one place of this crate that turns offsets into slices.
//!
//! A [`Memory`] holds the base addresses of one inference: the arena, the caller's tensors, the
//! constants. An [`Operand`] is a range of bytes behind one of them. That readers and writers of one step do
//! not meet is the planner's work: values that live at the same time do not overlap, except where a layer asked to
//! write in place, and then it uses [`Memory::write`] for both, or to read columns of rows whose other columns it writes, and
//! then it uses [`Memory::read_columns`], or to append rows to a cache where it lies, and then it uses [`Memory::blocks`] for what
//! was there and for all of it. That workers do not meet is the kernels' work: they
//! write disjoint parts through [`SharedSlice`]. [`Memory::new`] is unsafe to say that both must hold.

use std::marker::PhantomData;

use optimium_kernels::SharedSlice;
use optimium_kernels::elementwise::Source;

/// A range of bytes behind a base address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    /// Which base.
    pub(crate) base: u32,
    /// The first byte, from the base on.
    pub(crate) offset: usize,
    /// Number of bytes.
    pub(crate) bytes: usize,
}

/// A base address and the bytes that lie behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) pointer: *mut u8,
    pub(crate) bytes: usize,
    /// Bytes from one block to the next, where what lies there is not contiguous: it can only be reached as [`BlockSlice`].
    pub(crate) stride: Option<usize>,
}

impl Base {
    /// Contiguous memory.
    pub(crate) fn new(pointer: *mut u8, bytes: usize) -> Base {
        Base { pointer, bytes, stride: None }
    }
}

/// An operand in blocks of equal size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSlice<'a, T> {
    /// The elements from the first to the last, with what lies between the blocks.
    pub(crate) data: SharedSlice<'a, T>,
    /// Elements from one block to the next.
    pub(crate) stride: usize,
}

// SAFETY: an address alone does nothing; see `Memory`.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

/// The addresses of one inference, as steps see them.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    bases: &'a [Base],
    scratch: Base,
    scratch_each: usize,
    following: &'a [f32],
    borrow: PhantomData<&'a mut [u8]>,
}

impl<'a> Memory<'a> {
    /// The memory behind `bases`, and `scratch_each` bytes of scratch memory for each worker.
    ///
    /// # Safety
    /// The bytes are valid for `'a`, initialized, and used through this value alone, but for constants and inputs, which others
    /// may read. The steps that use it come from one bound plan and run in its order, as the module says.
    pub(crate) unsafe fn new(bases: &'a [Base], scratch: Base, scratch_each: usize) -> Memory<'a> {
        Memory { bases, scratch, scratch_each, following: &[], borrow: PhantomData }
    }

    /// The same memory for a step behind which this worker reads the weights `following`.
    pub(crate) fn before<'b>(&self, following: &'b [f32]) -> Memory<'b>
    where
        'a: 'b,
    {
        Memory { following, ..*self }
    }

    /// The weights that this worker reads next, where they are known.
    pub(crate) fn following(&self) -> &'a [f32] {
        self.following
    }

    /// The elements of an operand that the step reads.
    pub(crate) fn read<T: bytemuck::Pod>(&self, operand: Operand) -> &'a [T] {
        let (pointer, length) = self.locate::<T>(operand);
        // SAFETY: in bounds and aligned by `locate`; not written meanwhile, see the module.
        unsafe { std::slice::from_raw_parts(pointer, length) }
    }

    /// The elements of an operand that the step reads, where the step may write between its rows.
    pub(crate) fn read_columns<T: bytemuck::Pod>(&self, operand: Operand) -> Source<'a, T> {
        self.write(operand).into()
    }

    /// The elements of an operand that the step writes, or changes in place.
    pub(crate) fn write<T: bytemuck::Pod>(&self, operand: Operand) -> SharedSlice<'a, T> {
        let (pointer, length) = self.locate::<T>(operand);
        // SAFETY: in bounds and aligned by `locate`; the step's alone, see the module.
        unsafe { SharedSlice::from_raw(pointer, length) }
    }

    /// The elements of an operand that a step which one worker does alone writes.
    pub(crate) fn write_alone<T: bytemuck::Pod>(&self, operand: Operand) -> &'a mut [T] {
        let (pointer, length) = self.locate::<T>(operand);
        // SAFETY: in bounds and aligned by `locate`; the step's alone, see the module, and this worker's, who does all of it.
        unsafe { std::slice::from_raw_parts_mut(pointer, length) }
    }

    /// The elements of an operand that is all of its memory, in `count` blocks between which there may be room. The step reads or
    /// writes the blocks alone.
    pub(crate) fn blocks<T: bytemuck::Pod>(&self, operand: Operand, count: usize) -> BlockSlice<'a, T> {
        let base = self.bases[operand.base as usize];
        let each = operand.bytes / count.max(1);
        let (Some(stride), true) = (base.stride, operand.bytes > 0) else {
            return BlockSlice { data: self.write(operand), stride: each / size_of::<T>() };
        };
        let end = stride.checked_mul(count - 1).and_then(|start| start.checked_add(each));
        assert!(operand.offset == 0 && end.is_some_and(|end| end <= base.bytes), "blocks out of bounds");
        let pointer = base.pointer.cast::<T>();
        assert!(pointer.is_aligned() && stride.is_multiple_of(size_of::<T>()), "blocks not aligned");
        // SAFETY: in bounds and aligned by the assertions; the step's alone, see the module.
        let data = unsafe { SharedSlice::from_raw(pointer, base.bytes / size_of::<T>()) };
        BlockSlice { data, stride: stride / size_of::<T>() }
    }

    /// The elements of blocks that the step reads, as long as nobody writes them.
    pub(crate) fn read_blocks<T: bytemuck::Pod>(&self, operand: Operand, count: usize) -> (&'a [T], usize) {
        let BlockSlice { data, stride } = self.blocks::<T>(operand, count);
        // SAFETY: not written meanwhile, see the module.
        (unsafe { data.slice(0..data.len()) }, stride)
    }

    /// `length` elements of scratch memory of worker `index`, 64-byte aligned, with any content.
    pub(crate) fn scratch<T: bytemuck::Pod>(&self, index: usize, length: usize) -> &'a mut [T] {
        let start = index * self.scratch_each;
        let bytes = length * size_of::<T>();
        assert!(
            bytes <= self.scratch_each && start + bytes <= self.scratch.bytes,
            "scratch memory too small"
        );
        // SAFETY: in bounds by the assertion, aligned because shares are multiples of 64 bytes, and this worker's alone.
        unsafe { std::slice::from_raw_parts_mut(self.scratch.pointer.add(start).cast(), length) }
    }

    /// `length` elements of scratch memory that all workers share, 64-byte aligned, with any content, in a step that has no other
    /// scratch memory. They keep it from round to round of the step.
    pub(crate) fn shared_scratch<T: bytemuck::Pod>(&self, length: usize) -> SharedSlice<'a, T> {
        assert!(length * size_of::<T>() <= self.scratch.bytes, "scratch memory too small");
        // SAFETY: in bounds by the assertion, aligned as all buffers are, and the step's alone.
        unsafe { SharedSlice::from_raw(self.scratch.pointer.cast(), length) }
    }

    fn locate<T>(&self, operand: Operand) -> (*mut T, usize) {
        let base = self.bases[operand.base as usize];
        let end = operand.offset.checked_add(operand.bytes);
        assert!(end.is_some_and(|end| end <= base.bytes), "operand out of bounds");
        assert!(base.stride.is_none() || operand.bytes == 0, "operand in blocks");
        let length = operand.bytes / size_of::<T>();
        if length == 0 {
            return (std::ptr::NonNull::dangling().as_ptr(), 0);
        }
        let pointer = base.pointer.wrapping_add(operand.offset).cast::<T>();
        assert!(pointer.is_aligned(), "operand not aligned");
        (pointer, length)
    }
}
