//! What is wrong, and where: file, line, column, key.

use std::fmt;

/// One thing that is wrong (or, in a list of notes, worth knowing) in a model repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Relative to the repository: `vial-defect/1/package.toml`.
    pub file: String,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// `labels`, `[decision].approve_at`.
    pub key: Option<String>,
    /// What is wrong, as a sentence without capital and full stop.
    pub message: String,
}

impl Complaint {
    /// About a file or folder as a whole.
    #[must_use]
    pub fn new(file: impl Into<String>, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { file: file.into(), line: None, column: None, key: None, message }
    }

    /// At a byte of the file's text.
    pub(crate) fn at(self, text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |it| it + 1);
        let count = |n: usize| u32::try_from(n + 1).ok();
        Self {
            line: count(before.matches('\n').count()),
            column: count(before[line_start..].chars().count()),
            ..self
        }
    }

    pub(crate) fn key(self, path: &[&str]) -> Self {
        Self { key: key_name(path), ..self }
    }
}

/// `labels`, `[decision].approve_at`, `[preprocess].resize.size`.
fn key_name(path: &[&str]) -> Option<String> {
    match path {
        [] => None,
        [key] => Some((*key).to_owned()),
        [table, rest @ ..] => Some(format!("[{table}].{}", rest.join("."))),
    }
}

impl fmt::Display for Complaint {
    /// `vial-defect/1/package.toml:12:3: [decision].approve_at: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_its_place() {
        let whole = Complaint::new("m/1/model.onnx", "is a folder");
        assert_eq!(whole.to_string(), "m/1/model.onnx: is a folder");
        let text = "a = 1\n[é]\n  é = 2\n";
        let placed = Complaint::new("m/model.toml", "is odd")
            .at(text, text.rfind('2').unwrap())
            .key(&["é", "é"]);
        assert_eq!(placed.to_string(), "m/model.toml:3:7: [é].é: is odd");
        let beyond = Complaint::new("x", "ends").at("é", 1).at("é", 99);
        assert_eq!(beyond.to_string(), "x:1:2: ends");
    }
}
