//! The graph: what a model computes, as data that no kernel is linked to.
//!
//! A [`Graph`] holds values (tensors, known or computed) and nodes (an [`Operator`] with its inputs and
//! outputs, by [`ValueId`]). Operators mean what ONNX says; [`ops`] has one struct for each, with its
//! attributes. [`shapes`] gives every value its type and symbolic shape, and follows small integer
//! tensors symbolically, so that computed shapes become expressions. [`passes`] makes a graph simpler,
//! in the order that [`passes::simplify`] lists.
//!
//! [`work`] counts what a node has to compute, [`deciders`] finds the nodes whose data decide sizes.
//!
//! The data flow: an importer builds a raw graph → [`shapes::infer`] → [`passes::simplify`] → it is
//! stored in a folder, or compiled by a backend.

pub mod deciders;
mod graph;
pub mod ops;
mod origins;
pub mod passes;
pub mod shapes;
mod unsupported;
pub mod work;

pub use graph::{Graph, Node, NodeId, Value, ValueId, ValueType};
pub use ops::Operator;
pub use origins::{Origin, Origins};
pub use unsupported::Unsupported;
