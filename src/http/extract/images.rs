//! What the parts of a body claim about themselves, checked: ids, acquisitions, views.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::head::{Form, Head};
use crate::{
    http::{code::Code, error::ApiError},
    predict::Image,
    types::ItemId,
};

/// What the images of a request are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// Each is an item of its own.
    Predict,
    /// Together they are the views of one item.
    Inspect,
}

/// One image as it was sent, none of its names checked yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::http) struct Part {
    /// Where it stands in the body, for complaints.
    pub(in crate::http) place: String,
    pub(in crate::http) id: Option<String>,
    pub(in crate::http) acquisition_id: Option<String>,
    pub(in crate::http) view: Option<String>,
    pub(in crate::http) file: Option<String>,
    pub(in crate::http) bytes: Bytes,
}

/// The images of a request, every name of theirs well-formed and distinct where it must be.
pub(super) fn check(kind: Kind, head: &Head, parts: Vec<Part>) -> Result<Vec<Image>, ApiError> {
    match kind {
        Kind::Predict => items(head, parts),
        Kind::Inspect => views(head, parts),
    }
}

fn items(head: &Head, parts: Vec<Part>) -> Result<Vec<Image>, ApiError> {
    if head.form != Form::Raw && head.item_id.is_some() {
        let detail = "x-item-id names one image; here each image has an id of its own in the body";
        return Err(ApiError::new(Code::HeaderInvalid, detail));
    }
    let mut seen = BTreeSet::new();
    let mut images = Vec::with_capacity(parts.len());
    for part in parts {
        let item_id = id(&part.place, "id", part.id.as_deref())?.or_else(|| head.item_id.clone());
        if let Some(repeated) = item_id.iter().find(|it| !seen.insert((*it).clone())) {
            let detail = format!("{}: id {repeated:?} repeats in the request", part.place);
            return Err(ApiError::new(Code::IdDuplicate, detail));
        }
        let own = id(&part.place, "acquisition_id", part.acquisition_id.as_deref())?;
        let acquisition_id = own.or_else(|| head.acquisition_id.clone());
        // The name of a form's part says how the client's program calls it, not which view it is.
        let view = if head.form == Form::Json { view(&part)? } else { None };
        images.push(Image { item_id, acquisition_id, view, file: part.file, bytes: part.bytes });
    }
    Ok(images)
}

fn views(head: &Head, parts: Vec<Part>) -> Result<Vec<Image>, ApiError> {
    let invalid = |detail| Err(ApiError::new(Code::ViewsInvalid, detail));
    let mut acquisition_id = head.acquisition_id.clone();
    let mut seen = BTreeSet::new();
    let n_parts = parts.len();
    let mut images = Vec::with_capacity(n_parts);
    for part in parts {
        if head.form == Form::Json && part.id.is_some() {
            let rule = "views have no ids; x-item-id names the one item they make";
            return invalid(format!("{}: {rule}", part.place));
        }
        let own = id(&part.place, "acquisition_id", part.acquisition_id.as_deref())?;
        if let Some(own) = own {
            let shared = acquisition_id.get_or_insert_with(|| own.clone());
            if *shared != own {
                let others = format!("{shared:?} is that of the item");
                return invalid(format!("{}: acquisition {own:?} differs; {others}", part.place));
            }
        }
        let view = view(&part)?;
        if view.is_none() && n_parts > 1 {
            return invalid(format!("{} names no view", part.place));
        }
        if let Some(repeated) = view.iter().find(|it| !seen.insert((*it).clone())) {
            return invalid(format!("{}: view {repeated:?} repeats in the request", part.place));
        }
        images.push((view, part.file.or(part.id), part.bytes));
    }
    // One item, so one name and one acquisition, on each of its views.
    let image = |(view, file, bytes)| Image {
        item_id: head.item_id.clone(),
        acquisition_id: acquisition_id.clone(),
        view,
        file,
        bytes,
    };
    Ok(images.into_iter().map(image).collect())
}

fn id(place: &str, field: &str, given: Option<&str>) -> Result<Option<ItemId>, ApiError> {
    let invalid = |it| ApiError::new(Code::IdInvalid, format!("{place}.{field}: {it}"));
    given.map(str::parse).transpose().map_err(invalid)
}

/// The name of a view; it takes the form of an id, as it is echoed and recorded like one.
fn view(part: &Part) -> Result<Option<String>, ApiError> {
    let invalid = |it| ApiError::new(Code::ViewsInvalid, format!("{}.view: {it}", part.place));
    let checked = part.view.as_deref().map(str::parse::<ItemId>).transpose().map_err(invalid)?;
    Ok(checked.map(|it| it.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
    use proptest::prelude::*;

    use super::*;
    use crate::http::{extract::images, state::HttpConfig};

    fn head(content_type: &'static str, headers: &[(&'static str, &'static str)]) -> Head {
        let headers: HeaderMap = [("content-type", content_type)]
            .iter()
            .chain(headers)
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Head::parse(&Uri::from_static("/"), &headers).unwrap()
    }

    fn json(images: &str) -> Bytes {
        format!(r#"{{"images":[{}]}}"#, images.replace('@', r#""base64":"/9j/""#)).into()
    }

    async fn read(
        kind: Kind,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> Result<Vec<Image>, ApiError> {
        images(kind, &head("application/json", headers), json(body), &HttpConfig::default()).await
    }

    #[tokio::test]
    async fn a_raw_body_takes_its_names_from_the_head() {
        let head = head("image/jpeg", &[("x-item-id", "vial-7"), ("x-acquisition-id", "shot-1")]);
        let body = Bytes::from_static(b"\xff\xd8\xff");
        for kind in [Kind::Predict, Kind::Inspect] {
            let found = images(kind, &head, body.clone(), &HttpConfig::default()).await.unwrap();
            let [image] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!(image.item_id.as_ref().unwrap().as_str(), "vial-7");
            assert_eq!(image.acquisition_id.as_ref().unwrap().as_str(), "shot-1");
            assert_eq!(image.bytes.as_ptr(), body.as_ptr(), "the bytes are handed on, not copied");
        }
    }

    #[tokio::test]
    async fn each_item_has_its_own_id() {
        let found = read(Kind::Predict, &[("x-acquisition-id", "s")], r#"{"id":"a",@},{@}"#).await;
        let found = found.unwrap();
        assert_eq!(found[0].item_id.as_ref().unwrap().as_str(), "a");
        assert_eq!(found[1].item_id, None);
        assert_eq!(found[1].acquisition_id.as_ref().unwrap().as_str(), "s");
        for (body, headers, code) in [
            (r#"{"id":"a",@},{"id":"a",@}"#, [].as_slice(), Code::IdDuplicate),
            (r#"{"id":"a b",@}"#, &[], Code::IdInvalid),
            (r#"{"acquisition_id":"",@}"#, &[], Code::IdInvalid),
            (r#"{"view":"v/0",@}"#, &[], Code::ViewsInvalid),
            ("{@}", &[("x-item-id", "a")], Code::HeaderInvalid),
            ("", &[], Code::BodyEmpty),
        ] {
            assert_eq!(
                read(Kind::Predict, headers, body).await.unwrap_err().code(),
                code,
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn views_are_of_one_item() {
        let two = r#"{"view":"v0",@},{"view":"v1","acquisition_id":"s",@}"#;
        let found = read(Kind::Inspect, &[("x-item-id", "vial-7")], two).await.unwrap();
        for (image, view) in found.iter().zip(["v0", "v1"]) {
            assert_eq!(image.view.as_deref(), Some(view));
            assert_eq!(image.item_id.as_ref().unwrap().as_str(), "vial-7");
            assert_eq!(image.acquisition_id.as_ref().unwrap().as_str(), "s");
        }
        for (body, headers) in [
            (r#"{"view":"v0",@},{"view":"v0",@}"#, [].as_slice()),
            (r#"{"view":"v0",@},{@}"#, &[]),
            (r#"{"id":"a",@}"#, &[]),
            (two, &[("x-acquisition-id", "other")]),
            (r#"{"view":"a","acquisition_id":"s",@},{"view":"b","acquisition_id":"t",@}"#, &[]),
        ] {
            let error = read(Kind::Inspect, headers, body).await.unwrap_err();
            assert_eq!(error.code(), Code::ViewsInvalid, "{error:?}");
        }
    }

    proptest! {
        /// Whatever the bytes, a body gives images or a complaint.
        #[test]
        fn no_body_makes_the_extractors_panic(
            body in proptest::collection::vec(any::<u8>(), 0..600),
            piece in 0_usize..5,
        ) {
            // Arbitrary bytes alone would hardly get past the first line of either form.
            let start: &[u8] = [
                b"".as_slice(),
                b"--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"",
                b"--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\n",
                b"{\"images\":[{\"base64\":\"",
                b"{\"images\":[{\"",
            ][piece];
            let body = Bytes::from([start, &body].concat());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for form in ["image/png", "multipart/form-data; boundary=x", "application/json"] {
                for kind in [Kind::Predict, Kind::Inspect] {
                    let (head, config) = (head(form, &[]), HttpConfig::default());
                    let read = images(kind, &head, body.clone(), &config);
                    let _either_will_do = runtime.block_on(read);
                }
            }
        }
    }
}
