//! Numbers of 8 or fewer bits, one a byte, from and to `f32`.

use crate::{Part, SharedSlice};

/// A type of number of 8 or fewer bits. Bits of its byte above its own mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NarrowKind {
    /// Floating point of 4 bits of exponent and 3 of mantissa, without infinities.
    E4M3Fn,
    /// The same with a bias of 8, without negative zero.
    E4M3Fnuz,
    /// Floating point of 5 bits of exponent and 2 of mantissa.
    E5M2,
    /// The same with a bias of 16, without infinities and negative zero.
    E5M2Fnuz,
    /// Powers of two.
    E8M0,
    /// Floating point of 2 bits of exponent and 1 of mantissa: magnitudes 0, ½, 1, 1½, 2, 3, 4, 6.
    E2M1,
    /// Integers -8 to 7.
    I4,
    /// Integers 0 to 15.
    U4,
    /// Integers -2 to 1.
    I2,
    /// Integers 0 to 3.
    U2,
}

/// How numbers become powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRounding {
    /// The power above.
    Up,
    /// The power below.
    Down,
    /// The nearer power.
    Nearest,
}

/// What happens to numbers that have no equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarrowRounding {
    /// Whether what is too large for 8-bit floating point becomes the largest number instead of infinity or NaN.
    pub saturate: bool,
    /// For [`NarrowKind::E8M0`].
    pub power: PowerRounding,
}

/// A floating-point type with a sign.
struct Format {
    mantissa_bits: i32,
    bias: i32,
    /// The code of the largest magnitude.
    largest: u8,
    /// The code of infinity, where there is one.
    infinity: Option<u8>,
    /// The code of NaN, where there is one.
    nan: Option<u8>,
    /// The bit of the sign.
    sign: u8,
    /// Whether the code of negative zero is that of NaN.
    unsigned_zero: bool,
}

impl NarrowKind {
    /// Every kind.
    pub const ALL: [NarrowKind; 10] = [
        NarrowKind::E4M3Fn,
        NarrowKind::E4M3Fnuz,
        NarrowKind::E5M2,
        NarrowKind::E5M2Fnuz,
        NarrowKind::E8M0,
        NarrowKind::E2M1,
        NarrowKind::I4,
        NarrowKind::U4,
        NarrowKind::I2,
        NarrowKind::U2,
    ];

    fn format(self) -> Option<Format> {
        let format = |mantissa_bits, bias, largest, infinity, nan, sign, unsigned_zero| {
            Some(Format { mantissa_bits, bias, largest, infinity, nan, sign, unsigned_zero })
        };
        match self {
            NarrowKind::E4M3Fn => format(3, 7, 0x7e, None, Some(0x7f), 0x80, false),
            NarrowKind::E4M3Fnuz => format(3, 8, 0x7f, None, Some(0x80), 0x80, true),
            NarrowKind::E5M2 => format(2, 15, 0x7b, Some(0x7c), Some(0x7e), 0x80, false),
            NarrowKind::E5M2Fnuz => format(2, 16, 0x7f, None, Some(0x80), 0x80, true),
            NarrowKind::E2M1 => format(1, 1, 7, None, None, 8, false),
            _ => None,
        }
    }

    /// The number that a byte stands for.
    pub fn decode(self, byte: u8) -> f32 {
        if let Some(format) = self.format() {
            return format.decode(byte);
        }
        match self {
            NarrowKind::E8M0 if byte == 0xff => f32::NAN,
            NarrowKind::E8M0 => power_of_two(i32::from(byte) - 127),
            NarrowKind::I4 => f32::from(((byte << 4) as i8) >> 4),
            NarrowKind::U4 => f32::from(byte & 0xf),
            NarrowKind::I2 => f32::from(((byte << 6) as i8) >> 6),
            _ => f32::from(byte & 3),
        }
    }

    /// The byte of the number that stands for `x`: the nearest, that with an even mantissa where two are; of integers `x` cut off
    /// and wrapped.
    pub fn encode(self, x: f32, rounding: NarrowRounding) -> u8 {
        if let Some(format) = self.format() {
            return format.encode(x, rounding.saturate);
        }
        match self {
            NarrowKind::E8M0 => encode_power(x, rounding),
            NarrowKind::I4 | NarrowKind::U4 => x as i32 as u8 & 0xf,
            _ => x as i32 as u8 & 3,
        }
    }
}

impl Format {
    fn decode(&self, byte: u8) -> f32 {
        let (magnitude, negative) = (byte & (self.sign - 1), byte & self.sign != 0);
        let is_nan = if self.unsigned_zero {
            byte == self.sign
        } else {
            self.nan.is_some() && magnitude > self.infinity.unwrap_or(self.largest)
        };
        if is_nan {
            return f32::NAN;
        }
        let value = if Some(magnitude) == self.infinity {
            f32::INFINITY
        } else {
            let (exponent, mantissa) = (
                i32::from(magnitude >> self.mantissa_bits),
                i32::from(magnitude) & ((1 << self.mantissa_bits) - 1),
            );
            let lowest = 1 - self.bias - self.mantissa_bits;
            match exponent {
                0 => mantissa as f32 * power_of_two(lowest),
                _ => (mantissa + (1 << self.mantissa_bits)) as f32 * power_of_two(lowest + exponent - 1),
            }
        };
        if negative { -value } else { value }
    }

    fn encode(&self, x: f32, saturate: bool) -> u8 {
        let sign = if x.is_sign_negative() { self.sign } else { 0 };
        if x.is_nan() {
            return match self.nan {
                Some(nan) => nan | sign,
                None => self.sign,
            };
        }
        // In steps of the exponent's own size, which is exact, as powers of two are.
        let magnitude = x.abs();
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(1 - self.bias);
        let steps = f64::from(magnitude) / power_of_two_f64(exponent - self.mantissa_bits);
        let code = if magnitude.is_infinite() {
            i32::MAX
        } else {
            ((exponent - 1 + self.bias) << self.mantissa_bits) + steps.round_ties_even() as i32
        };
        let code = if code <= i32::from(self.largest) {
            code as u8
        } else if saturate || self.nan.is_none() {
            self.largest
        } else {
            self.infinity.or(self.nan).unwrap_or(self.largest)
        };
        if self.unsigned_zero && code == 0 { 0 } else { code | sign }
    }
}

/// The exponent alone: the sign of `x` does not matter.
fn encode_power(x: f32, rounding: NarrowRounding) -> u8 {
    let bits = x.to_bits() & 0x7fff_ffff;
    let (exponent, fraction) = (bits >> 23, bits & 0x7f_ffff);
    if exponent == 0xff {
        return 0xff;
    }
    // Below its normal numbers `f32` has the smallest power as half of a step between powers.
    let (own, middle) = if exponent == 0 { (0x40_0000, 0x60_0000) } else { (0, 0x40_0000) };
    let up = match rounding.power {
        PowerRounding::Up => fraction > own,
        PowerRounding::Down => false,
        // Of two powers that are as near the larger.
        PowerRounding::Nearest => fraction >= middle,
    };
    if up && !(rounding.saturate && exponent == 0xfe) { exponent as u8 + 1 } else { exponent as u8 }
}

fn power_of_two(exponent: i32) -> f32 {
    power_of_two_f64(exponent) as f32
}

/// For exponents of `f64`'s normal numbers.
fn power_of_two_f64(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `y = x` as `f32`.
///
/// # Panics
/// Where the lengths differ.
pub fn widen(kind: NarrowKind, x: &[u8], y: SharedSlice<'_, f32>, part: Part) {
    assert_eq!(x.len(), y.len(), "lengths differ");
    let mut table = [0.0; 256];
    for (byte, value) in table.iter_mut().enumerate() {
        *value = kind.decode(byte as u8);
    }
    let range = part.range_of_granules(x.len(), 64);
    let x = &x[range.clone()];
    // SAFETY: the range is this part's own.
    let y = unsafe { y.slice(range) };
    for (y, &x) in y.iter_mut().zip(x) {
        *y = table[usize::from(x)];
    }
}

/// `y = x` as numbers of 8 or fewer bits.
///
/// # Panics
/// Where the lengths differ.
pub fn narrow(kind: NarrowKind, rounding: NarrowRounding, x: &[f32], y: SharedSlice<'_, u8>, part: Part) {
    assert_eq!(x.len(), y.len(), "lengths differ");
    let range = part.range_of_granules(x.len(), 64);
    let x = &x[range.clone()];
    // SAFETY: the range is this part's own.
    let y = unsafe { y.slice(range) };
    for (y, &x) in y.iter_mut().zip(x) {
        *y = kind.encode(x, rounding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SATURATING: NarrowRounding = NarrowRounding { saturate: true, power: PowerRounding::Up };
    const OPEN: NarrowRounding = NarrowRounding { saturate: false, power: PowerRounding::Up };

    #[test]
    fn every_number_is_its_own() {
        for kind in NarrowKind::ALL {
            for byte in 0..=255u8 {
                let value = kind.decode(byte);
                let again = kind.decode(kind.encode(value, OPEN));
                assert!(
                    value == again || (value.is_nan() && again.is_nan()),
                    "{kind:?} {byte:#x} is {value}"
                );
            }
        }
    }

    #[test]
    fn known_numbers() {
        use NarrowKind::*;
        let cases = [
            (E4M3Fn, 0x7e, 448.0),
            (E4M3Fn, 0x01, 2f32.powi(-9)),
            (E4M3Fn, 0xb8, -1.0),
            (E4M3Fnuz, 0x7f, 240.0),
            (E4M3Fnuz, 0x40, 1.0),
            (E5M2, 0x7b, 57344.0),
            (E5M2, 0xfc, f32::NEG_INFINITY),
            (E5M2, 0x01, 2f32.powi(-16)),
            (E5M2Fnuz, 0x7f, 57344.0),
            (E8M0, 0, 2f32.powi(-127)),
            (E8M0, 254, 2f32.powi(127)),
            (E2M1, 0x3, 1.5),
            (E2M1, 0xff, -6.0),
            (I4, 0xfd, -3.0),
            (I4, 0x0d, -3.0),
            (U4, 0xfd, 13.0),
            (I2, 0x02, -2.0),
            (U2, 0x0e, 2.0),
        ];
        for (kind, byte, value) in cases {
            assert_eq!(kind.decode(byte), value, "{kind:?} {byte:#x}");
        }
    }

    #[test]
    fn others_are_rounded() {
        use NarrowKind::*;
        let inf = f32::INFINITY;
        let down = NarrowRounding { power: PowerRounding::Down, ..SATURATING };
        let nearest = NarrowRounding { power: PowerRounding::Nearest, ..SATURATING };
        let cases = [
            // Halfway to even: between 16 and 18, between 18 and 20.
            (E4M3Fn, 17.0, SATURATING, 16.0),
            (E4M3Fn, 19.0, SATURATING, 20.0),
            (E4M3Fn, -463.9, SATURATING, -448.0),
            (E4M3Fn, 1e9, SATURATING, 448.0),
            (E4M3Fn, -inf, SATURATING, -448.0),
            (E4M3Fn, 464.1, OPEN, f32::NAN),
            (E4M3Fn, 464.0, OPEN, 448.0),
            (E4M3Fn, 2f32.powi(-10), SATURATING, 0.0),
            (E4M3Fn, 1.6 * 2f32.powi(-10), SATURATING, 2f32.powi(-9)),
            (E4M3Fn, 1e-40, SATURATING, 0.0),
            (E4M3Fnuz, -0.0, SATURATING, 0.0),
            (E4M3Fnuz, 1e9, OPEN, f32::NAN),
            (E5M2, 1e9, OPEN, inf),
            (E5M2, 1e9, SATURATING, 57344.0),
            (E5M2, inf, SATURATING, 57344.0),
            (E2M1, 5.0, OPEN, 4.0),
            (E2M1, 100.0, OPEN, 6.0),
            (E2M1, -0.25, OPEN, 0.0),
            (E2M1, -0.26, OPEN, -0.5),
            (E8M0, 3.0, SATURATING, 4.0),
            (E8M0, 3.0, down, 2.0),
            (E8M0, 2.9, nearest, 2.0),
            (E8M0, 3.0, nearest, 4.0),
            (E8M0, 0.0, SATURATING, 2f32.powi(-127)),
            (E8M0, 2f32.powi(-127), nearest, 2f32.powi(-127)),
            (E8M0, 1.5 * 2f32.powi(-127), nearest, 2f32.powi(-126)),
            (E8M0, 1.1 * 2f32.powi(-127), SATURATING, 2f32.powi(-126)),
            (E8M0, 3.4e38, SATURATING, 2f32.powi(127)),
            (E8M0, inf, SATURATING, f32::NAN),
            (I4, 7.9, OPEN, 7.0),
            (I4, -8.9, OPEN, -8.0),
            (U4, 17.0, OPEN, 1.0),
        ];
        for (kind, x, rounding, expected) in cases {
            let actual = kind.decode(kind.encode(x, rounding));
            let same = actual == expected || (actual.is_nan() && expected.is_nan());
            assert!(same, "{kind:?} {x} {rounding:?}: {actual}, expected {expected}");
        }
        assert!(E4M3Fn.decode(E4M3Fn.encode(f32::NAN, SATURATING)).is_nan());
    }

    #[test]
    fn any_number_of_parts() {
        let x: Vec<u8> = (0..300).map(|i| i as u8).collect();
        let mut wide = vec![0.0; 300];
        let mut back = vec![0u8; 300];
        for index in 0..3 {
            let part = Part { index, count: 3 };
            widen(NarrowKind::U4, &x, SharedSlice::new(&mut wide), part);
            narrow(NarrowKind::U4, OPEN, &wide, SharedSlice::new(&mut back), part);
        }
        // Only the last part sees all that the others widened.
        narrow(NarrowKind::U4, OPEN, &wide, SharedSlice::new(&mut back), Part::WHOLE);
        assert!(back.iter().zip(&x).all(|(back, x)| *back == x & 0xf));
    }
}
