//! Files that are whole or absent, and reading that ends.
//!
//! ```text
//! write ──> .NAME.XXXXXX.tmp beside it ──> flush ──> rename to NAME ──> flush the folder
//! read  ──> open without waiting ──> a regular file? ──> at most so many bytes
//! lock  ──> the system's, which ends with its process
//! ```

pub mod json;
mod lock;
mod read;
mod space;
mod temporary;
mod walk;
mod write;

pub use lock::{Lock, LockError, wait_for_lock};
pub use read::{SMALL, open_regular, read, read_to_string, same_file};
pub use space::free_space;
use temporary::Temporary;
pub use temporary::remove_temporaries;
pub use walk::files_below;
pub use write::{NewFile, rename, sync_file, sync_folder, write, write_with};
