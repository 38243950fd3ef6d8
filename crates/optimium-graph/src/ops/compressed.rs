//! Operators whose constant matrix is stored in few bits.

use serde::{Deserialize, Serialize};

use super::Fusion;

/// How the elements of a compressed matrix are stored: `n` vectors of `k` elements, one after the other.
///
/// Integers come in blocks of `block_size` elements of one vector, the last block of a vector filled up with anything; element
/// `i` is `(stored - zero point) · scale` of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightEncoding {
    /// BF16 `[n, k]`, without scales.
    Bf16,
    /// U8 `[n, ⌈k / block_size⌉ · block_size]`, with a zero point of 128 where none is given.
    Int8,
    /// U8 `[n, ⌈k / block_size⌉ · block_size / 2]`: two elements a byte, the first in the low half, with a zero point of 8 where none is
    /// given.
    Int4,
}

impl WeightEncoding {
    /// Every encoding, the most exact first.
    pub const ALL: [WeightEncoding; 3] = [WeightEncoding::Bf16, WeightEncoding::Int8, WeightEncoding::Int4];

    /// Its name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            WeightEncoding::Bf16 => "bf16",
            WeightEncoding::Int8 => "int8",
            WeightEncoding::Int4 => "int4",
        }
    }

    /// The encoding of that [name](Self::name).
    pub fn from_name(name: &str) -> Option<WeightEncoding> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The zero point of integers where none is given.
    pub const fn middle(self) -> u8 {
        match self {
            WeightEncoding::Bf16 => 0,
            WeightEncoding::Int8 => 128,
            WeightEncoding::Int4 => 8,
        }
    }

    /// Bits of an element.
    pub const fn bits(self) -> usize {
        match self {
            WeightEncoding::Bf16 => 16,
            WeightEncoding::Int8 => 8,
            WeightEncoding::Int4 => 4,
        }
    }
}

/// A matrix in few bits: inputs data, scales (F32 or F16 `[n, ⌈k / block_size⌉]`, none for BF16), zero points (U8, shaped as the
/// scales) or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedWeights {
    /// What the elements are.
    pub encoding: WeightEncoding,
    /// Elements of a vector.
    pub k: usize,
    /// Elements that share a scale: a multiple of 16; 0 for BF16.
    pub block_size: usize,
}

impl CompressedWeights {
    /// Blocks of a vector: 0 for BF16.
    pub fn blocks(&self) -> usize {
        if self.block_size == 0 { 0 } else { self.k.div_ceil(self.block_size) }
    }

    /// Stored elements of a vector of the data: bytes, or BF16. `None` where that is no number.
    pub fn stored_len(&self) -> Option<usize> {
        match self.encoding {
            WeightEncoding::Bf16 => Some(self.k),
            encoding => Some(self.blocks().checked_mul(self.block_size)?.checked_mul(encoding.bits())? / 8),
        }
    }
}

/// Inputs: a (F32 `[…, k]`), the [data, scales, zero points](CompressedWeights) of the `k × n` right matrix, of which a vector is a
/// column, bias `[n]` or none, residual (shaped as the output) or none, slope `[n]` or none. Output (F32 `[…, n]`): `a · b + bias`, fused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompressedMatMul {
    /// How the right matrix is stored.
    pub weights: CompressedWeights,
    /// What happens to the result before it is stored.
    #[serde(default)]
    pub fusion: Fusion,
}

/// Inputs: the [data, scales, zero points](CompressedWeights) of `n` vectors, indices (I32 or I64; negative ones count from the end).
/// Output (F32): the vectors of the indices, shaped as those with `[k]` appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompressedGather {
    /// How the vectors are stored.
    pub weights: CompressedWeights,
}
