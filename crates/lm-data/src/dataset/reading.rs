//! What a configuration says of how its files are read: the options of the builders of Python's `datasets`. Those that
//! change which rows there are decide them here too, or are refused by name; others are left alone.

use serde_json::{Map, Value};

use super::card::scalar;
use super::error::DatasetError;
use crate::source::{RowOptions, SampleBy};

/// How the files of a data set are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How rows are made of them.
    pub rows: RowOptions,
    /// The column that is the text, where the configuration leaves no other.
    pub column: Option<String>,
}

/// What an option does.
enum Rule {
    /// Changes no row.
    Nothing,
    /// Changes rows in ways that are unknown here, but for these values, as JSON.
    Unless(&'static [&'static str]),
    /// Changes rows as this function notes; an error says which values are known.
    Heeded(fn(&mut Reading, &Value) -> Result<(), &'static str>),
}
use Rule::{Heeded, Nothing, Unless};

const UTF_8: Rule = Heeded(|_, value| {
    let name = value.as_str().unwrap_or("utf-8").to_ascii_lowercase().replace(['-', '_'], "");
    known(["utf8", "utf8sig"].contains(&name.as_str()), "text is read as UTF-8: convert them with iconv")
});
const STRICT: Rule = Unless(&["null", "\"strict\""]);
const FEATURES: Rule = Heeded(|reading, value| {
    let names = value.as_array().into_iter().flatten().filter_map(|feature| feature.get("name")?.as_str());
    let names: Vec<&str> = names.collect();
    reading.column = names.iter().find(|name| **name == "text").or(names.first()).map(|name| (*name).to_owned());
    Ok(())
});
const COLUMNS: Rule = Heeded(|reading, value| {
    let names = strings(value).ok_or("a list of names is known here")?;
    let one = names.iter().position(|name| name == "text").or((names.len() == 1).then_some(0));
    reading.column = Some(names[one.ok_or("one column, or one called text, is known here")?].clone());
    Ok(())
});
const DELIMITER: Rule = Heeded(|reading, value| {
    let delimiter = byte(value).filter(|byte| *byte != b'"');
    reading.rows.csv.delimiter = Some(delimiter.ok_or("one ASCII character is known here")?);
    Ok(())
});
const NAMES: Rule = Heeded(|reading, value| {
    reading.rows.csv.column_names = strings(value).ok_or("a list of names is known here")?;
    Ok(())
});

/// Options by their names.
type Options = &'static [(&'static str, Rule)];

/// The options of each builder, in the order in which they are noted: of two that say the same, the last counts.
const BUILDERS: &[(&str, Options)] = &[
    (
        "text",
        &[
            ("encoding", UTF_8),
            ("encoding_errors", STRICT),
            ("features", Nothing),
            ("chunksize", Nothing),
            (
                "keep_linebreaks",
                Heeded(|reading, value| {
                    reading.rows.keep_linebreaks = value.as_bool().ok_or("true and false are known here")?;
                    Ok(())
                }),
            ),
            (
                "sample_by",
                Heeded(|reading, value| {
                    let by = SampleBy::ALL.iter().find(|by| value.as_str() == Some(by.as_str()));
                    reading.rows.sample_by = *by.ok_or("line, paragraph and document are known here")?;
                    Ok(())
                }),
            ),
        ],
    ),
    (
        "csv",
        &[
            ("encoding", UTF_8),
            ("encoding_errors", STRICT),
            ("features", FEATURES),
            ("usecols", COLUMNS),
            ("sep", DELIMITER),
            ("delimiter", DELIMITER),
            ("names", NAMES),
            ("column_names", NAMES),
            (
                "header",
                Heeded(|reading, value| {
                    reading.rows.csv.header = match value {
                        Value::Null => Some(false),
                        value if value == 0 => Some(true),
                        value => return known(value == "infer", "infer, 0 and null are known here"),
                    };
                    Ok(())
                }),
            ),
            (
                "quotechar",
                Heeded(|reading, value| {
                    reading.rows.csv.quote = Some(byte(value).ok_or("one ASCII character is known here")?);
                    Ok(())
                }),
            ),
            (
                "quoting",
                Heeded(|reading, value| match value.as_u64() {
                    Some(0..=2) => Ok(()),
                    Some(3) => {
                        reading.rows.csv.quote = None;
                        Ok(())
                    }
                    _ => Err("0 to 3 are known here"),
                }),
            ),
            ("comment", Unless(&["null"])),
            ("converters", Unless(&["null"])),
            ("dialect", Unless(&["null"])),
            ("doublequote", Unless(&["true"])),
            ("error_bad_lines", Unless(&["true"])),
            ("escapechar", Unless(&["null"])),
            ("index_col", Unless(&["null", "false"])),
            ("lineterminator", Unless(&["null"])),
            ("nrows", Unless(&["null"])),
            ("on_bad_lines", Unless(&["\"error\""])),
            ("prefix", Unless(&["null"])),
            ("skip_blank_lines", Unless(&["true"])),
            ("skipfooter", Unless(&["0"])),
            ("skipinitialspace", Unless(&["false"])),
            ("skiprows", Unless(&["null", "0", "[]"])),
            ("chunksize", Nothing),
            ("date_format", Nothing),
            ("decimal", Nothing),
            ("engine", Nothing),
            ("false_values", Nothing),
            ("float_precision", Nothing),
            ("keep_default_na", Nothing),
            ("mangle_dupe_cols", Nothing),
            ("memory_map", Nothing),
            ("na_filter", Nothing),
            ("na_values", Nothing),
            ("thousands", Nothing),
            ("true_values", Nothing),
            ("verbose", Nothing),
            ("warn_bad_lines", Nothing),
        ],
    ),
    (
        "json",
        &[
            ("encoding", UTF_8),
            ("encoding_errors", STRICT),
            ("features", FEATURES),
            (
                "field",
                Heeded(|reading, value| {
                    reading.rows.field = match value {
                        Value::Null => None,
                        value => Some(value.as_str().ok_or("the name of a key is known here")?.to_owned()),
                    };
                    Ok(())
                }),
            ),
            ("newlines_in_values", Unless(&["null"])),
            ("block_size", Nothing),
            ("chunksize", Nothing),
            ("on_mixed_types", Nothing),
            ("parse_agent_traces", Nothing),
            ("use_threads", Nothing),
        ],
    ),
    (
        "parquet",
        &[
            ("columns", COLUMNS),
            ("features", FEATURES),
            ("filters", Unless(&["null"])),
            ("on_bad_files", Unless(&["\"error\""])),
            ("batch_size", Nothing),
            ("fragment_scan_options", Nothing),
        ],
    ),
    ("arrow", &[("features", FEATURES)]),
];

/// What is null unless it is said, and then is as if it were not said.
const NULL_IS_NOTHING: &[&str] =
    &["delimiter", "names", "column_names", "usecols", "columns", "features", "encoding", "quoting"];

impl Reading {
    /// What the options of a configuration say of files that this builder reads. Of an archive any builder may be the one.
    ///
    /// # Errors
    /// If an option changes rows in a way that is not known here.
    pub(super) fn of(
        name: &str,
        config: &str,
        options: &Map<String, Value>,
        builder: &str,
    ) -> Result<Self, DatasetError> {
        let (mut reading, mut unknown) = (Self::default(), options.clone());
        let builders =
            BUILDERS.iter().filter(|(of, _)| *of == builder || !BUILDERS.iter().any(|(of, _)| *of == builder));
        for (key, rule) in builders.flat_map(|(_, rules)| *rules) {
            unknown.remove(*key);
            let Some(value) = options.get(*key) else { continue };
            if value.is_null() && NULL_IS_NOTHING.contains(key) {
                continue;
            }
            let noted = match rule {
                Nothing => Ok(()),
                Unless(values) => known(values.contains(&value.to_string().as_str()), "this is not known here"),
                Heeded(note) => note(&mut reading, value),
            };
            noted.map_err(|reason| DatasetError::Option {
                name: name.into(),
                config: config.into(),
                option: format!("{key}: {value}"),
                reason,
            })?;
        }
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.keys().map(String::as_str).collect();
            tracing::warn!(
                "{name}: its configuration {config} has what no option of {builder} files is, and is left alone as in Python: {}",
                unknown.join(", ")
            );
        }
        Ok(reading)
    }
}

fn known(is_known: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if is_known { Ok(()) } else { Err(otherwise) }
}

/// A character of ASCII that ends no line.
fn byte(value: &Value) -> Option<u8> {
    match value.as_str()?.as_bytes() {
        [byte] if byte.is_ascii() && !b"\r\n".contains(byte) => Some(*byte),
        _ => None,
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(scalar).collect()
}
