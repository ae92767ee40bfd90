//! The parameters of a run as MLflow keeps them: names and texts, the texts as Python's `str` writes values.

use serde_json::{Map, Value};

use crate::observe::format::python_float;

/// MLflow's `MAX_PARAM_VAL_LENGTH`; Python leaves out what is longer, too.
const LONGEST: usize = 6000;

/// Names and texts of all values that are short enough.
pub(super) fn params(values: &Map<String, Value>) -> Vec<(String, String)> {
    let texts = values.iter().map(|(name, value)| (name.clone(), text(value)));
    texts.filter(|(_, text)| text.chars().count() <= LONGEST).collect()
}

/// `str(value)`
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, python_float),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(values) => {
            let pairs: Vec<_> =
                values.iter().map(|(name, value)| format!("{}: {}", quoted(name), repr(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if letter == quote => quoted.extend(['\\', letter]),
            _ => quoted.push(letter),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_pythons() {
        // >>> [str(value) for value in (None, True, 5, 5e-05, 1.0, "a'b", [1, "a'b", "x"], {"a": [None, 0.5]}, ["\\\n"])]
        let values = json!([null, true, 5, 5e-05, 1.0, "a'b", [1, "a'b", "x"], {"a": [null, 0.5]}, ["\\\n"]]);
        let texts: Vec<String> = values.as_array().expect("a list").iter().map(text).collect();
        let expected =
            ["None", "True", "5", "5e-05", "1.0", "a'b", "[1, \"a'b\", 'x']", "{'a': [None, 0.5]}", "['\\\\\\n']"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_mlflow_does_not_take_is_left_out() {
        let values = json!({"long": "ä".repeat(LONGEST + 1), "longest": "ä".repeat(LONGEST)});
        let kept = params(values.as_object().expect("an object"));
        assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["longest"]);
    }
}
