//! Products and look-ups whose constant matrix is stored in few bits.

use std::sync::Arc;

use half::f16;
use optimium_graph::ops::{CompressedGather, CompressedMatMul, CompressedWeights, WeightEncoding};
use optimium_kernels::movement;
use optimium_kernels::weight_only::{self, CompactMatrix, Encoding, Scales, StoredMatrix};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::epilogue::EpilogueSource;
use super::view::{NodeView, unsupported_type};
use crate::layer::{Layer, Step};

/// The constants of a compressed matrix.
#[derive(Clone)]
struct Constants {
    weights: CompressedWeights,
    data: Tensor,
    scales: Option<Tensor>,
    zeros: Option<Tensor>,
}

impl Constants {
    /// Those of `view` from input `first` on.
    ///
    /// # Errors
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) where they are computed.
    fn of(view: &NodeView, weights: CompressedWeights, first: usize) -> Result<Constants> {
        let constant = |index: usize| match view.constant(index) {
            None if view.has_input(index) => Err(Error::not_implemented("computed weights in few bits")),
            constant => Ok(constant.cloned()),
        };
        let data = constant(first)?.ok_or_else(|| Error::model("the weights are missing"))?;
        Ok(Constants { weights, data, scales: constant(first + 1)?, zeros: constant(first + 2)? })
    }

    /// Number of vectors.
    fn n(&self) -> usize {
        self.data.dims().first().copied().unwrap_or(0)
    }

    /// Calls `work` with the matrix.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where the constants do not fit each other.
    fn with<R>(&self, work: impl FnOnce(&StoredMatrix) -> R) -> Result<R> {
        let data = self.data.read_bytes()?;
        let zeros = self.zeros.as_ref().map(Tensor::read_bytes).transpose()?;
        let zeros = zeros.as_deref();
        let sizes = [self.weights.k, self.n(), self.weights.block_size];
        let encoding = match self.weights.encoding {
            WeightEncoding::Bf16 => {
                return StoredMatrix::bf16(sizes[0], sizes[1], &data)
                    .map(|matrix| work(&matrix))
                    .ok_or_else(wrong);
            }
            WeightEncoding::Int8 => Encoding::Int8,
            WeightEncoding::Int4 => Encoding::Int4,
        };
        let of = |scales| StoredMatrix::blocks(encoding, sizes, &data, scales, zeros).ok_or_else(wrong);
        let scales = self.scales.as_ref().ok_or_else(wrong)?;
        match scales.element_type() {
            ElementType::F16 => of(Scales::F16(&scales.read::<f16>()?)).map(|matrix| work(&matrix)),
            ElementType::F32 => of(Scales::F32(&scales.read::<f32>()?)).map(|matrix| work(&matrix)),
            other => Err(unsupported_type(other)),
        }
    }
}

fn wrong() -> Error {
    Error::model("compressed weights whose data, scales and zero points do not fit each other")
}

pub(super) fn matmul(view: &NodeView, op: &CompressedMatMul) -> Result<Layer> {
    if view.input_type(0)? != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let constants = Constants::of(view, op.weights, 1)?;
    let matrix = constants.with(|stored| CompactMatrix::prepare(view.level, stored, view.packing))?;
    let matrix = Arc::new(matrix);
    let (k, n, level) = (matrix.k(), matrix.n(), view.level);
    let epilogue = EpilogueSource::of(view, 4, op.fusion, Some(n))?;
    Ok(Layer::new(format!("gemm with {matrix}{}", epilogue.describe()), move |b| {
        let (a, y) = (b.input(0)?, b.output(0)?);
        let m = a.dims.split_last().map_or(0, |(_, rows)| rows.iter().product());
        if a.dims.last() != Some(&k) || y.len() != m * n {
            return Err(Error::shape(format!("{:?} times {k}x{n} does not fill {:?}", a.dims, y.dims)));
        }
        let (epilogue, matrix) = (epilogue.bind(b, n)?, matrix.clone());
        let scratch_len = matrix.scratch_len(m);
        b.need_scratch::<f32>(scratch_len);
        Ok(Step::parallel(move |memory, part| {
            let (a, c) = (memory.read::<f32>(a.operand), memory.write::<f32>(y.operand));
            let scratch = memory.scratch::<f32>(part.index, scratch_len);
            weight_only::multiply(level, m, a, &matrix, &epilogue.read(memory), c, scratch, part);
            Ok(())
        }))
    }))
}

pub(super) fn gather(view: &NodeView, op: &CompressedGather) -> Result<Layer> {
    let constants = Constants::of(view, op.weights, 0)?;
    constants.with(|_| ())?;
    match view.input_type(3)? {
        ElementType::I64 => gather_by::<i64>(constants),
        ElementType::I32 => gather_by::<i32>(constants),
        other => Err(unsupported_type(other)),
    }
}

fn gather_by<I: movement::Index + bytemuck::Pod>(constants: Constants) -> Result<Layer> {
    let (k, name) = (constants.weights.k, constants.weights.encoding.name());
    Ok(Layer::new(format!("gather of {name}"), move |b| {
        let (indices, y) = (b.input(3)?, b.output(0)?);
        if y.len() != indices.len() * k {
            return Err(Error::shape(format!("{:?} vectors of {k} do not fill {:?}", indices.dims, y.dims)));
        }
        let constants = constants.clone();
        Ok(Step::parallel(move |memory, part| {
            let (indices, out) = (memory.read::<I>(indices.operand), memory.write::<f32>(y.operand));
            let gathered = constants.with(|matrix| weight_only::gather(matrix, indices, out, part))?;
            gathered.map_err(|error| Error::infer(error.to_string()))
        }))
    }))
}
