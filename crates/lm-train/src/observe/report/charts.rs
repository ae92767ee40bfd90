//! What of the log is drawn.

use super::axes::Scale;
use super::chart::{Chart, Width};
use super::series::Series;
use crate::observe::format::count;
use crate::observe::{LogRecord, Outcome, TrainerState};

/// The charts of a run, as far as it has logged something for them.
pub(super) fn charts(state: &TrainerState, outcome: Option<&Outcome>) -> String {
    let charts = all(state);
    let charts: Vec<&Chart> = charts.iter().filter(|chart| chart.has_data()).collect();
    if charts.is_empty() {
        let when = match outcome {
            None => " yet; a record is due every",
            Some(_) => ": the run ended before a record was due, which is every",
        };
        let every = count(state.logging_steps);
        return format!(
            r#"<div class="card note">Nothing has been logged{when} {every} steps (--logging_steps).</div>"#
        );
    }
    // Rows of two; an odd number of charts is made up by one row of three.
    let three =
        if charts.len() % 2 == 1 && charts.len() >= 3 { charts.len() / 4 * 2..charts.len() / 4 * 2 + 3 } else { 0..0 };
    let width = |place: usize| if three.contains(&place) { Width::Third } else { Width::Half };
    let figures: String = charts.iter().enumerate().map(|(place, chart)| chart.figure(width(place))).collect();
    format!(r#"<section class="charts">{figures}</section>"#)
}

/// Every chart, those without data too.
fn all(state: &TrainerState) -> Vec<Chart> {
    let line = |name, class, points| Series { name, class, points };
    let chart = |title: &str, scale, smooth, series| Chart { title: title.to_owned(), series, scale, smooth };
    let memory = values(state, LogRecord::MEMORY);
    let most = memory.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
    let (unit, bytes_of_unit) =
        if most >= 1024.0 * 1024.0 * 1024.0 { ("GiB", 1024_f64.powi(3)) } else { ("MiB", 1024_f64.powi(2)) };
    let memory = memory.into_iter().map(|(step, bytes)| (step, bytes / bytes_of_unit)).collect();
    vec![
        chart(
            "Loss",
            Scale::Range,
            true,
            vec![line("train", "train", values(state, "loss")), line("evaluation", "eval", values(state, "eval_loss"))],
        ),
        chart(
            "Perplexity",
            Scale::Log,
            true,
            vec![
                line("train", "train", perplexities(state, "loss")),
                line("evaluation", "eval", perplexities(state, "eval_loss")),
            ],
        ),
        chart("Accuracy", Scale::Range, false, vec![line("evaluation", "eval", values(state, "eval_accuracy"))]),
        chart("Learning rate", Scale::FromZero, false, vec![line("", "train", values(state, "learning_rate"))]),
        chart(
            "Gradient norm before clipping",
            Scale::FromZeroUnlessSpread,
            true,
            vec![line("", "train", values(state, "grad_norm"))],
        ),
        chart(
            "Tokens per second",
            Scale::FromZero,
            true,
            vec![line("", "train", values(state, LogRecord::TOKENS_PER_SECOND))],
        ),
        chart(&format!("Memory of the process ({unit})"), Scale::FromZero, false, vec![line("", "train", memory)]),
    ]
}

/// All values called `name`, with their steps.
pub(super) fn values(state: &TrainerState, name: &str) -> Vec<(f64, f64)> {
    let history = state.log_history.iter();
    history.filter_map(|record| Some((record.step()? as f64, record.get(name)?))).collect()
}

/// Perplexity of each record that has the loss called `name`.
fn perplexities(state: &TrainerState, name: &str) -> Vec<(f64, f64)> {
    values(state, name).into_iter().map(|(step, loss)| (step, loss.exp())).collect()
}
