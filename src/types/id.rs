//! Names that cannot be malformed: once built, nothing downstream checks them again.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use sha2::Digest as _;

/// What a name should have looked like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not of the form {expected}")]
pub struct InvalidId {
    what: &'static str,
    given: String,
    expected: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, given: &str, expected: &'static str) -> Self {
        // An attacker chooses `given`; a log line or an answer needs no more than its start.
        Self { what, given: given.chars().take(140).collect(), expected }
    }
}

/// Defines a string newtype that accepts `1..=$max` bytes, each accepted by `$allowed`, the first
/// one alphanumeric when `$strict_start`.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $max:literal, $strict_start:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(given: &str) -> Result<Self, InvalidId> {
                let allowed: fn(u8) -> bool = $allowed;
                let starts_well = !$strict_start
                    || given.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
                let fits = (1..=$max).contains(&given.len());
                if fits && starts_well && given.bytes().all(allowed) {
                    Ok(Self(given.into()))
                } else {
                    Err(InvalidId::new($what, given, $form))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A model's name: its folder in the repository, its place in a URL, a metric label.
    ModelName, "model name", "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 64, true,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

text_id!(
    /// Names one item (an image, a vial, a row) across caller, answer and record.
    ItemId, "id", "[A-Za-z0-9._:-]{1,128}", 128, false,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-')
);

text_id!(
    /// Names one HTTP request in the answer's header and in every log line about it.
    RequestId, "request id", "[A-Za-z0-9._-]{1,64}", 64, false,
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

impl ItemId {
    /// A new unique id (ULID: sortable by time).
    #[must_use]
    pub fn unique() -> Self {
        Self(ulid::Ulid::generate().to_string().into())
    }
}

impl RequestId {
    /// A new unique id (ULID: sortable by time).
    #[must_use]
    pub fn unique() -> Self {
        Self(ulid::Ulid::generate().to_string().into())
    }
}

/// A version of a model: a positive whole number, the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelVersion(std::num::NonZeroU64);

impl FromStr for ModelVersion {
    type Err = InvalidId;

    fn from_str(given: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("version", given, "[1-9][0-9]{0,17}");
        // `parse` alone would accept "+1" and "01".
        let plain = (1..=18).contains(&given.len())
            && given.bytes().all(|b| b.is_ascii_digit())
            && !given.starts_with('0');
        if plain { given.parse().map(Self).or(Err(invalid())) } else { Err(invalid()) }
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ModelVersion {
    /// As a string: JSON numbers lose digits in some readers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which model a request is for: the version the operator serves by default, or a named one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// `None`: the first version of `serve`.
    pub version: Option<ModelVersion>,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{} version {version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// A SHA-256, printed as `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of bytes that come in pieces, which need not all be held.
    ///
    /// # Errors
    /// The first that a piece comes with.
    pub fn of_pieces<E>(mut next: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<Self, E> {
        let (mut state, mut piece) = (sha2::Sha256::new(), vec![0; 256 * 1024]);
        loop {
            let n = next(&mut piece)?;
            match piece.get(..n) {
                Some([]) | None => return Ok(Self(state.finalize().into())),
                Some(piece) => state.update(piece),
            }
        }
    }

    /// The 64 hex digits without the algorithm's name.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    /// Reads 64 hex digits, with or without `sha256:` before them.
    fn from_str(given: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("digest", given, "sha256:<64 hex digits>");
        let hex = given.strip_prefix("sha256:").unwrap_or(given);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = str::from_utf8(pair).or(Err(invalid()))?;
            *byte = u8::from_str_radix(pair, 16).or(Err(invalid()))?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_form_and_nothing_else() {
        for good in ["vial-defect", "a", "ResNet50_v1.5", &"x".repeat(64)] {
            assert_eq!(good.parse::<ModelName>().unwrap().as_str(), good);
        }
        for bad in ["", ".hidden", "../x", "a/b", "a b", "é", "a\0", "-x", &"x".repeat(65)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_plain_positive_numbers() {
        assert_eq!("17".parse::<ModelVersion>().unwrap().to_string(), "17");
        for bad in ["", "0", "01", "+1", "-1", "1.0", "18446744073709551616", "1 "] {
            assert!(bad.parse::<ModelVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:12".parse::<Digest>().is_err());
    }
}
