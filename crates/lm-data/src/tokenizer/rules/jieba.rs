//! How Jieba cuts what is not Chinese. For Chinese it goes by a dictionary of five megabytes, which is not here.

/// The only words of its dictionary without a Chinese character.
const DICTIONARY: [&str; 5] = ["AT&T", "C++", "C#", "c++", "c#"];

/// The words of a text that Python's `JiebaPreTokenizer` makes of it.
///
/// # Errors
/// For Chinese.
pub(super) fn words(text: &str) -> tokenizers::Result<Vec<String>> {
    if let Some(character) = text.chars().find(|c| is_chinese(*c)) {
        let what = "Python cuts it by the dictionary of Jieba, which is not supported; give a tokenizer with a \
                    tokenizer.json of its own by --tokenizer_name, or text without Chinese";
        return Err(format!("{character:?} is Chinese, which a RoFormerTokenizer in {what}").into());
    }
    let mut words: Vec<String> = Vec::new();
    let (mut rest, mut in_word) = (text, false);
    while let Some(character) = rest.chars().next() {
        let known = DICTIONARY.into_iter().find(|word| rest.starts_with(word));
        let end = known.map_or(character.len_utf8(), str::len);
        let (word, after) = rest.split_at(end);
        let of_word = known.is_none() && character.is_ascii_alphanumeric();
        match words.last_mut().filter(|_| of_word && in_word) {
            Some(last) => last.push_str(word),
            None if character.is_whitespace() => {}
            None => words.push(word.to_owned()),
        }
        in_word = of_word;
        rest = after;
    }
    Ok(words)
}

fn is_chinese(character: char) -> bool {
    matches!(u32::from(character), 0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2FA1F | 0xF900..=0xFAFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_jieba() {
        let cut = |text: &str| words(text).expect("no Chinese").join("|");
        assert_eq!(cut("don't AT&Ts C++ 3.14\tx_y é\u{e9}a"), "don|'|t|AT&T|s|C++|3|.|14|x|_|y|é|é|a");
        assert!(words("a 中").is_err_and(|error| error.to_string().contains("Jieba")));
    }
}
