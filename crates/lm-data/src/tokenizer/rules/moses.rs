//! The Moses tokenizer and its normalisation of punctuation as `sacremoses` has them, step by step: each step is one of
//! its regular expressions, and what they make of odd texts is part of the result.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

/// Ranges of characters and abbreviations; a copy of Perl's view of Unicode, of which no library has this version.
const DATA: &str = include_str!("moses.txt");

/// A language with rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    French,
}

/// Characters as sorted ranges.
struct Class(Vec<(u32, u32)>);

impl Class {
    fn has(&self, character: char) -> bool {
        let code = u32::from(character);
        let after = self.0.partition_point(|(first, _)| *first <= code);
        after > 0 && code <= self.0[after - 1].1
    }
}

struct Tables {
    alphanumeric: Class,
    alphabetic: Class,
    numeric: Class,
    lower: Class,
    /// By language: abbreviations, and those that are ones before numbers only.
    abbreviations: [(HashSet<&'static str>, HashSet<&'static str>); 2],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let lines: HashMap<&str, &str> =
        DATA.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect();
    let words = |name: &str| lines.get(name).copied().unwrap_or_default().split_whitespace();
    let code = |text: &str| u32::from_str_radix(text, 16).unwrap_or_default();
    let class = |name: &str| {
        Class(
            words(name)
                .map(|range| range.split_once('-').unwrap_or((range, range)))
                .map(|(a, b)| (code(a), code(b)))
                .collect(),
        )
    };
    let abbreviations = |language: &str| (words(language).collect(), words(&format!("{language}-numeric")).collect());
    Tables {
        alphanumeric: class("IsAlnum"),
        alphabetic: class("IsAlpha"),
        numeric: class("IsN"),
        lower: class("IsLower"),
        abbreviations: [abbreviations("en"), abbreviations("fr")],
    }
});

/// Python's `str.isspace`: Unicode's white space and four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// Python's `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `MosesTokenizer(lang).tokenize(text, aggressive_dash_splits=…, escape=…)`
pub(super) fn tokenize(text: &str, language: Language, aggressive_dashes: bool, escape: bool) -> Vec<String> {
    let tables = &*TABLES;
    let (letter, number) = (|c| tables.alphabetic.has(c), |c| tables.numeric.has(c));
    let text = single_spaces(text);
    let mut text = text.chars().filter(|c| !matches!(c, '\0'..='\x1f')).collect::<String>();
    text = text.trim_matches(is_space).to_owned();
    text = spaced(&text, |c| !tables.alphanumeric.has(c) && !is_space(c) && !".'`,-".contains(c));
    if aggressive_dashes {
        text = split_dashes(&text, |c| tables.alphanumeric.has(c));
    }
    text = mark_dots(&text);
    text = around(&text, |c| !number(c), ',', " , ", Place::After);
    text = around(&text, |c| !number(c), ',', " , ", Place::Before);
    if let Some(rest) = text.strip_suffix(',').filter(|rest| rest.ends_with(number)) {
        text = format!("{rest} , ");
    }
    match language {
        Language::English => {
            text = apostrophes(&text, |c| !letter(c), |c| !letter(c), " ' ");
            text = apostrophes(&text, |c| !letter(c) && !number(c), letter, " ' ");
            text = apostrophes(&text, letter, |c| !letter(c), " ' ");
            text = apostrophes(&text, letter, letter, " '");
            text = apostrophes(&text, number, |c| c == 's', " '");
        }
        Language::French => {
            text = apostrophes(&text, |c| !letter(c), |c| !letter(c), " ' ");
            text = apostrophes(&text, |c| !letter(c), letter, " ' ");
            text = apostrophes(&text, letter, |c| !letter(c), " ' ");
            text = apostrophes(&text, letter, letter, "' ");
        }
    }
    text = split_full_stops(&text, language);
    for end in [".'", ".' "] {
        if let Some(rest) = text.strip_suffix(end) {
            text = format!("{rest} . ' ");
            break;
        }
    }
    text = restore_dots(&text);
    if escape {
        text = escaped(&text);
    }
    words(&text).map(str::to_owned).collect()
}

/// `\s+` as one space.
fn single_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut last = false;
    for character in text.chars() {
        let space = is_space(character);
        if !(space && last) {
            out.push(if space { ' ' } else { character });
        }
        last = space;
    }
    out
}

/// Spaces around every character that is `special`.
fn spaced(text: &str, special: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match special(character) {
            true => out.extend([' ', character, ' ']),
            false => out.push(character),
        }
    }
    out
}

/// `([a])\-(?=[a])` as `\1 @-@ `.
fn split_dashes(text: &str, of_word: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        out.push(character);
        let mut next = rest.clone();
        if of_word(character) && next.next() == Some('-') && next.clone().next().is_some_and(&of_word) {
            out.push_str(" @-@ ");
            rest = next;
        }
    }
    out
}

/// Several dots as a word: `...` is ` DOTDOTDOTMULTI `.
fn mark_dots(text: &str) -> String {
    static RUN: LazyLock<Regex> = LazyLock::new(|| pattern(r"\.{2,}"));
    let mark = |found: &regex::Captures| {
        let run = found.get(0).map_or(0..0, |run| run.range());
        let after = if run.end < text.len() { " " } else { "" };
        format!(" {}MULTI{after}", "DOT".repeat(run.len()))
    };
    RUN.replace_all(text, mark).into_owned()
}

fn restore_dots(text: &str) -> String {
    static MARK: LazyLock<Regex> = LazyLock::new(|| pattern("(?:DOT)+MULTI"));
    MARK.replace_all(text, |found: &regex::Captures| ".".repeat((found[0].len() - "MULTI".len()) / "DOT".len()))
        .into_owned()
}

/// Where the character stands that a rule keeps.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Before,
    After,
}

/// A `mark` behind (`After`) or in front of (`Before`) a character that is `beside` it becomes `by`.
fn around(text: &str, beside: impl Fn(char) -> bool, mark: char, by: &str, place: Place) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        let second = rest.clone().next();
        match (place, second) {
            (Place::After, Some(second)) if beside(first) && second == mark => {
                out.push(first);
                out.push_str(by);
                rest.next();
            }
            (Place::Before, Some(second)) if first == mark && beside(second) => {
                out.push_str(by);
                out.push(second);
                rest.next();
            }
            _ => out.push(first),
        }
    }
    out
}

/// An apostrophe between two such characters becomes `by`.
fn apostrophes(text: &str, before: impl Fn(char) -> bool, after: impl Fn(char) -> bool, by: &str) -> String {
    if !text.contains('\'') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        out.push(first);
        let mut next = rest.clone();
        if next.next() == Some('\'')
            && before(first)
            && let Some(last) = next.next().filter(|c| after(*c))
        {
            out.push_str(by);
            out.push(last);
            rest = next;
        }
    }
    out
}

/// Parts a full stop from its word, unless the word is an abbreviation or the next one goes on in lower case.
fn split_full_stops(text: &str, language: Language) -> String {
    let tables = &*TABLES;
    let (abbreviations, before_numbers) = &tables.abbreviations[language as usize];
    let tokens: Vec<&str> = words(text).collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let Some(word) = token.strip_suffix('.').filter(|word| !word.is_empty()) else {
            out.push_str(token);
            continue;
        };
        let next = tokens.get(index + 1).and_then(|next| next.chars().next());
        let kept = word.contains('.') && word.chars().any(|c| tables.alphabetic.has(c))
            || abbreviations.contains(word)
            || next.is_some_and(|next| tables.lower.has(next))
            || before_numbers.contains(word) && next.is_some_and(|next| next.is_ascii_digit());
        out.push_str(word);
        out.push_str(if kept { "." } else { " ." });
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '|' => out.push_str("&#124;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '[' => out.push_str("&#91;"),
            ']' => out.push_str("&#93;"),
            other => out.push(other),
        }
    }
    out
}

/// `replace_unicode_punct` of Python's XLM tokenizer: full-width punctuation and its like as ASCII.
pub(super) fn ascii_punctuation(text: &str) -> String {
    const PAIRS: &[(char, &str)] = &[
        ('，', ","),
        ('、', ","),
        ('”', "\""),
        ('“', "\""),
        ('∶', ":"),
        ('：', ":"),
        ('？', "?"),
        ('《', "\""),
        ('》', "\""),
        ('）', ")"),
        ('！', "!"),
        ('（', "("),
        ('；', ";"),
        ('１', "1"),
        ('」', "\""),
        ('「', "\""),
        ('０', "0"),
        ('３', "3"),
        ('２', "2"),
        ('５', "5"),
        ('６', "6"),
        ('９', "9"),
        ('７', "7"),
        ('８', "8"),
        ('４', "4"),
        ('～', "~"),
        ('’', "'"),
        ('…', "..."),
        ('━', "-"),
        ('〈', "<"),
        ('〉', ">"),
        ('【', "["),
        ('】', "]"),
        ('％', "%"),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character.is_ascii() {
            out.push(character);
        } else if matches!(character, '。' | '．') {
            out.push_str(". ");
            while rest.clone().next().is_some_and(is_space) {
                rest.next();
            }
        } else {
            match PAIRS.iter().find(|(theirs, _)| *theirs == character) {
                Some((_, ours)) => out.push_str(ours),
                None => out.push(character),
            }
        }
    }
    out
}

/// Unicode's categories of what is not printed: controls, formats, unassigned.
pub(super) fn without_controls(text: &str) -> String {
    static CONTROL: LazyLock<Regex> = LazyLock::new(|| pattern(r"\p{C}"));
    CONTROL.replace_all(text, "").into_owned()
}

/// `MosesPunctNormalizer(lang).normalize(text)`
pub(super) fn normalize(text: &str, language: Language) -> String {
    static STEPS: LazyLock<[Vec<(Regex, &str)>; 2]> =
        LazyLock::new(|| [steps(Language::English), steps(Language::French)]);
    let mut text = text.to_owned();
    for (pattern, by) in &STEPS[language as usize] {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&text, *by) {
            text = changed;
        }
    }
    text.trim_matches(is_space).to_owned()
}

/// The substitutions of a language, in their order.
fn steps(language: Language) -> Vec<(Regex, &'static str)> {
    const ALL: &[(&str, &str)] = &[
        // Spaces that are too many.
        (r"\r", ""),
        (r"\(", " ("),
        (r"\)", ") "),
        (" {2,}", " "),
        (r"\) ([.!:?;,])", ")${1}"),
        (r"\( ", "("),
        (r" \)", ")"),
        (r"(\d) %", "${1}%"),
        (r" :", ":"),
        (r" ;", ";"),
        ("`", "'"),
        ("''", " \" "),
        // Quotes, dashes and their like.
        ("„", "\""),
        ("“", "\""),
        ("”", "\""),
        ("–", "-"),
        ("—", " - "),
        (" {2,}", " "),
        ("´", "'"),
        ("([a-zA-Z])‘([a-zA-Z])", "${1}'${2}"),
        ("([a-zA-Z])’([a-zA-Z])", "${1}'${2}"),
        ("‘", "'"),
        ("‚", "'"),
        ("’", "'"),
        ("''", "\""),
        ("´´", "\""),
        ("…", "..."),
        // French quotes.
        ("\u{a0}«\u{a0}", "\""),
        ("«\u{a0}", "\""),
        ("«", "\""),
        ("\u{a0}»\u{a0}", "\""),
        ("\u{a0}»", "\""),
        ("»", "\""),
        // No-break spaces.
        ("\u{a0}%", "%"),
        ("nº\u{a0}", "nº "),
        ("\u{a0}:", ":"),
        ("\u{a0}ºC", " ºC"),
        ("\u{a0}cm", " cm"),
        ("\u{a0}\\?", "?"),
        ("\u{a0}!", "!"),
        ("\u{a0};", ";"),
        (",\u{a0}", ", "),
        (" {2,}", " "),
    ];
    const ENGLISH: &[(&str, &str)] = &[("\"([,.]+)", "${1}\""), ("(\\d)\u{a0}(\\d)", "${1}.${2}")];
    const FRENCH: &[(&str, &str)] =
        &[(",\"", "\","), ("(\\.+)\"([\\s\x1c-\x1f]*[^<])", "\"${1}${2}"), ("(\\d)\u{a0}(\\d)", "${1},${2}")];
    let own = match language {
        Language::English => ENGLISH,
        Language::French => FRENCH,
    };
    ALL.iter().chain(own).map(|(text, by)| (pattern(text), *by)).collect()
}

/// One of this crate's own expressions; tests compile them all.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a regular expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sacremoses` 0.2 gives.
    #[test]
    fn words_are_those_of_sacremoses() {
        let english = |text| tokenize(text, Language::English, false, false).join(" ");
        for (text, expected) in [
            (
                "Mr. Smith's dog, aged 1,234.5, isn't here. No. 5 is.",
                "Mr. Smith 's dog , aged 1,234.5 , isn 't here . No. 5 is .",
            ),
            ("Wait... what?! 'quoted' (yes) U.S.A. end.'", "Wait ... what ? ! ' quoted ' ( yes ) U.S.A. end . '"),
        ] {
            assert_eq!(english(text), expected);
        }
        let french = tokenize("L'été n'est pas l'hiver, p. ex. aujourd'hui.", Language::French, false, false).join(" ");
        assert_eq!(french, "L' été n' est pas l' hiver , p. ex. aujourd' hui .");
        let biogpt = tokenize("IL-2 & [TNF-alpha] <5%", Language::English, true, true).join(" ");
        assert_eq!(biogpt, "IL @-@ 2 &amp; &#91; TNF @-@ alpha &#93; &lt; 5 %");
    }

    #[test]
    fn punctuation_is_that_of_sacremoses() {
        assert_eq!(normalize("« a »\u{a0}: „b” ( c ) 5 % — d’e…", Language::French), "\" a \": \"b\" (c) 5% - d'e...");
        assert_eq!(normalize("\"hello\", she said", Language::English), "\"hello,\" she said");
        assert_eq!(ascii_punctuation("１２，三。 四…”"), "12,三. 四...\"");
        assert_eq!(without_controls("a\u{200d}b\nc\u{ad}d"), "abcd");
    }
}
