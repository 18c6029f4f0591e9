//! What was typed: every setting as text with the place it came from, later places over earlier.
//!
//! Not a serde mirror: serde stops at the first complaint, and a person who edits a file wants all
//! of them at once, each with its line and column.

use std::{collections::BTreeMap, fmt, path::Path};

use toml::{Spanned, de::DeTable, de::DeValue};

use super::keys::{self, Form, KEYS};

/// Settings as they were typed, by key. The flags of a command are collected in one of these.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    pub(super) entries: BTreeMap<&'static str, Entry>,
    pub(super) complaints: Vec<Complaint>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Where a value was typed; the start of every complaint about it. Complaints are shown in this
/// order: down a file, then what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A file as a whole.
    WholeFile { name: String },
    /// A file, and where in it, both counted from 1.
    File { name: String, line: usize, column: usize },
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(String),
    /// Nowhere: two settings that do not agree.
    Together,
}

/// One thing wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Complaint {
    pub(super) origin: Origin,
    pub(super) text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { name, line, column } => write!(f, "{name}:{line}:{column}: ")?,
            Origin::WholeFile { name } => write!(f, "{name}: ")?,
            Origin::Variable(name) | Origin::Flag(name) => write!(f, "{name}: ")?,
            Origin::Together => {}
        }
        f.write_str(&self.text)
    }
}

impl RawConfig {
    /// Sets `key` (`"server.data"`) to what a flag (`"--data"`, for complaints) was given.
    pub fn set(&mut self, key: &str, flag: &str, value: impl Into<String>) {
        self.put(key, Origin::Flag(flag.to_owned()), value.into());
    }

    fn put(&mut self, name: &str, origin: Origin, text: String) {
        match keys::find(name) {
            Some(key) => {
                self.entries.insert(key.name, Entry { text, origin });
            }
            None => self
                .complain(origin, unknown("key", name, KEYS.iter().map(|it| it.name.to_owned()))),
        }
    }

    fn complain(&mut self, origin: Origin, text: String) {
        self.complaints.push(Complaint { origin, text });
    }

    /// Lays `over` on top: its entries win, the complaints of both stand.
    pub(super) fn overlay(&mut self, over: Self) {
        let Self { entries, complaints } = over;
        self.entries.extend(entries);
        self.complaints.extend(complaints);
    }

    /// Reads a file. One that cannot be read is a complaint like any other.
    pub(super) fn from_file(path: &Path) -> Self {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_toml(&name, &text),
            Err(error) => {
                let mut raw = Self::default();
                raw.complain(Origin::WholeFile { name }, format!("cannot be read: {error}"));
                raw
            }
        }
    }

    /// Reads the text of a file called `name`.
    pub(super) fn from_toml(name: &str, text: &str) -> Self {
        let mut raw = Self::default();
        let at = |offset: usize| position(name, text, offset);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // Its message can span lines ("expected ..., ..."); a complaint is one line.
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            raw.complain(at(error.span().map_or(0, |it| it.start)), message);
        }
        if !errors.is_empty() {
            // The table was patched up to get on; complaints about its values would mislead.
            return raw;
        }
        for (table, value) in root.get_ref() {
            let known = KEYS.iter().any(|it| it.table() == table.get_ref());
            if !known {
                let tables = KEYS.iter().map(|it| it.table().to_owned());
                raw.complain(at(table.span().start), unknown("table", table.get_ref(), tables));
            } else if let DeValue::Table(keys) = value.get_ref() {
                raw.take_table(table.get_ref(), keys, &at);
            } else {
                let text = format!("{:?} is a table; write [{0}]", table.get_ref());
                raw.complain(at(value.span().start), text);
            }
        }
        raw
    }

    fn take_table(&mut self, table: &str, keys: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) {
        for (key, value) in keys {
            let name = format!("{table}.{}", key.get_ref());
            let Some(known) = keys::find(&name) else {
                let names = KEYS.iter().map(|it| it.name.to_owned());
                self.complain(at(key.span().start), unknown("key", &name, names));
                continue;
            };
            match text_of(value, known.form) {
                Some(text) => self.put(&name, at(value.span().start), text),
                None => self.complain(
                    at(value.span().start),
                    format!("{name} is {}, not {}", article(value), known.form.expected()),
                ),
            }
        }
    }

    /// Reads the variables that are ours. A misspelt one would otherwise be a setting that silently
    /// does nothing.
    pub(super) fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut raw = Self::default();
        for (name, value) in variables {
            let ours = name.starts_with("LINESIGHT_");
            let passed_over = name == "LINESIGHT_CONFIG"
                || name.starts_with("LINESIGHT_TEST_")
                || is_of_a_service(&name, &value);
            if !ours || passed_over {
                continue;
            }
            match KEYS.iter().find(|it| it.variable() == name) {
                Some(key) => raw.put(key.name, Origin::Variable(name), value),
                None => {
                    let text = unknown("variable", &name, KEYS.iter().map(|it| it.variable()));
                    raw.complain(Origin::Variable(name), text);
                }
            }
        }
        raw
    }

    /// `ORT_DYLIB_PATH`, which every program on `ort` knows; it yields to every name of our own.
    pub(super) fn from_dylib_path(value: &str) -> Self {
        let mut raw = Self::default();
        if !value.is_empty() {
            let origin = Origin::Variable("ORT_DYLIB_PATH".to_owned());
            raw.put("runtime.library", origin, value.to_owned());
        }
        raw
    }
}

/// Whether Kubernetes set it: for a Service called `linesight` it gives every pod beside it variables
/// of these names (`LINESIGHT_SERVICE_HOST`, `LINESIGHT_PORT_8080_TCP_ADDR`), in the form that Docker
/// gave to links. No setting of ours looks like it, as those have two underscores.
fn is_of_a_service(name: &str, value: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    // As in tcp://10.0.0.7:8080. A bare number is someone's guess at a setting.
    let link = name.ends_with("_PORT") && value.contains("://");
    service || link || name.rsplit_once("_PORT_").is_some_and(|(_, it)| is_port_of_a_link(it))
}

/// `8080_TCP`, `8080_TCP_PROTO`, `8080_TCP_PORT`, `8080_TCP_ADDR`, and so for the other protocols.
fn is_port_of_a_link(text: &str) -> bool {
    let mut parts = text.split('_');
    let number = parts.next().unwrap_or_default();
    let protocol = parts.next().unwrap_or_default();
    !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
        && matches!(protocol, "TCP" | "UDP" | "SCTP")
        && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
}

/// The value as text, if it is of the form that the key takes.
fn text_of(value: &Spanned<DeValue<'_>>, form: Form) -> Option<String> {
    use Form::{Number, NumberOrWord, Size, Switch, Text};
    match (value.get_ref(), form) {
        (DeValue::String(text), Text | Size | NumberOrWord) => Some(text.to_string()),
        (DeValue::Integer(number), Number | Size | NumberOrWord) if number.radix() == 10 => {
            Some(number.as_str().replace('_', ""))
        }
        (DeValue::Boolean(switch), Switch) => Some(switch.to_string()),
        _ => None,
    }
}

fn article(value: &Spanned<DeValue<'_>>) -> String {
    let kind = value.get_ref().type_str();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn position(name: &str, text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |it| it.chars().count()) + 1;
    Origin::File { name: name.to_owned(), line, column }
}

/// Says that there is no such thing, and what was probably meant.
fn unknown(what: &str, given: &str, known: impl Iterator<Item = String>) -> String {
    let nearest = known.map(|it| (distance(given, &it), it)).min();
    match nearest {
        // Beyond a third of the word it is a guess, not a slip.
        Some((edits, name)) if edits * 3 <= name.len() => {
            format!("unknown {what} {given:?}; did you mean {name}?")
        }
        _ => format!("unknown {what} {given:?}; docs/config.md lists them all"),
    }
}

/// How many single-character edits apart (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
