//! What of a run is drawn.

use super::axes::{Axes, Scale};
use super::chart::{Chart, Width};
use super::data::RunData;
use super::series::{Point, Series};
use crate::observe::LogRecord;
use crate::observe::history::What;

/// The charts of a run, as far as it has come.
pub(super) fn charts(data: &RunData) -> String {
    let drawn = drawn(&all(data), data);
    if drawn.is_empty() {
        return r#"<div class="card note">No step has been made yet.</div>"#.to_owned();
    }
    let has = |what| data.events.iter().any(|event| event.what == what);
    let legend: String = [
        (What::Checkpoint, r#"<span class="event checkpoint">checkpoint</span>"#),
        (What::Stopped, r#"<span class="event stopped">stopped</span>"#),
        (What::Resumed, r#"<span class="event resumed">resumed</span>"#),
    ]
    .into_iter()
    .filter(|(what, _)| has(*what))
    .map(|(_, html)| html)
    .collect();
    let csv = data.csv().replace('\n', "%0A");
    format!(
        r#"<section class="charts">{drawn}</section><p class="under">{legend}<a download="curves.csv" href="data:text/csv;charset=utf-8,{csv}">Download the curves as CSV</a></p>"#
    )
}

/// The figures of the charts that have data, over the same steps.
pub(super) fn drawn(charts: &[Chart], data: &RunData) -> String {
    let charts: Vec<&Chart> = charts.iter().filter(|chart| chart.has_data()).collect();
    let steps = Axes::steps_of(charts.iter().flat_map(|chart| &chart.series));
    // Rows of two; an odd number of charts is made up by one row of three.
    let three =
        if charts.len() % 2 == 1 && charts.len() >= 3 { charts.len() / 4 * 2..charts.len() / 4 * 2 + 3 } else { 0..0 };
    let width = |place: usize| if three.contains(&place) { Width::Third } else { Width::Half };
    charts.iter().enumerate().map(|(place, chart)| chart.figure(width(place), steps, &data.events)).collect()
}

/// Every chart, those without data too.
fn all(data: &RunData) -> Vec<Chart> {
    let both = |name: &str, of: fn(&[Point]) -> Vec<Point>| {
        vec![
            Series::new("train", "train", of(data.points(name))),
            Series::new("evaluation", "eval", of(data.points(&format!("eval_{name}")))),
        ]
    };
    let one = |name: &str| vec![Series::new("", "train", data.points(name).to_vec())];
    let chart =
        |title: &str, scale, smooth, series| Chart { title: title.to_owned(), series, scale, smooth, level: None };
    let (unit, memory) = in_binary_unit(data.points(LogRecord::MEMORY));
    let accuracy = vec![Series::new("evaluation", "eval", data.points("eval_accuracy").to_vec())];
    vec![
        chart("Loss", Scale::Range, true, both("loss", <[Point]>::to_vec)),
        Chart {
            level: data.unigram_perplexity.map(|perplexity| ("unigram baseline", perplexity)),
            ..chart("Perplexity", Scale::Log, true, both("loss", perplexities))
        },
        chart("Accuracy", Scale::Range, false, accuracy),
        chart("Learning rate", Scale::FromZero, false, one("learning_rate")),
        chart("Gradient norm before clipping", Scale::FromZeroUnlessSpread, true, one("grad_norm")),
        chart("Tokens per second", Scale::FromZero, true, one(LogRecord::TOKENS_PER_SECOND)),
        chart(
            &format!("Memory of the process ({unit})"),
            Scale::FromZero,
            false,
            vec![Series::new("", "train", memory)],
        ),
    ]
}

/// exp of each loss.
pub(super) fn perplexities(losses: &[Point]) -> Vec<Point> {
    losses.iter().map(|(step, loss)| (*step, loss.exp())).collect()
}

/// Bytes in the unit that suits most of them.
fn in_binary_unit(bytes: &[Point]) -> (&'static str, Vec<Point>) {
    let most = bytes.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
    let (unit, size) = if most >= 1024_f64.powi(3) { ("GiB", 1024_f64.powi(3)) } else { ("MiB", 1024_f64.powi(2)) };
    (unit, bytes.iter().map(|(step, bytes)| (*step, bytes / size)).collect())
}
