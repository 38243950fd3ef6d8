//! Chains of convolutions that one layer computes by strips: which nodes they are.
//!
//! A depthwise convolution is the middle of a chain. The pointwise one before it and the one behind it belong to it where nobody
//! else reads what lies between, and all weights are constant. What of a chain is computed together, [`Chain::cost`] says.

use std::sync::Arc;

use optimium_device::{CompileOptions, KernelChoice};
use optimium_graph::ops::{Conv, Operator, Padding};
use optimium_graph::{Graph, ValueId};
use optimium_kernels::Packing;
use optimium_kernels::conv::Parameters;
use optimium_kernels::strips::{Chain, Form, Strips};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Result};

use super::choice::{ChoiceRecord, Chooser};
use super::spatial::{convolution_parameters, fits, is_of_images, typical_images, weight_dims};
use super::strips::{self, Member};
use super::view::NodeView;
use crate::layer::Layer;

/// What a node is in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The pointwise convolution before the depthwise one.
    Expand,
    /// The depthwise convolution.
    Depthwise,
    /// The pointwise convolution behind it.
    Project,
}

/// Nodes that one layer computes, in their order.
pub(super) struct FoundChain {
    pub(super) nodes: Vec<(usize, Role)>,
    pub(super) chain: Chain,
    record: Option<Arc<dyn Fn() -> KernelChoice + Send + Sync>>,
}

impl FoundChain {
    /// What the nodes could have been computed by.
    fn record(&self) -> Option<ChoiceRecord> {
        let record = self.record.clone()?;
        Some(Box::new(move || record()))
    }
}

/// The chains of a graph, and which node is what in them.
#[derive(Default)]
pub(super) struct Chains {
    chains: Vec<FoundChain>,
    /// For each node its chain and what it is there.
    roles: Vec<Option<(usize, Role)>>,
}

impl Chains {
    /// The chains of a graph whose nodes are sorted, as earlier choices or else the estimate have them; none where every tensor
    /// is to be readable.
    pub(super) fn find(graph: &Graph, level: Level, options: &CompileOptions) -> Chains {
        let mut found = Chains { chains: Vec::new(), roles: vec![None; graph.nodes().len()] };
        if !options.memory_optimization {
            return found;
        }
        let search = Search { graph, level, options, links: Links::new(graph) };
        for index in 0..graph.nodes().len() {
            let Some(chain) = search.around(index, &found.roles) else { continue };
            chain.nodes.iter().for_each(|&(node, role)| found.roles[node] = Some((found.chains.len(), role)));
            found.chains.push(chain);
        }
        found
    }

    /// What a node is in its chain.
    pub(super) fn role(&self, node: usize) -> Option<(&FoundChain, Role)> {
        self.roles[node].map(|(chain, role)| (&self.chains[chain], role))
    }

    /// Room for the members of each chain.
    pub(super) fn no_members(&self) -> Vec<Vec<Member>> {
        self.chains.iter().map(|_| Vec::new()).collect()
    }

    /// The layer of node `index`, which `member` is: that of the chain where it is the last one.
    ///
    /// # Errors
    /// Those of [`strips::layer`].
    pub(super) fn layer(&self, index: usize, member: Member, members: &mut [Vec<Member>]) -> Result<Layer> {
        let Some((place, _)) = self.roles[index] else { return Ok(Layer::of_later_layer()) };
        let chain = &self.chains[place];
        members[place].push(member);
        let is_whole = members[place].len() == chain.nodes.len();
        let layer = if is_whole {
            strips::layer(chain, std::mem::take(&mut members[place]))?
        } else {
            Layer::of_later_layer()
        };
        Ok(layer.chosen(chain.record()))
    }
}

/// Who computes and who reads the values of a graph.
struct Links {
    producers: Vec<Option<usize>>,
    /// How often a value is read, by the caller as well, and the last node that does so as its first input.
    readers: Vec<(usize, Option<usize>)>,
}

impl Links {
    fn new(graph: &Graph) -> Links {
        let mut readers = vec![(0, None); graph.values().len()];
        for (index, node) in graph.nodes().iter().enumerate() {
            for (input, value) in node.inputs.iter().enumerate() {
                let Some(value) = value else { continue };
                let (count, reader) = &mut readers[value.index()];
                *count += 1;
                if input == 0 {
                    *reader = Some(index);
                }
            }
        }
        graph.outputs.iter().for_each(|output| readers[output.index()].0 += 1);
        let producers = graph.producers().into_iter().map(|node| node.map(|node| node.index())).collect();
        Links { producers, readers }
    }

    /// The node that alone reads `value`, as its first input.
    fn only_reader(&self, value: ValueId) -> Option<usize> {
        match self.readers[value.index()] {
            (1, reader) => reader,
            _ => None,
        }
    }
}

struct Search<'a> {
    graph: &'a Graph,
    level: Level,
    options: &'a CompileOptions,
    links: Links,
}

impl Search<'_> {
    /// The chain around the depthwise convolution that node `index` is, of nodes that are not taken.
    fn around(&self, index: usize, taken: &[Option<(usize, Role)>]) -> Option<FoundChain> {
        let (packing, chooser) = (Packing::default(), Chooser::new(self.options));
        let view = self.view(index, &packing, &chooser);
        let Operator::Conv(conv) = &view.node.op else { return None };
        let depthwise = self.parameters(&view, conv).filter(|p| p.groups > 1 && Strips::serves(p))?;
        let rounded = view.input_type(0).ok()? == ElementType::BF16;
        if rounded != view.prefers_bf16() {
            return None;
        }
        let wide = view.node.input(0)?;
        let first = self.links.producers[wide.index()].filter(|_| self.links.only_reader(wide).is_some());
        let expand = first.filter(|&first| taken[first].is_none());
        let expand = expand.filter(|&first| self.is_pointwise(first, rounded, false));
        let last = self.links.only_reader(view.node.output(0)?).filter(|_| !view.has_input(3));
        let project = last.filter(|&last| taken[last].is_none() && self.is_pointwise(last, rounded, true));
        let channels = |index: Option<usize>, axis: usize| Some(self.weights(index?)?[axis]);
        let images = typical_images(&view)?;
        let (expanded_from, projected_to) = (channels(expand, 1), channels(project, 0));
        let whole = Chain { depthwise, expanded_from, projected_to, images, rounded };
        let form = self.choose(&view, &whole)?;
        let member = |node: Option<usize>, role: Role| node.map(|node| (node, role));
        let nodes = [
            member(expand.filter(|_| form.expands()), Role::Expand),
            Some((index, Role::Depthwise)),
            member(project.filter(|_| form.projects()), Role::Project),
        ];
        let chain = Chain {
            expanded_from: expanded_from.filter(|_| form.expands()),
            projected_to: projected_to.filter(|_| form.projects()),
            ..whole
        };
        let record = chooser.into_record().map(Arc::from);
        Some(FoundChain { nodes: nodes.into_iter().flatten().collect(), chain, record })
    }

    fn view<'a>(&'a self, index: usize, packing: &'a Packing, chooser: &'a Chooser) -> NodeView<'a> {
        let (level, precision) = (self.level, self.options.precision);
        NodeView { graph: self.graph, node: &self.graph.nodes()[index], level, precision, packing, chooser }
    }

    /// The form that the chain is computed in; none for one by one.
    fn choose(&self, view: &NodeView, chain: &Chain) -> Option<Form> {
        let mut forms = vec![Form::Apart];
        let (expands, projects) = (chain.expanded_from.is_some(), chain.projected_to.is_some());
        forms.extend(expands.then_some(Form::First));
        forms.extend(projects.then_some(Form::Last));
        forms.extend((expands && projects).then_some(Form::All));
        let cost = |form| (form, chain.cost(self.level, form, self.options.threads));
        let candidates = forms.into_iter().map(cost).collect();
        let chain = *chain;
        Some(view.choose(move || describe(&chain), candidates)).filter(|&form| form != Form::Apart)
    }

    /// The parameters of a convolution of images whose weights and bias are constant.
    fn parameters(&self, view: &NodeView, conv: &Conv) -> Option<Parameters> {
        let dims = weight_dims(view).ok()?;
        let known = dims.len() == 4 && fits(conv, &dims) && is_of_images(view, conv, &dims);
        let same_type = known && view.input_type(0).ok() == view.output_type(0).ok();
        if !same_type || view.is_quantized() || view.constant(1).is_none() {
            return None;
        }
        let channels = [dims[1].checked_mul(conv.groups)?, dims[0]];
        convolution_parameters(&dims, channels, &conv.strides, &conv.dilations, conv.groups).ok()
    }

    /// Whether node `index` is a convolution of one tap that keeps the size of its images; what it adds, it may add only if
    /// it is the last one.
    fn is_pointwise(&self, index: usize, rounded: bool, is_last: bool) -> bool {
        let (packing, chooser) = (Packing::default(), Chooser::default());
        let view = self.view(index, &packing, &chooser);
        let Operator::Conv(conv) = &view.node.op else { return false };
        let Some(p) = self.parameters(&view, conv) else { return false };
        let keeps_size = match &conv.padding {
            Padding::Explicit { begin, end } => begin.iter().chain(end).all(|&n| n == 0),
            Padding::Valid | Padding::SameUpper | Padding::SameLower => true,
        };
        let one_tap = p.kernel == [1, 1] && p.stride == [1, 1] && p.groups == 1;
        let suits =
            !rounded || p.input_channels.is_multiple_of(2) && (is_last || self.is_of_convolution(&view));
        let type_fits = view.input_type(0).is_ok_and(|found| (found == ElementType::BF16) == rounded);
        one_tap && keeps_size && suits && type_fits && (is_last || !view.has_input(3))
    }

    /// Whether the images are the result of a convolution, so that pairs of their channels are aligned.
    fn is_of_convolution(&self, view: &NodeView) -> bool {
        let producer = view.node.input(0).and_then(|images| self.links.producers[images.index()]);
        producer.is_some_and(|node| matches!(self.graph.nodes()[node].op, Operator::Conv(_)))
    }

    fn weights(&self, index: usize) -> Option<Vec<usize>> {
        let weights = self.graph.nodes()[index].input(1)?;
        self.graph.value(weights).shape()?.as_fixed()
    }
}

/// The chain in words.
fn describe(chain: &Chain) -> String {
    let Chain { depthwise, expanded_from, projected_to, images, .. } = chain;
    let ([height, width], [down, across]) = (depthwise.kernel, depthwise.stride);
    let expanded = expanded_from.map_or(String::new(), |channels| format!("{channels} to "));
    let projected = projected_to.map_or(String::new(), |channels| format!(" to {channels}"));
    format!(
        "chain around a depthwise {height}x{width}, stride {down}x{across}, {expanded}{}{projected} channels of {}x{}x{}",
        depthwise.output_channels, images.batch, images.output[0], images.output[1]
    )
}
