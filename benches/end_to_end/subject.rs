//! What is measured with: the vial model as the server loads it, and pictures with the labels that
//! the model gives them.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use linesight::{
    batch::{Executor as _, Feed},
    imaging::{self, Preprocess, Workspace},
    onnx::{Environment, Graph, OrtExecutor, SessionConfig},
    repository::{Limits, Manifest, SealedPackage},
    types::{Instant, TensorData},
};
use serde::Serialize;

use crate::stats::millis;

const MODEL: &str = "models/vial-defect";
pub const MODEL_NAME: &str = "vial-defect";
const SAMPLES: &str = "training/samples";

/// A picture and what it is.
#[derive(Debug, Clone)]
pub struct Picture {
    pub jpeg: Vec<u8>,
    pub label: String,
}

/// The parts of opening a model that every start goes through.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Opening {
    /// The package read, and every digest checked.
    pub read_ms: f64,
    pub optimise_ms: f64,
    /// One session from the optimised graph.
    pub open_ms: f64,
}

/// The model and the pictures.
pub struct Subject {
    pub version: String,
    pub digest: String,
    /// Width and height of the first picture.
    pub picture_size: (u32, u32),
    pub pictures: Arc<[Picture]>,
    pub opening: Opening,
    graph: Graph,
    manifest: Arc<Manifest>,
    limits: imaging::Limits,
}

/// What one thread needs to judge pictures: what a lane has, and nothing around it.
pub struct Core<'a> {
    preprocess: &'a Preprocess,
    manifest: &'a Manifest,
    limits: &'a imaging::Limits,
    input: Arc<str>,
    outputs: Vec<Arc<str>>,
    shape: Vec<usize>,
    row: TensorData,
    workspace: Workspace,
    session: OrtExecutor,
}

impl Subject {
    /// Opens the model, reads the pictures and asks the model for their labels.
    pub fn load(environment: &Environment) -> Result<Self> {
        Self::load_with(environment, Ok)
    }

    /// The same with pictures of twice the width and height.
    pub fn load_doubled(environment: &Environment) -> Result<Self> {
        Self::load_with(environment, |jpeg| doubled(&jpeg))
    }

    fn load_with(
        environment: &Environment,
        prepare: impl Fn(Vec<u8>) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let version = served_version()?;
        let folder = Path::new(MODEL).join(&version);
        let (name, parsed) = (MODEL_NAME.parse()?, version.parse()?);
        let started = Instant::now();
        let package = SealedPackage::read(&folder, &name, parsed, &Limits::default())?;
        let manifest = package.manifest.context("the vial package has no manifest")?;
        let read_ms = millis(started.elapsed());
        let started = Instant::now();
        let graph = Graph::optimise(environment, &package.model, SessionConfig::default())?;
        let optimise_ms = millis(started.elapsed());
        let started = Instant::now();
        drop(graph.open()?);
        let opening = Opening { read_ms, optimise_ms, open_ms: millis(started.elapsed()) };
        let digest = package.digest.to_string();
        let limits = imaging::Limits::default();
        let found = jpegs(&folder)?
            .into_iter()
            .map(|(path, jpeg)| Ok((path, prepare(jpeg)?)))
            .collect::<Result<Vec<_>>>()?;
        let (_, first) = found.first().with_context(|| format!("no pictures in {SAMPLES}"))?;
        let header = imaging::inspect(first, &limits)?;
        let picture_size = (header.width, header.height);
        let pictures = Arc::from([]);
        let mut subject =
            Self { version, digest, picture_size, pictures, opening, graph, manifest, limits };
        let mut core = subject.core()?;
        let mut pictures = Vec::new();
        for (path, jpeg) in found {
            let label = core.judge(&jpeg)?.to_owned();
            // A sample is named after its class.
            let named = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
            let wrong = path.starts_with(SAMPLES) && named != label;
            ensure!(!wrong, "the model takes {} for {label}", path.display());
            pictures.push(Picture { jpeg, label });
        }
        drop(core);
        subject.pictures = pictures.into();
        Ok(subject)
    }

    /// A session of its own, and the buffers of one thread.
    pub fn core(&self) -> Result<Core<'_>> {
        let preprocess = self.manifest.preprocess.as_ref().context("no [preprocess]")?;
        let outputs = self.manifest.outputs.as_ref().context("no outputs")?;
        let input = self.graph.signature().inputs.first().context("no input")?;
        let shape = std::iter::once(1).chain(preprocess.output_shape()).collect();
        Ok(Core {
            preprocess,
            manifest: &self.manifest,
            limits: &self.limits,
            input: Arc::clone(&input.name),
            outputs: vec![Arc::clone(&outputs.scores)],
            shape,
            row: TensorData::F32(vec![0.0; preprocess.row_len()]),
            workspace: Workspace::new(),
            session: self.graph.open()?,
        })
    }
}

impl Core<'_> {
    /// Decode, resize, normalise, run: the label of a picture.
    pub fn judge(&mut self, jpeg: &[u8]) -> Result<&str> {
        let pixels = self.workspace.prepare(jpeg, self.preprocess, self.limits)?;
        if let TensorData::F32(row) = &mut self.row {
            self.preprocess.write_row(&pixels, row);
        }
        let scores = self.run()?;
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let label = best.and_then(|(at, _)| self.manifest.labels.get(at)).context("no label")?;
        Ok(label)
    }

    /// Runs the row as it is: the scores.
    pub fn run(&mut self) -> Result<Vec<f32>> {
        let feed = Feed { name: &self.input, shape: &self.shape, data: &self.row };
        let outputs = self.session.execute(&[feed], &self.outputs).map_err(|it| anyhow!(it.0))?;
        let scores = outputs.first().and_then(|it| it.tensor.as_f32()).context("no scores")?;
        Ok(scores.to_vec())
    }
}

/// A picture of twice the width and height, as a camera of four times the pixels would send it.
fn doubled(jpeg: &[u8]) -> Result<Vec<u8>> {
    const QUALITY: i32 = 90;
    let small = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB)?;
    let (width, height) = (2 * small.width, 2 * small.height);
    let row = |y: usize| small.pixels.get(y * small.pitch..).unwrap_or_default();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let from = row(y / 2).chunks_exact(3).take(small.width);
        pixels.extend(from.flat_map(|it| [it, it]).flatten());
    }
    let format = turbojpeg::PixelFormat::RGB;
    let large = turbojpeg::Image { pixels: &*pixels, width, pitch: 3 * width, height, format };
    let encoded = turbojpeg::compress(large, QUALITY, turbojpeg::Subsamp::Sub2x2)?;
    Ok(encoded.to_vec())
}

/// The version that `model.toml` names: the one that a user of the repository gets.
fn served_version() -> Result<String> {
    let settings: toml::Table = fs::read_to_string(Path::new(MODEL).join("model.toml"))?.parse()?;
    let serve = settings.get("serve").and_then(toml::Value::as_str);
    Ok(serve.context("model.toml names no version to serve")?.to_owned())
}

/// The samples, and the golden pictures that are plain JPEGs like them, in a fixed order.
fn jpegs(package: &Path) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for folder in [Path::new(SAMPLES), &package.join("golden")] {
        let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let is_jpeg = path.extension().is_some_and(|it| it == "jpg");
            if is_jpeg && !name.starts_with("format-") {
                let bytes = fs::read(&path)?;
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    Ok(found)
}
