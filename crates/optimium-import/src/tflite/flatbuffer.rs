//! A reader of flatbuffers that checks every offset against the bytes.
//!
//! A table begins with the (signed) distance back to its vtable, which lists for each field where in the table it
//! is, or 0 where it is left out. Strings, vectors and other tables are stored elsewhere, and fields hold the
//! distance to them.

use std::cell::Cell;

use optimium_tensor::{Error, Result};

fn damaged(what: &str) -> Error {
    Error::model(format!("this is not a TFLite model: {what}"))
}

fn array<const N: usize>(bytes: &[u8], position: usize) -> Result<[u8; N]> {
    position
        .checked_add(N)
        .and_then(|end| bytes.get(position..end))
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| damaged("an offset leads behind its end"))
}

/// The position that the offset at `position` leads to.
fn follow(bytes: &[u8], position: usize) -> Result<usize> {
    let distance = u32::from_le_bytes(array(bytes, position)?) as usize;
    position
        .checked_add(distance)
        .filter(|&target| target < bytes.len())
        .ok_or_else(|| damaged("an offset leads behind its end"))
}

/// How many bytes of vectors may be read yet. Every vector of an honest file is read a few times; hostile ones let
/// many tables share a large vector, to make small files grow.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    /// For a file of that many bytes.
    pub(super) fn new(file: usize) -> Budget {
        Budget(Cell::new(file.saturating_mul(4).saturating_add(1 << 16)))
    }

    fn spend(&self, bytes: usize) -> Result<()> {
        let left = self.0.get().checked_sub(bytes).ok_or_else(|| damaged("its parts are larger than it"))?;
        self.0.set(left);
        Ok(())
    }
}

/// A table: fields by number.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    budget: &'a Budget,
    bytes: &'a [u8],
    position: usize,
    vtable: usize,
    vtable_size: usize,
}

impl<'a> Table<'a> {
    /// The table that the whole buffer is about.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where an offset leads out of the bytes, as in every method.
    pub(super) fn root(bytes: &'a [u8], budget: &'a Budget) -> Result<Table<'a>> {
        Table::at(bytes, budget, follow(bytes, 0)?)
    }

    fn at(bytes: &'a [u8], budget: &'a Budget, position: usize) -> Result<Table<'a>> {
        let distance = i64::from(i32::from_le_bytes(array(bytes, position)?));
        let vtable = (position as i64)
            .checked_sub(distance)
            .and_then(|vtable| usize::try_from(vtable).ok())
            .ok_or_else(|| damaged("a table without description"))?;
        let vtable_size = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        if vtable_size < 4 || vtable.checked_add(vtable_size).is_none_or(|end| end > bytes.len()) {
            return Err(damaged("a table without description"));
        }
        Ok(Table { budget, bytes, position, vtable, vtable_size })
    }

    /// Where field `index` is, unless it is left out.
    fn field(&self, index: usize) -> Result<Option<usize>> {
        let entry = 4 + 2 * index;
        if entry + 2 > self.vtable_size {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(array(self.bytes, self.vtable + entry)?));
        Ok((offset != 0).then_some(self.position + offset))
    }

    fn number<const N: usize, T>(
        &self,
        index: usize,
        default: T,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<T> {
        match self.field(index)? {
            None => Ok(default),
            Some(position) => Ok(convert(array(self.bytes, position)?)),
        }
    }

    /// An 8-bit integer, or 0.
    pub(super) fn i8(&self, index: usize) -> Result<i8> {
        self.number(index, 0, i8::from_le_bytes)
    }

    /// A truth value, or false.
    pub(super) fn bool(&self, index: usize) -> Result<bool> {
        Ok(self.i8(index)? != 0)
    }

    /// A 32-bit integer, or its default.
    pub(super) fn i32_or(&self, index: usize, default: i32) -> Result<i32> {
        self.number(index, default, i32::from_le_bytes)
    }

    /// A 32-bit integer without sign, or 0.
    pub(super) fn u32(&self, index: usize) -> Result<u32> {
        self.number(index, 0, u32::from_le_bytes)
    }

    /// A 64-bit integer without sign, or 0.
    pub(super) fn u64(&self, index: usize) -> Result<u64> {
        self.number(index, 0, u64::from_le_bytes)
    }

    /// A number, or its default.
    pub(super) fn f32_or(&self, index: usize, default: f32) -> Result<f32> {
        self.number(index, default, f32::from_le_bytes)
    }

    /// Another table.
    pub(super) fn table(&self, index: usize) -> Result<Option<Table<'a>>> {
        match self.field(index)? {
            None => Ok(None),
            Some(position) => Table::at(self.bytes, self.budget, follow(self.bytes, position)?).map(Some),
        }
    }

    /// The elements of a vector, as bytes, `size` each; with the position of the first.
    fn vector(&self, index: usize, size: usize) -> Result<(usize, &'a [u8])> {
        let Some(position) = self.field(index)? else { return Ok((0, &[])) };
        let start = follow(self.bytes, position)?;
        let count = u32::from_le_bytes(array(self.bytes, start)?) as usize;
        let first = start + 4;
        count
            .checked_mul(size)
            .and_then(|length| first.checked_add(length))
            .and_then(|end| self.bytes.get(first..end))
            .map(|bytes| (first, bytes))
            .ok_or_else(|| damaged("a vector leads behind its end"))
    }

    /// A vector of bytes, as it lies in the file.
    pub(super) fn bytes(&self, index: usize) -> Result<&'a [u8]> {
        Ok(self.vector(index, 1)?.1)
    }

    /// A vector of 32-bit integers.
    pub(super) fn i32s(&self, index: usize) -> Result<Vec<i32>> {
        self.numbers(index, i32::from_le_bytes)
    }

    /// A vector of 64-bit integers.
    pub(super) fn i64s(&self, index: usize) -> Result<Vec<i64>> {
        self.numbers(index, i64::from_le_bytes)
    }

    /// A vector of numbers.
    pub(super) fn f32s(&self, index: usize) -> Result<Vec<f32>> {
        self.numbers(index, f32::from_le_bytes)
    }

    fn numbers<const N: usize, T>(&self, index: usize, convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.vector(index, N)?.1;
        self.budget.spend(bytes.len())?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| convert(chunk)).collect())
    }

    /// A vector of tables.
    pub(super) fn tables(&self, index: usize) -> Result<Vec<Table<'a>>> {
        let (first, bytes) = self.vector(index, 4)?;
        self.budget.spend(bytes.len())?;
        (0..bytes.len() / 4)
            .map(|i| Table::at(self.bytes, self.budget, follow(self.bytes, first + 4 * i)?))
            .collect()
    }

    /// A text; empty where it is left out. What is not UTF-8 is replaced.
    pub(super) fn string(&self, index: usize) -> Result<String> {
        let bytes = self.bytes(index)?;
        self.budget.spend(bytes.len())?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}
