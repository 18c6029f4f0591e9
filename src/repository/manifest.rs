//! `package.toml`: what a version is, sealed with it.

use std::{collections::HashSet, num::NonZeroUsize, sync::Arc};

use serde::Deserialize;

use super::{
    complaint::Complaint,
    document::{Document, Section},
};
use crate::{
    decide::{
        Activation, Calibration, CalibrationError, Classes, DeclaredViews, Policy, PolicySpec,
    },
    imaging::{Preprocess, PreprocessSpec},
    types::Labels,
};

/// Four times the classes of the largest image data set; bounds what an answer can hold.
const MAX_LABELS: usize = 100_000;
/// Longer texts are no names.
const MAX_LABEL_BYTES: usize = 256;
/// No item has more views.
const MAX_VIEWS: usize = 64;
/// The tables and keys of `package.toml`. Sealed: none of them may stand in `model.toml`.
pub(crate) const SEALED_KEYS: [&str; 8] =
    ["task", "labels", "outputs", "preprocess", "calibration", "decision", "item", "tolerance"];

/// What the scores of a model mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Each image has exactly one of the labels.
    Classification,
    /// Each image has any number of the labels.
    MultiLabel,
    /// Outputs go out as they are.
    Tensors,
}

/// Which outputs of the graph mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// One score per label and row.
    pub scores: Arc<str>,
    /// What is still to be applied to them.
    pub activation: Activation,
    /// Class activation maps, for explanations.
    pub cam: Option<Arc<str>>,
    /// A vector per row, for distances between items.
    pub embedding: Option<Arc<str>>,
}

/// How far a run may be from the golden samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest difference of a score; also added to `approve_at`.
    pub scores: f64,
    /// Largest difference of a pixel from the reference tensor, in u8 levels.
    pub pixels_max: u8,
    /// Mean difference of the pixels.
    pub pixels_mean: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { scores: 1e-3, pixels_max: 1, pixels_mean: 0.15 }
    }
}

/// A checked `package.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What the scores mean.
    pub task: Task,
    /// In the order of the scores; unique, not empty unless `task` is [`Task::Tensors`].
    pub labels: Labels,
    /// `None` exactly where `task` is [`Task::Tensors`].
    pub outputs: Option<Outputs>,
    /// `None` exactly where `task` is [`Task::Tensors`].
    pub calibration: Option<Calibration>,
    /// Without it images cannot be served.
    pub preprocess: Option<Preprocess>,
    /// Without it there are no verdicts. Where it is there, so is `preprocess`.
    pub decision: Option<Policy>,
    /// Without it items have no views and `inspect` is refused.
    pub views: Option<DeclaredViews>,
    /// What the golden samples are held to.
    pub tolerance: Tolerance,
}

impl Default for Manifest {
    /// What holds for a model that came without a `package.toml`: tensors in, tensors out.
    fn default() -> Self {
        Self {
            task: Task::Tensors,
            labels: Labels::from([]),
            outputs: None,
            calibration: None,
            preprocess: None,
            decision: None,
            views: None,
            tolerance: Tolerance::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutputs {
    scores: String,
    activation: Activation,
    cam: Option<String>,
    embedding: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalibration {
    #[serde(default = "one")]
    temperature: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    views: RawViews,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "views are a number or a list of names")]
enum RawViews {
    Count(usize),
    Names(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTolerance {
    scores: Option<f64>,
    pixels_max: Option<u8>,
    pixels_mean: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl Manifest {
    /// Reads and checks the text of a `package.toml`; `file` is how complaints name it.
    ///
    /// # Errors
    /// Every complaint there is, in the order of the file.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Complaint>> {
        let mut document = Document::parse(file, bytes)?;
        let manifest = Reader(&mut document).manifest();
        document.finish(manifest)
    }

    /// Whether images can be served, not only tensors.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        self.preprocess.is_some()
    }
}

/// Reads table after table; a `None` has been complained of.
struct Reader<'d, 't>(&'d mut Document<'t>);

impl Reader<'_, '_> {
    /// Every table is read before any is given up, so that everything wrong is reported.
    fn manifest(&mut self) -> Option<Manifest> {
        self.0.only(&SEALED_KEYS);
        let task = self.task();
        let labels = self.labels(task);
        let outputs = self.outputs(task);
        let calibration = self.calibration(task, outputs.as_ref());
        let preprocess = self.preprocess();
        let tolerance = self.tolerance();
        let decision = self.decision(task, labels.as_ref(), tolerance);
        let views = self.views();
        Some(Manifest {
            task: task?,
            labels: labels?,
            outputs: outputs?,
            calibration: calibration?,
            preprocess: preprocess?,
            decision: decision?,
            views: views?,
            tolerance: tolerance?,
        })
    }

    fn task(&mut self) -> Option<Task> {
        let task = self.0.section("task").optional()?;
        if task.is_none() {
            let expected = "is missing: \"classification\", \"multi-label\" or \"tensors\"";
            self.0.complain(&["task"], expected);
        }
        task
    }

    fn labels(&mut self, task: Option<Task>) -> Option<Labels> {
        let labels: Vec<String> = self.0.section("labels").or(Vec::new())?;
        let before = labels.len();
        if before > MAX_LABELS {
            self.0.complain(&["labels"], format!("{before} labels, at most {MAX_LABELS}"));
            return None;
        }
        if labels.is_empty() && task.is_some_and(|it| it != Task::Tensors) {
            self.0.complain(&["labels"], "a classification needs labels");
            return None;
        }
        let mut seen = HashSet::new();
        let mut sound = true;
        for label in &labels {
            let wrong = if label.trim().is_empty() {
                Some("a label is empty".to_owned())
            } else if label.len() > MAX_LABEL_BYTES {
                Some(format!("a label has {} bytes, at most {MAX_LABEL_BYTES}", label.len()))
            } else if label.chars().any(char::is_control) {
                Some(format!("{label:?} has a control character"))
            } else if !seen.insert(label) {
                Some(format!("{label:?} stands twice"))
            } else {
                None
            };
            if let Some(message) = wrong {
                self.0.complain(&["labels"], message);
                sound = false;
            }
        }
        sound.then(|| labels.into_iter().map(Arc::from).collect())
    }

    fn outputs(&mut self, task: Option<Task>) -> Option<Option<Outputs>> {
        let raw: Option<RawOutputs> = self.0.section("outputs").optional()?;
        match (task?, raw) {
            (Task::Tensors, None) => Some(None),
            (Task::Tensors, Some(_)) => {
                self.0.complain(&["outputs"], "has no meaning where task = \"tensors\"");
                None
            }
            (_, None) => {
                self.0.complain(
                    &["outputs"],
                    "is missing: { scores = \"<output>\", activation = \"softmax\" }, or sigmoid or none",
                );
                None
            }
            (_, Some(raw)) => {
                let names = [Some(&raw.scores), raw.cam.as_ref(), raw.embedding.as_ref()];
                let mut seen = HashSet::new();
                for name in names.into_iter().flatten() {
                    if name.is_empty() || !seen.insert(name) {
                        self.0.complain(&["outputs"], format!("{name:?} is empty or named twice"));
                        return None;
                    }
                }
                let RawOutputs { scores, activation, cam, embedding } = raw;
                Some(Some(Outputs {
                    scores: scores.into(),
                    activation,
                    cam: cam.map(Arc::from),
                    embedding: embedding.map(Arc::from),
                }))
            }
        }
    }

    fn calibration(
        &mut self,
        task: Option<Task>,
        outputs: Option<&Option<Outputs>>,
    ) -> Option<Option<Calibration>> {
        let raw: Option<RawCalibration> = self.0.section("calibration").optional()?;
        let classes = match task? {
            Task::Classification => Classes::Exclusive,
            Task::MultiLabel => Classes::Independent,
            Task::Tensors if raw.is_none() => return Some(None),
            Task::Tensors => {
                self.0.complain(&["calibration"], "has no meaning where task = \"tensors\"");
                return None;
            }
        };
        let activation = outputs?.as_ref()?.activation;
        let temperature = raw.map_or(1.0, |it| it.temperature);
        match Calibration::new(activation, classes, temperature) {
            Ok(calibration) => Some(Some(calibration)),
            Err(error) => {
                let path: &[&str] = match error {
                    CalibrationError::Temperature { .. }
                    | CalibrationError::NothingToScale { .. } => &["calibration", "temperature"],
                    CalibrationError::SoftmaxOverIndependent => &["outputs", "activation"],
                };
                self.0.complain(path, error);
                None
            }
        }
    }

    fn preprocess(&mut self) -> Option<Option<Preprocess>> {
        let Some(spec) = self.0.section::<PreprocessSpec>("preprocess").optional()? else {
            return Some(None);
        };
        match Preprocess::from_spec(spec) {
            Ok(preprocess) => Some(Some(preprocess)),
            Err(errors) => {
                for error in errors {
                    let mut path = vec!["preprocess"];
                    path.extend(error.key.split('.'));
                    self.0.complain(&path, &error.problem);
                }
                None
            }
        }
    }

    fn tolerance(&mut self) -> Option<Tolerance> {
        let Some(raw) = self.0.section::<RawTolerance>("tolerance").optional()? else {
            return Some(Tolerance::default());
        };
        let default = Tolerance::default();
        let tolerance = Tolerance {
            scores: raw.scores.unwrap_or(default.scores),
            pixels_max: raw.pixels_max.unwrap_or(default.pixels_max),
            pixels_mean: raw.pixels_mean.unwrap_or(default.pixels_mean),
        };
        let mut sound = true;
        let ranges =
            [("scores", tolerance.scores, 0.5), ("pixels_mean", tolerance.pixels_mean, 255.0)];
        for (key, given, most) in ranges {
            if !(0.0..=most).contains(&given) {
                self.0.complain(&["tolerance", key], format!("{given} is not in 0..={most}"));
                sound = false;
            }
        }
        sound.then_some(tolerance)
    }

    fn decision(
        &mut self,
        task: Option<Task>,
        labels: Option<&Labels>,
        tolerance: Option<Tolerance>,
    ) -> Option<Option<Policy>> {
        let Some(spec) = self.0.section::<PolicySpec>("decision").optional()? else {
            return Some(None);
        };
        if task? == Task::Tensors {
            self.0.complain(&["decision"], "has no meaning where task = \"tensors\"");
            return None;
        }
        if !self.0.has("preprocess") {
            let message = "needs [preprocess]: a verdict is given on images only";
            self.0.complain(&["decision"], message);
        }
        match Policy::new(&spec, labels?, tolerance?.scores) {
            Ok(policy) => Some(Some(policy)),
            Err(errors) => {
                for error in errors {
                    self.0.complain(&["decision", error.key()], error);
                }
                None
            }
        }
    }

    fn views(&mut self) -> Option<Option<DeclaredViews>> {
        let raw = match self.0.section::<RawItem>("item") {
            Section::Absent => return Some(None),
            Section::Broken => return None,
            Section::Sound(raw) => raw.views,
        };
        let wrong = |names: &[String]| {
            let unique: HashSet<_> = names.iter().collect();
            unique.len() < names.len() || names.iter().any(|it| it.trim().is_empty())
        };
        let views = match raw {
            RawViews::Count(count) if count <= MAX_VIEWS => {
                NonZeroUsize::new(count).map(DeclaredViews::Count)
            }
            RawViews::Names(names) if (1..=MAX_VIEWS).contains(&names.len()) && !wrong(&names) => {
                Some(DeclaredViews::Named(names.into_iter().map(Arc::from).collect()))
            }
            RawViews::Count(_) | RawViews::Names(_) => None,
        };
        if views.is_none() {
            let message = format!("a number from 1 to {MAX_VIEWS}, or that many distinct names");
            self.0.complain(&["item", "views"], message);
        }
        views.map(Some)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
