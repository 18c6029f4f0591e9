//! From an HTTP request to what the predictor takes, in the order in which each part can refuse.
//!
//! [`Head`] reads everything but the body, so that a bad or unwelcome request costs no upload.
//! [`Upload`] then reads the body within its limits, or throws it away; `forms` takes it apart into
//! parts, and [`images`] checks the ids and views that the parts claim. A raw image is handed
//! on as the bytes that came in; only JSON and multipart are copied.

mod forms;
mod head;
mod images;
mod json;
mod multipart;
mod upload;

pub(super) use head::{Head, TopK, model_ref};
pub(super) use images::Kind;
pub(super) use upload::{After, Upload, Within};

use bytes::Bytes;

use super::{error::ApiError, state::HttpConfig};
use crate::predict::Image;

/// The images of a whole body.
pub(super) async fn images(
    kind: Kind,
    head: &Head,
    body: Bytes,
    config: &HttpConfig,
) -> Result<Vec<Image>, ApiError> {
    let parts = forms::parts(&head.form, body, config.images).await?;
    images::check(kind, head, parts)
}
