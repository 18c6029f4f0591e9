//! `linesight init`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;

use super::{Settings, table};
use crate::{
    app,
    onnx::{Environment, Graph, TensorSpec},
    repository::{self, TensorSignature},
    types::ModelName,
};

/// Make a package to fill in from a bare ONNX file.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    settings: Settings,
    /// The model
    model: PathBuf,
    /// Its name [default: the file's, without .onnx]
    #[arg(long)]
    name: Option<ModelName>,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.load_quietly()?;
        let name = match self.name {
            Some(name) => name,
            None => name_of(&self.model)?,
        };
        let bytes: Arc<[u8]> = std::fs::read(&self.model)
            .with_context(|| format!("reading {}", self.model.display()))?
            .into();
        let environment = Environment::load(&config.runtime.library)?;
        let sessions = app::load_config(&config).sessions;
        let graph = Graph::optimise(&environment, &bytes, sessions)
            .with_context(|| format!("opening {}", self.model.display()))?;
        let signature = graph.signature();
        let scaffold =
            repository::scaffold(&name, &specs(&signature.inputs), &specs(&signature.outputs));

        let model = config.models.path.join(name.as_str());
        let version = model.join("1");
        std::fs::create_dir_all(&version)
            .with_context(|| format!("making {}", version.display()))?;
        write_new(&version.join("package.toml"), scaffold.package_toml.as_bytes())?;
        write_new(&model.join("model.toml"), scaffold.model_toml.as_bytes())?;
        write_new(&version.join("model.onnx"), &bytes)?;
        for (what, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            for spec in specs {
                table::print(&format!("{what:6}  {spec}"));
            }
        }
        table::print(&format!(
            "made {}; look at package.toml (labels, preprocessing), then: linesight check {}",
            version.display(),
            model.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

fn name_of(model: &Path) -> anyhow::Result<ModelName> {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().with_context(|| "the file's name makes no model name; give --name".to_owned())
}

fn specs(all: &[TensorSpec]) -> Vec<TensorSignature> {
    let signature = |it: &TensorSpec| TensorSignature {
        name: it.name.to_string(),
        dtype: it.dtype,
        dims: it.shape.clone(),
    };
    all.iter().map(signature).collect()
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    repository::write_new(path, bytes)
        .with_context(|| format!("writing {} (nothing is overwritten)", path.display()))
}
