//! Writes the first `package.toml` and `model.toml` of a model, as far as its signature tells.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use crate::types::{DType, ModelName};

/// More are no classification by labels one would want to list.
const MAX_CLASSES: usize = 100_000;

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSignature {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions; `None` where any size goes.
    pub dims: Vec<Option<usize>>,
}

/// Texts to start from. They pass the check; what is guessed in them is marked `CHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    /// `<name>/1/package.toml`.
    pub package_toml: String,
    /// `<name>/model.toml`.
    pub model_toml: String,
}

/// What an image classifier's signature tells.
struct Classifier<'a> {
    layout: &'static str,
    /// Height and width; 224 where the graph leaves them open.
    size: [usize; 2],
    scores: &'a str,
    activation: &'static str,
    n_classes: usize,
    cam: bool,
    embedding: bool,
}

/// The texts for a model of this signature.
#[must_use]
pub fn scaffold(
    name: &ModelName,
    inputs: &[TensorSignature],
    outputs: &[TensorSignature],
) -> Scaffold {
    let mut package_toml = format!(
        "# What version 1 of {name} is. What changes an answer belongs here, and makes a new version.\n"
    );
    for (what, all) in [("input", inputs), ("output", outputs)] {
        for it in all {
            let _ok = writeln!(package_toml, "# {what} {}", describe(it));
        }
    }
    package_toml.push_str(&match classifier(inputs, outputs) {
        Some(classifier) => classifier.tables(),
        None => "task = \"tensors\"                # outputs go out as they are; no labels, no verdicts\n"
            .to_owned(),
    });
    Scaffold { package_toml, model_toml: model_toml(name) }
}

/// Writes to a file that must not exist yet.
///
/// # Errors
/// `AlreadyExists` if it does, so that nobody's work is lost; else what writing met.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)
}

/// `"pixels": f32 [?, 3, 224, 224]`, on one line whatever the name holds.
fn describe(it: &TensorSignature) -> String {
    let dim = |it: &Option<usize>| it.map_or("?".to_owned(), |it| it.to_string());
    let dims: Vec<_> = it.dims.iter().map(dim).collect();
    format!("{:?}: {} [{}]", it.name, it.dtype, dims.join(", "))
}

fn classifier<'a>(
    inputs: &[TensorSignature],
    outputs: &'a [TensorSignature],
) -> Option<Classifier<'a>> {
    let [input] = inputs else { return None };
    let (layout, height, width) = match *input.dims.as_slice() {
        [_, Some(3), height, width] => ("NCHW", height, width),
        [_, height, width, Some(3)] => ("NHWC", height, width),
        _ => return None,
    };
    let side = |it: Option<usize>| it.unwrap_or(224);
    let size = [side(height), side(width)];
    if input.dtype != DType::F32 || size.iter().any(|it| !(1..=4096).contains(it)) {
        return None;
    }
    let class_scores = |it: &'a TensorSignature| match *it.dims.as_slice() {
        [_, Some(n)] if it.dtype == DType::F32 && (2..=MAX_CLASSES).contains(&n) => Some((it, n)),
        _ => None,
    };
    let mut scores = outputs.iter().filter_map(class_scores).filter(|it| it.0.name != "embedding");
    let (scores, n_classes) = scores.next()?;
    let called = |name: &str| outputs.iter().any(|it| it.name == name && scores.name != name);
    let lower = scores.name.to_lowercase();
    let ends_in_probabilities = lower.contains("prob") || lower.contains("softmax");
    Some(Classifier {
        layout,
        size,
        scores: &scores.name,
        activation: if ends_in_probabilities { "none" } else { "softmax" },
        n_classes,
        cam: called("cam"),
        embedding: called("embedding"),
    })
}

impl Classifier<'_> {
    fn tables(&self) -> String {
        let mut labels = String::new();
        for class in 0..self.n_classes {
            let _ok = writeln!(labels, "    \"class_{class}\",");
        }
        let scores = toml::Value::String(self.scores.to_owned());
        let cam = if self.cam { ", cam = \"cam\"" } else { "" };
        let embedding = if self.embedding { ", embedding = \"embedding\"" } else { "" };
        let [height, width] = self.size;
        let (resize, crop) = if self.size == [224, 224] {
            ("mode = \"shortest\", size = 256".to_owned(), "{ centre = [224, 224] }".to_owned())
        } else {
            (format!("mode = \"stretch\", size = [{height}, {width}]"), "\"none\"".to_owned())
        };
        format!(
            r#"task = "classification"         # or "multi-label", or "tensors"
# CHECK: the names, in the order of the scores.
labels = [
{labels}]
# CHECK: "softmax" or "sigmoid" if the graph ends in logits, "none" if it ends in probabilities.
outputs = {{ scores = {scores}, activation = "{activation}"{cam}{embedding} }}

# CHECK: all of this must be what the model was trained with; these are the values of ImageNet.
[preprocess]
colour = "rgb"
layout = "{layout}"
decode = "full"                 # "scaled": JPEG by Pillow's draft() before resize(); other pixels
resize = {{ {resize}, filter = "bilinear", antialias = true }}
crop = {crop}
scale = 0.00392156862745098     # 1 / 255; mean and std apply after it
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
orientation = "exif"

# Verdicts need a policy and golden samples (golden/golden.json).
# [decision]
# approve = "class_0"
# approve_at = 0.98
# reject_at = 0.50
# severity = {{ class_1 = "critical" }}
"#,
            activation = self.activation,
            layout = self.layout,
        )
    }
}

fn model_toml(name: &ModelName) -> String {
    format!(
        r#"# How {name} is served. Nothing here can change an answer.
serve = "1"                     # one version, or a list: the first answers when none is named

[budget]
target = "600ms"                # an answer should be ready within this
limit = "3s"                    # and must be within this

[runtime]                       # every key optional
device = "cpu"                  # cpu | cuda | tensorrt | auto: cuda where it works, else cpu
# devices = [0]                 # GPUs, for cuda and tensorrt
# lanes = 2                     # as many as there are cores, or 2 a GPU, if left out
# max_batch = 8                 # measured, if left out
# memory = "256MiB"             # what a lane may use; bounds the items a run
"#
    )
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
