//! What the machine grants this process: processor cores, memory, and how its allocator behaves.
//!
//! Inside a container the machine's own figures are the wrong ones: the scheduler's promises hold
//! only if it plans with what the affinity mask and the control group really leave. Reading is kept
//! apart from parsing, so that every layout of `/proc` and `/sys/fs/cgroup` is a row in a table.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Beyond this a memory "limit" is version 1's way of saying that there is none.
const UNLIMITED_FROM: u64 = 1 << 60;

/// What this process may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host {
    /// Processors in the affinity mask.
    pub allowed_cpus: NonZeroUsize,
    /// Processor time the control group grants, in cores; `None` without a quota.
    pub quota_cores: Option<f64>,
    /// Bytes the control group grants; `None` without a limit.
    pub memory_limit: Option<u64>,
}

impl Host {
    /// Reads what is granted now. What cannot be read counts as no limit.
    #[must_use]
    pub fn detect() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let fallback = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let root = Path::new("/sys/fs/cgroup");
        Self {
            allowed_cpus: allowed_cpus(&status).unwrap_or_else(fallback),
            quota_cores: smallest(root, &groups, "cpu", cpu_quota),
            memory_limit: smallest(root, &groups, "memory", memory_limit),
        }
    }

    /// How many bytes the process may take: what is configured, else what the control group grants;
    /// `None` without a limit.
    #[must_use]
    pub fn memory(&self, configured: Option<u64>) -> Option<u64> {
        configured.or(self.memory_limit)
    }

    /// How many threads may compute at once: what is configured, else the affinity mask and the
    /// quota, whichever is less.
    ///
    /// A broken quota is rounded down, never below one: a thread too many is paused by the kernel
    /// in the middle of a run, and every prediction made for that run is wrong. What is left over
    /// is for reading and answering.
    #[must_use]
    pub fn cores(&self, configured: Option<NonZeroUsize>) -> NonZeroUsize {
        if let Some(cores) = configured {
            return cores;
        }
        let whole = self.quota_cores.map_or(usize::MAX, whole_cores);
        NonZeroUsize::new(whole.min(self.allowed_cpus.get())).unwrap_or(NonZeroUsize::MIN)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive count of cores; the cast saturates"
)]
fn whole_cores(quota: f64) -> usize {
    quota.max(0.0).floor() as usize
}

/// Bytes of this process in physical memory; `None` where the kernel does not say.
#[must_use]
pub fn rss_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// Of these, the bytes that no file stands behind: what the kernel cannot take back, as it can the pages
/// of libraries.
#[must_use]
pub fn anonymous_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon")
}

/// Which processor this is, as far as what was measured on one may not hold for another.
#[must_use]
pub fn cpu() -> String {
    cpu_of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// A virtual machine's name for its processor may be as short as `AMD EPYC`, so what tells
/// generations apart stands beside it. Arm's kernels give no name.
fn cpu_of(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let fields = first.lines().filter_map(|it| it.split_once(':'));
    let fields: Vec<_> = fields.map(|(name, value)| (name.trim(), value.trim())).collect();
    let named = [
        "model name",
        "cpu family",
        "model",
        "stepping",
        "CPU implementer",
        "CPU part",
        "CPU variant",
        "CPU revision",
    ];
    let found = named.into_iter().filter_map(|it| {
        let (_, value) = fields.iter().find(|(name, _)| *name == it)?;
        Some(if it == "model name" { (*value).to_owned() } else { format!("{it} {value}") })
    });
    found.collect::<Vec<_>>().join(", ")
}

/// The names of NVIDIA's GPUs in the order of their places on the bus, as the driver tells them; none
/// without a driver.
#[must_use]
pub fn gpus() -> Vec<String> {
    gpus_in(Path::new("/proc/driver/nvidia/gpus"))
}

fn gpus_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut places: Vec<_> = entries.map(|it| it.path()).collect();
    places.sort();
    let name = |place: &PathBuf| {
        let text = fs::read_to_string(place.join("information")).unwrap_or_default();
        let model = text.lines().find_map(|it| it.strip_prefix("Model:")).map(str::trim);
        model.filter(|it| !it.is_empty()).unwrap_or("unknown").to_owned()
    };
    places.iter().map(name).collect()
}

/// Gives back what loading has freed, and makes glibc go on giving back. Call it when the models are
/// loaded.
///
/// Left alone, glibc raises both thresholds as it sees large blocks freed, and keeps what a dropped
/// model leaves: 143 MB resident after dropping three sessions of EfficientNet-B0, 66 MB with these
/// (2 cores, Debian 12, ONNX Runtime 1.31.1). Not before loading, which frees and takes again blocks as
/// large as the model: with these thresholds each comes from the kernel page by page, and the start
/// of the vial model took 80 ms longer. `false`: glibc refused, which only costs memory.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt and malloc_trim have no safe wrapper")]
pub fn settle_allocator() -> bool {
    const THRESHOLD_BYTES: libc::c_int = 65_536;
    // SAFETY: integers by value; both lock the allocator's arenas by themselves. Other threads may
    // read a threshold meanwhile, a word that glibc changes under them too when it raises it.
    unsafe {
        let set = libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES) == 1
            && libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES) == 1;
        let _nothing_was_free = libc::malloc_trim(0);
        set
    }
}

/// Other C libraries have nothing to tune.
#[cfg(not(target_env = "gnu"))]
pub fn settle_allocator() -> bool {
    true
}

/// The value after `name:` in `/proc/self/status`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Counts the processors of `Cpus_allowed_list: 0-3,8`.
fn allowed_cpus(status: &str) -> Option<NonZeroUsize> {
    let mut count = 0_usize;
    for range in status_field(status, "Cpus_allowed_list")?.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    NonZeroUsize::new(count)
}

/// Reads `VmRSS: 2284 kB`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let kib: u64 = status_field(status, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest of the limits that `read` finds in the folders that bind this process.
fn smallest<T: PartialOrd>(
    root: &Path,
    groups: &str,
    controller: &str,
    read: impl Fn(&Path) -> Option<T>,
) -> Option<T> {
    control_folders(root, groups, controller)
        .iter()
        .filter_map(|folder| read(folder))
        .reduce(|least, limit| if limit < least { limit } else { least })
}

/// The folders whose limits bind this process, from its own group up to the root; version 2's
/// first, then version 1's for `controller`.
fn control_folders(root: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let base = if controllers.is_empty() {
            root.to_path_buf()
        } else if controllers.split(',').any(|it| it == controller) {
            root.join(controllers)
        } else {
            continue;
        };
        // Inside a container the path may be the host's, which does not exist here; then the mount
        // itself is this process's group. A parent's limit binds its children.
        let group = Path::new(group.trim_start_matches('/'));
        folders.extend(group.ancestors().map(|it| base.join(it)));
    }
    folders
}

/// The processor quota set in one folder, in cores.
fn cpu_quota(folder: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    if let Some(text) = read("cpu.max") {
        let (quota, period) = text.trim().split_once(' ')?;
        return cores_of(quota, period);
    }
    cores_of(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
}

/// `max` and `-1` are how the two versions say that there is no quota.
fn cores_of(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    let cores = quota / period;
    (cores.is_finite() && cores > 0.0).then_some(cores)
}

/// The memory limit set in one folder, in bytes.
fn memory_limit(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let text = read("memory.max").or_else(|| read("memory.limit_in_bytes"))?;
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_affinity_mask_is_counted() {
        for (list, expected) in
            [("0", Some(1)), ("0-1", Some(2)), ("0-3,8,10-11", Some(7)), ("", None), ("3-1", None)]
        {
            let status =
                format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\nMems:\n");
            assert_eq!(allowed_cpus(&status).map(NonZeroUsize::get), expected, "{list:?}");
        }
    }

    #[test]
    fn gpus_are_named_in_the_order_of_the_bus() {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in [
            ("0000:41:00.0", "Model: \t\t NVIDIA H200\nIRQ: 11\n"),
            ("0000:01:00.0", "IRQ: 10\nModel:\tNVIDIA L4\n"),
            ("0000:c1:00.0", "Model: \n"),
        ] {
            fs::create_dir(folder.path().join(place)).unwrap();
            fs::write(folder.path().join(place).join("information"), text).unwrap();
        }
        assert_eq!(gpus_in(folder.path()), ["NVIDIA L4", "NVIDIA H200", "unknown"]);
        assert!(gpus_in(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn a_quota_is_read_in_both_versions() {
        for (quota, period, expected) in [
            ("200000", "100000", Some(2.0)),
            ("150000", "100000\n", Some(1.5)),
            ("max", "100000", None),
            ("-1", "100000", None),
            ("100000", "0", None),
            ("", "", None),
        ] {
            assert_eq!(cores_of(quota, period), expected, "{quota} {period}");
        }
    }

    #[test]
    fn the_tightest_group_binds() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let cpu = |groups: &str| smallest(dir.path(), groups, "cpu", cpu_quota);
        let memory = |groups: &str| smallest(dir.path(), groups, "memory", memory_limit);

        write("a/cpu.max", "300000 100000\n");
        write("a/b/cpu.max", "max 100000\n");
        write("a/b/memory.max", "1048576\n");
        assert_eq!(cpu("0::/a/b\n"), Some(3.0), "the parent's quota");
        assert_eq!(memory("0::/a/b\n"), Some(1_048_576));
        assert_eq!(memory("0::/a\n"), None);

        write("cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
        write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let host_path = "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n";
        assert_eq!(cpu(host_path), Some(0.5), "version 1, with the host's path");
        assert_eq!(memory(host_path), None, "version 1's way of saying unlimited");
        assert_eq!(cpu("garbage\n"), None);
    }

    #[test]
    fn cores_are_the_least_of_what_binds() {
        let host = |allowed, quota_cores| Host {
            allowed_cpus: NonZeroUsize::new(allowed).unwrap(),
            quota_cores,
            memory_limit: None,
        };
        for (allowed, quota, configured, expected) in [
            (8, None, None, 8),
            (8, Some(2.0), None, 2),
            (8, Some(2.9), None, 2),
            (8, Some(0.5), None, 1),
            (1, Some(4.0), None, 1),
            (2, Some(1.0), Some(6), 6),
        ] {
            let configured = configured.and_then(NonZeroUsize::new);
            assert_eq!(host(allowed, quota).cores(configured).get(), expected);
        }
    }

    #[test]
    fn a_processor_is_told_from_others_of_its_name() {
        let x86 = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\
                   stepping\t: 1\nflags\t: a b\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_of(x86), "AMD EPYC, cpu family 25, model 17, stepping 1");
        let arm = "processor\t: 0\nBogoMIPS\t: 50\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(cpu_of(arm), "CPU implementer 0x41, CPU part 0xd40");
        assert_eq!(cpu_of(""), "");
    }

    #[test]
    fn this_machine_agrees_with_the_standard_library() {
        let theirs = std::thread::available_parallelism().unwrap();
        assert_eq!(Host::detect().cores(None), theirs);
        let (resident, anonymous) = (rss_bytes().unwrap(), anonymous_bytes().unwrap());
        assert!(100_000 < anonymous && anonymous < resident, "{anonymous} of {resident}");
        assert!(settle_allocator());
    }
}
