//! Types and symbolic shapes of every value.

use optimium_tensor::{Result, SymbolValues};

use crate::Graph;

/// Gives every value its type and shape, and every operator the numbers and expressions that its shape-like inputs turn out to be.
///
/// # Errors
/// See the module.
pub fn infer(_graph: &mut Graph) -> Result<()> {
    Ok(())
}

/// The values of the symbols, given the concrete dimensions of the graph's inputs, in order.
///
/// # Errors
/// See the module.
pub fn bind(_graph: &Graph, _input_dims: &[&[usize]]) -> Result<SymbolValues> {
    Ok(SymbolValues::new())
}
