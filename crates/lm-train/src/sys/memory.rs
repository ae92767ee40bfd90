//! Memory of this process, for the logs; and whether a model has room in what is free.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use burn::tensor::Device;
use lm_models::ModelConfig;
use lm_models::sizes::Sizes;

use crate::args::Arguments;
use crate::device;
use crate::disk::human_size;
use crate::observe::LogRecord;
use crate::observe::format::count;

/// Fails if a model of this configuration can't be built, or if its parameters, with what training keeps for each of them,
/// do not fit into the memory that is free. Of a model on another device only the weights pass through this memory.
pub fn expect_room(args: &Arguments, config: &ModelConfig, device: &Device) -> Result<()> {
    let sizes = Sizes::of(config, device)?;
    let Some(free) = available() else { return Ok(()) };
    let weights = sizes.values().saturating_mul(4);
    let on_host = device::in_main_memory(device);
    let trains = args.training.do_train || args.beyond.plan;
    let (bytes, what) = if trains && on_host {
        let state = sizes.sum(|shape| args.training.optim.state_bytes(shape));
        (weights.saturating_mul(2).saturating_add(state), "weights, gradients and optimizer")
    } else {
        (weights, "weights")
    };
    let field = || Sizes::cause(config, device).map(|(name, value)| format!("`{name}` = {value} makes "));
    ensure!(
        bytes <= free,
        "config of `{}`: {}{} parameters, which need {} for {what}, and {} of memory are free: make the model smaller, or \
         free memory",
        config.model_type(),
        field().unwrap_or_default(),
        count(sizes.values()),
        human_size(bytes),
        human_size(free)
    );
    Ok(())
}

/// Bytes that this process can still get: of the machine with its swap space, of its control group, and of its own
/// limit. `None` where the system does not say.
pub fn available() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::available();
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    pub fn available() -> Option<u64> {
        [of_machine(), of_group(), of_process()].into_iter().flatten().min()
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

    /// What `ulimit -v` leaves; addresses that the allocator holds without using them are not lost.
    fn of_process() -> Option<u64> {
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let limit = first_number(&limits, "Max address space")?;
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

/// How often memory is looked at while a part of the run is watched.
const INTERVAL: Duration = Duration::from_millis(1);

/// A part of a run whose memory is watched, as Python's `TrainerMemoryTracker` does with `--skip_memory_metrics false`.
pub struct Stage {
    name: &'static str,
    begin: u64,
    /// Dropped, it ends the thread, which gives the most that it has seen.
    watching: Sender<()>,
    thread: JoinHandle<u64>,
}

impl Stage {
    /// Begins to watch; none where the system does not say how much memory there is.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(name: &'static str) -> io::Result<Option<Self>> {
        let Some(begin) = resident() else { return Ok(None) };
        let (watching, stopped) = channel();
        let watch = move || {
            let mut most = begin;
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                most = most.max(resident().unwrap_or(0));
            }
            most
        };
        let thread = Builder::new().name("memory".into()).spawn(watch)?;
        Ok(Some(Self { name, begin, watching, thread }))
    }

    /// Ends it. In bytes: how much more memory there is now than at the beginning, and how much more than now there was in
    /// between; of the first part of a run also how much there was before.
    pub fn stop(self) -> LogRecord {
        drop(self.watching);
        let now = resident().unwrap_or(self.begin);
        // A thread that was lost has seen nothing.
        let most = self.thread.join().unwrap_or(now);
        let mut figures = LogRecord::new()
            .with(&format!("{}_mem_cpu_alloc_delta", self.name), now as i64 - self.begin as i64)
            .with(&format!("{}_mem_cpu_peaked_delta", self.name), most.saturating_sub(now));
        if self.name == "init" {
            figures.set("before_init_mem_cpu", self.begin);
        }
        figures
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the allocator keeps what another one gives back; with blocks larger than those of the others.
    #[test]
    fn memory_grows_with_what_is_touched() {
        let before = resident().expect("a figure");
        let block = vec![1_u8; 192 << 20];
        let with_block = resident().expect("a figure");
        assert!(with_block > before + (96 << 20), "{before} then {with_block} with {}", block.len());
        drop(block);
        assert!(peak().expect("a figure") >= before + (96 << 20));

        let stage = Stage::start("init").expect("a thread").expect("a figure");
        let block = vec![1_u8; 384 << 20];
        let figures = stage.stop();
        let figure = |name: &str| figures.get(name).expect(name);
        let (alloc, peaked) = (figure("init_mem_cpu_alloc_delta"), figure("init_mem_cpu_peaked_delta"));
        assert!(alloc + peaked > f64::from(96 << 20), "{alloc} and {peaked} with {}", block.len());
        assert!(figure("before_init_mem_cpu") > 0.0 && figures.iter().count() == 3);
    }
}
