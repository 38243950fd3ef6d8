//! Runs the steps of a bound plan: alone, or as a team.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use optimium_device::{Cancellation, Observer};
use optimium_kernels::Part;
use optimium_simd::FlushDenormals;
use optimium_tensor::{Error, ErrorKind, Result};

use crate::bind::{BoundPlan, BoundStep};
use crate::memory::Memory;
use crate::plan::{Plan, describe};
use crate::team::Barrier;

/// What is done around each step: nothing, or measuring it. The loops are compiled for both.
pub(crate) trait Watch: Sync {
    fn around(&self, worker: usize, step: &BoundStep, run: impl FnOnce() -> Result<()>) -> Result<()>;
}

/// Nobody watches.
pub(crate) struct Unwatched;

impl Watch for Unwatched {
    #[inline(always)]
    fn around(&self, _worker: usize, _step: &BoundStep, run: impl FnOnce() -> Result<()>) -> Result<()> {
        run()
    }
}

impl Watch for &dyn Observer {
    fn around(&self, worker: usize, step: &BoundStep, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let result = run();
        self.step(worker, step.node, start, Instant::now());
        result
    }
}

/// Runs all steps, or fewer where one fails or the inference is cancelled.
///
/// # Errors
/// What a step reports, with its node; [`InferCanceled`](ErrorKind::InferCanceled).
pub(crate) fn execute(
    plan: &Plan,
    bound: &BoundPlan,
    memory: &Memory,
    cancellation: &Cancellation,
    watch: impl Watch,
) -> Result<()> {
    let flush = plan.options.disable_denormals;
    if plan.team.threads() == 1 {
        let mut result = Ok(());
        plan.team.run_alone(|| {
            let _denormals = flush.then(FlushDenormals::enter);
            result = catch_unwind(AssertUnwindSafe(|| run_alone(plan, bound, memory, cancellation, &watch)))
                .unwrap_or_else(|panic| Err(panicked(&*panic)));
        });
        return result;
    }
    let march = March {
        plan,
        bound,
        memory,
        cancellation,
        barrier: Barrier::new(plan.team.threads()),
        last_step: AtomicUsize::new(usize::MAX),
        failure: Mutex::new(None),
    };
    plan.team.run(|worker| {
        let _denormals = flush.then(FlushDenormals::enter);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| march.walk(worker, &watch))) {
            march.fail(0, panicked(&*panic));
            march.barrier.break_open();
        }
    });
    march.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

fn run_alone(
    plan: &Plan,
    bound: &BoundPlan,
    memory: &Memory,
    cancellation: &Cancellation,
    watch: &impl Watch,
) -> Result<()> {
    for step in &bound.steps {
        if cancellation.is_cancelled() {
            return Err(canceled());
        }
        watch
            .around(0, step, || (step.step.run)(memory, Part::WHOLE))
            .map_err(|error| at(plan, step, error))?;
    }
    Ok(())
}

/// A team on its way through the steps.
struct March<'a> {
    plan: &'a Plan,
    bound: &'a BoundPlan,
    memory: &'a Memory<'a>,
    cancellation: &'a Cancellation,
    barrier: Barrier,
    /// The step after which everyone stops. It is looked at behind barriers only, and names a step, so that all workers stop at
    /// the same one.
    last_step: AtomicUsize,
    failure: Mutex<Option<Error>>,
}

impl March<'_> {
    fn walk(&self, worker: usize, watch: &impl Watch) {
        let part = Part { index: worker, count: self.plan.team.threads() };
        for (index, step) in self.bound.steps.iter().enumerate() {
            if worker == 0 && self.cancellation.is_cancelled() {
                self.fail(index, canceled());
            }
            let result = match (step.step.parallel, worker) {
                (true, _) => watch.around(worker, step, || (step.step.run)(self.memory, part)),
                (false, 0) => watch.around(worker, step, || (step.step.run)(self.memory, Part::WHOLE)),
                (false, _) => Ok(()),
            };
            if let Err(error) = result {
                self.fail(index, at(self.plan, step, error));
            }
            if step.barrier && (!self.barrier.wait() || self.last_step.load(Ordering::Acquire) <= index) {
                return;
            }
        }
    }

    /// Remembers the first failure and ends the march after step `index`.
    fn fail(&self, index: usize, error: Error) {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
        self.last_step.fetch_min(index, Ordering::AcqRel);
    }
}

fn at(plan: &Plan, step: &BoundStep, error: Error) -> Error {
    error.context(describe(&plan.graph.nodes()[step.node]))
}

fn canceled() -> Error {
    Error::new(ErrorKind::InferCanceled, "the inference was cancelled")
}

/// A panic as an error: a defect of the runtime, which must not cross to the caller.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::infer(format!("internal error, please report it: {}", text.unwrap_or("a worker panicked")))
}
