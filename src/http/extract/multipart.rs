//! `multipart/form-data`: every part with a file name is an image.

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, multipart::Field},
    http::{HeaderValue, header},
};
use bytes::Bytes;

use super::{forms::too_many, images::Part};
use crate::{
    http::{code::Code, error::ApiError},
    types::ItemId,
};

/// A file name is echoed, so no more of it is kept than a file system would take.
const MAX_FILE_CHARS: usize = 255;

/// The files of a form, in their order.
pub(super) async fn parts(
    content_type: HeaderValue,
    body: Bytes,
    max_images: usize,
) -> Result<Vec<Part>, ApiError> {
    let mut form = open(content_type, body).await?;
    let mut parts = Vec::new();
    loop {
        let field = match form.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => return Ok(parts),
            Err(error) => return Err(malformed(parts.len(), &error.body_text())),
        };
        if parts.len() == max_images {
            return Err(too_many(max_images));
        }
        parts.push(part(field, parts.len()).await?);
    }
}

async fn open(content_type: HeaderValue, body: Bytes) -> Result<Multipart, ApiError> {
    let mut request = Request::new(Body::from(body));
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    // The body is within our own limit already; axum's default of 2 MB is for bodies still to come.
    DefaultBodyLimit::disable().apply(&mut request);
    Multipart::from_request(request, &()).await.map_err(|_no_boundary| {
        let detail = "the Content-Type names no boundary, as in multipart/form-data; boundary=…";
        ApiError::new(Code::MultipartInvalid, detail)
    })
}

async fn part(field: Field<'_>, position: usize) -> Result<Part, ApiError> {
    let view = field.name().filter(|it| !it.is_empty()).map(ToOwned::to_owned);
    let Some(file) = field.file_name().map(ToOwned::to_owned) else {
        let detail = format!(
            "part {position} has no file name, so it is no file; with curl: -F name=@image.jpg"
        );
        return Err(ApiError::new(Code::MultipartInvalid, detail));
    };
    let bytes = field.bytes().await.map_err(|it| malformed(position, &it.body_text()))?;
    // A name that is no valid id says something to the client all the same.
    let (id, file) = match file.parse::<ItemId>() {
        Ok(_) => (Some(file), None),
        Err(_) => (None, Some(file.chars().take(MAX_FILE_CHARS).collect())),
    };
    let file = file.filter(|it: &String| !it.is_empty());
    Ok(Part { place: format!("part {position}"), id, view, file, bytes, ..Part::default() })
}

fn malformed(position: usize, what: &str) -> ApiError {
    ApiError::new(Code::MultipartInvalid, format!("at part {position}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[(&str, &str)]) -> Bytes {
        let mut body = String::new();
        for (disposition, content) in parts {
            body.push_str("--x\r\nContent-Disposition: form-data");
            body.push_str(disposition);
            body.push_str("\r\n\r\n");
            body.push_str(content);
            body.push_str("\r\n");
        }
        body.push_str("--x--\r\n");
        body.into()
    }

    async fn read(body: Bytes) -> Result<Vec<Part>, ApiError> {
        parts(HeaderValue::from_static("multipart/form-data; boundary=x"), body, 2).await
    }

    #[tokio::test]
    async fn every_file_is_an_image_and_its_name_an_id_if_it_fits() {
        let two = form(&[
            ("; name=\"v0\"; filename=\"vial-7.jpg\"", "first"),
            ("; name=\"v1\"; filename=\"a b.jpg\"", "second"),
        ]);
        let found = read(two).await.unwrap();
        assert_eq!(found[0].id.as_deref(), Some("vial-7.jpg"));
        assert_eq!((found[0].view.as_deref(), found[0].file.as_deref()), (Some("v0"), None));
        assert_eq!((found[1].id.as_deref(), found[1].file.as_deref()), (None, Some("a b.jpg")));
        assert_eq!(found[1].bytes, "second");
    }

    #[tokio::test]
    async fn more_than_axum_takes_by_default_is_taken() {
        let large = "j".repeat(3 << 20);
        let found = read(form(&[("; name=\"a\"; filename=\"a.jpg\"", &large)])).await.unwrap();
        assert_eq!(found[0].bytes.len(), 3 << 20);
    }

    #[tokio::test]
    async fn what_is_no_form_of_files_is_refused() {
        let file = ("; name=\"a\"; filename=\"a.jpg\"", "x");
        for (body, code) in [
            (form(&[("; name=\"a\"", "text")]), Code::MultipartInvalid),
            (Bytes::from("--x\r\nContent-Disposition: form-data; na"), Code::MultipartInvalid),
            (Bytes::from("no form at all"), Code::MultipartInvalid),
            (form(&[file, file, file]), Code::TooManyImages),
        ] {
            assert_eq!(read(body.clone()).await.unwrap_err().code(), code, "{body:?}");
        }
        let no_boundary = HeaderValue::from_static("multipart/form-data");
        let error = parts(no_boundary, form(&[file]), 2).await.unwrap_err();
        assert!(error.detail().contains("boundary"), "{error:?}");
    }
}
