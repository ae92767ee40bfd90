//! Text files to rows, one format per module, read in constant memory from any position.
//!
//! Rows are what the Python scripts get from `datasets`: the lines of a text file, the records of a csv file, the
//! objects of a json file, the rows of a table in Parquet or Arrow, compressed or not. Column `text` is taken, else the
//! first; `text_column` names another. It is chosen once, for all files of both splits.

mod arrow;
mod choose;
mod column;
mod columnar;
mod compression;
mod csv;
mod error;
mod files;
mod find;
mod format;
mod json;
mod kind;
mod mark;
mod parquet;
mod place;
mod remote;
#[cfg(test)]
mod tests;
mod txt;
mod weights;

pub use compression::data_extension;
pub use error::SourceError;
pub(crate) use files::Numbered;
pub use files::{RowPosition, Rows, TextFiles};
pub(crate) use find::{DESCRIPTIONS, METADATA, Piece, files_below, saved_files, saved_splits};
pub use find::{extensions, find_files};
use format::Format;
pub use format::{CsvOptions, RowOptions, SampleBy};
pub use mark::Mark;
#[cfg(test)]
pub(crate) use place::opened;
pub(crate) use remote::is_address;
pub use remote::{RemoteFile, RemoteFiles};
pub use weights::weighted;

/// Every format there is. Of two that a folder has as many files of, the first is read, as in `datasets`.
static FORMATS: &[Format] = &[parquet::FORMAT, arrow::FORMAT, json::FORMAT, csv::FORMAT, txt::FORMAT];
