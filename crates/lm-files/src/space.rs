//! Room on a disk.

use std::io;
use std::path::Path;

/// Bytes that this user may still write to the file system of `path`, which need not exist yet.
///
/// # Errors
/// When the file system cannot be asked.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    fs4::available_space(existing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_to_come_has_the_room_of_the_one_above() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(free_space(folder.path()).expect("space") > 0);
        assert!(free_space(&folder.path().join("not/yet")).expect("space") > 0);
        assert!(free_space(Path::new("not-there")).expect("space") > 0);
    }
}
