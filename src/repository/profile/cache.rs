//! A file that remembers a profile for the next start, on the same machine, of the same bytes.
//!
//! Nothing in it is trusted beyond how long things take, and that only while it is plausible. A
//! file that is damaged, of another machine or nonsense is left aside with one line in the log, and
//! written anew; a folder that cannot be written to means measuring at every start.

use std::{
    fs,
    io::{self, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Profile, Sharing};
use crate::{
    repository::{error::FileError, files::read_linked},
    types::{Digest, ModelName, ModelVersion},
};

/// Revision of the file and of what its figures mean.
const FORMAT: u32 = 1;
/// A profile takes one or two kilobytes.
const MAX_BYTES: u64 = 64 * 1024;
/// No run that is planned with takes longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// Why sharing is refused is a sentence.
const MAX_REASON: usize = 1000;

/// What a profile holds for. Anything else may be faster, slower or larger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::repository) struct Key {
    /// Digest of the version.
    pub(in crate::repository) model: String,
    /// Shapes of the rows it was measured with.
    pub(in crate::repository) rows: String,
    /// The processor.
    pub(in crate::repository) cpu: String,
    /// What runs it that is not the processor: the provider, and the name of the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::repository) device: Option<String>,
    /// How many cores this process may use.
    pub(in crate::repository) cores: NonZeroUsize,
    /// Version and digest of ONNX Runtime's library.
    pub(in crate::repository) onnxruntime: String,
    /// Whether its threads spin.
    pub(in crate::repository) spin: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    key: Key,
    #[serde(default)]
    sharing_refused: Option<String>,
    #[serde(default)]
    wide_refused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    too_large: Option<usize>,
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    threads: usize,
    batch: usize,
    nanos: u64,
    #[serde(default)]
    lane_bytes: Option<u64>,
}

/// Reading the revision first says of a newer file what it is, instead of what is unknown in it.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Why a file is left aside.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is of format {0}, this version of Linesight writes {FORMAT}")]
    Format(u32),
    #[error("it is of another {0}")]
    Foreign(&'static str),
    #[error("its figures are not plausible: {0}")]
    Implausible(String),
}

/// Where profiles are remembered, if anywhere.
#[derive(Debug, Clone)]
pub(in crate::repository) struct ProfileCache {
    folder: Option<PathBuf>,
}

impl ProfileCache {
    pub(in crate::repository) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// One file for each version, by its digest too, for each number of cores, and for each provider but
    /// the processor: what one runs side by side on one machine does not overwrite each other's.
    fn path(&self, name: &ModelName, version: ModelVersion, key: &Key) -> Option<PathBuf> {
        let hex = key.model.trim_start_matches("sha256:");
        let digest = hex.get(..12).unwrap_or(hex);
        let cores = key.cores;
        let provider = key.device.as_ref().and_then(|it| it.split(',').next());
        let provider = provider.map_or(String::new(), |it| format!("-{it}"));
        let file = format!("{name}-{version}-{digest}-{cores}c{provider}.json");
        Some(self.folder.as_ref()?.join(file))
    }

    /// What is remembered of a version under this key; says so where there is something unusable.
    pub(in crate::repository) fn read(
        &self,
        name: &ModelName,
        version: ModelVersion,
        key: &Key,
    ) -> Option<Profile> {
        let path = self.path(name, version, key)?;
        match read(&path, key) {
            Ok(profile) => Some(profile),
            Err(Unusable::File(FileError::Missing)) => None,
            // A folder that cannot be looked into is no cache; writing to it will say so.
            Err(Unusable::File(FileError::Unreadable(_))) => None,
            Err(why) => {
                tracing::warn!(
                    model = %name, %version, file = %path.display(), %why,
                    "a cached profile is left aside; measuring anew"
                );
                None
            }
        }
    }

    /// Remembers a profile; says whether that could be done.
    pub(in crate::repository) fn write(
        &self,
        name: &ModelName,
        version: ModelVersion,
        key: &Key,
        profile: &Profile,
    ) -> bool {
        let (Some(folder), Some(path)) = (&self.folder, self.path(name, version, key)) else {
            return false;
        };
        if let Err(why) = self::profile(record(key, profile)) {
            // A disturbance that went unnoticed; the next start would only complain of the file.
            tracing::info!(model = %name, why, "what was measured is not plausible and not cached");
            return false;
        }
        let written = write(folder, &path, &record(key, profile));
        match &written {
            Ok(()) => tracing::debug!(model = %name, file = %path.display(), "profile cached"),
            Err(error) => tracing::info!(
                model = %name, folder = %folder.display(), %error,
                "the profile cannot be cached; it will be measured at every start"
            ),
        }
        written.is_ok()
    }
}

fn read(path: &Path, key: &Key) -> Result<Profile, Unusable> {
    let bytes = read_linked(path, MAX_BYTES)?;
    let Format { format } = serde_json::from_slice(&bytes)?;
    if format != FORMAT {
        return Err(Unusable::Format(format));
    }
    let record: Record = serde_json::from_slice(&bytes)?;
    if let Some(what) = foreign(&record.key, key) {
        return Err(Unusable::Foreign(what));
    }
    profile(record).map_err(Unusable::Implausible)
}

/// Written beside and renamed, so that no reader sees half of it.
fn write(folder: &Path, path: &Path, record: &Record) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.persist(path)?;
    Ok(())
}

/// In what a key differs from the one that is wanted.
fn foreign(found: &Key, wanted: &Key) -> Option<&'static str> {
    let Key { model, rows, cpu, device, cores, onnxruntime, spin } = found;
    [
        (*model == wanted.model, "model"),
        (*rows == wanted.rows, "input shape"),
        (*cpu == wanted.cpu, "processor"),
        (*device == wanted.device, "device"),
        (*cores == wanted.cores, "number of cores"),
        (*onnxruntime == wanted.onnxruntime, "ONNX Runtime"),
        (*spin == wanted.spin, "setting of runtime.spin"),
    ]
    .into_iter()
    .find_map(|(same, what)| (!same).then_some(what))
}

fn record(key: &Key, profile: &Profile) -> Record {
    let run = |(batch, threads, took): (usize, usize, Duration)| Run {
        threads,
        batch,
        nanos: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        lane_bytes: profile.lane_bytes.get(&batch).copied().filter(|_| threads == 1),
    };
    Record {
        format: FORMAT,
        key: key.clone(),
        sharing_refused: match &profile.sharing {
            Sharing::Proven => None,
            Sharing::Refused(why) => Some(why.chars().take(MAX_REASON).collect()),
        },
        wide_refused: profile.wide_refused.clone(),
        too_large: profile.too_large,
        runs: profile.latency.iter().map(run).collect(),
    }
}

/// The profile a record holds, if its figures can be true.
fn profile(record: Record) -> Result<Profile, String> {
    let mut profile = Profile {
        sharing: record.sharing_refused.map_or(Sharing::Proven, Sharing::Refused),
        wide_refused: record.wide_refused,
        too_large: record.too_large,
        ..Profile::default()
    };
    for Run { threads, batch, nanos, lane_bytes } in record.runs {
        let took = Duration::from_nanos(nanos);
        let what = format!("{batch} rows on {threads} threads");
        if threads == 0 || threads > record.key.cores.get() || batch == 0 {
            return Err(what);
        }
        if took.is_zero() || took > LONGEST {
            return Err(format!("{what} in {took:?}"));
        }
        if profile.latency.at(batch, threads).is_some() {
            return Err(format!("{what} stands twice"));
        }
        profile.latency.record(batch, threads, took);
        if let Some(bytes) = lane_bytes.filter(|_| threads == 1) {
            profile.lane_bytes.insert(batch, bytes);
        }
    }
    if profile.single().is_none() {
        return Err("one row alone is missing".to_owned());
    }
    let falls = (1..=record.key.cores.get()).find_map(|threads| falling(&profile, threads));
    if let Some(batch) = falls {
        return Err(format!("{batch} rows take much less, or much more a row, than fewer do"));
    }
    let bytes: Vec<u64> = profile.lane_bytes.values().copied().collect();
    if bytes.contains(&0) || !bytes.is_sorted() {
        return Err("a lane takes less memory for more rows".to_owned());
    }
    Ok(profile)
}

/// A size that takes less than half of a smaller one's time, or more than eight times as long a row.
fn falling(profile: &Profile, threads: usize) -> Option<usize> {
    let all: Vec<_> = profile.latency.measured(threads).collect();
    let odd = |pair: &[(usize, Duration)]| {
        let [(fewer, less), (more, took)] = pair else { return None };
        let per_row =
            |batch: usize, took: Duration| took / u32::try_from(batch).unwrap_or(u32::MAX);
        let odd = *took < *less / 2 || per_row(*more, *took) > per_row(*fewer, *less) * 8;
        odd.then_some(*more)
    };
    all.windows(2).find_map(odd)
}

/// How a key names a digest.
pub(in crate::repository) fn library(version: &str, digest: Option<Digest>) -> String {
    digest.map_or_else(|| version.to_owned(), |it| format!("{version} {it}"))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
