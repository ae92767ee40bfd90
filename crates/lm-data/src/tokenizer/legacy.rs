//! Tokenizers from the vocabulary files that older repositories hold instead of tokenizer.json, built as Python's
//! `convert_slow_tokenizer.py` builds them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::bpe::BPEDecoder;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip as StripDecoder;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{
    BertNormalizer, Lowercase, NFC, NFKD, NormalizerWrapper, Precompiled, Prepend, Replace, Sequence, Strip,
    StripAccents, replace::ReplacePattern,
};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::{SpecialToken as TemplateToken, Template, TemplateProcessing};
use tokenizers::{AddedToken, ModelWrapper, PostProcessorWrapper, SplitDelimiterBehavior, Tokenizer};

use super::check::check_charsmap;
use super::class::Kind;
use super::error::TokenizerError;
use super::rules::{Rules, has_header};
use super::sentencepiece::{ModelProto, TAB};
use super::settings::{Settings, read_bytes, read_text};

/// The pattern with which Qwen2 splits text before byte-level BPE.
const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A backend without post-processor, and the sentencepiece file if it came from one.
pub(super) struct Legacy {
    pub backend: Tokenizer,
    pub sentencepiece: Option<Vec<u8>>,
    /// The rules of a class whose texts no backend encodes.
    pub rules: Option<Rules>,
}

/// Whether the folder has all old files of the settings' class.
pub(super) fn missing_files(dir: &Path, settings: &Settings) -> Vec<PathBuf> {
    let names = settings.class.legacy_files().iter();
    names.map(|name| dir.join(name)).filter(|path| !path.is_file()).collect()
}

pub(super) fn read(dir: &Path, settings: &Settings) -> Result<Legacy, TokenizerError> {
    match settings.class.kind {
        Kind::Bert | Kind::MpNet | Kind::RoFormer => word_piece(dir, settings),
        Kind::Xlm | Kind::Flaubert | Kind::BioGpt | Kind::Ctrl | Kind::Esm => word_level(dir, settings),
        Kind::Roberta | Kind::Gpt2 | Kind::Qwen2 | Kind::Deberta | Kind::OpenAiGpt => bpe(dir, settings),
        _ => sentencepiece(dir, settings),
    }
}

/// The tokens of vocab.txt by line. A repeated token has the id of its last line, as in Python.
fn read_vocab_txt(path: &Path) -> Result<Vocab, TokenizerError> {
    let text = universal_newlines(require(read_text(path)?, path)?);
    let vocab: Vocab =
        text.split_terminator('\n').enumerate().map(|(id, token)| (token.to_owned(), id as u32)).collect();
    match vocab.is_empty() {
        true => Err(TokenizerError::invalid(path, "the vocabulary is empty")),
        false => Ok(vocab),
    }
}

fn read_vocab_json(path: &Path) -> Result<Vocab, TokenizerError> {
    let vocab = require(read_text(path)?, path)?;
    serde_json::from_str(&vocab).map_err(|error| {
        TokenizerError::invalid(path, format!("not a vocabulary (a JSON object from token to id): {error}"))
    })
}

/// A vocabulary whose pieces the rules of a slow class find.
fn word_level(dir: &Path, settings: &Settings) -> Result<Legacy, TokenizerError> {
    let kind = settings.class.kind;
    let (vocab, merges) = match kind {
        Kind::Esm => {
            let vocab = read_vocab_txt(&dir.join("vocab.txt"))?;
            (vocab.into_iter().map(|(token, id)| (token.trim().to_owned(), id)).collect(), String::new())
        }
        _ => {
            let path = dir.join("merges.txt");
            (read_vocab_json(&dir.join("vocab.json"))?, universal_newlines(require(read_text(&path)?, &path)?))
        }
    };
    let unk = settings.special.role("unk_token").map_or("None", |token| token.content());
    let model = WordLevel::builder().vocab(vocab).unk_token(unk.to_owned()).build();
    let backend = Tokenizer::new(model.map_err(|error| TokenizerError::invalid(dir, error.to_string()))?);
    // What follows the last line end is no merge.
    let mut lines: Vec<&str> = merges.split('\n').collect();
    lines.pop();
    let rules = Rules::new(settings, backend.get_model(), lines.into_iter().skip(has_header(kind).into()));
    Ok(Legacy { backend, sentencepiece: None, rules })
}

fn word_piece(dir: &Path, settings: &Settings) -> Result<Legacy, TokenizerError> {
    let path = dir.join("vocab.txt");
    let vocab = read_vocab_txt(&path)?;
    let unk = settings.special.role("unk_token");
    let model = WordPiece::builder()
        .vocab(vocab)
        .unk_token(unk.map_or("None", |token| token.content()).to_owned())
        .build()
        .map_err(|error| TokenizerError::invalid(&path, error.to_string()))?;
    let mut backend = Tokenizer::new(model);
    backend.with_normalizer(Some(BertNormalizer::new(
        true,
        settings.class.kind != Kind::RoFormer && settings.flag("tokenize_chinese_chars", true),
        settings.options.get("strip_accents").and_then(Value::as_bool),
        settings.flag("do_lower_case", true),
    )));
    backend.with_pre_tokenizer(Some(BertPreTokenizer));
    backend.with_decoder(Some(WordPieceDecoder::default()));
    Ok(Legacy { backend, sentencepiece: None, rules: None })
}

fn bpe(dir: &Path, settings: &Settings) -> Result<Legacy, TokenizerError> {
    let vocab_path = dir.join("vocab.json");
    let merges_path = dir.join("merges.txt");
    let vocab = read_vocab_json(&vocab_path)?;
    let merges = read_merges(&merges_path)?;

    let builder = BpeBuilder::new().vocab_and_merges(vocab, merges);
    let is_gpt = settings.class.kind == Kind::OpenAiGpt;
    let unk = settings.special.role("unk_token");
    let unk = unk.map_or("None", |token| token.content()).to_owned();
    let builder = if is_gpt {
        builder.unk_token(unk.clone()).end_of_word_suffix("</w>".to_owned())
    } else {
        builder.continuing_subword_prefix(String::new()).end_of_word_suffix(String::new())
    };
    let model: BPE = builder.build().map_err(|error| {
        TokenizerError::invalid(&merges_path, format!("{error}; do vocab.json and merges.txt belong together?"))
    })?;
    let mut backend = Tokenizer::new(model);
    let prefix_space = settings.flag("add_prefix_space", false);
    match settings.class.kind {
        Kind::OpenAiGpt => {
            if backend.token_to_id(&unk).is_some() {
                backend.add_special_tokens(&[AddedToken::from(unk, true)]);
            }
            backend.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
            backend.with_pre_tokenizer(Some(BertPreTokenizer));
            backend.with_decoder(Some(BPEDecoder::new("</w>".to_owned())));
        }
        Kind::Qwen2 => {
            let split =
                Split::new(SplitPattern::Regex(QWEN2_PATTERN.to_owned()), SplitDelimiterBehavior::Isolated, false)
                    .map_err(|error| TokenizerError::invalid(dir, error.to_string()))?;
            backend.with_normalizer(Some(NFC));
            backend.with_pre_tokenizer(Some(PreTokenizerSequence::new(vec![
                split.into(),
                ByteLevel::new(prefix_space, true, false).into(),
            ])));
            backend.with_decoder(Some(ByteLevel::default()));
        }
        _ => {
            backend.with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)));
            backend.with_decoder(Some(ByteLevel::default()));
        }
    }
    Ok(Legacy { backend, sentencepiece: None, rules: None })
}

/// Reads merges.txt as Python does: the first line is a comment, and what follows the last line end is no merge.
fn read_merges(path: &Path) -> Result<Vec<(String, String)>, TokenizerError> {
    let text = universal_newlines(require(read_text(path)?, path)?);
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    let mut merges = Vec::with_capacity(lines.len());
    let mut seen = HashSet::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate().skip(1) {
        let mut parts = line.split_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(left), Some(right), None) => {
                if seen.insert((left, right)) {
                    merges.push((left.to_owned(), right.to_owned()));
                }
            }
            _ => {
                return Err(TokenizerError::invalid(
                    path,
                    format!("line {} is not two tokens with a space between: {line:?}", index + 1),
                ));
            }
        }
    }
    Ok(merges)
}

fn sentencepiece(dir: &Path, settings: &Settings) -> Result<Legacy, TokenizerError> {
    let kind = settings.class.kind;
    let path = dir.join(settings.class.legacy_files()[0]);
    let bytes = require(read_bytes(&path)?, &path)?;
    let proto = ModelProto::parse(&bytes, &path)?;
    let invalid = |message: String| TokenizerError::invalid(&path, message);

    let bytewise = matches!(kind, Kind::Llama | Kind::Gemma);
    let vocab = vocab_with_scores(&proto, settings);
    let unk_id = match kind {
        Kind::XlmRoberta | Kind::Camembert | Kind::Gemma => 3,
        Kind::Llama => 0,
        _ => proto.unk_id(),
    };
    let model: ModelWrapper = match proto.model_type() {
        1 => {
            let unk_id = usize::try_from(unk_id).map_err(|_| invalid("it has no unknown token".to_owned()))?;
            Unigram::from(vocab, Some(unk_id), bytewise).map_err(|error| invalid(error.to_string()))?.into()
        }
        2 => {
            let ids: Vocab = vocab.into_iter().enumerate().map(|(id, (token, _))| (token, id as u32)).collect();
            BpeBuilder::new()
                .vocab_and_merges(ids, proto.merges(kind == Kind::Gemma))
                .unk_token(proto.unk_piece().to_owned())
                .fuse_unk(true)
                .byte_fallback(bytewise)
                .build()
                .map_err(|error| invalid(error.to_string()))?
                .into()
        }
        other => {
            return Err(invalid(format!(
                "sentencepiece model type {other} is not supported; known: 1 (unigram), 2 (BPE)"
            )));
        }
    };
    let mut backend = Tokenizer::new(model);

    // Control and user-defined pieces are matched in the raw text. Their ids are those of the model's vocabulary.
    let added: Vec<AddedToken> = proto
        .pieces
        .iter()
        .filter(|piece| piece.is_control() || piece.is_user_defined())
        .map(|piece| {
            let of_turn = kind == Kind::Gemma && matches!(piece.text.as_str(), "<start_of_turn>" | "<end_of_turn>");
            AddedToken::from(piece.text.clone(), piece.is_control() || of_turn).normalized(false)
        })
        .collect();
    backend.add_tokens(&added);

    let charsmap = match proto.charsmap() {
        None => None,
        Some(bytes) => {
            check_charsmap(bytes).map_err(invalid)?;
            Some(Precompiled::from(bytes).map_err(|error| invalid(error.to_string()))?)
        }
    };
    if bytewise {
        with_bytes(&mut backend, settings).map_err(|error| invalid(error.to_string()))?;
        return Ok(Legacy { backend, sentencepiece: Some(bytes), rules: None });
    }
    backend.with_normalizer(Some(sentencepiece_normalizer(settings, charsmap, &path)?));
    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    let pre_tokenizer: PreTokenizerWrapper = if kind == Kind::DebertaV2 {
        let mut parts = Vec::new();
        if settings.flag("split_by_punct", false) {
            parts.push(Punctuation::new(SplitDelimiterBehavior::Isolated).into());
        }
        parts.push(metaspace.clone().into());
        PreTokenizerSequence::new(parts).into()
    } else {
        metaspace.clone().into()
    };
    backend.with_pre_tokenizer(Some(pre_tokenizer));
    backend.with_decoder(Some(metaspace));
    Ok(Legacy { backend, sentencepiece: Some(bytes), rules: None })
}

/// The parts around a model that has bytes for what it lacks: spaces become `▁`, and Llama has one before the text.
fn with_bytes(backend: &mut Tokenizer, settings: &Settings) -> tokenizers::Result<()> {
    // Python's slow class takes a null for no.
    let prefix = settings.options.get("add_prefix_space").is_none_or(|value| *value == true);
    let space = Replace::new(ReplacePattern::String(" ".to_owned()), "▁")?;
    match settings.class.kind {
        Kind::Gemma => {
            backend.with_normalizer(Some(space));
            let split =
                Split::new(SplitPattern::String(" ".to_owned()), SplitDelimiterBehavior::MergedWithPrevious, false)?;
            backend.with_pre_tokenizer(Some(split));
        }
        _ if settings.flag("legacy", true) => {
            let prepended = prefix.then(|| Prepend::new("▁".to_owned()).into());
            backend.with_normalizer(Some(Sequence::new(prepended.into_iter().chain([space.into()]).collect())));
        }
        _ => {
            let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
            backend.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
        }
    }
    let text = Replace::new(ReplacePattern::String("▁".to_owned()), " ")?;
    let mut decoders: Vec<DecoderWrapper> = vec![text.into(), ByteFallback::new().into(), Fuse::new().into()];
    if settings.class.kind == Kind::Llama && prefix {
        decoders.push(StripDecoder::new(' ', 1, 0).into());
    }
    backend.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(())
}

/// The vocabulary in the order of the Python class, which is not always the model's own.
fn vocab_with_scores(proto: &ModelProto, settings: &Settings) -> Vec<(String, f64)> {
    let kind = settings.class.kind;
    let fixed = |tokens: &[(&str, f64)]| -> Vec<(String, f64)> {
        let tokens = tokens.iter();
        tokens.map(|(token, score)| ((*token).to_owned(), *score)).collect()
    };
    let pieces = |skipped: usize| {
        let pieces = proto.pieces.iter().skip(skipped);
        pieces.map(|piece| (piece.text.clone(), piece.log_probability()))
    };
    let mut vocab = match kind {
        Kind::XlmRoberta => fixed(&[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]),
        Kind::Camembert => fixed(&[
            ("<s>NOTUSED", 0.0),
            ("<pad>", 0.0),
            ("</s>NOTUSED", 0.0),
            ("<unk>", 0.0),
            ("<unk>NOTUSED", -100.0),
        ]),
        Kind::Gemma => {
            let roles = ["pad_token", "eos_token", "bos_token"].into_iter();
            roles
                .map(|role| (settings.special.role(role).map_or(String::new(), |t| t.content().to_owned()), 0.0))
                .collect()
        }
        _ => Vec::new(),
    };
    match kind {
        Kind::XlmRoberta | Kind::Gemma => vocab.extend(pieces(3)),
        Kind::Camembert => vocab.extend(pieces(1)),
        Kind::Albert | Kind::XlNet => vocab.extend(pieces(0).map(|(piece, score)| {
            // "9," is two tokens in these models, so that numbers and commas stay apart.
            let score = if ends_with_digit_comma(&piece) { score - 100.0 } else { score };
            (piece, score)
        })),
        _ => vocab.extend(pieces(0)),
    }
    // The first models of Gemma have the tab as a byte only.
    if kind == Kind::Gemma
        && !vocab.iter().any(|(piece, _)| piece == "\t")
        && let Some(tab) = vocab.iter_mut().find(|(piece, _)| piece == TAB)
    {
        *tab = ("\t".to_owned(), 0.0);
    }
    if matches!(kind, Kind::XlmRoberta | Kind::Camembert) {
        vocab.push(("<mask>".to_owned(), 0.0));
    }
    vocab
}

/// Python's `piece[-1] == "," and piece[-2].isdigit()`, but for fractions and Roman numerals, which no text has left after
/// these models' normalisation.
fn ends_with_digit_comma(piece: &str) -> bool {
    let mut reversed = piece.chars().rev();
    reversed.next() == Some(',') && reversed.next().is_some_and(|c| c.is_numeric())
}

fn sentencepiece_normalizer(
    settings: &Settings,
    charsmap: Option<Precompiled>,
    path: &Path,
) -> Result<Sequence, TokenizerError> {
    let replace = |pattern: ReplacePattern, by: &str| -> Result<NormalizerWrapper, TokenizerError> {
        Replace::new(pattern, by).map(Into::into).map_err(|error| TokenizerError::invalid(path, error.to_string()))
    };
    let spaces = || ReplacePattern::Regex(" {2,}".to_owned());
    let charsmap = charsmap.map(NormalizerWrapper::from);
    let mut parts = Vec::new();
    match settings.class.kind {
        Kind::Albert | Kind::XlNet => {
            parts.push(replace("``".into(), "\"")?);
            parts.push(replace("''".into(), "\"")?);
            if !settings.flag("keep_accents", false) {
                parts.push(NFKD.into());
                parts.push(StripAccents.into());
            }
            if settings.flag("do_lower_case", settings.class.kind == Kind::Albert) {
                parts.push(Lowercase.into());
            }
            parts.extend(charsmap);
            parts.push(replace(spaces(), " ")?);
        }
        Kind::RemBert => {
            parts.push(replace("``".into(), "\"")?);
            parts.push(replace("''".into(), "\"")?);
            parts.push(replace(spaces(), " ")?);
            if !settings.flag("keep_accents", true) {
                parts.push(NFKD.into());
                parts.push(StripAccents.into());
            }
            if settings.flag("do_lower_case", false) {
                parts.push(Lowercase.into());
            }
            parts.extend(charsmap);
        }
        Kind::DebertaV2 => {
            if settings.flag("do_lower_case", false) {
                parts.push(Lowercase.into());
            }
            parts.push(Strip::new(true, true).into());
            parts.extend(charsmap);
            parts.push(replace(spaces(), " ")?);
        }
        _ => {
            parts.extend(charsmap);
            parts.push(Strip::new(false, true).into());
            parts.push(replace(spaces(), "▁")?);
        }
    }
    Ok(Sequence::new(parts))
}

/// The post-processor of the class. Called when all special tokens have their ids.
pub(super) fn post_processor(
    backend: &Tokenizer,
    settings: &Settings,
    dir: &Path,
) -> Result<Option<PostProcessorWrapper>, TokenizerError> {
    let role = |name: &str| -> Result<String, TokenizerError> {
        let token = settings
            .special
            .role(name)
            .ok_or_else(|| TokenizerError::invalid(dir, format!("{} needs a {name}", settings.class_name)))?;
        Ok(token.content().to_owned())
    };
    let unk = settings.special.role("unk_token");
    let unk = unk.and_then(|token| backend.token_to_id(token.content()));
    let id = |token: &str| -> Result<u32, TokenizerError> {
        backend.token_to_id(token).or(unk).ok_or_else(|| {
            TokenizerError::invalid(dir, format!("the vocabulary has neither {token:?} nor an unknown token"))
        })
    };
    // Pieces with a colon are special tokens or sequences with their token types.
    let template = |single: &[&str], pair: &[&str]| -> Result<_, TokenizerError> {
        let mut tokens = Vec::new();
        for piece in single {
            let token = piece.rsplit_once(':').map_or(*piece, |(token, _)| token);
            if !token.starts_with('$') && !tokens.iter().any(|(seen, _)| seen == token) {
                tokens.push((token.to_owned(), id(token)?));
            }
        }
        let owned = |pieces: &[&str]| pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let tokens = tokens.into_iter().map(Into::into).collect();
        template(owned(single), owned(pair), tokens, dir).map(|template| Some(template.into()))
    };
    match settings.class.kind {
        Kind::Bert | Kind::RoFormer => {
            let (cls, sep) = (format!("{}:0", role("cls_token")?), role("sep_token")?);
            let (sep0, sep1) = (format!("{sep}:0"), format!("{sep}:1"));
            template(&[&cls, "$A:0", &sep0], &[&cls, "$A:0", &sep0, "$B:1", &sep1])
        }
        Kind::MpNet => {
            let (cls, sep) = (format!("{}:0", role("cls_token")?), role("sep_token")?);
            let (sep0, sep1) = (format!("{sep}:0"), format!("{sep}:1"));
            template(&[&cls, "$A:0", &sep0], &[&cls, "$A:0", &sep0, &sep0, "$B:1", &sep1])
        }
        Kind::Roberta => {
            let (cls, sep) = (role("cls_token")?, role("sep_token")?);
            let (cls_id, sep_id) = (id(&cls)?, id(&sep)?);
            let processor = RobertaProcessing::new((sep, sep_id), (cls, cls_id))
                .trim_offsets(true)
                .add_prefix_space(settings.flag("add_prefix_space", false));
            Ok(Some(processor.into()))
        }
        Kind::Gpt2 if settings.flag("add_bos_token", false) => {
            let bos = format!("{}:0", role("bos_token")?);
            template(&[&bos, "$A:0"], &[&bos, "$A:0", "$B:1"])
        }
        Kind::Gpt2 | Kind::Qwen2 => Ok(Some(ByteLevel::default().trim_offsets(false).into())),
        Kind::Albert | Kind::BigBird | Kind::DebertaV2 | Kind::Deberta | Kind::RemBert => {
            template(&["[CLS]:0", "$A:0", "[SEP]:0"], &["[CLS]:0", "$A:0", "[SEP]:0", "$B:1", "[SEP]:1"])
        }
        Kind::XlNet => template(&["$A:0", "<sep>:0", "<cls>:2"], &["$A:0", "<sep>:0", "$B:1", "<sep>:1", "<cls>:2"]),
        Kind::XlmRoberta | Kind::Camembert => {
            template(&["<s>", "$A", "</s>"], &["<s>", "$A", "</s>", "</s>", "$B", "</s>"])
        }
        Kind::Xlm | Kind::Flaubert => {
            let (bos, sep) = (format!("{}:0", role("bos_token")?), format!("{}:0", role("sep_token")?));
            template(&[&bos, "$A:0", &sep], &[&bos, "$A:0", &sep, "$B:0", &sep])
        }
        Kind::BioGpt => {
            let sep = format!("{}:0", role("sep_token")?);
            template(&[&sep, "$A:0"], &[&sep, "$A:0", &sep, "$B:0"])
        }
        Kind::Esm => {
            let cls = format!("{}:0", role("cls_token")?);
            match settings.special.role("eos_token") {
                None => template(&[&cls, "$A:0"], &[&cls, "$A:0", "$B:0"]),
                Some(eos) => {
                    let eos = format!("{}:0", eos.content());
                    template(&[&cls, "$A:0", &eos], &[&cls, "$A:0", &eos, "$B:0", &eos])
                }
            }
        }
        Kind::OpenAiGpt | Kind::Ctrl | Kind::Llama | Kind::Gemma | Kind::BosEos { .. } | Kind::Plain => Ok(None),
    }
}

fn require<T>(content: Option<T>, path: &Path) -> Result<T, TokenizerError> {
    content.ok_or_else(|| TokenizerError::invalid(path, "the file is missing"))
}

/// Python reads text files with every kind of line end made `\n`.
fn universal_newlines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// A post-processor from template pieces such as `[CLS]:0`, `$A:0`.
pub(super) fn template(
    single: Vec<String>,
    pair: Vec<String>,
    tokens: Vec<TemplateToken>,
    path: &Path,
) -> Result<TemplateProcessing, TokenizerError> {
    let parse = |pieces: Vec<String>| {
        Template::try_from(pieces)
            .map_err(|error| TokenizerError::invalid(path, format!("special tokens do not fit a template: {error}")))
    };
    TemplateProcessing::builder()
        .single(parse(single)?)
        .pair(parse(pair)?)
        .special_tokens(tokens)
        .build()
        .map_err(|error| TokenizerError::invalid(path, error.to_string()))
}
