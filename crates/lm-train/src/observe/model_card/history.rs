//! What the card tells of evaluations.

use std::borrow::Borrow;
use std::fmt::Write;

use super::text::rounded;
use crate::observe::{LogRecord, LogValue};

/// Names and values of an evaluation, as the card lists them.
pub(super) type Results = Vec<(String, LogValue)>;

/// Figures of an evaluation that describe the machine, not the model.
const NOT_RESULTS: [&str; 8] = [
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "total_flos",
    "epoch",
    "step",
    LogRecord::TOKENS_PER_SECOND,
    LogRecord::MEMORY,
];

/// Python's `parse_log_history`: the last evaluation, which without a training is told as it was logged, and after one the
/// table of all evaluations in it.
pub(super) fn results_of(log_history: &[impl Borrow<LogRecord>]) -> (Results, Option<String>) {
    let log_history: Vec<&LogRecord> = log_history.iter().map(Borrow::borrow).collect();
    // Not by train_runtime as in Python: there every record has it with --include_num_input_tokens_seen.
    let trained = log_history.iter().position(|record| record.get("train_loss").is_some());
    let results = log_history.iter().rev().find(|record| record.get("eval_loss").is_some()).map(|record| {
        let title = |name: &str| match trained {
            Some(_) => title_case(name.strip_prefix("eval_").unwrap_or(name)),
            None => name.to_owned(),
        };
        let results = record.iter().filter(|(name, _)| trained.is_none() || !NOT_RESULTS.contains(name));
        results.map(|(name, value)| (title(name), value.clone())).collect()
    });
    let table = trained.map(|end| {
        let mut training_loss = LogValue::Text("No log".to_owned());
        let mut lines: Vec<Results> = Vec::new();
        for record in log_history.iter().take(end) {
            let value = |name: &str| record.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
            training_loss = value("loss").unwrap_or(training_loss);
            if record.get("eval_loss").is_none() {
                continue;
            }
            let mut line = vec![("Training Loss".to_owned(), training_loss.clone())];
            line.extend(["epoch", "step"].iter().filter_map(|name| Some((title_case(name), value(name)?))));
            for (name, value) in record.iter().filter(|(name, _)| !NOT_RESULTS.contains(name)) {
                let title = match name {
                    "eval_loss" => "Validation Loss".to_owned(),
                    "num_input_tokens_seen" => "Input Tokens Seen".to_owned(),
                    _ => title_case(name.strip_prefix("eval_").unwrap_or(name)),
                };
                line.push((title, value.clone()));
            }
            lines.push(line);
        }
        markdown_table(&lines)
    });
    (results.unwrap_or_default(), table)
}

/// `samples_per_second` as `Samples Per Second`.
fn title_case(name: &str) -> String {
    let capitalise = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    };
    name.split('_').map(capitalise).collect::<Vec<String>>().join(" ")
}

/// Python's `make_markdown_table`; the first line sets the columns.
fn markdown_table(lines: &[Results]) -> String {
    let Some(first) = lines.first() else {
        return String::new();
    };
    let titles: Vec<&String> = first.iter().map(|(title, _)| title).collect();
    let cell = |line: &Results, title: &String| {
        line.iter().find(|(other, _)| other == title).map_or(String::new(), |(_, value)| rounded(value))
    };
    let width = |title: &String| lines.iter().map(|line| cell(line, title).len()).max().unwrap_or(0).max(title.len());
    let (mut head, mut rule, mut rows) = (String::new(), String::new(), vec![String::new(); lines.len()]);
    for &title in &titles {
        let width = width(title);
        let _ = write!(head, "| {title:width$} ");
        let _ = write!(rule, "|:{}:", "-".repeat(width));
        for (row, line) in rows.iter_mut().zip(lines) {
            let _ = write!(row, "| {:width$} ", cell(line, title));
        }
    }
    [head, rule].into_iter().chain(rows).map(|line| line + "|\n").collect()
}
