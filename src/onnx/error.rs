//! ONNX Runtime's failures in our words.

use std::path::PathBuf;

/// Why there is no ONNX Runtime. Each prints as one line that says what was tried, what is needed,
/// what was found and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No library was named, and none is where one would be.
    #[error(
        "no ONNX Runtime library found, version {needed} or newer is needed: looked for {} and \
         asked the loader for {loader}; run `make runtime`, or name the library with \
         --onnxruntime-lib",
        list(.tried)
    )]
    NotFound {
        /// The oldest version that would do.
        needed: String,
        /// Files looked for, in order.
        tried: Vec<PathBuf>,
        /// The name the loader was asked for.
        loader: &'static str,
    },

    /// The library that was named does not exist.
    #[error(
        "there is no ONNX Runtime library at `{}` (from {named_by}), version {needed} or newer is \
         needed; correct the path, or leave it out and run `make runtime`",
        .path.display()
    )]
    Missing {
        /// The oldest version that would do.
        needed: String,
        /// The path as it was resolved.
        path: PathBuf,
        /// The flag, variable or key that named it.
        named_by: String,
    },

    /// The file is not ONNX Runtime, or not for this machine.
    #[error(
        "`{}` (from {named_by}) is not a usable ONNX Runtime library, version {needed} or newer \
         is needed: {found}; run `make runtime`, or name another with --onnxruntime-lib",
        .path.display()
    )]
    Unusable {
        /// The oldest version that would do.
        needed: String,
        /// The file tried.
        path: PathBuf,
        /// How it came to be tried.
        named_by: String,
        /// What the loader or the library said.
        found: String,
    },

    /// ONNX Runtime, but older than this program can speak to.
    #[error(
        "`{}` (from {named_by}) is ONNX Runtime {found}, version {needed} or newer is needed; run \
         `make runtime`, or name another with --onnxruntime-lib",
        .path.display()
    )]
    TooOld {
        /// The oldest version that would do.
        needed: String,
        /// The file tried.
        path: PathBuf,
        /// How it came to be tried.
        named_by: String,
        /// The version it gave.
        found: String,
    },

    /// The library is right and refused to start.
    #[error("ONNX Runtime at `{}` did not start: {said}", .path.display())]
    Start {
        /// The file loaded.
        path: PathBuf,
        /// What it said.
        said: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|it| format!("`{}`", it.display())).collect::<Vec<_>>().join(", ")
}
