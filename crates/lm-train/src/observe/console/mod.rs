//! What a person sees: a progress bar on a terminal, and one short line per log record anywhere; log.jsonl has the rest.
//!
//! The bar goes to standard error, the lines to standard output, as with Python's tqdm: `run_mlm … > log.txt` keeps the
//! lines and shows the bar.

mod bar;
mod lines;
mod messages;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

pub use lines::samples;
pub use messages::{Lines, Messages};

use super::format::{duration, human_size};
use super::{Callback, CallbackError, CallbackResult, LogRecord, LogValue, Outcome, StepInfo, TrainerState};
use crate::sys::escape;
use bar::Bar;
use terminal::{BARS, width_of};

/// The progress bar and the lines.
#[derive(Debug)]
pub struct Console {
    show_bars: bool,
    training_bar: Option<Bar>,
    prediction_bar: Option<Bar>,
    speed: Speed,
    begin: Option<(Instant, u64)>,
}

impl Console {
    /// Bars when standard error is a terminal and `--disable_tqdm` is not given.
    pub fn new(disable_tqdm: bool) -> Self {
        Self {
            show_bars: !disable_tqdm && io::stderr().is_terminal(),
            training_bar: None,
            prediction_bar: None,
            speed: Speed::default(),
            begin: None,
        }
    }

    /// Seconds that the rest of training takes at the mean pace of this process, evaluations and saves included.
    fn seconds_left(&self, state: &TrainerState) -> Option<f64> {
        let (begin, first_step) = self.begin?;
        let done = state.global_step.checked_sub(first_step).filter(|done| *done > 0)?;
        let left = state.max_steps.checked_sub(state.global_step).filter(|left| *left > 0)?;
        Some(begin.elapsed().as_secs_f64() / done as f64 * left as f64)
    }
}

impl Callback for Console {
    fn on_train_begin(&mut self, state: &TrainerState) -> CallbackResult {
        self.begin = Some((Instant::now(), state.global_step));
        self.speed.pause();
        self.training_bar = self.show_bars.then(|| Bar::new("", state.global_step, state.max_steps));
        Ok(())
    }

    fn on_step_end(&mut self, state: &TrainerState, step: &StepInfo) -> CallbackResult {
        self.speed.add(step.real_tokens, Instant::now());
        if let Some(bar) = &self.training_bar {
            let mut fields = vec![lines::loss("loss", step.loss), lines::rate(step.learning_rate)];
            fields.extend(self.speed.tokens_per_second().map(lines::speed));
            bar.show(state.global_step, fields);
        }
        Ok(())
    }

    fn on_log(&mut self, state: &TrainerState, record: &LogRecord) -> CallbackResult {
        // The figures of the whole run come last, and stand in the table of metrics.
        if record.get("train_runtime").is_some() {
            self.training_bar = None;
            return Ok(());
        }
        let left = self.seconds_left(state).filter(|_| record.get("loss").is_some());
        let text = lines::of_record(record, state, left, width_of(&console::Term::stdout()));
        print(&text).map_err(|source| CallbackError { what: "standard output".to_owned(), source })
    }

    fn on_prediction_step(&mut self, done: u64, total: u64) -> CallbackResult {
        if self.show_bars {
            self.prediction_bar.get_or_insert_with(|| Bar::new("evaluating ", 0, total)).show(done, Vec::new());
            if done == total {
                self.prediction_bar = None;
            }
        }
        Ok(())
    }

    fn on_evaluate(&mut self, _state: &TrainerState, _metrics: &LogRecord) -> CallbackResult {
        self.speed.pause();
        Ok(())
    }

    fn on_save(&mut self, _state: &TrainerState, _checkpoint: &std::path::Path) -> CallbackResult {
        self.speed.pause();
        Ok(())
    }

    fn on_train_end(&mut self, _state: &TrainerState, _outcome: &Outcome) -> CallbackResult {
        (self.prediction_bar, self.training_bar) = (None, None);
        Ok(())
    }
}

/// Shows on a terminal that the program is busy with something, until the value is dropped.
pub fn busy(what: &str) -> impl Drop + use<> {
    struct Spinner(ProgressBar);
    impl Drop for Spinner {
        fn drop(&mut self) {
            self.0.finish_and_clear();
        }
    }
    let bar = BARS.add(ProgressBar::new_spinner().with_message(escape::line(what)));
    // The template is a constant; the default spinner is no worse than none.
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    Spinner(bar)
}

/// Tokens per second over about the last ten seconds of training; pauses do not count.
#[derive(Debug, Default)]
struct Speed {
    last: Option<Instant>,
    seconds: f64,
    tokens: f64,
}

impl Speed {
    const WINDOW: f64 = 10.0;

    fn add(&mut self, tokens: u64, now: Instant) {
        if let Some(last) = self.last {
            let seconds = now.duration_since(last).as_secs_f64();
            let keep = (-seconds / Self::WINDOW).exp();
            self.seconds = self.seconds * keep + seconds;
            self.tokens = self.tokens * keep + tokens as f64;
        }
        self.last = Some(now);
    }

    fn pause(&mut self) {
        self.last = Some(Instant::now());
    }

    fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }
}

fn print(text: &str) -> io::Result<()> {
    BARS.suspend(|| {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    })
}

/// Prints a text to standard output. That nobody reads it any more, or that its disk is full, costs no run its results.
pub fn say(text: &str) {
    if let Err(error) = print(&escape::visible(text))
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::warn!("standard output: {error}");
    }
}

/// The metrics of a split as Python's `Trainer.log_metrics` prints them, without a line break at the end.
pub fn metrics_table(split: &str, metrics: &LogRecord) -> String {
    let mut rows: Vec<(&str, String)> = metrics.iter().map(|(name, value)| (name, metric(name, value))).collect();
    rows.sort_unstable();
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let mut table = format!("***** {split} metrics *****");
    for (name, value) in rows {
        table += &format!("\n  {name:name_width$} = {value:>value_width$}");
    }
    table
}

/// Python's `metrics_format`.
fn metric(name: &str, value: &LogValue) -> String {
    match value {
        LogValue::Text(text) => text.clone(),
        LogValue::Integer(bytes) if name.contains("_mem_") => format!("{}MB", bytes >> 20),
        LogValue::Number(flos) if name == "total_flos" => format!("{}GF", *flos as u64 >> 30),
        LogValue::Number(seconds) if name.contains("_runtime") => {
            format!("{}.{:02}", duration(seconds.floor()), ((seconds - seconds.floor()) * 100.0) as u64)
        }
        LogValue::Number(number) => format!("{:?}", super::round(*number, 4)),
        LogValue::Integer(bytes) if name == LogRecord::MEMORY => human_size(u64::try_from(*bytes).unwrap_or(0)),
        LogValue::Integer(count) => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_as_python_shows_them() {
        // What Python prints for {"epoch": 1.5, "eval_loss": 5.0630717, "eval_runtime": 3723.339, "eval_samples": 24, "total_flos": 69444864000.0,
        // "eval_mem_cpu_alloc_delta": -3000000}.
        let metrics = LogRecord::new()
            .with("epoch", 1.5)
            .with("eval_loss", 5.063_071_7)
            .with("eval_runtime", 3723.339)
            .with("eval_samples", 24_u64)
            .with("total_flos", 69_444_864_000.0)
            .with("eval_mem_cpu_alloc_delta", -3_000_000_i64);
        let expected = "***** eval metrics *****
  epoch                    =        1.5
  eval_loss                =     5.0631
  eval_mem_cpu_alloc_delta =       -3MB
  eval_runtime             = 1:02:03.33
  eval_samples             =         24
  total_flos               =       64GF";
        assert_eq!(metrics_table("eval", &metrics), expected);
        assert_eq!(metrics_table("eval", &LogRecord::new()), "***** eval metrics *****");
    }

    #[test]
    fn speed_follows_training_and_skips_pauses() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut speed = Speed { last: Some(begin), ..Speed::default() };
        assert_eq!(speed.tokens_per_second(), None);
        for second in 1..=10 {
            speed.add(100, at(second));
        }
        assert!((speed.tokens_per_second().expect("a speed") - 100.0).abs() < 1e-9);
        speed.last = Some(at(1000)); // an evaluation
        speed.add(100, at(1001));
        assert!((speed.tokens_per_second().expect("a speed") - 100.0).abs() < 1e-9);
        for second in 1002..1030 {
            speed.add(300, at(second));
        }
        assert!(speed.tokens_per_second().expect("a speed") > 250.0);
    }

    #[test]
    fn time_left_counts_only_steps_of_this_process() {
        let mut console = Console::new(true);
        let state = |global_step| TrainerState { global_step, max_steps: 100, ..TrainerState::default() };
        assert_eq!(console.seconds_left(&state(50)), None);
        console.begin = Instant::now().checked_sub(Duration::from_secs(10)).map(|begin| (begin, 50));
        assert_eq!(console.seconds_left(&state(50)), None);
        let left = console.seconds_left(&state(60)).expect("an estimate");
        assert!((39.9..45.0).contains(&left), "{left}");
        assert_eq!(console.seconds_left(&state(100)), None);
    }
}
