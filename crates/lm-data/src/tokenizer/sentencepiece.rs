//! Reading sentencepiece models (`spiece.model`, `sentencepiece.bpe.model`, `spm.model`).

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use super::error::TokenizerError;

/// The piece that stands for the byte of a tab.
pub(super) const TAB: &str = "<0x09>";

/// The parts of sentencepiece_model.proto that a tokenizer is built from.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(float, tag = "2")]
    score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    /// 1 unigram, 2 BPE, 3 word, 4 char.
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
    #[prost(string, optional, tag = "45")]
    unk_piece: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

impl Piece {
    pub fn log_probability(&self) -> f64 {
        f64::from(self.score)
    }

    pub fn is_control(&self) -> bool {
        self.kind == Some(3)
    }

    pub fn is_user_defined(&self) -> bool {
        self.kind == Some(4)
    }
}

impl ModelProto {
    /// Parses and checks a model.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, TokenizerError> {
        let invalid = |message: String| {
            TokenizerError::invalid(
                path,
                format!("not a sentencepiece model: {message}; the file is damaged, copy or download it again"),
            )
        };
        let model = Self::decode(bytes).map_err(|error| invalid(error.to_string()))?;
        if model.pieces.is_empty() {
            return Err(invalid("it has no pieces".to_owned()));
        }
        let mut seen = HashMap::new();
        for (id, piece) in model.pieces.iter().enumerate() {
            if piece.text.is_empty() {
                return Err(invalid(format!("piece {id} is empty")));
            }
            if !piece.log_probability().is_finite() {
                return Err(invalid(format!("piece {id} has no finite score")));
            }
            if let Some(first) = seen.insert(piece.text.as_str(), id) {
                return Err(invalid(format!("pieces {first} and {id} are the same")));
            }
        }
        Ok(model)
    }

    pub fn model_type(&self) -> i32 {
        let spec = self.trainer_spec.as_ref();
        spec.and_then(|spec| spec.model_type).unwrap_or(1)
    }

    pub fn unk_id(&self) -> i32 {
        let spec = self.trainer_spec.as_ref();
        spec.and_then(|spec| spec.unk_id).unwrap_or(0)
    }

    pub fn unk_piece(&self) -> &str {
        let spec = self.trainer_spec.as_ref();
        spec.and_then(|spec| spec.unk_piece.as_deref()).unwrap_or("<unk>")
    }

    /// The compiled normalisation rules; `None` if the model normalises nothing.
    pub fn charsmap(&self) -> Option<&[u8]> {
        let spec = self.normalizer_spec.as_ref();
        spec.and_then(|spec| spec.precompiled_charsmap.as_deref()).filter(|bytes| !bytes.is_empty())
    }

    /// The merges that a BPE model's scores imply (`generate_merges` in Python): every way to cut a piece into two
    /// pieces, best score first, and among equals longer parts first.
    /// With `tabs` the byte of the tab is the tab as well, where no other piece is.
    pub fn merges(&self, tabs: bool) -> Vec<(String, String)> {
        let mut ids: HashMap<&str, usize> =
            self.pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
        if let Some(id) = ids.get(TAB).copied().filter(|_| tabs) {
            ids.entry("\t").or_insert(id);
        }
        let mut merges = Vec::new();
        for piece in &self.pieces {
            let text = piece.text.as_str();
            let mut cuts: Vec<(usize, usize, &str, &str)> = text
                .char_indices()
                .skip(1)
                .filter_map(|(at, _)| {
                    let (left, right) = text.split_at(at);
                    Some((*ids.get(left)?, *ids.get(right)?, left, right))
                })
                .collect();
            cuts.sort_by_key(|(left, right, ..)| (*left, *right));
            merges.extend(cuts.into_iter().map(|(_, _, left, right)| {
                let lengths = (left.chars().count(), right.chars().count());
                (piece.log_probability(), lengths, left.to_owned(), right.to_owned())
            }));
        }
        // Stable, like Python's reversed sort: equal keys keep their order.
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        merges.into_iter().map(|(_, _, left, right)| (left, right)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(pieces: &[(&str, f32)]) -> ModelProto {
        ModelProto {
            pieces: pieces
                .iter()
                .map(|(text, score)| Piece { text: (*text).to_owned(), score: *score, kind: None })
                .collect(),
            trainer_spec: None,
            normalizer_spec: None,
        }
    }

    #[test]
    fn merges_come_best_score_first() {
        let model = model(&[("a", 0.0), ("b", 0.0), ("ab", -1.0), ("aba", -2.0), ("ba", -3.0)]);
        let expected = [("a", "b"), ("ab", "a"), ("a", "ba"), ("b", "a")];
        let expected = expected.map(|(left, right)| (left.to_owned(), right.to_owned()));
        assert_eq!(model.merges(false), expected);
    }

    #[test]
    fn damaged_models_are_refused() {
        let path = Path::new("spiece.model");
        let whole = model(&[("<unk>", 0.0), ("a", -1.0)]).encode_to_vec();
        assert!(ModelProto::parse(&whole, path).is_ok());
        assert!(ModelProto::parse(&[], path).is_err());
        assert!(ModelProto::parse(&whole[..whole.len() - 1], path).is_err());
        assert!(ModelProto::parse(b"version https://git-lfs", path).is_err());
        assert!(ModelProto::parse(&model(&[("a", 0.0), ("a", 0.0)]).encode_to_vec(), path).is_err());
        assert!(ModelProto::parse(&model(&[("", 0.0)]).encode_to_vec(), path).is_err());
        assert!(ModelProto::parse(&model(&[("a", f32::NAN)]).encode_to_vec(), path).is_err());
    }
}
