//! The vial model, a picture of a good vial, and servers with it.

use std::{
    fs,
    path::Path,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::support::{client::post, models::Repository, server::Settings};

/// One test at a time has the processor.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed says so itself.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request for one verdict, as it goes over the wire.
pub fn request() -> Vec<u8> {
    static PICTURE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        fs::read(flagship().join("2/golden/borderline-good-approve.jpg")).unwrap()
    });
    let request = post("/v1/models/vial-defect/predict", PICTURE.clone());
    request.header("Content-Type", "image/jpeg").bytes()
}

fn flagship() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/vial-defect"))
}

/// A repository with the flagship under another budget, and what servers have measured of it.
pub fn repository(budget: &str) -> Repository {
    let models = Repository::empty();
    copy(&flagship().join("2"), &models.path().join("vial-defect/2"));
    models.file("vial-defect/model.toml", format!("serve = \"2\"\n\n[budget]\n{budget}\n"));
    models
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A server on one core, so that the other is left to the clients.
pub fn settings(models: &Repository) -> Settings {
    Settings::new(models.path()).cores("1").set("LINESIGHT_LOG__LEVEL", "warn,linesight::app=info")
}
