//! Rates of elementwise functions, softmax, normalization and reductions on one core, beside those of a plain copy.

mod common;

use std::process::ExitCode;

use optimium_kernels::activation::{Activation, activate};
use optimium_kernels::elementwise::{Binary, Broadcast, ElementKind, Unary, binary_f32, cast, unary_f32};
use optimium_kernels::normalization::{GroupNorm, RowNorm, RowStatistic, group_norm, normalize_rows};
use optimium_kernels::reduce::{Extreme, Reduce, Reduction, reduce_f32, top_k};
use optimium_kernels::softmax::{Softmax, softmax_axis, softmax_rows};
use optimium_kernels::{Part, SharedSlice};
use optimium_simd::Level;
use optimium_testing::Random;

use common::Bench;

/// Elements of a tensor: the activations of a usual layer, larger than the first cache.
const SIZE: usize = 1 << 17;

struct Cases<'a> {
    bench: &'a mut Bench,
    level: Level,
    x: Vec<f32>,
    z: Vec<f32>,
    y: Vec<f32>,
}

impl Cases<'_> {
    fn new(bench: &mut Bench) -> Cases<'_> {
        let mut random = Random::new(1);
        let (level, x, z) = (bench.level, random.floats(SIZE), random.floats(SIZE));
        Cases { bench, level, x, z, y: vec![0.0; SIZE] }
    }

    fn report(&mut self, name: &str, bytes: usize, mut call: impl FnMut(&[f32], &[f32], SharedSlice<f32>)) {
        let y = SharedSlice::new(&mut self.y);
        self.bench.bytes(name, bytes, || call(&self.x, &self.z, y));
    }

    fn functions(&mut self) {
        let level = self.level;
        let activations = [
            Activation::Relu,
            Activation::Clip { low: 0.0, high: 6.0 },
            Activation::HardSwish,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Tanh,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Elu { alpha: 1.0 },
            Activation::Softplus,
            Activation::Mish,
        ];
        for activation in activations {
            self.report(&format!("{activation:?}"), 8 * SIZE, |x, _, y| {
                activate(level, activation, x, y, Part::WHOLE);
            });
        }
        for op in [Unary::Sqrt, Unary::Exp, Unary::Log, Unary::Erf, Unary::Sin, Unary::Round] {
            self.report(&format!("{op:?}"), 8 * SIZE, |x, _, y| unary_f32(level, op, x, y, Part::WHOLE));
        }
    }

    fn pairs(&mut self) {
        let level = self.level;
        let shape = [SIZE / 64, 64];
        let layouts: [(&str, [usize; 2], [usize; 2], usize); 5] = [
            ("of equal shapes", [64, 1], [64, 1], 12),
            ("with a scalar", [64, 1], [0, 0], 8),
            ("with a row", [64, 1], [0, 1], 8),
            ("with a column", [64, 1], [1, 0], 8),
            ("with a transposed matrix", [64, 1], [1, SIZE / 64], 12),
        ];
        for (name, a, b, bytes) in layouts {
            let broadcast = Broadcast::new(&shape, &a, &b);
            self.report(&format!("Add {name}"), bytes * SIZE, |x, z, y| {
                binary_f32(level, Binary::Add, &broadcast, x, z, y, Part::WHOLE);
            });
        }
        for op in [Binary::Max, Binary::Div] {
            let broadcast = Broadcast::new(&shape, &[64, 1], &[64, 1]);
            self.report(&format!("{op:?} of equal shapes"), 12 * SIZE, |x, z, y| {
                binary_f32(level, op, &broadcast, x, z, y, Part::WHOLE);
            });
        }
    }

    fn rows(&mut self) {
        let level = self.level;
        for n in [64, 128, 512] {
            self.report(&format!("softmax of rows of {n}"), 8 * SIZE, |x, _, y| {
                softmax_rows(level, Softmax::Probability, x, [SIZE / n, n], 1.0, None, y, Part::WHOLE);
            });
        }
        self.report("softmax over 32 of 1024 lines", 8 * SIZE, |x, _, y| {
            softmax_axis(level, Softmax::Probability, x, [4, 32, 1024], y, Part::WHOLE);
        });
        for n in [128, 512, 1024] {
            self.report(&format!("layer normalization of rows of {n}"), 8 * SIZE, |x, z, y| {
                let (scale, bias) = (Some(&z[..n]), Some(&z[n..2 * n]));
                let norm = RowNorm { statistic: RowStatistic::MeanAndVariance, scale, bias, epsilon: 1e-5 };
                normalize_rows(level, norm, x, None, [SIZE / n, n], y, Part::WHOLE);
            });
        }
        for (groups, last) in [(32, false), (32, true), (128, false), (128, true)] {
            self.report(&format!("{groups} groups of 128, channels last: {last}"), 8 * SIZE, |x, z, y| {
                let norm = GroupNorm { groups, scale: &z[..128], bias: &z[128..256], epsilon: 1e-5 };
                group_norm(level, norm, last, x, [1, 128, SIZE / 128], y, Part::WHOLE);
            });
        }
    }

    fn reductions(&mut self) {
        let level = self.level;
        let shapes: [(&[usize], &[usize]); 5] = [
            (&[SIZE], &[0]),
            (&[SIZE / 128, 128], &[1]),
            (&[1, 64, SIZE / 64], &[1]),
            (&[SIZE / 64, 64], &[0]),
            (&[16, SIZE / 64, 4], &[0, 2]),
        ];
        for (shape, axes) in shapes {
            let plan = Reduce::new(shape, axes);
            for reduction in [Reduction::Mean, Reduction::Max] {
                self.report(&format!("{reduction:?} of {shape:?} over {axes:?}"), 4 * SIZE, |x, _, y| {
                    // SAFETY: no other slice of the output is alive.
                    let y = SharedSlice::new(unsafe { y.slice(0..plan.output_len()) });
                    reduce_f32(level, reduction, &plan, x, y, Part::WHOLE);
                });
            }
        }
    }

    /// Of the classes of an image, of the anchors of a detector, of the experts of every token.
    fn largest(&mut self) {
        for ([outer, axis], k) in [([1, 1000], 5), ([1, 25200], 300), ([512, 64], 2)] {
            let mut positions = vec![0; outer * k];
            let positions = SharedSlice::new(&mut positions);
            self.report(&format!("the largest {k} of {axis}, {outer} times"), 4 * outer * axis, |x, _, y| {
                // SAFETY: no other slice of the output is alive.
                let y = SharedSlice::new(unsafe { y.slice(0..outer * k) });
                let x = &x[..outer * axis];
                top_k(Extreme::Largest, x, [outer, axis, 1], k, y, positions, Part::WHOLE);
            });
        }
    }

    fn casts(&mut self) {
        use ElementKind::{Bf16, F16, F32, I32, I64, U8};
        let level = self.level;
        for (from, to) in
            [(F16, F32), (Bf16, F32), (U8, F32), (I64, F32), (F32, F16), (F32, Bf16), (F32, I32), (F32, U8)]
        {
            let x = vec![1u8; SIZE * from.size()];
            let mut y = vec![0u8; SIZE * to.size()];
            self.report(&format!("cast of {from:?} to {to:?}"), x.len() + y.len(), |_, _, _| {
                cast(level, from, &x, to, SharedSlice::new(&mut y), Part::WHOLE);
            });
        }
    }
}

fn main() -> ExitCode {
    common::run("elementwise", |bench| {
        let mut cases = Cases::new(bench);
        cases.functions();
        cases.pairs();
        cases.rows();
        cases.reductions();
        cases.largest();
        cases.casts();
    })
}
