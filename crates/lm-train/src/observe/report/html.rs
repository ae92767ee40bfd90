//! Text as HTML.

use std::fmt::Write;

/// `text` with the model's own words marked: what stands for the masks of `prompt`, or what follows it.
pub(super) fn marked(prompt: &str, mask: Option<&str>, text: &str) -> String {
    let Some(mask) = mask.filter(|mask| !mask.is_empty()) else {
        return match text.strip_prefix(prompt) {
            Some(rest) => format!("{}<mark>{}</mark>", escape(prompt), escape(rest)),
            None => escape(text),
        };
    };
    let mut given = prompt.split(mask);
    let Some(mut rest) = given.next().and_then(|first| text.strip_prefix(first)) else {
        return escape(text);
    };
    let mut html = escape(&text[..text.len() - rest.len()]);
    let given: Vec<&str> = given.collect();
    for (index, &next) in given.iter().enumerate() {
        // The last piece ends the text; an empty one between two masks gives no hint where the first word ends.
        let found = if index + 1 == given.len() {
            rest.ends_with(next).then(|| rest.len() - next.len())
        } else {
            rest.find(if next.is_empty() { " " } else { next })
        };
        let Some((words, after)) = found.and_then(|end| rest.split_at_checked(end)) else {
            return escape(text);
        };
        let Some(after) = after.strip_prefix(next) else {
            return escape(text);
        };
        let _ = write!(html, "<mark>{}</mark>{}", escape(words), escape(next));
        rest = after;
    }
    html
}

/// Text for HTML, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML has no way to write the other control characters.
            control if control.is_control() && !matches!(control, '\n' | '\t') => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_own_words_are_marked() {
        let fill = |prompt, text| marked(prompt, Some("[MASK]"), text);
        assert_eq!(fill("A [MASK] is red.", "A rose is red."), "A <mark>rose</mark> is red.");
        assert_eq!(fill("[MASK] and [MASK]", "you and me"), "<mark>you</mark> and <mark>me</mark>");
        assert_eq!(fill("a [MASK][MASK] b", "a c d b"), "a <mark>c</mark><mark> d</mark> b");
        assert_eq!(fill("A [MASK] b.", "other < words"), "other &lt; words");
        assert_eq!(fill("no mask", "no mask"), "no mask");
        assert_eq!(marked("Once", None, "Once upon"), "Once<mark> upon</mark>");
    }
}
