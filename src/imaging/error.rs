//! Why an image was not turned into pixels; every message may be read by the client.

use thiserror::Error;

use super::header::Format;
use crate::types::Blame;

/// What is wrong with an image. Messages hold no paths and no text of the decoding libraries.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// There were no bytes at all.
    #[error("the image is empty: no bytes were sent")]
    Empty,
    /// The first bytes are neither a JPEG's nor a PNG's.
    #[error("the image is neither JPEG nor PNG: it looks like {looks_like}")]
    UnknownFormat {
        /// What the first bytes suggest, with its article.
        looks_like: &'static str,
    },
    /// The file stops, or declares its end, before all of the picture was there.
    #[error("the {format} image is incomplete: {what}")]
    Truncated {
        /// The format as recognised.
        format: Format,
        /// What is missing.
        what: &'static str,
    },
    /// The file breaks the rules of its format, or its data is damaged.
    #[error("the {format} image cannot be decoded: {what}")]
    Undecodable {
        /// The format as recognised.
        format: Format,
        /// Which rule is broken.
        what: &'static str,
    },
    /// The header announces more pixels than are allowed; nothing was decoded.
    #[error("the image has {pixels} pixels ({width} x {height}), at most {limit} are allowed")]
    TooLarge {
        /// Columns, as stored.
        width: u32,
        /// Rows, as stored.
        height: u32,
        /// `width` times `height`.
        pixels: u64,
        /// The limit that was in force.
        limit: u64,
    },
    /// The image is so long and thin that resizing it would take far more room than the image.
    #[error("the image ({width} x {height}) is too long and thin to be resized")]
    TooElongated {
        /// Columns, upright.
        width: u32,
        /// Rows, upright.
        height: u32,
    },
    /// A sound image of a kind that is refused rather than guessed at.
    #[error("{what} is not accepted: {instead}")]
    Unsupported {
        /// What was found, with its article.
        what: &'static str,
        /// What would be accepted.
        instead: &'static str,
    },
}

impl ImageError {
    /// The stable code of the answer: `image_format` (415), `image_too_large` (413), and, for an
    /// image that cannot be judged (422), `image_unreadable` or `image_unsupported`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat { .. } => "image_format",
            Self::TooLarge { .. } | Self::TooElongated { .. } => "image_too_large",
            Self::Empty | Self::Truncated { .. } | Self::Undecodable { .. } => "image_unreadable",
            Self::Unsupported { .. } => "image_unsupported",
        }
    }

    /// Always the client: the same bytes fail everywhere.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Client
    }
}
