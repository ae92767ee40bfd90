//! Text files to rows, one format per module, read in constant memory from any position.
//!
//! Rows are what the Python scripts get from `datasets`: the lines of a text file, the records of a csv file, the
//! objects of a json file, compressed or not. Column `text` is taken, else the first; `text_column` names another. It is chosen once, for
//! all files of both splits.

mod choose;
mod column;
mod compression;
mod csv;
mod error;
mod files;
mod find;
mod format;
mod json;
mod kind;
mod place;
#[cfg(test)]
mod tests;
mod txt;

pub use compression::data_extension;
pub use error::SourceError;
pub use files::{RowPosition, Rows, TextFiles};
pub(crate) use find::{DESCRIPTIONS, files_below};
pub use find::{extensions, find_files};
use format::Format;
pub use format::{RowOptions, SampleBy};

/// Every format there is.
static FORMATS: &[Format] = &[txt::FORMAT, csv::FORMAT, json::FORMAT];
