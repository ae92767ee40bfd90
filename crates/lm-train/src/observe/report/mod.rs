//! `report.html`: a picture of the run in one file that needs no network, and `compare.html`, one of several runs.
//!
//! ```text
//! Report ──> Page ─┬─ header, tiles, notes, samples, tables
//!                  └─ RunData ──> charts ──> Chart (Axes, Series) ──> SVG
//! compare ──> RunData of each report.html ──> charts, tables
//! ```
//!
//! It is rewritten while the run goes on, beside its name and then renamed, so a whole page is there whenever a run dies.
//! What it shows of the course of a run is in [`RunHistory`](super::history::RunHistory), and in the log.

mod axes;
mod chart;
mod charts;
mod compare;
mod data;
mod facts;
mod html;
mod page;
mod samples;
mod series;
mod tables;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use compare::compare;
pub use facts::{Argument, RunFacts, SplitFacts};

use crate::observe::{Callback, CallbackError, CallbackResult, LogRecord, Outcome, TrainerState};
use page::Page;

/// The file's name in the output folder.
pub const REPORT_NAME: &str = "report.html";

/// The callback that keeps `report.html` up to date.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    facts: RunFacts,
    begin: Option<Instant>,
    outcome: Option<Outcome>,
    written: Option<(Instant, Duration)>,
}

impl Report {
    /// The report of the run in `output_dir`.
    pub fn new(output_dir: &Path, facts: RunFacts) -> Self {
        Self { path: output_dir.join(REPORT_NAME), facts, begin: None, outcome: None, written: None }
    }

    fn write(&mut self, state: &TrainerState) -> CallbackResult {
        let begin = Instant::now();
        let page = Page {
            facts: &self.facts,
            state,
            outcome: self.outcome.as_ref(),
            seconds: self.begin.map(|begin| begin.elapsed().as_secs_f64()),
            written_at: &now(),
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

/// Local time, as pages write it.
fn now() -> String {
    chrono::Local::now().format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::observe::history::Piece;

    #[test]
    fn the_file_is_there_from_the_first_moment_and_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut report = Report::new(folder.path(), RunFacts { title: "run".to_owned(), ..RunFacts::default() });
        let read = || fs::read_to_string(folder.path().join(REPORT_NAME)).expect("a report");
        let mut state = TrainerState::default();
        report.on_train_begin(&state).expect("written");
        assert!(read().contains("running"));
        let record = state.log(LogRecord::new().with("loss", 1.0));
        report.on_log(&state, &record).expect("not due");
        assert!(read().contains("No step has been made yet"), "written a moment ago");
        state.history.samples.given.push(vec![Piece { text: "Once".to_owned(), mark: None }]);
        report.on_train_end(&state, &Outcome::Finished).expect("written");
        assert!(read().contains("finished") && read().contains("Once"));
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else is left");
    }
}
