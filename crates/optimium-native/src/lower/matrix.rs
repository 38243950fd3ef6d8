//! Matrix products of floating-point and integer tensors.

use std::sync::Arc;

use half::bf16;
use optimium_graph::ops::{Activation, Fusion, Gemm, MatMul};
use optimium_kernels::elementwise::{Binary, Broadcast, binary_f32, broadcast_strides};
use optimium_kernels::gemm::{self, Problem, matmul_general};
use optimium_kernels::{Part, Real, SharedSlice};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Expr, Result};

use super::epilogue::{BoundEpilogue, EpilogueSource};
use super::right::{Form, RightMatrix};
use super::storage::{Storage, reads_rounded, writes_rounded};
use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, FirstWeights, Layer, Step};

/// The sizes of a batch of products with broadcast leading dimensions.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// For each product which matrix of a and which of b it takes.
    pub(super) pairs: Vec<(usize, usize)>,
}

impl Batch {
    /// The products of operands of those shapes, as NumPy's matmul.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where they do not fit.
    pub(super) fn of(a: &[usize], b: &[usize], transpose_a: bool, transpose_b: bool) -> Result<Batch> {
        let wrong = || Error::shape(format!("{a:?} and {b:?} cannot be multiplied"));
        let as_matrix = |dims: &[usize], row: bool| match dims {
            [k] if row => vec![1, *k],
            [k] => vec![*k, 1],
            _ => dims.to_vec(),
        };
        let (a_dims, b_dims) = (as_matrix(a, true), as_matrix(b, false));
        let ([a_batch @ .., a_rows, a_columns], [b_batch @ .., b_rows, b_columns]) =
            (&a_dims[..], &b_dims[..])
        else {
            return Err(wrong());
        };
        let (m, k) = if transpose_a && a.len() > 1 { (*a_columns, *a_rows) } else { (*a_rows, *a_columns) };
        let (k_of_b, n) =
            if transpose_b && b.len() > 1 { (*b_columns, *b_rows) } else { (*b_rows, *b_columns) };
        let batch = broadcast_dims(a_batch, b_batch).filter(|_| k == k_of_b).ok_or_else(wrong)?;
        let a_strides = broadcast_strides(a_batch, &batch).ok_or_else(wrong)?;
        let b_strides = broadcast_strides(b_batch, &batch).ok_or_else(wrong)?;
        let count: usize = batch.iter().product();
        let pairs =
            (0..count).map(|i| (position(i, &batch, &a_strides), position(i, &batch, &b_strides))).collect();
        Ok(Batch { m, n, k, pairs })
    }

    /// One product for all, where b is one matrix and the rows of a follow each other.
    pub(super) fn merged(mut self) -> Batch {
        if self.pairs.iter().enumerate().all(|(i, &pair)| pair == (i, 0)) && !self.pairs.is_empty() {
            self.m *= self.pairs.len();
            self.pairs = vec![(0, 0)];
        }
        self
    }
}

fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

/// The element that index `i` of a row-major tensor of shape `dims` has with other strides.
fn position(mut i: usize, dims: &[usize], strides: &[usize]) -> usize {
    let mut at = 0;
    for (&dim, &stride) in dims.iter().zip(strides).rev() {
        at += i % dim * stride;
        i /= dim;
    }
    at
}

pub(super) fn matmul(view: &NodeView, op: &MatMul) -> Result<Layer> {
    match view.input_type(0)?.storage() {
        // Values of bfloat16 are what stands for those of `f32`.
        ElementType::F32 | ElementType::BF16 => match view.weights(1)? {
            Some(weights) => constant_b(view, op, &weights),
            None => computed_b(view, op),
        },
        ElementType::F64 => general::<f64>(view, op),
        ElementType::I32 => general::<i32>(view, op),
        ElementType::U32 => general::<u32>(view, op),
        ElementType::I64 => general::<i64>(view, op),
        ElementType::U64 => general::<u64>(view, op),
        other => Err(unsupported_type(other)),
    }
}

/// Rows of a. Of what is not known, a first dimension that is a size of its own is a batch, which is one more often than not, and
/// everything else what a transformer's block sees.
fn rows_hint(view: &NodeView) -> usize {
    let Ok(shape) = view.output_shape(0) else { return TYPICAL_ROWS };
    let [rows @ .., _] = shape.dims() else { return 1 };
    let typical = |(axis, dim): (usize, &Expr)| match dim.as_const() {
        Some(size) => usize::try_from(size).unwrap_or(1),
        None if axis == 0 && dim.as_symbol().is_some() => 1,
        None => TYPICAL_ROWS,
    };
    rows.iter().enumerate().map(typical).fold(1, usize::saturating_mul).max(1)
}

/// Rows of a product for which a size is unknown.
const TYPICAL_ROWS: usize = 128;

/// Strides of one matrix of `rows × columns` of b, as `[k, n]`.
fn b_strides(k: usize, n: usize, transposed: bool) -> [usize; 2] {
    if transposed { [1, k] } else { [n, 1] }
}

/// The sizes `k` and `n` of constant right matrices of those dimensions, and how many there are.
fn constant_sizes(dims: &[usize], transposed: bool) -> Result<[usize; 3]> {
    let (count, rows, columns) = match dims {
        [k] => return Ok([*k, 1, 1]),
        [before @ .., rows, columns] => (before.iter().product(), *rows, *columns),
        [] => return Err(Error::model("a product with a scalar")),
    };
    Ok(if transposed { [columns, rows, count] } else { [rows, columns, count] })
}

/// Which operands of a product may be bfloat16: rows and results of constant matrices of such.
pub(super) fn matmul_storage(view: &NodeView, op: &MatMul) -> Storage {
    let dims = view.input_shape(1).ok().and_then(|shape| shape.as_fixed()).unwrap_or_default();
    let possible = view.constant(1).is_some()
        && view.input_type(0).is_ok_and(|x| x == ElementType::F32)
        && !op.transpose_a;
    let Some([k, n, _]) = constant_sizes(&dims, op.transpose_b).ok().filter(|_| possible) else {
        return Storage::default();
    };
    if Form::pick(view, &Problem { m: rows_hint(view), n, k }, true, || true).is_bf16() {
        Storage { reads: vec![0, 3], writes: true, like_outputs: vec![3] }
    } else {
        Storage::default()
    }
}

fn constant_b(view: &NodeView, op: &MatMul, weights: &[f32]) -> Result<Layer> {
    let dims =
        view.input_shape(1)?.as_fixed().ok_or_else(|| Error::model("a constant of a dynamic shape"))?;
    let [k, n, count] = constant_sizes(&dims, op.transpose_b)?;
    let problem = Problem { m: rows_hint(view), n, k };
    let rounded = reads_rounded(view, 0) || writes_rounded(view);
    let strides = b_strides(k, n, op.transpose_b && dims.len() > 1);
    let suits = || {
        let mut matrices = (0..count).map(|i| &weights[i * k * n..(i + 1) * k * n]);
        matrices.all(|matrix| gemm::suits_strassen(view.level, [k, n], matrix, strides, op.alpha))
    };
    let form = if rounded { Form::bf16(view, &problem) } else { Form::pick(view, &problem, false, suits) };
    let pack = |i: usize| form.pack(view, k, &weights[i * k * n..(i + 1) * k * n], strides, op.alpha);
    let packed: Arc<Vec<RightMatrix>> = Arc::new((0..count).map(pack).collect());
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(n))?;
    let (op, level) = (op.clone(), view.level);
    Ok(Layer::new(format!("gemm {form}{}", epilogue.describe()), move |b| {
        let (a, y) = (b.input(0)?, b.output(0)?);
        let batch = Batch::of(&a.dims, &dims, op.transpose_a, op.transpose_b)?;
        let batch = if op.transpose_a { batch } else { batch.merged() };
        check_output(&batch, &y)?;
        let epilogue = epilogue.bind(b, batch.n)?;
        let packed = packed.clone();
        let of_product = packed.first().map_or(0, |matrix| matrix.scratch_len(batch.m));
        if a.is_rounded() || y.is_rounded() {
            b.need_scratch::<u32>(of_product);
            let product = RoundedProduct { level, packed, batch, epilogue, scratch: of_product };
            return Ok(match (a.is_rounded(), y.is_rounded()) {
                (true, true) => product.step::<bf16, bf16>(&a, &y),
                (true, false) => product.step::<bf16, f32>(&a, &y),
                _ => product.step::<f32, bf16>(&a, &y),
            });
        }
        let transposed = op.transpose_a && a.dims.len() > 1;
        let of_left = if transposed { batch.m * batch.k } else { 0 };
        b.need_scratch::<f32>(of_left + of_product);
        let first = FirstMatrix { packed: packed.clone(), rows: batch.m };
        Ok(Step::parallel(move |memory, part| {
            let (a, out) = (memory.read::<f32>(a.operand), memory.write::<f32>(y.operand));
            let (for_left, scratch) =
                memory.scratch::<f32>(part.index, of_left + of_product).split_at_mut(of_left);
            for (i, &(of_a, of_b)) in batch.pairs.iter().enumerate() {
                let left = left_matrix(a, of_a, &batch, transposed, for_left);
                let epilogue = epilogue.read_from(memory, i * batch.m);
                let c = matrix_of(out, i, &batch);
                packed[of_b].multiply(level, batch.m, left, &epilogue, c, scratch, part);
            }
            Ok(())
        })
        .reads_first(first))
    }))
}

/// The matrix that products of `rows` rows begin with.
struct FirstMatrix {
    packed: Arc<Vec<RightMatrix>>,
    rows: usize,
}

impl FirstWeights for FirstMatrix {
    fn of(&self, part: Part) -> &[f32] {
        self.packed.first().map_or(&[], |matrix| matrix.first_panel(self.rows, part))
    }
}

/// Products of constant matrices of bfloat16 whose rows or results are stored so too.
struct RoundedProduct {
    level: Level,
    packed: Arc<Vec<RightMatrix>>,
    batch: Batch,
    epilogue: BoundEpilogue,
    /// Elements of scratch memory.
    scratch: usize,
}

impl RoundedProduct {
    /// The step for rows of `L` and results of `T`.
    fn step<L: Real, T: Real>(self, a: &Bound, y: &Bound) -> Step {
        let (a, y) = (a.operand, y.operand);
        Step::parallel(move |memory, part| {
            let (a, out) = (memory.read::<L>(a), memory.write::<T>(y));
            let scratch = memory.scratch::<u32>(part.index, self.scratch);
            let Batch { m, n, k, .. } = self.batch;
            for (i, &(of_a, of_b)) in self.batch.pairs.iter().enumerate() {
                let Some(packed) = self.packed[of_b].as_bf16() else {
                    return Err(Error::model("a matrix of f32 for a product of bfloat16"));
                };
                let epilogue = self.epilogue.read_from(memory, i * m);
                let (left, c) = (&a[of_a * m * k..(of_a + 1) * m * k], matrix_of(out, i, &self.batch));
                gemm::gemm_bf16(self.level, m, left, k, packed, &epilogue, c, n, scratch, part);
            }
            Ok(())
        })
    }
}

fn check_output(batch: &Batch, y: &Bound) -> Result<()> {
    if y.len() == batch.pairs.len() * batch.m * batch.n {
        Ok(())
    } else {
        Err(Error::shape(format!(
            "{} products of {}x{} do not fill {:?}",
            batch.pairs.len(),
            batch.m,
            batch.n,
            y.dims
        )))
    }
}

/// Matrix `index` of a, row-major: where it lies, or transposed into scratch memory.
fn left_matrix<'a>(
    a: &'a [f32],
    index: usize,
    batch: &Batch,
    transposed: bool,
    scratch: &'a mut [f32],
) -> &'a [f32] {
    let (m, k) = (batch.m, batch.k);
    let matrix = &a[index * m * k..(index + 1) * m * k];
    if !transposed {
        return matrix;
    }
    let copy = optimium_kernels::movement::Transpose::new(&[k, m], &[1, 0], size_of::<f32>());
    copy.run(bytemuck::cast_slice(matrix), SharedSlice::new(bytemuck::cast_slice_mut(scratch)), Part::WHOLE);
    scratch
}

/// Matrix `index` of the result.
fn matrix_of<'a, T>(out: SharedSlice<'a, T>, index: usize, batch: &Batch) -> SharedSlice<'a, T> {
    let size = batch.m * batch.n;
    out.narrow(index * size..(index + 1) * size)
}

/// Both operands are computed: b is packed into scratch memory before each product.
fn computed_b(view: &NodeView, op: &MatMul) -> Result<Layer> {
    let level = view.level;
    let columns =
        view.output_shape(0)?.dims().last().and_then(|n| n.as_const()).and_then(|n| usize::try_from(n).ok());
    let epilogue = EpilogueSource::of(view, 2, op.fusion, columns)?;
    let op = op.clone();
    Ok(Layer::new(format!("batched gemm{}", epilogue.describe()), move |b| {
        let (a, right, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let mut batch = Batch::of(&a.dims, &right.dims, op.transpose_a, op.transpose_b)?;
        if !op.transpose_a {
            batch = batch.merged();
        }
        check_output(&batch, &y)?;
        let epilogue = epilogue.bind(b, batch.n)?;
        let product = ComputedProduct::new(level, &op, &batch, a.dims.len(), right.dims.len());
        b.need_scratch::<f32>(product.scratch_len());
        Ok(Step::parallel(move |memory, part| {
            let (a, right) = (memory.read::<f32>(a.operand), memory.read::<f32>(right.operand));
            let out = memory.write::<f32>(y.operand);
            let scratch = memory.scratch::<f32>(part.index, product.scratch_len());
            // Whole products where there are enough of them, else shares of each.
            let by_batch = product.batch.pairs.len() >= part.count;
            let (range, share) = if by_batch {
                (part.range(product.batch.pairs.len()), Part::WHOLE)
            } else {
                (0..product.batch.pairs.len(), part)
            };
            let mut packed = None;
            for i in range {
                let epilogue = epilogue.read_from(memory, i * product.batch.m);
                product.run(
                    i,
                    a,
                    right,
                    &epilogue,
                    matrix_of(out, i, &product.batch),
                    scratch,
                    &mut packed,
                    share,
                );
            }
            Ok(())
        }))
    }))
}

/// A batch of products whose right matrices are packed as they come.
struct ComputedProduct {
    level: Level,
    batch: Batch,
    layout: gemm::Layout,
    transpose_a: bool,
    transpose_b: bool,
    alpha: f32,
}

impl ComputedProduct {
    fn new(level: Level, op: &MatMul, batch: &Batch, a_rank: usize, b_rank: usize) -> ComputedProduct {
        ComputedProduct {
            level,
            batch: batch.clone(),
            layout: gemm::pick(level, &Problem { m: batch.m, n: batch.n, k: batch.k }),
            transpose_a: op.transpose_a && a_rank > 1,
            transpose_b: op.transpose_b && b_rank > 1,
            alpha: op.alpha,
        }
    }

    /// Elements of scratch memory: the packed matrix, and a transposed left one.
    fn scratch_len(&self) -> usize {
        let left = if self.transpose_a { self.batch.m * self.batch.k } else { 0 };
        self.layout.len().next_multiple_of(16) + left
    }

    fn run(
        &self,
        index: usize,
        a: &[f32],
        right: &[f32],
        epilogue: &optimium_kernels::epilogue::Epilogue,
        c: SharedSlice<f32>,
        scratch: &mut [f32],
        packed: &mut Option<usize>,
        part: Part,
    ) {
        let (of_a, of_b) = self.batch.pairs[index];
        let (m, n, k) = (self.batch.m, self.batch.n, self.batch.k);
        let (panels, left) = scratch.split_at_mut(self.layout.len().next_multiple_of(16));
        let panels = &mut panels[..self.layout.len()];
        if packed.replace(of_b) != Some(of_b) {
            let [row_stride, column_stride] = b_strides(k, n, self.transpose_b);
            let matrix = &right[of_b * k * n..(of_b + 1) * k * n];
            self.layout.pack(matrix, row_stride, column_stride, SharedSlice::new(panels), Part::WHOLE);
            if self.alpha != 1.0 {
                panels.iter_mut().for_each(|x| *x *= self.alpha);
            }
        }
        let left = left_matrix(a, of_a, &self.batch, self.transpose_a, left);
        gemm::gemm(self.level, m, left, k, &self.layout, panels, epilogue, c, n, part);
    }
}

/// Products of other number types.
fn general<T: bytemuck::Pod + gemm::Number>(view: &NodeView, op: &MatMul) -> Result<Layer> {
    if op.fusion != Fusion::default()
        || op.alpha != 1.0
        || (2..view.node.inputs.len()).any(|i| view.has_input(i))
    {
        return Err(Error::not_implemented("fusion behind a product of this element type"));
    }
    let op = op.clone();
    Ok(Layer::new("general product", move |b| {
        let (a, right, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let batch = Batch::of(&a.dims, &right.dims, op.transpose_a, op.transpose_b)?;
        check_output(&batch, &y)?;
        let (m, n, k) = (batch.m, batch.n, batch.k);
        let a_strides = if op.transpose_a && a.dims.len() > 1 { [1, m] } else { [k, 1] };
        let b_strides = if op.transpose_b && right.dims.len() > 1 { [1, k] } else { [n, 1] };
        Ok(Step::parallel(move |memory, part| {
            let (a, right) = (memory.read::<T>(a.operand), memory.read::<T>(right.operand));
            let out = memory.write::<T>(y.operand);
            for (i, &(of_a, of_b)) in batch.pairs.iter().enumerate() {
                let (left, right) = (&a[of_a * m * k..], &right[of_b * k * n..]);
                matmul_general(
                    m,
                    n,
                    k,
                    left,
                    a_strides,
                    right,
                    b_strides,
                    out.narrow(i * m * n..(i + 1) * m * n),
                    part,
                );
            }
            Ok(())
        }))
    }))
}

/// Gemm whose third operand is no bias: the product, then the sum.
pub(super) fn gemm(view: &NodeView, op: &Gemm) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let matmul = MatMul {
        transpose_a: op.transpose_a,
        transpose_b: op.transpose_b,
        alpha: op.alpha,
        fusion: Fusion { activation: Activation::None, residual_after_activation: false },
    };
    let (level, beta) = (view.level, op.beta);
    Ok(Layer::new("gemm + matrix", move |b: &mut Binding| {
        let (a, right, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let batch = Batch::of(&a.dims, &right.dims, matmul.transpose_a, matmul.transpose_b)?;
        check_output(&batch, &y)?;
        let product = ComputedProduct::new(level, &matmul, &batch, a.dims.len(), right.dims.len());
        b.need_scratch::<f32>(product.scratch_len());
        let addend = match b.optional_input(2) {
            None => None,
            Some(c) => Some((broadcast_of(&c, &y)?, c.operand)),
        };
        Ok(Step::serial(move |memory| {
            let (a, right) = (memory.read::<f32>(a.operand), memory.read::<f32>(right.operand));
            let out = memory.write::<f32>(y.operand);
            let scratch = memory.scratch::<f32>(0, product.scratch_len());
            product.run(0, a, right, &Default::default(), out, scratch, &mut None, Part::WHOLE);
            if let Some((broadcast, c)) = &addend {
                let c: Vec<f32> = memory.read::<f32>(*c).iter().map(|x| x * beta).collect();
                binary_f32(level, Binary::Add, broadcast, out, &c[..], out, Part::WHOLE);
            }
            Ok(())
        }))
    }))
}

fn broadcast_of(c: &Bound, y: &Bound) -> Result<Broadcast> {
    let wrong = || Error::shape(format!("{:?} cannot be broadcast to {:?}", c.dims, y.dims));
    let whole = broadcast_strides(&y.dims, &y.dims).ok_or_else(wrong)?;
    Ok(Broadcast::new(&y.dims, &whole, &broadcast_strides(&c.dims, &y.dims).ok_or_else(wrong)?))
}
