//! Which instruction sets there are, which this machine has, and how a task enters one.

#[cfg(target_arch = "x86_64")]
use crate::{Avx2, Avx512};
use crate::{Portable, Simd};

/// Work written once for every instruction set.
pub trait SimdTask {
    /// What the work gives.
    type Output;
    /// Does the work. Must be `#[inline(always)]`, with everything below it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that kernels are compiled for, in rising order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No more than the base architecture of the target.
    Portable,
    /// AArch64 with its built-in NEON.
    Neon,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// [`Level::Avx512`] with VNNI.
    Avx512Vnni,
}

impl Level {
    /// Every level, in rising order.
    pub const ALL: [Level; 5] = [Level::Portable, Level::Neon, Level::Avx2, Level::Avx512, Level::Avx512Vnni];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Vnni => "avx512vnni",
        }
    }

    /// The level of that [`name`](Level::name).
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            Level::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::<false>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => Avx512::<true>::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The levels that this machine has, in rising order.
    pub fn available() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.is_available())
    }

    /// The best level of this machine.
    pub fn best() -> Level {
        Level::available().last().unwrap_or(Level::Portable)
    }

    /// Lanes of an `f32` vector.
    pub fn lanes(self) -> usize {
        match self {
            Level::Portable | Level::Neon => Portable::LANES,
            Level::Avx2 => 8,
            Level::Avx512 | Level::Avx512Vnni => 16,
        }
    }

    /// Runs `task` with this instruction set, or with the portable one where the machine lacks it. Of
    /// [`Level::Avx512Vnni`] the instructions of its base are taken, so that tasks without [`Simd::dot_u8_i8`] are compiled once
    /// for both.
    #[inline]
    pub fn run<T: SimdTask>(self, task: T) -> T::Output {
        #[cfg(target_arch = "x86_64")]
        {
            match self {
                Level::Avx512 | Level::Avx512Vnni => {
                    if let Some(simd) = Avx512::<false>::detect() {
                        return simd.enter(task);
                    }
                }
                Level::Avx2 => {
                    if let Some(simd) = Avx2::detect() {
                        return simd.enter(task);
                    }
                }
                Level::Portable | Level::Neon => {}
            }
        }
        task.run(Portable)
    }

    /// As [`run`](Level::run), with [`Simd::dot_u8_i8`] in hardware at [`Level::Avx512Vnni`].
    #[inline]
    pub fn run_vnni<T: SimdTask>(self, task: T) -> T::Output {
        #[cfg(target_arch = "x86_64")]
        if self == Level::Avx512Vnni
            && let Some(simd) = Avx512::<true>::detect()
        {
            return simd.enter(task);
        }
        self.run(task)
    }

    /// Whether this machine multiplies bfloat16 in pairs at this level.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if matches!(self, Level::Avx512 | Level::Avx512Vnni) {
            return Avx512::<false, true>::detect().is_some();
        }
        false
    }

    /// Runs `task` with [`Simd::dot_bf16`] in hardware where the level [has](Level::has_bf16) it, at [`Level::Avx512`]; else at
    /// [`Level::Portable`].
    #[inline]
    pub fn run_bf16<T: SimdTask>(self, task: T) -> T::Output {
        #[cfg(target_arch = "x86_64")]
        if matches!(self, Level::Avx512 | Level::Avx512Vnni)
            && let Some(simd) = Avx512::<false, true>::detect()
        {
            return simd.enter(task);
        }
        task.run(Portable)
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
