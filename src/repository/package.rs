//! One version, read once and verified: the bytes kept here are the only ones used from then on.
//!
//! With a `card.json` the folder is sealed: every file in it is listed there with size and digest,
//! and nothing else lies beside them but `card.json` itself and `attestations/`. Without one it is
//! a draft: it can be served, and its digest is that of its model alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    card::{Card, SealedFile},
    complaint::Complaint,
    error::{FileError, PackageError},
    files::{Limits, kind, read_sealed},
    golden::{self, GoldenSample},
    hugging_face,
    manifest::Manifest,
    scan::{FoundVersion, Layout},
};
use crate::types::{Digest, ModelName, ModelVersion};

/// `golden/x.jpg` and a little more.
const MAX_DEPTH: usize = 4;
/// A folder with more is no package.
const MAX_ENTRIES: usize = 20_000;

/// One version of a model, checked and in memory.
#[derive(Debug, Clone)]
pub struct SealedPackage {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: ModelVersion,
    /// Of `card.json` if the version is sealed, else of the model's bytes.
    pub digest: Digest,
    /// Whether there is a `card.json`, and so every other byte was verified.
    pub sealed: bool,
    /// The graph and its weights.
    pub model: Arc<[u8]>,
    /// What the version is. `None` for a bare model, which is served as tensors.
    pub manifest: Option<Arc<Manifest>>,
    /// What it must answer before it serves; may be empty.
    pub golden: Vec<GoldenSample>,
    /// Where it comes from; `Some` exactly where `sealed`.
    pub card: Option<Arc<Card>>,
    /// `reference.json` as it stands.
    pub reference: Option<Arc<[u8]>>,
    /// What is worth knowing and no reason to refuse.
    pub notes: Vec<Complaint>,
}

/// Reads a version in whatever layout it was found.
///
/// # Errors
/// Every complaint there is.
pub fn read_version(
    name: &ModelName,
    found: &FoundVersion,
    limits: &Limits,
) -> Result<SealedPackage, PackageError> {
    match &found.layout {
        Layout::Package { dir } => SealedPackage::read(dir, name, found.version, limits),
        Layout::Bare { model } => bare(name, found, model, limits),
        Layout::HuggingFace { dir, model } => {
            let mut package = bare(name, found, model, limits)?;
            let export = hugging_face::read(dir, name, limits);
            package.manifest = export.manifest.map(Arc::new);
            package.notes.extend(export.notes);
            Ok(package)
        }
    }
}

fn bare(
    name: &ModelName,
    found: &FoundVersion,
    model: &Path,
    limits: &Limits,
) -> Result<SealedPackage, PackageError> {
    let bytes = read_sealed(model, limits.model).map_err(|error| PackageError::Broken {
        complaints: vec![Complaint::new(&found.place, error)],
    })?;
    let mut notes = Vec::new();
    for suffix in ["_data", ".data"] {
        let mut beside = model.as_os_str().to_owned();
        beside.push(suffix);
        if fs::symlink_metadata(&beside).is_ok() {
            let message =
                format!("has weights in a file beside it (model.onnx{suffix}), which is not read");
            notes.push(Complaint::new(&found.place, message));
        }
    }
    Ok(SealedPackage {
        name: name.clone(),
        version: found.version,
        digest: Digest::of(&bytes),
        sealed: false,
        model: bytes,
        manifest: None,
        golden: Vec::new(),
        card: None,
        reference: None,
        notes,
    })
}

impl SealedPackage {
    /// Reads the package in `dir`, every byte once.
    ///
    /// # Errors
    /// Every complaint there is, or that the folder cannot be listed.
    pub fn read(
        dir: &Path,
        name: &ModelName,
        version: ModelVersion,
        limits: &Limits,
    ) -> Result<Self, PackageError> {
        let place = format!("{name}/{version}");
        let mut reader =
            Reader { dir, place, limits, complaints: Vec::new(), golden_left: limits.golden_total };
        let sealed = reader.has("card.json");
        let card = if sealed { reader.card(name, version) } else { None };
        let card_files = card.as_ref().map(|(card, _)| &card.files);
        if let Some(files) = card_files {
            reader.nothing_unlisted(files)?;
        }
        let model = reader.take("model.onnx", card_files);
        let manifest = reader.manifest(card_files);
        let golden = reader.golden(card_files, manifest.as_ref());
        let reference = reader.optional("reference.json", card_files);
        if let Some(files) = card_files {
            reader.verify_the_rest(files, &golden);
        }
        let digest = match (&card, &model) {
            (Some((_, digest)), _) => Some(*digest),
            (None, Some(model)) if !sealed => Some(Digest::of(model)),
            (None, _) => None,
        };
        match (model, digest) {
            (Some(model), Some(digest)) if reader.complaints.is_empty() => Ok(Self {
                name: name.clone(),
                version,
                digest,
                sealed,
                model,
                manifest: manifest.map(Arc::new),
                golden: golden.samples,
                card: card.map(|(card, _)| Arc::new(card)),
                reference,
                notes: Vec::new(),
            }),
            _ => Err(PackageError::Broken { complaints: reader.complaints }),
        }
    }
}

/// The golden samples, and the files that were read for them.
#[derive(Default)]
struct Golden {
    samples: Vec<GoldenSample>,
    read: BTreeSet<String>,
}

type Files = BTreeMap<String, SealedFile>;

/// Reads files of one folder; what comes back empty has been complained of.
struct Reader<'a> {
    dir: &'a Path,
    place: String,
    limits: &'a Limits,
    complaints: Vec<Complaint>,
    golden_left: u64,
}

impl Reader<'_> {
    fn complain(&mut self, path: &str, message: impl std::fmt::Display) {
        self.complaints.push(Complaint::new(format!("{}/{path}", self.place), message));
    }

    /// Whether the name is taken, by a file or by anything else.
    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.dir.join(path)).is_ok()
    }

    fn limit(&self, path: &str) -> u64 {
        match path {
            "model.onnx" => self.limits.model,
            "package.toml" => self.limits.toml,
            "card.json" | "golden/golden.json" | "reference.json" => self.limits.json,
            _ if path.starts_with("golden/") => self.limits.golden_file.min(self.golden_left),
            _ => self.limits.other,
        }
    }

    fn card(&mut self, name: &ModelName, version: ModelVersion) -> Option<(Card, Digest)> {
        let bytes = self.take("card.json", None)?;
        let place = format!("{}/card.json", self.place);
        match Card::parse(&place, &bytes, name, version) {
            Ok(card) => Some((card, Digest::of(&bytes))),
            Err(complaints) => {
                self.complaints.extend(complaints);
                None
            }
        }
    }

    /// The bytes of a file; under a seal, only if they are the sealed ones.
    fn take(&mut self, path: &str, seal: Option<&Files>) -> Option<Arc<[u8]>> {
        let bytes = match read_sealed(&self.dir.join(path), self.limit(path)) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.complain(path, error);
                return None;
            }
        };
        if path.starts_with("golden/") {
            self.golden_left = self.golden_left.saturating_sub(bytes.len() as u64);
        }
        if let Some(files) = seal {
            // A file that is not listed has been complained of by `nothing_unlisted`.
            let file = files.get(path)?;
            if file.size != bytes.len() as u64 {
                let message = format!("has {} bytes, card.json says {}", bytes.len(), file.size);
                self.complain(path, message);
                return None;
            }
            let found = Digest::of(&bytes);
            if file.sha256 != found {
                self.complain(path, format!("is {found}, card.json says {}", file.sha256));
                return None;
            }
        }
        Some(bytes)
    }

    /// As [`Self::take`] where the file may be absent. Under a seal, a listed file may not.
    fn optional(&mut self, path: &str, seal: Option<&Files>) -> Option<Arc<[u8]>> {
        let expected = seal.is_some_and(|it| it.contains_key(path)) || self.has(path);
        if expected { self.take(path, seal) } else { None }
    }

    fn manifest(&mut self, seal: Option<&Files>) -> Option<Manifest> {
        let bytes = self.optional("package.toml", seal)?;
        let place = format!("{}/package.toml", self.place);
        match Manifest::parse(&place, &bytes) {
            Ok(manifest) => Some(manifest),
            Err(complaints) => {
                self.complaints.extend(complaints);
                None
            }
        }
    }

    fn golden(&mut self, seal: Option<&Files>, manifest: Option<&Manifest>) -> Golden {
        let mut golden = Golden::default();
        let Some(bytes) = self.optional("golden/golden.json", seal) else { return golden };
        golden.read.insert("golden/golden.json".to_owned());
        // With a manifest that is itself broken, nothing true can be said about the samples.
        let declared = seal.is_some_and(|it| it.contains_key("package.toml"));
        if manifest.is_none() && (declared || self.has("package.toml")) {
            return golden;
        }
        let place = format!("{}/golden/golden.json", self.place);
        let listed = match golden::parse(&place, &bytes, manifest) {
            Ok(listed) => listed,
            Err(complaints) => {
                self.complaints.extend(complaints);
                return golden;
            }
        };
        for sample in listed {
            let mut take = |name: &str| {
                let path = format!("golden/{name}");
                let bytes = self.take(&path, seal);
                golden.read.insert(path);
                bytes
            };
            let image = take(&sample.image);
            let tensor = sample.tensor.as_deref().map(&mut take);
            if let (Some(image), None | Some(Some(_))) = (image, &tensor) {
                golden.samples.push(GoldenSample {
                    name: sample.image,
                    image,
                    tensor: tensor.flatten(),
                    expected: sample.expected,
                });
            }
        }
        golden
    }

    /// Sealed files nobody else reads are verified all the same.
    fn verify_the_rest(&mut self, files: &Files, golden: &Golden) {
        let read = ["model.onnx", "package.toml", "reference.json"];
        for path in files.keys() {
            if !read.contains(&path.as_str()) && !golden.read.contains(path) {
                let _verified_not_kept = self.take(path, Some(files));
            }
        }
    }

    /// Complains of everything in the folder that the card does not list.
    fn nothing_unlisted(&mut self, files: &Files) -> Result<(), PackageError> {
        let listing = walk(self.dir)
            .map_err(|source| PackageError::Unlistable { place: self.place.clone(), source })?;
        for (path, found) in listing {
            match found {
                Some(found) => self.complain(&path, FileError::NotRegular { found }),
                None if path == "card.json" || files.contains_key(&path) => {}
                None => self.complain(&path, "is not in card.json's files"),
            }
        }
        Ok(())
    }
}

/// Every path below `dir` but `attestations/`, with what it is if neither file nor folder. Links
/// are not followed, so there are no loops.
fn walk(dir: &Path) -> io::Result<Vec<(String, Option<&'static str>)>> {
    let mut found = Vec::new();
    let mut folders: Vec<(PathBuf, String, usize)> = vec![(dir.to_path_buf(), String::new(), 1)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata()?;
            if !metadata.is_dir() {
                found.push((path, kind(&metadata)));
            } else if depth >= MAX_DEPTH {
                found.push((path, Some("a folder too deep inside the package")));
            } else if path != "attestations" {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            }
            if found.len() + folders.len() > MAX_ENTRIES {
                return Err(io::Error::other(format!("more than {MAX_ENTRIES} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}
