//! The Python of the tests: `LINESIGHT_TEST_PYTHON`, or the virtual environment of `make test`.

use std::{env, path::Path, process::Command};

/// The Python that has Pillow, in the repository root.
pub fn python() -> Command {
    let named = env::var_os("LINESIGHT_TEST_PYTHON");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(named.unwrap_or_else(|| ".venv/bin/python".into()));
    assert!(
        python.exists(),
        "no Python with Pillow at {}: run `python3 -m venv .venv && .venv/bin/pip install -r \
         tests/requirements.txt`, or name one by LINESIGHT_TEST_PYTHON",
        python.display()
    );
    let mut command = Command::new(python);
    command.current_dir(root).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
