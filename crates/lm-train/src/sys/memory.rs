//! Memory of this process and of the machine.

/// Bytes that this process can still get: of the machine with its swap space, of its control group, and of its own
/// limit. `None` where the system does not say.
pub fn available() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::available();
    #[cfg(not(target_os = "linux"))]
    None
}

/// Makes the system refuse what this process cannot get in the end, in place of promising it and ending a program later.
/// Only Linux does; where it is not told, nothing changes.
pub fn refuse_beyond_available() {
    #[cfg(target_os = "linux")]
    if let (Some(free), Some(held)) = (available(), from_status("VmData:")) {
        linux::limit_data(held.saturating_add(free));
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    pub fn available() -> Option<u64> {
        [of_machine(), of_group(), of_process()].into_iter().flatten().min()
    }

    /// `ulimit -d`, which counts all memory that is the process's own since Linux 4.7; what was less before stays.
    pub fn limit_data(bytes: u64) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Data);
        if current.is_none_or(|current| bytes < current) {
            let limit = Rlimit { current: Some(bytes), maximum };
            if let Err(error) = setrlimit(Resource::Data, limit) {
                tracing::debug!("memory cannot be limited: {error}");
            }
        }
    }

    fn of_machine() -> Option<u64> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        Some(kibibytes(&text, "MemAvailable:")? + kibibytes(&text, "SwapFree:").unwrap_or(0))
    }

    /// The least that a control group, this process's or one around it, leaves; what it holds of files can be given up.
    fn of_group() -> Option<u64> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let left = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let (root, limit, usage) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
                _ => return None,
            };
            let of_folder = |folder: &Path| {
                let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
                let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
                let stat = read("memory.stat").unwrap_or_default();
                let files = ["inactive_file ", "active_file "].map(|name| first_number(&stat, name).unwrap_or(0));
                Some(number(limit)?.saturating_sub(number(usage)?.saturating_sub(files.iter().sum())))
            };
            // Inside a container the path may be the one outside, where nothing lies here: then the root has the limit.
            let folders = Path::new(path.trim_start_matches('/')).ancestors().map(|path| Path::new(root).join(path));
            folders.filter_map(|folder| of_folder(&folder)).min()
        };
        groups.lines().filter_map(left).min()
    }

    /// What `ulimit -v` or `ulimit -d` leaves; addresses that the allocator holds without using them are not lost.
    fn of_process() -> Option<u64> {
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let limits = ["Max address space", "Max data size"].map(|name| first_number(&limits, name));
        let limit = limits.into_iter().flatten().min()?;
        let used = kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
        Some(limit.saturating_sub(used))
    }

    /// The number after a name at the beginning of a line; none for a word such as `unlimited`.
    fn first_number(text: &str, name: &str) -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    }

    fn kibibytes(text: &str, name: &str) -> Option<u64> {
        Some(first_number(text, name)? * 1024)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn figures_are_found_by_their_names() {
            let text = "MemTotal:  9 kB\nMemAvailable:    1234 kB\nMax address space         unlimited   bytes\n";
            assert_eq!(kibibytes(text, "MemAvailable:"), Some(1234 * 1024));
            assert_eq!(first_number(text, "Max address space"), None);
            let all = available().expect("a figure");
            // Two looks at a machine on which others work.
            assert!(all > 1 << 20 && all / 2 <= of_machine().expect("a figure"), "{all}");
        }
    }
}

/// Resident memory now, in bytes, or `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn resident() -> Option<u64> {
    from_status("VmRSS:")
}

/// The most resident memory there has been, in bytes, or `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn peak() -> Option<u64> {
    from_status("VmHWM:")
}

/// Resident memory now, in bytes, or `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn resident() -> Option<u64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as u64)
}

/// The most resident memory that a call of this function has seen, in bytes, or `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn peak() -> Option<u64> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MOST: AtomicU64 = AtomicU64::new(0);
    resident().map(|now| MOST.fetch_max(now, Ordering::Relaxed).max(now))
}

/// One figure of `/proc/self/status`, whose lines read `VmRSS:     1234 kB`.
#[cfg(target_os = "linux")]
fn from_status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
