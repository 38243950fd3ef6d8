//! The layer of a chain of convolutions that is computed by strips.

use std::sync::Arc;

use half::bf16;
use optimium_graph::ops::{Conv, Operator};
use optimium_kernels::Real;
use optimium_kernels::conv::Parameters;
use optimium_kernels::depthwise::Depthwise;
use optimium_kernels::strips::{Chain, Epilogues, Pointwise, Strips};
use optimium_tensor::{Error, Result};

use super::chains::{FoundChain, Role};
use super::epilogue::{BoundEpilogue, EpilogueSource};
use super::spatial::{convolution_geometry, extent, padding_begin, weight_dims};
use super::view::NodeView;
use crate::layer::{Binding, Layer, Step};

/// A node of a chain with its weights packed.
pub(super) struct Member {
    kernel: Kernel,
    epilogue: EpilogueSource,
    /// Inputs of the node.
    inputs: usize,
}

enum Kernel {
    Expand(Pointwise),
    Depthwise(Depthwise, Conv),
    Project(Pointwise),
}

/// Packs the weights of the node of `view`, which has that role in `chain`.
pub(super) fn member(view: &NodeView, role: Role, found: &FoundChain) -> Result<Member> {
    let Operator::Conv(conv) = &view.node.op else { return Err(Error::model("not a convolution")) };
    let dims = weight_dims(view)?;
    let weights = view.weights(1)?.ok_or_else(|| Error::model("weights that are computed"))?;
    let Chain { depthwise, rounded, .. } = &found.chain;
    let pointwise = |pixels: usize| {
        let new = if *rounded { Pointwise::new_bf16 } else { Pointwise::new };
        new(view.level, [dims[1], dims[0]], &weights, pixels, view.packing)
    };
    let [input, output] = found.chain.pixels();
    let kernel = match role {
        Role::Expand => Kernel::Expand(pointwise(input)),
        Role::Project => Kernel::Project(pointwise(output)),
        Role::Depthwise => {
            let new = if *rounded { Depthwise::new_bf16 } else { Depthwise::new };
            Kernel::Depthwise(new(view.level, depthwise, &weights, view.packing), conv.clone())
        }
    };
    let epilogue = EpilogueSource::of(view, 2, conv.fusion, Some(dims[0]))?;
    Ok(Member { kernel, epilogue, inputs: view.node.inputs.len() })
}

/// A chain whose operands have no addresses yet.
struct Source {
    strips: Strips,
    conv: Conv,
    /// Of the first, the depthwise and the last convolution.
    epilogues: [Option<EpilogueSource>; 3],
    channels: [usize; 3],
}

/// The layer that computes the nodes of `found`, which is that of the last of them.
///
/// # Errors
/// None where `members` are those of `found`.
pub(super) fn layer(found: &FoundChain, members: Vec<Member>) -> Result<Layer> {
    let (mut expand, mut middle, mut project) = (None, None, None);
    let mut epilogues = [const { None }; 3];
    let (mut shift, mut kernel, mut residual) = (0, "strips:".to_owned(), None);
    for Member { kernel: of_member, epilogue, inputs } in members {
        let epilogue = epilogue.shifted(shift);
        shift += inputs - 1;
        residual = epilogue.residual();
        let place = match of_member {
            Kernel::Expand(pointwise) => {
                kernel.push_str(" pointwise");
                expand = Some(pointwise);
                0
            }
            Kernel::Depthwise(depthwise, conv) => {
                let [height, width] = depthwise.parameters().kernel;
                kernel.push_str(&format!(" depthwise {height}x{width}"));
                middle = Some((depthwise, conv));
                1
            }
            Kernel::Project(pointwise) => {
                kernel.push_str(" pointwise");
                project = Some(pointwise);
                2
            }
        };
        kernel.push_str(&epilogue.describe());
        kernel.push(',');
        epilogues[place] = Some(epilogue);
    }
    kernel.pop();
    let (depthwise, conv) = middle.ok_or_else(|| Error::model("a chain without its middle"))?;
    let Chain { depthwise: p, expanded_from, projected_to, rounded, .. } = found.chain;
    let channels = [
        expanded_from.unwrap_or(p.input_channels),
        p.output_channels,
        projected_to.unwrap_or(p.output_channels),
    ];
    let source = Source { strips: Strips::new(expand, depthwise, project), conv, epilogues, channels };
    let source = Arc::new(source);
    let residuals: Vec<usize> = residual.into_iter().collect();
    // Columns need not begin with a pair of channels.
    let reads = if rounded { residuals.clone() } else { [&[0], &residuals[..]].concat() };
    let nodes = found.nodes.iter().map(|&(node, _)| node).collect();
    Ok(Layer::new(kernel, move |b| if rounded { bind::<bf16>(&source, b) } else { bind::<f32>(&source, b) })
        .reads_columns(&reads)
        .writes_columns()
        .interleaves(&residuals)
        .computes(nodes))
}

fn bind<E: Real>(source: &Arc<Source>, b: &mut Binding) -> Result<Step> {
    let (x, y) = (b.input(0)?, b.output(0)?);
    let (Some(input), Some(output)) = (x.dims.get(1..3), y.dims.get(1..3)) else {
        return Err(Error::shape(format!("an image of {:?} and a result of {:?}", x.dims, y.dims)));
    };
    let (conv, p) = (&source.conv, *source.strips.depthwise().parameters());
    let covered = extent(&p.kernel, &conv.dilations);
    let begin = padding_begin(&conv.padding, input, output, &covered, &conv.strides);
    let [input_channels, between, output_channels] = source.channels;
    let ends = Parameters { input_channels, output_channels, ..p };
    let geometry = convolution_geometry(&x, &y, &ends, &begin)?;
    let bound = |index: usize, columns: usize| -> Result<Option<BoundEpilogue>> {
        source.epilogues[index].as_ref().map(|epilogue| epilogue.bind(b, columns)).transpose()
    };
    let epilogues = [bound(0, between)?, bound(1, between)?, bound(2, output_channels)?];
    let scratch = source.strips.scratch_len::<E>(&geometry);
    b.need_scratch::<E>(scratch);
    let source = source.clone();
    Ok(Step::parallel(move |memory, part| {
        let of = |index: usize| {
            epilogues[index].as_ref().map_or_else(Default::default, |epilogue| epilogue.read::<E>(memory))
        };
        let epilogues = Epilogues { expand: of(0), depthwise: of(1), project: of(2) };
        let (x, out) = (memory.read::<E>(x.operand), memory.write(y.operand));
        source.strips.run(&geometry, x, &epilogues, out, memory.scratch(part.index, scratch), part);
        Ok(())
    }))
}
