//! Settings: what was typed in three places becomes one checked [`Config`], or a list of complaints.
//!
//! Flags win over the environment, the environment over `linesight.toml`, the file over the
//! defaults. Nothing is ignored: an unknown key, table or variable is refused, and a complaint names
//! the line and column, the variable or the flag it is about. All complaints come at once.

mod keys;
mod print;
mod raw;
#[cfg(test)]
mod tests;
mod units;
mod validate;

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

pub use raw::RawConfig;

use crate::{onnx::LibraryChoice, telemetry::TelemetryConfig, types::Digest};
use raw::Complaint;

/// The file that is read where none is named and this one is there.
const DEFAULT_FILE: &str = "linesight.toml";

/// Names the file where no flag does.
const FILE_VARIABLE: &str = "LINESIGHT_CONFIG";

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listeners, and how the process ends.
    pub server: ServerConfig,
    /// Limits of the data listener.
    pub http: HttpConfig,
    /// The model repository.
    pub models: ModelsConfig,
    /// ONNX Runtime and the threads it gets.
    pub runtime: RuntimeConfig,
    /// What is logged, and how.
    pub log: TelemetryConfig,
}

/// Listeners, and how the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Data listener.
    pub data: SocketAddr,
    /// Admin listener; never the same as `data`, unless both leave the port to the system.
    pub admin: SocketAddr,
    /// After SIGTERM, how long new requests are still taken while readiness is off; may be zero.
    pub drain_delay: Duration,
    /// After that, how long what is in flight may take; may be zero.
    pub shutdown_grace: Duration,
}

/// Limits of the data listener. None is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Open connections.
    pub max_connections: NonZeroUsize,
    /// Of these, how many one address may hold; `None`: no limit.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the last byte of the body.
    pub body_timeout: Duration,
    /// Between two requests on one connection.
    pub idle_timeout: Duration,
    /// Bytes of one body; at most `max_bytes_in_flight`.
    pub max_body: u64,
    /// Images in one request.
    pub max_images: NonZeroUsize,
    /// Bytes of all bodies being read or waiting.
    pub max_bytes_in_flight: u64,
    /// Pixels of one image.
    pub max_pixels: u64,
    /// Whether a connection that comes back too early has its refusals held.
    pub pace_retries: bool,
}

/// The model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Its folder; relative to the current directory.
    pub path: PathBuf,
    /// Bytes of the largest model file that is read.
    pub max_model_bytes: u64,
    /// Where profiles are remembered.
    pub cache: CacheChoice,
}

/// Where what was measured is remembered for the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheChoice {
    /// Where the system keeps such things for this user, if it says where.
    Auto(Option<PathBuf>),
    /// Nowhere.
    Off,
    /// Here; relative to the current directory.
    Folder(PathBuf),
}

impl CacheChoice {
    /// The folder, if there is to be one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Auto(folder) => folder.as_deref(),
            Self::Off => None,
            Self::Folder(folder) => Some(folder),
        }
    }
}

/// ONNX Runtime and the threads it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Which library; `ORT_DYLIB_PATH` counts as naming one.
    pub library: LibraryChoice,
    /// Threads that compute at once; `None`: what the host grants.
    pub cores: Option<NonZeroUsize>,
    /// Bytes the process may take; `None`: what the host grants.
    pub memory: Option<u64>,
    /// Whether ONNX Runtime's threads spin while they wait (`session.intra_op.allow_spinning`).
    pub spin: bool,
}

/// Where settings come from, weakest last.
#[derive(Debug, Clone)]
pub struct ConfigSources<E> {
    /// What the flags said.
    pub flags: RawConfig,
    /// The process's variables; those that are not ours are passed over.
    pub env: E,
    /// The file named by a flag. `None`: the one `LINESIGHT_CONFIG` names, else `linesight.toml` in
    /// the current directory if it is there.
    pub file: Option<PathBuf>,
}

impl ConfigSources<std::vec::IntoIter<(String, String)>> {
    /// The flags and file given, and this process's environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: RawConfig) -> Self {
        // What is not Unicode becomes U+FFFD, which no setting of ours accepts but a path; there
        // the file is not found and the message shows the path.
        let env: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        Self { flags, env: env.into_iter(), file }
    }
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All complaints at once; there is no configuration with a part of the settings.
    pub fn load<E>(sources: ConfigSources<E>) -> Result<Self, ConfigErrors>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        let env: Vec<(String, String)> = sources.env.into_iter().collect();
        let variable = |name: &str| {
            env.iter()
                .find(|(it, value)| it == name && !value.is_empty())
                .map(|(_, it)| it.as_str())
        };
        let file =
            sources.file.or_else(|| variable(FILE_VARIABLE).map(PathBuf::from)).or_else(|| {
                let usual = Path::new(DEFAULT_FILE);
                is_there(usual).then(|| usual.to_path_buf())
            });
        let usual_cache = usual_cache(variable("XDG_CACHE_HOME"), variable("HOME"));
        let mut raw = RawConfig::from_dylib_path(variable("ORT_DYLIB_PATH").unwrap_or_default());
        if let Some(file) = file {
            raw.overlay(RawConfig::from_file(&file));
        }
        raw.overlay(RawConfig::from_environment(env.into_iter()));
        raw.overlay(sources.flags);
        let mut config = validate::validate(raw)?;
        if let CacheChoice::Auto(folder) = &mut config.models.cache {
            *folder = usual_cache;
        }
        Ok(config)
    }

    /// The settings in force as TOML, every key in a fixed order: what `--print-config` prints, and
    /// a file that gives the same settings again.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }

    /// The table of every key, its variable, its default and its meaning, in Markdown: what
    /// `docs/config.md` holds.
    #[must_use]
    pub fn reference() -> String {
        print::reference()
    }

    /// The digest of [`Config::to_toml`]: under which settings an answer was given.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }
}

/// Where the XDG base directories put our cache. A relative path in either is not theirs, and ignored.
fn usual_cache(cache_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    let absolute = |it: &str| Some(PathBuf::from(it)).filter(|it| it.is_absolute());
    let folder = cache_home.and_then(absolute);
    let folder = folder.or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(folder.join("linesight"))
}

/// Whether anything is there, a link that leads nowhere or a file we may not look at included: what
/// someone put there is not to be ignored, and reading it says what is wrong.
fn is_there(path: &Path) -> bool {
    let looked = path.symlink_metadata();
    !looked.is_err_and(|it| it.kind() == std::io::ErrorKind::NotFound)
}

impl Default for Config {
    /// The settings of someone who set nothing.
    fn default() -> Self {
        // Defaults that do not pass are a fault in the table of keys, which a test would show.
        validate::validate(RawConfig::default()).unwrap_or_else(|errors| unreachable!("{errors}"))
    }
}

/// What is wrong with the settings: never empty, one line each, down the file and then what
/// is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Complaint>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, complaint) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            complaint.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
