//! The runtime: its life, models, and requests.
//!
//! [`initialize`] starts the scheduler, [`finalize`] stops it. [`load_model`] opens a model folder (or reads
//! an ONNX or TFLite file), places it on a device and has the device's backend compile it; the [`Model`] that
//! comes out is immutable. [`Model::create_request`] makes an [`InferRequest`], which holds what one
//! inference needs: [`InferRequest::infer`] checks the tensors and hands the inference to the scheduler,
//! [`InferRequest::wait`] collects its end. Requests of one model run independently of each other.

pub mod environment;
#[cfg(test)]
mod fake;
pub mod fork;
mod info;
mod intermediates;
mod lease;
mod lifecycle;
mod loading;
pub mod logging;
mod model;
mod names;
mod options;
mod partition;
mod platforms;
pub mod profile;
mod request;
mod scheduler;
mod staging;
pub mod tensor_file;
mod tune;
mod version;

pub use info::{OpInfo, TensorInfo};
pub use lifecycle::{finalize, initialize, is_initialized, local_info};
pub use loading::{ConvertOptions, Progress, convert, load_model};
pub use model::{InputShapes, Model};
pub use optimium_device as device;
pub use optimium_graph::ops::WeightEncoding;
pub use optimium_graph::passes::Compression;
pub use optimium_tensor as tensor;
pub use options::{LoadOptions, SchedulerType};
pub use request::{Callback, Completion, InferRequest, InferStatus, Tensors};
pub use tune::{TuneOptions, TuneReport, TunedLayer, tune_model};
pub use version::{Version, version};
