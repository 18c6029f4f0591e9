//! The whole table L(batch, threads) of one version, for people: `linesight profile`.

use std::{collections::BTreeSet, num::NonZeroUsize, path::Path};

use super::{
    Ground, MeasureError, PlanError, Profile, ProfileCache, RunPlan, Sharing, Subject, Timing,
    bench::{Bench, Effort},
    measure::note_memory,
    plan::{next_size, plan},
    proof::{Proof, Unproven, has_room},
};
use crate::{
    batch::{ExecuteError, Site},
    onnx::Environment,
    repository::{
        complaint::Complaint,
        error::RepositoryError,
        load::LoadConfig,
        load_error::LoadError,
        model_config::{ModelConfig, Runtime},
        plan::plan as versions,
        prepare::Prepared,
        scan::{FoundVersion, scan},
    },
    types::{Digest, ModelName, ModelRef, ModelVersion},
};

/// Rows a run that are measured where nobody says otherwise.
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// And on a device these.
const BATCHES_OF_DEVICE: [usize; 2] = [64, 128];
/// Rows a run that may be asked for; beyond it there is a slip of the finger, and no memory.
pub(super) const MAX_BATCH: usize = 1024;

/// Where versions are, and what they are measured with.
#[derive(Debug)]
pub struct Surveyor<'a> {
    /// The repository's root.
    pub root: &'a Path,
    /// ONNX Runtime.
    pub environment: &'a Environment,
    /// The same as for serving.
    pub config: &'a LoadConfig,
    /// What the plan is made for.
    pub cores: NonZeroUsize,
}

/// Which sizes are measured. One row on one thread is measured whatever is asked for, as everything
/// is compared with it.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// Threads of a session; `None`: 1, 2, 4, …, and all cores.
    pub threads: Option<Vec<NonZeroUsize>>,
    /// Rows a run; `None`: 1, 2, 4, … 32 as far as items may share a run, and what `model.toml`
    /// declares. Those named must be allowed.
    pub batches: Option<Vec<NonZeroUsize>>,
}

/// What was found out.
#[derive(Debug)]
pub struct Survey {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: ModelVersion,
    /// Its digest.
    pub digest: Digest,
    /// The processor.
    pub cpu: String,
    /// What runs it that is not the processor: the provider, and the name of the GPU.
    pub gpu: Option<String>,
    /// By threads, then rows.
    pub cells: Vec<Cell>,
    /// What the plan was made from.
    pub profile: Profile,
    /// What it comes to with this `model.toml`.
    pub plan: RunPlan,
    /// Why the next start will not use it; `None`: it will.
    pub not_cached: Option<&'static str>,
}

/// One size.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Threads of the session.
    pub threads: usize,
    /// Rows a run.
    pub batch: usize,
    /// How long runs took.
    pub timing: Timing,
    /// Working memory of a lane after runs of up to this size; known for one thread.
    pub lane_bytes: Option<u64>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// No such model.
    #[error("there is no model named {name}; there are {}", listed(known))]
    UnknownModel {
        /// What was asked for.
        name: ModelName,
        /// What there is.
        known: Vec<ModelName>,
    },
    /// No such version of it.
    #[error("{name} has no version {version}; there are {}", listed(known))]
    UnknownVersion {
        /// The model.
        name: ModelName,
        /// What was asked for.
        version: ModelVersion,
        /// What there is.
        known: Vec<ModelVersion>,
    },
    /// Nothing says which version is meant.
    #[error("which version of {name}? there are {}; say --version N", listed(known))]
    WhichVersion {
        /// The model.
        name: ModelName,
        /// What there is.
        known: Vec<ModelVersion>,
    },
    /// Its `model.toml` cannot be used.
    #[error("{}", listed(.0))]
    ModelConfig(Vec<Complaint>),
    /// More threads than cores.
    #[error("{asked} threads are more than the {cores} cores this process may use (--cores)")]
    TooManyThreads {
        /// What was asked for.
        asked: NonZeroUsize,
        /// What there is.
        cores: NonZeroUsize,
    },
    /// More rows than anyone runs.
    #[error("{asked} rows a run; at most {MAX_BATCH} are measured")]
    TooManyRows {
        /// What was asked for.
        asked: NonZeroUsize,
    },
    /// A size that was asked for, and that items may not share.
    #[error("runs of {batch} rows on {threads} threads cannot be used: {why}")]
    Refused {
        /// Rows.
        batch: usize,
        /// Threads.
        threads: usize,
        /// What the proof says.
        why: String,
    },
    /// It cannot be read or opened.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its `model.toml` asks for what cannot be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl From<MeasureError> for SurveyError {
    fn from(error: MeasureError) -> Self {
        Self::Load(error.into())
    }
}

impl From<ExecuteError> for SurveyError {
    fn from(error: ExecuteError) -> Self {
        Self::Load(LoadError::Trial(error))
    }
}

fn listed<T: ToString>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

impl Surveyor<'_> {
    /// Measures a version: the one named, else the one that is served. Golden samples are not
    /// judged by their scores here; that is for loading.
    ///
    /// # Errors
    /// What was asked for is not there, cannot be run, or not so.
    pub fn survey(&self, model: &ModelRef, sizes: &Sizes) -> Result<Survey, SurveyError> {
        let cores = self.cores;
        let asked = sizes.threads.iter().flatten().max().copied();
        if let Some(asked) = asked.filter(|it| *it > cores) {
            return Err(SurveyError::TooManyThreads { asked, cores });
        }
        let asked = sizes.batches.iter().flatten().max().copied();
        if let Some(asked) = asked.filter(|it| it.get() > MAX_BATCH) {
            return Err(SurveyError::TooManyRows { asked });
        }
        let (found, config) = self.find(model)?;
        let asked = &config.runtime;
        let name = &model.name;
        let prepared = Prepared::new(self.environment, self.config, name, &found, (asked, cores))?;
        let ground = prepared.ground(cores);
        let grid = Grid::new(sizes, asked, ground);
        let (cells, profile) = match measure(prepared.subject(&prepared.rows), &grid) {
            // Some graphs cannot be run with dimensions of 1.
            Err(SurveyError::Load(LoadError::Trial(error))) => {
                let rows = prepared.larger_rows().ok_or(LoadError::Trial(error))?;
                measure(prepared.subject(&rows), &grid)?
            }
            measured => measured?,
        };
        let compute = prepared.compute.clone();
        let plan = RunPlan { compute, ..plan(ground, &profile, asked)? };
        let whole =
            [asked, &Runtime::default()].iter().all(|it| next_size(ground, &profile, it).is_none());
        let quiet = cells.iter().all(|it| it.timing.kept > 0);
        let cache = ProfileCache::new(self.config.cache.clone());
        let key = prepared.profile_key(self.environment, self.config, cores);
        let not_cached = if !whole {
            Some("only a part of the table was measured")
        } else if !quiet {
            Some("the machine had other work")
        } else if !cache.write(name, found.version, &key, &profile) {
            Some("there is no folder for it (models.cache)")
        } else {
            None
        };
        Ok(Survey {
            name: name.clone(),
            version: found.version,
            digest: prepared.package.digest,
            cpu: self.config.cpu.clone(),
            gpu: key.device,
            cells,
            profile,
            plan,
            not_cached,
        })
    }

    fn find(&self, model: &ModelRef) -> Result<(FoundVersion, ModelConfig), SurveyError> {
        let mut found = scan(self.root)?;
        let known: Vec<ModelName> = found.models.keys().cloned().collect();
        let name = model.name.clone();
        let Some(mut entry) = found.models.remove(&name) else {
            return Err(SurveyError::UnknownModel { name, known });
        };
        let config =
            ModelConfig::read(&entry, &self.config.files).map_err(SurveyError::ModelConfig)?;
        let known: Vec<ModelVersion> = entry.numbers().into_iter().collect();
        let served = versions(config.serve.as_deref(), &entry.numbers()).default;
        let Some(version) = model.version.or(served) else {
            return Err(SurveyError::WhichVersion { name, known });
        };
        match entry.versions.remove(&version) {
            Some(found) => Ok((found, config)),
            None => Err(SurveyError::UnknownVersion { name, version, known }),
        }
    }
}

/// Which sizes are measured, ascending.
struct Grid {
    threads: BTreeSet<NonZeroUsize>,
    batches: BTreeSet<NonZeroUsize>,
    /// Whether each must be allowed, because it was named.
    named: bool,
    cores: NonZeroUsize,
    is_device: bool,
}

impl Grid {
    /// Threads are of cores: on a device there is one, which waits.
    fn new(sizes: &Sizes, asked: &Runtime, ground: Ground<'_>) -> Self {
        let (cores, is_device) = (ground.cores, ground.is_device());
        let mut threads: BTreeSet<_> = sizes.threads.iter().flatten().copied().collect();
        if is_device {
            threads.clear();
        } else if sizes.threads.is_none() {
            let doubled = std::iter::successors(Some(NonZeroUsize::MIN), |it| {
                it.checked_mul(NonZeroUsize::MIN.saturating_add(1))
            });
            threads.extend(doubled.take_while(|it| *it < cores).chain([cores]));
        }
        threads.insert(NonZeroUsize::MIN);
        let mut batches: BTreeSet<_> = sizes.batches.iter().flatten().copied().collect();
        if sizes.batches.is_none() {
            let more = BATCHES_OF_DEVICE.into_iter().filter(|_| is_device);
            batches.extend(BATCHES.into_iter().chain(more).filter_map(NonZeroUsize::new));
        }
        batches.insert(NonZeroUsize::MIN);
        batches.extend(asked.max_batch);
        Self { threads, batches, named: sizes.batches.is_some(), cores, is_device }
    }
}

fn measure(subject: Subject<'_>, grid: &Grid) -> Result<(Vec<Cell>, Profile), SurveyError> {
    // Said before anything is timed, which may take a while.
    if let Some(batch) = grid.batches.iter().map(|it| it.get()).find(|it| grid.named && *it > 1) {
        has_room(subject.graph.signature()).map_err(|why| SurveyError::Refused {
            batch,
            threads: 1,
            why,
        })?;
    }
    let (mut cells, mut profile) = (Vec::new(), Profile::default());
    let mut proof = None;
    for &threads in &grid.threads {
        let session = match subject.graph.site() {
            Site::Core => subject.graph.open_wide(threads),
            device @ Site::Device(_) => subject.graph.open_at(device),
        };
        let session = session.map_err(LoadError::Onnx)?;
        let threads = threads.get();
        let mut bench = Bench::new(session, subject.graph.signature(), threads);
        // One thread comes first, and no other has sizes that it has not.
        let proof = match &mut proof {
            Some(proof) => proof,
            none @ None => {
                let first = subject.rows.first().map(|it| bench.run(it)).transpose()?;
                none.insert(Proof::new(subject, first.unwrap_or_default()))
            }
        };
        for batch in grid.batches.iter().map(|it| it.get()) {
            if batch > 1 && profile.sharing != Sharing::Proven {
                break;
            }
            let inputs = match proof.of(batch, &mut bench) {
                Ok(inputs) => inputs,
                Err(why) if grid.named => {
                    let why = why.to_string();
                    return Err(SurveyError::Refused { batch, threads, why });
                }
                Err(Unproven::Failed(..)) if grid.is_device && batch > 2 => {
                    profile.too_large = Some(batch);
                    break;
                }
                Err(why) => {
                    if threads == 1 {
                        profile.sharing = Sharing::Refused(why.to_string());
                    } else if batch == 1 && threads == grid.cores.get() {
                        profile.wide_refused = Some(why.to_string());
                    }
                    break;
                }
            };
            let timing = bench.time(&inputs, Effort::THOROUGH)?;
            profile.latency.record(batch, threads, timing.least);
            if threads == 1 {
                note_memory(&bench, subject, batch, &mut profile);
            }
            let lane_bytes = profile.lane_bytes.get(&batch).copied().filter(|_| threads == 1);
            cells.push(Cell { threads, batch, timing, lane_bytes });
        }
    }
    Ok((cells, profile))
}
