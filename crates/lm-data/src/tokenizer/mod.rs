//! Tokenizers: any Hugging Face tokenizer folder, read and written as Python's `transformers` 4.57 does.

mod check;
mod class;
mod error;
mod legacy;
mod library;
mod load;
mod rules;
mod save;
mod segments;
mod sentencepiece;
mod settings;
mod special;
mod train;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::{ModelWrapper, PostProcessor, PreTokenizerWrapper, Tokenizer};

pub use error::TokenizerError;
pub use settings::{OTHER_FILES, VOCABULARY_FILES};
pub use train::TrainKind;

use load::Loaded;
use rules::Rules;
use segments::Segments;
use settings::Settings;
use special::SpecialToken;

/// A side of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the first token.
    Left,
    /// After the last token.
    Right,
}

/// One encoded text, its special tokens added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 for each token that was added around the text, 0 for each token of the text itself.
    pub special_tokens_mask: Vec<u8>,
    /// Whether tokens were cut off.
    pub truncated: bool,
}

/// Ids of the special tokens, as Python's `mask_token_id` and so on give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `pad_token_id`.
    pub pad: Option<u32>,
    /// `cls_token_id`.
    pub cls: Option<u32>,
    /// `sep_token_id`.
    pub sep: Option<u32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `unk_token_id`.
    pub unk: Option<u32>,
    /// `all_special_ids`: each of the above once, then the additional special tokens.
    pub all_special_ids: Vec<u32>,
}

/// A tokenizer with the settings that Python keeps beside it.
#[derive(Clone)]
pub struct LmTokenizer {
    backend: Tokenizer,
    /// Where it came from, for messages.
    name: String,
    segments: Segments,
    /// The rules by which texts are encoded, where it is not the backend that does it.
    rules: Option<Arc<Rules>>,
    settings: Settings,
    sentencepiece: Option<Vec<u8>>,
    special: SpecialTokens,
    /// Tokens put before and after every text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// By id: whether the token begins a word.
    word_starts: Vec<bool>,
    fingerprint: String,
}

impl LmTokenizer {
    /// Reads a tokenizer from a folder: tokenizer.json, or the old vocabulary files of a known class, each with
    /// tokenizer_config.json, special_tokens_map.json and added_tokens.json where they exist.
    ///
    /// # Errors
    /// If the folder holds no tokenizer, or a file of it cannot be read or contradicts another.
    pub fn from_folder(dir: &Path) -> Result<Self, TokenizerError> {
        Self::from_folder_of(dir, None)
    }

    /// The same, of a model of this `model_type` where the folder does not say what it is of: a vocab.txt of 2019 has
    /// nothing beside it.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder).
    pub fn from_folder_of(dir: &Path, model_type: Option<&str>) -> Result<Self, TokenizerError> {
        let damaged = |cause: String| {
            let file = Some(dir.join(settings::TOKENIZER_FILE)).filter(|file| file.is_file());
            let message = format!("no tokenizer can be made of it: {cause}; {}", error::advice(&cause));
            TokenizerError::invalid(file.unwrap_or_else(|| dir.to_owned()), message)
        };
        let tokenizer = library::caught(|| {
            let tokenizer = Self::new(load::from_folder(dir, model_type)?, dir)?;
            // Some faults show only at a text.
            tokenizer.probe().map_err(damaged)?;
            Ok(tokenizer)
        });
        tokenizer.unwrap_or_else(|cause| Err(damaged(cause)))
    }

    /// Trains a tokenizer of `vocab_size` tokens at most, special ones included, on lines of text. The same lines give the
    /// same tokenizer, byte for byte. `model_max_length` is what its configuration will say; `None` for no limit.
    ///
    /// # Errors
    /// Those of `lines`; and if there is no text, or `vocab_size` does not hold the text's characters.
    pub fn train<E: From<TokenizerError>>(
        kind: TrainKind,
        vocab_size: usize,
        model_max_length: Option<usize>,
        lines: impl IntoIterator<Item = Result<String, E>>,
    ) -> Result<Self, E> {
        let loaded = train::train(kind, vocab_size, model_max_length, lines)?;
        Ok(Self::new(loaded, Path::new("trained tokenizer"))?)
    }

    /// Writes what Python's `save_pretrained` writes: tokenizer.json, tokenizer_config.json, special_tokens_map.json and
    /// the old vocabulary files of the class. Python's AutoTokenizer reads the folder back to the same ids.
    ///
    /// # Errors
    /// If the folder or a file in it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        save::to_folder(&self.backend, &self.settings, self.rules.as_deref(), self.sentencepiece.as_deref(), dir)
    }

    fn new(loaded: Loaded, dir: &Path) -> Result<Self, TokenizerError> {
        let Loaded { backend, settings, sentencepiece, rules } = loaded;
        check_ids(&backend, dir)?;
        let (prefix, suffix) = surroundings(&backend, dir)?;
        let special = special_ids(&backend, &settings);
        let word_starts = word_starts(&backend);
        let text = backend.to_string(false).map_err(|error| TokenizerError::invalid(dir, error.to_string()))?;
        let mut hash = Sha256::new();
        hash.update(text.as_bytes());
        // What decides about ids but is not part of tokenizer.json.
        hash.update([truncates_left(&settings).into(), backend.get_encode_special_tokens().into()]);
        if let Some(rules) = &rules {
            rules.digest(&mut hash);
        }
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let segments = Segments::new(&backend);
        let file = dir.join(settings::TOKENIZER_FILE);
        let name = if file.is_file() { file.display() } else { dir.display() }.to_string();
        Ok(Self {
            backend,
            name,
            segments,
            rules,
            settings,
            sentencepiece,
            special,
            prefix,
            suffix,
            word_starts,
            fingerprint,
        })
    }

    /// Encodes a short text as a whole: some faults of a tokenizer show only then, and so does one that makes much of
    /// little.
    fn probe(&self) -> Result<(), String> {
        const TEXT: &str = "The quick brown fox, aged 1,234,567,890, jumps over the lazy dog's (\"old\") den.\n";
        const MOST: usize = 100;
        let mut text = tokenizers::NormalizedString::from(TEXT);
        if let Some(normalizer) = self.backend.get_normalizer() {
            tokenizers::Normalizer::normalize(normalizer, &mut text).map_err(|error| error.to_string())?;
        }
        match text.get().len() / TEXT.len() {
            // What the vocabulary has no token for is an error of the text, not of the tokenizer.
            0..MOST => {
                let _ = self.ids(TEXT);
                Ok(())
            }
            times => Err(format!("its normalizer makes text {times} times as long")),
        }
    }

    /// Encodes texts in parallel, with special tokens around each. With `truncate_to`, a sequence has at most so
    /// many tokens, the special ones counted; what is cut is the end of the text (its beginning if the
    /// tokenizer says `truncation_side: left`).
    ///
    /// # Errors
    /// If a text cannot be encoded, or `truncate_to` leaves no room beside the special tokens.
    pub fn encode_batch(&self, texts: &[&str], truncate_to: Option<usize>) -> Result<Vec<Encoded>, TokenizerError> {
        let added = self.num_special_tokens_to_add();
        let room = match truncate_to {
            None => usize::MAX,
            Some(max_length) if max_length > added => max_length - added,
            Some(max_length) => {
                return Err(TokenizerError::NoRoom { max_length, special_tokens: added });
            }
        };
        texts.par_iter().enumerate().map(|(index, text)| self.encode_one(index, text, room)).collect()
    }

    /// The ids of a text, without special tokens around it.
    fn ids(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        match &self.rules {
            Some(rules) => rules.encode(&self.backend, text),
            None => self.segments.encode(&self.backend, text),
        }
    }

    /// Encodes one text; `room` is the largest number of tokens of the text itself.
    fn encode_one(&self, index: usize, text: &str, room: usize) -> Result<Encoded, TokenizerError> {
        let ids = library::caught(|| self.ids(text));
        let start = || text.chars().take(40).collect();
        let mut ids = ids
            .map_err(|cause| TokenizerError::Stopped { index, file: self.name.clone(), text: start(), cause })?
            .map_err(|error| TokenizerError::Encode { index, text: start(), message: error.to_string() })?;
        let cut = ids.len().saturating_sub(room);
        if cut > 0 && truncates_left(&self.settings) {
            ids.drain(..cut);
        }
        ids.truncate(room);
        let mut special_tokens_mask = vec![1; self.prefix.len() + ids.len() + self.suffix.len()];
        special_tokens_mask[self.prefix.len()..][..ids.len()].fill(0);
        // In place, since the text may be long.
        ids.splice(..0, self.prefix.iter().copied());
        ids.extend_from_slice(&self.suffix);
        Ok(Encoded { ids, special_tokens_mask, truncated: cut > 0 })
    }

    /// The text of `ids`, special tokens included; ids outside the vocabulary are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let tokens: Vec<String> = ids.iter().filter_map(|id| self.token(*id)).collect();
        let by_rules = self.rules.as_ref().and_then(|rules| rules.decode(&tokens));
        by_rules.unwrap_or_else(|| self.backend.decode(ids, false).unwrap_or_else(|_| tokens.join(" ")))
    }

    /// The token with this id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.backend.id_to_token(id)
    }

    /// The id of this token, as the vocabulary spells it.
    #[cfg(test)]
    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.backend.token_to_id(token)
    }

    /// Python's `len(tokenizer)`: the vocabulary with the added tokens.
    #[expect(clippy::len_without_is_empty, reason = "no tokenizer is empty")]
    pub fn len(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// The largest id that the tokenizer can give; above `len() - 1` where the vocabulary has holes.
    pub fn max_id(&self) -> u32 {
        self.word_starts.len().saturating_sub(1) as u32
    }

    /// Ids of the special tokens.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// `model_max_length`, `usize::MAX` where there is no limit.
    pub fn model_max_length(&self) -> usize {
        // Python writes its "no limit" as 1e30, which does not fit an integer here.
        let options = &self.settings.options;
        options
            .get("model_max_length")
            .or_else(|| options.get("max_len"))
            .and_then(|value| value.as_u64())
            .and_then(|value| usize::try_from(value).ok())
            .unwrap_or(usize::MAX)
    }

    /// The side on which batches are padded.
    pub fn padding_side(&self) -> Side {
        match self.settings.options.get("padding_side").and_then(Value::as_str) {
            Some("left") => Side::Left,
            Some(_) => Side::Right,
            None if self.settings.class.pads_left() => Side::Left,
            None => Side::Right,
        }
    }

    /// Whether the token with this id begins a word (`##ing` does not, `Ġthe` does), for whole-word masking.
    /// The first token of a text begins one in any case.
    pub(crate) fn is_word_start(&self, id: u32) -> bool {
        self.word_starts.get(id as usize).copied().unwrap_or(true)
    }

    /// Ids that [`encode_batch`](Self::encode_batch) may put around a text.
    pub(crate) fn added_ids(&self) -> impl Iterator<Item = u32> {
        self.prefix.iter().chain(&self.suffix).copied()
    }

    /// Hash of everything that decides which ids a text gets, for keys of caches.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// How many special tokens [`encode_batch`](Self::encode_batch) puts around a text.
    pub fn num_special_tokens_to_add(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }
}

/// Refuses ids so far above the number of tokens that no embedding could be meant.
fn check_ids(backend: &Tokenizer, dir: &Path) -> Result<(), TokenizerError> {
    let size = backend.get_vocab_size(true);
    let vocab = backend.get_vocab(true);
    match vocab.iter().max_by_key(|(_, id)| **id) {
        Some((token, id)) if *id as usize > size * 2 + 65_536 => Err(TokenizerError::invalid(
            dir,
            format!("token {token:?} has id {id}, but the vocabulary has {size} tokens; the vocabulary is damaged"),
        )),
        _ => Ok(()),
    }
}

/// Which ids begin a word: those without WordPiece's `##`, with byte-level BPE's `Ġ`, with sentencepiece's `▁`.
/// Tokens that were added to the vocabulary are words of their own; a model that marks no word starts has one word per token.
fn word_starts(backend: &Tokenizer) -> Vec<bool> {
    let continuation = match backend.get_model() {
        ModelWrapper::WordPiece(model) => Some(model.continuing_subword_prefix.clone()),
        _ => None,
    };
    let start = backend.get_pre_tokenizer().and_then(start_mark);
    let vocab = backend.get_vocab(true);
    let size = vocab.values().max().map_or(0, |max| *max as usize + 1);
    let mut starts = vec![true; size];
    for (token, id) in vocab {
        starts[id as usize] = match (&continuation, start) {
            (Some(prefix), _) => prefix.is_empty() || !token.starts_with(prefix.as_str()),
            (None, Some(mark)) => token.starts_with(mark),
            (None, None) => true,
        };
    }
    for id in backend.get_added_tokens_decoder().into_keys() {
        starts[id as usize] = true;
    }
    starts
}

/// The character with which the pre-tokenizer marks the beginning of a word.
fn start_mark(pre_tokenizer: &PreTokenizerWrapper) -> Option<char> {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(_) => Some('Ġ'),
        PreTokenizerWrapper::Metaspace(metaspace) => Some(metaspace.get_replacement()),
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().iter().find_map(start_mark),
        _ => None,
    }
}

impl std::fmt::Debug for LmTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LmTokenizer")
            .field("class", &self.settings.class_name)
            .field("len", &self.len())
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

fn truncates_left(settings: &Settings) -> bool {
    settings.options.get("truncation_side").and_then(Value::as_str) == Some("left")
}

/// The tokens that the post-processor puts before and after a text, found by letting it process one token.
fn surroundings(backend: &Tokenizer, dir: &Path) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    let Some(processor) = backend.get_post_processor() else {
        return Ok((Vec::new(), Vec::new()));
    };
    const TEXT: u32 = u32::MAX;
    let token = tokenizers::Token::new(TEXT, "text".to_owned(), (0, 4));
    let encoding = tokenizers::Encoding::from_tokens(vec![token], 0);
    let processed = processor
        .process(encoding, None, true)
        .map_err(|error| TokenizerError::invalid(dir, format!("post-processor: {error}")))?;
    let ids = processed.get_ids();
    let mut parts = ids.split(|id| *id == TEXT);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(suffix), None) => Ok((prefix.to_vec(), suffix.to_vec())),
        _ => Err(TokenizerError::invalid(dir, "the tokenizer's post-processor does not keep the text exactly once")),
    }
}

fn special_ids(backend: &Tokenizer, settings: &Settings) -> SpecialTokens {
    let id = |token: &SpecialToken| backend.token_to_id(token.content());
    let unk = settings.special.role("unk_token").and_then(id);
    // As in Python, a special token that has no id of its own counts as unknown.
    let role = |name: &str| settings.special.role(name).and_then(|token| id(token).or(unk));
    let mut all_special_ids: Vec<u32> = Vec::new();
    for token in settings.special.all() {
        if let Some(id) = id(token).or(unk)
            && !all_special_ids.contains(&id)
        {
            all_special_ids.push(id);
        }
    }
    SpecialTokens {
        mask: role("mask_token"),
        pad: role("pad_token"),
        cls: role("cls_token"),
        sep: role("sep_token"),
        bos: role("bos_token"),
        eos: role("eos_token"),
        unk,
        all_special_ids,
    }
}
