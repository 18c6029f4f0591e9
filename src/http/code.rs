//! Every error code a client can meet: its status and its title; docs/errors.md has a row for each.
//!
//! Codes are stable: programs match on them. Titles and details are for people and may change.

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, as one stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant),* }

        impl Code {
            /// Every code, in the order of docs/errors.md.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in `code`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status the code always comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// What the code means, for people; the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

codes! {
    /// A query parameter is unknown, repeated or malformed.
    QueryInvalid, "query_invalid", 400, "The query is not understood";
    /// This version makes no explanations.
    ExplainUnavailable, "explain_unavailable", 400, "Explanations are not available";
    /// `outputs` names an output the model does not have.
    OutputUnknown, "output_unknown", 400, "There is no such output";
    /// A request header is malformed, repeated or out of place.
    HeaderInvalid, "header_invalid", 400, "A request header is not understood";
    /// An item or acquisition id breaks its pattern.
    IdInvalid, "id_invalid", 400, "An id is malformed";
    /// Two items of one request have the same id.
    IdDuplicate, "id_duplicate", 400, "An id repeats in the request";
    /// The views of an item are unnamed, repeated or of different acquisitions.
    ViewsInvalid, "views_invalid", 400, "The views do not make one item";
    /// No image was sent.
    BodyEmpty, "body_empty", 400, "No image was sent";
    /// The connection ended, or broke the protocol, inside the body.
    BodyIncomplete, "body_incomplete", 400, "The body did not arrive whole";
    /// The body came in too many small pieces.
    BodyFragmented, "body_fragmented", 400, "The body came in too many pieces";
    /// The body is no JSON of the expected form.
    JsonInvalid, "json_invalid", 400, "The JSON body is not understood";
    /// The body is no multipart form of files.
    MultipartInvalid, "multipart_invalid", 400, "The multipart body is not understood";
    /// More images than one request may hold.
    TooManyImages, "too_many_images", 400, "Too many images in one request";
    /// The body's SHA-256 is not the one the client stated.
    ContentDigestMismatch, "content_digest_mismatch", 400, "The body is not what its digest says";
    /// There is no such path.
    RouteUnknown, "route_unknown", 404, "There is nothing at this path";
    /// There is no such model.
    ModelUnknown, "model_unknown", 404, "There is no such model";
    /// The model has no such version.
    VersionUnknown, "version_unknown", 404, "There is no such version";
    /// The version is there, but the operator does not serve it.
    VersionNotServed, "version_not_served", 404, "The version is not served";
    /// The path is right, the method is not.
    MethodNotAllowed, "method_not_allowed", 405, "The method is not allowed here";
    /// The body took too long to arrive.
    BodyTimeout, "body_timeout", 408, "The body took too long to arrive";
    /// The body is larger than allowed.
    BodyTooLarge, "body_too_large", 413, "The body is too large";
    /// The image has more pixels than allowed.
    ImageTooLarge, "image_too_large", 413, "The image is too large";
    /// The declared type of the body is none that is accepted.
    ContentType, "content_type", 415, "The type of the body is not accepted";
    /// The body is compressed as a whole.
    ContentEncoding, "content_encoding", 415, "The body must not be compressed as a whole";
    /// The bytes are no image of a supported format.
    ImageFormat, "image_format", 415, "The image format is not accepted";
    /// The image is cut short or damaged.
    ImageUnreadable, "image_unreadable", 422, "The image cannot be read";
    /// The image is sound, but of a kind that is refused rather than guessed at.
    ImageUnsupported, "image_unsupported", 422, "This kind of image is not accepted";
    /// Images were sent to a version that does not say how to turn them into its input.
    NoPreprocessing, "no_preprocessing", 422, "The model takes no images";
    /// `inspect` on a model without declared views.
    NoItem, "no_item", 422, "The model declares no items to inspect";
    /// A bug of the server.
    Internal, "internal", 500, "The server failed";
    /// The run failed.
    InferenceFailed, "inference_failed", 500, "Inference failed";
    /// The model answered NaN, infinity or the wrong shape.
    OutputInvalid, "output_invalid", 500, "The model's answer is unusable";
    /// Refused for load.
    Overloaded, "overloaded", 503, "The server is overloaded";
    /// The version is loading, or failed to load.
    NotReady, "not_ready", 503, "The model is not ready";
    /// The server is stopping.
    ShuttingDown, "shutting_down", 503, "The server is shutting down";
    /// The limit, or the client's own deadline, passed.
    Deadline, "deadline", 504, "The deadline passed";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_one_word_and_has_its_row_in_the_documentation() {
        let documented = include_str!("../../docs/errors.md");
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            let (name, status) = (code.as_str(), code.status());
            assert!(seen.insert(name), "{name} is listed twice");
            assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{name}");
            assert!((400..600).contains(&status), "{name}: {status}");
            let row = format!("| `{name}` | {status} |");
            assert!(documented.contains(&row), "docs/errors.md has no row starting {row:?}");
        }
    }

    #[test]
    fn the_documentation_names_no_code_that_is_gone() {
        let documented = include_str!("../../docs/errors.md");
        let rows = documented.lines().filter_map(|it| it.strip_prefix("| `")?.split('`').next());
        for name in rows {
            assert!(Code::ALL.iter().any(|it| it.as_str() == name), "{name}");
        }
    }
}
