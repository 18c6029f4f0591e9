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

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The best there is; in this build the processor.
    #[default]
    Auto,
}

/// `[runtime]`: every key optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Where.
    pub device: Device,
    /// Lanes the model may have at a time; `None`: as many as there are core tokens.
    pub lanes: Option<NonZeroUsize>,
    /// The operator's word that items may share a run of up to so many; `None`: measured.
    pub max_batch: Option<NonZeroUsize>,
    /// Bytes one lane may use.
    pub memory: Option<u64>,
    /// Share of the cores beside other models.
    pub weight: NonZeroU32,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            device: Device::default(),
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
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    device: Option<String>,
    lanes: Option<NonZeroUsize>,
    max_batch: Option<NonZeroUsize>,
    memory: Option<String>,
    weight: Option<NonZeroU32>,
}

impl ModelConfig {
    /// What its items are held to when they ask to be let in.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { target: self.budget.target, burst: self.burst.unwrap_or(self.budget.target) }
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
    let (budget, burst) = budget?;
    Some(ModelConfig {
        serve: serve?,
        required: required?,
        budget,
        burst,
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

/// `[budget]`: target and limit, and the burst where it is given.
fn budget(document: &mut Document<'_>) -> Option<(Budget, Option<Duration>)> {
    let raw = document.section::<RawBudget>("budget").or(RawBudget::default())?;
    let default = Budget::default();
    let target = duration(document, "target", raw.target.as_deref(), default.target);
    let limit = duration(document, "limit", raw.limit.as_deref(), default.limit);
    let burst = match raw.burst.as_deref() {
        None => Some(None),
        // Nothing above the target, from the first.
        Some("0" | "0s" | "0ms") => Some(Some(Duration::ZERO)),
        given => duration(document, "burst", given, Duration::ZERO).map(Some),
    };
    let budget = Budget { target: target?, limit: limit? };
    if budget.target > budget.limit {
        // Where only one of the two is written, the other is its default: say so by its value.
        let key = if raw.target.is_some() { "target" } else { "limit" };
        let (target, limit) = (budget.target, budget.limit);
        document.complain(&["budget", key], format!("target {target:?} is above limit {limit:?}"));
        return None;
    }
    Some((budget, burst?))
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
    let device = match raw.device.as_deref() {
        None | Some("auto") => Some(Device::Auto),
        Some("cpu") => Some(Device::Cpu),
        Some("cuda") => {
            let message = "\"cuda\" is not available in this build; use \"cpu\" or \"auto\"";
            document.complain(&["runtime", "device"], message);
            None
        }
        Some(other) => {
            let message = format!("{other:?} is not one of \"cpu\", \"auto\"");
            document.complain(&["runtime", "device"], message);
            None
        }
    };
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
        lanes: raw.lanes,
        max_batch: raw.max_batch,
        memory: memory?,
        weight: raw.weight.unwrap_or(NonZeroU32::MIN),
    })
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
