//! The figures of a run: what charts, tiles and the CSV file are made of. `report.html` carries them as JSON as well, which
//! is where `--compare` finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::facts::RunFacts;
use super::series::{Point, thinned};
use crate::observe::curve::{self, MOST_POINTS};
use crate::observe::history::Event;
use crate::observe::{LogRecord, Outcome, TrainerState};

/// What stands before and after the JSON in a page.
const BEGIN: &str = r#"<script type="application/json" id="run">"#;
const END: &str = "</script>";

/// The figures of a run. Names of series and figures are those of log records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunData {
    /// `finished`, `running` …
    pub status: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// Steps and values, at most [`MOST_POINTS`] each, all finite.
    pub series: BTreeMap<String, Vec<Point>>,
    /// What happened.
    pub events: Vec<Event>,
    /// Single figures of the end, as far as it has come.
    pub figures: BTreeMap<String, f64>,
    /// Every argument.
    pub arguments: BTreeMap<String, String>,
    /// The names of those that are not at their default.
    #[serde(default)]
    pub given: BTreeSet<String>,
    /// Names and values of what describes model and machine.
    pub facts: Vec<(String, String)>,
    /// See [`RunFacts::unigram_perplexity`].
    pub unigram_perplexity: Option<f64>,
}

impl RunData {
    pub fn new(facts: &RunFacts, state: &TrainerState, outcome: Option<&Outcome>) -> Self {
        let arguments = facts.arguments.iter();
        let given = arguments.clone().filter(|argument| argument.value != argument.default);
        Self {
            status: outcome.map_or("running".to_owned(), ToString::to_string),
            step: state.global_step,
            max_steps: state.max_steps,
            series: series(state),
            events: state.history.events.clone(),
            figures: figures(state),
            arguments: arguments.map(|argument| (argument.name.clone(), argument.value.clone())).collect(),
            given: given.map(|argument| argument.name.clone()).collect(),
            facts: facts.model.iter().chain(&facts.machine).cloned().collect(),
            unigram_perplexity: facts.unigram_perplexity,
        }
    }

    /// The points of a series; none where nothing of it is known.
    pub fn points(&self, name: &str) -> &[Point] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// The JSON for a page, in which it ends nothing.
    pub fn island(&self) -> String {
        // Everything in it is text or a finite number.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{BEGIN}{}{END}", json.replace('<', "\\u003c"))
    }

    /// The figures of the run that this page shows; none if it carries none.
    pub fn of_page(html: &str) -> Option<serde_json::Result<Self>> {
        let json = html.split_once(BEGIN)?.1.split_once(END)?.0;
        Some(serde_json::from_str(json))
    }

    /// All series as a table, a row for each step.
    pub fn csv(&self) -> String {
        let mut rows: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (column, points) in self.series.values().enumerate() {
            for (step, value) in points {
                let row = rows.entry(*step as u64).or_insert_with(|| vec![String::new(); self.series.len()]);
                row[column] = value.to_string();
            }
        }
        let names: Vec<&str> = self.series.keys().map(String::as_str).collect();
        let mut csv = format!("step,{}\n", names.join(","));
        for (step, row) in rows {
            let _ = writeln!(csv, "{step},{}", row.join(","));
        }
        csv
    }
}

/// Training by the run's own record, and by the log where that began later; evaluations by the log.
fn series(state: &TrainerState) -> BTreeMap<String, Vec<Point>> {
    let curve = &state.history.curve;
    let first = curve.first_step().unwrap_or(u64::MAX);
    let of_curve = |name: &str, value: fn(&curve::Point) -> Option<f64>| {
        let logged = logged(state, name).filter(|(step, _)| *step < first as f64);
        let points = curve.points().iter().filter_map(|point| Some((point.step as f64, value(point)?)));
        (name.to_owned(), logged.chain(points).collect())
    };
    let of_log = |name: &str| (name.to_owned(), logged(state, name).collect());
    let series: [(String, Vec<Point>); 7] = [
        of_curve("loss", |point| Some(point.loss)),
        of_curve("grad_norm", |point| point.grad_norm),
        of_curve("learning_rate", |point| Some(point.learning_rate)),
        of_curve(LogRecord::TOKENS_PER_SECOND, |point| {
            (point.seconds > 0.0).then(|| point.tokens as f64 / point.seconds)
        }),
        of_curve(LogRecord::MEMORY, |point| point.memory.map(|bytes| bytes as f64)),
        of_log("eval_loss"),
        of_log("eval_accuracy"),
    ];
    let finite = |points: Vec<Point>| points.into_iter().filter(|(_, value)| value.is_finite()).collect::<Vec<_>>();
    let thin = series.into_iter().map(|(name, points)| (name, thinned(&finite(points), MOST_POINTS)));
    thin.filter(|(_, points)| !points.is_empty()).collect()
}

/// All values called `name` in the log, with their steps.
fn logged(state: &TrainerState, name: &str) -> impl Iterator<Item = Point> {
    state.log_history.iter().filter_map(move |record| Some((record.step()? as f64, record.get(name)?)))
}

/// The last evaluation, the best of all, and the figures of the whole run.
fn figures(state: &TrainerState) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for name in ["train_loss", "train_runtime", "eval_loss", "eval_accuracy"] {
        if let Some((_, value)) = logged(state, name).last() {
            figures.insert(name.to_owned(), value);
        }
    }
    if let Some(loss) = figures.get("eval_loss").copied() {
        figures.insert(LogRecord::PERPLEXITY.to_owned(), loss.exp());
        let best = logged(state, "eval_loss").map(|(_, loss)| loss).fold(f64::INFINITY, f64::min);
        figures.insert("best_eval_loss".to_owned(), best);
    }
    let (tokens, seconds) = state
        .history
        .curve
        .points()
        .iter()
        .fold((0, 0.0), |(tokens, seconds), point| (tokens + point.tokens, seconds + point.seconds));
    if seconds > 0.0 {
        figures.insert(LogRecord::TOKENS_PER_SECOND.to_owned(), tokens as f64 / seconds);
    }
    figures.retain(|_, value| value.is_finite());
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::StepInfo;

    fn run(steps: u64, first_on_record: u64) -> TrainerState {
        let mut state = TrainerState { max_steps: steps, ..TrainerState::default() };
        for step in 1..=steps {
            state.global_step = step;
            let info =
                StepInfo { loss: 2.0, grad_norm: 1.0, learning_rate: 1e-4, tokens: 10, real_tokens: 10, seconds: 0.5 };
            if step >= first_on_record {
                state.history.curve.add(step, &info, || None);
            }
            if step % 10 == 0 {
                state.log(LogRecord::new().with("loss", 3.0));
                state.log(LogRecord::new().with("eval_loss", if step == 20 { f64::NAN } else { 1.0 }));
            }
        }
        state
    }

    #[test]
    fn training_is_on_record_and_the_log_fills_in_what_was_before() {
        let data = RunData::new(&RunFacts::default(), &run(30, 1), None);
        assert_eq!(data.points("loss"), (1..=30).map(|step| (f64::from(step), 2.0)).collect::<Vec<_>>());
        assert_eq!(data.points("eval_loss"), [(10.0, 1.0), (30.0, 1.0)], "what is not finite is left out");
        let data = RunData::new(&RunFacts::default(), &run(30, 21), None);
        assert_eq!(data.points("loss")[..3], [(10.0, 3.0), (20.0, 3.0), (21.0, 2.0)]);
        assert_eq!((data.figures["tokens_per_second"], data.figures["best_eval_loss"]), (20.0, 1.0));
    }

    #[test]
    fn a_page_carries_the_figures() {
        let mut data = RunData::new(&RunFacts::default(), &run(2000, 1), Some(&Outcome::Finished));
        data.arguments.insert("output_dir".into(), "</script><b>".into());
        let page = format!("<html>{}<p></script></html>", data.island());
        assert_eq!(RunData::of_page(&page).expect("there").expect("JSON"), data);
        assert!(data.series.values().all(|points| points.len() <= MOST_POINTS));
        assert!(RunData::of_page("<html>").is_none());
    }

    #[test]
    fn the_table_has_a_row_for_each_step() {
        let csv = RunData::new(&RunFacts::default(), &run(11, 10), None).csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "step,eval_loss,grad_norm,learning_rate,loss,tokens_per_second");
        assert_eq!(lines[1..], ["10,1,1,0.0001,2,20", "11,,1,0.0001,2,20"]);
    }
}
