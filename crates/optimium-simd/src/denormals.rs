//! Denormal numbers as zero, while a guard lives.

use std::marker::PhantomData;

/// Flush-to-zero and denormals-are-zero of the MXCSR register.
#[cfg(target_arch = "x86_64")]
const FLUSH: u32 = 0x8040;

/// Flush-to-zero of the FPCR register, which is for operands too.
#[cfg(target_arch = "aarch64")]
const FLUSH: u64 = 1 << 24;

/// What the register with the mode holds.
#[cfg(target_arch = "x86_64")]
type Bits = u32;
#[cfg(target_arch = "aarch64")]
type Bits = u64;

/// Makes this thread treat denormal `f32` and `f64` as zero until it is dropped.
///
/// Sums that decay towards zero otherwise become a hundred times slower. Does nothing on architectures without such a mode.
#[derive(Debug)]
pub struct FlushDenormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    previous: Bits,
    /// The mode belongs to the thread.
    not_send: PhantomData<*const ()>,
}

impl FlushDenormals {
    /// Switches the mode on.
    #[must_use]
    #[inline]
    pub fn enter() -> FlushDenormals {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let previous = read();
            write(previous | FLUSH);
            FlushDenormals { previous, not_send: PhantomData }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        FlushDenormals { not_send: PhantomData }
    }
}

impl Drop for FlushDenormals {
    #[inline]
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        write(self.previous);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn read() -> Bits {
    let mut bits = 0u32;
    // SAFETY: stores four bytes to a local; SSE is part of the architecture.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut bits, options(nostack, preserves_flags)) };
    bits
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn write(bits: Bits) {
    // SAFETY: changes how denormals are treated and nothing else; the guard restores what was.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, preserves_flags, readonly))
    };
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn read() -> Bits {
    let bits;
    // SAFETY: reads a register that every program may read.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) bits, options(nostack, nomem, preserves_flags)) };
    bits
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn write(bits: Bits) {
    // SAFETY: changes how denormals are treated and nothing else; the guard restores what was.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) bits, options(nostack, preserves_flags)) };
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn denormals_are_zero_while_the_guard_lives() {
        let halve = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(halve() > 0.0);
        {
            let _guard = FlushDenormals::enter();
            assert_eq!(halve(), 0.0);
        }
        assert!(halve() > 0.0);
    }
}
