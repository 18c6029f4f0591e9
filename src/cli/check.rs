//! `linesight check`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;

use super::{Settings, table};
use crate::{app, repository};

/// Check a repository, a model or a package; say every complaint and where it is.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: Settings,
    /// A repository, the folder of a model, or that of a version [default: the model repository]
    path: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.load_quietly()?;
        let root = self.path.unwrap_or_else(|| config.models.path.clone());
        let checked = repository::check(&root, &app::load_config(&config).files)
            .with_context(|| format!("checking {}", root.display()))?;
        for note in &checked.notes {
            table::complain(&format!("note: {note}"));
        }
        for complaint in &checked.complaints {
            table::print(&complaint.to_string());
        }
        let (n, versions) = (checked.complaints.len(), checked.n_versions);
        table::complain(&format!(
            "{} about {}",
            counted(n, "complaint"),
            counted(versions, "version")
        ));
        Ok(if n == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// "1 version", "2 versions".
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
