//! Random numbers.

use optimium_graph::ops::{Distribution, Random};
use optimium_tensor::{ElementType, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Layer, Step};
use crate::random::Generator;

/// One worker draws, so that the numbers of a seed do not depend on how many there are.
pub(super) fn random(view: &NodeView, op: &Random) -> Result<Layer> {
    let element_type = view.output_type(0)?;
    if !matches!(element_type, ElementType::F32 | ElementType::F64) {
        return Err(unsupported_type(element_type));
    }
    let (distribution, seed) = (op.distribution, op.seed);
    Ok(Layer::new("Mersenne Twister", move |b| {
        let y = b.output(0)?.operand;
        Ok(Step::serial(move |memory| {
            let mut generator = Generator::new(seed);
            if element_type == ElementType::F64 {
                memory.write_alone::<f64>(y).fill_with(|| draw(&mut generator, distribution));
            } else {
                let next = || rounded(draw(&mut generator, distribution), distribution);
                memory.write_alone::<f32>(y).fill_with(next);
            }
            Ok(())
        }))
    }))
}

fn draw(generator: &mut Generator, distribution: Distribution) -> f64 {
    match distribution {
        Distribution::Uniform { low, high } => {
            let (low, high) = (f64::from(low), f64::from(high));
            low + (high - low) * generator.uniform()
        }
        Distribution::Normal { mean, deviation } => {
            f64::from(mean) + f64::from(deviation) * generator.normal()
        }
    }
}

/// Uniform numbers stay below the upper bound in `f32` as well.
fn rounded(number: f64, distribution: Distribution) -> f32 {
    match distribution {
        Distribution::Uniform { low, high } if low < high => (number as f32).min(high.next_down()),
        _ => number as f32,
    }
}
