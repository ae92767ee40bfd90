//! Text as HTML, and the frame of a page.

/// A whole page: `body` between what every page of this program begins and ends with. `title` is text.
pub(super) fn page(title: &str, head: &str, body: &str, written_at: &str) -> String {
    format!(
        r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{head}<title>{}</title><style>{}</style></head><body><main>{body}<footer>Written by lm-train {} on {}.</footer></main><script>{}</script></body></html>
"#,
        escape(title),
        include_str!("style.css"),
        env!("CARGO_PKG_VERSION"),
        escape(written_at),
        include_str!("script.js")
    )
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
