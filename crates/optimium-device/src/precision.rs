//! How exactly real numbers are computed with.

/// The arithmetic of matrix products and convolutions of `f32` tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// All of it in `f32`.
    #[default]
    F32,
    /// Factors, and tensors between layers that all take such, may be rounded to bfloat16, whose relative error is at most 1/256,
    /// where that is faster; products are summed in `f32`, and what a caller sees stays `f32`.
    Bf16,
}

impl Precision {
    /// Every precision, the most exact first.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The precision of that [`name`](Precision::name).
    pub fn from_name(name: &str) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }
}
