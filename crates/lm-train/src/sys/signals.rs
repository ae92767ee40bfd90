//! Signals that ask for the end: SIGINT, SIGTERM, SIGHUP (a closed ssh session) and SIGUSR1 (SLURM, before it takes the
//! machine away).
//!
//! Before training, and in an evaluation without it, there is nothing to save: what must not stay is removed and the
//! program leaves. In training the first signal lets the run save; a second one leaves at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// How a piece of work ended, when no error did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was asked for is done.
    Done,
    /// A signal ended it, at a place from which it can be gone on with.
    Signal(i32),
}

/// Whether a signal has asked for the end.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The signal's number; 0 before one came, to this process or to another of the run.
    received: AtomicI32,
    /// Whether one came to this process.
    #[cfg(unix)]
    own: AtomicBool,
    /// Whether the run looks at `received`, and saves.
    training: AtomicBool,
    /// Whether a model only answers: there is nothing to say of an end.
    answering: AtomicBool,
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the system does not let it.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGUSR1, SIGXFSZ};
        let mut numbers = vec![SIGINT, SIGTERM, SIGUSR1];
        if !hangups_are_ignored() {
            numbers.push(SIGHUP);
        }
        let mut signals = signal_hook::iterator::Signals::new(numbers)?;
        // With a handler, a file that grows beyond the limit is an error of the write; without, the end of the program.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let stop = Self::default();
        let of_thread = stop.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            signals.forever().for_each(|signal| of_thread.receive(signal));
        })?;
        Ok(stop)
    }

    /// Listens from now on; where there are only two signals, the second leaves at once.
    ///
    /// # Errors
    /// If the system does not let it.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        for number in [SIGINT, SIGTERM] {
            let of_handler = stop.clone();
            let again = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
            signal_hook::flag::register(number, again)?;
            // SAFETY: storing to an atomic is all that the handler does.
            unsafe {
                signal_hook::low_level::register(number, move || of_handler.0.received.store(number, Ordering::SeqCst))
            }?;
        }
        Ok(stop)
    }

    /// From here on the run looks for signals itself, and saves.
    pub fn begin_training(&self) {
        self.0.training.store(true, Ordering::SeqCst);
    }

    /// From here on a model answers (`--fill`, `--generate`, `--score`), and a signal ends the program without a word.
    pub fn begin_answering(&self) {
        self.0.answering.store(true, Ordering::SeqCst);
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<i32> {
        match self.0.received.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number),
        }
    }

    /// Another process of the run has received this one, so the run ends here as well.
    pub fn take_up(&self, signal: i32) {
        // Of two the first counts.
        let _ = self.0.received.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// How work ends that looks for a signal, and finds this.
    pub fn ended(&self) -> Ended {
        self.received().map_or(Ended::Done, Ended::Signal)
    }

    #[cfg(unix)]
    fn receive(&self, signal: i32) {
        let training = self.0.training.load(Ordering::SeqCst);
        let first = !self.0.own.swap(true, Ordering::SeqCst);
        self.take_up(signal);
        if training && first {
            return;
        }
        let name = name(signal);
        if training {
            tracing::warn!("a second signal, {name}: left at once, without what was not saved yet");
        } else if !self.0.answering.load(Ordering::SeqCst) {
            tracing::warn!(
                "{name} received before anything was trained or evaluated to its end: unfinished files are removed"
            );
        }
        let _none_is_made_now = lm_files::remove_temporaries();
        signal_hook::low_level::exit(128 + signal);
    }
}

/// Whether who started the program wants it to live on when the terminal is closed, as `nohup` does.
#[cfg(target_os = "linux")]
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 << (signal_hook::consts::SIGHUP - 1) != 0
}

/// Elsewhere there is no safe way to ask; `nohup` leaves no terminal behind, at least.
#[cfg(all(unix, not(target_os = "linux")))]
fn hangups_are_ignored() -> bool {
    !io::IsTerminal::is_terminal(&io::stderr())
}

/// The name of a signal that [`StopSignal`] listens to.
pub fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}
