//! The tables of a page: data, model, machine, arguments.

use std::fmt::Write;

use super::facts::{Argument, RunFacts};
use super::html::escape;
use crate::observe::format::count;

/// From this many letters on, a value is folded.
const LONG: usize = 120;
/// Letters of a folded value that show.
const SHOWN: usize = 60;

/// What is known of data, model and machine.
pub(super) fn facts(facts: &RunFacts) -> String {
    let tables = [data(facts), pairs("Model", &facts.model), pairs("Machine and program", &facts.machine)].concat();
    if tables.is_empty() { tables } else { format!(r#"<section class="two">{tables}</section>"#) }
}

fn data(facts: &RunFacts) -> String {
    if facts.data.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        r#"<div><h2>Data</h2><div class="card wide"><table><thead><tr><th>Split</th><th class="n">Examples</th><th class="n">Tokens</th><th class="n">Padding</th><th class="n">Truncated</th></tr></thead><tbody>"#,
    );
    for split in &facts.data {
        let share = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
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
    html + "</tbody></table></div></div>"
}

fn pairs(title: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut html = format!(r#"<div><h2>{title}</h2><div class="card wide"><table>"#);
    for (name, value) in pairs {
        let _ = write!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(name), folded(value));
    }
    html + "</table></div></div>"
}

/// The arguments that differ from their default; folded, the others and the command.
pub(super) fn arguments(facts: &RunFacts) -> String {
    let mut html = String::new();
    let (changed, kept): (Vec<_>, Vec<_>) =
        facts.arguments.iter().partition(|argument| argument.value != argument.default);
    if !changed.is_empty() {
        let head = "<thead><tr><th>Argument</th><th>Value</th><th>Default</th></tr></thead>";
        let row = |Argument { name, value, default }: &Argument| {
            let [name, value, default] = [escape(name), folded(value), folded(default)];
            format!(
                r#"<tr><td class="name code">{name}</td><td class="code">{value}</td><td class="code muted">{default}</td></tr>"#
            )
        };
        let rows: String = changed.into_iter().map(row).collect();
        let _ = write!(
            html,
            r#"<h2>Arguments</h2><div class="card wide args"><table>{head}<tbody>{rows}</tbody></table></div>"#
        );
    }
    if !kept.is_empty() {
        let row = |Argument { name, value, .. }: &Argument| {
            format!(r#"<tr><td class="name code">{}</td><td class="code">{}</td></tr>"#, escape(name), folded(value))
        };
        let count = kept.len();
        let rows: String = kept.into_iter().map(row).collect();
        let _ = write!(
            html,
            r#"<details class="card wide args"><summary>{count} arguments at their default</summary><table><tbody>{rows}</tbody></table></details>"#
        );
    }
    if !facts.command.is_empty() {
        let _ = write!(
            html,
            r#"<details class="card"><summary>Command</summary><pre class="code">{}</pre></details>"#,
            escape(&facts.command)
        );
    }
    html
}

/// A value; of a long one the beginning, and the whole when it is opened.
pub(super) fn folded(value: &str) -> String {
    if value.chars().count() < LONG {
        return escape(value);
    }
    let beginning: String = value.chars().take(SHOWN).collect();
    format!(r#"<details class="long"><summary>{}…</summary>{}</details>"#, escape(&beginning), escape(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_folded() {
        assert_eq!(folded("a<b"), "a&lt;b");
        let long = "é".repeat(LONG);
        let html = folded(&long);
        assert!(html.starts_with(&format!(r#"<details class="long"><summary>{}…</summary>"#, "é".repeat(SHOWN))));
        assert!(html.contains(&long));
    }
}
