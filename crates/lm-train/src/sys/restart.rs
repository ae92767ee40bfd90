//! Beginning again with another command line, where the system gives no more memory: the one thing that still can be done
//! then. The process, its terminal and its output stay the same.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

static ARMED: Mutex<Option<Restart>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is about to begin again.
    static BEGINNING: Cell<bool> = const { Cell::new(false) };
}

/// How to begin again.
struct Restart {
    words: Vec<OsString>,
    line: String,
}

/// Until this is dropped, a lack of memory begins the program again.
pub struct Armed(());

impl Armed {
    /// With the words of this command line and then `flags`, after `line` was said.
    pub fn new(flags: &[String], line: String) -> Self {
        let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
        // What follows it is no flag.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.splice(end..end, flags.iter().map(OsString::from));
        set(Some(Restart { words, line }));
        Self(())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        set(None);
    }
}

fn set(restart: Option<Restart>) {
    *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = restart;
}

/// Begins again, if something is armed; returns if that can't be. Called where an allocation failed: what is allocated here
/// is little, and if that fails as well, the call for it returns. Other threads wait until the program is replaced.
pub fn begin() {
    if BEGINNING.replace(true) {
        return;
    }
    let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Restart { words, line }) = armed.take() else { return };
    // There is nowhere left to report a failure of this.
    let _ = writeln!(io::stderr(), "\r{line}");
    let error = std::env::current_exe().map(|program| replace(Command::new(program).args(words)));
    let _ = writeln!(io::stderr(), "cannot begin again: {}", error.unwrap_or_else(|error| error));
}

#[cfg(unix)]
fn replace(command: &mut Command) -> io::Error {
    std::os::unix::process::CommandExt::exec(command)
}

#[cfg(not(unix))]
fn replace(_: &mut Command) -> io::Error {
    io::Error::from(io::ErrorKind::Unsupported)
}
