//! `--skip_memory_metrics false`: how much memory the parts of a run take.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::observe::LogRecord;
use crate::sys::memory;

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
        let Some(begin) = memory::resident() else { return Ok(None) };
        let (watching, stopped) = channel();
        let watch = move || {
            let mut most = begin;
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                most = most.max(memory::resident().unwrap_or(0));
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
        let now = memory::resident().unwrap_or(self.begin);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::{peak, resident};

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
