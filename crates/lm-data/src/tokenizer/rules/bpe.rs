//! Byte-pair encoding as Python's older classes do it: over any characters, whether or not pieces are in the vocabulary.

use std::collections::HashMap;
use std::ops::Range;

/// Pairs of pieces in the order in which they are joined.
pub(super) struct Merges {
    /// "left right", in order.
    lines: Vec<String>,
    ranks: HashMap<String, u32>,
}

impl Merges {
    /// Reads the lines of merges.txt that are merges; words behind the first two are frequencies.
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut ranks = HashMap::new();
        for (rank, line) in lines.enumerate() {
            let mut parts = line.split_whitespace();
            if let (Some(left), Some(right)) = (parts.next(), parts.next()) {
                // A later one of the same counts, as in Python's `dict(zip(merges, …))`.
                ranks.insert(format!("{left} {right}"), rank as u32);
            }
        }
        let mut lines: Vec<(u32, String)> = ranks.iter().map(|(pair, rank)| (*rank, pair.clone())).collect();
        lines.sort_unstable();
        Self { lines: lines.into_iter().map(|(_, pair)| pair).collect(), ranks }
    }

    /// The merges, best first.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The pieces of a word whose last character has `</w>` behind it.
    pub fn pieces(&self, word: &str) -> Vec<String> {
        let text = format!("{word}</w>");
        let ends = word.char_indices().skip(1).map(|(start, _)| start).chain([text.len()]);
        let mut start = 0;
        let mut pieces: Vec<Range<usize>> = ends.map(|end| std::mem::replace(&mut start, end)..end).collect();
        let mut key = String::new();
        while pieces.len() > 1 {
            let mut rank = |left: &Range<usize>, right: &Range<usize>| {
                key.clear();
                key.push_str(&text[left.clone()]);
                key.push(' ');
                key.push_str(&text[right.clone()]);
                self.ranks.get(&key).copied()
            };
            let best =
                pieces.windows(2).filter_map(|pair| Some((rank(&pair[0], &pair[1])?, pair))).min_by_key(|(r, _)| *r);
            let Some((_, best)) = best else { break };
            let [left, right] = [&best[0], &best[1]].map(|piece| text[piece.clone()].to_owned());
            let mut joined: Vec<Range<usize>> = Vec::with_capacity(pieces.len());
            let mut rest = pieces.iter().peekable();
            while let Some(piece) = rest.next() {
                let next = rest.next_if(|next| text[piece.clone()] == left && text[(*next).clone()] == right);
                joined.push(piece.start..next.unwrap_or(piece).end);
            }
            pieces = joined;
        }
        pieces.into_iter().map(|piece| text[piece].to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_joined_in_order_everywhere_at_once() {
        let merges = Merges::new(["a b 12", "ab c</w>", "x y", "ab ab", "x y 3"].into_iter());
        assert_eq!(merges.pieces("abc"), ["abc</w>"]);
        assert_eq!(merges.pieces("ababd"), ["abab", "d</w>"]);
        assert_eq!(merges.pieces("é"), ["é</w>"]);
        assert_eq!(merges.lines(), ["a b", "ab c</w>", "ab ab", "x y"]);
        assert_eq!(merges.pieces("aaa"), ["a", "a", "a</w>"]);
    }
}
