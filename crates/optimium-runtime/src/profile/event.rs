//! The events of a profile.

use std::time::Duration;

use optimium_device::DeviceId;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// A whole inference.
    ModelExecute,
    /// A worker's part of an operation.
    LayerExecute,
    /// Handing work to a device.
    Launch,
    /// A device at work.
    DeviceExecute,
    /// A tensor on its way to another device.
    Copy,
    /// A request that waits for its turn.
    Queue,
    /// An operation that waits for another device.
    Wait,
}

impl Activity {
    /// All of them.
    pub const ALL: [Activity; 7] = [
        Activity::ModelExecute,
        Activity::LayerExecute,
        Activity::Launch,
        Activity::DeviceExecute,
        Activity::Copy,
        Activity::Queue,
        Activity::Wait,
    ];

    fn name(self) -> &'static str {
        match self {
            Activity::ModelExecute => "MODEL_EXECUTE",
            Activity::LayerExecute => "LAYER_EXECUTE",
            Activity::Launch => "LAUNCH",
            Activity::DeviceExecute => "DEVICE_EXECUTE",
            Activity::Copy => "COPY",
            Activity::Queue => "QUEUE",
            Activity::Wait => "WAIT",
        }
    }
}

/// The begin or the end of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKind {
    /// The activity.
    pub activity: Activity,
    /// Whether it ends.
    pub is_end: bool,
}

impl EventKind {
    /// All of them: the begin of an activity is followed by its end.
    pub fn all() -> impl Iterator<Item = EventKind> {
        Activity::ALL
            .into_iter()
            .flat_map(|activity| [false, true].map(|is_end| EventKind { activity, is_end }))
    }

    /// Its documented name: `LAYER_EXECUTE_BEGIN`.
    pub fn name(self) -> String {
        format!("{}_{}", self.activity.name(), if self.is_end { "END" } else { "BEGIN" })
    }
}

/// A tensor on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The tensor's index among those of the model.
    pub tensor: u32,
    /// The device that has it.
    pub source: DeviceId,
    /// The device that gets it.
    pub destination: DeviceId,
}

/// Something that began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When, since the first profile of this process was prepared: all its profiles share this clock.
    pub time: Duration,
    /// The index of the operation, for layers and waits.
    pub operation: Option<u32>,
    /// The number of the worker, for layers: 0 is the thread that leads the inference.
    pub thread: Option<u32>,
    /// What is copied, for copies.
    pub transfer: Option<Transfer>,
}
