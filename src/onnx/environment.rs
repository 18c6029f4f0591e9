//! Once per process: ONNX Runtime started, and identified by version, build and digest.
//!
//! There is no thread pool shared by sessions: a lane's session computes on the lane's own thread.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
    thread::JoinHandle,
};

use ort::logging::LogLevel;

use super::{
    error::EnvironmentError,
    library::{self, LibraryChoice},
};
use crate::types::Digest;

/// ONNX Runtime, loaded. A cheap clone; the runtime is released with the last one.
///
/// One per process, for ever: even after the last is dropped, ONNX Runtime is not started again.
#[derive(Debug, Clone)]
pub struct Environment {
    runtime: ort::environment::Environment,
    library: Arc<Library>,
}

#[derive(Debug)]
struct Library {
    path: PathBuf,
    version: String,
    digest: LazyLock<Option<Digest>, Hashing>,
}

type Hashing = Box<dyn FnOnce() -> Option<Digest> + Send>;

impl Environment {
    /// Finds, loads and starts ONNX Runtime (20-40 ms).
    ///
    /// # Errors
    /// One line that says what was tried and what to do, well within a second.
    pub fn load(choice: &LibraryChoice) -> Result<Self, EnvironmentError> {
        let (builder, path) = library::open(choice)?;
        let failed = |error: &ort::Error| EnvironmentError::Start {
            path: path.clone(),
            said: error.message().to_owned(),
        };
        let runtime = builder
            .with_name("linesight")
            .with_telemetry(false)
            .with_logger(Arc::new(forward))
            .build()
            .map_err(|error| failed(&error))?;
        runtime.set_log_level(LogLevel::Warning);
        // The name the loader knows is not a file; what it mapped is.
        let file = if path.is_absolute() { path } else { library::mapped().unwrap_or(path) };
        let version = library::version_of(&file).unwrap_or_else(|| "unknown".to_owned());
        let digest = hash_in_background(&file);
        let library = Library { path: file, version, digest };
        Ok(Self { runtime, library: Arc::new(library) })
    }

    /// What sessions are built on.
    pub(in crate::onnx) fn runtime(&self) -> &ort::environment::Environment {
        &self.runtime
    }

    /// The file loaded, absolute.
    #[must_use]
    pub fn library_path(&self) -> &Path {
        &self.library.path
    }

    /// The library's own version: `1.31.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.library.version
    }

    /// How the library says it was built: revision, build type, flags.
    #[must_use]
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The library file's SHA-256; `None` if it could not be read. Hashed in the background from
    /// the moment it was loaded, so that neither start nor (as a rule) the first caller waits.
    #[must_use]
    pub fn library_digest(&self) -> Option<Digest> {
        *self.library.digest
    }
}

/// ONNX Runtime's own log, into ours.
fn forward(level: LogLevel, category: &str, id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, id, location, "{message}");
        }
        LogLevel::Info => {
            tracing::trace!(target: "onnxruntime", category, id, location, "{message}");
        }
        // Its warnings are about what it does itself (graph optimisation, session options); none
        // asks an operator to act.
        LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", category, id, location, "{message}");
        }
        LogLevel::Error | LogLevel::Fatal => {
            tracing::error!(target: "onnxruntime", category, id, location, "{message}");
        }
    }
}

/// The thread ends by itself, asked for or not; whoever asks first joins it.
fn hash_in_background(file: &Path) -> LazyLock<Option<Digest>, Hashing> {
    let hash = {
        let file = file.to_path_buf();
        // In pieces: the library is 29 MB, and memory for all of it would take longer than its digest.
        move || -> io::Result<Digest> {
            let mut file = fs::File::open(file)?;
            Digest::of_pieces(|piece| file.read(piece))
        }
    };
    let thread: io::Result<JoinHandle<io::Result<Digest>>> =
        std::thread::Builder::new().name("hash-runtime".to_owned()).spawn(hash.clone());
    let thread = Mutex::new(Some(thread));
    LazyLock::new(Box::new(move || {
        let thread = thread.into_inner().ok()??;
        match thread.map(JoinHandle::join) {
            Ok(Ok(digest)) => digest.ok(),
            // No thread to be had, or it is gone: then here and now.
            Ok(Err(_)) | Err(_) => hash().ok(),
        }
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::onnx::library::FETCHED_VERSION;

    /// The one environment that all unit tests share: a process starts ONNX Runtime once.
    pub(in crate::onnx) fn shared() -> &'static Environment {
        static SHARED: LazyLock<Environment> = LazyLock::new(|| {
            Environment::load(&LibraryChoice::Search).unwrap_or_else(|error| panic!("{error}"))
        });
        &SHARED
    }

    #[test]
    fn the_fetched_library_is_found_and_identified() {
        let environment = shared();
        assert_eq!(environment.version(), FETCHED_VERSION);
        assert!(environment.library_path().is_absolute());
        assert!(environment.build_info().contains("git-commit-id"));
        let expected = Digest::of(&fs::read(environment.library_path()).unwrap());
        assert_eq!(environment.library_digest(), Some(expected));
        let mapped = library::mapped().unwrap();
        assert_eq!(mapped, fs::canonicalize(environment.library_path()).unwrap());
    }
}
