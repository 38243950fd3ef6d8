//! A lowered node, and the step it becomes when shapes are known.

use std::cell::Cell;
use std::sync::Arc;

use optimium_kernels::Part;
use optimium_tensor::{ElementType, Error, Expr, Result, SymbolValues};

use crate::lower::ChoiceRecord;
use crate::memory::{Memory, Operand};
use crate::symbols::{SymbolOrder, SymbolSet};

/// One node with its kernel chosen and its weights packed.
pub(crate) struct Layer {
    /// The kernel and its variant, for people.
    pub(crate) kernel: String,
    /// Inputs whose memory the output may take over, in order of preference.
    pub(crate) in_place: Vec<usize>,
    /// Which operands may lie as columns of larger rows.
    pub(crate) columns: Columns,
    /// Inputs that an output continues along an axis: input, output, axis. Both are reached as
    /// [blocks](crate::memory::BlockSlice), and what was there may stay in its place.
    pub(crate) appends: Vec<(usize, usize, usize)>,
    /// What it could have been, where there were several kernels.
    pub(crate) choice: Option<ChoiceRecord>,
    /// What it computes.
    pub(crate) nodes: Nodes,
    bind: Box<dyn Fn(&mut Binding) -> Result<Step> + Send + Sync>,
}

impl Layer {
    /// A layer whose steps `bind` makes.
    pub(crate) fn new(
        kernel: impl Into<String>,
        bind: impl Fn(&mut Binding) -> Result<Step> + Send + Sync + 'static,
    ) -> Layer {
        Layer {
            kernel: kernel.into(),
            in_place: Vec::new(),
            columns: Columns::default(),
            appends: Vec::new(),
            choice: None,
            nodes: Nodes::Own,
            bind: Box::new(bind),
        }
    }

    /// The layer of a node that a later layer computes.
    pub(crate) fn of_later_layer() -> Layer {
        Layer { nodes: Nodes::None, ..Layer::new("part of a later layer", |_| Ok(Step::nothing())) }
    }

    /// The layer computes those nodes, the last of which is its own.
    #[must_use]
    pub(crate) fn computes(mut self, nodes: Vec<usize>) -> Layer {
        self.nodes = Nodes::Chain(nodes);
        self
    }

    /// The kernel was chosen among those of `record`.
    #[must_use]
    pub(crate) fn chosen(mut self, record: Option<ChoiceRecord>) -> Layer {
        self.choice = record;
        self
    }

    /// The output may take over the memory of these inputs.
    #[must_use]
    pub(crate) fn in_place(mut self, inputs: &[usize]) -> Layer {
        self.in_place = inputs.to_vec();
        self
    }

    /// The outputs may be written behind the inputs, along the axes.
    #[must_use]
    pub(crate) fn appends(mut self, appends: &[(usize, usize, usize)]) -> Layer {
        self.appends = appends.to_vec();
        self
    }

    /// These inputs may be columns of larger rows.
    #[must_use]
    pub(crate) fn reads_columns(mut self, inputs: &[usize]) -> Layer {
        self.columns.reads = inputs.to_vec();
        self
    }

    /// The outputs may be columns of larger rows.
    #[must_use]
    pub(crate) fn writes_columns(mut self) -> Layer {
        self.columns.writes = true;
        self
    }

    /// These inputs may lie in the rows whose other columns the layer writes.
    #[must_use]
    pub(crate) fn interleaves(mut self, inputs: &[usize]) -> Layer {
        self.columns.interleaved = inputs.to_vec();
        self
    }

    /// The step for concrete shapes.
    pub(crate) fn bind(&self, binding: &mut Binding) -> Result<Step> {
        (self.bind)(binding)
    }
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// Its node.
    Own,
    /// Nodes that follow each other; its own is the last. What lies between is nowhere. Its operands are those of
    /// [`operands`](crate::chain::operands).
    Chain(Vec<usize>),
    /// Nothing: a later layer computes its node.
    None,
}

/// Which operands of a layer may lie as *columns*: rows, of the last axis, at a distance larger than their own length, between
/// which other tensors lie. All others are contiguous.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    /// Inputs that may.
    pub(crate) reads: Vec<usize>,
    /// Whether outputs may.
    pub(crate) writes: bool,
    /// Inputs that may even lie in the rows whose other columns are written: they are read as
    /// [`Source`](optimium_kernels::elementwise::Source).
    pub(crate) interleaved: Vec<usize>,
}

/// Weights that a step begins with.
pub(crate) trait FirstWeights: Send + Sync {
    /// Those that a part reads first, as elements of any type: what is worth to be fetched while the step before it ends.
    fn of(&self, part: Part) -> &[f32];
}

/// One operation with everything resolved.
#[derive(Clone)]
pub(crate) struct Step {
    /// Whether all workers take part; otherwise one does it alone.
    pub(crate) parallel: bool,
    /// Rounds that it takes: all workers have to end one before any of them begins the next.
    pub(crate) rounds: usize,
    /// The weights that it reads first, where it reads some in order.
    pub(crate) first: Option<Arc<dyn FirstWeights>>,
    run: Arc<dyn Fn(&Memory, Part, usize) -> Result<()> + Send + Sync>,
    nothing: bool,
}

impl Step {
    /// A step whose work is divided between the workers.
    pub(crate) fn parallel(run: impl Fn(&Memory, Part) -> Result<()> + Send + Sync + 'static) -> Step {
        Step::in_rounds(1, move |memory, part, _| run(memory, part))
    }

    /// A step whose work is divided between the workers, who have to meet between its `rounds`: `run` does one of them.
    pub(crate) fn in_rounds(
        rounds: usize,
        run: impl Fn(&Memory, Part, usize) -> Result<()> + Send + Sync + 'static,
    ) -> Step {
        Step { parallel: true, rounds, first: None, run: Arc::new(run), nothing: false }
    }

    /// A step that one worker does alone.
    pub(crate) fn serial(run: impl Fn(&Memory) -> Result<()> + Send + Sync + 'static) -> Step {
        Step { parallel: false, ..Step::parallel(move |memory, _| run(memory)) }
    }

    /// A step that is done already: its result lies where its operand does.
    pub(crate) fn nothing() -> Step {
        Step { nothing: true, ..Step::serial(|_| Ok(())) }
    }

    /// The step begins with these weights.
    #[must_use]
    pub(crate) fn reads_first(mut self, weights: impl FirstWeights + 'static) -> Step {
        self.first = Some(Arc::new(weights));
        self
    }

    /// Does a part of a round.
    ///
    /// # Errors
    /// What the kernel reports.
    pub(crate) fn run(&self, memory: &Memory, part: Part, round: usize) -> Result<()> {
        (self.run)(memory, part, round)
    }

    /// Whether it need not be run.
    pub(crate) fn is_nothing(&self) -> bool {
        self.nothing
    }
}

/// An operand with its concrete shape.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) operand: Operand,
    pub(crate) dims: Vec<usize>,
    pub(crate) element_type: ElementType,
    /// Elements from one row (of the last axis) to the next: its length, but for columns of larger rows.
    pub(crate) row_stride: usize,
}

impl Bound {
    /// The distance from element to element along each axis, in elements.
    pub(crate) fn strides(&self) -> Vec<isize> {
        let mut strides = vec![1isize; self.dims.len()];
        let mut stride = self.row_stride as isize;
        for axis in (0..self.dims.len().saturating_sub(1)).rev() {
            strides[axis] = stride;
            stride = stride.saturating_mul(self.dims[axis].max(1) as isize);
        }
        strides
    }

    /// Whether it is stored in bfloat16.
    pub(crate) fn is_rounded(&self) -> bool {
        self.element_type == ElementType::BF16
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// What a layer sees when it is bound.
pub(crate) struct Binding<'a> {
    pub(crate) inputs: &'a [Option<Arc<Bound>>],
    pub(crate) outputs: &'a [Option<Arc<Bound>>],
    symbols: &'a SymbolValues,
    order: &'a SymbolOrder,
    /// The symbols of all expressions that were evaluated.
    evaluated: Cell<SymbolSet>,
    /// The largest wishes of all steps so far.
    pub(crate) scratch: Scratch,
}

/// Bytes of scratch memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scratch {
    /// For each worker.
    pub(crate) each: usize,
    /// In steps that share it, for all workers together.
    pub(crate) shared: usize,
}

impl<'a> Binding<'a> {
    /// The operands of a node, the values and numbers of the symbols, and the scratch memory that was wished for so far.
    pub(crate) fn new(
        inputs: &'a [Option<Arc<Bound>>],
        outputs: &'a [Option<Arc<Bound>>],
        (symbols, order): (&'a SymbolValues, &'a SymbolOrder),
        scratch: Scratch,
    ) -> Self {
        Binding { inputs, outputs, symbols, order, evaluated: Cell::default(), scratch }
    }

    /// The symbols that the step depends on in other ways than through the operands.
    pub(crate) fn evaluated(&self) -> SymbolSet {
        self.evaluated.get()
    }

    /// Input `index`.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where it is left out.
    pub(crate) fn input(&self, index: usize) -> Result<Bound> {
        self.optional_input(index).ok_or_else(|| Error::model(format!("input {index} is missing")))
    }

    /// Input `index`, where it is there.
    pub(crate) fn optional_input(&self, index: usize) -> Option<Bound> {
        self.inputs.get(index)?.as_deref().cloned()
    }

    /// Output `index`.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where nobody wants it.
    pub(crate) fn output(&self, index: usize) -> Result<Bound> {
        self.optional_output(index).ok_or_else(|| Error::model(format!("output {index} is missing")))
    }

    /// Output `index`, where somebody wants it.
    pub(crate) fn optional_output(&self, index: usize) -> Option<Bound> {
        self.outputs.get(index)?.as_deref().cloned()
    }

    /// Asks for `count` elements of scratch memory for each worker.
    pub(crate) fn need_scratch<T>(&mut self, count: usize) {
        self.scratch.each = self.scratch.each.max((count * size_of::<T>()).next_multiple_of(64));
    }

    /// Asks for `count` elements of scratch memory for all workers together.
    pub(crate) fn need_shared_scratch<T>(&mut self, count: usize) {
        self.scratch.shared = self.scratch.shared.max(count * size_of::<T>());
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// As [`Expr::evaluate`].
    pub(crate) fn evaluate(&self, expr: &Expr) -> Result<i64> {
        if expr.as_const().is_none() {
            self.evaluated.set(self.evaluated.get().with(self.order.set_of(expr)));
        }
        expr.evaluate(self.symbols)
    }

    /// The value of an expression that is a size.
    ///
    /// # Errors
    /// As [`Expr::evaluate`], and [`Shape`](optimium_tensor::ErrorKind::Shape) where it is negative.
    pub(crate) fn evaluate_size(&self, expr: &Expr) -> Result<usize> {
        let n = self.evaluate(expr)?;
        usize::try_from(n).map_err(|_| Error::shape(format!("the size {expr} is {n}")))
    }
}
