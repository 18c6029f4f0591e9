//! The model repository on disk: what is there, what of it is to be served, whether it is sound.
//!
//! Scan -> plan -> read, and for people check and init:
//! - [`scan`] walks the tree and reads no model: which models, which versions, in which layout.
//! - [`plan`] is pure: which of those versions are to be loaded, by the key `serve`.
//! - [`read_version`] reads every byte of one version once, verifies it against its seal and checks
//!   what it says; [`SealedPackage`] holds the only bytes that are used from then on.
//! - [`check`] does all of this for a whole tree and returns every complaint with its place.
//! - [`scaffold`] writes the first `package.toml` and `model.toml` of a model.
//!
//! Promises: only regular files are read, never more than [`Limits`] allows, and a pipe or device
//! does not block; what is wrong with one model does not touch another; a key that is not known is
//! an error. Up to here no model is run and ONNX is not understood; that begins with loading.
//!
//! [`Provision`] loads what is to be served: `prepare` reads and opens a version, `profile` measures
//! and plans its runs, the golden samples prove it, the [`Catalog`] publishes it.

mod card;
mod catalog;
mod check;
mod complaint;
mod device;
mod document;
mod error;
mod files;
mod golden;
mod golden_check;
mod hugging_face;
mod init;
mod load;
mod load_error;
mod manifest;
mod memory;
mod model_config;
mod package;
mod plan;
mod prepare;
mod profile;
mod provision;
mod scan;

pub use card::{Card, SealedFile};
pub use catalog::{
    Catalog, ModelEntry, Readiness, ServingModel, Snapshot, Unresolved, VersionState,
};
pub use check::{Checked, check};
pub use complaint::Complaint;
pub use device::{Compute, DeviceError};
pub use error::{PackageError, RepositoryError};
pub use files::Limits;
pub use golden::{Expected, ExpectedVerdict, GoldenSample};
pub use init::{Scaffold, TensorSignature, scaffold, write_new};
pub use load::LoadConfig;
pub use load_error::LoadError;
pub use manifest::{Manifest, Outputs, Task, Tolerance};
pub use model_config::{Device, ModelConfig, Runtime};
pub use package::{SealedPackage, read_version};
pub use plan::{Plan, plan};
pub use profile::{
    Cell, Ground, LatencyModel, PlanError, Profile, RunPlan, Sharing, Sizes, Survey, SurveyError,
    Surveyor, Timing, Wide, rows_per_second_of_all,
};
pub use provision::Provision;
pub use scan::{Found, FoundModel, FoundVersion, Layout, scan};
