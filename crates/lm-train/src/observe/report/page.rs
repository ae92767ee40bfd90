//! The page: what one version of the report shows.

use std::fmt::Write as _;

use super::charts::charts;
use super::data::RunData;
use super::facts::RunFacts;
use super::html::{escape, page};
use super::{samples, tables};
use crate::observe::format::{count, duration, human_size, short_number};
use crate::observe::notes::notes;
use crate::observe::{LogRecord, Outcome, TrainerState};
use crate::sys::memory;

/// Everything that one version of the file shows.
pub(super) struct Page<'a> {
    pub facts: &'a RunFacts,
    pub state: &'a TrainerState,
    pub outcome: Option<&'a Outcome>,
    /// Since training began in this process.
    pub seconds: Option<f64>,
    pub written_at: &'a str,
}

impl Page<'_> {
    pub fn render(&self) -> String {
        let data = RunData::new(self.facts, self.state, self.outcome);
        let refresh = if self.outcome.is_none() { r#"<meta http-equiv="refresh" content="30">"# } else { "" };
        let mut body = self.header();
        body += &self.tiles(&data);
        body += &self.notes();
        body += &charts(&data);
        body += &samples::section(&self.state.history.samples);
        body += &tables::facts(self.facts);
        body += &tables::arguments(self.facts);
        body += &data.island();
        page(&self.facts.title, refresh, &body, self.written_at)
    }

    fn header(&self) -> String {
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
            r#"<header><h1>{}</h1><span class="status {class}">{}</span><p>{}</p>"#,
            escape(&self.facts.title),
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

    fn tiles(&self, data: &RunData) -> String {
        if data.series.is_empty() {
            return String::new();
        }
        let mut tiles = String::from(r#"<section class="tiles">"#);
        let mut tile = |name: &str, value: &str, note: &str| {
            let _ = write!(
                tiles,
                r#"<div class="card tile"><span>{name}</span><b>{value}</b><span>{note}&nbsp;</span></div>"#
            );
        };
        let eval = data.points("eval_loss");
        if let (Some(first), Some(last)) = (eval.first(), eval.last()) {
            let best = eval.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            tile("Evaluation loss", &format!("{:.4}", last.1), &format!("best {best:.4}"));
            let note = if eval.len() > 1 { format!("first {}", short_number(first.1.exp())) } else { String::new() };
            tile("Perplexity", &short_number(last.1.exp()), &note);
        }
        let accuracy = data.points("eval_accuracy");
        if let Some((_, last)) = accuracy.last() {
            let best = accuracy.iter().map(|(_, share)| *share).fold(0.0, f64::max);
            tile("Accuracy", &format!("{:.2} %", 100.0 * last), &format!("best {:.2} %", 100.0 * best));
        }
        let train = data.points("loss");
        if let (Some(first), Some(last)) = (train.first(), train.last()) {
            let note = if train.len() > 1 { format!("first {:.4}", first.1) } else { String::new() };
            tile("Training loss", &format!("{:.4}", last.1), &note);
        }
        if let Some(mean) = data.figures.get(LogRecord::TOKENS_PER_SECOND) {
            let last = data.points(LogRecord::TOKENS_PER_SECOND).last().map_or(*mean, |(_, speed)| *speed);
            let whole = |speed: f64| count(speed.max(0.0).round() as u64);
            tile("Tokens / s", &whole(*mean), &format!("now {}", whole(last)));
        }
        if let Some(seconds) = data.figures.get("train_runtime").copied().or(self.seconds) {
            tile("Training time", &duration(seconds), &format!("{} steps", count(self.state.global_step)));
        }
        if let Some(peak) = memory::peak() {
            tile("Peak memory", &human_size(peak), "of this process");
        }
        tiles + "</section>"
    }

    fn notes(&self) -> String {
        let finished = self.outcome == Some(&Outcome::Finished);
        let notes = notes(self.state, &self.facts.data, self.facts.length_flag, finished);
        if notes.is_empty() {
            return String::new();
        }
        let lines: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        format!(r#"<section class="card notes"><h2>What to notice</h2><ul>{lines}</ul></section>"#)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Argument, SplitFacts};
    use super::*;
    use crate::observe::StepInfo;
    use crate::observe::history::{Mark, Piece, Samples, What};

    fn page(facts: &RunFacts, state: &TrainerState, outcome: Option<&Outcome>) -> String {
        Page { facts, state, outcome, seconds: Some(5.0), written_at: "2024-01-01 00:00:00" }.render()
    }

    /// A run that logs every `every` steps.
    fn run_of(steps: u64, every: u64) -> TrainerState {
        let mut state = TrainerState { max_steps: steps, logging_steps: every, ..TrainerState::default() };
        for step in 1..=steps {
            state.global_step = step;
            let loss = 8.0 / (step as f64).sqrt();
            let info =
                StepInfo { loss, grad_norm: 1.0, learning_rate: 1e-4, tokens: 100, real_tokens: 90, seconds: 0.1 };
            state.history.curve.add(step, &info, || Some(1 << 30));
            if step % every == 0 {
                state.log(LogRecord::new().with("loss", loss));
                state.log(LogRecord::new().with("eval_loss", loss + 0.1).with("eval_accuracy", 0.5));
            }
        }
        state
    }

    /// Every element that is opened is closed, in order. The script's text is no markup.
    fn assert_well_formed(html: &str) {
        let mut open = Vec::new();
        let html = html.replace(include_str!("script.js"), "");
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
        for steps in [0, 1, 3, 2000, 20_000] {
            let html = page(&RunFacts::default(), &run_of(steps, 1), None);
            assert_well_formed(&html);
            assert_eq!(html.contains("No step has been made yet"), steps == 0);
            assert!(html.len() < 250_000, "{} bytes for {steps} steps", html.len());
            let page = html.replace("http://www.w3.org/2000/svg", "");
            for network in ["http://", "https://", "url(", "@import", "src=", "fetch("] {
                assert!(!page.contains(network), "{network}");
            }
        }
    }

    #[test]
    fn a_run_that_logs_nothing_has_curves() {
        let html = page(&RunFacts::default(), &run_of(200, 500), Some(&Outcome::Finished));
        for part in
            ["<figcaption><span>Loss<", ">Learning rate<", ">Tokens per second<", ">Memory of the process (GiB)<"]
        {
            assert!(html.contains(part), "{part}");
        }
        assert!(html.contains("What to notice") && html.contains("still falling"), "the curve is what notes go by");
    }

    #[test]
    fn the_csv_file_needs_no_network() {
        let html = page(&RunFacts::default(), &run_of(3, 1), None);
        let csv = html.split("data:text/csv;charset=utf-8,").nth(1).and_then(|rest| rest.split('"').next());
        let csv = csv.expect("a link").replace("%0A", "\n");
        assert_eq!(csv.lines().count(), 4, "{csv}");
        assert!(csv.starts_with("step,eval_accuracy,eval_loss,grad_norm,") && csv.contains("\n1,0.5,8.1,1,"), "{csv}");
    }

    #[test]
    fn everything_is_escaped() {
        let evil = r#"</style><script>alert("x")</script>'&"#.to_owned();
        let facts = RunFacts {
            title: evil.clone(),
            task: evil.clone(),
            command: evil.clone(),
            model: vec![(evil.clone(), evil.clone())],
            machine: vec![(evil.clone(), evil.clone())],
            arguments: vec![
                Argument { name: evil.clone(), value: evil.clone(), default: "\u{0}".to_owned() },
                Argument { name: "long".to_owned(), value: evil.repeat(20), default: evil.repeat(20) + "!" },
            ],
            data: vec![SplitFacts { split: evil.clone(), truncated_share: Some(0.5), ..SplitFacts::default() }],
            length_flag: "--block_size",
            unigram_perplexity: Some(f64::INFINITY),
        };
        let mut state = run_of(2, 1);
        let piece = |mark| Piece { text: evil.clone(), mark };
        let wrong = Mark::Wrong { probability: f32::NAN, truth: evil.clone(), of_truth: 0.0 };
        let texts = vec![vec![piece(None), piece(Some(wrong)), piece(Some(Mark::Hidden { seen: evil.clone() }))]];
        state.history.samples = Samples { given: texts.clone(), versions: vec![(0, texts)] };
        state.history.note(1, What::Stopped);
        let html = page(&facts, &state, Some(&Outcome::Failed(evil)));
        assert_well_formed(&html);
        assert_eq!(html.matches("<script").count(), 2, "the figures and the script");
        assert!(!html.contains('\u{0}') && !html.contains("alert(\"x"));
    }

    #[test]
    fn the_status_is_plain() {
        let status = |outcome: Option<Outcome>| page(&RunFacts::default(), &run_of(3, 1), outcome.as_ref());
        assert!(status(None).contains("running") && status(None).contains("http-equiv=\"refresh\""));
        assert!(!status(Some(Outcome::Finished)).contains("refresh"));
        assert!(status(Some(Outcome::Stopped("SIGTERM".to_owned()))).contains("stopped by SIGTERM"));
        assert!(status(Some(Outcome::Failed("disk full".to_owned()))).contains("disk full"));
    }
}
