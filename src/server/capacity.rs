//! How many connections this host can hold.
//!
//! The number of slots is checked against the limits that would otherwise break the server later:
//! open files, the threads and the memory of the cgroup, the threads of the user, and the memory
//! mappings of the process. See proc(5) and the kernel's documentation of cgroups.

use std::fs;
use std::path::Path;

use crate::limits;
use crate::observe::process;

/// How many connections the host can hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections that are served at once.
    pub connections: usize,
    /// Overflow slots, for connections that found no slot.
    pub overflow: usize,
    /// Threads that may wait for a next connection.
    pub spare_threads: usize,
    /// The limit that lowered the number of connections, in words.
    pub lowered_by: Option<String>,
}

/// A limit of the host.
struct Limit {
    name: &'static str,
    /// Its value, or the largest number where the host tells none.
    value: u64,
    /// What the value counts, for the warning.
    unit: &'static str,
    /// What is not a connection and counts too.
    other: u64,
    /// What a connection takes.
    each: u64,
}

/// The capacity of this host for at most this many connections with heads of this size.
pub fn of_host(wanted: usize, max_head: usize) -> Capacity {
    let or_any = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let files = or_any(process::max_open_files());
    let threads = or_any(Controller::Pids.left());
    let mappings = or_any(process::sysctl("vm/max_map_count"));
    let memory = or_any(Controller::Memory.left());
    let per_connection = memory_per_connection(max_head);
    #[rustfmt::skip]
    let limits = [
        Limit { name: "the limit of open files", value: files, unit: "files",
                other: limits::OTHER_FILES, each: 1 },
        Limit { name: "pids.max", value: threads, unit: "threads",
                other: limits::OTHER_THREADS, each: 1 },
        Limit { name: "vm.max_map_count", value: mappings, unit: "mappings",
                other: limits::OTHER_MAPPINGS, each: limits::MAPPINGS_PER_THREAD },
        Limit { name: "the memory limit", value: memory, unit: "bytes",
                other: limits::OTHER_MEMORY, each: per_connection },
    ];
    fit(wanted, limits.into_iter())
}

/// What one connection may take of the cgroup's memory: a head that is being answered, and another
/// one behind it whose buffer doubles as it grows.
fn memory_per_connection(max_head: usize) -> u64 {
    let beyond = max_head.saturating_sub(limits::USUAL_HEAD_BYTES) as u64;
    limits::MEMORY_PER_CONNECTION + 3 * beyond
}

/// Fits the wanted number of connections into limits.
fn fit(wanted: usize, limits: impl Iterator<Item = Limit>) -> Capacity {
    let fitting = |limit: &Limit| limit.value.saturating_sub(limit.other) / limit.each;
    let lowest = limits.min_by_key(fitting);
    let room = lowest.as_ref().map_or(u64::MAX, fitting);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let overflow = limits::OVERFLOW_SLOTS.min(room / 4).max(1);
    // A spare thread has no connection, but it counts among the threads.
    let spare_threads = limits::SPARE_THREADS.min(room / 4).max(1);
    let most = room.saturating_sub(overflow + spare_threads).max(1);
    let words = |limit: Limit| format!("{} leaves {} {}", limit.name, limit.value, limit.unit);
    Capacity {
        connections: wanted.min(most),
        overflow,
        spare_threads,
        lowered_by: lowest.filter(|_| wanted > most).map(words),
    }
}

/// A controller of the cgroups that limits this process.
#[derive(Clone, Copy)]
enum Controller {
    Pids,
    Memory,
}

impl Controller {
    /// What the cgroups of this process still allow.
    fn left(self) -> Option<u64> {
        let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let directories = cgroups.lines().filter_map(|line| self.directory(line));
        directories
            .filter_map(|(root, path)| self.least(Path::new(&root), path))
            .min()
    }

    /// The name of the controller in version 1, its files for the limit, and the one for the use if
    /// that counts. Memory in use does not: the cache of files is in it, which makes room by itself.
    fn files(self) -> (&'static str, &'static [&'static str], Option<&'static str>) {
        match self {
            Controller::Pids => ("pids", &["pids.max"], Some("pids.current")),
            Controller::Memory => ("memory", &["memory.max", "memory.limit_in_bytes"], None),
        }
    }

    /// Where a line of `/proc/self/cgroup` has the controller: in version 1 under its own name, in
    /// version 2 in the one hierarchy. The path is relative to the root.
    fn directory(self, line: &str) -> Option<(String, &str)> {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        let (name, ..) = self.files();
        match (hierarchy, controllers) {
            ("0", "") => Some(("/sys/fs/cgroup".to_owned(), path)),
            _ if controllers.split(',').any(|controller| controller == name) => {
                Some((format!("/sys/fs/cgroup/{name}"), path))
            }
            _ => None,
        }
    }

    /// The least that a cgroup or one of its parents still allows. Inside a container the path may
    /// not be visible; then the root is the container's own cgroup.
    fn least(self, root: &Path, path: &str) -> Option<u64> {
        let (_, limits, used) = self.files();
        let left = |directory: &Path| {
            let number = |file: &str| process::number_in(directory.join(file));
            let limit = limits.iter().find_map(|file| number(file))?;
            let used = used.and_then(number);
            Some(limit.saturating_sub(used.unwrap_or_default()))
        };
        let directory = root.join(path);
        let within = directory
            .ancestors()
            .take_while(|parent| parent.starts_with(root));
        within.filter_map(left).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_controllers() {
        let directory = |controller: Controller, line| {
            controller
                .directory(line)
                .map(|(root, path)| format!("{root} {path}"))
        };
        for (line, pids, memory) in [
            (
                "0::/a/b",
                Some("/sys/fs/cgroup a/b"),
                Some("/sys/fs/cgroup a/b"),
            ),
            ("8:pids:/", Some("/sys/fs/cgroup/pids "), None),
            ("9:memory:/c", None, Some("/sys/fs/cgroup/memory c")),
            ("4:cpu,cpuacct:/", None, None),
        ] {
            assert_eq!(directory(Controller::Pids, line).as_deref(), pids, "{line}");
            assert_eq!(
                directory(Controller::Memory, line).as_deref(),
                memory,
                "{line}"
            );
        }
    }

    #[test]
    fn connections_fit_the_lowest_limit() {
        let limit = |name, value, other, each| Limit {
            name,
            value,
            other,
            each,
            unit: "of them",
        };
        assert_eq!(fit(1024, [].into_iter()).connections, 1024);
        let enough = [limit("files", 20_000, 24, 1)];
        assert_eq!(fit(1024, enough.into_iter()).lowered_by, None);
        let low = fit(
            1024,
            [limit("files", 64, 24, 1), limit("maps", 65_530, 1000, 4)].into_iter(),
        );
        let expected = Capacity {
            connections: 20,
            overflow: 10,
            spare_threads: 10,
            lowered_by: Some("files leaves 64 of them".to_owned()),
        };
        assert_eq!(low, expected);
        assert_eq!(
            fit(1024, [limit("pids", 0, 6, 1)].into_iter()).connections,
            1
        );
    }

    #[test]
    fn larger_heads_take_more_memory() {
        let usual = limits::MEMORY_PER_CONNECTION;
        assert_eq!(memory_per_connection(8 << 10), usual);
        assert_eq!(memory_per_connection(32 << 10), usual);
        assert_eq!(memory_per_connection(1 << 20), usual + 3 * (992 << 10));
    }

    #[test]
    fn the_least_of_nested_cgroups_counts() {
        let root = std::env::temp_dir().join(format!("httpserver-cgroup-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("pids.max"), "max\n").unwrap();
        fs::write(root.join("a/pids.max"), "100\n").unwrap();
        fs::write(root.join("a/pids.current"), "40\n").unwrap();
        fs::write(root.join("memory.max"), "134217728\n").unwrap();
        assert_eq!(Controller::Pids.least(&root, "a/b"), Some(60));
        assert_eq!(Controller::Memory.least(&root, "a/b"), Some(128 << 20));
        assert_eq!(Controller::Pids.least(&root, ""), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
