//! Recurrent layers.

use serde::{Deserialize, Serialize};

/// Which recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentKind {
    /// One gate.
    Rnn,
    /// Gates z, r, h.
    Gru,
    /// Gates i, o, f, c.
    Lstm,
}

impl RecurrentKind {
    /// Its name as ONNX writes it.
    pub fn name(self) -> &'static str {
        match self {
            RecurrentKind::Rnn => "RNN",
            RecurrentKind::Gru => "GRU",
            RecurrentKind::Lstm => "LSTM",
        }
    }

    /// Number of gates.
    pub fn gates(self) -> usize {
        match self {
            RecurrentKind::Rnn => 1,
            RecurrentKind::Gru => 3,
            RecurrentKind::Lstm => 4,
        }
    }
}

/// In which order steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, one after the other in the direction axis.
    Bidirectional,
}

impl Direction {
    /// Number of directions.
    pub fn count(self) -> usize {
        if self == Direction::Bidirectional { 2 } else { 1 }
    }
}

/// A gate's function, by its ONNX name, with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentActivation {
    /// As ONNX writes it: Sigmoid, Tanh, Relu, Affine, …
    pub name: String,
    /// First parameter; the function's default where none.
    pub alpha: Option<f32>,
    /// Second parameter; the function's default where none.
    pub beta: Option<f32>,
}

/// Inputs, as ONNX's RNN, GRU and LSTM: x, w, r, b or none, sequence lengths or none, initial h or none, and for LSTM initial c or none,
/// peepholes or none. Outputs: y, last h, and for LSTM last c.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// Which recurrence.
    pub kind: RecurrentKind,
    /// Size of h.
    pub hidden_size: usize,
    /// In which order steps are taken.
    pub direction: Direction,
    /// Functions for each direction; ONNX's defaults where empty.
    pub activations: Vec<RecurrentActivation>,
    /// Bound of the gates' inputs.
    pub clip: Option<f32>,
    /// GRU: whether the reset gate applies after the recurrent product.
    pub linear_before_reset: bool,
    /// LSTM: whether the forget gate is one minus the input gate.
    pub input_forget: bool,
    /// Whether the batch is the first axis instead of time.
    pub batch_first: bool,
}
