//! What can keep a repository or a version from being read.

use std::{io, path::PathBuf};

use super::complaint::Complaint;
use crate::types::Blame;

/// The repository as a whole cannot be read. What is wrong inside it is a [`Complaint`].
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The root cannot be listed.
    #[error("cannot list the model repository {}", path.display())]
    Root {
        /// As configured.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RepositoryError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Root { .. } => Blame::Server,
        }
    }
}

/// One version cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Something in it is wrong; every complaint there is, at least one.
    #[error("{}", in_one_line(complaints))]
    Broken {
        /// What is wrong.
        complaints: Vec<Complaint>,
    },
    /// Its folder cannot be listed.
    #[error("cannot list {place}")]
    Unlistable {
        /// Relative to the repository.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Broken { .. } => Blame::Model,
            Self::Unlistable { .. } => Blame::Server,
        }
    }

    /// The error as complaints, for lists of them.
    #[must_use]
    pub fn into_complaints(self) -> Vec<Complaint> {
        match self {
            Self::Broken { complaints } => complaints,
            Self::Unlistable { place, source } => {
                vec![Complaint::new(place, format!("cannot be listed: {source}"))]
            }
        }
    }
}

fn in_one_line(complaints: &[Complaint]) -> String {
    match complaints {
        [] => "nothing is wrong".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// One file cannot be used. Says nothing of which: the complaint made of it does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Nothing bears the name.
    #[error("is missing")]
    Missing,
    /// A folder, link, pipe, socket or device bears the name.
    #[error("is {found}, not a regular file")]
    NotRegular { found: &'static str },
    /// More bytes than that kind of file may have.
    #[error("has more than the {limit} bytes allowed")]
    TooLarge { limit: u64 },
    /// Another file took the name between looking and opening.
    #[error("was replaced while it was being read")]
    Replaced,
    /// The operating system said no.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}
