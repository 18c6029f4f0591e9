//! Programs of others that tests run, out of packages that `scripts/setup` has unpacked.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// One of a Debian package that was unpacked into `.runtime/`, where it is there.
pub fn unpacked(package: &str, program: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime");
    Some(root.join(package).join(program)).filter(|it| it.exists())
}

/// Whether it can be run: with these arguments it says something of itself.
pub fn runs(program: &Path, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|it| it.status.success())
}

/// A program of Debian's Prometheus: the one `scripts/setup --for-tests` unpacked, else one that
/// is installed.
pub fn prometheus(name: &str) -> Command {
    let program = unpacked("prometheus", &format!("usr/bin/{name}")).unwrap_or_else(|| name.into());
    let there = runs(&program, &["--version"]);
    assert!(there, "there is no {name}: run `scripts/setup --for-tests`, as make test does");
    Command::new(program)
}
