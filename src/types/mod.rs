//! The vocabulary every other module speaks: plain data, no I/O, no locks, no async.

mod blame;
mod clock;
mod id;
mod outcome;
mod scores;
mod tensor;

pub use blame::Blame;
pub use clock::{Budget, Instant, WallTime};
pub use id::{Digest, InvalidId, ItemId, ModelName, ModelRef, ModelVersion, RequestId};
pub use outcome::{Decision, Evidence, Reason, Severity, Verdict};
pub use scores::{Label, Labels, NotFinite, Probabilities};
pub use tensor::{DType, NamedTensor, Tensor, TensorData, TensorError};
