//! `model.toml`: what the operator says about a model. Not sealed, and unable to change a verdict.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use super::{
    complaint::Complaint,
    document::Document,
    files::{Limits, read_linked},
    manifest::SEALED_KEYS,
    scan::FoundModel,
};
use crate::{
    batch::Terms,
    types::{Budget, ModelVersion},
};

/// Keys of `model.toml`.
const KEYS: [&str; 4] = ["serve", "required", "budget", "runtime"];
/// No lane needs less to run anything.
const MIN_MEMORY: u64 = 1024 * 1024;
/// The GPU of a machine that has one.
const FIRST: [u32; 1] = [0];

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    Cpu,
    /// NVIDIA GPUs by CUDA, and nothing else.
    Cuda,
    /// NVIDIA GPUs by TensorRT, and by CUDA what that lacks; nothing else.
    TensorRt,
    /// CUDA where it works, else the processor.
    #[default]
    Auto,
}

impl Device {
    /// The word in `model.toml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::Auto => "auto",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Cpu, Self::Cuda, Self::TensorRt, Self::Auto]
            .into_iter()
            .find(|it| it.as_str() == word)
    }
}

/// `[runtime]`: every key optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Where.
    pub device: Device,
    /// Numbers of the GPUs, should it run on some; not empty, unique.
    pub devices: Vec<u32>,
    /// Lanes the model may have at a time, on each GPU if it runs there; `None`: as many as there are core
    /// tokens, or two on each GPU.
    pub lanes: Option<NonZeroUsize>,
    /// The operator's word that items may share a run of up to so many; `None`: measured.
    pub max_batch: Option<NonZeroUsize>,
    /// Bytes one lane may use, on a GPU of the memory there.
    pub memory: Option<u64>,
    /// Share of the cores beside other models.
    pub weight: NonZeroU32,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            device: Device::default(),
            devices: FIRST.to_vec(),
            lanes: None,
            max_batch: None,
            memory: None,
            weight: NonZeroU32::MIN,
        }
    }
}

/// A checked `model.toml`. Its default is what holds without the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelConfig {
    /// The versions to serve, the first one by default; not empty, unique. `None`: no such key.
    pub serve: Option<Vec<ModelVersion>>,
    /// Whether readiness waits for it. `None`: if its package has a decision policy.
    pub required: Option<bool>,
    /// Target and limit.
    pub budget: Budget,
    /// For how long more may come than is answered within the target; `None`: as long as the target.
    pub burst: Option<Duration>,
    /// What is taken off the target for what a prediction misses; `None`: learnt.
    pub reserve: Option<Duration>,
    /// How it is run.
    pub runtime: Runtime,
    /// The text of the file, for the digest of what was in force; empty without the file.
    pub text: Arc<str>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a version is a string: \"1\", or a list of them")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    target: Option<String>,
    limit: Option<String>,
    burst: Option<String>,
    reserve: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    device: Option<String>,
    devices: Option<Vec<u16>>,
    lanes: Option<NonZeroUsize>,
    max_batch: Option<NonZeroUsize>,
    memory: Option<String>,
    weight: Option<NonZeroU32>,
}

impl ModelConfig {
    /// What its items are held to when they ask to be let in.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let Budget { target, limit } = self.budget;
        Terms {
            burst: self.burst.unwrap_or(target),
            reserve: self.reserve,
            weight: self.runtime.weight.get(),
            ..Terms::new(target, limit)
        }
    }

    /// Reads the `model.toml` of a model; without one, the defaults.
    ///
    /// # Errors
    /// Every complaint there is.
    pub fn read(model: &FoundModel, limits: &Limits) -> Result<Self, Vec<Complaint>> {
        let Some(path) = &model.config else { return Ok(Self::default()) };
        let place = format!("{}/model.toml", model.name);
        match read_linked(path, limits.toml) {
            Ok(bytes) => Self::parse(&place, &bytes),
            Err(error) => Err(vec![Complaint::new(place, error)]),
        }
    }

    /// Reads and checks the text of a `model.toml`; `file` is how complaints name it.
    ///
    /// # Errors
    /// Every complaint there is, in the order of the file.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Complaint>> {
        let mut document = Document::parse(file, bytes)?;
        let config = read(&mut document);
        let config = document.finish(config)?;
        Ok(Self { text: String::from_utf8_lossy(bytes).into(), ..config })
    }
}

fn read(document: &mut Document<'_>) -> Option<ModelConfig> {
    for key in SEALED_KEYS {
        if document.has(key) {
            let message = "is sealed in package.toml: what changes verdicts makes a new version";
            document.complain(&[key], message);
        }
    }
    let known: Vec<&str> = KEYS.into_iter().chain(SEALED_KEYS).collect();
    document.only_among(&known, &KEYS);
    let serve = serve(document);
    let required = document.section("required").optional();
    let budget = budget(document);
    let runtime = runtime(document);
    let Budgeted { budget, burst, reserve } = budget?;
    Some(ModelConfig {
        serve: serve?,
        required: required?,
        budget,
        burst,
        reserve,
        runtime: runtime?,
        text: Arc::default(),
    })
}

fn serve(document: &mut Document<'_>) -> Option<Option<Vec<ModelVersion>>> {
    let given = match document.section("serve").optional()? {
        None => return Some(None),
        Some(OneOrMore::One(one)) => vec![one],
        Some(OneOrMore::More(more)) => more,
    };
    let mut versions: Vec<ModelVersion> = Vec::new();
    let mut sound = true;
    let mut wrong = |message: String| {
        document.complain(&["serve"], message);
        sound = false;
    };
    if given.is_empty() {
        wrong("names no version; leave the key out to serve the only one".to_owned());
    }
    for text in given {
        match text.parse() {
            Err(error) => wrong(format!("{error}")),
            Ok(version) if versions.contains(&version) => {
                wrong(format!("\"{version}\" stands twice"));
            }
            Ok(version) => versions.push(version),
        }
    }
    sound.then_some(Some(versions))
}

/// `[budget]`: target and limit, and the rest where it is given.
struct Budgeted {
    budget: Budget,
    burst: Option<Duration>,
    reserve: Option<Duration>,
}

fn budget(document: &mut Document<'_>) -> Option<Budgeted> {
    let raw = document.section::<RawBudget>("budget").or(RawBudget::default())?;
    let default = Budget::default();
    let target = duration(document, "target", raw.target.as_deref(), default.target);
    let limit = duration(document, "limit", raw.limit.as_deref(), default.limit);
    // No burst: nothing above the target, from the first. No reserve: the prediction, as it is.
    let mut optional = |key, given: Option<&str>| match given {
        None => Some(None),
        Some("0" | "0s" | "0ms") => Some(Some(Duration::ZERO)),
        given => duration(document, key, given, Duration::ZERO).map(Some),
    };
    let burst = optional("burst", raw.burst.as_deref());
    let reserve = optional("reserve", raw.reserve.as_deref());
    let budget = Budget { target: target?, limit: limit? };
    if budget.target > budget.limit {
        // Where only one of the two is written, the other is its default: say so by its value.
        let key = if raw.target.is_some() { "target" } else { "limit" };
        let (target, limit) = (budget.target, budget.limit);
        document.complain(&["budget", key], format!("target {target:?} is above limit {limit:?}"));
        return None;
    }
    let (burst, reserve) = (burst?, reserve?);
    if let Some(reserve) = reserve.filter(|it| *it >= budget.target) {
        let target = budget.target;
        let message = format!("reserve {reserve:?} leaves nothing of target {target:?}");
        document.complain(&["budget", "reserve"], message);
        return None;
    }
    Some(Budgeted { budget, burst, reserve })
}

fn duration(
    document: &mut Document<'_>,
    key: &str,
    given: Option<&str>,
    default: Duration,
) -> Option<Duration> {
    let Some(given) = given else { return Some(default) };
    match humantime::parse_duration(given) {
        Ok(it) if !it.is_zero() => Some(it),
        Ok(_) => {
            document.complain(&["budget", key], "must be longer than 0");
            None
        }
        Err(error) => {
            let message = format!("{given:?} is no duration such as \"600ms\" or \"3s\": {error}");
            document.complain(&["budget", key], message);
            None
        }
    }
}

fn runtime(document: &mut Document<'_>) -> Option<Runtime> {
    let raw = document.section::<RawRuntime>("runtime").or(RawRuntime::default())?;
    let device = device(document, raw.device.as_deref());
    let devices = devices(document, device, raw.devices);
    let memory = match raw.memory.as_deref().map(|it| (it, bytes(it))) {
        None => Some(None),
        Some((_, Some(bytes))) if bytes >= MIN_MEMORY => Some(Some(bytes)),
        Some((given, _)) => {
            let message = format!("{given:?} is no size such as \"256MiB\", at least \"1MiB\"");
            document.complain(&["runtime", "memory"], message);
            None
        }
    };
    Some(Runtime {
        device: device?,
        devices: devices?,
        lanes: raw.lanes,
        max_batch: raw.max_batch,
        memory: memory?,
        weight: raw.weight.unwrap_or(NonZeroU32::MIN),
    })
}

fn device(document: &mut Document<'_>, given: Option<&str>) -> Option<Device> {
    let Some(given) = given else { return Some(Device::default()) };
    let device = Device::parse(given);
    if device.is_none() {
        let message = format!("{given:?} is not one of \"cpu\", \"cuda\", \"tensorrt\", \"auto\"");
        document.complain(&["runtime", "device"], message);
    }
    device
}

fn devices(
    document: &mut Document<'_>,
    device: Option<Device>,
    given: Option<Vec<u16>>,
) -> Option<Vec<u32>> {
    let Some(given) = given else { return Some(FIRST.to_vec()) };
    let mut complain = |message: String| {
        document.complain(&["runtime", "devices"], message);
        None
    };
    if device == Some(Device::Cpu) {
        return complain("numbers GPUs, and device = \"cpu\" uses none; leave one out".to_owned());
    }
    if given.is_empty() {
        return complain("names no GPU; leave the key out for [0]".to_owned());
    }
    let mut rest = given.iter();
    while let Some(it) = rest.next() {
        if rest.as_slice().contains(it) {
            return complain(format!("{it} stands twice"));
        }
    }
    Some(given.into_iter().map(u32::from).collect())
}

/// "256MiB", "1 GiB", "65536".
fn bytes(given: &str) -> Option<u64> {
    let digits = given.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = given.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
#[path = "model_config_tests.rs"]
mod tests;
