//! A lowered node, and the step it becomes when shapes are known.

use optimium_kernels::Part;
use optimium_tensor::{ElementType, Error, Expr, Result, SymbolValues};

use crate::memory::{Memory, Operand};

/// One node with its kernel chosen and its weights packed.
pub(crate) struct Layer {
    /// The kernel and its variant, for people.
    pub(crate) kernel: String,
    /// Inputs whose memory the output may take over, in order of preference.
    pub(crate) in_place: Vec<usize>,
    bind: Box<dyn Fn(&mut Binding) -> Result<Step> + Send + Sync>,
}

impl Layer {
    /// A layer whose steps `bind` makes.
    pub(crate) fn new(
        kernel: impl Into<String>,
        bind: impl Fn(&mut Binding) -> Result<Step> + Send + Sync + 'static,
    ) -> Layer {
        Layer { kernel: kernel.into(), in_place: Vec::new(), bind: Box::new(bind) }
    }

    /// The output may take over the memory of these inputs.
    #[must_use]
    pub(crate) fn in_place(mut self, inputs: &[usize]) -> Layer {
        self.in_place = inputs.to_vec();
        self
    }

    /// The step for concrete shapes.
    pub(crate) fn bind(&self, binding: &mut Binding) -> Result<Step> {
        (self.bind)(binding)
    }
}

/// One operation with everything resolved.
pub(crate) struct Step {
    /// Whether all workers take part; otherwise one does it alone.
    pub(crate) parallel: bool,
    pub(crate) run: Box<dyn Fn(&Memory, Part) -> Result<()> + Send + Sync>,
    nothing: bool,
}

impl Step {
    /// A step whose work is divided between the workers.
    pub(crate) fn parallel(run: impl Fn(&Memory, Part) -> Result<()> + Send + Sync + 'static) -> Step {
        Step { parallel: true, run: Box::new(run), nothing: false }
    }

    /// A step that one worker does alone.
    pub(crate) fn serial(run: impl Fn(&Memory) -> Result<()> + Send + Sync + 'static) -> Step {
        Step { parallel: false, run: Box::new(move |memory, _| run(memory)), nothing: false }
    }

    /// A step that is done already: its result lies where its operand does.
    pub(crate) fn nothing() -> Step {
        Step { parallel: false, run: Box::new(|_, _| Ok(())), nothing: true }
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
}

impl Bound {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// What a layer sees when it is bound.
pub(crate) struct Binding<'a> {
    pub(crate) inputs: &'a [Option<Bound>],
    pub(crate) outputs: &'a [Option<Bound>],
    pub(crate) symbols: &'a SymbolValues,
    /// Bytes of scratch memory that each worker needs, the largest wish of all steps.
    pub(crate) scratch: usize,
}

impl Binding<'_> {
    /// Input `index`.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where it is left out.
    pub(crate) fn input(&self, index: usize) -> Result<Bound> {
        self.optional_input(index).ok_or_else(|| Error::model(format!("input {index} is missing")))
    }

    /// Input `index`, where it is there.
    pub(crate) fn optional_input(&self, index: usize) -> Option<Bound> {
        self.inputs.get(index).cloned().flatten()
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
        self.outputs.get(index).cloned().flatten()
    }

    /// Asks for `count` elements of scratch memory for each worker.
    pub(crate) fn need_scratch<T>(&mut self, count: usize) {
        self.scratch = self.scratch.max((count * size_of::<T>()).next_multiple_of(64));
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// As [`Expr::evaluate`].
    pub(crate) fn evaluate(&self, expr: &Expr) -> Result<i64> {
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
