//! Reads files of a package: regular ones only, never more than a limit, never blocking on a pipe.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
};

use super::error::FileError;

const MIB: u64 = 1024 * 1024;

/// The most bytes each kind of file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `model.onnx`.
    pub model: u64,
    /// `package.toml`, `model.toml`.
    pub toml: u64,
    /// `card.json`, `golden.json` and the JSON files of other exports.
    pub json: u64,
    /// One golden image or tensor.
    pub golden_file: u64,
    /// All of `golden/`.
    pub golden_total: u64,
    /// Any other sealed file.
    pub other: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            model: 2048 * MIB,
            toml: MIB,
            json: 16 * MIB,
            golden_file: 16 * MIB,
            golden_total: 256 * MIB,
            other: 256 * MIB,
        }
    }
}

/// The bytes of a sealed file: no link, no pipe, at most `limit` bytes.
pub(crate) fn read_sealed(path: &Path, limit: u64) -> Result<Arc<[u8]>, FileError> {
    let seen = fs::symlink_metadata(path).map_err(missing_or)?;
    read_seen(path, &seen, limit)
}

/// The bytes of an operator's file. It may be a link, as Kubernetes mounts a ConfigMap.
pub(crate) fn read_linked(path: &Path, limit: u64) -> Result<Arc<[u8]>, FileError> {
    let seen = fs::metadata(path).map_err(missing_or)?;
    read_seen(path, &seen, limit)
}

/// Looks before opening, since opening a pipe blocks; looks again after, since the name may have
/// been given to something else in between.
fn read_seen(path: &Path, seen: &Metadata, limit: u64) -> Result<Arc<[u8]>, FileError> {
    let regular = |it: &Metadata| match kind(it) {
        None => Ok(()),
        Some(found) => Err(FileError::NotRegular { found }),
    };
    regular(seen)?;
    if seen.len() > limit {
        return Err(FileError::TooLarge { limit });
    }
    let file = File::open(path).map_err(missing_or)?;
    let opened = file.metadata()?;
    regular(&opened)?;
    if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
        return Err(FileError::Replaced);
    }
    // Read to where it stays: memory for a second copy costs a start more than reading does.
    let expected = usize::try_from(seen.len()).unwrap_or(0);
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, expected).collect();
    let place = Arc::get_mut(&mut bytes).expect("nobody else holds what was made a line above");
    let n = fill(&file, place)?;
    if n < expected {
        return Ok(bytes.get(..n).unwrap_or_default().into());
    }
    // One byte more than allowed: a file that grows while it is read is noticed.
    let mut more = Vec::new();
    file.take(limit.saturating_sub(seen.len()).saturating_add(1)).read_to_end(&mut more)?;
    if seen.len() + more.len() as u64 > limit {
        return Err(FileError::TooLarge { limit });
    }
    Ok(if more.is_empty() { bytes } else { [&bytes, &more[..]].concat().into() })
}

/// Reads until the place is full or the file at its end; says how far it came.
fn fill(mut file: &File, place: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while let Some(rest) = place.get_mut(n..).filter(|it| !it.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

/// What a name stands for if not for a regular file.
pub(crate) fn kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else {
        Some("a device or socket")
    }
}

fn missing_or(error: io::Error) -> FileError {
    if error.kind() == io::ErrorKind::NotFound { FileError::Missing } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_their_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), b"four").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let mkfifo = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(mkfifo.success());

        let message = |name: &str, limit| read_sealed(&at(name), limit).unwrap_err().to_string();
        assert_eq!(*read_sealed(&at("file"), 4).unwrap(), *b"four");
        // A file that says it has none, as those of the kernel do, is read all the same.
        assert!(read_sealed(Path::new("/proc/self/status"), 1 << 20).unwrap().len() > 100);
        assert_eq!(message("file", 3), "has more than the 3 bytes allowed");
        assert_eq!(message("link", 9), "is a symbolic link, not a regular file");
        assert_eq!(message("pipe", 9), "is a named pipe, not a regular file");
        assert_eq!(message(".", 9), "is a folder, not a regular file");
        assert_eq!(message("none", 9), "is missing");

        assert_eq!(*read_linked(&at("link"), 4).unwrap(), *b"four");
        assert!(matches!(read_linked(&at("loop"), 4), Err(FileError::Unreadable(_))));
        assert!(matches!(read_linked(&at("pipe"), 4), Err(FileError::NotRegular { .. })));
    }
}
