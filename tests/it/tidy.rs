//! Checks the shape of the source tree: layering, file size, module docs, fenced-off crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// `(module, modules it may import)`, lowest layer first. A module may import only modules listed
/// above it, so the table itself is a proof that there are no cycles.
const LAYERS: &[(&str, &[&str])] = &[
    // Vocabulary.
    ("types", &[]),
    ("metrics", &["types"]),
    // Pure features: bytes or numbers in, numbers out.
    ("imaging", &["types"]),
    ("decide", &["types"]),
    // Engines: own a thread, a task or a file. Lanes decode just in time, so `batch` knows pictures.
    ("batch", &["types", "metrics", "imaging"]),
    ("onnx", &["types", "batch"]),
    ("repository", &["types", "metrics", "imaging", "decide", "batch", "onnx"]),
    // The one place that knows the whole path of a request.
    ("predict", &["types", "metrics", "imaging", "decide", "batch", "repository"]),
    // Edges: speak a protocol.
    ("http", &["types", "metrics", "imaging", "predict", "repository"]),
    ("admin", &["http"]),
    // Composition. `config` uses what the modules below call their own settings.
    ("host", &[]),
    ("shutdown", &[]),
    ("telemetry", &[]),
    ("config", &["types", "onnx", "telemetry"]),
    (
        "app",
        &[
            "types",
            "metrics",
            "imaging",
            "batch",
            "onnx",
            "repository",
            "predict",
            "http",
            "admin",
            "host",
            "shutdown",
            "config",
        ],
    ),
    // `predict --json` prints what the server answers, so `cli` asks `http` for its words.
    (
        "cli",
        &["types", "onnx", "repository", "predict", "http", "host", "telemetry", "config", "app"],
    ),
];

/// `(crate, the only modules that may name it)`.
const FENCES: &[(&str, &[&str])] = &[
    ("ort", &["onnx"]),
    ("axum", &["http", "admin"]),
    ("tower_http", &["http"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("prometheus", &["metrics"]),
    ("clap", &["cli"]),
    ("image", &["imaging"]),
    ("png", &["imaging"]),
    ("turbojpeg", &["imaging"]),
    ("fast_image_resize", &["imaging"]),
];

const MAX_LINES: usize = 400;

#[test]
fn layers_are_ordered() {
    let mut seen = BTreeSet::new();
    for (module, imports) in LAYERS {
        for import in *imports {
            assert!(
                seen.contains(import),
                "`{module}` may not import `{import}`: it is not below it"
            );
        }
        assert!(seen.insert(module), "`{module}` is listed twice");
    }
}

#[test]
fn source_tree_is_tidy() {
    let src = Path::new("src").to_path_buf();
    let mut complaints = Vec::new();
    for file in rust_files(&src) {
        let text = fs::read_to_string(&file).unwrap();
        let module = top_module(&src, &file);
        complaints.extend(check(&module, &file.display().to_string(), &text));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The single place that says what tidy means; the cases below are data.
fn check(module: &str, name: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    if !text.starts_with("//!") {
        out.push(format!("{name}: start the file with `//!` saying what it is for"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        out.push(format!("{name}: {lines} lines; split it below {MAX_LINES}"));
    }
    let code: String =
        text.lines().map(|it| format!("{}\n", it.split("//").next().unwrap_or(""))).collect();
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    for (at, _) in code.match_indices("super::super::") {
        out.push(format!("{name}:{}: write `crate::`, not `super::super::`", line_of(at)));
    }
    for (at, import) in paths_after(&code, "crate::") {
        let free = matches!(module, "main" | "lib") || module == import;
        if !free && !allowed.get(module).is_some_and(|it| it.contains(&import.as_str())) {
            out.push(format!("{name}:{}: `{module}` may not import `{import}`", line_of(at)));
        }
    }
    for (krate, homes) in FENCES {
        if !homes.contains(&module)
            && let Some(at) = first_path_starting_with(&code, krate)
        {
            out.push(format!("{name}:{}: only {homes:?} may name `{krate}`", line_of(at)));
        }
    }
    out
}

/// First segment of every path behind `prefix`; a group, however many lines it spans, is expanded.
fn paths_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            out.extend(ident(rest).map(|it| (at, it)));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    out.extend(ident(group[start..i].trim()).map(|it| (at, it)));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    out
}

fn first_path_starting_with(code: &str, krate: &str) -> Option<usize> {
    let needle = format!("{krate}::");
    code.match_indices(&needle).map(|(at, _)| at).find(|&at| {
        // `crate::image::` and `image_x::` are not the external crate.
        !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn ident(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    (0 < end).then(|| text[..end].to_owned())
}

fn top_module(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            out.push(path);
        }
    }
    out
}

#[test]
fn catches_each_kind_of_untidiness() {
    let caught = |module: &str, text: &str| check(module, "x.rs", text).len();
    assert_eq!(caught("batch", "//! ok\nuse crate::types::Scores;\n"), 0);
    assert_eq!(caught("batch", "//! ok\nuse crate::http::ApiError;\n"), 1, "upward import");
    assert_eq!(
        caught("batch", "//! ok\nuse crate::{metrics, predict::Predictor};\n"),
        1,
        "grouped"
    );
    assert_eq!(
        caught("batch", "//! ok\nuse crate::{\n    types::A,\n    http::B,\n};\n"),
        1,
        "broken over lines"
    );
    assert_eq!(
        caught("batch", "//! ok\nuse crate::{types::{A, B}, http::C};\n"),
        1,
        "nested group"
    );
    assert_eq!(caught("batch", "//! ok\nuse super::super::http::C;\n"), 1, "by the back door");
    assert_eq!(
        caught("batch", "//! ok\nuse crate::newcomer::C;\n"),
        1,
        "a module not in the table"
    );
    assert_eq!(caught("imaging", "//! ok\nuse crate::decide::Policy;\n"), 1, "sideways import");
    assert_eq!(caught("predict", "//! ok\nlet s: ort::session::Session;\n"), 1, "fenced crate");
    assert_eq!(caught("onnx", "//! ok\nuse ort::session::Session;\n"), 0);
    assert_eq!(caught("repository", "//! ok\nuse image::RgbImage;\n"), 1, "fenced crate");
    assert_eq!(caught("types", "use std::fmt;\n"), 1, "no module doc");
    assert_eq!(caught("types", &format!("//! ok\n{}", "\n".repeat(500))), 1, "too long");
    assert_eq!(
        caught("batch", "//! ok\n// see crate::http for the edge\n"),
        0,
        "comments are free"
    );
}
