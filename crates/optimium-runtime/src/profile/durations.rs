//! From events to durations.

use std::collections::{BTreeMap, HashMap};
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

/// The spans of the events that `key_of` gives a key: a begin and the next end with the same key.
fn spans(events: &[Event], key_of: impl Fn(&Event) -> Option<u64>) -> Vec<(u64, Span)> {
    let mut open: HashMap<u64, Duration> = HashMap::new();
    let mut spans = Vec::new();
    for event in events {
        let Some(key) = key_of(event) else { continue };
        if event.kind.is_end {
            spans.extend(open.remove(&key).map(|begin| (key, (begin, event.time))));
        } else {
            open.insert(key, event.time);
        }
    }
    spans
}

/// For each subject (the upper half of a key) and each inference, from its first begin to its last end.
fn grouped(
    inferences: &[Span],
    spans: Vec<(u64, Span)>,
    name: impl Fn(u64) -> String,
) -> Vec<(String, Vec<Duration>)> {
    let mut hulls: BTreeMap<(u64, usize), Span> = BTreeMap::new();
    for (key, (begin, end)) in spans {
        let inference = inferences.partition_point(|&(start, _)| start <= begin).checked_sub(1);
        // Where the buffer was full before the end of an inference, its layers belong to none.
        let Some(inference) = inference.filter(|&inference| end <= inferences[inference].1) else {
            continue;
        };
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
        let names = ["a", "b"].map(str::to_string);
        let layers = spans(&events, |event| {
            (event.kind.activity == Activity::LayerExecute)
                .then(|| u64::from(event.operation.unwrap()) << 32 | u64::from(event.thread.unwrap()))
        });
        let inferences = [(0, 10), (20, 27)].map(|(a, b)| (Duration::from_nanos(a), Duration::from_nanos(b)));
        let grouped = grouped(&inferences, layers, |key| names[(key >> 32) as usize].clone());
        let nanoseconds = |values: &[u64]| values.iter().map(|&value| Duration::from_nanos(value)).collect();
        assert_eq!(
            grouped,
            [("a".to_string(), nanoseconds(&[5])), ("b".to_string(), nanoseconds(&[4, 5]))]
                as [(_, Vec<_>); 2]
        );
    }
}
