//! Which ONNX Runtime library: where it is looked for, and what is said when it will not do.
//!
//! The library is always loaded by name here. Left to itself, `ort` looks for one at its first use
//! and panics where there is none.

use std::{
    ffi::{CStr, CString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use ort::LoadDynamicError;

use super::error::EnvironmentError;

/// The version fetched by `make runtime`; others work from [`ort::MINOR_VERSION`] on.
pub(super) const FETCHED_VERSION: &str = "1.31.1";

/// The names a library goes by, most precise first.
const NAMES: [&str; 3] = ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1", "libonnxruntime.so"];

/// What the loader is asked for when nothing is found: the name every build gives itself.
const SONAME: &str = "libonnxruntime.so.1";

/// Which library to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryChoice {
    /// Look beside the executable, in `.runtime/`, in `/usr/lib/linesight/`, then ask the loader.
    Search,
    /// This one and no other: silently serving with another would break what was validated.
    Named {
        /// The file, or a folder that holds it; relative to the current directory.
        path: PathBuf,
        /// The flag, variable or key that says so; for the message if it is wrong.
        by: String,
    },
}

fn needed() -> String {
    format!("1.{}", ort::MINOR_VERSION)
}

/// The builder, and the path or bare name it was loaded by.
pub(super) fn open(
    choice: &LibraryChoice,
) -> Result<(ort::environment::EnvironmentBuilder, PathBuf), EnvironmentError> {
    let (path, named_by) = match choice {
        LibraryChoice::Named { path, by } => (named_library(path, by)?, by.clone()),
        LibraryChoice::Search => {
            let folders = search_folders(
                std::env::current_exe().ok().as_deref(),
                std::env::current_dir().ok().as_deref(),
            );
            match folders.iter().find_map(|folder| library_in(folder)) {
                Some(found) => (found, "the search".to_owned()),
                None => return ask_the_loader(folders),
            }
        }
    };
    match ort::init_from(&path) {
        Ok(builder) => Ok((builder, path)),
        Err(error) => Err(explain(&error, path, named_by)),
    }
}

fn ask_the_loader(
    folders: Vec<PathBuf>,
) -> Result<(ort::environment::EnvironmentBuilder, PathBuf), EnvironmentError> {
    match ort::init_from(SONAME) {
        Ok(builder) => Ok((builder, PathBuf::from(SONAME))),
        Err(LoadDynamicError::Dlopen { .. }) => Err(EnvironmentError::NotFound {
            needed: needed(),
            tried: folders.into_iter().map(|it| it.join(NAMES[0])).collect(),
            loader: SONAME,
        }),
        Err(error) => Err(explain(&error, SONAME.into(), "the loader's path".to_owned())),
    }
}

fn named_library(path: &Path, by: &str) -> Result<PathBuf, EnvironmentError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let found = if absolute.is_dir() {
        library_in(&absolute)
    } else {
        absolute.exists().then(|| absolute.clone())
    };
    found.ok_or_else(|| EnvironmentError::Missing {
        needed: needed(),
        path: absolute,
        named_by: by.to_owned(),
    })
}

fn library_in(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Where a library may lie: beside the executable, in what `make runtime` fetched (seen from here
/// and from the project whose `target/` holds the executable), in the packaged place.
fn search_folders(executable: Option<&Path>, here: Option<&Path>) -> Vec<PathBuf> {
    let fetched =
        |root: &Path| root.join(".runtime").join(format!("onnxruntime-{FETCHED_VERSION}"));
    let project = executable
        .and_then(|it| it.ancestors().find(|it| it.ends_with("target")))
        .and_then(Path::parent);
    let mut folders = Vec::new();
    folders.extend(executable.and_then(Path::parent).map(Path::to_path_buf));
    folders.extend(here.map(fetched));
    folders.extend(project.map(fetched).filter(|it| Some(it) != here.map(fetched).as_ref()));
    folders.push("/usr/lib/linesight".into());
    folders
}

fn explain(error: &LoadDynamicError, path: PathBuf, named_by: String) -> EnvironmentError {
    let found = match error {
        LoadDynamicError::BadVersion { version_str, .. } => {
            let found = version_str.clone();
            return EnvironmentError::TooOld { needed: needed(), path, named_by, found };
        }
        // The error itself says "dlopen failed"; what the loader said is one level down.
        LoadDynamicError::Dlopen { error, .. } => {
            let said = std::error::Error::source(error)
                .map_or_else(|| error.to_string(), |loader| loader.to_string());
            // glibc says "no such file" of a file for another processor.
            if said.contains("No such file") && path.is_file() {
                format!(
                    "{said} (the file is there; built for another processor, or it needs a library that is missing)"
                )
            } else {
                said
            }
        }
        LoadDynamicError::MissingApi { .. } => "it does not export OrtGetApiBase".to_owned(),
        LoadDynamicError::InvalidVersionString => "its version is not text".to_owned(),
    };
    EnvironmentError::Unusable { needed: needed(), path, named_by, found }
}

/// The file behind the library this process has mapped.
pub(super) fn mapped() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.rsplit('/').next()?.starts_with("libonnxruntime.so").then_some(path)
    })?;
    Some(PathBuf::from(path))
}

/// Asks the loaded library for its version, which no safe call of `ort` gives.
#[expect(unsafe_code, reason = "ort keeps the library's handle and its version to itself")]
pub(super) fn version_of(path: &Path) -> Option<String> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: RTLD_NOLOAD runs no code; it gives another handle to what is loaded, or null.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    // SAFETY: a live handle, which is never closed, and a terminated name.
    let symbol = unsafe { libc::dlsym(library, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `ort` has called the same symbol with this signature; it is ONNX Runtime's stable ABI.
    let base = unsafe { std::mem::transmute::<*mut libc::c_void, GetApiBase>(symbol)() };
    // SAFETY: `ort` has checked that it is not null; it and the text it gives are static.
    let version = unsafe { CStr::from_ptr(((*base).GetVersionString)()) };
    version.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    //! Once a library is loaded, `ort` takes every path for it. So each bad one is tried in a
    //! process of its own: this test program, started again with a variable that says what to load.

    use std::{process::Command, time::Duration};

    use super::*;
    use crate::types::Instant;

    const CHILD: &str = "LINESIGHT_TEST_LIBRARY";

    /// Does nothing unless [`refused`] started it.
    #[test]
    fn child() {
        let Some(path) = std::env::var_os(CHILD) else { return };
        let choice = match path.to_str() {
            Some("search") => LibraryChoice::Search,
            _ => LibraryChoice::Named { path: path.into(), by: "--onnxruntime-lib".to_owned() },
        };
        let error = open(&choice).err().expect("a bad library");
        println!("REFUSED {error}");
    }

    /// The line with which a process of its own refuses `library`.
    #[track_caller]
    fn refused(library: &str, program: &Path, here: &Path) -> String {
        let began = Instant::now();
        let output = Command::new(program)
            .args(["--exact", "onnx::library::tests::child", "--nocapture"])
            .env(CHILD, library)
            .current_dir(here)
            .output()
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
        let shown = String::from_utf8(output.stdout).unwrap();
        let line = shown.split_once("REFUSED ").map(|(_, rest)| rest.lines().next().unwrap());
        line.unwrap_or_else(|| panic!("{shown}{}", String::from_utf8_lossy(&output.stderr))).into()
    }

    /// Builds a library from C, as someone's ONNX Runtime might be.
    fn compile(folder: &Path, name: &str, source: &str) -> String {
        let (input, output) = (folder.join("stub.c"), folder.join(name));
        fs::write(&input, source).unwrap();
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&output).arg(&input).status();
        assert!(built.unwrap().success());
        output.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_bad_library_is_refused_in_one_line_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let text = dir.path().join("text.so");
        fs::write(&text, "not a library").unwrap();
        let old = compile(
            dir.path(),
            "old.so",
            "static const char *version(void) { return \"1.20.2\"; }\n\
             static struct { void *api; const char *(*version)(void); } base = { 0, version };\n\
             void *OrtGetApiBase(void) { return &base; }\n",
        );
        let other = compile(dir.path(), "other.so", "int unrelated(void) { return 1; }\n");
        for (library, parts) in [
            ("/no/such.so", vec!["no ONNX Runtime library at `/no/such.so`"]),
            (text.to_str().unwrap(), vec!["text.so` (from --onnxruntime-lib)", "text.so: "]),
            (&other, vec!["other.so`", "it does not export OrtGetApiBase"]),
            (&old, vec!["old.so`", "is ONNX Runtime 1.20.2,"]),
            (dir.path().to_str().unwrap(), vec!["no ONNX Runtime library at"]),
        ] {
            let line = refused(library, &program, dir.path());
            let always = ["--onnxruntime-lib", "version 1.23 or newer", "make runtime"];
            for part in parts.into_iter().chain(always) {
                assert!(line.contains(part), "{part} is missing: {line}");
            }
        }
    }

    #[test]
    fn where_there_is_none_the_line_lists_where_it_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        // Away from this project, whose `.runtime/` would be found.
        let program = dir.path().join("linesight");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let line = refused("search", &program, dir.path());
        for part in [
            dir.path().join(NAMES[0]).to_str().unwrap(),
            ".runtime/onnxruntime-1.31.1/libonnxruntime.so.1.31.1",
            "/usr/lib/linesight/libonnxruntime.so.1.31.1",
            "asked the loader for libonnxruntime.so.1",
            "version 1.23 or newer",
            "make runtime",
        ] {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }

    #[test]
    fn the_search_goes_from_the_nearest_place_to_the_packaged_one() {
        let folders = |executable: &str, here: &str| {
            search_folders(Some(Path::new(executable)), Some(Path::new(here)))
                .iter()
                .map(|it| it.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            folders("/p/target/release/linesight", "/here"),
            [
                "/p/target/release",
                "/here/.runtime/onnxruntime-1.31.1",
                "/p/.runtime/onnxruntime-1.31.1",
                "/usr/lib/linesight"
            ]
        );
        assert_eq!(
            folders("/opt/linesight", "/here"),
            ["/opt", "/here/.runtime/onnxruntime-1.31.1", "/usr/lib/linesight"]
        );
        assert_eq!(folders("/p/target/release/linesight", "/p").len(), 3, "the same place once");
    }
}
