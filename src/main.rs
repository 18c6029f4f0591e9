//! Parse, configure, build, run, exit code.
fn main() {}
