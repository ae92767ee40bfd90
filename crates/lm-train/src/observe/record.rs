//! One line of the training log.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::json;

/// A value in a [`LogRecord`].
#[derive(Clone, Debug, PartialEq)]
pub enum LogValue {
    /// A count, such as `step`.
    Integer(i64),
    /// A measurement. In the files an infinite one has its Python name, see [`json`], and one that is NaN, the mean of
    /// nothing, is null.
    Number(f64),
    /// Anything else that a log written elsewhere may hold.
    Text(String),
}

impl LogValue {
    /// The value as a number, when it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(count) => Some(*count as f64),
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl From<f64> for LogValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for LogValue {
    fn from(count: u64) -> Self {
        i64::try_from(count).map_or(Self::Number(count as f64), Self::Integer)
    }
}

impl From<i64> for LogValue {
    fn from(count: i64) -> Self {
        Self::Integer(count)
    }
}

impl From<String> for LogValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Serialize for LogValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(count) => serializer.serialize_i64(*count),
            Self::Number(number) if number.is_nan() => serializer.serialize_none(),
            Self::Number(number) => match json::stand_in(*number) {
                Some(text) => serializer.serialize_str(&text),
                None => serializer.serialize_f64(*number),
            },
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl From<Value> for LogValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Number(f64::NAN),
            Value::String(text) => json::number(&text).map_or(Self::Text(text), Self::Number),
            Value::Number(number) => match number.as_i64() {
                Some(count) => Self::Integer(count),
                None => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            other => Self::Text(other.to_string()),
        }
    }
}

/// Named values of one moment of a run, in the order in which they were set: what Python's `Trainer.log` receives.
///
/// The names are Python's where it has one: `loss`, `grad_norm`, `learning_rate`, `epoch`, `step`, `eval_loss`,
/// `eval_accuracy`, `eval_runtime`, `eval_samples_per_second`, `eval_steps_per_second`, `train_runtime`,
/// `train_samples_per_second`, `train_steps_per_second`, `total_flos`, `train_loss`. Beyond these there are
/// [`PERPLEXITY`](Self::PERPLEXITY), [`TOKENS_PER_SECOND`](Self::TOKENS_PER_SECOND) and [`MEMORY`](Self::MEMORY).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    entries: Vec<(String, LogValue)>,
}

impl LogRecord {
    /// exp(loss), as Python's scripts write it into their result files.
    pub const PERPLEXITY: &'static str = "perplexity";
    /// Tokens that training went through per second, padding not counted.
    pub const TOKENS_PER_SECOND: &'static str = "tokens_per_second";
    /// Resident memory of the process in bytes.
    pub const MEMORY: &'static str = "memory_bytes";

    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record with `name` set, for building one in an expression.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<LogValue>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a value; one of the same name keeps its place.
    pub fn set(&mut self, name: &str, value: impl Into<LogValue>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(existing, _)| existing == name) {
            Some((_, slot)) => *slot = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }

    /// Appends all values of another record, replacing those of the same name.
    pub fn extend(&mut self, other: LogRecord) {
        for (name, value) in other.entries {
            self.set(&name, value);
        }
    }

    /// The number called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.entries.iter().find(|(existing, _)| existing == name).and_then(|(_, value)| value.as_f64())
    }

    /// The optimizer step that the record belongs to.
    pub fn step(&self) -> Option<u64> {
        self.get("step").filter(|step| *step >= 0.0).map(|step| step as u64)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &LogValue)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether nothing has been set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Serialize for LogRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in &self.entries {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for LogRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        Ok(Self { entries: map.into_iter().map(|(name, value)| (name, value.into())).collect() })
    }
}

/// The name under which services show a value: Python's `rewrite_logs`, and perplexity, which Python does not log, beside the
/// evaluation's loss.
pub(super) fn tag(name: &str) -> String {
    if name == LogRecord::PERPLEXITY {
        return format!("eval/{name}");
    }
    for split in ["eval", "test"] {
        if let Some(rest) = name.strip_prefix(split).and_then(|rest| rest.strip_prefix('_')) {
            return format!("{split}/{rest}");
        }
    }
    format!("train/{name}")
}

/// Python's `round(value, digits)`: half to even on the exact binary value.
pub fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap_or(value)
}

/// Python's `speed_metrics`: `{split}_runtime` in seconds, and what was done per second where a count is given.
pub fn speed_metrics(
    split: &str,
    seconds: f64,
    samples: Option<u64>,
    steps: Option<u64>,
    tokens: Option<u64>,
) -> LogRecord {
    let mut metrics = LogRecord::new().with(&format!("{split}_runtime"), round(seconds, 4));
    for (unit, count) in [("samples", samples), ("steps", steps), ("tokens", tokens)] {
        if let Some(count) = count.filter(|_| seconds > 0.0) {
            metrics.set(&format!("{split}_{unit}_per_second"), round(count as f64 / seconds, 3));
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_kinds_survive_json() {
        let record = LogRecord::new().with("loss", 5.0).with("grad_norm", 1.5).with("epoch", 0.5).with("step", 500_u64);
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(text, r#"{"loss":5.0,"grad_norm":1.5,"epoch":0.5,"step":500}"#);
        assert_eq!(serde_json::from_str::<LogRecord>(&text).expect("a record"), record);
        assert_eq!((record.step(), record.get("loss"), record.get("eval_loss")), (Some(500), Some(5.0), None));
    }

    #[test]
    fn what_is_infinite_has_pythons_name_and_no_number_is_null() {
        let record = LogRecord::new().with("loss", f64::INFINITY).with("step", 1_u64);
        let text = json::to_string(&record, "").expect("JSON");
        assert_eq!(text, r#"{"loss":Infinity,"step":1}"#);
        assert_eq!(json::from_str::<LogRecord>(&text).expect("a record"), record);
        assert_eq!(json::to_string(&LogRecord::new().with("loss", f64::NAN), "").expect("JSON"), r#"{"loss":null}"#);
        let pythons: LogRecord = json::from_str(r#"{"loss": NaN}"#).expect("a record");
        assert!(pythons.get("loss").is_some_and(f64::is_nan));
        let read: LogRecord = json::from_str(r#"{"loss":null,"note":"x","flag":true}"#).expect("a record");
        assert!(read.get("loss").is_some_and(f64::is_nan));
        assert_eq!(read.get("note"), None);
    }

    #[test]
    fn rounds_as_python() {
        // >>> [round(x, n) for x, n in ((2.675, 2), (0.5, 0), (1.5, 0), (5.12345, 4), (1e300, 4))]
        let rounded = [(2.675, 2), (0.5, 0), (1.5, 0), (5.12345, 4), (1e300, 4)].map(|(x, n)| round(x, n));
        assert_eq!(rounded, [2.67, 0.0, 2.0, 5.1235, 1e300]);
        assert!(round(f64::NAN, 4).is_nan());
    }

    #[test]
    fn tags_are_pythons() {
        let tags =
            ["loss", "eval_loss", "test_loss", "train_runtime", "learning_rate", "perplexity", "evaluation"].map(tag);
        let expected = [
            "train/loss",
            "eval/loss",
            "test/loss",
            "train/train_runtime",
            "train/learning_rate",
            "eval/perplexity",
            "train/evaluation",
        ];
        assert_eq!(tags, expected);
    }

    #[test]
    fn speed_is_per_second() {
        let metrics = speed_metrics("eval", 2.5, Some(100), Some(10), None);
        let text = serde_json::to_string(&metrics).expect("JSON");
        assert_eq!(text, r#"{"eval_runtime":2.5,"eval_samples_per_second":40.0,"eval_steps_per_second":4.0}"#);
        assert_eq!(speed_metrics("train", 0.0, Some(1), None, None).iter().count(), 1);
    }
}
