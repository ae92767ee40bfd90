//! `report.html`: a picture of the run in one file, without scripts and without network use.
//!
//! It is rewritten while the run goes on, beside its name and then renamed, so a whole page is there whenever a run dies.

mod chart;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::human_size;
use crate::observe::format::{count, duration, short_number};
use crate::observe::{Callback, CallbackError, CallbackResult, LogRecord, Outcome, TrainerState};
use crate::sys::memory;
use chart::{Chart, Scale, Series, Width};

/// The file's name in the output folder.
pub const REPORT_NAME: &str = "report.html";

/// What the report says about a run beside its log. All texts are escaped when they are written.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The headline: the run's name or its output folder.
    pub title: String,
    /// The task, such as `Masked language modeling`.
    pub task: String,
    /// The command that started the run, to repeat it.
    pub command: String,
    /// Name and value of what describes the model: architecture, parameters, device, dtype.
    pub model: Vec<(String, String)>,
    /// Every argument of the run.
    pub arguments: Vec<Argument>,
    /// What the model is trained and evaluated on.
    pub data: Vec<SplitFacts>,
    /// Sentences that the model filled in or continued.
    pub samples: Vec<SampleRow>,
    /// How a prompt writes a token to fill in; `None` when the samples are continuations.
    pub mask_token: Option<String>,
}

/// An argument of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name without dashes.
    pub name: String,
    /// Its value in this run.
    pub value: String,
    /// Its default; arguments that keep it are folded away.
    pub default: String,
}

/// The data of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitFacts {
    /// `train` or `validation`.
    pub split: String,
    /// Examples the model sees per epoch.
    pub examples: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
    /// The share of padding among all positions that are computed, 0 to 1.
    pub padding_share: Option<f64>,
    /// The share of texts that were cut to the maximal length, 0 to 1.
    pub truncated_share: Option<f64>,
}

/// A sentence before and after training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleRow {
    /// What the model was given: masks as [`RunFacts::mask_token`] for filling in, the beginning for a continuation.
    pub prompt: String,
    /// The whole text, filled in or continued by the model that training began with.
    pub before: String,
    /// The same by the trained model, once there is one.
    pub after: Option<String>,
}

/// The callback that keeps `report.html` up to date.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    facts: Arc<Mutex<RunFacts>>,
    begin: Option<Instant>,
    outcome: Option<Outcome>,
    written: Option<(Instant, Duration)>,
}

impl Report {
    /// The report of the run in `output_dir`.
    pub fn new(output_dir: &Path, facts: RunFacts) -> Self {
        Self {
            path: output_dir.join(REPORT_NAME),
            facts: Arc::new(Mutex::new(facts)),
            begin: None,
            outcome: None,
            written: None,
        }
    }

    /// The facts, to be completed during the run: what is set is in the file after the next evaluation, checkpoint or the
    /// end of training.
    pub fn facts(&self) -> Arc<Mutex<RunFacts>> {
        Arc::clone(&self.facts)
    }

    fn write(&mut self, state: &TrainerState) -> CallbackResult {
        let begin = Instant::now();
        let page = Page {
            facts: &lock(&self.facts),
            state,
            outcome: self.outcome.as_ref(),
            seconds: self.begin.map(|begin| begin.elapsed().as_secs_f64()),
            written_at: &chrono::Local::now().format("%Y-%m-%d %H:%M:%S").to_string(),
        };
        let html = page.render();
        lm_files::write(&self.path, html.as_bytes()).map_err(CallbackError::at(&self.path))?;
        self.written = Some((Instant::now(), begin.elapsed()));
        Ok(())
    }

    /// Writing takes at most a fiftieth of the run's time, however often it logs.
    fn is_due(&self) -> bool {
        self.written.is_none_or(|(at, took)| at.elapsed() >= Duration::from_secs(1).max(50 * took))
    }
}

/// The facts are plain values that no panic leaves half-written.
fn lock(facts: &Mutex<RunFacts>) -> MutexGuard<'_, RunFacts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Callback for Report {
    fn on_train_begin(&mut self, state: &TrainerState) -> CallbackResult {
        (self.begin, self.outcome) = (Some(Instant::now()), None);
        self.write(state)
    }

    fn on_log(&mut self, state: &TrainerState, _record: &LogRecord) -> CallbackResult {
        if self.is_due() || self.outcome.is_some() { self.write(state) } else { Ok(()) }
    }

    fn on_evaluate(&mut self, state: &TrainerState, _metrics: &LogRecord) -> CallbackResult {
        self.write(state)
    }

    fn on_save(&mut self, state: &TrainerState, _checkpoint: &Path) -> CallbackResult {
        self.write(state)
    }

    fn on_train_end(&mut self, state: &TrainerState, outcome: &Outcome) -> CallbackResult {
        self.outcome = Some(outcome.clone());
        self.write(state)
    }
}

/// Everything that one version of the file shows.
struct Page<'a> {
    facts: &'a RunFacts,
    state: &'a TrainerState,
    outcome: Option<&'a Outcome>,
    /// Since training began in this process.
    seconds: Option<f64>,
    written_at: &'a str,
}

impl Page<'_> {
    fn render(&self) -> String {
        let title = escape(&self.facts.title);
        let refresh = if self.outcome.is_none() { r#"<meta http-equiv="refresh" content="30">"# } else { "" };
        let mut html = format!(
            r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{refresh}<title>{title}</title><style>{}</style></head><body><main>"#,
            include_str!("style.css")
        );
        html += &self.header(&title);
        html += &self.tiles();
        html += &self.charts();
        html += &self.samples();
        html += &self.tables();
        html += &self.arguments();
        let _ = writeln!(
            html,
            "<footer>Written by lm-train {} on {}.</footer></main></body></html>",
            env!("CARGO_PKG_VERSION"),
            escape(self.written_at)
        );
        html
    }

    fn header(&self, title: &str) -> String {
        let (class, status, reason) = match self.outcome {
            None => ("run", "running".to_owned(), ""),
            Some(Outcome::Finished) => ("good", "finished".to_owned(), ""),
            Some(stopped @ Outcome::Stopped(_)) => ("warn", stopped.to_string(), ""),
            Some(Outcome::Failed(reason)) => ("bad", "failed".to_owned(), reason.as_str()),
        };
        let state = self.state;
        let mut line = Vec::new();
        if !self.facts.task.is_empty() {
            line.push(escape(&self.facts.task));
        }
        if state.max_steps > 0 {
            line.push(format!("step {} of {}", count(state.global_step), count(state.max_steps)));
        }
        if let Some(epoch) = state.epoch {
            line.push(format!("epoch {}", short_number((epoch * 100.0).round() / 100.0)));
        }
        line.push(format!("as of {}", escape(self.written_at)));
        let mut html = format!(
            r#"<header><h1>{title}</h1><span class="status {class}">{}</span><p>{}</p>"#,
            escape(&status),
            line.join(" · ")
        );
        if !reason.is_empty() {
            let _ = write!(html, r#"<p class="reason">{}</p>"#, escape(reason));
        }
        if self.outcome != Some(&Outcome::Finished) && state.max_steps > 0 {
            let percent = (100.0 * state.global_step as f64 / state.max_steps as f64).min(100.0);
            let _ = write!(html, r#"<div class="bar"><i style="width:{percent:.1}%"></i></div>"#);
        }
        html + "</header>"
    }

    /// All values called `name`, with their steps.
    fn values(&self, name: &str) -> Vec<(f64, f64)> {
        let history = self.state.log_history.iter();
        history.filter_map(|record| Some((record.step()? as f64, record.get(name)?))).collect()
    }

    /// Perplexity of each record that has the loss called `name`.
    fn perplexities(&self, name: &str) -> Vec<(f64, f64)> {
        self.values(name).into_iter().map(|(step, loss)| (step, loss.exp())).collect()
    }

    fn tiles(&self) -> String {
        if self.state.log_history.is_empty() {
            return String::new();
        }
        let mut tiles = String::from(r#"<section class="tiles">"#);
        let mut tile = |name: &str, value: &str, note: &str| {
            let _ = write!(
                tiles,
                r#"<div class="card tile"><span>{name}</span><b>{value}</b><span>{note}&nbsp;</span></div>"#
            );
        };
        let eval = self.values("eval_loss");
        if let (Some(first), Some(last)) = (eval.first(), eval.last()) {
            let best = eval.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            tile("Evaluation loss", &format!("{:.4}", last.1), &format!("best {best:.4}"));
            let note = if eval.len() > 1 { format!("first {}", short_number(first.1.exp())) } else { String::new() };
            tile("Perplexity", &short_number(last.1.exp()), &note);
        }
        let accuracy = self.values("eval_accuracy");
        if let Some((_, last)) = accuracy.last() {
            let best = accuracy.iter().map(|(_, share)| *share).fold(0.0, f64::max);
            tile("Accuracy", &format!("{:.2} %", 100.0 * last), &format!("best {:.2} %", 100.0 * best));
        }
        let train = self.values("loss");
        if let (Some(first), Some(last)) = (train.first(), train.last()) {
            let note = if train.len() > 1 { format!("first {:.4}", first.1) } else { String::new() };
            tile("Training loss", &format!("{:.4}", last.1), &note);
        }
        let speeds = self.values(LogRecord::TOKENS_PER_SECOND);
        if let Some((_, last)) = speeds.last() {
            let mean = speeds.iter().map(|(_, speed)| speed).sum::<f64>() / speeds.len() as f64;
            tile(
                "Tokens / s",
                &count(mean.max(0.0).round() as u64),
                &format!("now {}", count(last.max(0.0).round() as u64)),
            );
        }
        let runtime = self.state.log_history.iter().rev().find_map(|record| record.get("train_runtime"));
        if let Some(seconds) = runtime.or(self.seconds) {
            tile("Training time", &duration(seconds), &format!("{} steps", count(self.state.global_step)));
        }
        if let Some(peak) = memory::peak() {
            tile("Peak memory", &human_size(peak), "of this process");
        }
        tiles + "</section>"
    }

    fn charts(&self) -> String {
        let line = |name, class, points| Series { name, class, points };
        let chart = |title: &str, scale, smooth, series| Chart { title: title.to_owned(), series, scale, smooth };
        let memory = self.values(LogRecord::MEMORY);
        let most = memory.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
        let (unit, bytes_of_unit) =
            if most >= 1024.0 * 1024.0 * 1024.0 { ("GiB", 1024_f64.powi(3)) } else { ("MiB", 1024_f64.powi(2)) };
        let memory = memory.into_iter().map(|(step, bytes)| (step, bytes / bytes_of_unit)).collect();
        let charts = [
            chart(
                "Loss",
                Scale::Range,
                true,
                vec![line("train", "train", self.values("loss")), line("evaluation", "eval", self.values("eval_loss"))],
            ),
            chart(
                "Perplexity",
                Scale::Log,
                true,
                vec![
                    line("train", "train", self.perplexities("loss")),
                    line("evaluation", "eval", self.perplexities("eval_loss")),
                ],
            ),
            chart("Accuracy", Scale::Range, false, vec![line("evaluation", "eval", self.values("eval_accuracy"))]),
            chart("Learning rate", Scale::FromZero, false, vec![line("", "train", self.values("learning_rate"))]),
            chart(
                "Gradient norm before clipping",
                Scale::FromZeroUnlessSpread,
                true,
                vec![line("", "train", self.values("grad_norm"))],
            ),
            chart(
                "Tokens per second",
                Scale::FromZero,
                true,
                vec![line("", "train", self.values(LogRecord::TOKENS_PER_SECOND))],
            ),
            chart(&format!("Memory of the process ({unit})"), Scale::FromZero, false, vec![line("", "train", memory)]),
        ];
        let charts: Vec<&Chart> = charts.iter().filter(|chart| chart.has_data()).collect();
        if charts.is_empty() {
            let when = match self.outcome {
                None => " yet; a record is due every",
                Some(_) => ": the run ended before a record was due, which is every",
            };
            let every = count(self.state.logging_steps);
            return format!(
                r#"<div class="card note">Nothing has been logged{when} {every} steps (--logging_steps).</div>"#
            );
        }
        // Rows of two; an odd number of charts is made up by one row of three.
        let three = if charts.len() % 2 == 1 && charts.len() >= 3 {
            charts.len() / 4 * 2..charts.len() / 4 * 2 + 3
        } else {
            0..0
        };
        let width = |place: usize| if three.contains(&place) { Width::Third } else { Width::Half };
        let figures: String = charts.iter().enumerate().map(|(place, chart)| chart.figure(width(place))).collect();
        format!(r#"<section class="charts">{figures}</section>"#)
    }

    fn samples(&self) -> String {
        let samples = &self.facts.samples;
        if samples.is_empty() {
            return String::new();
        }
        let what = if self.facts.mask_token.is_some() { "Filled in" } else { "Continued" };
        let mut html = format!(
            r#"<h2>{what} before and after training</h2><div class="card wide"><table class="samples"><thead><tr><th>Given</th><th>Before</th><th>After</th></tr></thead><tbody>"#
        );
        let mask = self.facts.mask_token.as_deref();
        for sample in samples {
            let after = match &sample.after {
                Some(after) => format!("<td>{}</td>", marked(&sample.prompt, mask, after)),
                None => r#"<td class="muted">not trained yet</td>"#.to_owned(),
            };
            let before = marked(&sample.prompt, mask, &sample.before);
            let _ = write!(html, "<tr><td>{}</td><td>{before}</td>{after}</tr>", escape(&sample.prompt));
        }
        html + "</tbody></table></div>"
    }

    fn tables(&self) -> String {
        let mut html = String::new();
        if !self.facts.data.is_empty() {
            html += r#"<div><h2>Data</h2><div class="card wide"><table><thead><tr><th>Split</th><th class="n">Examples</th><th class="n">Tokens</th><th class="n">Padding</th><th class="n">Truncated</th></tr></thead><tbody>"#;
            for split in &self.facts.data {
                let share =
                    |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
                let _ = write!(
                    html,
                    r#"<tr><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>"#,
                    escape(&split.split),
                    count(split.examples),
                    count(split.tokens),
                    share(split.padding_share),
                    share(split.truncated_share)
                );
            }
            html += "</tbody></table></div></div>";
        }
        if !self.facts.model.is_empty() {
            html += r#"<div><h2>Model</h2><div class="card wide"><table>"#;
            for (name, value) in &self.facts.model {
                let _ = write!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
            }
            html += "</table></div></div>";
        }
        if html.is_empty() { html } else { format!(r#"<section class="two">{html}</section>"#) }
    }

    fn arguments(&self) -> String {
        let table = |arguments: Vec<&Argument>, with_default: bool| {
            let mut rows = String::new();
            for Argument { name, value, default } in arguments {
                let _ = write!(
                    rows,
                    r#"<tr><td class="name code">{}</td><td class="code">{}</td>"#,
                    escape(name),
                    escape(value)
                );
                if with_default {
                    let _ = write!(rows, r#"<td class="code muted">{}</td>"#, escape(default));
                }
                rows += "</tr>";
            }
            let head = if with_default {
                "<thead><tr><th>Argument</th><th>Value</th><th>Default</th></tr></thead>"
            } else {
                ""
            };
            format!("<table>{head}<tbody>{rows}</tbody></table>")
        };
        let mut html = String::new();
        let (changed, kept): (Vec<_>, Vec<_>) =
            self.facts.arguments.iter().partition(|argument| argument.value != argument.default);
        if !changed.is_empty() {
            let _ = write!(html, r#"<h2>Arguments</h2><div class="card wide">{}</div>"#, table(changed, true));
        }
        if !kept.is_empty() {
            let _ = write!(
                html,
                r#"<details class="card wide"><summary>{} arguments at their default</summary>{}</details>"#,
                kept.len(),
                table(kept, false)
            );
        }
        if !self.facts.command.is_empty() {
            let _ = write!(
                html,
                r#"<details class="card"><summary>Command</summary><pre class="code">{}</pre></details>"#,
                escape(&self.facts.command)
            );
        }
        html
    }
}

/// `text` with the model's own words marked: what stands for the masks of `prompt`, or what follows it.
fn marked(prompt: &str, mask: Option<&str>, text: &str) -> String {
    let Some(mask) = mask.filter(|mask| !mask.is_empty()) else {
        return match text.strip_prefix(prompt) {
            Some(rest) => format!("{}<mark>{}</mark>", escape(prompt), escape(rest)),
            None => escape(text),
        };
    };
    let mut given = prompt.split(mask);
    let Some(mut rest) = given.next().and_then(|first| text.strip_prefix(first)) else {
        return escape(text);
    };
    let mut html = escape(&text[..text.len() - rest.len()]);
    let given: Vec<&str> = given.collect();
    for (index, &next) in given.iter().enumerate() {
        // The last piece ends the text; an empty one between two masks gives no hint where the first word ends.
        let found = if index + 1 == given.len() {
            rest.ends_with(next).then(|| rest.len() - next.len())
        } else {
            rest.find(if next.is_empty() { " " } else { next })
        };
        let Some((words, after)) = found.and_then(|end| rest.split_at_checked(end)) else {
            return escape(text);
        };
        let Some(after) = after.strip_prefix(next) else {
            return escape(text);
        };
        let _ = write!(html, "<mark>{}</mark>{}", escape(words), escape(next));
        rest = after;
    }
    html
}

/// Text for HTML, attributes included.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML has no way to write the other control characters.
            control if control.is_control() && !matches!(control, '\n' | '\t') => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn page(facts: &RunFacts, state: &TrainerState, outcome: Option<&Outcome>) -> String {
        Page { facts, state, outcome, seconds: Some(5.0), written_at: "2024-01-01 00:00:00" }.render()
    }

    fn run_of(steps: u64) -> TrainerState {
        let mut state = TrainerState { max_steps: steps, ..TrainerState::default() };
        for step in 1..=steps {
            state.global_step = step;
            let loss = 8.0 / (step as f64).sqrt();
            state.log(LogRecord::new().with("loss", loss).with("grad_norm", 1.0).with("learning_rate", 1e-4));
            state.log(LogRecord::new().with("eval_loss", loss + 0.1).with("eval_accuracy", 0.5));
        }
        state
    }

    /// Every element that is opened is closed, in order.
    fn assert_well_formed(html: &str) {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)) {
            let name = tag.split([' ', '/']).next().unwrap_or("");
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "closing {closed}");
            } else if !tag.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?} stay open");
    }

    #[test]
    fn any_length_of_run_gives_a_whole_page() {
        for steps in [0, 1, 3, 2000] {
            let html = page(&RunFacts::default(), &run_of(steps), None);
            assert_well_formed(&html);
            assert_eq!(html.contains("Nothing has been logged yet"), steps == 0);
            assert!(html.len() < 600_000, "{} bytes for {steps} steps", html.len());
            for network in ["http://", "https://", "<script", "url(", "@import"] {
                assert!(!html.contains(network), "{network}");
            }
        }
    }

    #[test]
    fn everything_is_escaped() {
        let evil = r#"</style><script>alert("x")</script>'&"#.to_owned();
        let facts = RunFacts {
            title: evil.clone(),
            task: evil.clone(),
            command: evil.clone(),
            model: vec![(evil.clone(), evil.clone())],
            arguments: vec![Argument { name: evil.clone(), value: evil.clone(), default: "\u{0}".to_owned() }],
            data: vec![SplitFacts { split: evil.clone(), ..SplitFacts::default() }],
            samples: vec![SampleRow { prompt: evil.clone(), before: evil.clone(), after: Some(evil.clone()) }],
            mask_token: Some("<mask>".to_owned()),
        };
        let html = page(&facts, &run_of(2), Some(&Outcome::Failed(evil)));
        assert_well_formed(&html);
        assert!(!html.contains("<script") && !html.contains('\u{0}'));
    }

    #[test]
    fn the_status_is_plain() {
        let status = |outcome: Option<Outcome>| page(&RunFacts::default(), &run_of(3), outcome.as_ref());
        assert!(status(None).contains("running") && status(None).contains("http-equiv=\"refresh\""));
        assert!(!status(Some(Outcome::Finished)).contains("refresh"));
        assert!(status(Some(Outcome::Stopped("SIGTERM".to_owned()))).contains("stopped by SIGTERM"));
        assert!(status(Some(Outcome::Failed("disk full".to_owned()))).contains("disk full"));
    }

    #[test]
    fn the_models_own_words_are_marked() {
        let fill = |prompt, text| marked(prompt, Some("[MASK]"), text);
        assert_eq!(fill("A [MASK] is red.", "A rose is red."), "A <mark>rose</mark> is red.");
        assert_eq!(fill("[MASK] and [MASK]", "you and me"), "<mark>you</mark> and <mark>me</mark>");
        assert_eq!(fill("a [MASK][MASK] b", "a c d b"), "a <mark>c</mark><mark> d</mark> b");
        assert_eq!(fill("A [MASK] b.", "other < words"), "other &lt; words");
        assert_eq!(fill("no mask", "no mask"), "no mask");
        assert_eq!(marked("Once", None, "Once upon"), "Once<mark> upon</mark>");
    }

    #[test]
    fn the_file_is_there_from_the_first_moment_and_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut report = Report::new(folder.path(), RunFacts { title: "run".to_owned(), ..RunFacts::default() });
        let facts = report.facts();
        let read = || fs::read_to_string(folder.path().join(REPORT_NAME)).expect("a report");
        let mut state = TrainerState::default();
        report.on_train_begin(&state).expect("written");
        assert!(read().contains("running"));
        let record = state.log(LogRecord::new().with("loss", 1.0));
        report.on_log(&state, &record).expect("not due");
        assert!(read().contains("Nothing has been logged yet"), "written a moment ago");
        lock(&facts).samples.push(SampleRow { prompt: "Once".to_owned(), ..SampleRow::default() });
        report.on_train_end(&state, &Outcome::Finished).expect("written");
        assert!(read().contains("finished") && read().contains("Once") && read().contains("not trained yet"));
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else is left");
    }
}
