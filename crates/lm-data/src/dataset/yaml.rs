//! YAML as PyYAML's `safe_load` reads it: what a word without quotes stands for are the rules of YAML 1.1 as that has them.
//! `yes` and `off` are booleans, `y` and `1e3` words.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// As deep as lists and mappings may lie in one another.
const DEEPEST: usize = 64;
/// As many values as there may be, those that aliases repeat counted each time.
const MOST: usize = 1 << 18;
/// What tags of YAML itself begin with.
const CORE: &str = "tag:yaml.org,2002:";

/// The one document of a text; null where there is none. Of a key that stands twice the last value counts. Dates, which
/// JSON has not, are their text.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0 };
    let mut document = None;
    loop {
        match reader.event()? {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(document.unwrap_or(Value::Null)),
            _ if document.is_some() => return Err("has more than one document".into()),
            event => document = Some(reader.value(event, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn event(&mut self) -> Result<Event<'a>, String> {
        loop {
            match self.parser.next_event() {
                None => return Ok(Event::StreamEnd),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok((event, _))) if event.is_node() => return Ok(event),
                Some(Ok((event, _))) => match event {
                    Event::StreamStart
                    | Event::StreamEnd
                    | Event::DocumentStart(..)
                    | Event::DocumentEnd
                    | Event::SequenceEnd
                    | Event::MappingEnd => return Ok(event),
                    _ => {}
                },
            }
        }
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MOST { Err(format!("has more than {MOST} values")) } else { Ok(()) }
    }

    /// What begins with this event.
    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        self.count(1)?;
        if depth > DEEPEST {
            return Err(format!("lies deeper than {DEEPEST} lists or mappings in one another"));
        }
        let anchor = event.anchor_id();
        let value = match event {
            Event::Scalar(text, style, _, tag) => scalar(text.into_owned(), style, tag.as_deref())?,
            Event::SequenceStart(_, _, tag) => {
                known(tag.as_deref(), "seq")?;
                let mut entries = Vec::new();
                loop {
                    match self.event()? {
                        Event::SequenceEnd => break Value::Array(entries),
                        event => entries.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(_, _, tag) => {
                known(tag.as_deref(), "map")?;
                self.mapping(depth)?
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("has an alias of what holds it")?;
                self.count(size(&value))?;
                value
            }
            event => return Err(format!("is cut off ({event:?})")),
        };
        if let Some(anchor) = anchor {
            self.count(size(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let (mut entries, mut merged) = (Map::new(), Map::new());
        loop {
            let key = match self.event()? {
                Event::MappingEnd => break,
                // As it is written: 3 and yes are no other keys here than "3" and "yes".
                Event::Scalar(text, style, anchor, _) => {
                    if anchor != 0 {
                        self.anchors.insert(anchor, Value::String(text.to_string()));
                    }
                    (text.into_owned(), style == ScalarStyle::Plain)
                }
                event => match self.value(event, depth + 1)? {
                    Value::String(text) => (text, false),
                    _ => return Err("has a list or a mapping for a key".into()),
                },
            };
            let event = self.event()?;
            let value = self.value(event, depth + 1)?;
            if key != ("<<".into(), true) {
                entries.insert(key.0, value);
                continue;
            }
            // What stands in the mapping itself comes first, then the first of those that are merged.
            let sources = if let Value::Array(sources) = value { sources } else { vec![value] };
            for source in sources {
                let Value::Object(source) = source else { return Err("merges (<<) what is no mapping".into()) };
                for (key, value) in source {
                    merged.entry(key).or_insert(value);
                }
            }
        }
        for (key, value) in merged {
            entries.entry(key).or_insert(value);
        }
        Ok(Value::Object(entries))
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(entries) => 1 + entries.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Fails for a tag other than this one.
fn known(tag: Option<&Tag>, only: &str) -> Result<(), String> {
    match tag.map(named) {
        Some(name) if name != format!("{CORE}{only}") && name != "!" => {
            Err(format!("has a tag that is not known: {name}"))
        }
        _ => Ok(()),
    }
}

fn named(tag: &Tag) -> String {
    format!("{}{}", tag.handle(), tag.suffix())
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(name) = tag.map(named) else {
        return Ok(if style == ScalarStyle::Plain { plain(text) } else { Value::String(text) });
    };
    match name.strip_prefix(CORE).unwrap_or(&name) {
        "str" | "timestamp" => Ok(Value::String(text)),
        "!" if style != ScalarStyle::Plain => Ok(Value::String(text)),
        "!" | "null" | "bool" | "int" | "float" => Ok(plain(text)),
        _ => Err(format!("has a tag that is not known: {name}")),
    }
}

/// What a word without quotes is: the resolvers of PyYAML.
fn plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return true.into(),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return false.into(),
        _ => {}
    }
    let number = integer(&text).map(Number::from).or_else(|| Number::from_f64(float(&text)?));
    number.map_or(Value::String(text), Value::Number)
}

/// Those of base 60 (`12:30`) are left as text: nothing here is one.
fn integer(text: &str) -> Option<i64> {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([-+]?)(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+|0|[1-9][0-9_]*)$").ok());
    let form = FORM.as_ref()?.captures(text)?;
    let digits = form[2].replace('_', "");
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    let number = i64::from_str_radix(digits, base).ok()?;
    Some(if &form[1] == "-" { -number } else { number })
}

/// With a dot, and an exponent with its sign; infinity and what is no number stay text.
fn float(text: &str) -> Option<f64> {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$").ok());
    FORM.as_ref()?.is_match(text).then(|| text.replace('_', "").parse().ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `yaml.safe_load` of PyYAML 6 makes of these.
    #[test]
    fn words_are_those_of_pyyaml() {
        let words = ["y", "n", "Y", "tRue", "nUll", "1e3", "1.5e3", "1e+3", "0o10", "09", "_1", "+.5", "0x", "a b"];
        for word in words {
            assert_eq!(read(&format!("a: {word}")), Ok(json!({"a": word})), "{word}");
        }
        for (text, expected) in [
            ("yes", json!(true)),
            ("ON", json!(true)),
            ("No", json!(false)),
            ("off", json!(false)),
            ("", json!(null)),
            ("~", json!(null)),
            ("NULL", json!(null)),
            ("2020", json!(2020)),
            ("-0", json!(0)),
            ("+3", json!(3)),
            ("010", json!(8)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1__0", json!(10)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1.5_0", json!(1.5)),
            ("1.5e+3", json!(1500.0)),
            ("'yes'", json!("yes")),
            ("\"3\"", json!("3")),
            ("|\n  yes\n", json!("yes\n")),
            ("!!str 3", json!("3")),
            ("!!str", json!("")),
            ("!!int '3'", json!(3)),
            ("!!bool 'yes'", json!(true)),
            ("!!seq [a]", json!(["a"])),
            ("{b: 1, b: 2}", json!({"b": 2})),
            ("{<<: {b: 1, c: 1}, c: 2}", json!({"b": 1, "c": 2})),
            ("{b: 1, <<: [{b: 2, c: 3}, {c: 4}]}", json!({"b": 1, "c": 3})),
            ("{'<<': 3}", json!({"<<": 3})),
            ("[&x [1], *x]", json!([[1], [1]])),
            ("[&x k, {*x : 2}]", json!(["k", {"k": 2}])),
            ("[{&x k: 1}, *x]", json!([{"k": 1}, "k"])),
        ] {
            assert_eq!(read(&format!("a: {text}")), Ok(json!({ "a": expected })), "{text}");
        }
        for none in ["", "# x", "--- \n...\n"] {
            assert_eq!(read(none), Ok(Value::Null), "{none}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_said() {
        let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
        for (text, part) in [
            ("a: [".to_string(), ""),
            ("a: b: c".into(), "line 1"),
            ("a: *x".into(), "unknown anchor"),
            ("a: 1\n---\nb: 2".into(), "more than one document"),
            ("a: !x 3".into(), "a tag that is not known: !x"),
            ("a: !!set {a}".into(), "a tag that is not known: tag:yaml.org,2002:set"),
            ("? [a]\n: 3".into(), "for a key"),
            ("<<: 3".into(), "no mapping"),
            ("a: &x [*x]".into(), "an alias of what holds it"),
            ("[".repeat(100) + &"]".repeat(100), "deeper than 64"),
            (format!("a0: &a0 [1, 2]\n{bomb}"), "more than"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
