//! Programs of others that tests run, out of packages that `scripts/setup` has unpacked.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// One of `.runtime/FOLDER/usr/bin`, where it is there.
pub fn unpacked(folder: &str, name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime");
    Some(root.join(folder).join("usr/bin").join(name)).filter(|it| it.exists())
}

/// Whether it can be run: with these arguments it says something of itself.
pub fn runs(program: &Path, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|it| it.status.success())
}

/// A program of Debian's Prometheus: the one `scripts/setup --with-prometheus` unpacked, else one that
/// is installed.
pub fn prometheus(name: &str) -> Command {
    let program = unpacked("prometheus", name).unwrap_or_else(|| name.into());
    let there = runs(&program, &["--version"]);
    assert!(there, "there is no {name}: run `scripts/setup --with-prometheus`, as make test does");
    Command::new(program)
}
