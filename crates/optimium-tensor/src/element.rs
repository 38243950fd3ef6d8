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
    /// 8-bit floating point, 4 bits of exponent and 3 of mantissa: without infinities, the largest is 448.
    F8E4M3FN,
    /// As `F8E4M3FN` with another bias and without negative zero: the largest is 240.
    F8E4M3FNUZ,
    /// 8-bit floating point, 5 bits of exponent and 2 of mantissa: the upper half of IEEE half precision.
    F8E5M2,
    /// As `F8E5M2` with another bias, without infinities and negative zero.
    F8E5M2FNUZ,
    /// A power of two in 8 bits: a scale.
    F8E8M0,
    /// 4-bit floating point, 2 bits of exponent and 1 of mantissa; one in the low half of a byte.
    F4E2M1,
    /// Signed 4-bit integer; one in the low half of a byte.
    I4,
    /// Unsigned 4-bit integer; one in the low half of a byte.
    U4,
    /// Signed 2-bit integer; one in the lowest bits of a byte.
    I2,
    /// Unsigned 2-bit integer; one in the lowest bits of a byte.
    U2,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 30] = {
        use ElementType::*;
        [
            I8, U8, I16, U16, I32, U32, I64, U64, F16, BF16, TF32, F32, F64, Bool, String, QS8, QU8, QS16,
            QU16, QS32, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1, I4, U4, I2, U2,
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
            F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 | I4 | U4 | I2 | U2 => 1,
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
            F8E4M3FN => "F8E4M3FN",
            F8E4M3FNUZ => "F8E4M3FNUZ",
            F8E5M2 => "F8E5M2",
            F8E5M2FNUZ => "F8E5M2FNUZ",
            F8E8M0 => "F8E8M0",
            F4E2M1 => "F4E2M1",
            I4 => "I4",
            U4 => "U4",
            I2 => "I2",
            U2 => "U2",
        }
    }

    /// Whether it is a floating-point type that is computed in.
    pub const fn is_float(self) -> bool {
        use ElementType::*;
        matches!(self, F16 | BF16 | TF32 | F32 | F64)
    }

    /// Whether it is a plain integer type that is computed in.
    pub const fn is_integer(self) -> bool {
        use ElementType::*;
        matches!(self, I8 | U8 | I16 | U16 | I32 | U32 | I64 | U64)
    }

    /// Whether it is a type that values are stored in, but not computed in: of 8 or fewer bits, one element a byte, of which bits
    /// above those of the type mean nothing.
    pub const fn is_narrow(self) -> bool {
        use ElementType::*;
        matches!(self, F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 | I4 | U4 | I2 | U2)
    }

    /// Bits that an element needs; 0 for strings.
    pub const fn bits(self) -> usize {
        use ElementType::*;
        match self {
            F4E2M1 | I4 | U4 => 4,
            I2 | U2 => 2,
            other => other.size() * 8,
        }
    }

    /// The unsigned integers that the elements are for who has no such type: the bits of BF16 and of narrow types.
    pub const fn as_bits(self) -> Option<ElementType> {
        match self {
            ElementType::BF16 => Some(ElementType::U16),
            narrow if narrow.is_narrow() => Some(ElementType::U8),
            _ => None,
        }
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
