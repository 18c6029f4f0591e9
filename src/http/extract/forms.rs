//! A whole body to the parts it is made of, by its form.

use bytes::Bytes;

use super::{head::Form, images::Part, json, multipart};
use crate::http::{code::Code, error::ApiError};

/// Longer JSON is parsed on a thread that may block: 16 MiB take some 20 ms.
const INLINE_JSON_BYTES: usize = 64 << 10;

/// The parts of a body; at least one.
pub(super) async fn parts(
    form: &Form,
    body: Bytes,
    max_images: usize,
) -> Result<Vec<Part>, ApiError> {
    let parts = match form {
        Form::Raw => vec![raw(body)?],
        Form::Multipart(content_type) => {
            multipart::parts(content_type.clone(), body, max_images).await?
        }
        Form::Json if body.len() <= INLINE_JSON_BYTES => json::parts(&body, max_images)?,
        Form::Json => {
            let parsed = tokio::task::spawn_blocking(move || json::parts(&body, max_images)).await;
            parsed.unwrap_or_else(|error| {
                tracing::error!(%error, "parsing a JSON body panicked");
                Err(ApiError::new(Code::Internal, "the JSON body could not be parsed"))
            })?
        }
    };
    if parts.is_empty() {
        return Err(ApiError::new(Code::BodyEmpty, "the request holds no image"));
    }
    Ok(parts)
}

/// The refusal of more images than are allowed.
pub(super) fn too_many(max_images: usize) -> ApiError {
    let detail = format!("one request may hold at most {max_images} images");
    ApiError::new(Code::TooManyImages, detail)
}

/// A body that is the image. What it is, its magic bytes tell later; here only the one mistake that
/// everybody makes once gets its own answer.
fn raw(bytes: Bytes) -> Result<Part, ApiError> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        let detail = "the body looks like JSON; send it with Content-Type: application/json";
        return Err(ApiError::new(Code::ContentType, detail));
    }
    Ok(Part { place: "the body".to_owned(), bytes, ..Part::default() })
}
