//! What the kernel tells of this process, for the `process_*` metrics.
//!
//! Reading a few numbers from `/proc` takes less code than the packages that would bring them. See
//! proc(5).

use std::fs;
use std::path::Path;
use std::str::FromStr;

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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let kilobytes = |name| number::<i64>(&status, name).unwrap_or_default() * 1024;
    Usage {
        cpu_seconds: cpu_seconds(&stat).unwrap_or_default(),
        resident_bytes: kilobytes("VmRSS:"),
        virtual_bytes: kilobytes("VmSize:"),
        // The directory that is being read has a descriptor too.
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as i64 - 1),
        threads: number(&status, "Threads:").unwrap_or_default(),
    }
}

/// User and system time of `/proc/self/stat`: fields 14 and 15, in hundredths of a second. They are
/// counted from the end of the name, which may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name
        .split_ascii_whitespace()
        .skip(11)
        .map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / 100.0)
}

/// The number behind a name at the start of a line.
fn number<T: FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit of open files.
pub fn max_open_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    number(&limits, "Max open files")
}

/// The name of this host; in a pod, the pod's.
pub fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// A number that the kernel shows under `/proc/sys`.
pub fn sysctl(name: &str) -> Option<u64> {
    number_in(format!("/proc/sys/{name}"))
}

/// The number that a file holds.
pub fn number_in(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let usage = usage();
        assert!(
            usage.resident_bytes > 100_000 && usage.virtual_bytes > usage.resident_bytes,
            "{usage:?}"
        );
        assert!(usage.open_fds >= 3 && usage.threads >= 1, "{usage:?}");
        assert!(
            !hostname().is_empty()
                && max_open_files() > Some(10)
                && sysctl("net/core/somaxconn") > Some(0)
        );
    }

    #[test]
    fn reads_formats() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 4294967350 50 0 0 20 0 3 0";
        assert_eq!(cpu_seconds(stat), Some(42_949_674.0));
        let limits =
            "Limit  Soft  Hard\nMax open files            64                   4096  files";
        assert_eq!(number(limits, "Max open files"), Some(64));
        assert_eq!(number::<u64>(limits, "Max processes"), None);
    }
}
