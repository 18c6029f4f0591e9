//! Everything that can end a prediction, for a whole request or for one item of it.

use std::time::Duration;

use crate::{
    batch::Refusal,
    imaging::ImageError,
    types::{Blame, ModelName, ModelRef, ModelVersion, Reason},
};

/// Why a request was not looked at.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictError {
    /// No model of that name is in the repository.
    #[error("there is no model named {name}")]
    UnknownModel {
        /// The name asked for.
        name: ModelName,
    },
    /// The model has no such version.
    #[error("model {name} has no version {version}")]
    UnknownVersion {
        /// The model.
        name: ModelName,
        /// The version asked for.
        version: ModelVersion,
    },
    /// The version is there, but the operator does not serve it.
    #[error("{model} is not served; `serve` in its model.toml names what is")]
    VersionNotServed {
        /// What was asked for.
        model: ModelRef,
    },
    /// The version is still loading.
    #[error("{model} is still loading")]
    Loading {
        /// What was asked for.
        model: ModelRef,
    },
    /// The version is to be served, but failed to load. Why is the operator's to read, on the
    /// model's own resource.
    #[error("{model} failed to load; GET /v1/models/{} says why", model.name)]
    LoadFailed {
        /// What was asked for.
        model: ModelRef,
    },
    /// Images were sent to a version that does not say how to turn them into its input.
    #[error(
        "{model} declares no preprocessing, so it takes no images; its package.toml has no [preprocess] table"
    )]
    NoPreprocessing {
        /// What was asked for.
        model: ModelRef,
    },
    /// `inspect` on a model that does not declare the views of an item.
    #[error("{model} declares no [item] table, so it has no items to inspect; use predict")]
    NoItem {
        /// What was asked for.
        model: ModelRef,
    },
    /// An output was asked for that the model does not have.
    #[error("{model} has no output named {output:?}; it has {known}")]
    UnknownOutput {
        /// What was asked for.
        model: ModelRef,
        /// The name asked for.
        output: String,
        /// The names there are.
        known: String,
    },
    /// Refused for load.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why one item was not judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ItemError {
    /// The bytes are no usable picture.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Refused for load.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The limit, or the caller's own deadline, passed first.
    #[error("no answer was ready within {} ms", after.as_millis())]
    Deadline {
        /// What the item was held to.
        after: Duration,
    },
    /// The model answered NaN or infinity, or something of the wrong shape.
    #[error("the model's answer is unusable: {what}")]
    OutputInvalid {
        /// What was wrong with it.
        what: String,
    },
    /// The run failed; the cause is in the log.
    #[error("inference failed")]
    InferenceFailed,
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl ItemError {
    /// The reason of the item's undecided verdict.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Image(ImageError::TooLarge { .. } | ImageError::TooElongated { .. }) => {
                Reason::ImageTooLarge
            }
            Self::Image(_) => Reason::ImageUnreadable,
            Self::Refused(_) => Reason::Overloaded,
            Self::Deadline { .. } => Reason::Deadline,
            Self::OutputInvalid { .. } => Reason::OutputInvalid,
            Self::InferenceFailed => Reason::InferenceFailed,
            Self::ShuttingDown => Reason::ShuttingDown,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Image(_) => Blame::Client,
            Self::Refused(_) | Self::Deadline { .. } => Blame::Capacity,
            Self::OutputInvalid { .. } | Self::InferenceFailed => Blame::Model,
            Self::ShuttingDown => Blame::Server,
        }
    }
}

impl PredictError {
    /// The reason of the request's one undecided verdict.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::VersionNotServed { .. }
            | Self::NoPreprocessing { .. }
            | Self::NoItem { .. }
            | Self::UnknownOutput { .. } => Reason::RequestInvalid,
            Self::Loading { .. } | Self::LoadFailed { .. } => Reason::NotReady,
            Self::Refused(_) => Reason::Overloaded,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::VersionNotServed { .. }
            | Self::NoPreprocessing { .. }
            | Self::NoItem { .. }
            | Self::UnknownOutput { .. } => Blame::Client,
            Self::Loading { .. } | Self::LoadFailed { .. } => Blame::Model,
            Self::Refused(_) => Blame::Capacity,
        }
    }
}
