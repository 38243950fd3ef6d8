//! From times to choices.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use optimium_device::{Choices, KernelChoice};
use optimium_tensor::Result;

use super::trial::{Bench, Trial};
use super::{TuneReport, TunedLayer};
use crate::loading::Progress;

/// Candidates of one problem that are measured at most, and how much more than the best one's their estimated cost may be.
const MOST_CANDIDATES: usize = 8;
const WORTH_A_TRIAL: f64 = 1.6;
/// How much of a layer's time a candidate must save when it is measured first, and when all that were chosen are measured again;
/// and how much of an inference's time all of them must save to be worth the memory of other packed weights.
const GAIN: f64 = 0.03;
const CONFIRMED_GAIN: f64 = 0.015;
const WHOLE_GAIN: f64 = 0.01;
/// Turns of each phase, and how long one of them takes, at least.
const TURNS: usize = 4;
const TURN: Duration = Duration::from_millis(20);

/// Operations that are the same problem.
struct Problem {
    choice: KernelChoice,
    operations: Vec<usize>,
    /// The candidates that are worth a trial.
    candidates: usize,
    /// The candidate that is taken.
    taken: usize,
}

/// What the search found.
pub(super) struct Found {
    pub(super) choices: Choices,
    pub(super) report: TuneReport,
}

/// Phases of equal length, and where in them the search is.
struct Schedule<'a> {
    progress: Progress<'a>,
    phases: usize,
    phase: usize,
    time: Duration,
}

impl Schedule<'_> {
    /// Lets two trials take turns until the phase is over.
    fn alternate(
        &mut self,
        what: &str,
        [first, second]: [&mut Trial<'_>; 2],
        work: impl Fn(&mut Trial<'_>, usize) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut turns = 0;
        while turns < TURNS || start.elapsed() < self.time {
            let of_phase = (start.elapsed().as_secs_f64() / self.time.as_secs_f64().max(1e-9)).min(1.0);
            (self.progress)(what, ((self.phase as f64 + of_phase) / self.phases as f64) as f32)?;
            work(first, turns)?;
            work(second, turns)?;
            turns += 1;
        }
        self.phase += 1;
        Ok(())
    }
}

/// The choices that make the model faster, found in about `time`.
///
/// # Errors
/// As those of the trials, and of `progress`.
pub(super) fn search(bench: &Bench<'_>, time: Duration, progress: Progress<'_>) -> Result<Found> {
    let mut base = bench.trial(Choices::default())?;
    let mut problems = problems_of(&base);
    let ranks = problems.iter().map(|problem| problem.candidates).max().unwrap_or(1);
    let phases = ranks + 1;
    let mut schedule = Schedule { progress, phases, phase: 0, time: time / phases as u32 };
    let mut best = vec![1.0 - GAIN; problems.len()];
    for rank in 1..ranks {
        let of_rank = problems.iter().filter(|problem| rank < problem.candidates);
        let mut trial = bench.trial(choices_of(of_rank, |_| rank))?;
        base.reset();
        let what = format!("measuring candidates {} of {ranks}", rank + 1);
        schedule.alternate(&what, [&mut base, &mut trial], |trial, turn| trial.time_layers(turn, TURN))?;
        for (problem, best) in problems.iter_mut().zip(&mut best) {
            let ratio = trial.ratio(&base, &problem.operations);
            if rank < problem.candidates && ratio < *best {
                (*best, problem.taken) = (ratio, rank);
            }
        }
    }
    confirm(bench, &mut schedule, base, problems)
}

/// Measures all that was chosen together, takes back what gains nothing so, and everything where the model is not faster.
fn confirm<'b>(
    bench: &'b Bench<'_>,
    schedule: &mut Schedule<'_>,
    mut base: Trial<'b>,
    mut problems: Vec<Problem>,
) -> Result<Found> {
    let choices = problems.iter().map(|problem| problem.operations.len()).sum();
    let taken =
        |problems: &[Problem]| choices_of(problems.iter().filter(|one| one.taken > 0), |one| one.taken);
    let mut trial = bench.trial(taken(&problems))?;
    base.reset();
    schedule.alternate("confirming", [&mut base, &mut trial], |trial, turn| trial.time_layers(turn, TURN))?;
    let mut dropped = false;
    for problem in problems.iter_mut().filter(|problem| problem.taken > 0) {
        if trial.ratio(&base, &problem.operations) > 1.0 - CONFIRMED_GAIN {
            (problem.taken, dropped) = (0, true);
        }
    }
    let layers = layers_of(bench, &base, &trial, &problems);
    if dropped {
        trial = bench.trial(taken(&problems))?;
    }
    schedule.alternate("measuring the model", [&mut base, &mut trial], |trial, turn| {
        trial.time_whole(turn, TURN)
    })?;
    let before = base.whole();
    if layers.is_empty() || trial.whole_ratio(&base) > 1.0 - WHOLE_GAIN {
        let report = TuneReport { layers: Vec::new(), choices, before, after: before };
        return Ok(Found { choices: Choices::default(), report });
    }
    let report = TuneReport { layers, choices, before, after: trial.whole() };
    Ok(Found { choices: taken(&problems), report })
}

/// The problems of a model that was compiled with the estimate's choices.
fn problems_of(base: &Trial<'_>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, choice) in base.executable.choices().into_iter().enumerate() {
        let Some(choice) = choice else { continue };
        if let Some(&place) = places.get(&choice.key) {
            problems[place].operations.push(index);
            continue;
        }
        places.insert(choice.key.clone(), problems.len());
        let limit = choice.candidates[0].cost * WORTH_A_TRIAL;
        let worth = choice.candidates.iter().take_while(|candidate| candidate.cost <= limit).count();
        let candidates = worth.clamp(1, MOST_CANDIDATES);
        problems.push(Problem { choice, operations: vec![index], candidates, taken: 0 });
    }
    problems
}

/// For each problem the candidate of the rank that `rank` says.
fn choices_of<'a>(problems: impl Iterator<Item = &'a Problem>, rank: impl Fn(&Problem) -> usize) -> Choices {
    let named = |problem: &Problem| {
        let candidate = problem.choice.candidates.get(rank(problem))?;
        Some((problem.choice.key.clone(), candidate.name.clone()))
    };
    problems.filter_map(named).collect()
}

/// The layers that take another kernel, with their times before and after.
fn layers_of(
    bench: &Bench<'_>,
    base: &Trial<'_>,
    trial: &Trial<'_>,
    problems: &[Problem],
) -> Vec<TunedLayer> {
    let operations = base.executable.operations();
    let changed = problems.iter().filter(|problem| problem.taken > 0);
    let mut places: Vec<(usize, &Problem)> =
        changed.flat_map(|problem| problem.operations.iter().map(move |&index| (index, problem))).collect();
    places.sort_by_key(|(index, _)| *index);
    let layer = |(index, problem): (usize, &Problem)| {
        let operation = &operations[index];
        let name = |rank: usize| problem.choice.candidates[rank].name.clone();
        let output = operation.outputs.first().map_or("", String::as_str);
        TunedLayer {
            name: operation.name.clone(),
            operator: operation.operator.clone(),
            shape: bench.values.shape_of(bench.graph, output),
            old: name(0),
            new: name(problem.taken),
            before: base.layer(index),
            after: trial.layer(index),
        }
    };
    places.into_iter().map(layer).collect()
}
