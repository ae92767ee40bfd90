//! `--compare`: one page of several runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use super::axes::Scale;
use super::chart::Chart;
use super::charts::{drawn, perplexities};
use super::data::RunData;
use super::facts::RunFacts;
use super::html::{escape, page};
use super::series::{Point, Series};
use super::{REPORT_NAME, now, tables};
use crate::observe::format::{count, duration, short_number};
use crate::observe::{LogRecord, TRAINER_STATE_NAME, TrainerState};

/// The page's name.
const COMPARE_NAME: &str = "compare.html";

/// Colours of lines; later runs take them again, dashed.
const COLOURS: usize = 8;

/// Why runs cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The same folder stands there twice.
    #[error("--compare {}: named twice", .0.display())]
    Twice(PathBuf),
    /// It is not there, or is a file.
    #[error("--compare {}: no such folder", .0.display())]
    NoFolder(PathBuf),
    /// There is nothing of a run in it.
    #[error("--compare {}: neither {REPORT_NAME} nor {TRAINER_STATE_NAME} is in it; name the output folder of a run", .0.display())]
    NoRun(PathBuf),
    /// A file of it cannot be read.
    #[error("--compare: {0}")]
    Unreadable(String),
    /// The page cannot be written.
    #[error("{}: {}", .0.display(), .1)]
    Write(PathBuf, io::Error),
}

/// A run, and what it is called.
struct Run {
    name: String,
    data: RunData,
}

/// Writes the page of the runs in these output folders into the folder `into`, and gives its path.
///
/// # Errors
/// If a folder is no run's, or the page cannot be written.
pub fn compare(folders: &[PathBuf], into: &Path) -> Result<PathBuf, CompareError> {
    let mut seen = BTreeSet::new();
    let mut runs = Vec::new();
    for folder in folders {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if !seen.insert(whole) {
            return Err(CompareError::Twice(folder.clone()));
        }
        runs.push(Run { name: folder.display().to_string(), data: read(folder)? });
    }
    let path = into.join(COMPARE_NAME);
    let failed = |source| CompareError::Write(path.clone(), source);
    std::fs::create_dir_all(into).map_err(failed)?;
    lm_files::write(&path, render(&runs, &now()).as_bytes()).map_err(failed)?;
    Ok(path)
}

/// The figures of a run: of its report, else of its log, as Python leaves it too.
fn read(folder: &Path) -> Result<RunData, CompareError> {
    if !folder.is_dir() {
        return Err(CompareError::NoFolder(folder.to_owned()));
    }
    let report = folder.join(REPORT_NAME);
    if report.is_file() {
        let unreadable =
            |error: &dyn std::fmt::Display| CompareError::Unreadable(format!("{}: {error}", report.display()));
        let html = lm_files::read_to_string(&report, lm_files::SMALL).map_err(|error| unreadable(&error))?;
        if let Some(data) = RunData::of_page(&html) {
            return data.map_err(|error| unreadable(&error));
        }
    }
    let path = folder.join(TRAINER_STATE_NAME);
    if !path.is_file() {
        return Err(CompareError::NoRun(folder.to_owned()));
    }
    let state = TrainerState::load(&path).map_err(|error| CompareError::Unreadable(error.to_string()))?;
    Ok(RunData { status: String::new(), ..RunData::new(&RunFacts::default(), &state, None) })
}

fn render(runs: &[Run], written_at: &str) -> String {
    let title = format!("{} runs compared", runs.len());
    let mut body = format!("<header><h1>{title}</h1></header>");
    body += &final_figures(runs);
    let _ = write!(body, r#"<section class="charts compare">{}</section>"#, drawn(&charts(runs), &RunData::default()));
    let facts = |data: &RunData| data.facts.clone();
    let arguments = |data: &RunData| data.arguments.clone().into_iter().collect();
    body += &differing("Arguments that differ", runs, arguments, |data, name| data.given.contains(name));
    body += &differing("Models and machines that differ", runs, facts, |_, _| true);
    page(&title, "", &body, written_at)
}

/// The class of a run's colour.
fn colour(index: usize) -> String {
    let again = if index < COLOURS { "" } else { " again" };
    format!("c{}{again}", index % COLOURS)
}

fn key(index: usize, run: &Run) -> String {
    format!(r#"<span class="key {}">{}</span>"#, colour(index), escape(&run.name))
}

/// A figure's name, its title, which of them is the best, and how it is written.
type Column = (&'static str, &'static str, Best, fn(f64) -> String);

/// A row for each run: how it ended, and its last figures; the best of each column stands out.
fn final_figures(runs: &[Run]) -> String {
    let columns: [Column; 7] = [
        ("eval_loss", "Evaluation loss", Best::Least, |loss| format!("{loss:.4}")),
        ("best_eval_loss", "Best", Best::Least, |loss| format!("{loss:.4}")),
        (LogRecord::PERPLEXITY, "Perplexity", Best::Least, short_number),
        ("eval_accuracy", "Accuracy", Best::Greatest, |share| format!("{:.2} %", 100.0 * share)),
        ("train_loss", "Mean training loss", Best::None, |loss| format!("{loss:.4}")),
        (LogRecord::TOKENS_PER_SECOND, "Tokens / s", Best::Greatest, |speed| count(speed.round() as u64)),
        ("train_runtime", "Time", Best::None, duration),
    ];
    let values = |name: &str| runs.iter().filter_map(|run| run.data.figures.get(name).copied()).collect::<Vec<_>>();
    let columns: Vec<_> = columns.into_iter().filter(|(name, ..)| !values(name).is_empty()).collect();
    let mut html = String::from(
        r#"<h2>Final figures</h2><div class="card wide figures"><table><thead><tr><th>Run</th><th>Status</th><th class="n">Steps</th>"#,
    );
    columns.iter().for_each(|(_, title, ..)| html += &format!(r#"<th class="n">{title}</th>"#));
    html += "</tr></thead><tbody>";
    for (index, run) in runs.iter().enumerate() {
        let (key, data) = (key(index, run), &run.data);
        let _ = write!(
            html,
            r#"<tr><td>{key}</td><td>{}</td><td class="n">{}</td>"#,
            escape(&data.status),
            count(data.step)
        );
        for (name, _, best, show) in &columns {
            html += &match data.figures.get(*name) {
                None => r#"<td class="n muted">–</td>"#.to_owned(),
                Some(value) if best.of(&values(name)) == Some(*value) => {
                    format!(r#"<td class="n"><b>{}</b></td>"#, show(*value))
                }
                Some(value) => format!(r#"<td class="n">{}</td>"#, show(*value)),
            };
        }
        html += "</tr>";
    }
    html + "</tbody></table></div>"
}

/// Which value of several is the best.
enum Best {
    Least,
    Greatest,
    None,
}

impl Best {
    fn of(&self, values: &[f64]) -> Option<f64> {
        match self {
            Self::Least => values.iter().copied().reduce(f64::min),
            Self::Greatest => values.iter().copied().reduce(f64::max),
            Self::None => None,
        }
    }
}

/// The curves of all runs over one another.
fn charts(runs: &[Run]) -> Vec<Chart> {
    let chart = |title: &str, scale, smooth, name: &str, of: fn(&[Point]) -> Vec<Point>| Chart {
        title: title.to_owned(),
        series: runs
            .iter()
            .enumerate()
            .map(|(index, run)| Series::new(&run.name, &colour(index), of(run.data.points(name))))
            .collect(),
        scale,
        smooth,
        level: None,
    };
    let as_is: fn(&[Point]) -> Vec<Point> = <[Point]>::to_vec;
    vec![
        chart("Training loss", Scale::Range, true, "loss", as_is),
        chart("Evaluation loss", Scale::Range, true, "eval_loss", as_is),
        chart("Perplexity of the evaluation", Scale::Log, true, "eval_loss", perplexities),
        chart("Accuracy", Scale::Range, false, "eval_accuracy", as_is),
        chart("Learning rate", Scale::FromZero, false, "learning_rate", as_is),
        chart("Gradient norm before clipping", Scale::FromZeroUnlessSpread, true, "grad_norm", as_is),
        chart("Tokens per second", Scale::FromZero, true, LogRecord::TOKENS_PER_SECOND, as_is),
    ]
}

/// A row for each name whose value is not the same in all runs that have one. What only some have, as each program has
/// arguments of its own, has a row where one of them has it for a reason (`is_meant`).
fn differing(
    title: &str,
    runs: &[Run],
    of: impl Fn(&RunData) -> Vec<(String, String)>,
    is_meant: impl Fn(&RunData, &str) -> bool,
) -> String {
    let all: Vec<BTreeMap<String, String>> = runs.iter().map(|run| of(&run.data).into_iter().collect()).collect();
    let names: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let mut rows = String::new();
    for name in names {
        let values: Vec<Option<&String>> = all.iter().map(|run| run.get(name)).collect();
        let known: BTreeSet<&String> = values.iter().copied().flatten().collect();
        let of_some = values.contains(&None) && runs.iter().any(|run| is_meant(&run.data, name));
        if known.len() < 2 && !of_some {
            continue;
        }
        let _ = write!(rows, r#"<tr><td class="name code">{}</td>"#, escape(name));
        for (value, run) in values.into_iter().zip(&all) {
            let _ = match value {
                Some(value) => write!(rows, r#"<td class="code">{}</td>"#, tables::folded(value)),
                None if run.is_empty() => write!(rows, r#"<td class="muted">unknown</td>"#),
                None => write!(rows, r#"<td class="muted">–</td>"#),
            };
        }
        rows += "</tr>";
    }
    if rows.is_empty() {
        return String::new();
    }
    let heads: String = runs.iter().enumerate().map(|(index, run)| format!("<th>{}</th>", key(index, run))).collect();
    format!(
        r#"<h2>{title}</h2><div class="card wide beside" style="--runs:{}"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"#,
        runs.len()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Argument;
    use super::*;
    use crate::observe::Outcome;

    fn state(loss: f64) -> TrainerState {
        let mut state = TrainerState { global_step: 5, max_steps: 5, ..TrainerState::default() };
        state.log(LogRecord::new().with("loss", loss).with("learning_rate", 1e-4));
        state.log(LogRecord::new().with("eval_loss", loss + 0.5));
        state
    }

    fn run(name: &str, rate: &str, loss: f64) -> Run {
        let argument =
            |name: &str, value: &str| Argument { name: name.into(), value: value.into(), default: "0".into() };
        let facts = RunFacts {
            arguments: vec![argument("learning_rate", rate), argument("seed", "<7>")],
            model: vec![("parameters".into(), "10".into())],
            ..RunFacts::default()
        };
        Run { name: name.into(), data: RunData::new(&facts, &state(loss), Some(&Outcome::Finished)) }
    }

    #[test]
    fn what_differs_is_shown_and_what_is_the_same_is_not() {
        let html = render(&[run("a", "1e-4", 2.0), run("<b>", "2e-4", 1.0)], "now");
        for part in ["2 runs compared", "learning_rate</td><td class=\"code\">1e-4</td><td class=\"code\">2e-4</td>"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(html.contains("<b>1.5000</b>") && !html.contains("<b>2.5000</b>"), "the lower loss stands out");
        assert!(!html.contains("seed") && !html.contains("machines that differ"), "the same in both");
        assert_eq!(html.matches(r#"data-line="c1""#).count(), 4, "a line of the second run in each chart");
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b><"));
    }

    /// Programs have arguments of their own: what is at its default makes no difference, nor does what nobody knows.
    #[test]
    fn what_only_some_runs_have_is_shown_where_it_is_meant() {
        let mut other = run("clm", "1e-4", 2.0);
        for (name, value) in [("block_size", "64"), ("top_k", "50")] {
            other.data.arguments.insert(name.into(), value.into());
        }
        other.data.given.insert("block_size".into());
        let mut pythons = run("pythons", "1e-4", 2.0);
        (pythons.data.arguments, pythons.data.given) = Default::default();
        let html = render(&[run("mlm", "1e-4", 2.0), other, pythons], "now");
        let [dash, value, unknown] = ["muted\">–", "code\">64", "muted\">unknown"];
        let row =
            format!("block_size</td><td class=\"{dash}</td><td class=\"{value}</td><td class=\"{unknown}</td></tr>");
        assert!(html.contains(&row), "{html}");
        assert!(!html.contains(">top_k<"), "at its default");
        // The rate of two runs is given and the same; that of the third is unknown.
        assert!(html.contains(">learning_rate<"));
        let html = render(&[run("a", "0", 2.0), run("b", "0", 2.0)], "now");
        assert!(!html.contains("Arguments that differ"), "{html}");
    }

    #[test]
    fn many_runs_have_many_colours() {
        let classes: BTreeSet<String> = (0..16).map(colour).collect();
        assert_eq!(classes.len(), 16);
    }

    #[test]
    fn pythons_folder_and_ours_compare_and_others_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["ours", "pythons", "empty", "broken"] {
            fs::create_dir(path(name)).expect("made");
        }
        fs::write(path("ours/report.html"), format!("<html>{}", run("", "1", 3.0).data.island())).expect("written");
        state(2.0).save(&path("pythons/trainer_state.json")).expect("written");
        fs::write(path("broken/report.html"), r#"<script type="application/json" id="run">{</script>"#)
            .expect("written");
        let of = |names: &[&str]| compare(&names.iter().map(|name| path(name)).collect::<Vec<_>>(), &path("new/page"));
        let written = of(&["ours", "pythons"]).expect("written");
        assert_eq!(written, path("new/page/compare.html"));
        let html = fs::read_to_string(written).expect("a page");
        assert!(html.contains("unknown") && html.contains("2.5000") && html.contains("3.5000"));
        for (names, said) in [
            (&["ours", "ours"], "named twice"),
            (&["ours", "absent"], "no such folder"),
            (&["ours", "empty"], "neither report.html nor trainer_state.json"),
            (&["ours", "broken"], "broken/report.html: EOF"),
        ] {
            let error = of(names).expect_err("refused").to_string();
            assert!(error.contains(said) && error.starts_with("--compare") && !error.contains('\n'), "{error}");
        }
    }
}
