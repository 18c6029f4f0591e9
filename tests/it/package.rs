//! Packages and repositories on a real disk: seals, odd files, odd names, every layout.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use linesight::{
    repository::{
        self, Checked, FoundModel, Layout, Limits, ModelConfig, PackageError, SealedPackage, check,
        read_version, scan,
    },
    types::{Decision, Digest, ModelName, ModelVersion},
};
use serde_json::{Value, json};

const PACKAGE: &str = r#"task = "classification"
labels = ["good", "flaw"]
outputs = { scores = "logits", activation = "softmax" }
[preprocess]
colour = "rgb"
layout = "NCHW"
resize = { mode = "stretch", size = [8, 8], filter = "bilinear", antialias = true }
scale = 0.004
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[decision]
approve = "good"
approve_at = 0.9
reject_at = 0.5
"#;

/// A repository in a temporary folder with one package, `m/1`.
struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap() };
        tree.write("m/1/model.onnx", b"weights");
        tree.write("m/1/package.toml", PACKAGE.as_bytes());
        tree.write("m/1/MODEL_CARD.md", b"about");
        tree.write("m/1/golden/a.png", b"image");
        tree.write("m/1/golden/a.tensor.png", b"tensor");
        tree.golden(&json!([{
            "image": "a.png", "tensor": "a.tensor.png", "truth": "good", "scores": [0.97, 0.03],
            "verdict": {"decision": "approve", "reason": "ok", "class": null}, "note": "x",
        }]));
        tree
    }

    fn sealed() -> Self {
        let tree = Self::new();
        tree.seal();
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn golden(&self, samples: &Value) {
        let golden =
            json!({"schema": "linesight.golden/1", "recorded_by": "a test", "samples": samples});
        self.write("m/1/golden/golden.json", golden.to_string().as_bytes());
    }

    fn seal(&self) {
        let paths = ["model.onnx", "package.toml", "MODEL_CARD.md"];
        let golden = ["golden/golden.json", "golden/a.png", "golden/a.tensor.png"];
        let mut files = serde_json::Map::new();
        for path in paths.into_iter().chain(golden) {
            let bytes = fs::read(self.at("m/1").join(path)).unwrap();
            let sha256 = Digest::of(&bytes).hex();
            files.insert(path.into(), json!({"sha256": sha256, "size": bytes.len()}));
        }
        let card = json!({"schema": "linesight.card/1", "name": "m", "version": "1",
            "created": "2026-11-21T00:00:00Z", "files": files});
        self.write("m/1/card.json", card.to_string().as_bytes());
    }

    fn read(&self) -> Result<SealedPackage, PackageError> {
        SealedPackage::read(&self.at("m/1"), &name("m"), version("1"), &Limits::default())
    }

    /// Expects these complaints, in this order, each by its start.
    #[track_caller]
    fn refused(&self, expected: &[&str]) {
        let complaints = self.read().unwrap_err().into_complaints();
        let found: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("m/1/{expected}")), "{found}\n{expected}");
        }
    }

    fn check(&self) -> Checked {
        check(self.root.path(), &Limits::default()).unwrap()
    }

    fn scan(&self) -> repository::Found {
        scan(self.root.path()).unwrap()
    }
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn version(text: &str) -> ModelVersion {
    text.parse().unwrap()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_sealed_package_is_read_and_named_by_its_card() {
    let tree = Tree::sealed();
    tree.write("m/1/attestations/approval.json", b"{}");
    let package = tree.read().unwrap();
    assert!(package.sealed);
    assert_eq!(package.digest, Digest::of(&fs::read(tree.at("m/1/card.json")).unwrap()));
    assert_eq!(&*package.model, b"weights");
    assert_eq!(package.manifest.unwrap().labels.len(), 2);
    assert_eq!(package.card.unwrap().about["created"], "2026-11-21T00:00:00Z");
    let [sample] = package.golden.as_slice() else { panic!("one sample") };
    assert_eq!((&*sample.image, sample.tensor.as_deref()), (&b"image"[..], Some(&b"tensor"[..])));
    assert_eq!(sample.expected.verdict.as_ref().unwrap().decision, Decision::Approve);
    assert_eq!(sample.expected.scores.as_deref(), Some(&[0.97, 0.03][..]));
}

#[test]
fn without_a_card_the_digest_is_that_of_the_model() {
    let tree = Tree::new();
    tree.write("m/1/scratch.txt", b"allowed in a draft");
    let package = tree.read().unwrap();
    assert!(!package.sealed);
    assert_eq!(package.digest, Digest::of(b"weights"));
    assert_eq!(package.golden.len(), 1);
    fs::remove_file(tree.at("m/1/package.toml")).unwrap();
    fs::remove_dir_all(tree.at("m/1/golden")).unwrap();
    assert!(tree.read().unwrap().manifest.is_none(), "a bare model");
}

#[test]
fn any_changed_byte_breaks_the_seal() {
    for file in ["model.onnx", "package.toml", "MODEL_CARD.md", "golden/a.png"] {
        let tree = Tree::sealed();
        let path = tree.at("m/1").join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, &bytes).unwrap();
        tree.refused(&[&format!("{file}: is sha256:")]);
        bytes.push(0);
        fs::write(&path, &bytes).unwrap();
        let sizes = format!("has {} bytes, card.json says {}", bytes.len(), bytes.len() - 1);
        tree.refused(&[&format!("{file}: {sizes}")]);
        fs::remove_file(&path).unwrap();
        tree.refused(&[&format!("{file}: is missing")]);
    }
}

#[test]
fn what_the_card_does_not_list_is_refused() {
    let tree = Tree::sealed();
    tree.write("m/1/extra.txt", b"");
    tree.write("m/1/golden/b.png", b"");
    tree.write("m/1/.hidden", b"");
    fs::create_dir(tree.at("m/1/empty")).unwrap();
    tree.refused(&[
        ".hidden: is not in card.json's files",
        "extra.txt: is not in card.json's files",
        "golden/b.png: is not in card.json's files",
    ]);
}

#[test]
fn a_card_of_another_version_or_no_card_at_all_is_refused() {
    let tree = Tree::sealed();
    let card = fs::read_to_string(tree.at("m/1/card.json")).unwrap();
    tree.write("m/1/card.json", card.replace("\"version\":\"1\"", "\"version\":\"2\"").as_bytes());
    tree.refused(&["card.json: version: is \"2\", expected \"1\""]);
    tree.write("m/1/card.json", b"not json");
    tree.refused(&["card.json:1:"]);
    fs::remove_file(tree.at("m/1/card.json")).unwrap();
    fs::create_dir(tree.at("m/1/card.json")).unwrap();
    tree.refused(&["card.json: is a folder, not a regular file"]);
}

#[test]
fn only_regular_files_are_read_and_a_pipe_does_not_block() {
    for sealed in [false, true] {
        let twice = if sealed { 2 } else { 1 };
        let tree = if sealed { Tree::sealed() } else { Tree::new() };
        let model = tree.at("m/1/model.onnx");
        fs::remove_file(&model).unwrap();
        pipe(&model);
        tree.refused(&vec!["model.onnx: is a named pipe, not a regular file"; twice]);
        fs::remove_file(&model).unwrap();
        symlink(tree.at("m/1/MODEL_CARD.md"), &model).unwrap();
        tree.refused(&vec!["model.onnx: is a symbolic link, not a regular file"; twice]);
        fs::remove_file(&model).unwrap();
        fs::create_dir(&model).unwrap();
        tree.refused(&["model.onnx: is a folder, not a regular file"]);
    }
}

#[test]
fn limits_hold_for_each_kind_of_file() {
    let tree = Tree::new();
    let read = |limits: &Limits| {
        let read = SealedPackage::read(&tree.at("m/1"), &name("m"), version("1"), limits);
        read.map_err(|it| it.to_string())
    };
    let default = Limits::default();
    let says = |limits: &Limits, expected: &str| {
        let error = read(limits).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    says(&Limits { model: 6, ..default }, "m/1/model.onnx: has more than the 6 bytes");
    says(&Limits { toml: 9, ..default }, "m/1/package.toml: has more than");
    says(&Limits { json: 9, ..default }, "m/1/golden/golden.json: has more than");
    says(&Limits { golden_file: 5, ..default }, "m/1/golden/a.tensor.png: has more than");
    says(&Limits { golden_total: 200, ..default }, "m/1/golden/a");
    assert!(read(&default).is_ok());
}

#[test]
fn golden_samples_are_checked_against_the_package() {
    let check = |mut samples: Value, expected: &[&str]| {
        let tree = Tree::new();
        // What a case is not about is as it should be.
        for sample in samples.as_array_mut().into_iter().flatten() {
            let sample = sample.as_object_mut().unwrap();
            sample.entry("scores").or_insert_with(|| json!([0.9, 0.1]));
            let verdict = json!({"decision": "undecided", "reason": "low_confidence"});
            sample.entry("verdict").or_insert(verdict);
        }
        tree.golden(&samples);
        tree.refused(expected);
    };
    let at = "golden/golden.json: samples";
    check(json!([]), &[&format!("{at}: 0 samples")]);
    check(json!([{"image": "none.png"}]), &["golden/none.png: is missing"]);
    let nothing = json!([{"image": "a.png", "scores": null, "verdict": null}]);
    check(
        nothing,
        &[
            &format!("{at}[0].scores: are missing: nothing would be proven"),
            &format!("{at}[0].verdict: is missing, though [decision] gives one"),
        ],
    );
    for path in ["../model.onnx", "/etc/passwd", "..", "", "a/b.png", "golden.json"] {
        check(json!([{"image": path}]), &[&format!("{at}[0].image: {path:?} is not the name")]);
    }
    check(
        json!([{"image": "a.png", "truth": "odd", "scores": [0.1], "verdict":
            {"decision": "reject", "reason": "defect", "class": "odd"}}, {"image": "a.png"}]),
        &[
            &format!("{at}[0].truth: \"odd\" is not one of the labels"),
            &format!("{at}[0].scores: 1 scores for 2 labels"),
            &format!("{at}[0].verdict: class \"odd\" is not one"),
            &format!("{at}[1].image: \"a.png\" stands twice"),
        ],
    );
    let verdict = |decision: &str, reason: &str| json!([{"image": "a.png", "verdict": {"decision": decision, "reason": reason}}]);
    check(verdict("accept", "ok"), &[&format!("{at}[0].verdict: \"accept\" is no decision")]);
    check(verdict("approve", "fine"), &[&format!("{at}[0].verdict: \"fine\" is no reason")]);
    check(verdict("reject", "defect"), &[&format!("{at}[0].verdict: a rejection names its class")]);
    check(json!([{"image": "a.png", "scores": [1e39, 0]}]), &["golden/golden.json:1:"]);
    check(json!([{"image": "a.png", "score": [1, 0]}]), &["golden/golden.json:1:"]);
    check(json!([{"tensor": "a.png"}]), &["golden/golden.json:1:"]);
}

#[test]
fn every_layout_is_found() {
    let tree = Tree::new();
    tree.write("triton/config.pbtxt", b"");
    tree.write("triton/3/model.onnx", b"t");
    tree.write("triton/10/model.onnx", b"t");
    tree.write("bare/model.onnx", b"b");
    tree.write("file.onnx", b"f");
    tree.write("vit/onnx/model.onnx", b"v");
    tree.write("vit/config.json", br#"{"id2label":{"0":"cat","1":"dog"}}"#);
    tree.write("README.md", b"not a model");
    tree.write(".git/config", b"hidden");
    let found = tree.scan();
    assert_eq!(found.complaints, []);
    assert_eq!(found.notes.len(), 1, "config.pbtxt: {:?}", found.notes);
    let names: Vec<_> = found.models.keys().map(ModelName::as_str).collect();
    assert_eq!(names, ["bare", "file", "m", "triton", "vit"]);
    let digest = |model: &str, number: &str| {
        let model: &FoundModel = &found.models[&name(model)];
        let found = &model.versions[&version(number)];
        read_version(&model.name, found, &Limits::default()).unwrap().digest
    };
    assert_eq!(digest("triton", "10"), Digest::of(b"t"));
    assert_eq!(digest("bare", "1"), Digest::of(b"b"));
    assert_eq!(digest("file", "1"), Digest::of(b"f"));
    let numbers: Vec<_> = found.models[&name("triton")].versions.keys().copied().collect();
    assert_eq!(numbers, [version("3"), version("10")]);
    let vit = &found.models[&name("vit")];
    assert!(matches!(vit.versions[&version("1")].layout, Layout::HuggingFace { .. }));
    let package =
        read_version(&vit.name, &vit.versions[&version("1")], &Limits::default()).unwrap();
    assert_eq!(package.manifest.unwrap().labels.len(), 2);
}

#[test]
fn odd_names_are_complaints_and_stop_nothing_else() {
    let tree = Tree::new();
    tree.write("-odd/1/model.onnx", b"");
    tree.write("with space.onnx", b"");
    tree.write("m.onnx", b"hidden by the folder m");
    tree.write("m/01/model.onnx", b"");
    tree.write("m/latest/model.onnx", b"");
    tree.write("m/2/notes.txt", b"");
    tree.write("m/model.onnx", b"");
    tree.write("m/docs/x.md", b"");
    fs::create_dir(tree.at("empty")).unwrap();
    tree.write("flat/package.toml", b"");
    tree.write("flat/model.onnx", b"");
    symlink(tree.at("loop"), tree.at("loop")).unwrap();
    symlink(tree.root.path(), tree.at("round")).unwrap();
    let found = tree.scan();
    let complaints: Vec<_> = found.complaints.iter().map(|it| it.file.as_str()).collect();
    assert_eq!(
        complaints,
        [
            "-odd",
            "empty",
            "flat/package.toml",
            "flat",
            "m/01",
            "m/2",
            "m/latest",
            "m/model.onnx",
            "round/flat",
            "round/m",
            "round",
            "m.onnx",
            "with space.onnx",
        ]
    );
    assert_eq!(found.notes.iter().filter(|it| it.file == "m/docs").count(), 1);
    assert_eq!(found.models[&name("m")].versions.len(), 1);
}

#[test]
fn folders_and_model_toml_may_be_links_as_kubernetes_mounts_them() {
    let tree = Tree::sealed();
    let mount = tempfile::tempdir().unwrap();
    fs::create_dir(mount.path().join("..data")).unwrap();
    fs::write(mount.path().join("..data/model.toml"), "serve = \"1\"").unwrap();
    fs::create_dir(mount.path().join("m")).unwrap();
    symlink(mount.path().join("..data/model.toml"), mount.path().join("m/model.toml")).unwrap();
    symlink(tree.at("m/1"), mount.path().join("m/1")).unwrap();
    let found = scan(mount.path()).unwrap();
    let model = &found.models[&name("m")];
    let config = ModelConfig::read(model, &Limits::default()).unwrap();
    assert_eq!(config.serve, Some(vec![version("1")]));
    assert!(read_version(&model.name, &model.versions[&version("1")], &Limits::default()).is_ok());
}

#[test]
fn a_check_says_everything_about_a_repository_a_model_or_a_version() {
    let tree = Tree::sealed();
    tree.write("m/model.toml", b"serve = \"1\"\n");
    let all_well = tree.check();
    assert_eq!((all_well.complaints.as_slice(), all_well.n_versions), (&[][..], 1));
    assert_eq!(all_well.notes, []);
    for part in ["m", "m/1"] {
        let checked = check(&tree.at(part), &Limits::default()).unwrap();
        assert_eq!((checked.complaints.as_slice(), checked.n_versions), (&[][..], 1), "{part}");
    }

    tree.write("m/model.toml", b"serve = \"3\"\n");
    tree.write("m/2/model.onnx", b"");
    tree.write("m/2/package.toml", b"task = 1\nlabel = 2\n");
    tree.write("n/1/model.onnx", b"");
    tree.write("n/2/model.onnx", b"");
    tree.write("o/1/model.onnx", b"");
    tree.write("o/model.toml", b"labels = []");
    let found: Vec<_> = tree.check().complaints.iter().map(ToString::to_string).collect();
    let expected = [
        "m/model.toml: serve: names version 3, which is not there",
        "m/2/package.toml:1:8: task: ",
        "m/2/package.toml:2:1: label: unknown key",
        "n/model.toml: serve: is missing and 2 versions were found: none is served; set serve = \"2\"",
        "o/model.toml:1:1: labels: is sealed in package.toml",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert!(check(&tree.at("none"), &Limits::default()).is_err());
}

#[test]
fn a_repository_that_is_not_there_says_so() {
    let error = scan(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(error.to_string(), "cannot list the model repository /nowhere/at/all");
}
