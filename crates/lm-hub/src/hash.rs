//! The hashes by which the Hub names what a file holds: SHA-256 for large files, and Git's SHA-1 for the others.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The hash that is the name of a file in the cache: 40 or 64 hexadecimal digits, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hash(String);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Hash {
    /// None if the text is no hash.
    pub(super) fn new(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && [40, 64].contains(&text.len())).then(|| Self(text.to_string()))
    }

    /// The hash in an ETag, which may be `W/"…"`.
    pub(super) fn from_etag(etag: &str) -> Option<Self> {
        let etag = etag.trim().trim_start_matches("W/");
        let bare = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag);
        Self::new(bare)
    }

    /// Starts to hash a file of `size` bytes, to see whether this is its hash.
    pub(super) fn check(&self, size: u64) -> Check {
        let sums = match self.0.len() {
            64 => Sums::Sha256(Sha256::new()),
            _ => Sums::Sha1 { git: Sha1::new_with_prefix(format!("blob {size}\0")), bare: Sha1::new() },
        };
        Check { expected: self.clone(), sums }
    }
}

/// A file on its way through a hash function.
pub(super) struct Check {
    expected: Hash,
    sums: Sums,
}

enum Sums {
    Sha256(Sha256),
    /// Mirrors such as Artifactory name a file by the SHA-1 of its bytes alone.
    Sha1 {
        git: Sha1,
        bare: Sha1,
    },
}

impl Check {
    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.sums {
            Sums::Sha256(sum) => sum.update(bytes),
            Sums::Sha1 { git, bare } => {
                git.update(bytes);
                bare.update(bytes);
            }
        }
    }

    /// Whether all bytes together have the hash.
    pub(super) fn holds(self) -> bool {
        let is_expected = |sum: &[u8]| hex(sum) == self.expected.0;
        match self.sums {
            Sums::Sha256(sum) => is_expected(&sum.finalize()),
            Sums::Sha1 { git, bare } => is_expected(&git.finalize()) || is_expected(&bare.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that Git gives to a file of these bytes.
#[cfg(test)]
pub(super) fn git_name(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

/// The name that Git LFS gives to a file of these bytes.
#[cfg(test)]
pub(super) fn lfs_name(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_digits_of_a_known_number_and_nothing_else() {
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        for etag in [sha1.to_string(), format!("\"{sha1}\""), format!("W/\"{sha1}\"")] {
            assert_eq!(Hash::from_etag(&etag).expect("a hash").to_string(), sha1);
        }
        for bad in ["", "\"\"", "../../../../escaped", "/tmp/escaped", "a%00b", "abc", "C:\\x", &"A".repeat(40)] {
            assert_eq!(Hash::from_etag(bad), None, "{bad}");
            assert_eq!(Hash::from_etag(&format!("\"{bad}\"")), None, "{bad}");
        }
    }

    #[test]
    fn the_names_of_git_of_git_lfs_and_of_mirrors() {
        // `printf hello | git hash-object --stdin`, `printf hello | sha256sum`, `printf hello | sha1sum`
        let names = [
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
        ];
        for name in names {
            let mut check = Hash::new(name).expect("a hash").check(5);
            check.update(b"hel");
            check.update(b"lo");
            assert!(check.holds(), "{name}");
            let mut check = Hash::new(name).expect("a hash").check(5);
            check.update(b"hellO");
            assert!(!check.holds(), "{name}");
        }
        assert_eq!([git_name(b"hello"), lfs_name(b"hello")], names[..2]);
    }
}
