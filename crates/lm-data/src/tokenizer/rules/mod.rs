//! Tokenizers that Python runs by code of its own, where no tokenizer.json says what is done: rules that cut a text into
//! words, and words into pieces of a vocabulary.

mod bpe;
mod jieba;
mod moses;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizedString, NormalizerWrapper, OffsetReferential, OffsetType,
};
use tokenizers::{ModelWrapper, Tokenizer};

use super::class::Kind;
use super::segments::{Memory, check_length};
use super::settings::Settings;
use bpe::Merges;
use moses::Language;

/// How a text becomes words, and words pieces.
enum Cut {
    /// Moses' English, then maybe lower case without accents.
    Xlm { lower: bool },
    /// Moses' French.
    Flaubert { lower: bool },
    /// Moses' English with dashes split and XML's characters escaped.
    BioGpt,
    /// Words with the line end behind them; all pieces but a word's last end in `@@`.
    Ctrl,
    /// Whatever of the vocabulary stands in the text, and the words between.
    Esm(Box<AddedVocabulary>),
    /// Jieba's words, cut into pieces by the backend's model.
    RoFormer,
}

/// A tokenizer's rules and merges. Its vocabulary, special tokens and post-processor are a backend's, as any
/// tokenizer's are.
pub(super) struct Rules {
    cut: Cut,
    merges: Merges,
    unk: String,
    memory: Memory,
}

impl Rules {
    /// For a class of these whose vocabulary is `model`'s; `merges` are the lines of its merges.txt.
    pub fn new<'a>(settings: &Settings, model: &ModelWrapper, merges: impl Iterator<Item = &'a str>) -> Option<Self> {
        let cut = match settings.class.kind {
            Kind::Xlm => Cut::Xlm { lower: settings.flag("do_lowercase_and_remove_accent", true) },
            Kind::Flaubert => Cut::Flaubert { lower: settings.flag("do_lowercase", false) },
            Kind::BioGpt => Cut::BioGpt,
            Kind::Ctrl => Cut::Ctrl,
            Kind::Esm => {
                let mut pieces = AddedVocabulary::new();
                let tokens: Vec<AddedToken> = model
                    .get_vocab()
                    .into_keys()
                    .map(|token| AddedToken::from(token, false).normalized(false))
                    .collect();
                pieces.add_tokens(&tokens, model, None::<&NormalizerWrapper>);
                Cut::Esm(Box::new(pieces))
            }
            Kind::RoFormer => Cut::RoFormer,
            _ => return None,
        };
        let unk = settings.special.role("unk_token").map_or(String::new(), |token| token.content().to_owned());
        Some(Self { cut, merges: Merges::new(merges), unk, memory: Memory::default() })
    }

    /// The ids of a text, without special tokens around it.
    pub fn encode(&self, backend: &Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
        check_length(text)?;
        let (added, normalizer) = (backend.get_added_vocabulary(), backend.get_normalizer());
        let lower = matches!(self.cut, Cut::Xlm { lower: true });
        // Python lowers all but special tokens first, and may find more of these then.
        let lowered = lower.then(|| parts(added, normalizer, text).map(lowercase).collect::<String>());
        let text = lowered.as_deref().unwrap_or(text);
        let mut ids = Vec::with_capacity(text.len() / 3);
        for (part, id) in parts(added, normalizer, text) {
            match id {
                Some(id) => ids.push(id),
                None => self.memory.extend(&mut ids, self.words(&part)?, |word| self.ids(backend, word))?,
            }
        }
        Ok(ids)
    }

    fn words(&self, text: &str) -> tokenizers::Result<Vec<String>> {
        Ok(match &self.cut {
            Cut::RoFormer => jieba::words(text)?,
            Cut::Xlm { lower } => {
                let words = moses::tokenize(&printable(text, Language::English), Language::English, false, false);
                if *lower { without_accents(&words) } else { words }
            }
            Cut::Flaubert { lower } => {
                let mut text = NormalizedString::from(text.replace("``", "\"").replace("''", "\""));
                text.nfc();
                let text = if *lower { text.get().to_lowercase() } else { text.get().to_owned() };
                moses::tokenize(&printable(&text, Language::French), Language::French, false, false)
            }
            Cut::BioGpt => moses::tokenize(text, Language::English, true, true),
            // Python's `regex` here, for which a separator of ASCII is no space.
            Cut::Ctrl => text
                .split_inclusive(char::is_whitespace)
                .filter_map(|word| {
                    let end = word.trim_end_matches(|c: char| c.is_whitespace() && c != '\n');
                    Some(end.to_owned()).filter(|word| !word.is_empty() && word != "\n")
                })
                .collect(),
            Cut::Esm(vocabulary) => {
                let words = |(part, id): (String, Option<u32>)| match id {
                    Some(_) => vec![part],
                    None => moses::words(&part).map(str::to_owned).collect(),
                };
                parts(vocabulary, None, text).flat_map(words).collect()
            }
        })
    }

    fn ids(&self, backend: &Tokenizer, word: &str) -> tokenizers::Result<Vec<u32>> {
        let pieces = match self.cut {
            Cut::RoFormer => {
                return Ok(backend.get_model().tokenize(word)?.into_iter().map(|token| token.id).collect());
            }
            Cut::Esm(_) => vec![word.to_owned()],
            Cut::Ctrl => {
                let mut pieces = self.merges.pieces(word);
                let last = pieces.pop().unwrap_or_default();
                pieces.iter_mut().for_each(|piece| piece.push_str("@@"));
                pieces.push(last.strip_suffix("</w>").map_or(last.clone(), str::to_owned));
                pieces
            }
            _ => self.merges.pieces(word),
        };
        let id = |piece: &String| backend.token_to_id(piece).or_else(|| backend.token_to_id(&self.unk));
        let ids: Option<Vec<u32>> = pieces.iter().map(id).collect();
        ids.ok_or_else(|| format!("{word:?} is not in the vocabulary, which has no unknown token").into())
    }

    /// The text of tokens, spaced as Python spaces it before Moses puts punctuation back; none where the backend knows.
    pub fn decode(&self, tokens: &[String]) -> Option<String> {
        let text = match self.cut {
            Cut::RoFormer => return None,
            Cut::Esm(_) => tokens.join(" "),
            Cut::Ctrl => tokens.join(" ").replace("@@ ", ""),
            _ => tokens.concat().replace("</w>", " "),
        };
        Some(text.trim().to_owned())
    }

    /// Adds to a hash what decides about ids beside the backend.
    pub fn digest(&self, hash: &mut Sha256) {
        let (rules, lower) = match self.cut {
            Cut::Xlm { lower } => (0, lower),
            Cut::Flaubert { lower } => (1, lower),
            Cut::BioGpt => (2, false),
            Cut::Ctrl => (3, false),
            Cut::Esm(_) => (4, false),
            Cut::RoFormer => (5, false),
        };
        hash.update([rules, lower.into()]);
        self.merges.lines().iter().for_each(|line| hash.update(format!("{line}\n")));
    }

    /// The files of Python's `save_vocabulary`: names and contents.
    pub fn files(&self, backend: &Tokenizer) -> Result<Vec<(&'static str, String)>, serde_json::Error> {
        let vocab: BTreeMap<String, u32> = backend.get_vocab(false).into_iter().collect();
        if let Cut::Esm(_) = self.cut {
            let tokens: BTreeMap<u32, String> = vocab.into_iter().map(|(token, id)| (id, token)).collect();
            return Ok(vec![("vocab.txt", tokens.into_values().collect::<Vec<_>>().join("\n"))]);
        }
        let header = if matches!(self.cut, Cut::Ctrl) { "#version: 0.2\n" } else { "" };
        let merges: String = self.merges.lines().iter().map(|line| format!("{line}\n")).collect();
        let vocab = serde_json::to_string_pretty(&vocab)? + "\n";
        Ok(vec![("vocab.json", vocab), ("merges.txt", header.to_owned() + &merges)])
    }
}

/// A text cut at the tokens of a vocabulary, each with its id; what is between is normalized.
fn parts(
    vocabulary: &AddedVocabulary,
    normalizer: Option<&NormalizerWrapper>,
    text: &str,
) -> impl Iterator<Item = (String, Option<u32>)> {
    let cut = vocabulary.extract_and_normalize(normalizer, text);
    let part = |(part, _, tokens): (&str, _, &Option<Vec<tokenizers::Token>>)| {
        (part.to_owned(), tokens.as_ref().and_then(|tokens| Some(tokens.first()?.id)))
    };
    cut.get_splits(OffsetReferential::Original, OffsetType::None).into_iter().map(part).collect::<Vec<_>>().into_iter()
}

/// Character by character, as Python does it here: no sigma is a final one.
fn lowercase((part, id): (String, Option<u32>)) -> String {
    match id {
        Some(_) => part,
        None => part.chars().flat_map(char::to_lowercase).collect(),
    }
}

/// `moses_pipeline` of Python's classes.
fn printable(text: &str, language: Language) -> String {
    moses::without_controls(&moses::normalize(&moses::ascii_punctuation(text), language))
}

/// `lowercase_and_remove_accent` of Python's XLM tokenizer.
fn without_accents(words: &[String]) -> Vec<String> {
    static ACCENTS: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| moses::pattern(r"\p{Mn}"));
    let mut text = NormalizedString::from(words.join(" ").to_lowercase());
    text.nfd();
    let text = ACCENTS.replace_all(text.get(), "").to_lowercase();
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("merges", &self.merges.lines().len()).finish_non_exhaustive()
    }
}

/// Whether the lines of a class's merges.txt begin with one that is none.
pub(super) fn has_header(kind: Kind) -> bool {
    kind == Kind::Ctrl
}

/// Writes the vocabulary's files into a folder.
pub(super) fn save(rules: &Rules, backend: &Tokenizer, dir: &Path) -> std::io::Result<()> {
    let files = rules.files(backend).map_err(std::io::Error::other)?;
    files.iter().try_for_each(|(name, text)| lm_files::write(&dir.join(name), text.as_bytes()))
}
