//! `{"images": [{"id"?, "acquisition_id"?, "view"?, "base64"}]}`, read strictly.
//!
//! Complaints name the place (`images[2].base64`). The visitors are written out instead of derived
//! because serde names no places, and so that the number of images is bounded while it is read.

use std::{borrow::Cow, cell::RefCell, fmt};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{forms::too_many, images::Part};
use crate::http::{code::Code, error::ApiError};

/// The standard alphabet, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The images of a JSON body, in their order.
pub(super) fn parts(body: &[u8], max_images: usize) -> Result<Vec<Part>, ApiError> {
    let complaint = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = Body { max_images, complaint: &complaint }
        .deserialize(&mut deserializer)
        .and_then(|parts| deserializer.end().map(|()| parts));
    read.map_err(|error| {
        let malformed = || ApiError::new(Code::JsonInvalid, error.to_string());
        complaint.take().unwrap_or_else(malformed)
    })
}

/// The whole body.
struct Body<'a> {
    max_images: usize,
    /// A complaint that is more than bad JSON; parsing stops with it.
    complaint: &'a RefCell<Option<ApiError>>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Vec<Part>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Part>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Vec<Part>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object {\"images\": […]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Part>, A::Error> {
        let mut images = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != "images" {
                return Err(A::Error::custom(unknown("", &key, "images")));
            }
            if images.is_some() {
                return Err(A::Error::custom("images is given more than once"));
            }
            let Body { max_images, complaint } = self;
            images = Some(map.next_value_seed(Images { max_images, complaint })?);
        }
        images.ok_or_else(|| A::Error::custom("images is missing"))
    }
}

struct Images<'a> {
    max_images: usize,
    complaint: &'a RefCell<Option<ApiError>>,
}

impl<'de> DeserializeSeed<'de> for Images<'_> {
    type Value = Vec<Part>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Part>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Images<'_> {
    type Value = Vec<Part>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("images to be an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Part>, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element_seed(Image(parts.len()))? {
            if parts.len() == self.max_images {
                self.complaint.replace(Some(too_many(self.max_images)));
                return Err(A::Error::custom("too many images"));
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

/// One image, at its position.
struct Image(usize);

impl<'de> DeserializeSeed<'de> for Image {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Image {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "images[{}] to be an object", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let place = format!("images[{}]", self.0);
        let (mut id, mut acquisition_id, mut view, mut base64) = (None, None, None, None);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let slot = match &*key {
                "id" => &mut id,
                "acquisition_id" => &mut acquisition_id,
                "view" => &mut view,
                "base64" => &mut base64,
                other => {
                    let known = "id, acquisition_id, view, base64";
                    return Err(A::Error::custom(unknown(&place, other, known)));
                }
            };
            if slot.is_some() {
                return Err(A::Error::custom(format!("{place}.{key} is given more than once")));
            }
            let value = map.next_value::<Text<'de>>();
            let text = value.map_err(|it| A::Error::custom(format!("{place}.{key}: {it}")))?;
            *slot = Some(text.0);
        }
        let base64 =
            base64.ok_or_else(|| A::Error::custom(format!("{place}.base64 is missing")))?;
        let bytes =
            decode(&base64).map_err(|it| A::Error::custom(format!("{place}.base64 {it}")))?.into();
        let [id, acquisition_id, view] =
            [id, acquisition_id, view].map(|it| it.map(Cow::into_owned));
        Ok(Part { place, id, acquisition_id, view, file: None, bytes })
    }
}

/// A string, borrowed from the body where it has no escapes. (`Cow` alone always copies.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn unknown(place: &str, key: &str, known: &str) -> String {
    let shown: String = key.chars().take(64).collect();
    let gap = if place.is_empty() { "the body" } else { place };
    format!("{gap} has no field {shown:?}; known: {known}")
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.starts_with("data:") {
        return Err("is a data: URL; send only what follows its comma".to_owned());
    }
    BASE64.decode(text).map_err(|error| {
        let hint = if text.contains(char::is_whitespace) {
            "; it holds line breaks or spaces (base64 -w0 makes none)"
        } else if text.contains(['-', '_']) {
            "; it looks URL-safe, send the standard alphabet (+ and /)"
        } else {
            ""
        };
        format!("is not base64: {error}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(body: &str, code: Code, expected: &str) {
        let error = parts(body.as_bytes(), 3).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.detail().contains(expected), "{:?} lacks {expected:?}", error.detail());
    }

    #[test]
    fn images_keep_their_order_and_names() {
        let body = r#"{"images":[{"id":"a","view":"v0","base64":"/9j/"},
                       {"base64":"\/9g=","acquisition_id":"shot-1"},{"base64":"/9g"}]}"#;
        let found = parts(body.as_bytes(), 3).unwrap();
        assert_eq!((found[0].id.as_deref(), found[0].view.as_deref()), (Some("a"), Some("v0")));
        assert_eq!(found[0].bytes.as_ref(), [0xff, 0xd8, 0xff]);
        assert_eq!(found[1].acquisition_id.as_deref(), Some("shot-1"));
        assert_eq!(found[1].bytes, found[2].bytes, "padding is optional");
        assert_eq!(parts(br#"{"images":[]}"#, 3).unwrap(), []);
    }

    #[test]
    fn complaints_name_the_place() {
        let ok = r#"{"base64":"/9j/"}"#;
        let images = |it: &str| format!(r#"{{"images":[{ok},{it}]}}"#);
        let json = Code::JsonInvalid;
        refused(&images(r#"{"base64":"/9j/","url":"x"}"#), json, "images[1] has no field \"url\"");
        refused(&images(r#"{"base64":7}"#), json, "images[1].base64: invalid type");
        refused(&images(r#"{"id":"a"}"#), json, "images[1].base64 is missing");
        refused(&images(r#"{"base64":""}"#), json, "images[1].base64 is empty");
        refused(&images(r#"{"base64":"a*b="}"#), json, "images[1].base64 is not base64");
        refused(&images(r#"{"base64":"/9j/\n/9j/"}"#), json, "base64 -w0");
        refused(&images(r#"{"base64":"_9j_"}"#), json, "URL-safe");
        let url = r#"{"base64":"data:image/png;base64,/9j/"}"#;
        refused(&images(url), json, "images[1].base64 is a data: URL");
        refused(&images(r#"{"id":"a","id":"b","base64":"/9j/"}"#), json, "images[1].id is given");
        refused(&images("7"), json, "images[1] to be an object");
        refused(&images(&format!("{ok},{ok},{ok}")), Code::TooManyImages, "at most 3 images");
    }

    #[test]
    fn what_is_no_such_json_is_refused() {
        let deep = "[".repeat(100_000);
        for (body, expected) in [
            ("", "EOF"),
            ("[]", "an object {\"images\""),
            ("{}", "images is missing"),
            (r#"{"images":{}}"#, "images to be an array"),
            (r#"{"images":[],"images":[]}"#, "more than once"),
            (r#"{"images":[]} x"#, "trailing"),
            (r#"{"inputs":[]}"#, "the body has no field \"inputs\""),
            ("\u{feff}{}", "line 1 column 1"),
            (r#"{"images":[{"base64":NaN}]}"#, "line 1"),
            (&deep, "an object {\"images\""),
        ] {
            refused(body, Code::JsonInvalid, expected);
        }
        assert!(parts(b"{\"images\":[{\"base64\":\"\xff\"}]}", 3).is_err(), "invalid UTF-8");
        let huge = format!(r#"{{"images":"{}"}}"#, "x".repeat(1 << 20));
        assert!(parts(huge.as_bytes(), 3).unwrap_err().detail().len() < 2000);
    }
}
