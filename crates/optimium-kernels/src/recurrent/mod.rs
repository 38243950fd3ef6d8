//! Recurrent layers: RNN, GRU and LSTM as ONNX defines them, in `f32`.
//!
//! A run is made of rounds. In the first one the inputs of all steps are multiplied, as one matrix product; each step is one
//! or two more: the products of the state with the recurrent weights, and the gates. Directions and hidden units are what a
//! round is divided by, so that each worker reads its own weights alone; between rounds the workers have to meet.
//!
//! | file | |
//! |---|---|
//! | `parameters` | what a layer is |
//! | `gate` | the functions of the gates |
//! | `layer` | packed weights and the rounds |
//! | `state` | how the weights of the state are packed |
//! | `round`, `product`, `stage` | a round of one direction, the products in it, and what follows them |

mod gate;
mod layer;
mod parameters;
mod product;
mod round;
mod stage;
mod state;

pub use gate::GateFunction;
pub use layer::{Inputs, Outputs, Recurrent, Run};
pub use parameters::{Cell, Directions, RecurrentParameters, RecurrentWeights};
