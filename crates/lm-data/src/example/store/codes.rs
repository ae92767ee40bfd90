//! How the tokens of a store are written: as ids of 32 bits, or of 16 where the vocabulary leaves room for the marks.

use std::io;

use bytemuck::{Pod, Zeroable};

use super::super::SPECIAL;
use crate::tokenizer::LmTokenizer;

/// The form of the tokens of a store. In 32 bits a token is as it is packed, bit 31 marking what the tokenizer adds around a
/// text. In 16 bits an added token is the complement of its id, and every code from `plain` on is such a one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Codes {
    /// Ids of tokens that are not added are below this.
    plain: u64,
    /// Bytes of a token.
    width: u64,
}

impl Codes {
    /// The narrowest form for the ids that a tokenizer gives.
    pub fn of(tokenizer: &LmTokenizer) -> Self {
        Self::new(u64::from(tokenizer.max_id()) + 1, tokenizer.added_ids().max().map_or(0, |id| u64::from(id) + 1))
    }

    /// For ids below `plain`, and added ones below `added`.
    fn new(plain: u64, added: u64) -> Self {
        Self { plain, width: if plain + added <= 1 << 16 { 2 } else { 4 } }
    }

    /// Whether a store may have this form.
    pub fn is_known(self) -> bool {
        matches!(self.width, 2 | 4)
    }

    /// Bytes that so many tokens take.
    pub fn bytes(self, tokens: u64) -> Option<u64> {
        tokens.checked_mul(self.width)
    }

    /// Appends packed tokens.
    pub fn append(self, body: &mut Vec<u8>, packed: &[u32]) -> io::Result<()> {
        if self.width == 4 {
            body.extend_from_slice(bytemuck::cast_slice(packed));
            return Ok(());
        }
        for &token in packed {
            let (id, added) = (token & !SPECIAL, token & SPECIAL != 0);
            let code = if added { u64::from(u16::MAX).checked_sub(id.into()) } else { Some(id.into()) };
            let Some(code) = code.filter(|code| (*code >= self.plain) == added) else {
                return Err(io::Error::other(format!("token id {id} is none of the tokenizer's")));
            };
            body.extend_from_slice(&(code as u16).to_ne_bytes());
        }
        Ok(())
    }

    /// Tokens that were written with [`Self::append`], packed.
    pub fn packed(self, bytes: &[u8]) -> Vec<u32> {
        if self.width == 4 {
            return bytes
                .chunks_exact(4)
                .map(|code| u32::from_ne_bytes([code[0], code[1], code[2], code[3]]))
                .collect();
        }
        let token = |code: u16| match u64::from(code) < self.plain {
            true => u32::from(code),
            false => SPECIAL | u32::from(!code),
        };
        bytes.chunks_exact(2).map(|code| token(u16::from_ne_bytes([code[0], code[1]]))).collect()
    }
}

#[cfg(test)]
impl Codes {
    /// For any ids.
    pub const WIDE: Self = Self { plain: 1 << 31, width: 4 };
    /// For ids below 1000.
    pub const NARROW: Self = Self { plain: 1000, width: 2 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tokenizer;

    #[test]
    fn every_code_has_one_meaning() {
        for (plain, added) in [(1, 0), (1 << 16, 0), (65_000, 536), (50_265, 3), (30_522, 103)] {
            let codes = Codes::new(plain, added);
            assert_eq!(codes.width, 2);
            let tokens: Vec<u32> = (0..plain as u32).chain((0..added as u32).map(|id| id | SPECIAL)).collect();
            let mut bytes = Vec::new();
            codes.append(&mut bytes, &tokens).unwrap();
            assert_eq!(bytes.len() as u64, codes.bytes(tokens.len() as u64).unwrap());
            assert!(codes.packed(&bytes) == tokens, "{plain} ids, {added} added");
            assert!(codes.append(&mut bytes, &[plain as u32]).is_err(), "an id that is none");
        }
        for (plain, added) in [((1 << 16) + 1, 0), (65_000, 537), (50_300, 50_258)] {
            assert_eq!(Codes::new(plain, added).width, 4, "{plain} ids, {added} added");
        }
        let tokens = [0, 7 | SPECIAL, SPECIAL - 1, u32::MAX];
        let mut bytes = Vec::new();
        Codes::WIDE.append(&mut bytes, &tokens).unwrap();
        assert_eq!(Codes::WIDE.packed(&bytes), tokens);
    }

    #[test]
    fn the_vocabulary_decides() {
        assert_eq!(Codes::of(&tokenizer("roberta-small")).width, 2);
        assert_eq!(Codes::of(&tokenizer("bert-cased-small")).width, 2);
    }
}
