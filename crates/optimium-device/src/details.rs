//! What an inference consisted of, for the shapes that it had.

/// The work of every operation, and the plan of the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunDetails {
    /// For each of the [`operations`](crate::Executable::operations) what it did.
    pub operations: Vec<OperationDetails>,
    /// Where it put its results.
    pub memory: MemoryDetails,
}

/// The work of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationDetails {
    /// Dimensions of the tensors that it reads, in the order of [`OperationInfo::inputs`](crate::OperationInfo::inputs).
    pub inputs: Vec<Vec<usize>>,
    /// Dimensions of the tensors that it writes.
    pub outputs: Vec<Vec<usize>>,
    /// Multiply-adds of products, convolutions, attention and recurrent layers, whatever algorithm does them; 0 for all others.
    pub multiply_adds: u64,
    /// Whether these are of 8-bit integers.
    pub in_integers: bool,
    /// Bytes of the tensors that it reads, without constants.
    pub bytes_read: u64,
    /// Bytes of the constants that it reads, as the model has them.
    pub constant_bytes: u64,
    /// Bytes that it writes.
    pub bytes_written: u64,
    /// Whether there is something to do: a view of a tensor, or a concatenation of what lies in its place already, is not run.
    pub is_run: bool,
    /// Whether the workers share it; otherwise one does it alone.
    pub is_shared: bool,
}

/// The memory of one inference, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryDetails {
    /// For tensors between operations.
    pub arena: usize,
    /// For what operations need while they run.
    pub scratch: usize,
    /// Of the constants, as the model has them.
    pub constants: usize,
    /// What lies in the arena.
    pub blocks: Vec<MemoryBlock>,
}

/// A part of the arena, and the operations that need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBlock {
    /// The tensor that it was made for; others may lie in it, as its parts or after it.
    pub tensor: String,
    /// Where it begins.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
    /// The first operation that uses it.
    pub first: usize,
    /// The last one.
    pub last: usize,
}
