//! Places of rows.

use serde::{Deserialize, Serialize};

/// Where a row lies in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
pub struct Mark {
    /// Byte at which the row starts, of the decompressed text; 0 is the start of the file, header included. Of Arrow files,
    /// that from which its record batch is found; of Parquet files, how much of the file comes before, about.
    pub byte: u64,
    /// Line at which the row starts. Of formats that store columns, the row's number, from 1.
    pub line: u64,
    /// The number, from 0, of the first row of the record batch that is found from `byte`. None where there are no such
    /// batches, and where the row is found by its number alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
}

impl Mark {
    /// The row at this byte and line.
    pub const fn at(byte: u64, line: u64) -> Self {
        Self { byte, line, batch: None }
    }

    /// Whether a file's first row lies here.
    pub(super) fn is_start(&self) -> bool {
        self.byte == 0 && self.line <= 1
    }
}
