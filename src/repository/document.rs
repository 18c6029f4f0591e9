//! A TOML file of which every mistake is reported, each with its line, column and key.
//!
//! `serde` stops at the first error. Here each table is read on its own, and within a table the key
//! an error points at is taken out and the rest tried again, until only the sound ones remain.

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::complaint::Complaint;

/// Nobody reads more of them at a time; bounds the work on a hostile file.
const MAX_COMPLAINTS: usize = 50;

/// A parsed file, the tables taken out of it, and what was wrong so far.
pub(crate) struct Document<'t> {
    file: &'t str,
    text: &'t str,
    /// Stays whole, so that any key can still be located.
    root: DeTable<'t>,
    complaints: Vec<Complaint>,
}

/// What stood under a top-level key.
pub(crate) enum Section<T> {
    /// No such key.
    Absent,
    /// Something was wrong with it; complained of already.
    Broken,
    /// What it says.
    Sound(T),
}

impl<T> Section<T> {
    /// The value, or else what absence means; `None` if it is broken.
    pub(crate) fn or(self, absent: T) -> Option<T> {
        match self {
            Self::Absent => Some(absent),
            Self::Broken => None,
            Self::Sound(value) => Some(value),
        }
    }

    /// `Some(None)` if absent; `None` if it is broken.
    pub(crate) fn optional(self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Broken => None,
            Self::Sound(value) => Some(Some(value)),
        }
    }
}

impl<'t> Document<'t> {
    /// Parses the text of `file`.
    pub(crate) fn parse(file: &'t str, bytes: &'t [u8]) -> Result<Self, Vec<Complaint>> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let sound = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            vec![Complaint::new(file, "is not UTF-8 from here").at(sound, sound.len())]
        })?;
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self { file, text, root: root.into_inner(), complaints: Vec::new() });
        }
        let complaint = |error: &toml::de::Error| {
            let complaint = Complaint::new(file, one_line(error.message()));
            match error.span() {
                Some(span) => complaint.at(text, span.start),
                None => complaint,
            }
        };
        Err(errors.iter().take(MAX_COMPLAINTS).map(complaint).collect())
    }

    /// Reads what stands under a top-level key.
    pub(crate) fn section<T: DeserializeOwned>(&mut self, key: &str) -> Section<T> {
        let Some(value) = self.root.get(key).cloned() else { return Section::Absent };
        let mut rest = value.clone();
        let mut removed: Vec<String> = Vec::new();
        loop {
            let error = match T::deserialize(ValueDeserializer::from(rest.clone())) {
                Ok(value) if removed.is_empty() => return Section::Sound(value),
                Ok(_) => return Section::Broken,
                Err(error) => error,
            };
            let missing = missing_field(error.message());
            if missing.is_some_and(|it| removed.iter().any(|removed| removed == it)) {
                return Section::Broken;
            }
            let offset = error.span().map_or(value.span().start, |it| it.start);
            let path = path_at(&rest, offset);
            let mut keys = vec![key];
            keys.extend(path.iter().map(String::as_str));
            let complaint = Complaint::new(self.file, one_line(error.message()));
            self.push(complaint.at(self.text, offset).key(&keys));
            match path.last() {
                Some(last) if missing.is_none() && self.complaints.len() < MAX_COMPLAINTS => {
                    removed.push(last.clone());
                    remove(&mut rest, &path);
                }
                _ => return Section::Broken,
            }
        }
    }

    /// Complains of every top-level key that is not among `known`.
    pub(crate) fn only(&mut self, known: &[&str]) {
        self.only_among(known, known);
    }

    /// The same where not every key that is known may be offered to who mistyped one.
    pub(crate) fn only_among(&mut self, known: &[&str], offered: &[&str]) {
        let unknown = self.root.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
        let unknown: Vec<String> = unknown.map(|(key, _)| key.get_ref().to_string()).collect();
        for key in unknown {
            self.complain(&[&key], format!("unknown key, expected one of {}", offered.join(", ")));
        }
    }

    /// Whether there is such a top-level key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.root.contains_key(key)
    }

    /// Complains of a key, at its place if it is there, else at the nearest table around it.
    pub(crate) fn complain(&mut self, path: &[&str], message: impl std::fmt::Display) {
        // Before the place is looked for: that takes as long as the file is.
        if self.complaints.len() >= MAX_COMPLAINTS {
            return;
        }
        let complaint = Complaint::new(self.file, message).key(path);
        let complaint = match locate(&self.root, path) {
            Some(offset) => complaint.at(self.text, offset),
            None => complaint,
        };
        self.push(complaint);
    }

    /// `Ok` with the value if nothing was wrong; `None` means something was.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Complaint>> {
        match value {
            Some(value) if self.complaints.is_empty() => Ok(value),
            _ => {
                self.complaints.sort_by_key(|it| (it.line, it.column));
                Err(self.complaints)
            }
        }
    }

    fn push(&mut self, complaint: Complaint) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', "; ")
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The keys that lead to the innermost key or value at `offset`; none if it is the value itself.
fn path_at(mut value: &Spanned<DeValue<'_>>, offset: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let DeValue::Table(table) = value.get_ref() {
        let at = |(key, value): &(&Spanned<_>, &Spanned<_>)| {
            key.span().contains(&offset) || holds(value, offset)
        };
        let Some((key, inner)) = table.iter().find(at) else { break };
        path.push(key.get_ref().to_string());
        value = inner;
    }
    path
}

/// Whether `offset` lies in the value. The span of a table may be that of its header alone.
fn holds(value: &Spanned<DeValue<'_>>, offset: usize) -> bool {
    let inside = |table: &DeTable<'_>| {
        table.iter().any(|(key, value)| key.span().contains(&offset) || holds(value, offset))
    };
    value.span().contains(&offset) || value.get_ref().as_table().is_some_and(inside)
}

fn remove(value: &mut Spanned<DeValue<'_>>, path: &[String]) {
    let DeValue::Table(table) = value.get_mut() else { return };
    match path {
        [] => {}
        [last] => {
            table.remove(last.as_str());
        }
        [first, rest @ ..] => {
            if let Some(inner) = table.get_mut(first.as_str()) {
                remove(inner, rest);
            }
        }
    }
}

/// Where the key at the end of `path` starts, or the last key on the way that exists.
fn locate(root: &DeTable<'_>, path: &[&str]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let (key, value) = root.get_key_value(*first)?;
    let inner = value.get_ref().as_table().and_then(|it| locate(it, rest));
    Some(inner.unwrap_or(key.span().start))
}
