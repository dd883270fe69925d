//! What the kernel tells of this process and its host, read from `/proc` and the cgroup file system.
//!
//! The `process_*` metrics and the check of the seats against the host's limits need a few numbers; reading them takes
//! less code than the packages that would bring them. See proc(5) and the kernel's documentation of the pids
//! controller.

use std::fs;
use std::path::Path;

use crate::limits;

/// What the `process_*` metrics tell.
#[derive(Debug, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Memory in RAM, in bytes.
    pub resident_bytes: i64,
    /// Address space, in bytes.
    pub virtual_bytes: i64,
    /// Open file descriptors.
    pub open_fds: i64,
    /// Threads.
    pub threads: i64,
}

/// What this process uses now; zero where the kernel does not tell.
pub fn usage() -> Usage {
    let status = read("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<i64>().ok()
    };
    let kilobytes = |name| number(name).unwrap_or_default() * 1024;
    Usage {
        cpu_seconds: read("/proc/self/stat").and_then(|stat| cpu_seconds(&stat)).unwrap_or_default(),
        resident_bytes: kilobytes("VmRSS:"),
        virtual_bytes: kilobytes("VmSize:"),
        // The directory that is being read has a descriptor too.
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as i64 - 1),
        threads: number("Threads:").unwrap_or_default(),
    }
}

/// User and system time of `/proc/self/stat`: fields 14 and 15, counted behind the name, in hundredths of a second.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    Some((f64::from(fields.next()?.ok()?) + f64::from(fields.next()?.ok()?)) / 100.0)
}

/// The soft limit of open files.
pub fn max_open_files() -> Option<usize> {
    open_files_limit(&read("/proc/self/limits")?)
}

fn open_files_limit(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The name of this host; in a pod, the pod's.
pub fn hostname() -> String {
    read("/proc/sys/kernel/hostname").map_or_else(String::new, |name| name.trim().to_owned())
}

/// The longest queue of connections that the kernel allows.
pub fn somaxconn() -> Option<i32> {
    read("/proc/sys/net/core/somaxconn")?.trim().parse().ok()
}

/// How many connections the host can hold.
#[derive(Debug, PartialEq)]
pub struct Capacity {
    /// Connections served at once.
    pub seats: usize,
    /// Places for connections that found no seat.
    pub shed_places: usize,
    /// Finished threads that may wait for a next connection.
    pub spare_threads: usize,
    /// The limit that lowered the seats, and its value.
    pub lowered_by: Option<(&'static str, usize)>,
}

/// How many connections this host can hold, up to the seats that are wanted.
pub fn capacity(wanted_seats: usize) -> Capacity {
    let limits = [
        ("the limit of open files is", max_open_files(), limits::OTHER_FILES, 1),
        ("the threads that pids.max of the cgroup leaves are", cgroup_threads(), limits::OTHER_THREADS, 1),
        (
            "vm.max_map_count is",
            read("/proc/sys/vm/max_map_count").and_then(|count| count.trim().parse().ok()),
            limits::OTHER_MAPPINGS,
            limits::MAPPINGS_PER_THREAD,
        ),
    ];
    fit(wanted_seats, limits.into_iter().filter_map(|(name, limit, other, each)| Some((name, limit?, other, each))))
}

/// Fits the seats into limits: each with its name and value, what else counts against it, and what a connection takes.
fn fit(wanted: usize, limits: impl Iterator<Item = (&'static str, usize, usize, usize)>) -> Capacity {
    let places = limits.map(|(name, limit, other, each)| (limit.saturating_sub(other) / each, name, limit));
    let (places, name, limit) = places.min().unwrap_or((usize::MAX, "", 0));
    let shed_places = limits::SHED_PLACES.min(places / 4).max(1);
    // A spare thread has no connection, but it does take a place among the threads.
    let spare_threads = limits::SPARE_THREADS.min(places / 4).max(1);
    let most = places.saturating_sub(shed_places + spare_threads).max(1);
    Capacity {
        seats: wanted.min(most),
        shed_places,
        spare_threads,
        lowered_by: (wanted > most).then_some((name, limit)),
    }
}

/// The threads that the cgroups of this process still allow.
fn cgroup_threads() -> Option<usize> {
    let cgroups = read("/proc/self/cgroup")?;
    cgroups.lines().filter_map(cgroup_directory).filter_map(|(root, path)| threads_left(root, path)).min()
}

/// Where a line of `/proc/self/cgroup` has its pids controller: in version 1 under a name of its own, in version 2 in
/// the one hierarchy. The path is relative to the root.
fn cgroup_directory(line: &str) -> Option<(&'static str, &str)> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_start_matches('/');
    match (hierarchy, controllers) {
        ("0", "") => Some(("/sys/fs/cgroup", path)),
        (_, controllers) if controllers.split(',').any(|c| c == "pids") => Some(("/sys/fs/cgroup/pids", path)),
        _ => None,
    }
}

/// The least that a cgroup or one of those it lies in still allows. Inside a container the path may not be visible;
/// then its root is the container's own cgroup.
fn threads_left(root: &str, path: &str) -> Option<usize> {
    let root = Path::new(root);
    let directory = root.join(path);
    let number = |directory: &Path, file| read(directory.join(file))?.trim().parse::<usize>().ok();
    let left = |directory: &Path| {
        Some(number(directory, "pids.max")?.saturating_sub(number(directory, "pids.current").unwrap_or_default()))
    };
    directory.ancestors().take_while(|ancestor| ancestor.starts_with(root)).filter_map(left).min()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let usage = usage();
        assert!(usage.resident_bytes > 100_000 && usage.virtual_bytes > usage.resident_bytes, "{usage:?}");
        assert!(usage.open_fds >= 3 && usage.threads >= 1, "{usage:?}");
        assert!(!hostname().is_empty() && max_open_files() > Some(10) && somaxconn() > Some(0));
    }

    #[test]
    fn reads_formats() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(
            open_files_limit("Limit  Soft  Hard\nMax open files            64                   4096  files"),
            Some(64)
        );
        assert_eq!(cgroup_directory("0::/a/b"), Some(("/sys/fs/cgroup", "a/b")));
        assert_eq!(cgroup_directory("8:pids:/"), Some(("/sys/fs/cgroup/pids", "")));
        assert_eq!(cgroup_directory("4:cpu,cpuacct:/"), None);
    }

    #[test]
    fn seats_fit_the_least_limit() {
        let fit = |wanted, limits: &[(&'static str, usize, usize, usize)]| fit(wanted, limits.iter().copied());
        assert_eq!(fit(1024, &[]).seats, 1024);
        assert_eq!(fit(1024, &[("files", 20_000, 24, 1)]).lowered_by, None);
        let low = fit(1024, &[("files", 64, 24, 1), ("maps", 65_530, 1000, 4)]);
        let expected = Capacity { seats: 20, shed_places: 10, spare_threads: 10, lowered_by: Some(("files", 64)) };
        assert_eq!(low, expected);
        assert_eq!(fit(1024, &[("pids", 0, 6, 1)]).seats, 1);
    }
}
