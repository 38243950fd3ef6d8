//! What a graph fuses behind a product, as the kernels' epilogue.

use std::sync::Arc;

use optimium_graph::ops::{Activation, Fusion};
use optimium_kernels::Real;
use optimium_kernels::activation::Activation as KernelActivation;
use optimium_kernels::epilogue::{Epilogue, Residual};
use optimium_tensor::{Error, Result};

use super::view::NodeView;
use crate::layer::Binding;
use crate::memory::{Memory, Operand};

/// The kernels' name of an activation.
pub(super) fn kernel_activation(activation: Activation) -> KernelActivation {
    match activation {
        Activation::None => KernelActivation::None,
        Activation::Relu => KernelActivation::Relu,
        Activation::Clip { low, high } => KernelActivation::Clip {
            low: low.unwrap_or(f32::NEG_INFINITY),
            high: high.unwrap_or(f32::INFINITY),
        },
        Activation::LeakyRelu { alpha } => KernelActivation::LeakyRelu { alpha },
        Activation::PRelu => KernelActivation::PRelu,
        Activation::Sigmoid => KernelActivation::Sigmoid,
        Activation::HardSigmoid { alpha, beta } => KernelActivation::HardSigmoid { alpha, beta },
        Activation::HardSwish => KernelActivation::HardSwish,
        Activation::Silu => KernelActivation::Silu,
        Activation::Gelu => KernelActivation::Gelu,
        Activation::GeluTanh => KernelActivation::GeluTanh,
        Activation::Tanh => KernelActivation::Tanh,
        Activation::Elu { alpha } => KernelActivation::Elu { alpha },
        Activation::Softplus => KernelActivation::Softplus,
        Activation::Mish => KernelActivation::Mish,
    }
}

/// An epilogue whose operands have no addresses yet.
#[derive(Clone)]
pub(super) struct EpilogueSource {
    bias: Option<Column>,
    slope: Option<Column>,
    residual: Option<usize>,
    fusion: Fusion,
}

/// One value a column: known, or an input of the node.
#[derive(Clone)]
enum Column {
    Constant(Arc<[f32]>),
    Input(usize),
}

impl EpilogueSource {
    /// The epilogue of `view`, whose bias is input `bias`, its residual the one after, its slope the one after that.
    ///
    /// # Errors
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for a slope that is missing.
    pub(super) fn of(
        view: &NodeView,
        bias: usize,
        fusion: Fusion,
        columns: Option<usize>,
    ) -> Result<EpilogueSource> {
        let column = |index: usize| -> Result<Option<Column>> {
            Ok(match view.floats(index)? {
                Some(values) => Some(Column::Constant(spread(&values, columns)?)),
                None => view.has_input(index).then_some(Column::Input(index)),
            })
        };
        let slope = if fusion.activation == Activation::PRelu { column(bias + 2)? } else { None };
        if fusion.activation == Activation::PRelu && slope.is_none() {
            return Err(Error::not_implemented("a fused PRelu without its slope"));
        }
        let residual = view.has_input(bias + 1).then_some(bias + 1);
        Ok(EpilogueSource { bias: column(bias)?, slope, residual, fusion })
    }

    /// The same where the node's inputs are counted from `by` on, all but those that are constant.
    pub(super) fn shifted(mut self, by: usize) -> EpilogueSource {
        for column in [&mut self.bias, &mut self.slope] {
            if let Some(Column::Input(index)) = column {
                *index += by;
            }
        }
        self.residual = self.residual.map(|index| index + by);
        self
    }

    /// The input that is added.
    pub(super) fn residual(&self) -> Option<usize> {
        self.residual
    }

    /// What it is, for people: ` + bias + relu`.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        if self.residual.is_some() && !self.fusion.residual_after_activation {
            text.push_str(" + residual");
        }
        if self.fusion.activation != Activation::None {
            text.push_str(&format!(" + {}", self.fusion.activation.name().to_lowercase()));
        }
        if self.residual.is_some() && self.fusion.residual_after_activation {
            text.push_str(" + residual");
        }
        text
    }

    /// With the operands' places; `columns` is the result's last dimension.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where an operand has another size.
    pub(super) fn bind(&self, binding: &Binding, columns: usize) -> Result<BoundEpilogue> {
        let column = |source: &Option<Column>| -> Result<Option<BoundColumn>> {
            match source {
                None => Ok(None),
                Some(Column::Constant(values)) => Ok(Some(BoundColumn::Constant(values.clone()))),
                Some(Column::Input(index)) => {
                    let bound = binding.input(*index)?;
                    if bound.len() != columns {
                        return Err(Error::shape(format!(
                            "expected {columns} values, found {:?}",
                            bound.dims
                        )));
                    }
                    Ok(Some(BoundColumn::Operand(bound.operand)))
                }
            }
        };
        let residual = self.residual.map(|index| binding.input(index)).transpose()?;
        Ok(BoundEpilogue {
            bias: column(&self.bias)?,
            slope: column(&self.slope)?,
            residual: residual.map(|residual| (residual.operand, residual.row_stride)),
            after_activation: self.fusion.residual_after_activation,
            activation: kernel_activation(self.fusion.activation),
        })
    }
}

/// One value for each of `columns`, where a single one is given for all.
fn spread(values: &Arc<[f32]>, columns: Option<usize>) -> Result<Arc<[f32]>> {
    match (values.len(), columns) {
        (1, Some(columns)) => Ok(vec![values[0]; columns].into()),
        (found, Some(columns)) if found != columns => {
            Err(Error::model(format!("expected {columns} values of a bias or slope, found {found}")))
        }
        _ => Ok(values.clone()),
    }
}

/// An epilogue with the places of its operands.
pub(super) struct BoundEpilogue {
    bias: Option<BoundColumn>,
    slope: Option<BoundColumn>,
    /// Its place, and the elements from row to row.
    residual: Option<(Operand, usize)>,
    after_activation: bool,
    activation: KernelActivation,
}

enum BoundColumn {
    Constant(Arc<[f32]>),
    Operand(Operand),
}

impl BoundColumn {
    fn read<'a>(&'a self, memory: &Memory<'a>) -> &'a [f32] {
        match self {
            BoundColumn::Constant(values) => values,
            BoundColumn::Operand(operand) => memory.read(*operand),
        }
    }
}

impl BoundEpilogue {
    /// The epilogue as kernels take it, for a result and a residual of `T`.
    pub(super) fn read<'a, T: Real>(&'a self, memory: &Memory<'a>) -> Epilogue<'a, T> {
        self.read_from(memory, 0)
    }

    /// The epilogue for the rows from `row` on.
    pub(super) fn read_from<'a, T: Real>(&'a self, memory: &Memory<'a>, row: usize) -> Epilogue<'a, T> {
        let residual = self.residual.map(|(operand, stride)| Residual {
            data: memory.read_columns(operand).from(row * stride),
            stride,
            after_activation: self.after_activation,
        });
        Epilogue {
            bias: self.bias.as_ref().map(|bias| bias.read(memory)),
            residual,
            activation: self.activation,
            slope: self.slope.as_ref().map(|slope| slope.read(memory)),
            following: memory.following(),
        }
    }
}
