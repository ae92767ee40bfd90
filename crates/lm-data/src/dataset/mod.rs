//! Names to splits: which files a data set consists of, which of them are trained on, and which rows are held out.
//!
//! ```text
//! list of files, README.md ── card (configurations) ── patterns (which files) ── splits (files by split)
//!                            └─ reading (how they are read)
//! files ── corpus (held-out rows, slices) ──> the rows of a run
//! ```
//! The rules are those of Python's `datasets`, over paths only: a folder and a repository of the Hub are the same to them.

mod card;
mod corpus;
mod error;
mod folder;
mod patterns;
mod reading;
mod slice;
mod splits;
mod yaml;

pub use card::{CARD_FILES, Repository};
pub use corpus::Corpus;
pub(crate) use corpus::SplitRows;
pub use error::DatasetError;
pub use folder::folder_splits;
pub use reading::Reading;
pub use slice::{Slice, SplitPart, files_of};
pub use splits::{Found, SplitFiles, converted_splits, script, splits};
