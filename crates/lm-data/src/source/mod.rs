//! Text files to rows, one format per module, read in constant memory from any position.
//!
//! Rows are what the Python scripts get from `datasets`: the lines of a text file, the records of a csv file, the
//! objects of a json file. Column `text` is taken, else the first; `text_column` names another. It is chosen once, for
//! all files of both splits.

mod choose;
mod column;
mod csv;
mod error;
mod files;
mod find;
mod format;
mod json;
mod kind;
#[cfg(test)]
mod tests;
mod txt;

pub use error::SourceError;
pub use files::{RowPosition, Rows, TextFiles};
pub use find::{extensions, find_files};
use format::Format;

/// Every format there is.
static FORMATS: &[Format] = &[txt::FORMAT, csv::FORMAT, json::FORMAT];
