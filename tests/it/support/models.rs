//! Models made by `tests/models/make.py`, and repositories to serve them from.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tempfile::TempDir;

use super::python::python;

/// The folder of ONNX files, made once a process.
static MODELS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models");
    let done = python().arg("tests/models/make.py").arg(&folder).output().unwrap();
    assert!(done.status.success(), "make.py: {}", String::from_utf8_lossy(&done.stderr));
    folder
});

/// The file of one of them.
pub fn onnx(name: &str) -> PathBuf {
    MODELS.join(format!("{name}.onnx"))
}

/// The manifest of the `colour` family: 32 x 32, no normalisation, a verdict policy on demand.
pub fn colour_manifest(with_decision: bool) -> String {
    let mut text = r#"
task = "classification"
labels = ["red", "green", "blue"]
outputs = { scores = "logits", activation = "softmax" }

[preprocess]
colour = "rgb"
layout = "NCHW"
resize = { mode = "stretch", size = [32, 32], filter = "bilinear", antialias = true }
scale = 0.00392156862745098
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
"#
    .to_owned();
    if with_decision {
        text.push_str("\n[decision]\napprove = \"green\"\napprove_at = 0.9\nreject_at = 0.5\n");
    }
    text
}

/// A `model.toml` whose deadlines no busy machine misses, where deadlines are not what is tried.
pub const PATIENT: &str = "[budget]\ntarget = \"20s\"\nlimit = \"60s\"\n";

/// A model repository in a temporary folder, to be filled.
#[derive(Debug)]
pub struct Repository(TempDir);

impl Repository {
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file anywhere in it, folders made.
    pub fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Version 1 of a model of the `colour` family, with `model.toml` where there is one to write.
    pub fn colour(&self, name: &str, onnx_name: &str, manifest: &str, model_toml: &str) -> &Self {
        self.file(&format!("{name}/1/model.onnx"), fs::read(onnx(onnx_name)).unwrap());
        self.file(&format!("{name}/1/package.toml"), manifest);
        if !model_toml.is_empty() {
            self.file(&format!("{name}/model.toml"), model_toml);
        }
        self
    }

    /// A bare model and nothing else.
    pub fn bare(&self, name: &str) -> &Self {
        self.file(&format!("{name}.onnx"), fs::read(onnx(name)).unwrap())
    }
}
