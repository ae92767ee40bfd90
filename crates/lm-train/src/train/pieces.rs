//! Tokens as pieces of text: which letters of a text are whose.

use std::ops::Range;

use lm_data::tokenizer::LmTokenizer;

use crate::observe::history::{Mark, Piece, Text};

/// The text of `ids` in pieces: the tokens of each range, which are in order, are a piece of their own with its mark.
///
/// A token's letters are those that the text of all tokens up to it has in common with the whole text, and the text of the
/// tokens before it has not: word pieces, bytes of a letter and spaces fall into place whatever the tokenizer's decoder does.
pub fn pieces(tokenizer: &LmTokenizer, ids: &[u32], marks: Vec<(Range<usize>, Mark)>) -> Text {
    let whole = tokenizer.decode(ids);
    let mut at = 0;
    let mut end_of = |tokens: usize| {
        at = match tokens {
            // Some decoders cannot do with nothing.
            0 => 0,
            all if all == ids.len() => whole.len(),
            _ => at.max(common(&tokenizer.decode(&ids[..tokens]), &whole)),
        };
        at
    };
    let mut text = Text::new();
    let mut written = 0;
    for (range, mark) in marks {
        let (begin, end) = (end_of(range.start), end_of(range.end));
        let piece = &whole[begin..end];
        let (word, space) = (piece.trim(), piece.len() - piece.trim_start().len());
        if word.is_empty() {
            // A token that shows no letter: a part of one, a space, nothing.
            push(&mut text, &whole[written..end], None);
            let spelled: String = ids[range].iter().filter_map(|id| tokenizer.token(*id)).collect();
            push(&mut text, &spelled, Some(mark));
        } else {
            push(&mut text, &whole[written..begin + space], None);
            push(&mut text, word, Some(mark));
        }
        written = if word.is_empty() { end } else { begin + space + word.len() };
    }
    push(&mut text, &whole[written..], None);
    trimmed(text)
}

fn push(text: &mut Text, piece: &str, mark: Option<Mark>) {
    if !piece.is_empty() || mark.is_some() {
        text.push(Piece { text: piece.to_owned(), mark });
    }
}

/// Bytes at the beginning that two texts share, whole letters only.
pub fn common(a: &str, b: &str) -> usize {
    let differs = a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y);
    differs.map_or(a.len().min(b.len()), |((at, _), _)| at)
}

/// Without spaces around it.
fn trimmed(mut text: Text) -> Text {
    if let Some(first) = text.first_mut() {
        first.text = first.text.trim_start().to_owned();
    }
    if let Some(last) = text.last_mut() {
        last.text = last.text.trim_end().to_owned();
    }
    text.retain(|piece| !piece.text.is_empty() || piece.mark.is_some());
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::observe::history::joined;

    #[test]
    fn letters_in_common() {
        for (a, b, bytes) in
            [("", "ab", 0), ("ab", "abc", 2), ("aé", "aéx", 3), ("a\u{fffd}", "aé", 1), ("ab", "ba", 0)]
        {
            assert_eq!(common(a, b), bytes, "{a} {b}");
        }
    }

    /// Every second token marked, in every kind of tokenizer: together the pieces are the text, and none lost its mark.
    #[test]
    fn pieces_of_any_tokenizer_are_the_text() {
        let mut folders = 0;
        for kind in ["tokenizers", "family_tokenizers"] {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lm-data/tests/fixtures").join(kind);
            for folder in std::fs::read_dir(fixtures).expect("listed") {
                let folder = folder.expect("a name").path();
                let Ok(tokenizer) = LmTokenizer::from_folder(&folder) else { continue };
                folders += 1;
                let texts = ["the old clock, it doesn't strike 12 .", "naïve 日本 🙂 walking"];
                // RoFormer's refuses Chinese.
                for mut encoded in texts.into_iter().filter_map(|text| tokenizer.encode_batch(&[text], None).ok()) {
                    let ids = encoded.remove(0).ids;
                    let marks: Vec<_> = (0..ids.len()).step_by(2).map(|at| (at..at + 1, Mark::Added)).collect();
                    let marked = marks.len();
                    let text = pieces(&tokenizer, &ids, marks);
                    let show = folder.display();
                    assert_eq!(text.iter().filter(|piece| piece.mark.is_some()).count(), marked, "{show}: {text:?}");
                    assert!(text.iter().all(|piece| !piece.text.is_empty()), "{show}: {text:?}");
                    let letters = |text: &str| text.split_whitespace().collect::<String>();
                    let (joined, whole) = (letters(&joined(&text)), letters(&tokenizer.decode(&ids)));
                    // A token without letters of its own is spelled as the vocabulary has it.
                    assert!(joined.len() >= whole.len(), "{show}: {joined} of {whole}");
                    if whole.is_ascii() && joined.is_ascii() {
                        assert_eq!(joined, whole, "{show}");
                    }
                }
            }
        }
        assert!(folders > 5, "{folders} tokenizers");
    }
}
