//! Columns of csv and json files, as the beginning of a file shows them.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Rows and bytes at the start of a file that show its columns and what the first one holds.
const SAMPLE_ROWS: usize = 100;
const SAMPLE_BYTES: usize = 1 << 18;

/// Columns or files named in a message at most.
const MOST_NAMED: usize = 20;

/// The column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// Taken because it is the first, no column being called `text`.
    pub is_first: bool,
}

impl Default for Column {
    fn default() -> Self {
        Self { name: "text".into(), is_first: false }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    /// Anything else, by its name.
    Other(&'static str),
}

pub(super) const NUMBER: &str = "a number";
pub(super) const NULL: &str = "null";
pub(super) const ARRAY: &str = "an array";

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Cell;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
                Ok(Cell::Text(text.into()))
            }
            fn visit_string<E>(self, text: String) -> Result<Cell, E> {
                Ok(Cell::Text(text))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Cell, E> {
                Ok(Cell::Other("a truth value"))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Cell, E> {
                Ok(Cell::Other(NUMBER))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Cell, E> {
                Ok(Cell::Other(NUMBER))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Cell, E> {
                Ok(Cell::Other(NUMBER))
            }
            fn visit_unit<E>(self) -> Result<Cell, E> {
                Ok(Cell::Other(NULL))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Cell::Other(ARRAY))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Cell::Other("an object"))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The beginning of a file.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Line of the header, or of the first object.
    pub line: u64,
    /// All columns, in the order in which they come.
    pub columns: Vec<String>,
    /// What stands in the first of them, as far as the rows have it.
    pub first: Vec<Cell>,
    /// What separates them, if it was found out.
    pub separated_by: Option<&'static str>,
}

impl Sample {
    /// Whether enough of the file has been seen.
    pub fn is_full(rows: usize, bytes: usize) -> bool {
        rows >= SAMPLE_ROWS || bytes >= SAMPLE_BYTES
    }

    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }
}

/// Names for a message.
pub(super) fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMED {
        text += &format!(" and {} more", names.len() - MOST_NAMED);
    }
    text
}
