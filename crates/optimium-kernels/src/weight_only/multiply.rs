//! The loops around panels.

use optimium_simd::Level;

use super::few_rows::{STRIP_ROWS, Strip};
use super::packed::CompactMatrix;
use super::widen::WidenPanel;
use crate::epilogue::{Epilogue, Residual};
use crate::gemm::{Layout, gemm};
use crate::{Part, SharedSlice};

/// Products of so many rows widen the weights as they go; for more of them it pays to widen once.
const FEW_ROWS: usize = 2 * STRIP_ROWS;

impl CompactMatrix {
    /// Elements of scratch memory that each part of [`multiply`] needs for `m` rows.
    pub fn scratch_len(&self, m: usize) -> usize {
        if m <= FEW_ROWS { m * (self.blocks() + self.copied_k()) } else { self.padded_k() * self.width() }
    }

    /// Elements of a left row that is copied, because the last word has more elements than there are rows; else none.
    fn copied_k(&self) -> usize {
        if self.padded_k() == self.k() { 0 } else { self.padded_k() }
    }
}

/// `C[m,n] = epilogue(A[m,k] · B[k,n])` for the compressed matrix `b`; products and sums are `f32`.
///
/// Rows of A lie one after the other, and so do those of C. `scratch` has [`CompactMatrix::scratch_len`] elements of this
/// part's own, with any content. Sums of few rows may differ from those of many in rounding.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub fn multiply(
    level: Level,
    m: usize,
    a: &[f32],
    b: &CompactMatrix,
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
    scratch: &mut [f32],
    part: Part,
) {
    let (k, n) = (b.k(), b.n);
    assert!(b.panel.level <= level, "a matrix packed for {} in a product at {level}", b.panel.level);
    assert!(a.len() >= m.saturating_mul(k), "{} left elements for {m} rows of {k}", a.len());
    assert!(c.len() >= m.saturating_mul(n), "{} results for {m} rows of {n}", c.len());
    assert!(scratch.len() >= b.scratch_len(m), "{} elements of scratch memory", scratch.len());
    epilogue.check(m, n);
    if m == 0 || n == 0 {
        return;
    }
    if m <= FEW_ROWS {
        few_rows(m, a, b, epilogue, c, scratch, part);
    } else {
        many_rows(m, a, b, epilogue, c, scratch, part);
    }
}

fn few_rows(
    m: usize,
    a: &[f32],
    b: &CompactMatrix,
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
    scratch: &mut [f32],
    part: Part,
) {
    let (k, blocks) = (b.k(), b.blocks());
    let (sums, copy) = scratch.split_at_mut(m * blocks);
    for row in 0..m {
        let left = &a[row * k..][..k];
        for (sum, block) in sums[row * blocks..][..blocks].iter_mut().zip(left.chunks(b.block)) {
            *sum = sum_of(block);
        }
        if let Some(copy) = copy.chunks_exact_mut(b.copied_k().max(1)).nth(row).filter(|_| b.copied_k() > 0) {
            copy[..k].copy_from_slice(left);
            copy[k..].fill(0.0);
        }
    }
    // What every product is too large can only be taken off a sum that is a number.
    if b.has_scales() && !sums.iter().all(|sum| sum.is_finite()) {
        return many_rows(m, a, b, epilogue, c, &mut vec![0.0; b.padded_k() * b.width()], part);
    }
    let (a, a_stride) = if b.copied_k() > 0 { (&*copy, b.copied_k()) } else { (a, k) };
    for panel in part.range(b.panels()) {
        for first_row in (0..m).step_by(STRIP_ROWS) {
            let strip = Strip {
                matrix: b,
                panel,
                a: a[first_row * a_stride..].as_ptr(),
                a_stride,
                sums: &sums[first_row * blocks..],
                rows: STRIP_ROWS.min(m - first_row),
                first_row,
                epilogue,
                c: c.as_mut_ptr(),
                c_stride: b.n,
            };
            b.panel.level.run(strip);
        }
    }
}

/// The sum of some elements, in several chains.
fn sum_of(elements: &[f32]) -> f32 {
    const CHAINS: usize = 16;
    let mut chains = [0.0; CHAINS];
    let whole = elements.chunks_exact(CHAINS);
    let rest: f32 = whole.remainder().iter().sum();
    for chunk in whole {
        for (chain, x) in chains.iter_mut().zip(chunk) {
            *chain += x;
        }
    }
    chains.iter().sum::<f32>() + rest
}

fn many_rows(
    m: usize,
    a: &[f32],
    b: &CompactMatrix,
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
    scratch: &mut [f32],
    part: Part,
) {
    let (level, k, lanes) = (b.panel.level, b.k(), b.panel.level.lanes());
    for panel in part.range(b.panels()) {
        let first = panel * b.width();
        let columns = b.width().min(b.n - first);
        let vectors = columns.div_ceil(lanes);
        level.run(WidenPanel { matrix: b, panel, vectors, out: scratch });
        let layout = Layout::new(level, b.panel.tile, k, columns);
        let of_panel = Epilogue {
            bias: epilogue.bias.map(|bias| &bias[first..]),
            residual: epilogue
                .residual
                .map(|residual| Residual { data: residual.data.from(first), ..residual }),
            activation: epilogue.activation,
            slope: epilogue.slope.map(|slope| &slope[first..]),
            following: &[],
        };
        let c = c.narrow(first..c.len());
        gemm(level, m, a, k, &layout, &scratch[..layout.len()], &of_panel, c, b.n, Part::WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::super::stored::{Encoding, Scales, StoredMatrix};
    use super::*;
    use crate::Packing;
    use crate::activation::Activation;

    /// A matrix in some form, and what it is made of.
    #[derive(Debug)]
    struct Case {
        encoding: Encoding,
        halves: bool,
        zeros: bool,
        /// m, n, k and the size of blocks.
        sizes: [usize; 4],
    }

    struct Parts {
        data: Vec<u8>,
        scales: Vec<f32>,
        halves: Vec<f16>,
        zeros: Vec<u8>,
    }

    impl Parts {
        fn random(case: &Case, random: &mut Random) -> Parts {
            let [_, n, k, block] = case.sizes;
            if case.encoding == Encoding::Bf16 {
                let weights = random.floats(n * k);
                let data = weights.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
                return Parts { data, scales: vec![], halves: vec![], zeros: vec![] };
            }
            let blocks = n * k.div_ceil(block);
            let bytes = blocks * block * case.encoding.bits() / 8;
            let largest = 1 << case.encoding.bits();
            let scale =
                |random: &mut Random| f16::from_f32((random.f32() + 2.0) / f32::from(case.encoding.middle()));
            let halves: Vec<f16> = (0..blocks).map(|_| scale(random)).collect();
            Parts {
                data: (0..bytes).map(|_| random.bits() as u8).collect(),
                scales: halves.iter().map(|scale| scale.to_f32()).collect(),
                halves,
                zeros: (0..blocks).map(|_| random.range(0, largest) as u8).collect(),
            }
        }

        fn matrix(&self, case: &Case) -> StoredMatrix<'_> {
            let [_, n, k, block] = case.sizes;
            if case.encoding == Encoding::Bf16 {
                return StoredMatrix::bf16(k, n, &self.data).unwrap();
            }
            let scales = if case.halves { Scales::F16(&self.halves) } else { Scales::F32(&self.scales) };
            let zeros = case.zeros.then_some(&self.zeros[..]);
            StoredMatrix::blocks(case.encoding, [k, n, block], &self.data, scales, zeros).unwrap()
        }
    }

    fn run(
        level: Level,
        m: usize,
        a: &[f32],
        b: &CompactMatrix,
        epilogue: &Epilogue,
        parts: usize,
    ) -> Vec<f32> {
        let mut c = vec![f32::NAN; m * b.n()];
        let shared = SharedSlice::new(&mut c);
        for index in 0..parts {
            let mut scratch = vec![f32::NAN; b.scratch_len(m)];
            multiply(level, m, a, b, epilogue, shared, &mut scratch, Part { index, count: parts });
        }
        c
    }

    /// Sums of elements that are up to three times as large as the products, before what they are too large is taken off.
    fn tolerance(k: usize) -> Tolerance {
        Tolerance::Scaled { epsilon: 6e-6, scale: (k.max(1) as f32).sqrt() }
    }

    fn check(case: &Case) -> Result<(), String> {
        let [m, n, k, _] = case.sizes;
        let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
        let parts = Parts::random(case, &mut random);
        let matrix = parts.matrix(case);
        let (a, bias, residual) = (random.floats(m * k), random.floats(n), random.floats(m * n));
        let epilogue = Epilogue {
            bias: Some(&bias),
            residual: Some(Residual { data: (&residual).into(), stride: n, after_activation: true }),
            activation: Activation::Relu,
            ..Epilogue::default()
        };
        let columns: Vec<Vec<f32>> = (0..n).map(|j| column(&matrix, j)).collect();
        let product = |at: usize| {
            let (i, j) = (at / n, at % n);
            let sum: f64 = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(columns[j][p])).sum();
            (sum as f32 + bias[j]).max(0.0) + residual[at]
        };
        let expected: Vec<f32> = (0..m * n).map(product).collect();
        for level in Level::available() {
            let packed = CompactMatrix::prepare(level, &matrix, &Packing::default());
            let whole = run(level, m, &a, &packed, &epilogue, 1);
            compare(&whole, &expected, tolerance(k)).map_err(|e| format!("{packed}: {e}"))?;
            let shares = run(level, m, &a, &packed, &epilogue, 3);
            compare(&shares, &whole, Tolerance::Exact).map_err(|e| format!("{packed}, 3 parts: {e}"))?;
        }
        Ok(())
    }

    #[test]
    fn products_in_all_forms() {
        let forms = [
            (Encoding::Bf16, false, false),
            (Encoding::Int8, false, false),
            (Encoding::Int8, true, true),
            (Encoding::Int4, true, false),
            (Encoding::Int4, false, true),
        ];
        let rows = [0, 1, 2, 3, 4, 5, 8, 9, 17];
        let matrices = [
            [1, 1, 16],
            [16, 31, 16],
            [63, 32, 32],
            [64, 64, 32],
            [65, 100, 32],
            [130, 129, 64],
            [40, 260, 128],
            [5, 0, 32],
        ];
        let cases = forms.into_iter().flat_map(|(encoding, halves, zeros)| {
            rows.into_iter().flat_map(move |m| {
                let sizes = matrices.map(|[n, k, block]| [m, n, k, block]);
                sizes.map(|sizes| Case { encoding, halves, zeros, sizes })
            })
        });
        each_case(cases, check);
    }

    #[test]
    fn infinite_elements_give_infinite_results() {
        let cases = [Encoding::Bf16, Encoding::Int8, Encoding::Int4]
            .into_iter()
            .flat_map(|encoding| [1, 3, 8, 9].map(|m| (encoding, m)));
        each_case(cases, |&(encoding, m)| {
            let (n, k) = (40, 96);
            let case = Case { encoding, halves: true, zeros: false, sizes: [m, n, k, 32] };
            let parts = Parts::random(&case, &mut Random::new(7));
            let matrix = parts.matrix(&case);
            let mut a = Random::new(8).floats(m * k);
            a[(m - 1) * k + 40] = f32::NEG_INFINITY;
            let expected: Vec<f32> = (0..n).map(|j| f32::NEG_INFINITY * column(&matrix, j)[40]).collect();
            for level in Level::available() {
                let packed = CompactMatrix::prepare(level, &matrix, &Packing::default());
                let c = run(level, m, &a, &packed, &Epilogue::default(), 2);
                let (rest, last) = c.split_at((m - 1) * n);
                // A weight of zero leaves no number.
                let same = |(x, y): (&f32, &f32)| x == y || (x.is_nan() && y.is_nan());
                if !last.iter().zip(&expected).all(same) || !rest.iter().all(|x| x.is_finite()) {
                    return Err(format!("{packed}: {last:?}"));
                }
            }
            Ok(())
        });
    }

    fn column(matrix: &StoredMatrix, j: usize) -> Vec<f32> {
        let mut column = vec![f32::NAN; matrix.k()];
        matrix.read_column(j, &mut column);
        column
    }

    #[test]
    fn elements_are_what_is_stored() {
        let data = [0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f];
        let matrix = StoredMatrix::bf16(3, 1, &data).unwrap();
        assert_eq!(column(&matrix, 0), [1.0, -2.0, 0.5]);
        let data = [0x0f, 0x81, 0, 0, 0, 0, 0, 0];
        let scales = Scales::F32(&[2.0]);
        let matrix = StoredMatrix::blocks(Encoding::Int4, [4, 1, 16], &data, scales, None).unwrap();
        assert_eq!(column(&matrix, 0), [14.0, -16.0, -14.0, 0.0]);
        let matrix = StoredMatrix::blocks(Encoding::Int4, [4, 1, 16], &data, scales, Some(&[1])).unwrap();
        assert_eq!(column(&matrix, 0), [28.0, -2.0, 0.0, 14.0]);
    }

    #[test]
    fn other_sizes_are_refused() {
        let scales = [1.0; 4];
        let blocks = |sizes, bytes: usize, count: usize| {
            let data = vec![0; bytes];
            StoredMatrix::blocks(Encoding::Int4, sizes, &data, Scales::F32(&scales[..count]), None).is_some()
        };
        assert!(blocks([20, 2, 16], 32, 4));
        assert!(!blocks([20, 2, 16], 31, 4));
        assert!(!blocks([20, 2, 16], 32, 3));
        assert!(!blocks([20, 2, 8], 32, 4));
        assert!(!blocks([20, 2, 0], 32, 4));
        assert!(!blocks([usize::MAX, 2, 16], 32, 4));
        assert!(StoredMatrix::bf16(2, 3, &[0; 12]).is_some());
        assert!(StoredMatrix::bf16(usize::MAX, 3, &[0; 12]).is_none());
        let zeros = [0; 3];
        let scales = Scales::F32(&scales);
        assert!(StoredMatrix::blocks(Encoding::Int4, [20, 2, 16], &[0; 32], scales, Some(&zeros)).is_none());
    }
}
