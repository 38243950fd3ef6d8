//! The features of ARM CPUs.

use super::CacheSizes;

/// An ARM CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmCapability {
    /// Its caches.
    pub caches: CacheSizes,
    /// Its features, in the order of [`ArmFeatureKind::ALL`].
    pub features: Vec<ArmFeatureKind>,
}

impl ArmCapability {
    /// Whether it has that feature.
    pub fn has_flag(&self, feature: ArmFeatureKind) -> bool {
        self.features.contains(&feature)
    }

    /// Whether it has all those features.
    pub fn has_flags(&self, features: &[ArmFeatureKind]) -> bool {
        features.iter().all(|&feature| self.has_flag(feature))
    }
}

/// An extension of the ARM instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the architecture's own")]
pub enum ArmFeatureKind {
    Fp,
    Fp16,
    Fp64,
    Neon,
    NeonFp16,
    NeonBf16,
    Sve,
    Sve2,
    Sme,
    Bf16,
    Fp16Fml,
    F32mm,
    F64mm,
    DotProd,
    I8mm,
}

impl ArmFeatureKind {
    /// Every feature, with its name.
    pub const ALL: [(ArmFeatureKind, &'static str); 15] = {
        use ArmFeatureKind::*;
        [
            (Fp, "FP"),
            (Fp16, "FP16"),
            (Fp64, "FP64"),
            (Neon, "NEON"),
            (NeonFp16, "NEON_FP16"),
            (NeonBf16, "NEON_BF16"),
            (Sve, "SVE"),
            (Sve2, "SVE2"),
            (Sme, "SME"),
            (Bf16, "BF16"),
            (Fp16Fml, "FP16FML"),
            (F32mm, "F32MM"),
            (F64mm, "F64MM"),
            (DotProd, "DOTPROD"),
            (I8mm, "I8MM"),
        ]
    };

    /// Its name, upper case.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(feature, _)| *feature == self).map_or("", |(_, name)| name)
    }
}

/// The features of this CPU that the operating system lets programs use.
#[cfg(target_arch = "aarch64")]
pub(super) fn detect() -> Vec<ArmFeatureKind> {
    use ArmFeatureKind::*;
    use std::arch::is_aarch64_feature_detected as has;
    let found = [
        (Fp, true),
        (Fp16, has!("fp16")),
        (Fp64, true),
        (Neon, has!("neon")),
        (NeonFp16, has!("neon") && has!("fp16")),
        (NeonBf16, has!("neon") && has!("bf16")),
        (Sve, has!("sve")),
        (Sve2, has!("sve2")),
        (Bf16, has!("bf16")),
        (Fp16Fml, has!("fhm")),
        (F32mm, has!("f32mm")),
        (F64mm, has!("f64mm")),
        (DotProd, has!("dotprod")),
        (I8mm, has!("i8mm")),
    ];
    found.into_iter().filter(|&(_, is)| is).map(|(feature, _)| feature).collect()
}

/// Nothing is looked for on 32-bit ARM, where the standard library cannot.
#[cfg(target_arch = "arm")]
pub(super) fn detect() -> Vec<ArmFeatureKind> {
    Vec::new()
}
