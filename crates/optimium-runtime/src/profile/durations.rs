//! From events to durations.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::info::{OpInfo, TensorInfo};

use super::event::{Activity, Event};

/// How long everything took, a value for each measured inference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// The model's name.
    pub model_name: String,
    /// Of whole inferences.
    pub model: Vec<Duration>,
    /// Of operations, in the order of the model: from the begin of the first worker's part to the end of the last one's.
    pub layers: Vec<(String, Vec<Duration>)>,
    /// Of copies, by the tensor's name.
    pub copies: Vec<(String, Vec<Duration>)>,
    /// Events that found no room in the buffer, and are missing here.
    pub lost_events: usize,
}

/// A begin and its end.
type Span = (Duration, Duration);

impl Durations {
    /// The durations of `events`, which are sorted by time.
    pub(crate) fn new(
        model_name: &str,
        (events, lost_events): (&[Event], usize),
        operations: &[OpInfo],
        tensors: &[TensorInfo],
    ) -> Durations {
        let inferences = spans(events, |event| (event.kind.activity == Activity::ModelExecute).then_some(0));
        let inferences: Vec<Span> = inferences.into_iter().map(|(_, span)| span).collect();
        let layers = spans(events, |event| match event.kind.activity {
            Activity::LayerExecute => Some(u64::from(event.operation?) << 32 | u64::from(event.thread?)),
            _ => None,
        });
        let copies = spans(events, |event| event.transfer.map(|transfer| u64::from(transfer.tensor) << 32));
        let name = |names: &[String], key: u64| names.get((key >> 32) as usize).cloned().unwrap_or_default();
        let operations: Vec<String> = operations.iter().map(|operation| operation.name.clone()).collect();
        let tensors: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        Durations {
            model_name: model_name.to_string(),
            model: inferences.iter().map(|&(begin, end)| end.saturating_sub(begin)).collect(),
            layers: grouped(&inferences, layers, |key| name(&operations, key)),
            copies: grouped(&inferences, copies, |key| name(&tensors, key)),
            lost_events,
        }
    }
}

/// The spans of the events that `key_of` gives a key: a begin and an end with the same key. Where the same goes on more than once at a
/// time, what begins first ends first, as inferences in a pipeline do.
fn spans(events: &[Event], key_of: impl Fn(&Event) -> Option<u64>) -> Vec<(u64, Span)> {
    let mut open: HashMap<u64, VecDeque<Duration>> = HashMap::new();
    let mut spans = Vec::new();
    for event in events {
        let Some(key) = key_of(event) else { continue };
        if event.kind.is_end {
            let begin = open.get_mut(&key).and_then(VecDeque::pop_front);
            spans.extend(begin.map(|begin| (key, (begin, event.time))));
        } else {
            open.entry(key).or_default().push_back(event.time);
        }
    }
    spans
}

/// The inference among those under way that a span belongs to: the first that has none of that `key` yet, since inferences follow
/// each other through every stage in order; the last where all have. None where the end of the inference was lost.
fn inference_of(
    inferences: &[Span],
    seen: &mut HashSet<(u64, usize)>,
    (key, (begin, end)): (u64, Span),
) -> Option<usize> {
    let begun = inferences.partition_point(|&(start, _)| start <= begin);
    let candidates = || (0..begun).rev().take_while(|&inference| end <= inferences[inference].1);
    let chosen = candidates().filter(|&inference| !seen.contains(&(key, inference))).last();
    let chosen = chosen.or_else(|| candidates().next())?;
    seen.insert((key, chosen));
    Some(chosen)
}

/// For each subject (the upper half of a key) and each inference, from its first begin to its last end.
fn grouped(
    inferences: &[Span],
    spans: Vec<(u64, Span)>,
    name: impl Fn(u64) -> String,
) -> Vec<(String, Vec<Duration>)> {
    let mut hulls: BTreeMap<(u64, usize), Span> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (key, (begin, end)) in spans {
        let Some(inference) = inference_of(inferences, &mut seen, (key, (begin, end))) else { continue };
        let hull = hulls.entry((key >> 32, inference)).or_insert((begin, end));
        *hull = (hull.0.min(begin), hull.1.max(end));
    }
    let mut all: Vec<(u64, String, Vec<Duration>)> = Vec::new();
    for ((subject, _), (begin, end)) in hulls {
        if all.last().is_none_or(|last| last.0 != subject) {
            all.push((subject, name(subject << 32), Vec::new()));
        }
        if let Some((_, _, durations)) = all.last_mut() {
            durations.push(end.saturating_sub(begin));
        }
    }
    all.into_iter().map(|(_, name, durations)| (name, durations)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::EventKind;
    use super::*;

    fn event(activity: Activity, is_end: bool, time: u64, part: Option<(u32, u32)>) -> Event {
        Event {
            kind: EventKind { activity, is_end },
            time: Duration::from_nanos(time),
            operation: part.map(|(operation, _)| operation),
            thread: part.map(|(_, thread)| thread),
            transfer: None,
        }
    }

    #[test]
    fn layers_last_from_the_first_part_to_the_last() {
        let model = |is_end, time| event(Activity::ModelExecute, is_end, time, None);
        let layer = |is_end, time, part| event(Activity::LayerExecute, is_end, time, Some(part));
        let events = [
            model(false, 0),
            layer(false, 1, (0, 0)),
            layer(false, 2, (0, 1)),
            layer(true, 5, (0, 0)),
            layer(false, 5, (1, 0)),
            layer(true, 6, (0, 1)),
            layer(true, 9, (1, 0)),
            model(true, 10),
            model(false, 20),
            layer(false, 21, (1, 1)),
            layer(true, 22, (1, 1)),
            layer(false, 23, (1, 1)),
            layer(true, 26, (1, 1)),
            model(true, 27),
            // The end of this inference was lost.
            layer(false, 30, (0, 0)),
            layer(true, 31, (0, 0)),
        ];
        assert_eq!(durations(&events), ([10, 7].to_vec(), [[5].to_vec(), [4, 5].to_vec()]));
    }

    #[test]
    fn layers_belong_to_inferences_that_overlap() {
        let model = |is_end, time| event(Activity::ModelExecute, is_end, time, None);
        let layer = |is_end, time, part| event(Activity::LayerExecute, is_end, time, Some(part));
        let inference = |start: u64, wait: u64| {
            [
                model(false, start),
                layer(false, start + 1, (0, 0)),
                layer(true, start + 9, (0, 0)),
                layer(false, start + 10 + wait, (1, 1)),
                layer(true, start + 18 + 2 * wait, (1, 1)),
                model(true, start + 20 + 2 * wait),
            ]
        };
        let mut events: Vec<Event> =
            [(0, 0), (10, 1), (20, 2)].map(|(start, wait)| inference(start, wait)).concat();
        events.sort_by_key(|event| event.time);
        assert_eq!(durations(&events), ([20, 22, 24].to_vec(), [[8; 3].to_vec(), [8, 9, 10].to_vec()]));
    }

    /// Nanoseconds of the inferences, and of the layers 0 and 1.
    fn durations(events: &[Event]) -> (Vec<u128>, [Vec<u128>; 2]) {
        let inferences = spans(events, |event| (event.kind.activity == Activity::ModelExecute).then_some(0));
        let inferences: Vec<Span> = inferences.into_iter().map(|(_, span)| span).collect();
        let layers = spans(events, |event| {
            (event.kind.activity == Activity::LayerExecute)
                .then(|| u64::from(event.operation.unwrap()) << 32 | u64::from(event.thread.unwrap()))
        });
        let layers = grouped(&inferences, layers, |key| (key >> 32).to_string());
        let nanoseconds = |all: &[Duration]| all.iter().map(Duration::as_nanos).collect::<Vec<_>>();
        let of = |name: &str| {
            let layer = layers.iter().find(|layer| layer.0 == name);
            nanoseconds(layer.map_or(&[], |layer| &layer.1))
        };
        (inferences.iter().map(|&(begin, end)| (end - begin).as_nanos()).collect(), ["0", "1"].map(of))
    }
}
