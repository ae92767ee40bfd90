//! What a person sees: a progress bar on a terminal, and one line per log record anywhere.
//!
//! The bar goes to standard error, the lines to standard output, as with Python's tqdm: `run_mlm … > log.txt` keeps the
//! lines and shows the bar.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::format::{count, duration, human_size, short_number};
use super::{Callback, CallbackError, CallbackResult, LogRecord, LogValue, Outcome, StepInfo, TrainerState};
use crate::sys::escape;

/// The bars of this process; whoever writes to the terminal meanwhile has to move them out of the way.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error for messages while a progress bar may be shown:
/// `tracing_subscriber::fmt().with_writer(console::MessageWriter::new)`.
#[derive(Debug)]
pub struct MessageWriter;

impl MessageWriter {
    /// The writer.
    pub fn new() -> Self {
        Self
    }
}

impl Default for MessageWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for MessageWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The progress bar and the lines.
#[derive(Debug)]
pub struct Console {
    show_bars: bool,
    training_bar: Option<ProgressBar>,
    prediction_bar: Option<ProgressBar>,
    loss: Option<f64>,
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
            loss: None,
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
        if self.show_bars {
            let bar = BARS.add(ProgressBar::new(state.max_steps));
            bar.set_style(style("{percent:>3}% {wide_bar} {pos}/{len} [{elapsed_precise}<{eta_precise}] {msg}"));
            bar.set_position(state.global_step);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_secs(1));
            self.training_bar = Some(bar);
        }
        Ok(())
    }

    fn on_step_end(&mut self, state: &TrainerState, step: &StepInfo) -> CallbackResult {
        self.speed.add(step.real_tokens, Instant::now());
        self.loss = Some(step.loss);
        if let Some(bar) = &self.training_bar {
            let mut message = format!("lr {}", short_number(step.learning_rate));
            if let Some(loss) = self.loss {
                message = format!("loss {loss:.4} {message}");
            }
            if let Some(speed) = self.speed.tokens_per_second() {
                message = format!("{message} {} tokens/s", count(speed.round() as u64));
            }
            bar.set_position(state.global_step);
            bar.set_message(message);
        }
        Ok(())
    }

    fn on_log(&mut self, state: &TrainerState, record: &LogRecord) -> CallbackResult {
        self.loss = record.get("loss").or(self.loss);
        let line = line(record, state, self.seconds_left(state).filter(|_| record.get("loss").is_some()));
        let printed = BARS.suspend(|| {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{line}")?;
            stdout.flush()
        });
        printed.map_err(|source| CallbackError { what: "standard output".to_owned(), source })
    }

    fn on_prediction_step(&mut self, done: u64, total: u64) -> CallbackResult {
        if self.show_bars {
            let bar = self.prediction_bar.get_or_insert_with(|| {
                let bar = BARS.add(ProgressBar::new(total));
                bar.set_style(style(
                    "evaluating {percent:>3}% {wide_bar} {pos}/{len} [{elapsed_precise}<{eta_precise}]",
                ));
                bar
            });
            bar.set_position(done);
        }
        Ok(())
    }

    fn on_evaluate(&mut self, _state: &TrainerState, _metrics: &LogRecord) -> CallbackResult {
        if let Some(bar) = self.prediction_bar.take() {
            bar.finish_and_clear();
        }
        self.speed.pause();
        Ok(())
    }

    fn on_save(&mut self, _state: &TrainerState, _checkpoint: &std::path::Path) -> CallbackResult {
        self.speed.pause();
        Ok(())
    }

    fn on_train_end(&mut self, _state: &TrainerState, outcome: &Outcome) -> CallbackResult {
        if let Some(bar) = self.prediction_bar.take() {
            bar.finish_and_clear();
        }
        if let Some(bar) = self.training_bar.take() {
            match outcome {
                Outcome::Finished => bar.finish(),
                Outcome::Stopped(_) | Outcome::Failed(_) => bar.abandon(),
            }
            // A finished bar leaves the cursor at its end; a terminal that is gone needs no new line.
            let _ = writeln!(io::stderr());
        }
        Ok(())
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; the default bar is no worse than no bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ ")
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

/// A record as one line, with Python's names: `step 500/5000  epoch 0.5  loss 5.1002  …  left 0:12:03`.
fn line(record: &LogRecord, state: &TrainerState, seconds_left: Option<f64>) -> String {
    let mut parts = Vec::new();
    if state.max_steps > 0 {
        parts.push(format!("step {}/{}", state.global_step, state.max_steps));
    }
    if let Some(epoch) = record.get("epoch") {
        parts.push(format!("epoch {epoch:.2}"));
    }
    for (name, value) in record.iter().filter(|(name, _)| !["step", "epoch", "total_flos"].contains(name)) {
        parts.push(match value {
            LogValue::Text(text) => format!("{name} {}", escape::visible(text)),
            LogValue::Integer(bytes) if name == LogRecord::MEMORY => {
                format!("memory {}", human_size(u64::try_from(*bytes).unwrap_or(0)))
            }
            LogValue::Integer(count) => format!("{name} {count}"),
            LogValue::Number(number) if name == LogRecord::TOKENS_PER_SECOND => {
                format!("tokens/s {}", count(number.max(0.0).round() as u64))
            }
            LogValue::Number(loss) if name.ends_with("loss") && loss.is_finite() => format!("{name} {loss:.4}"),
            LogValue::Number(number) => format!("{name} {}", short_number(*number)),
        });
    }
    if let Some(seconds) = seconds_left {
        parts.push(format!("left {}", duration(seconds)));
    }
    parts.join("  ")
}

/// Prints a text to standard output. That nobody reads it any more, or that its disk is full, costs no run its results.
pub fn say(text: &str) {
    if let Err(error) = writeln!(io::stdout(), "{}", escape::visible(text))
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
    fn a_record_is_one_readable_line() {
        let mut state = TrainerState { global_step: 500, max_steps: 5000, epoch: Some(0.5), ..TrainerState::default() };
        let record = state.log(
            LogRecord::new()
                .with("loss", 5.1002)
                .with("grad_norm", 1.234_56)
                .with("learning_rate", 4.5e-5)
                .with(LogRecord::TOKENS_PER_SECOND, 12_345.6)
                .with(LogRecord::MEMORY, 3_u64 << 29)
                .with("total_flos", 1e15),
        );
        assert_eq!(
            line(&record, &state, Some(723.0)),
            "step 500/5000  epoch 0.50  loss 5.1002  grad_norm 1.2346  learning_rate 4.5e-05  tokens/s 12,346  memory 1.5 GiB  left 0:12:03"
        );
        let alone = LogRecord::new().with("eval_loss", f64::NAN).with("note", 3_u64);
        assert_eq!(line(&alone, &TrainerState::default(), None), "eval_loss nan  note 3");
    }

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
