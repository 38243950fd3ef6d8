//! What a recurrent layer is.

use super::GateFunction;
use crate::activation::Activation;

/// The kind of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `h = f(Wx + Rh + b)`
    Rnn,
    /// Gated recurrent unit, gates in the order update, reset, hidden.
    Gru {
        /// Whether the reset gate is applied after the recurrent product instead of before.
        linear_before_reset: bool,
    },
    /// Long short-term memory, gates in the order input, output, forget, cell.
    Lstm {
        /// Whether the forget gate is one minus the input gate.
        input_forget: bool,
    },
}

impl Cell {
    /// Number of gates: blocks of rows of the weights.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm { .. } => 4,
        }
    }

    /// ONNX's default functions for one direction.
    pub fn default_functions(self) -> &'static [GateFunction] {
        const SIGMOID: GateFunction = GateFunction::Activation(Activation::Sigmoid);
        const TANH: GateFunction = GateFunction::Activation(Activation::Tanh);
        match self {
            Cell::Rnn => &[TANH],
            Cell::Gru { .. } => &[SIGMOID, TANH],
            Cell::Lstm { .. } => &[SIGMOID, TANH, TANH],
        }
    }
}

/// The orders in which a layer passes over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, each with its own weights, forward first.
    Bidirectional,
}

impl Directions {
    /// How many there are.
    pub fn count(self) -> usize {
        if self == Directions::Bidirectional { 2 } else { 1 }
    }

    /// Whether direction `index` starts at the last step.
    pub(super) fn is_reverse(self, index: usize) -> bool {
        self == Directions::Reverse || index == 1
    }
}

/// What a recurrent layer is, apart from its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentParameters {
    /// The kind.
    pub cell: Cell,
    /// Elements of an input.
    pub input_size: usize,
    /// Elements of a state.
    pub hidden_size: usize,
    /// The orders of the steps.
    pub directions: Directions,
    /// The functions of each direction, one direction after the other; empty for ONNX's defaults.
    pub functions: Vec<GateFunction>,
    /// The bound of the magnitude of what the functions of the gates are applied to.
    pub clip: Option<f32>,
    /// Whether the batch is the outermost dimension of inputs, outputs and states (ONNX's layout 1).
    pub batch_first: bool,
}

/// The weights of a recurrent layer, in ONNX's shapes. D is the number of directions, G of gates, H the
/// hidden size.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'a> {
    /// Of the inputs: D × G·H × input size.
    pub w: &'a [f32],
    /// Of the state: D × G·H × H.
    pub r: &'a [f32],
    /// Added to both products: D × 2·G·H, those of the inputs first.
    pub b: Option<&'a [f32]>,
    /// Peepholes of an LSTM: D × 3·H, in the order input, output, forget.
    pub p: Option<&'a [f32]>,
}
