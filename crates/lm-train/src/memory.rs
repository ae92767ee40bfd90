//! Memory of this process, for the logs.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_is_touched() {
        let before = resident().expect("a figure");
        let block = vec![1_u8; 64 << 20];
        let with_block = resident().expect("a figure");
        assert!(with_block > before + (32 << 20), "{before} then {with_block} with {}", block.len());
        drop(block);
        assert!(peak().expect("a figure") >= before + (32 << 20));
    }
}
