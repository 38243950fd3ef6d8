//! Recurrent layers: RNN, GRU and LSTM as ONNX defines them, in `f32`.
//!
//! The products with the inputs of all steps are one matrix product ahead of the steps; each step then
//! multiplies the state with the recurrent weights and applies the gates. Directions and rows of the batch
//! are independent, and are what the work is divided by.
//!
//! | file | |
//! |---|---|
//! | `parameters` | what a layer is |
//! | `gate` | the functions of the gates |
//! | `layer` | packed weights and the run over the steps |
//! | `step` | one step of one row, after the products |

mod gate;
mod layer;
mod parameters;
mod step;

pub use gate::GateFunction;
pub use layer::{Inputs, Outputs, Recurrent};
pub use parameters::{Cell, Directions, RecurrentParameters, RecurrentWeights};
