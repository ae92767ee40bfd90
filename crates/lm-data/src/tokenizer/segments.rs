//! Encoding text word by word, remembering the ids of words seen before.
//!
//! Most tokenizers cut a text at its spaces before anything else, so the ids of a text are those of its words, one after
//! another, and common words need not be worked out again. A text is cut before every single space between two visible
//! ASCII characters, and only if all parts of the tokenizer are known to work on each side alone; any other tokenizer
//! encodes whole texts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use thread_local::ThreadLocal;
use tokenizers::Tokenizer;

/// Words remembered per thread, each of at most so many bytes: some ten megabytes.
const MOST_WORDS: usize = 1 << 16;
const LONGEST_WORD: usize = 48;

/// The most bytes that are given to the tokenizer at once; it takes about a hundred times as many of memory.
const LONGEST_PIECE: usize = 8 << 20;

/// The ids of each word.
type Words = HashMap<Box<str>, Box<[u32]>>;

/// Ids of words; threads remember words of their own, clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<ThreadLocal<RefCell<Words>>>);

impl Memory {
    /// Adds to `ids` those of the words, each as remembered or as `encode` gives them.
    pub fn extend<W: AsRef<str>>(
        &self,
        ids: &mut Vec<u32>,
        words: impl IntoIterator<Item = W>,
        mut encode: impl FnMut(&str) -> tokenizers::Result<Vec<u32>>,
    ) -> tokenizers::Result<()> {
        let mut known = self.0.get_or_default().borrow_mut();
        for word in words {
            let word = word.as_ref();
            if let Some(found) = known.get(word) {
                ids.extend_from_slice(found);
                continue;
            }
            let found = encode(word)?;
            ids.extend_from_slice(&found);
            if word.len() <= LONGEST_WORD {
                if known.len() == MOST_WORDS {
                    known.clear();
                }
                known.insert(word.into(), found.into());
            }
        }
        Ok(())
    }
}

/// Encodes texts.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    /// None if texts must be encoded whole.
    known: Option<Memory>,
}

impl Segments {
    pub fn new(backend: &Tokenizer) -> Self {
        Self { known: is_separable(backend).then(Memory::default) }
    }

    /// The ids of a text, without special tokens around it.
    pub fn encode(&self, backend: &Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
        let whole = |text: &str| Ok(encode_piece(backend, text)?.get_ids().to_vec());
        let Some(known) = &self.known else { return whole(text) };
        let mut ids = Vec::with_capacity(text.len() / 3);
        known.extend(&mut ids, split(text), whole)?;
        Ok(ids)
    }
}

fn encode_piece(backend: &Tokenizer, text: &str) -> tokenizers::Result<tokenizers::Encoding> {
    check_length(text)?;
    backend.encode_fast(text, false)
}

/// Refuses a text that would take too much memory.
pub(super) fn check_length(text: &str) -> tokenizers::Result<()> {
    match text.len() {
        0..=LONGEST_PIECE => Ok(()),
        _ => {
            let most = LONGEST_PIECE >> 20;
            Err(format!("more than {most} MiB without a space where it could be cut; break it into lines").into())
        }
    }
}

/// Cuts a text before each space that stands alone between visible ASCII characters.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let cut = bytes.windows(3).position(|w| w[1] == b' ' && w[0].is_ascii_graphic() && w[2].is_ascii_graphic());
        let (word, after) = rest.split_at(cut.map_or(rest.len(), |at| at + 1));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// Whether a tokenizer encodes a text as the words of [`split`] one by one.
fn is_separable(backend: &Tokenizer) -> bool {
    let json = |part: serde_json::Result<Value>| part.unwrap_or(Value::Bool(true));
    let normalizer = json(serde_json::to_value(backend.get_normalizer()));
    let pre_tokenizer = json(serde_json::to_value(backend.get_pre_tokenizer()));
    let dropout = match backend.get_model() {
        tokenizers::ModelWrapper::BPE(bpe) => bpe.dropout,
        _ => None,
    };
    // An added token that reaches over a space binds what is on both sides of it.
    let local = |token: &tokenizers::AddedToken| !token.rstrip && !token.content.contains(char::is_whitespace);
    dropout.is_none()
        && normalizes_locally(&normalizer)
        && splits_at_spaces(&pre_tokenizer)
        && backend.get_added_tokens_decoder().values().all(local)
}

/// Whether no normalizer looks over a lone space or changes one.
fn normalizes_locally(normalizer: &Value) -> bool {
    match kind(normalizer) {
        "Sequence" => parts(normalizer, "normalizers").iter().all(normalizes_locally),
        "none" | "BertNormalizer" | "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Precompiled" => {
            true
        }
        "Strip" => normalizer["strip_left"] == false,
        "Replace" => {
            let pattern = &normalizer["pattern"];
            let literal = pattern["String"].as_str().is_some_and(|text| !text.contains(char::is_whitespace));
            literal || pattern["Regex"] == " {2,}"
        }
        _ => false,
    }
}

/// Whether every lone space is a boundary, the space belonging to what follows it or to nothing.
fn splits_at_spaces(pre_tokenizer: &Value) -> bool {
    match kind(pre_tokenizer) {
        "Sequence" => {
            let parts = parts(pre_tokenizer, "pretokenizers");
            let local = |part: &Value| splits_at_spaces(part) || matches!(kind(part), "Punctuation" | "Digits");
            parts.first().is_some_and(splits_at_spaces) && parts.iter().all(local)
        }
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => true,
        "ByteLevel" => pre_tokenizer["use_regex"] == true,
        "Metaspace" => pre_tokenizer["split"] == true && pre_tokenizer["prepend_scheme"] != "never",
        _ => false,
    }
}

fn kind(part: &Value) -> &str {
    if part.is_null() { "none" } else { part["type"].as_str().unwrap_or_default() }
}

fn parts<'a>(part: &'a Value, name: &str) -> &'a [Value] {
    part[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::fixture;

    fn backend(folder: &Path) -> Tokenizer {
        Tokenizer::from_file(folder.join("tokenizer.json")).unwrap()
    }

    fn equal(backend: &Tokenizer, segments: &Segments, text: &str) {
        let whole = backend.encode_fast(text, false).unwrap();
        assert_eq!(segments.encode(backend, text).unwrap(), whole.get_ids(), "{text:?}");
    }

    fn small() -> Vec<(Tokenizer, Segments)> {
        ["bert-cased-small", "openai-gpt-small", "roberta-small", "xlm-roberta-small", "xlnet-small"]
            .map(|name| {
                let backend = backend(&fixture("tokenizers").join(name));
                let segments = Segments::new(&backend);
                assert!(segments.known.is_some(), "{name} is encoded word by word");
                (backend, segments)
            })
            .into()
    }

    #[test]
    fn words_make_up_the_text() {
        let cut = |text| split(text).collect::<Vec<_>>();
        assert_eq!(cut("a bc  d , é f\u{301} g h"), ["a", " bc  d", " , é f\u{301} g", " h"]);
        assert_eq!(cut(" a "), [" a "]);
        assert!(cut("").is_empty());
    }

    /// Every line of the fixtures and, where it is at hand, of real text with real tokenizers.
    #[test]
    fn words_have_the_ids_of_the_text() {
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let fixtures = ["unix.txt", "mixed.txt"].map(|name| lines(&fixture("preprocessing").join(name))).concat();
        for (backend, segments) in small() {
            fixtures.split('\n').for_each(|line| equal(&backend, &segments, line));
        }
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let text = lines(&shared.join("data/wiki.test.txt"));
        for name in ["bert", "gpt2", "albert"].map(|name| shared.join("reference/tokenizers").join(name)) {
            if name.exists() {
                let backend = backend(&name);
                let segments = Segments::new(&backend);
                assert!(segments.known.is_some());
                text.split('\n').for_each(|line| equal(&backend, &segments, line));
            }
        }
    }

    #[test]
    fn what_cannot_be_cut_is_limited() {
        let backend = backend(&fixture("tokenizers/bert-cased-small"));
        let error = Segments::new(&backend).encode(&backend, &"ab".repeat(LONGEST_PIECE / 2 + 1)).unwrap_err();
        assert!(error.to_string().contains("more than 8 MiB without a space"), "{error}");
    }

    #[test]
    fn other_tokenizers_encode_whole_texts() {
        let change = |edit: &dyn Fn(&mut Value)| {
            let text = std::fs::read(fixture("tokenizers/roberta-small/tokenizer.json")).unwrap();
            let mut json: Value = serde_json::from_slice(&text).unwrap();
            edit(&mut json);
            Segments::new(&json.to_string().parse::<Tokenizer>().unwrap()).known.is_some()
        };
        assert!(change(&|_| {}));
        assert!(!change(&|json| json["pre_tokenizer"]["use_regex"] = false.into()));
        assert!(!change(&|json| json["pre_tokenizer"] = Value::Null));
        assert!(!change(&|json| json["model"]["dropout"] = 0.1.into()));
        assert!(!change(&|json| json["added_tokens"][4]["rstrip"] = true.into()));
        let prepend = serde_json::json!({"type": "Prepend", "prepend": "x"});
        assert!(!change(&|json| json["normalizer"] = prepend.clone()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_text_has_the_ids_of_its_words(
            pieces in proptest::collection::vec(prop_oneof![
                "[ -~]{1,6}", " {1,2}", "[a-z]{1,5}", "\\PC{1,3}",
                Just("<mask>".to_owned()), Just(" <mask>".to_owned()), Just("[MASK]".to_owned()), Just("</s>".to_owned()),
                Just("'s".to_owned()), Just("``".to_owned()), Just("\u{301}".to_owned()), Just("\u{2581}".to_owned()),
                Just("\n".to_owned()), Just("\u{a0}".to_owned()), Just("\u{3000}".to_owned()), Just("東".to_owned()),
            ], 0..24)
        ) {
            static TOKENIZERS: std::sync::OnceLock<Vec<(Tokenizer, Segments)>> = std::sync::OnceLock::new();
            for (backend, segments) in TOKENIZERS.get_or_init(small) {
                equal(backend, segments, &pieces.concat());
            }
        }
    }
}
