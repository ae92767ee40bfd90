//! Panics as errors. What a user can cause is a value long before; what is left is mostly a backend that has no other way
//! to report exhausted memory, a lost device or an operation that it refuses.
//!
//! A panic of another thread reaches who waits for it: rayon, scoped threads and `Prefetch` pass it on, a checkpoint's
//! thread hands it to the next save, and CubeCL to who reads what its thread should have computed.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::sys::escape;
use crate::sys::noted::Noted;

/// What Rust says when it can't unwind, after which the process is aborted.
const ABORTING: [&str; 2] = ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];
/// Longer messages are cut.
const MOST_CHARACTERS: usize = 400;

/// Parts of paths and messages of what computes: only there another device or the plain operations are a way out.
const BACKENDS: [&str; 9] = ["wgpu", "cubecl", "burn", "torch", "tch-", "naga", "gemm", "cuda", "lm-models/src/ops"];

/// The source file of the last panic of any thread.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// From here on a panic prints nothing by itself, unless `RUST_BACKTRACE` asks for it: [`caught`] tells of it. Where Rust
/// would abort the process, as for a second panic while the first unwinds, it ends with one line and code 1 instead.
pub fn silence(program: &'static str) {
    thread_local! { static LAST: RefCell<String> = const { RefCell::new(String::new()) } }
    let print = std::panic::take_hook();
    let wanted = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |info| {
        if wanted {
            print(info);
        }
        let message = info.payload_as_str().unwrap_or_default();
        if let Some(location) = info.location() {
            *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = location.file().to_owned();
        }
        if ABORTING.contains(&message) {
            let cause = LAST.with_borrow(|last| explain(&shorten(last)));
            // Not around the progress bar: its lock may be what the thread holds.
            let _ = writeln!(io::stderr(), "{program}: error: {}", escape::line(&cause));
            exit();
        }
        LAST.with_borrow_mut(|last| message.clone_into(last));
    }));
}

/// Ends the program with code 1, without what libraries do at an exit: a backend's threads may still be working, and the
/// compiler of Mesa's lavapipe, taken down under them, turned the message into a segmentation fault.
pub fn exit() -> ! {
    // There is nowhere left to report a failure of this.
    let _ = io::stdout().flush();
    signal_hook::low_level::exit(1)
}

/// A panic as an error: one line that says what failed and what can be done.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct Panicked {
    line: String,
    cause: String,
}

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let cause = cause(payload);
        Self { line: explain(&cause), cause }
    }
}

/// Calls `work`.
///
/// # Errors
/// If it panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // Nothing that `work` may have left half-done is used afterwards.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::new(&*payload))
}

/// Calls `work` with a batch size and a number of batches in a step, and each time that the device runs out of memory again
/// with half the size (Python's `find_executable_batch_size`) and twice the number, down to 1.
pub fn with_smaller_batches<T>(mut batches: Batches, work: impl Fn(Batches) -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        let error = match caught(|| work(batches)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(panic) => panic.into(),
        };
        let exhausted = Noted::cause_of::<Panicked>(&error).filter(|panic| is_exhausted(&panic.cause));
        let Some((Panicked { cause, .. }, smaller)) = exhausted.zip(batches.smaller()) else { return Err(error) };
        tracing::warn!("{} ({cause})", batches.too_large(smaller));
        batches = smaller;
    }
}

/// How the examples of a step on one device are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// `--per_device_train_batch_size`
    pub size: usize,
    /// `--gradient_accumulation_steps`
    pub count: usize,
}

impl Batches {
    /// As many examples in batches of half the size, or of the next size below into which they go; none below 1.
    pub fn smaller(self) -> Option<Self> {
        let examples = self.size.checked_mul(self.count)?;
        let size = (1..=self.size / 2).rev().find(|size| examples.is_multiple_of(*size))?;
        Some(Self { size, count: examples / size })
    }

    /// What is said before the smaller ones are tried.
    pub fn too_large(self, smaller: Self) -> String {
        format!(
            "--auto_find_batch_size: too little memory for --per_device_train_batch_size {}; going on with {} and \
             --gradient_accumulation_steps {}",
            self.size, smaller.size, smaller.count
        )
    }
}

/// Whether it is said that memory ran out.
fn is_exhausted(cause: &str) -> bool {
    let cause = cause.to_lowercase();
    ["out of memory", "allocat", "memory exhausted", "buffer size", "capacity overflow"]
        .iter()
        .any(|words| cause.contains(words))
}

/// Why a thread panicked, on one line.
pub fn cause(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    shorten(text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given"))
}

/// What failed and what can be done.
fn explain(cause: &str) -> String {
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let lower = cause.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (what, advice) = if is_exhausted(cause) {
        (
            "the device has too little memory",
            "try --gradient_checkpointing, a smaller --per_device_train_batch_size (with more \
             --gradient_accumulation_steps) or --per_device_eval_batch_size, or shorter sequences",
        )
    } else if says(&["device was lost", "device is lost", "device lost", "poisoned", "cuda error"]) {
        ("the device or its driver failed", "the system's log may say why; run again, or with another --device")
    } else if says(&BACKENDS) || BACKENDS.iter().any(|part| place.contains(part)) {
        (
            "a fault in the device's backend",
            "--device cpu or --plain_ops may avoid it, RUST_BACKTRACE=1 shows where it happened",
        )
    } else {
        ("a fault in this program", "please report it, with what RUST_BACKTRACE=1 shows of where it happened")
    };
    format!("{what}: {cause}; {advice}")
}

/// What matters of a panic's message, on one line: what failed and its first cause, without the wrapping of `unwrap` and
/// without backtraces.
fn shorten(message: &str) -> String {
    // What `unwrap` prints is escaped.
    let text = message.replace("\\n", "\n").replace("\\\"", "\"");
    let ends = ["Exception raised from", "frame #", "Backtrace", "stack backtrace", "No backtrace", "Asked at:"];
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !ends.iter().any(|end| line.starts_with(end)))
        .collect();
    let mut causes = lines.split(|line| *line == "Caused by:").map(|lines| lines.join(" "));
    let what = causes.next().unwrap_or_default();
    let what = ["on an `Err` value: Torch(\"", "on an `Err` value: "]
        .iter()
        .find_map(|wrap| Some(what.split_once(wrap)?.1))
        .unwrap_or(&what)
        .trim_end_matches("\")");
    let line = causes.next_back().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"));
    match line.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backtraces_and_wrapping_are_left_out() {
        let of_torch = r#"called `Result::unwrap()` on an `Err` value: Torch("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes. Error code 12 (Cannot allocate memory)\nException raised from alloc_cpu at alloc_cpu.cpp:124 (most recent call first):\nframe #0: c10::ThrowEnforceNotMet")"#;
        assert_eq!(
            shorten(of_torch),
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
             allocate 8000 bytes. Error code 12 (Cannot allocate memory)"
        );
        assert!(explain(&shorten(of_torch)).starts_with("the device has too little memory: "));
        let of_cubecl = "Error while reading data: use `try_into_data` instead\nCaused by:\n  Several failures at once\nCaused by:\n  An IO error happened\nCaused by:\n  can't allocate buffer of size: 2560\nNo backtrace available\nAsked at:\nNo backtrace available\n";
        assert_eq!(
            shorten(of_cubecl),
            "Error while reading data: use `try_into_data` instead: can't allocate buffer of size: 2560"
        );
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"é".repeat(1000)), format!("{} …", "é".repeat(MOST_CHARACTERS)));
    }

    #[test]
    fn a_batch_is_halved_until_it_fits() {
        let tried = RefCell::new(Vec::new());
        let fits = |most: usize| {
            move |batches: Batches| {
                if batches.size > most {
                    panic!("wgpu error: Out of Memory");
                }
                Ok(batches)
            }
        };
        let work = |batches: Batches| {
            tried.borrow_mut().push((batches.size, batches.count));
            fits(3)(batches)
        };
        let batches = |size, count| Batches { size, count };
        assert_eq!(with_smaller_batches(batches(12, 1), work).expect("it fits"), batches(3, 4));
        assert_eq!(tried.take(), [(12, 1), (6, 2), (3, 4)]);
        // A step has the same examples: 10 of them go into batches of 5, 2 and 1, 13 into batches of 1.
        assert_eq!(with_smaller_batches(batches(10, 1), work).expect("it fits"), batches(2, 5));
        assert_eq!(with_smaller_batches(batches(13, 2), work).expect("it fits"), batches(2, 13));
        assert_eq!(batches(13, 1).smaller(), Some(batches(1, 13)));
        assert_eq!(batches(1, 4).smaller(), None);
        // The trainer has caught it, saved, and noted that.
        tried.borrow_mut().clear();
        let saved = |batches: Batches| {
            tried.borrow_mut().push((batches.size, batches.count));
            caught(|| fits(3)(batches))?.map_err(|error: anyhow::Error| Noted::add(error, "; saved".into()))
        };
        let saved = |batches| saved(batches).map_err(|error| Noted::add(error, "; the same command goes on".into()));
        assert_eq!(with_smaller_batches(batches(8, 1), saved).expect("it fits"), batches(2, 4));
        assert_eq!(*tried.borrow(), [(8, 1), (4, 2), (2, 4)]);
        let fails = |work: &dyn Fn(usize)| {
            let work = |batches: Batches| {
                work(batches.size);
                Ok(())
            };
            with_smaller_batches(batches(8, 1), work).expect_err("a panic").to_string()
        };
        assert!(fails(&|_| panic!("can't allocate")).starts_with("the device has too little memory"));
        let (tries, once) = (RefCell::new(0), fails(&|_| panic!("device lost")));
        assert!(once.starts_with("the device or its driver failed"));
        fails(&|_| {
            *tries.borrow_mut() += 1;
            panic!("a fault")
        });
        assert_eq!(*tries.borrow(), 1, "nothing else is tried again");
    }

    #[test]
    fn a_panic_of_any_thread_that_is_waited_for_is_caught() {
        assert_eq!(caught(|| 1).expect("no panic"), 1);
        let of = |work: fn()| caught(work).expect_err("a panic").to_string();
        assert!(of(|| panic!("wgpu error: {}", "lost")).starts_with("a fault in the device's backend: wgpu"));
        let own = of(|| panic!("index out of bounds"));
        assert!(own.starts_with("a fault in this program: index") && !own.contains("--plain_ops"), "{own}");
        assert!(of(|| panic!("capacity overflow")).starts_with("the device has too little memory: "));
        assert!(of(|| panic!("Device is lost")).starts_with("the device or its driver failed: Device is lost; "));
        assert!(of(|| std::panic::panic_any(7)).contains("no reason given"));
        assert!(of(|| rayon::scope(|scope| scope.spawn(|_| panic!("in rayon")))).contains("in rayon"));
        assert!(
            of(|| {
                let items = lm_data::Prefetch::new(0..3, |i| if i < 2 { i } else { panic!("ahead") }, 1, 1);
                assert!(items.expect("a thread").count() == 2);
            })
            .contains("ahead")
        );
    }
}
