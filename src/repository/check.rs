//! Checks everything that can be checked without running a model.

use std::path::Path;

use super::{
    complaint::Complaint,
    error::RepositoryError,
    files::Limits,
    model_config::ModelConfig,
    package::{SealedPackage, read_version},
    plan::plan,
    scan::{Found, FoundModel, FoundVersion, Layout, scan},
};
use crate::types::ModelName;

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong; empty if all is well.
    pub complaints: Vec<Complaint>,
    /// What is worth knowing.
    pub notes: Vec<Complaint>,
    /// How many versions were read.
    pub n_versions: usize,
}

/// Checks a repository, or the folder of one model, or of one version, told apart by what is in it.
///
/// Every version that is there is read, whether or not it is to be served.
///
/// # Errors
/// When the folder cannot be listed. What is wrong inside it is in the answer.
pub fn check(root: &Path, limits: &Limits) -> Result<Checked, RepositoryError> {
    // The names are those of the folders, which `.` and links do not show.
    let absolute = root
        .canonicalize()
        .map_err(|source| RepositoryError::Root { path: root.to_path_buf(), source })?;
    let found = match kind(&absolute) {
        Kind::Repository => scan(&absolute)?,
        Kind::Model(name) => {
            let mut found = Found::default();
            found.model(&absolute, &name);
            found
        }
        Kind::Version(name, version) => one_version(name, version),
    };
    let mut checked = Checked { complaints: found.complaints, notes: found.notes, n_versions: 0 };
    for model in found.models.values() {
        checked.model(model, limits);
    }
    Ok(checked)
}

enum Kind {
    Repository,
    Model(ModelName),
    Version(ModelName, FoundVersion),
}

fn kind(dir: &Path) -> Kind {
    let name_of = |path: &Path| path.file_name().map(|it| it.to_string_lossy().into_owned());
    let has = |file: &str| dir.join(file).exists();
    let name = name_of(dir).unwrap_or_default();
    let model_above = dir.parent().and_then(name_of).and_then(|it| it.parse::<ModelName>().ok());
    if let (Ok(version), Some(model), true) = (name.parse(), model_above, has("model.onnx")) {
        let place = format!("{model}/{name}");
        let layout = Layout::Package { dir: dir.to_path_buf() };
        return Kind::Version(model, FoundVersion { version, layout, place });
    }
    let holds_version = || {
        let numbered =
            |it: &str| dir.join(it).join("model.onnx").exists() && it.parse::<u64>().is_ok();
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .any(|it| numbered(&it.file_name().to_string_lossy()))
    };
    match name.parse() {
        Ok(name) if has("model.toml") || has("model.onnx") || holds_version() => Kind::Model(name),
        _ => Kind::Repository,
    }
}

fn one_version(name: ModelName, found: FoundVersion) -> Found {
    let versions = [(found.version, found)].into();
    let model = FoundModel { name: name.clone(), config: None, versions };
    Found { models: [(name, model)].into(), ..Found::default() }
}

impl Checked {
    fn model(&mut self, model: &FoundModel, limits: &Limits) {
        match ModelConfig::read(model, limits) {
            Err(complaints) => self.complaints.extend(complaints),
            Ok(config) => {
                let place = format!("{}/model.toml", model.name);
                let plan = plan(config.serve.as_deref(), &model.numbers());
                self.complaints.extend(
                    plan.complaints.iter().map(|it| Complaint::new(&place, it).key(&["serve"])),
                );
            }
        }
        for version in model.versions.values() {
            self.n_versions += 1;
            match read_version(&model.name, version, limits) {
                Err(error) => self.complaints.extend(error.into_complaints()),
                Ok(package) => self.package(version, package),
            }
        }
    }

    fn package(&mut self, found: &FoundVersion, package: SealedPackage) {
        let mut note = |message: &str| self.notes.push(Complaint::new(&found.place, message));
        let Some(manifest) = &package.manifest else {
            note("declares nothing: it is served as tensors, without labels and verdicts");
            self.notes.extend(package.notes);
            return;
        };
        if !package.sealed && matches!(found.layout, Layout::Package { .. }) {
            note("is not sealed: there is no card.json");
        }
        if manifest.decision.is_some() && package.golden.is_empty() {
            note("has a [decision] and no golden samples: it is served without verdicts");
        }
        self.notes.extend(package.notes);
    }
}
