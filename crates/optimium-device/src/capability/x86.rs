//! The features of x86 CPUs.

use super::CacheSizes;

/// An x86 CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct X86Capability {
    /// Its caches.
    pub caches: CacheSizes,
    /// Its features, in the order of [`X86FeatureKind::ALL`].
    pub features: Vec<X86FeatureKind>,
}

impl X86Capability {
    /// Whether it has that feature.
    pub fn has_flag(&self, feature: X86FeatureKind) -> bool {
        self.features.contains(&feature)
    }

    /// Whether it has all those features.
    pub fn has_flags(&self, features: &[X86FeatureKind]) -> bool {
        features.iter().all(|&feature| self.has_flag(feature))
    }
}

/// An extension of the x86 instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the architecture's own")]
pub enum X86FeatureKind {
    Mmx,
    Sse,
    Sse2,
    Sse3,
    Ssse3,
    Sse4a,
    Sse41,
    Sse42,
    Avx,
    F16c,
    Fma,
    AvxVnni,
    Avx2,
    Avx512F,
    Avx512Bw,
    Avx512Cd,
    Avx512Dq,
    Avx512Vl,
    Avx512Ifma,
    Avx512Vbmi,
    Avx512Vbmi2,
    Avx512Vnni,
    Avx512Bf16,
    Avx512Fp16,
    AmxTile,
    AmxInt8,
    AmxBf16,
    AmxFp16,
    Avx512Er,
    Avx512Pf,
    Avx512Fmaps4,
    Avx512Vnniw4,
}

impl X86FeatureKind {
    /// Every feature, with its name.
    pub const ALL: [(X86FeatureKind, &'static str); 32] = {
        use X86FeatureKind::*;
        [
            (Mmx, "MMX"),
            (Sse, "SSE"),
            (Sse2, "SSE2"),
            (Sse3, "SSE3"),
            (Ssse3, "SSSE3"),
            (Sse4a, "SSE4A"),
            (Sse41, "SSE41"),
            (Sse42, "SSE42"),
            (Avx, "AVX"),
            (F16c, "F16C"),
            (Fma, "FMA"),
            (AvxVnni, "AVX_VNNI"),
            (Avx2, "AVX2"),
            (Avx512F, "AVX512_F"),
            (Avx512Bw, "AVX512_BW"),
            (Avx512Cd, "AVX512_CD"),
            (Avx512Dq, "AVX512_DQ"),
            (Avx512Vl, "AVX512_VL"),
            (Avx512Ifma, "AVX512_IFMA"),
            (Avx512Vbmi, "AVX512_VBMI"),
            (Avx512Vbmi2, "AVX512_VBMI2"),
            (Avx512Vnni, "AVX512_VNNI"),
            (Avx512Bf16, "AVX512_BF16"),
            (Avx512Fp16, "AVX512_FP16"),
            (AmxTile, "AMX_TILE"),
            (AmxInt8, "AMX_INT8"),
            (AmxBf16, "AMX_BF16"),
            (AmxFp16, "AMX_FP16"),
            (Avx512Er, "AVX512_ER"),
            (Avx512Pf, "AVX512_PF"),
            (Avx512Fmaps4, "AVX512_4FMAPS"),
            (Avx512Vnniw4, "AVX512_4VNNIW"),
        ]
    };

    /// Its name, upper case.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(feature, _)| *feature == self).map_or("", |(_, name)| name)
    }
}

/// The features of this CPU that the operating system lets programs use. The retired ones are not looked for.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
pub(super) fn detect() -> Vec<X86FeatureKind> {
    use X86FeatureKind::*;
    use std::arch::is_x86_feature_detected as has;
    // The standard library does not look for AMX yet; the operating system has to allow it anyway.
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu_info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let kernel_knows = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    let found = [
        (Mmx, has!("mmx")),
        (Sse, has!("sse")),
        (Sse2, has!("sse2")),
        (Sse3, has!("sse3")),
        (Ssse3, has!("ssse3")),
        (Sse4a, has!("sse4a")),
        (Sse41, has!("sse4.1")),
        (Sse42, has!("sse4.2")),
        (Avx, has!("avx")),
        (F16c, has!("f16c")),
        (Fma, has!("fma")),
        (AvxVnni, has!("avxvnni")),
        (Avx2, has!("avx2")),
        (Avx512F, has!("avx512f")),
        (Avx512Bw, has!("avx512bw")),
        (Avx512Cd, has!("avx512cd")),
        (Avx512Dq, has!("avx512dq")),
        (Avx512Vl, has!("avx512vl")),
        (Avx512Ifma, has!("avx512ifma")),
        (Avx512Vbmi, has!("avx512vbmi")),
        (Avx512Vbmi2, has!("avx512vbmi2")),
        (Avx512Vnni, has!("avx512vnni")),
        (Avx512Bf16, has!("avx512bf16")),
        (Avx512Fp16, has!("avx512fp16")),
        (AmxTile, kernel_knows("amx_tile")),
        (AmxInt8, kernel_knows("amx_int8")),
        (AmxBf16, kernel_knows("amx_bf16")),
        (AmxFp16, kernel_knows("amx_fp16")),
    ];
    found.into_iter().filter(|&(_, is)| is).map(|(feature, _)| feature).collect()
}
