//! Everything a request says before its body.

use std::time::Duration;

use axum::{
    extract::{Query, RawPathParams},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
};

use crate::{
    http::{code::Code, error::ApiError},
    types::{Digest, ItemId, ModelName, ModelRef, ModelVersion},
};

const X_ITEM_ID: &str = "x-item-id";
const X_ACQUISITION_ID: &str = "x-acquisition-id";
const X_CONTENT_SHA256: &str = "x-content-sha256";
const X_REQUEST_TIMEOUT_MS: &str = "x-request-timeout-ms";

/// No deadline lies further away; larger numbers are taken for mistakes.
const MAX_TIMEOUT_MS: u64 = 1 << 31;
/// Outputs one request may name; more are taken for abuse.
const MAX_OUTPUTS: usize = 64;
const DEFAULT_TOP_K: usize = 5;

/// What a request asks for, and how its body is to be read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct Head {
    /// How many scores to answer with.
    pub(in crate::http) top_k: TopK,
    /// Raw outputs to answer with, by name.
    pub(in crate::http) outputs: Vec<String>,
    /// The client's own deadline.
    pub(in crate::http) timeout: Option<Duration>,
    /// The client's name for the one item.
    pub(in crate::http) item_id: Option<ItemId>,
    /// The client's name for the act of taking the picture.
    pub(in crate::http) acquisition_id: Option<ItemId>,
    /// What the body must hash to.
    pub(in crate::http) digest: Option<Digest>,
    /// How the body is to be read.
    pub(in crate::http) form: Form,
}

/// How many of the scores to answer with, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum TopK {
    First(usize),
    All,
}

/// The form of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Form {
    /// One image, recognised by its first bytes.
    Raw,
    /// `multipart/form-data`; the header names the boundary.
    Multipart(HeaderValue),
    /// `{"images": […]}`.
    Json,
}

impl Head {
    pub(in crate::http) fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, ApiError> {
        let (top_k, outputs) = query(uri)?;
        Ok(Self {
            top_k,
            outputs,
            timeout: timeout(headers)?,
            item_id: id(headers, X_ITEM_ID)?,
            acquisition_id: id(headers, X_ACQUISITION_ID)?,
            digest: digest(headers)?,
            form: form(headers)?,
        })
    }
}

/// The model a path names. A name that cannot exist is as unknown as one that does not.
pub(in crate::http) fn model_ref(params: &RawPathParams) -> Result<ModelRef, ApiError> {
    let find = |key| params.iter().find_map(|(name, value)| (name == key).then_some(value));
    let unknown_model = |it| ApiError::new(Code::ModelUnknown, format!("{it}"));
    let name = find("model").unwrap_or_default().parse::<ModelName>().map_err(unknown_model)?;
    let unknown_version =
        |it| ApiError::new(Code::VersionUnknown, format!("model {name} has no such version: {it}"));
    let version =
        find("version").map(str::parse::<ModelVersion>).transpose().map_err(unknown_version)?;
    Ok(ModelRef { name, version })
}

fn query(uri: &Uri) -> Result<(TopK, Vec<String>), ApiError> {
    let invalid = |detail: String| ApiError::new(Code::QueryInvalid, detail);
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Err(invalid("the query is not of the form key=value&key=value".to_owned()));
    };
    let (mut top_k, mut outputs, mut explain) = (None, None, None);
    for (key, value) in pairs {
        let repeated = match key.as_str() {
            "top_k" => top_k.replace(parse_top_k(&value)?).is_some(),
            "outputs" => outputs.replace(parse_outputs(&value)?).is_some(),
            "explain" if value == "none" => explain.replace(()).is_some(),
            "explain" => {
                let detail =
                    format!("explain={value:?} is not available in this version; only none is");
                return Err(ApiError::new(Code::ExplainUnavailable, detail));
            }
            _ => {
                let known = "top_k, outputs and explain are known";
                return Err(invalid(format!("there is no query parameter {key:?}; {known}")));
            }
        };
        if repeated {
            return Err(invalid(format!("query parameter {key} is given more than once")));
        }
    }
    Ok((top_k.unwrap_or(TopK::First(DEFAULT_TOP_K)), outputs.unwrap_or_default()))
}

fn parse_top_k(value: &str) -> Result<TopK, ApiError> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(n) if n > 0 && digits => Ok(TopK::First(n)),
        Ok(_) | Err(_) if value == "all" => Ok(TopK::All),
        Ok(_) | Err(_) => Err(ApiError::new(
            Code::QueryInvalid,
            format!("top_k={value:?} is neither a positive whole number nor all"),
        )),
    }
}

fn parse_outputs(value: &str) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = Vec::new();
    for name in value.split(',') {
        if name.is_empty() || names.iter().any(|it| it == name) || names.len() == MAX_OUTPUTS {
            let detail =
                format!("outputs={value:?} is no list of up to {MAX_OUTPUTS} different names");
            return Err(ApiError::new(Code::QueryInvalid, detail));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The one value of a header, as text.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::new(Code::HeaderInvalid, format!("{name} is given more than once")));
    }
    let no_text = |_| ApiError::new(Code::HeaderInvalid, format!("{name} is not plain text"));
    first.map(HeaderValue::to_str).transpose().map_err(no_text)
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(text) = single(headers, X_REQUEST_TIMEOUT_MS)? else { return Ok(None) };
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(ms @ 1..=MAX_TIMEOUT_MS) if plain => Ok(Some(Duration::from_millis(ms))),
        Ok(_) | Err(_) => {
            let expected = format!("a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}");
            let detail = format!("{X_REQUEST_TIMEOUT_MS}: {text:?} is not {expected}");
            Err(ApiError::new(Code::HeaderInvalid, detail))
        }
    }
}

fn id(headers: &HeaderMap, name: &str) -> Result<Option<ItemId>, ApiError> {
    let invalid = |it| ApiError::new(Code::IdInvalid, format!("{name}: {it}"));
    single(headers, name)?.map(str::parse).transpose().map_err(invalid)
}

fn digest(headers: &HeaderMap) -> Result<Option<Digest>, ApiError> {
    let invalid = |it| ApiError::new(Code::HeaderInvalid, format!("{X_CONTENT_SHA256}: {it}"));
    single(headers, X_CONTENT_SHA256)?.map(str::parse).transpose().map_err(invalid)
}

fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    refuse_encoding(headers, &header::CONTENT_ENCODING)?;
    let name = header::CONTENT_TYPE;
    let Some(declared) = single(headers, name.as_str())? else { return Ok(Form::Raw) };
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Form::Json),
        "multipart/form-data" => {
            let whole = headers.get(name).cloned();
            Ok(Form::Multipart(whole.unwrap_or(HeaderValue::from_static("multipart/form-data"))))
        }
        // What clients send that name no type. curl calls every body a form; its magic tells.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(Form::Raw),
        image if image.starts_with("image/") => Ok(Form::Raw),
        _ => Err(ApiError::new(
            Code::ContentType,
            format!(
                "Content-Type {essence:?} is not accepted; send an image (image/jpeg, image/png), \
                 multipart/form-data or application/json"
            ),
        )),
    }
}

fn refuse_encoding(headers: &HeaderMap, name: &HeaderName) -> Result<(), ApiError> {
    match single(headers, name.as_str())?.map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(coding) => Err(ApiError::new(
            Code::ContentEncoding,
            format!("Content-Encoding {coding:?} is not accepted; images are compressed already"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, headers: &[(&'static str, &str)]) -> Result<Head, ApiError> {
        let uri = format!("/v1/models/m/predict?{query}").parse().unwrap();
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Head::parse(&uri, &headers)
    }

    #[track_caller]
    fn refused(query: &str, headers: &[(&'static str, &str)], code: Code, part: &str) {
        let error = parse(query, headers).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.detail().contains(part), "{error:?}");
    }

    #[test]
    fn a_bare_request_has_defaults() {
        let head = parse("", &[]).unwrap();
        assert_eq!((head.top_k, head.form), (TopK::First(5), Form::Raw));
        assert_eq!((head.timeout, head.item_id, head.digest), (None, None, None));
    }

    #[test]
    fn the_query_is_read_strictly() {
        assert_eq!(parse("top_k=all", &[]).unwrap().top_k, TopK::All);
        assert_eq!(parse("top_k=1&explain=none", &[]).unwrap().top_k, TopK::First(1));
        assert_eq!(parse("outputs=cam,a%2Fb", &[]).unwrap().outputs, ["cam", "a/b"]);
        for bad in ["0", "-1", "%2B1", "1.5", "", "ALL", "99999999999999999999999"] {
            refused(&format!("top_k={bad}"), &[], Code::QueryInvalid, "positive whole number");
        }
        refused("topk=5", &[], Code::QueryInvalid, "top_k, outputs and explain are known");
        refused("top_k=1&top_k=2", &[], Code::QueryInvalid, "more than once");
        refused("outputs=a,,b", &[], Code::QueryInvalid, "different names");
        refused("outputs=a,a", &[], Code::QueryInvalid, "different names");
        refused("explain=heatmap", &[], Code::ExplainUnavailable, "heatmap");
    }

    #[test]
    fn headers_are_read_strictly() {
        let head = parse("", &[("x-request-timeout-ms", "250"), ("x-item-id", "vial:7")]).unwrap();
        assert_eq!(head.timeout, Some(Duration::from_millis(250)));
        assert_eq!(head.item_id.unwrap().as_str(), "vial:7");
        for bad in ["0", "-5", "1.5", "", "2147483649", "+3", "1e3", "250 ms"] {
            refused("", &[("x-request-timeout-ms", bad)], Code::HeaderInvalid, "milliseconds");
        }
        refused("", &[("x-item-id", "a b")], Code::IdInvalid, "x-item-id");
        refused("", &[("x-acquisition-id", "")], Code::IdInvalid, "x-acquisition-id");
        refused("", &[("x-content-sha256", "12")], Code::HeaderInvalid, "64 hex digits");
        let twice = [("x-item-id", "a"), ("x-item-id", "b")];
        refused("", &twice, Code::HeaderInvalid, "more than once");
    }

    #[test]
    fn the_declared_type_decides_the_form() {
        let form = |declared| parse("", &[("content-type", declared)]).map(|it| it.form);
        for raw in ["image/png", "IMAGE/JPEG", "application/octet-stream", ""] {
            assert_eq!(form(raw).unwrap(), Form::Raw, "{raw:?}");
        }
        assert_eq!(form("application/x-www-form-urlencoded").unwrap(), Form::Raw);
        assert_eq!(form("application/json; charset=utf-8").unwrap(), Form::Json);
        assert!(matches!(form("multipart/form-data; boundary=x").unwrap(), Form::Multipart(_)));
        refused("", &[("content-type", "text/html")], Code::ContentType, "image/jpeg");
        refused("", &[("content-encoding", "gzip")], Code::ContentEncoding, "gzip");
        assert!(parse("", &[("content-encoding", "identity")]).is_ok());
    }
}
