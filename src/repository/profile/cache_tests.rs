//! What is remembered comes back, and nothing that should not.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::*;

fn key() -> Key {
    Key {
        model: format!("sha256:{}", "ab".repeat(32)),
        rows: "image f32[1, 3, 8, 8]".to_owned(),
        cpu: "a processor".to_owned(),
        device: None,
        cores: NonZeroUsize::new(2).unwrap(),
        onnxruntime: "1.31.1 sha256:cd".to_owned(),
        spin: false,
    }
}

fn measured() -> Profile {
    let mut profile = Profile::default();
    for (batch, threads, micros) in [(1, 1, 2600), (2, 1, 2800), (4, 1, 3200), (1, 2, 1500)] {
        profile.latency.record(batch, threads, Duration::from_micros(micros));
    }
    profile.lane_bytes = [(1, 15 << 20), (2, 28 << 20), (4, 54 << 20)].into();
    profile
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> ProfileCache {
        ProfileCache::new(Some(self.0.path().join("deeper/linesight")))
    }

    fn read(&self) -> Option<Profile> {
        self.cache().read(&"m".parse().unwrap(), "1".parse().unwrap(), &key())
    }

    fn write(&self, profile: &Profile) {
        self.cache().write(&"m".parse().unwrap(), "1".parse().unwrap(), &key(), profile);
    }

    fn path(&self) -> PathBuf {
        let cache = self.cache();
        cache.path(&"m".parse().unwrap(), "1".parse().unwrap(), &key()).unwrap()
    }
}

#[test]
fn what_the_next_start_would_not_believe_is_not_written() {
    let folder = Folder::new();
    let mut profile = measured();
    profile.latency.record(4, 1, Duration::from_millis(300));
    folder.write(&profile);
    assert!(!folder.path().exists());
    folder.write(&measured());
    assert_eq!(folder.read(), Some(measured()));
}

#[test]
fn what_a_gpu_takes_is_not_taken_for_what_the_processor_does() {
    let folder = Folder::new();
    folder.write(&measured());
    let (name, version) = ("m".parse().unwrap(), "1".parse().unwrap());
    let cuda = |gpu: &str| Key { device: Some(format!("cuda, {gpu}")), ..key() };
    let cache = folder.cache();
    assert_eq!(cache.read(&name, version, &cuda("NVIDIA L4")), None);
    let profile = Profile { too_large: Some(64), ..measured() };
    cache.write(&name, version, &cuda("NVIDIA L4"), &profile);
    assert_eq!(cache.read(&name, version, &cuda("NVIDIA L4")), Some(profile));
    assert_eq!(cache.read(&name, version, &cuda("NVIDIA H200")), None);
    assert_eq!(folder.read(), Some(measured()), "that of the processor is still there");
}

#[test]
fn what_was_written_is_read_again() {
    let folder = Folder::new();
    assert_eq!(folder.read(), None, "nothing yet");
    let refused = Profile {
        sharing: Sharing::Refused("axis 0 is time".to_owned()),
        wide_refused: Some("output y is not what it is on one".to_owned()),
        ..measured()
    };
    for profile in [measured(), refused] {
        folder.write(&profile);
        assert_eq!(folder.read(), Some(profile));
    }
    let kept: Vec<_> = fs::read_dir(folder.path().parent().unwrap()).unwrap().collect();
    assert_eq!(kept.len(), 1, "nothing temporary is left: {kept:?}");
    assert_eq!(folder.path().file_name().unwrap(), "m-1-abababababab-2c.json");
}

#[test]
fn without_a_folder_or_leave_to_write_nothing_is_remembered_and_nothing_fails() {
    let nowhere = ProfileCache::new(None);
    let (name, version) = ("m".parse().unwrap(), "1".parse().unwrap());
    nowhere.write(&name, version, &key(), &measured());
    assert_eq!(nowhere.read(&name, version, &key()), None);

    // A file where the folder should be stops root too, whom permissions do not.
    let folder = Folder::new();
    fs::write(folder.0.path().join("deeper"), "a file").unwrap();
    folder.write(&measured());
    assert!(
        write(&folder.0.path().join("deeper/x"), &folder.path(), &record(&key(), &measured()))
            .is_err()
    );
    assert_eq!(folder.read(), None);
}

#[test]
fn a_file_of_another_machine_is_left_aside_by_the_name_of_what_differs() {
    let folder = Folder::new();
    folder.write(&measured());
    let path = folder.path();
    let wanted = |change: fn(&mut Key)| {
        let mut key = key();
        change(&mut key);
        read(&path, &key).unwrap_err().to_string()
    };
    for (said, expected) in [
        (wanted(|it| it.model.push('x')), "it is of another model"),
        (wanted(|it| it.rows.push('x')), "it is of another input shape"),
        (wanted(|it| it.cpu.push('x')), "it is of another processor"),
        (wanted(|it| it.cores = NonZeroUsize::MIN), "it is of another number of cores"),
        (wanted(|it| it.onnxruntime.push('x')), "it is of another ONNX Runtime"),
        (wanted(|it| it.spin = true), "it is of another setting of runtime.spin"),
    ] {
        assert_eq!(said, expected);
    }
    assert!(read(&path, &key()).is_ok());
}

/// The file with a change in it; what is said of it.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let folder = Folder::new();
    folder.write(&measured());
    let path = folder.path();
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
    assert_eq!(folder.read(), None);
    read(&path, &key()).unwrap_err().to_string()
}

#[test]
fn figures_that_cannot_be_true_are_left_aside() {
    let nanos = |at: usize, nanos: u64| changed(|it| it["runs"][at]["nanos"] = json!(nanos));
    for (said, expected) in [
        (nanos(0, 0), "1 rows on 1 threads in 0ns"),
        (nanos(0, u64::MAX), "1 rows on 1 threads in "),
        (nanos(2, 1000), "4 rows take much less"),
        (nanos(2, 100_000_000), "4 rows take much less, or much more a row"),
        (changed(|it| it["runs"][0]["nanos"] = json!(-1)), "it is damaged: invalid value"),
        (changed(|it| it["runs"][0]["nanos"] = json!(1e30)), "it is damaged: invalid"),
        (changed(|it| it["runs"][0]["threads"] = json!(3)), "1 rows on 3 threads"),
        (changed(|it| it["runs"][0]["batch"] = json!(0)), "0 rows on 1 threads"),
        (changed(|it| it["runs"][1]["batch"] = json!(1)), "1 rows on 1 threads stands twice"),
        (changed(|it| it["runs"] = json!([])), "one row alone is missing"),
        (changed(|it| it["runs"][2]["lane_bytes"] = json!(1)), "less memory for more rows"),
        (changed(|it| it["runs"][0]["lane_bytes"] = json!(0)), "less memory for more rows"),
        (
            changed(|it| it["format"] = json!(2)),
            "it is of format 2, this version of Linesight writes 1",
        ),
        (changed(|it| it["extra"] = json!(1)), "it is damaged: unknown field `extra`"),
        (changed(|it| it["key"]["extra"] = json!(1)), "it is damaged: unknown field `extra`"),
        (changed(|it| *it = json!("x".repeat(70_000))), "has more than the 65536 bytes allowed"),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn damaged_files_pipes_and_folders_are_left_aside() {
    let folder = Folder::new();
    folder.write(&measured());
    let (path, whole) = (folder.path(), fs::read(folder.path()).unwrap());
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(read(&path, &key()).unwrap_err().to_string().starts_with("it is damaged"), "{cut}");
    }
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(read(&path, &key()).unwrap_err().to_string().contains("named pipe"));
    // Written over all the same.
    folder.write(&measured());
    assert_eq!(folder.read(), Some(measured()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "of this user alone");
}
