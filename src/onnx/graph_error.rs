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
        let said = error.message().lines().next().unwrap_or_default().chars().take(300).collect();
        Self::Open { said }
    }

    pub(super) fn unsupported(name: &str, found: String) -> Self {
        Self::Unsupported { name: name.to_owned(), found }
    }
}
