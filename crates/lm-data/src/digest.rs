//! SHA-256 over pieces of a mebibyte: the digest of the pieces' digests, so that all cores share the work.

use std::io::{self, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Bytes per piece.
pub(crate) const PIECE: usize = 1 << 20;

/// Pieces in memory at a time.
const PIECES: usize = 8;

/// A digest of bytes that come one after another.
#[derive(Default)]
pub(crate) struct Pieces {
    outer: Sha256,
    waiting: Vec<u8>,
}

impl Pieces {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECES * PIECE {
            let whole = self.waiting.len() / PIECE * PIECE;
            self.take(whole);
        }
    }

    /// The digest of all that was added.
    pub fn finish(mut self) -> [u8; 32] {
        self.take(self.waiting.len());
        self.outer.finalize().into()
    }

    fn take(&mut self, bytes: usize) {
        let pieces: Vec<_> = self.waiting[..bytes].par_chunks(PIECE).map(Sha256::digest).collect();
        pieces.iter().for_each(|piece| self.outer.update(piece));
        self.waiting.drain(..bytes);
    }
}

/// Digest of everything a reader gives.
pub(crate) fn of_reader(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut pieces = Pieces::default();
    while reader.by_ref().take((PIECES * PIECE) as u64).read_to_end(&mut pieces.waiting)? > 0 {
        pieces.update(&[]);
    }
    Ok(pieces.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_pieces() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, PIECES * PIECE, PIECES * PIECE + 5, 2 * PIECES * PIECE + 1] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 / 7) as u8).collect();
            let mut pieces = Sha256::new();
            bytes.chunks(PIECE).for_each(|piece| pieces.update(Sha256::digest(piece)));
            let expected = <[u8; 32]>::from(pieces.finalize());
            assert_eq!(expected, of_reader(&bytes[..]).unwrap(), "{length} bytes");
            for step in [3 * PIECE / 2, 999_983] {
                let mut stepwise = Pieces::default();
                bytes.chunks(step).for_each(|part| stepwise.update(part));
                assert_eq!(expected, stepwise.finish(), "{length} bytes, {step} at a time");
            }
        }
    }
}
