//! SHA-256 over pieces of a mebibyte: the digest of the pieces' digests, so that all cores share the work.

use std::io::{self, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Bytes per piece.
pub(crate) const PIECE: usize = 1 << 20;

/// Digest of everything a reader gives, 16 pieces in memory at a time.
pub(crate) fn of_reader(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut outer = Sha256::new();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        if reader.by_ref().take(16 * PIECE as u64).read_to_end(&mut buffer)? == 0 {
            return Ok(outer.finalize().into());
        }
        let pieces: Vec<_> = buffer.par_chunks(PIECE).map(Sha256::digest).collect();
        pieces.iter().for_each(|piece| outer.update(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_pieces() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 16 * PIECE, 16 * PIECE + 5] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 / 7) as u8).collect();
            let mut pieces = Sha256::new();
            bytes.chunks(PIECE).for_each(|piece| pieces.update(Sha256::digest(piece)));
            assert_eq!(<[u8; 32]>::from(pieces.finalize()), of_reader(&bytes[..]).unwrap(), "{length} bytes");
        }
    }
}
