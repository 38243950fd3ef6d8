//! The types of tensor elements.

use std::fmt;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// `f32` whose mantissa is used with 10 bits.
    TF32,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 text.
    String,
    /// Quantized, stored as `i8`.
    QS8,
    /// Quantized, stored as `u8`.
    QU8,
    /// Quantized, stored as `i16`.
    QS16,
    /// Quantized, stored as `u16`.
    QU16,
    /// Quantized, stored as `i32`.
    QS32,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 20] = {
        use ElementType::*;
        [
            I8, U8, I16, U16, I32, U32, I64, U64, F16, BF16, TF32, F32, F64, Bool, String, QS8, QU8, QS16,
            QU16, QS32,
        ]
    };

    /// Size of one element in bytes; 0 for strings, which are not stored inline.
    pub const fn size(self) -> usize {
        use ElementType::*;
        match self {
            I8 | U8 | Bool | QS8 | QU8 => 1,
            I16 | U16 | F16 | BF16 | QS16 | QU16 => 2,
            I32 | U32 | F32 | TF32 | QS32 => 4,
            I64 | U64 | F64 => 8,
            String => 0,
        }
    }

    /// Its name, upper case as in the documentation.
    pub const fn name(self) -> &'static str {
        use ElementType::*;
        match self {
            I8 => "I8",
            U8 => "U8",
            I16 => "I16",
            U16 => "U16",
            I32 => "I32",
            U32 => "U32",
            I64 => "I64",
            U64 => "U64",
            F16 => "F16",
            BF16 => "BF16",
            TF32 => "TF32",
            F32 => "F32",
            F64 => "F64",
            Bool => "BOOL",
            String => "STRING",
            QS8 => "QS8",
            QU8 => "QU8",
            QS16 => "QS16",
            QU16 => "QU16",
            QS32 => "QS32",
        }
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        use ElementType::*;
        matches!(self, F16 | BF16 | TF32 | F32 | F64)
    }

    /// Whether it is a plain integer type.
    pub const fn is_integer(self) -> bool {
        use ElementType::*;
        matches!(self, I8 | U8 | I16 | U16 | I32 | U32 | I64 | U64)
    }

    /// Whether its values mean something only together with a [`QuantScheme`](crate::QuantScheme).
    pub const fn is_quantized(self) -> bool {
        use ElementType::*;
        matches!(self, QS8 | QU8 | QS16 | QU16 | QS32)
    }

    /// The type that the elements have in memory: quantized types become their integers, `TF32` `F32`.
    pub const fn storage(self) -> ElementType {
        use ElementType::*;
        match self {
            QS8 => I8,
            QU8 => U8,
            QS16 => I16,
            QU16 => U16,
            QS32 => I32,
            TF32 => F32,
            other => other,
        }
    }

    /// The quantized type of the same storage, where there is one.
    pub const fn quantized(self) -> Option<ElementType> {
        use ElementType::*;
        match self {
            I8 | QS8 => Some(QS8),
            U8 | QU8 => Some(QU8),
            I16 | QS16 => Some(QS16),
            U16 | QU16 => Some(QU16),
            I32 | QS32 => Some(QS32),
            _ => None,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A Rust type that tensor elements can be read as.
pub trait Element: bytemuck::Pod + Send + Sync + PartialEq + fmt::Debug {
    /// Its plain element type; types with the same [`storage`](ElementType::storage) are readable too.
    const TYPE: ElementType;
}

macro_rules! elements {
    ($($rust:ty => $element:ident),* $(,)?) => { $(impl Element for $rust { const TYPE: ElementType = ElementType::$element; })* };
}
elements!(i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64);
