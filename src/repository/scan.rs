//! Which models and versions a tree holds; reads names, never a model's bytes.
//!
//! Four layouts, told apart by names alone:
//! - `<name>/<version>/model.onnx`: ours, and Triton's (its `config.pbtxt` is not read);
//! - `<name>/onnx/model.onnx` or `<name>/model.onnx` beside a `config.json`: a Hugging Face export;
//! - `<name>/model.onnx`: a bare model, version 1;
//! - `<name>.onnx` in the root: a bare model, version 1.
//!
//! Folders may be symbolic links, as Kubernetes mounts them. The depth is fixed, so a link that
//! leads back is harmless. Names that start with a dot are not looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{complaint::Complaint, error::RepositoryError};
use crate::types::{ModelName, ModelVersion};

/// What a version's files look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A folder with `model.onnx`, and perhaps `package.toml`, `card.json`, `golden/`.
    Package {
        /// The version's folder.
        dir: PathBuf,
    },
    /// A model and nothing else.
    Bare {
        /// The file.
        model: PathBuf,
    },
    /// A folder written by Hugging Face's exporters.
    HuggingFace {
        /// The folder with `config.json`.
        dir: PathBuf,
        /// The model in it.
        model: PathBuf,
    },
}

/// One version that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVersion {
    /// Its number.
    pub version: ModelVersion,
    /// Where its files are.
    pub layout: Layout,
    /// Relative to the root, for complaints: `vial-defect/1`.
    pub place: String,
}

/// One model that is there; it may have no version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundModel {
    /// Its name.
    pub name: ModelName,
    /// Its `model.toml`, if there is one.
    pub config: Option<PathBuf>,
    /// By number.
    pub versions: BTreeMap<ModelVersion, FoundVersion>,
}

impl FoundModel {
    /// The numbers of the versions, as [`super::plan`] takes them.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<ModelVersion> {
        self.versions.keys().copied().collect()
    }
}

/// What a tree holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// By name.
    pub models: BTreeMap<ModelName, FoundModel>,
    /// What keeps something from being served.
    pub complaints: Vec<Complaint>,
    /// What is worth knowing.
    pub notes: Vec<Complaint>,
}

/// Looks through a model repository.
///
/// # Errors
/// When the root cannot be listed. What is wrong inside it is a complaint.
pub fn scan(root: &Path) -> Result<Found, RepositoryError> {
    let entries =
        list(root).map_err(|source| RepositoryError::Root { path: root.to_path_buf(), source })?;
    let mut found = Found::default();
    let (folders, files): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|it| root.join(it).is_dir());
    for folder in folders {
        match folder.parse::<ModelName>() {
            Ok(name) => found.model(&root.join(&folder), &name),
            Err(error) => found.complain(&folder, error),
        }
    }
    for file in files {
        let Some(stem) = file.strip_suffix(".onnx") else { continue };
        match stem.parse::<ModelName>() {
            Err(error) => found.complain(&file, error),
            Ok(name) if found.models.contains_key(&name) => {
                found.complain(&file, format!("is ignored: there is a folder {name} too"));
            }
            Ok(name) => found.bare_file(root.join(&file), name, file),
        }
    }
    Ok(found)
}

impl Found {
    fn complain(&mut self, place: &str, message: impl std::fmt::Display) {
        self.complaints.push(Complaint::new(place, message));
    }

    fn note(&mut self, place: &str, message: impl std::fmt::Display) {
        self.notes.push(Complaint::new(place, message));
    }

    fn bare_file(&mut self, model: PathBuf, name: ModelName, place: String) {
        let found = first(Layout::Bare { model }, place);
        let versions = BTreeMap::from([(found.version, found)]);
        self.models.insert(name.clone(), FoundModel { name, config: None, versions });
    }

    /// Looks through the folder of one model.
    pub(crate) fn model(&mut self, dir: &Path, name: &ModelName) {
        let entries = match list(dir) {
            Ok(entries) => entries,
            Err(error) => {
                return self.complain(name.as_str(), format!("cannot be listed: {error}"));
            }
        };
        let mut versions = BTreeMap::new();
        for entry in entries.iter().filter(|it| dir.join(it).is_dir()) {
            if let Some(found) = self.version(&dir.join(entry), name, entry) {
                versions.insert(found.version, found);
            }
        }
        let has = |entry: &str| entries.iter().any(|it| it == entry);
        if has("config.pbtxt") {
            let message = "is not read; what of it matters here belongs into model.toml";
            self.note(&format!("{name}/config.pbtxt"), message);
        }
        let unversioned = self.unversioned(dir, name, &has);
        match unversioned {
            Some(found) if versions.is_empty() => {
                versions.insert(found.version, found);
            }
            Some(found) => {
                let message = "is ignored: there are folders of versions beside it";
                self.complain(&format!("{}/model.onnx", found.place), message);
            }
            None if versions.is_empty() => {
                let message = format!("holds no model: expected {name}/<version>/model.onnx");
                self.complain(name.as_str(), message);
            }
            None => {}
        }
        let config = has("model.toml").then(|| dir.join("model.toml"));
        self.models.insert(name.clone(), FoundModel { name: name.clone(), config, versions });
    }

    /// A model that lies in the model's own folder, as version 1.
    fn unversioned(
        &mut self,
        dir: &Path,
        name: &ModelName,
        has: &dyn Fn(&str) -> bool,
    ) -> Option<FoundVersion> {
        let (flat, nested) = (dir.join("model.onnx"), dir.join("onnx").join("model.onnx"));
        let model = if has("model.onnx") {
            flat
        } else if exists(&nested) {
            nested
        } else {
            return None;
        };
        if has("package.toml") || has("card.json") {
            let message =
                format!("is ignored: a package lies in a folder of its version, {name}/1/");
            let file = if has("package.toml") { "package.toml" } else { "card.json" };
            self.complain(&format!("{name}/{file}"), message);
            return None;
        }
        let dir = dir.to_path_buf();
        let layout = if has("config.json") {
            Layout::HuggingFace { dir, model }
        } else {
            Layout::Bare { model }
        };
        Some(first(layout, name.to_string()))
    }

    fn version(&mut self, dir: &Path, name: &ModelName, entry: &str) -> Option<FoundVersion> {
        let place = format!("{name}/{entry}");
        // A package whose model is missing is a version all the same, one that fails to load.
        let holds = |file: &str| exists(&dir.join(file));
        let holds_model = ["model.onnx", "package.toml", "card.json"].into_iter().any(holds);
        match entry.parse() {
            Ok(version) if holds_model => {
                let layout = Layout::Package { dir: dir.to_path_buf() };
                Some(FoundVersion { version, layout, place })
            }
            Ok(_) => {
                // A folder that may not be looked into is not an empty one.
                match fs::symlink_metadata(dir.join("model.onnx")) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        self.complain(&place, format!("cannot be read: {error}"));
                    }
                    Ok(_) | Err(_) => self.complain(&place, "holds no model.onnx"),
                }
                None
            }
            Err(_not_a_version) if entry == "onnx" => None,
            Err(error) if holds_model || entry.starts_with(|c: char| c.is_ascii_digit()) => {
                self.complain(&place, error);
                None
            }
            Err(_not_a_version) => {
                self.note(&place, "is not looked at: it is no version");
                None
            }
        }
    }
}

/// The version of a model whose layout has no numbers.
fn first(layout: Layout, place: String) -> FoundVersion {
    let version = "1".parse().expect("1 is a version");
    FoundVersion { version, layout, place }
}

/// Whether the name is taken, by a file or by what should be none and is complained of on reading.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The names in a folder, sorted, without hidden ones. A name that is not UTF-8 comes with
/// replacement characters: it is then no valid name, and complained of.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
