//! `card.json`: where a version comes from, and the seal over its files.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::complaint::Complaint;
use crate::types::{Digest, ModelName, ModelVersion};

/// The only schema there is.
const SCHEMA: &str = "linesight.card/1";
/// A package is a handful of files and its golden samples.
const MAX_FILES: usize = 10_000;
/// `golden/x.jpg`; deeper trees are no package.
const MAX_DEPTH: usize = 4;

/// What the seal says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFile {
    /// Of its bytes.
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
}

/// A checked `card.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The files under the seal, by their path in the folder; plain relative paths with `/`.
    pub files: BTreeMap<String, SealedFile>,
    /// Everything else in the file as it stands: created, provenance, metrics, …
    pub about: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawCard {
    schema: String,
    name: String,
    version: String,
    files: BTreeMap<String, RawFile>,
    #[serde(flatten)]
    about: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(deserialize_with = "digest")]
    sha256: Digest,
    size: u64,
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Card {
    /// Reads and checks a card; `name` and `version` are those of the folders it lies in.
    ///
    /// # Errors
    /// Every complaint there is; of JSON that is malformed only the first.
    pub fn parse(
        file: &str,
        bytes: &[u8],
        name: &ModelName,
        version: ModelVersion,
    ) -> Result<Self, Vec<Complaint>> {
        let raw: RawCard = parse_json(file, bytes).map_err(|it| vec![it])?;
        let mut complaints = Vec::new();
        let mut expect = |key: &str, found: &str, expected: &str| {
            if found != expected {
                let message = format!("is {found:?}, expected {expected:?}");
                complaints.push(Complaint::new(file, message).key(&[key]));
            }
        };
        expect("schema", &raw.schema, SCHEMA);
        expect("name", &raw.name, name.as_str());
        expect("version", &raw.version, &version.to_string());
        let mut wrong = |message: String| {
            complaints.push(Complaint::new(file, message).key(&["files"]));
        };
        if !raw.files.contains_key("model.onnx") {
            wrong("model.onnx is not listed".to_owned());
        }
        if raw.files.len() > MAX_FILES {
            wrong(format!("{} files, at most {MAX_FILES}", raw.files.len()));
        }
        for path in raw.files.keys() {
            if !is_plain_path(path) {
                wrong(format!("{path:?} is not a plain relative path"));
            } else if path == "card.json" || path.starts_with("attestations/") {
                wrong(format!("{path} cannot be under the seal"));
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let sealed = |it: RawFile| SealedFile { sha256: it.sha256, size: it.size };
        let files = raw.files.into_iter().map(|(path, it)| (path, sealed(it))).collect();
        Ok(Self { files, about: raw.about })
    }
}

/// `a/b.jpg`: no root, no `..`, no empty part, nothing a file system could read differently.
fn is_plain_path(path: &str) -> bool {
    path.split('/').count() <= MAX_DEPTH && path.split('/').all(is_plain_name)
}

/// A name in a folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(odd)
}

/// Reads JSON, with the place of the first error. `serde_json` bounds the depth at 128.
pub(crate) fn parse_json<'b, T: Deserialize<'b>>(
    file: &str,
    bytes: &'b [u8],
) -> Result<T, Complaint> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = |n: usize| u32::try_from(n).ok().filter(|&it| it > 0);
        let (line, column) = (place(error.line()), place(error.column()));
        // The place is said once, before the message.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(it, _)| it);
        Complaint { line, column, ..Complaint::new(file, message) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Card, Vec<String>> {
        let (name, version) = ("m".parse().unwrap(), "1".parse().unwrap());
        Card::parse("m/1/card.json", text.as_bytes(), &name, version)
            .map_err(|all| all.iter().map(Complaint::to_string).collect())
    }

    fn text(files: &str) -> String {
        format!(
            r#"{{"schema":"linesight.card/1","name":"m","version":"1","synthetic":true,"files":{files}}}"#
        )
    }

    #[test]
    fn a_card_keeps_what_it_does_not_know() {
        let hex = "ab".repeat(32);
        let card =
            parse(&text(&format!(r#"{{"model.onnx":{{"sha256":"{hex}","size":3}}}}"#))).unwrap();
        assert_eq!(card.files["model.onnx"].size, 3);
        assert_eq!(card.files["model.onnx"].sha256.hex(), hex);
        assert_eq!(card.about["synthetic"], Value::Bool(true));
    }

    #[test]
    fn every_complaint_is_reported() {
        let other = r#"{"schema":"other/1","name":"x","version":"2","files":{}}"#;
        assert_eq!(
            parse(other).unwrap_err(),
            [
                r#"m/1/card.json: schema: is "other/1", expected "linesight.card/1""#,
                r#"m/1/card.json: name: is "x", expected "m""#,
                r#"m/1/card.json: version: is "2", expected "1""#,
                "m/1/card.json: files: model.onnx is not listed",
            ]
        );
        let hex = "0".repeat(64);
        for path in [
            "/etc/x",
            "../x",
            "a/../x",
            "a//b",
            "card.json",
            "attestations/a",
            "a\\\\b",
            "a/b/c/d/e",
        ] {
            let entry = format!(r#"{{"sha256":"{hex}","size":0}}"#);
            let files = format!(r#"{{"model.onnx":{entry},"{path}":{entry}}}"#);
            assert_eq!(parse(&text(&files)).unwrap_err().len(), 1, "{path}");
        }
        let short = parse(&text(r#"{"model.onnx":{"sha256":"12","size":3}}"#)).unwrap_err();
        assert!(short[0].starts_with("m/1/card.json:1:"), "{short:?}");
        assert!(short[0].contains("64 hex digits"), "{short:?}");
        assert_eq!(parse("{").unwrap_err().len(), 1);
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&deep).unwrap_err().len(), 1);
    }
}
