//! Training a tokenizer on text, the same one for the same text on every machine.
//!
//! Words are counted here and handed to the trainers of the `tokenizers` library in a fixed order; where those leave an
//! order to a hash table or to the number of threads, this module settles it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, json};
use tokenizers::decoders::bpe::BPEDecoder;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{
    BertNormalizer, Lowercase, NFKC, NFKD, Nmt, NormalizerWrapper, Replace, Sequence, StripAccents,
};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizedString, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, Tokenizer,
};

use super::class::Class;
use super::error::TokenizerError;
use super::load::{self, Loaded};
use super::settings::Settings;
use super::special::{SpecialMap, SpecialToken};

/// The tokenizers that can be trained, named after the model whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainKind {
    /// WordPiece, lowercased, `[CLS] A [SEP]`: BERT, DistilBERT, ELECTRA and their like.
    Bert,
    /// Byte-level BPE, `<s> A </s>`, padding 1: RoBERTa, and who counts positions or tokens as it does.
    Roberta,
    /// Byte-level BPE with `<|endoftext|>`: GPT-2 and all decoders since.
    Gpt2,
    /// Lowercased BPE of characters: the first GPT.
    OpenAiGpt,
    /// Unigram, lowercased, `[CLS] A [SEP]`: ALBERT, and who else has sentencepiece models.
    Albert,
    /// Unigram, `A <sep> <cls>`: XLNet.
    XlNet,
}

impl TrainKind {
    /// The kind that fits a `model_type` of config.json; `None` if no kind does.
    pub fn for_model_type(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" | "distilbert" | "electra" | "mobilebert" | "ernie" | "megatron-bert" | "convbert" | "roformer"
            | "modernbert" | "deberta" => Some(Self::Bert),
            "roberta"
            | "xlm-roberta"
            | "camembert"
            | "longformer"
            | "roberta-prelayernorm"
            | "xlm-roberta-xl"
            | "data2vec-text"
            | "mpnet"
            | "esm"
            | "xlm"
            | "flaubert" => Some(Self::Roberta),
            "gpt2" | "gpt_neo" | "gptj" | "gpt_neox" | "opt" | "bloom" | "ctrl" | "biogpt" | "phi" | "phi3"
            | "falcon" | "stablelm" | "starcoder2" | "llama" | "mistral" | "qwen2" | "qwen3" | "smollm3" | "olmo2"
            | "granite" | "gemma" | "gemma2" | "gemma3_text" => Some(Self::Gpt2),
            "openai-gpt" => Some(Self::OpenAiGpt),
            "albert" | "deberta-v2" | "big_bird" | "rembert" => Some(Self::Albert),
            "xlnet" => Some(Self::XlNet),
            _ => None,
        }
    }

    fn class_name(self) -> &'static str {
        match self {
            Self::Bert => "BertTokenizer",
            Self::Roberta => "RobertaTokenizer",
            Self::Gpt2 => "GPT2Tokenizer",
            Self::OpenAiGpt => "OpenAIGPTTokenizer",
            Self::Albert => "AlbertTokenizer",
            Self::XlNet => "XLNetTokenizer",
        }
    }

    /// The first tokens of the vocabulary, in the order of the published tokenizers.
    fn special_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Bert => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Self::Roberta => &["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            Self::Gpt2 => &["<|endoftext|>"],
            Self::OpenAiGpt => &["<unk>"],
            Self::Albert => &["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
            Self::XlNet => &["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
        }
    }

    fn is_unigram(self) -> bool {
        matches!(self, Self::Albert | Self::XlNet)
    }

    fn is_byte_level(self) -> bool {
        matches!(self, Self::Roberta | Self::Gpt2)
    }
}

/// Words that occur less often make no tokens (`min_frequency` of Python's trainers).
const MIN_FREQUENCY: u64 = 2;
/// So many of the most frequent characters are kept (`limit_alphabet` of Python's BERT trainer), while they take no more
/// than a quarter of the vocabulary.
const MAX_CHARACTERS: usize = 1000;
/// More are kept until they make up this share of the text, as in sentencepiece; rarer ones become unknown.
const CHARACTER_COVERAGE: f64 = 0.9995;
/// Longer words hold no statistics worth their cost, which grows with the square of the length.
const MAX_WORD_CHARS: usize = 256;
/// Lines counted in parallel at a time.
const LINES_AT_ONCE: usize = 10_000;

/// Normalisation, splitting and decoding of one kind.
struct Pipeline {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
    decoder: DecoderWrapper,
}

pub(super) fn train<E: From<TokenizerError>>(
    kind: TrainKind,
    vocab_size: usize,
    model_max_length: Option<usize>,
    lines: impl IntoIterator<Item = Result<String, E>>,
) -> Result<Loaded, E> {
    let pipeline = pipeline(kind)?;
    let words = count_words(&pipeline, lines)?;
    Ok(build(kind, vocab_size, model_max_length, pipeline, words)?)
}

fn pipeline(kind: TrainKind) -> Result<Pipeline, TokenizerError> {
    let failed = |error: tokenizers::Error| TokenizerError::Train(error.to_string());
    Ok(match kind {
        TrainKind::Bert | TrainKind::OpenAiGpt => Pipeline {
            normalizer: Some(BertNormalizer::new(true, true, None, true).into()),
            pre_tokenizer: BertPreTokenizer.into(),
            decoder: match kind {
                TrainKind::Bert => WordPieceDecoder::default().into(),
                _ => BPEDecoder::new("</w>".to_owned()).into(),
            },
        },
        TrainKind::Roberta | TrainKind::Gpt2 => Pipeline {
            normalizer: None,
            pre_tokenizer: ByteLevel::new(false, true, true).into(),
            decoder: ByteLevel::default().into(),
        },
        TrainKind::Albert | TrainKind::XlNet => {
            // The published models' rules; NMT and NFKC stand for the table compiled into their spiece.model.
            let mut parts: Vec<NormalizerWrapper> = vec![
                Replace::new("``", "\"").map_err(failed)?.into(),
                Replace::new("''", "\"").map_err(failed)?.into(),
                Nmt.into(),
                NFKD.into(),
                StripAccents.into(),
            ];
            if kind == TrainKind::Albert {
                parts.push(Lowercase.into());
            }
            parts.push(NFKC.into());
            let spaces = ReplacePattern::Regex(" {2,}".to_owned());
            parts.push(Replace::new(spaces, " ").map_err(failed)?.into());
            let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
            Pipeline {
                normalizer: Some(Sequence::new(parts).into()),
                pre_tokenizer: metaspace.clone().into(),
                decoder: metaspace.into(),
            }
        }
    })
}

/// Every word of the text with its number of occurrences.
fn count_words<E: From<TokenizerError>>(
    pipeline: &Pipeline,
    lines: impl IntoIterator<Item = Result<String, E>>,
) -> Result<BTreeMap<String, u64>, E> {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = lines.into_iter();
    loop {
        let batch = lines.by_ref().take(LINES_AT_ONCE).collect::<Result<Vec<String>, E>>()?;
        if batch.is_empty() {
            return Ok(words);
        }
        let counts = batch
            .par_chunks(LINES_AT_ONCE / 64)
            .map(|lines| count_words_of(pipeline, lines))
            .collect::<Result<Vec<_>, TokenizerError>>()?;
        for (word, count) in counts.into_iter().flatten() {
            *words.entry(word).or_default() += count;
        }
    }
}

fn count_words_of(pipeline: &Pipeline, lines: &[String]) -> Result<HashMap<String, u64>, TokenizerError> {
    let failed = |error: tokenizers::Error| TokenizerError::Train(error.to_string());
    let mut counts = HashMap::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let mut text = NormalizedString::from(line.as_str());
        if let Some(normalizer) = &pipeline.normalizer {
            normalizer.normalize(&mut text).map_err(failed)?;
        }
        let mut text = PreTokenizedString::from(text);
        pipeline.pre_tokenizer.pre_tokenize(&mut text).map_err(failed)?;
        for (word, ..) in text.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if !word.is_empty() && word.chars().count() <= MAX_WORD_CHARS {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

fn build(
    kind: TrainKind,
    vocab_size: usize,
    model_max_length: Option<usize>,
    pipeline: Pipeline,
    mut words: BTreeMap<String, u64>,
) -> Result<Loaded, TokenizerError> {
    if words.is_empty() {
        return Err(TokenizerError::Train("there is no text to train on".to_owned()));
    }
    fit_counts(&mut words);
    let alphabet = if kind.is_byte_level() {
        ByteLevel::alphabet().into_iter().collect()
    } else {
        let alphabet = frequent_characters(&words, vocab_size);
        words.retain(|word, _| word.chars().all(|c| alphabet.contains(&c)));
        alphabet
    };
    let model = if kind.is_unigram() {
        train_unigram(kind, vocab_size, &words, &alphabet)?
    } else {
        train_bpe(kind, vocab_size, &words, &alphabet)?
    };

    let class = Class::by_name(kind.class_name()).unwrap_or(Class::plain());
    let mut special = SpecialMap {
        roles: class.roles.map(|role| role.map(|text| SpecialToken::Text(text.to_owned()))),
        additional: class.additional.iter().map(|text| SpecialToken::Text((*text).to_owned())).collect(),
        extra: Vec::new(),
    };
    class.fast_dress().apply(&mut special);
    let mut options = Map::new();
    if let Some(limit) = model_max_length {
        options.insert("model_max_length".to_owned(), json!(limit));
    }
    let settings =
        Settings { class_name: class.name.to_owned(), class, options, special, added_tokens: BTreeMap::new() };
    let mut backend = Tokenizer::new(model);
    backend.with_normalizer(pipeline.normalizer);
    backend.with_pre_tokenizer(Some(pipeline.pre_tokenizer));
    backend.with_decoder(Some(pipeline.decoder));
    load::complete(backend, settings, Path::new("trained tokenizer"))
}

/// The trainers count in 32 bits: scales the counts of a text too large for that.
fn fit_counts(words: &mut BTreeMap<String, u64>) {
    let total: u64 = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
    let divisor = total.div_ceil(i32::MAX as u64).max(1);
    if divisor > 1 {
        words.values_mut().for_each(|count| *count = (*count / divisor).max(1));
    }
}

/// The characters that get tokens of their own.
fn frequent_characters(words: &BTreeMap<String, u64>, vocab_size: usize) -> BTreeSet<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        for c in word.chars() {
            *counts.entry(c).or_default() += count;
        }
    }
    let enough = (counts.values().sum::<u64>() as f64 * CHARACTER_COVERAGE).ceil() as u64;
    let mut ordered: Vec<(char, u64)> = counts.into_iter().collect();
    ordered.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let affordable = MAX_CHARACTERS.min(vocab_size / 4);
    let mut kept = BTreeSet::new();
    let mut covered = 0;
    for (c, count) in ordered {
        if covered >= enough && kept.len() >= affordable {
            break;
        }
        kept.insert(c);
        covered += count;
    }
    kept
}

fn check_size(vocab_size: usize, special: usize, characters: usize) -> Result<(), TokenizerError> {
    if vocab_size < special + characters {
        return Err(TokenizerError::Train(format!(
            "a vocabulary of {vocab_size} is too small: {special} special tokens and {characters} characters of the text \
             need {} at least",
            special + characters
        )));
    }
    Ok(())
}

fn train_bpe(
    kind: TrainKind,
    vocab_size: usize,
    words: &BTreeMap<String, u64>,
    alphabet: &BTreeSet<char>,
) -> Result<ModelWrapper, TokenizerError> {
    let failed = |error: tokenizers::Error| TokenizerError::Train(error.to_string());
    let special = kind.special_tokens();
    let mut first: Vec<String> = special.iter().map(|token| (*token).to_owned()).collect();
    first.extend(alphabet.iter().map(|c| c.to_string()));
    // The library numbers marked characters in hash order unless they are in the vocabulary beforehand.
    let marked: BTreeSet<String> = match kind {
        TrainKind::Bert => {
            let later = words.keys().flat_map(|word| word.chars().skip(1));
            later.map(|c| format!("##{c}")).collect()
        }
        TrainKind::OpenAiGpt => {
            let last = words.keys().filter_map(|word| word.chars().last());
            last.map(|c| format!("{c}</w>")).collect()
        }
        _ => BTreeSet::new(),
    };
    first.extend(marked);
    check_size(vocab_size, special.len(), first.len() - special.len())?;

    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .special_tokens(first.into_iter().map(|token| AddedToken::from(token, false)).collect());
    let mut model = BPE::builder();
    match kind {
        TrainKind::Bert => {
            trainer = trainer.continuing_subword_prefix("##".to_owned());
            model = model.unk_token("[UNK]".to_owned());
        }
        TrainKind::OpenAiGpt => {
            trainer = trainer.end_of_word_suffix("</w>".to_owned());
            model = model.unk_token("<unk>".to_owned());
        }
        _ => {}
    }
    let mut model = model.build().map_err(failed)?;
    let counts = words.iter().map(|(word, count)| (word.as_str().into(), *count)).collect();
    trainer.build().do_train(&counts, &mut model).map_err(failed)?;
    Ok(match kind {
        TrainKind::Bert => WordPiece::from_bpe(&model).into(),
        _ => model.into(),
    })
}

fn train_unigram(
    kind: TrainKind,
    vocab_size: usize,
    words: &BTreeMap<String, u64>,
    alphabet: &BTreeSet<char>,
) -> Result<ModelWrapper, TokenizerError> {
    let failed = |error: &dyn std::fmt::Display| TokenizerError::Train(error.to_string());
    let special = kind.special_tokens();
    check_size(vocab_size, special.len(), alphabet.len())?;
    let size = u32::try_from(vocab_size).map_err(|error| failed(&error))?;
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .special_tokens(special.iter().map(|token| AddedToken::from(*token, true)).collect())
        .unk_token(Some("<unk>".to_owned()))
        .build()
        .map_err(|error| failed(&error))?;
    let words: Vec<(String, u32)> =
        words.iter().map(|(word, count)| (word.clone(), u32::try_from(*count).unwrap_or(u32::MAX))).collect();
    // The library adds probabilities up in an order that depends on the number of threads.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| failed(&error))?;
    let mut model = Unigram::default();
    one_thread.install(|| trainer.do_train(words, &mut model)).map_err(|error| failed(&error))?;

    let vocab: Vec<(String, f64)> = model.iter().cloned().collect();
    let (first, pieces) = vocab.split_at(special.len().min(vocab.len()));
    let mut pieces = pieces.to_vec();
    settle_added_characters(&mut pieces);
    let vocab: Vec<(String, f64)> = first.iter().cloned().chain(pieces).collect();
    let unk_id = vocab.iter().position(|(piece, _)| piece == "<unk>");
    Ok(Unigram::from(vocab, unk_id, false).map_err(|error| failed(&error))?.into())
}

/// Characters that the training dropped are put back by the library with the lowest score and steps of 0.0001 above it,
/// in the order of a hash table. Hands these scores out in the order of the characters instead, and sorts equal scores.
fn settle_added_characters(pieces: &mut [(String, f64)]) {
    const STEP: f64 = 0.0001;
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let mut added = Vec::new();
    let mut penalty = 0.0;
    loop {
        let score = lowest + penalty;
        let before = added.len();
        added.extend((0..pieces.len()).filter(|i| pieces[*i].1 == score && pieces[*i].0.chars().nth(1).is_none()));
        if added.len() == before {
            break;
        }
        penalty += STEP;
    }
    let scores: Vec<f64> = added.iter().map(|i| pieces[*i].1).collect();
    added.sort_by(|a, b| pieces[*a].0.cmp(&pieces[*b].0));
    for (i, score) in added.into_iter().zip(scores) {
        pieces[i].1 = score;
    }
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}
