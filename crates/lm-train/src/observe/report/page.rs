//! The page: what one version of the report shows.

use std::fmt::Write as _;

use super::charts::{charts, values};
use super::facts::{Argument, RunFacts};
use super::html::{escape, marked};
use crate::observe::format::{count, duration, human_size, short_number};
use crate::observe::{LogRecord, Outcome, Sample, TrainerState};
use crate::sys::memory;

/// Everything that one version of the file shows.
pub(super) struct Page<'a> {
    pub facts: &'a RunFacts,
    pub samples: &'a [Sample],
    pub state: &'a TrainerState,
    pub outcome: Option<&'a Outcome>,
    /// Since training began in this process.
    pub seconds: Option<f64>,
    pub written_at: &'a str,
}

impl Page<'_> {
    pub fn render(&self) -> String {
        let title = escape(&self.facts.title);
        let refresh = if self.outcome.is_none() { r#"<meta http-equiv="refresh" content="30">"# } else { "" };
        let mut html = format!(
            r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{refresh}<title>{title}</title><style>{}</style></head><body><main>"#,
            include_str!("style.css")
        );
        html += &self.header(&title);
        html += &self.tiles();
        html += &charts(self.state, self.outcome);
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
        let eval = values(self.state, "eval_loss");
        if let (Some(first), Some(last)) = (eval.first(), eval.last()) {
            let best = eval.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            tile("Evaluation loss", &format!("{:.4}", last.1), &format!("best {best:.4}"));
            let note = if eval.len() > 1 { format!("first {}", short_number(first.1.exp())) } else { String::new() };
            tile("Perplexity", &short_number(last.1.exp()), &note);
        }
        let accuracy = values(self.state, "eval_accuracy");
        if let Some((_, last)) = accuracy.last() {
            let best = accuracy.iter().map(|(_, share)| *share).fold(0.0, f64::max);
            tile("Accuracy", &format!("{:.2} %", 100.0 * last), &format!("best {:.2} %", 100.0 * best));
        }
        let train = values(self.state, "loss");
        if let (Some(first), Some(last)) = (train.first(), train.last()) {
            let note = if train.len() > 1 { format!("first {:.4}", first.1) } else { String::new() };
            tile("Training loss", &format!("{:.4}", last.1), &note);
        }
        let speeds = values(self.state, LogRecord::TOKENS_PER_SECOND);
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

    fn samples(&self) -> String {
        let samples = self.samples;
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

#[cfg(test)]
mod tests {
    use super::super::facts::SplitFacts;
    use super::*;

    fn page(facts: &RunFacts, state: &TrainerState, outcome: Option<&Outcome>) -> String {
        page_with(facts, &[], state, outcome)
    }

    fn page_with(facts: &RunFacts, samples: &[Sample], state: &TrainerState, outcome: Option<&Outcome>) -> String {
        Page { facts, samples, state, outcome, seconds: Some(5.0), written_at: "2024-01-01 00:00:00" }.render()
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
            mask_token: Some("<mask>".to_owned()),
        };
        let samples = [Sample { prompt: evil.clone(), before: evil.clone(), after: Some(evil.clone()) }];
        let html = page_with(&facts, &samples, &run_of(2), Some(&Outcome::Failed(evil)));
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
}
