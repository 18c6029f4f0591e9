//! Why a model cannot be opened.

/// ONNX Runtime, or this crate, will not serve the graph. The text is ONNX Runtime's own and may
/// hold paths of its sources: for the log and the operator, never for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// ONNX Runtime cannot make a session of the bytes.
    #[error("ONNX Runtime cannot open the model: {said}")]
    Open {
        /// Its words, shortened to the first line.
        said: String,
    },
    /// A provider cannot work on this machine.
    #[error("ONNX Runtime cannot start the provider: {said}")]
    Provider {
        /// Its words, shortened to the first line.
        said: String,
    },
    /// The trace of a run cannot be had.
    #[error("the trace of a run cannot be read: {0}")]
    Trace(String),
    /// An input or output is of a kind without a tensor.
    #[error("{name:?} is a {found}, which cannot be served")]
    Unsupported {
        /// The input or output.
        name: String,
        /// What it is.
        found: String,
    },
}

impl OnnxError {
    /// Builder errors carry their builder, hence any kind of it.
    pub(super) fn open<R>(error: &ort::Error<R>) -> Self {
        Self::Open { said: first_line(error) }
    }

    pub(super) fn provider<R>(error: &ort::Error<R>) -> Self {
        Self::Provider { said: first_line(error) }
    }

    pub(super) fn unsupported(name: &str, found: String) -> Self {
        Self::Unsupported { name: name.to_owned(), found }
    }
}

/// Without the place in ONNX Runtime's sources that a message may begin with.
fn first_line<R>(error: &ort::Error<R>) -> String {
    let line = error.message().lines().next().unwrap_or_default();
    let said = line.split_once("[ONNXRuntimeError]").map_or(line, |(_, rest)| rest);
    said.trim_start_matches([' ', ':']).chars().take(300).collect()
}
