//! The buffer that events are written to.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use optimium_device::{DeviceId, DeviceKind, PlatformKind};
use optimium_sync::{EventBuffer, Words};
use optimium_tensor::{Error, ErrorKind, Result};

use super::event::{Activity, Event, EventKind, Transfer};

/// A buffer of events for any number of writers, who never wait: when there is no more room, further events are counted and
/// lost. Both events of an activity are kept, or both are lost.
#[derive(Debug)]
pub struct EventRecorder {
    /// An event's words: the kind and one, the thread, and the operation or the tensor; nanoseconds since the origin; source and
    /// destination of a copy.
    buffer: EventBuffer,
    origin: Instant,
}

/// What an activity is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The model.
    Model,
    /// An operation, by its index.
    Operation(u32),
    /// A worker's part of an operation.
    Part {
        /// The operation's index.
        operation: u32,
        /// The worker's number.
        thread: u32,
    },
    /// A tensor on its way.
    Transfer(Transfer),
}

impl EventRecorder {
    /// A recorder with room for `bytes` bytes of events, at least for one pair.
    ///
    /// # Errors
    /// [`OutOfResource`](ErrorKind::OutOfResource) where there is not so much memory.
    pub fn new(bytes: usize) -> Result<EventRecorder> {
        let buffer = EventBuffer::new((bytes / EventBuffer::BYTES_PER_EVENT).max(2)).map_err(|cause| {
            Error::new(ErrorKind::OutOfResource, format!("no memory for {bytes} bytes of events"))
                .with_cause(cause)
        })?;
        Ok(EventRecorder { buffer, origin: common_origin() })
    }

    /// Records that `activity` lasted from `start` to `end`.
    pub fn record(&self, activity: Activity, subject: Subject, start: Instant, end: Instant) {
        self.buffer.push_pair(|| {
            let (about, devices) = encoded(subject);
            [(start, false), (end, true)].map(|(time, is_end)| {
                let since = u64::try_from(time.saturating_duration_since(self.origin).as_nanos());
                let kind = 2 * activity as u64 + u64::from(is_end);
                [about | (kind + 1) << KIND_SHIFT, since.unwrap_or(u64::MAX), devices]
            })
        });
    }

    /// The events so far, by time.
    pub fn events(&self) -> Vec<Event> {
        let mut events: Vec<Event> = self.buffer.events().filter_map(decoded).collect();
        // What begins where something else ends comes after it: the sort keeps ends and begins of one time in the order of writing.
        events.sort_by_key(|event| event.time);
        events
    }

    /// Events that found no room.
    pub fn lost(&self) -> usize {
        self.buffer.lost()
    }

    /// Bytes that would have had room for all events so far.
    pub fn needed_bytes(&self) -> usize {
        self.buffer.asked().saturating_mul(EventBuffer::BYTES_PER_EVENT)
    }
}

/// When the first recorder of this process was made. All recorders count from then on, so that what several of them saw at the same
/// time can be put side by side.
fn common_origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

const KIND_SHIFT: u32 = 56;
const THREAD_SHIFT: u32 = 32;
const THREAD_MASK: u64 = 0xff_ffff;

/// The parts of an event's words that say what it is about.
fn encoded(subject: Subject) -> (u64, u64) {
    match subject {
        Subject::Model => (0, 0),
        Subject::Operation(operation) => (u64::from(operation), 0),
        Subject::Part { operation, thread } => {
            ((u64::from(thread) & THREAD_MASK) << THREAD_SHIFT | u64::from(operation), 0)
        }
        Subject::Transfer(Transfer { tensor, source, destination }) => {
            (u64::from(tensor), device_code(source) << 32 | device_code(destination))
        }
    }
}

fn decoded([what, time, devices]: Words) -> Option<Event> {
    let kind = EventKind::all().nth(usize::try_from((what >> KIND_SHIFT).checked_sub(1)?).ok()?)?;
    let number = what as u32;
    let has_operation = matches!(kind.activity, Activity::LayerExecute | Activity::Wait);
    Some(Event {
        kind,
        time: Duration::from_nanos(time),
        operation: has_operation.then_some(number),
        thread: (kind.activity == Activity::LayerExecute)
            .then_some((what >> THREAD_SHIFT & THREAD_MASK) as u32),
        transfer: match kind.activity {
            Activity::Copy => Some(Transfer {
                tensor: number,
                source: device_of_code(devices >> 32)?,
                destination: device_of_code(devices & 0xffff_ffff)?,
            }),
            _ => None,
        },
    })
}

/// Platform, kind, number and host, a byte each.
fn device_code(device: DeviceId) -> u64 {
    let platform = PlatformKind::ALL.iter().position(|&platform| platform == device.platform);
    let kind = DeviceKind::ALL.iter().position(|&kind| kind == device.device_kind);
    let byte = |value: u64| value.min(0xff);
    let position = |position: Option<usize>| byte(position.map_or(0xff, |position| position as u64));
    position(platform) << 24
        | position(kind) << 16
        | byte(u64::from(device.index)) << 8
        | byte(u64::from(device.host_id))
}

fn device_of_code(code: u64) -> Option<DeviceId> {
    let byte = |shift: u32| (code >> shift & 0xff) as u32;
    Some(DeviceId {
        platform: *PlatformKind::ALL.get(byte(24) as usize)?,
        device_kind: *DeviceKind::ALL.get(byte(16) as usize)?,
        index: byte(8),
        host_id: byte(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_were_recorded() {
        let recorder = EventRecorder::new(1 << 12).unwrap();
        let source: DeviceId = "native:x64:0@0".parse().unwrap();
        let transfer = Transfer { tensor: 7, source, destination: DeviceId { index: 3, ..source } };
        let at = |nanoseconds| recorder.origin + Duration::from_nanos(nanoseconds);
        recorder.record(Activity::ModelExecute, Subject::Model, at(10), at(90));
        recorder.record(Activity::LayerExecute, Subject::Part { operation: 5, thread: 1 }, at(20), at(30));
        recorder.record(Activity::Copy, Subject::Transfer(transfer), at(40), at(50));
        recorder.record(Activity::Wait, Subject::Operation(6), at(60), at(70));
        let events = recorder.events();
        let names: Vec<String> = events.iter().map(|event| event.kind.name()).collect();
        let expected = [
            "MODEL_EXECUTE_BEGIN",
            "LAYER_EXECUTE_BEGIN",
            "LAYER_EXECUTE_END",
            "COPY_BEGIN",
            "COPY_END",
            "WAIT_BEGIN",
            "WAIT_END",
            "MODEL_EXECUTE_END",
        ];
        assert_eq!(names, expected);
        let kept: Vec<_> =
            events.iter().map(|event| (event.operation, event.thread, event.transfer)).collect();
        let (layer, copy, wait) =
            ((Some(5), Some(1), None), (None, None, Some(transfer)), (Some(6), None, None));
        assert_eq!(kept[1..7], [layer, layer, copy, copy, wait, wait]);
        assert_eq!((kept[0], kept[7]), ((None, None, None), (None, None, None)));
        assert_eq!(recorder.lost(), 0);
    }

    #[test]
    fn events_without_room_are_counted() {
        let recorder = EventRecorder::new(5 * EventBuffer::BYTES_PER_EVENT).unwrap();
        let now = Instant::now();
        (0..400).for_each(|_| recorder.record(Activity::ModelExecute, Subject::Model, now, now));
        assert_eq!(recorder.events().len(), 4);
        assert_eq!(recorder.lost(), 796);
    }
}
