//! Files that are whole or absent, and reading that ends.
//!
//! ```text
//! write ──> .NAME.XXXXXX.tmp beside it ──> flush ──> rename to NAME ──> flush the folder
//! read  ──> open without waiting ──> a regular file? ──> at most so many bytes
//! ```

pub mod json;
mod read;
mod temporary;
mod write;

pub use read::{SMALL, open_regular, read, read_to_string, same_file};
pub use temporary::{Temporary, remove_temporaries};
pub use write::{sync_folder, write, write_with};
