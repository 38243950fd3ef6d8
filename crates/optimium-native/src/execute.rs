//! Runs the steps of a bound plan: alone, or as a team.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use optimium_device::{Cancellation, Observer};
use optimium_kernels::Part;
use optimium_simd::FlushDenormals;
use optimium_tensor::{Error, ErrorKind, Result};

use crate::bind::{BoundPlan, BoundStep, Then};
use crate::layer::Step;
use crate::memory::Memory;
use crate::plan::{Plan, describe};
use crate::team::Worker;

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
    if plan.team.threads() == 1 || bound.is_serial {
        let mut result = Ok(());
        plan.team.run_alone(|| {
            let _denormals = flush.then(FlushDenormals::enter);
            result = catch_unwind(AssertUnwindSafe(|| run_alone(plan, bound, memory, cancellation, &watch)))
                .unwrap_or_else(|panic| Err(panicked(&*panic)));
        });
        return result;
    }
    let march = March { plan, bound, memory, cancellation, failure: Mutex::new(None) };
    plan.team.run(|mut worker| {
        let _denormals = flush.then(FlushDenormals::enter);
        let result = catch_unwind(AssertUnwindSafe(|| march.walk(&mut worker, &watch)))
            .unwrap_or_else(|panic| Err(panicked(&*panic)));
        if let Err(error) = result {
            march.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            worker.give_up();
        }
    });
    march.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
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
        let mut rounds = 0..step.step.rounds;
        let memory = memory.before(step.following(Part::WHOLE));
        watch
            .around(0, step, || rounds.try_for_each(|round| step.step.run(&memory, Part::WHOLE, round)))
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
    /// The first failure of any worker.
    failure: Mutex<Option<Error>>,
}

impl March<'_> {
    /// The way of one worker, to the end or to where somebody gave up.
    fn walk(&self, worker: &mut Worker, watch: &impl Watch) -> Result<()> {
        let index = worker.index();
        let part = Part { index, count: self.plan.team.threads() };
        for step in &self.bound.steps {
            if index == 0 && self.cancellation.is_cancelled() {
                return Err(canceled());
            }
            let mut goes_on = true;
            if step.step.parallel || index == 0 {
                let memory = self.memory.before(step.following(part));
                let part = if step.step.parallel { part } else { Part::WHOLE };
                watch
                    .around(index, step, || {
                        goes_on = self.rounds(&step.step, &memory, part, worker)?;
                        Ok(())
                    })
                    .map_err(|error| at(self.plan, step, error))?;
            }
            if !goes_on || !go_on(step.then, worker) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// This worker's part of all rounds of a step; false where somebody gave up.
    #[inline(always)]
    fn rounds(&self, step: &Step, memory: &Memory, part: Part, worker: &mut Worker) -> Result<bool> {
        for round in 0..step.rounds {
            if round > 0 && step.parallel && !go_on(Then::All, worker) {
                return Ok(false);
            }
            step.run(memory, part, round)?;
        }
        Ok(true)
    }
}

/// Waits for those whose work the next step needs; false where somebody gave up.
fn go_on(then: Then, worker: &mut Worker) -> bool {
    if then == Then::GoOn {
        return true;
    }
    worker.arrive();
    match (then, worker.index()) {
        (Then::All, _) | (Then::First, 0) => worker.wait_for_all(),
        (Then::Others, 1..) => worker.wait_for_first(),
        _ => true,
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
