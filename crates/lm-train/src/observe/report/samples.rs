//! The texts that the model fills in or continues, as it learns.

use std::fmt::Write;

use super::html::escape;
use crate::observe::format::count;
use crate::observe::history::{Mark, Samples, Text};

/// A card per text: what the model is given, and what it made of it after each of several steps.
pub(super) fn section(samples: &Samples) -> String {
    if samples.given.is_empty() {
        return String::new();
    }
    let marks = || samples.given.iter().flatten().filter_map(|piece| piece.mark.as_ref());
    let (title, given, hint) = if marks().any(|mark| matches!(mark, Mark::Hidden { .. })) {
        let hint = "Marked in the text: the words that the model has to find. Below: its likeliest words with their \
                    probabilities, <mark class=\"right\">right</mark> or <mark class=\"wrong\">wrong</mark>.";
        ("Filled in as it learns", "text", hint)
    } else {
        ("Continued as it learns", "given", "Marked: what the model went on with.")
    };
    let mut html = format!(r#"<h2>{title}</h2><p class="hint">{hint}</p><section class="samples">"#);
    for (index, text) in samples.given.iter().enumerate() {
        let _ = write!(html, r#"<div class="card"><table><tbody><tr><th>{given}</th><td>{}</td></tr>"#, marked(text));
        for (step, texts) in &samples.versions {
            let label = if *step == 0 { "before".to_owned() } else { format!("step {}", count(*step)) };
            let Some(text) = texts.get(index) else { continue };
            let _ = write!(html, "<tr><th>{label}{}</th><td>{}</td></tr>", score(text), marked(text));
        }
        html += "</tbody></table></div>";
    }
    html + "</section>"
}

/// How many of the hidden tokens were found.
fn score(text: &Text) -> String {
    let guesses =
        text.iter().filter(|piece| matches!(piece.mark, Some(Mark::Right { .. } | Mark::Wrong { .. }))).count();
    let right = text.iter().filter(|piece| matches!(piece.mark, Some(Mark::Right { .. }))).count();
    if guesses == 0 { String::new() } else { format!("<i>{right} of {guesses}</i>") }
}

/// The text with what is the model's marked.
fn marked(text: &Text) -> String {
    let percent = |probability: f32| match 100.0 * probability {
        share if share < 0.5 => "&lt;1".to_owned(),
        share => format!("{share:.0}"),
    };
    let mut html = String::new();
    for piece in text {
        let word = escape(&piece.text);
        let _ = match &piece.mark {
            None => write!(html, "{word}"),
            Some(Mark::Added) => write!(html, "<mark>{word}</mark>"),
            Some(Mark::Hidden { seen }) => {
                write!(html, r#"<mark title="the model sees: {}">{word}</mark>"#, escape(seen))
            }
            Some(Mark::Right { probability }) => {
                write!(
                    html,
                    r#"<mark class="right" title="the true word">{word}<i>{}%</i></mark>"#,
                    percent(*probability)
                )
            }
            Some(Mark::Wrong { probability, truth, of_truth }) => write!(
                html,
                r#"<mark class="wrong" title="the true word: {} ({}%)">{word}<i>{}%</i></mark>"#,
                escape(truth),
                percent(*of_truth),
                percent(*probability)
            ),
        };
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::history::Piece;

    fn piece(text: &str, mark: Option<Mark>) -> Piece {
        Piece { text: text.to_owned(), mark }
    }

    #[test]
    fn every_word_of_the_models_is_marked() {
        let given = vec![piece("A ", None), piece("rose", Some(Mark::Hidden { seen: "[MASK]".into() }))];
        let wrong = Mark::Wrong { probability: 0.25, truth: "rose".into(), of_truth: 0.001 };
        let before = vec![piece("A ", None), piece("<b>", Some(wrong))];
        let after = vec![piece("A ", None), piece("rose", Some(Mark::Right { probability: 0.93 }))];
        let samples = Samples { given: vec![given], versions: vec![(0, vec![before]), (1200, vec![after])] };
        let html = section(&samples);
        for part in [
            r#"A <mark title="the model sees: [MASK]">rose</mark>"#,
            r#"<th>before<i>0 of 1</i></th><td>A <mark class="wrong" title="the true word: rose (&lt;1%)">&lt;b&gt;<i>25%</i></mark>"#,
            r#"<th>step 1,200<i>1 of 1</i></th><td>A <mark class="right" title="the true word">rose<i>93%</i></mark>"#,
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert_eq!(section(&Samples::default()), "");
    }

    #[test]
    fn a_continuation_is_marked() {
        let version = vec![piece("Once", None), piece("upon", Some(Mark::Added))];
        let samples = Samples { given: vec![vec![piece("Once", None)]], versions: vec![(7, vec![version])] };
        assert!(section(&samples).contains("<th>step 7</th><td>Once<mark>upon</mark></td>"));
    }
}
