//! The tokenizer classes of Python's `transformers` that this crate knows, and what sets each apart.

use serde_json::{Map, Value, json};

use super::special::{AddedToken, ROLES, SpecialMap, SpecialToken};

/// What a class does beyond reading its files; classes with one behaviour share a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// vocab.txt, WordPiece, `[CLS] A [SEP]`.
    Bert,
    /// Bert with another template for pairs and other special tokens.
    MpNet,
    /// vocab.json + merges.txt, byte-level BPE, `<s> A </s>`.
    Roberta,
    /// vocab.json + merges.txt, byte-level BPE, nothing added unless `add_bos_token`.
    Gpt2,
    /// Byte-level BPE after NFC with its own splitting pattern.
    Qwen2,
    /// Byte-level BPE, `[CLS] A [SEP]`.
    Deberta,
    /// vocab.json + merges.txt, lowercased BPE with `</w>`.
    OpenAiGpt,
    /// spiece.model, `[CLS] A [SEP]`.
    Albert,
    /// spiece.model, `A <sep> <cls>`, padded on the left.
    XlNet,
    /// sentencepiece.bpe.model with the four fairseq tokens in front and `<mask>` at the end.
    XlmRoberta,
    /// sentencepiece.bpe.model with five tokens in front and `<mask>` at the end.
    Camembert,
    /// spiece.model as it is, `[CLS] A [SEP]`.
    BigBird,
    /// spm.model, `[CLS] A [SEP]`.
    DebertaV2,
    /// sentencepiece.model, `[CLS] A [SEP]`.
    RemBert,
    /// vocab.txt, words by Jieba, `[CLS] A [SEP]`.
    RoFormer,
    /// tokenizer.model with bytes for what it lacks; begin and end tokens as for `BosEos`.
    Llama,
    /// The same, spaces being characters as any other.
    Gemma,
    /// vocab.json + merges.txt, Moses' words in lower case, `<s> A </s>`; only slow in Python, as all that follow.
    Xlm,
    /// vocab.json + merges.txt, Moses' French words, `<s> A </s>`.
    Flaubert,
    /// vocab.json + merges.txt, Moses' words, `</s> A`.
    BioGpt,
    /// vocab.json + merges.txt, words between spaces, `@@`.
    Ctrl,
    /// vocab.txt, each token that stands in the text, `<cls> A <eos>`.
    Esm,
    /// tokenizer.json only; begin and end tokens are put around the text as `add_bos_token` and `add_eos_token` say.
    BosEos {
        /// `add_bos_token` where the configuration is silent.
        bos: bool,
        /// Python also pads these on the left.
        pad_left: bool,
    },
    /// tokenizer.json only, taken as it is.
    Plain,
}

/// How a class turns a special token given as plain text into one with matching rules; `None` leaves it plain.
pub(super) type Rules = Option<Rule>;

/// The fields of Python's `AddedToken` that classes set; an open `normalized` means "unless special".
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub lstrip: bool,
    pub normalized: Option<bool>,
    pub special: bool,
}

/// The rules of one class, for `<mask>`, `<unk>` and the other roles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress {
    /// The roles that the class's signature has; others stay as they are given.
    pub roles: &'static [&'static str],
    pub mask: Rules,
    pub unk: Rules,
    pub others: Rules,
}

impl Dress {
    /// Gives every plain-text role its rules.
    pub fn apply(&self, special: &mut SpecialMap) {
        for (role, slot) in ROLES.iter().zip(&mut special.roles) {
            let rules = match *role {
                "mask_token" => self.mask,
                "unk_token" => self.unk,
                _ => self.others,
            };
            if let (Some(SpecialToken::Text(text)), Some(rule)) = (&*slot, rules.filter(|_| self.roles.contains(role)))
            {
                *slot = Some(SpecialToken::Added(AddedToken {
                    lstrip: rule.lstrip,
                    normalized: rule.normalized,
                    special: rule.special,
                    ..AddedToken::new(text.clone())
                }));
            }
        }
    }
}

const fn rule(lstrip: bool, normalized: Option<bool>, special: bool) -> Rules {
    Some(Rule { lstrip, normalized, special })
}

/// One tokenizer class: its Python name without `Fast`, the model types that use it, its defaults.
#[derive(Debug)]
pub(super) struct Class {
    pub name: &'static str,
    pub model_types: &'static [&'static str],
    pub kind: Kind,
    /// Default special tokens in the order of [`super::special::ROLES`].
    pub roles: [Option<&'static str>; 7],
    pub additional: &'static [&'static str],
}

type Roles = [Option<&'static str>; 7];

const NONE: Roles = [None; 7];
const BERT: Roles = [None, None, Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")];
const FAIRSEQ: Roles =
    [Some("<s>"), Some("</s>"), Some("<unk>"), Some("</s>"), Some("<pad>"), Some("<s>"), Some("<mask>")];
const DEBERTA: Roles =
    [Some("[CLS]"), Some("[SEP]"), Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")];
const END_OF_TEXT: Roles =
    [Some("<|endoftext|>"), Some("<|endoftext|>"), Some("<|endoftext|>"), None, None, None, None];
const XLM: Roles = [Some("<s>"), None, Some("<unk>"), Some("</s>"), Some("<pad>"), Some("</s>"), Some("<special1>")];
const XLM_SPECIAL: &[&str] = &[
    "<special0>",
    "<special1>",
    "<special2>",
    "<special3>",
    "<special4>",
    "<special5>",
    "<special6>",
    "<special7>",
    "<special8>",
    "<special9>",
];
const LLAMA: Roles = [Some("<s>"), Some("</s>"), Some("<unk>"), None, None, None, None];

const fn class(name: &'static str, kind: Kind, roles: Roles, model_types: &'static [&'static str]) -> Class {
    Class { name, model_types, kind, roles, additional: &[] }
}

/// Every known class, from the `*_fast.py` files and `auto/tokenization_auto.py` of `transformers` 4.57.
pub(super) static CLASSES: &[Class] = &[
    class("BertTokenizer", Kind::Bert, BERT, &["bert", "ernie", "megatron-bert", "nezha", "qdqbert", "visual_bert"]),
    class("DistilBertTokenizer", Kind::Bert, BERT, &["distilbert"]),
    class("ElectraTokenizer", Kind::Bert, BERT, &["electra"]),
    class("ConvBertTokenizer", Kind::Bert, BERT, &["convbert"]),
    class("MobileBertTokenizer", Kind::Bert, BERT, &["mobilebert"]),
    class("SqueezeBertTokenizer", Kind::Bert, BERT, &["squeezebert"]),
    class("LayoutLMTokenizer", Kind::Bert, BERT, &["layoutlm"]),
    class("LxmertTokenizer", Kind::Bert, BERT, &["lxmert"]),
    class(
        "MPNetTokenizer",
        Kind::MpNet,
        [Some("<s>"), Some("</s>"), Some("[UNK]"), Some("</s>"), Some("<pad>"), Some("<s>"), Some("<mask>")],
        &["mpnet"],
    ),
    class(
        "RobertaTokenizer",
        Kind::Roberta,
        FAIRSEQ,
        &["roberta", "roberta-prelayernorm", "data2vec-text", "ibert", "mega", "mra"],
    ),
    class("LongformerTokenizer", Kind::Roberta, FAIRSEQ, &["longformer"]),
    class("BartTokenizer", Kind::Roberta, FAIRSEQ, &["bart"]),
    class(
        "GPT2Tokenizer",
        Kind::Gpt2,
        END_OF_TEXT,
        &["gpt2", "gpt_neo", "gptj", "gpt_bigcode", "opt", "starcoder2", "granite", "olmo3"],
    ),
    class("CodeGenTokenizer", Kind::Gpt2, END_OF_TEXT, &["codegen", "phi"]),
    class(
        "Qwen2Tokenizer",
        Kind::Qwen2,
        [None, Some("<|endoftext|>"), Some("<|endoftext|>"), None, Some("<|endoftext|>"), None, None],
        &["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"],
    ),
    class("DebertaTokenizer", Kind::Deberta, DEBERTA, &["deberta"]),
    class("OpenAIGPTTokenizer", Kind::OpenAiGpt, [None, None, Some("<unk>"), None, None, None, None], &["openai-gpt"]),
    class(
        "AlbertTokenizer",
        Kind::Albert,
        [Some("[CLS]"), Some("[SEP]"), Some("<unk>"), Some("[SEP]"), Some("<pad>"), Some("[CLS]"), Some("[MASK]")],
        &["albert", "nystromformer", "yoso"],
    ),
    Class {
        name: "XLNetTokenizer",
        model_types: &["xlnet"],
        kind: Kind::XlNet,
        roles: [Some("<s>"), Some("</s>"), Some("<unk>"), Some("<sep>"), Some("<pad>"), Some("<cls>"), Some("<mask>")],
        additional: &["<eop>", "<eod>"],
    },
    class("XLMRobertaTokenizer", Kind::XlmRoberta, FAIRSEQ, &["xlm-roberta", "xlm-roberta-xl", "xmod"]),
    Class {
        name: "CamembertTokenizer",
        model_types: &["camembert"],
        kind: Kind::Camembert,
        roles: FAIRSEQ,
        additional: &["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
    },
    class(
        "BigBirdTokenizer",
        Kind::BigBird,
        [Some("<s>"), Some("</s>"), Some("<unk>"), Some("[SEP]"), Some("<pad>"), Some("[CLS]"), Some("[MASK]")],
        &["big_bird"],
    ),
    class("DebertaV2Tokenizer", Kind::DebertaV2, DEBERTA, &["deberta-v2"]),
    class(
        "RemBertTokenizer",
        Kind::RemBert,
        [Some("[CLS]"), Some("[SEP]"), Some("<unk>"), Some("[SEP]"), Some("<pad>"), Some("[CLS]"), Some("[MASK]")],
        &["rembert"],
    ),
    class("RoFormerTokenizer", Kind::RoFormer, BERT, &["roformer"]),
    class(
        "EsmTokenizer",
        Kind::Esm,
        [None, Some("<eos>"), Some("<unk>"), None, Some("<pad>"), Some("<cls>"), Some("<mask>")],
        &["esm"],
    ),
    Class { name: "XLMTokenizer", model_types: &["xlm"], kind: Kind::Xlm, roles: XLM, additional: XLM_SPECIAL },
    Class {
        name: "FlaubertTokenizer",
        model_types: &["flaubert"],
        kind: Kind::Flaubert,
        roles: XLM,
        additional: XLM_SPECIAL,
    },
    class(
        "BioGptTokenizer",
        Kind::BioGpt,
        [Some("<s>"), Some("</s>"), Some("<unk>"), Some("</s>"), Some("<pad>"), None, None],
        &["biogpt"],
    ),
    class("CTRLTokenizer", Kind::Ctrl, [None, None, Some("<unk>"), None, None, None, None], &["ctrl"]),
    class("LlamaTokenizer", Kind::Llama, LLAMA, &["llama", "mistral", "mixtral", "phi3"]),
    class(
        "GemmaTokenizer",
        Kind::Gemma,
        [Some("<bos>"), Some("<eos>"), Some("<unk>"), None, Some("<pad>"), None, None],
        &["gemma", "gemma2", "gemma3", "gemma3_text"],
    ),
    class(
        "CohereTokenizer",
        Kind::BosEos { bos: true, pad_left: true },
        [Some("<BOS_TOKEN>"), Some("<|END_OF_TURN_TOKEN|>"), Some("<UNK>"), None, None, None, None],
        &["cohere", "cohere2"],
    ),
    class(
        "GPTNeoXTokenizer",
        Kind::BosEos { bos: false, pad_left: false },
        END_OF_TEXT,
        &["gpt_neox", "mamba", "mamba2", "mpt", "olmo", "olmo2", "olmoe", "rwkv", "stablelm"],
    ),
    class(
        "BloomTokenizer",
        Kind::Plain,
        [Some("<s>"), Some("</s>"), Some("<unk>"), None, Some("<pad>"), None, None],
        &["bloom"],
    ),
    class("PreTrainedTokenizer", Kind::Plain, NONE, &["modernbert", "falcon", "bitnet", "glm", "nemotron", "smollm3"]),
];

impl Class {
    /// The class of this Python name, with or without `Fast`.
    pub fn by_name(name: &str) -> Option<&'static Class> {
        let name = name.strip_suffix("Fast").unwrap_or(name);
        CLASSES.iter().find(|class| class.name == name)
    }

    /// The class that Python's AutoTokenizer takes for a model type.
    pub fn by_model_type(model_type: &str) -> Option<&'static Class> {
        CLASSES.iter().find(|class| class.model_types.contains(&model_type))
    }

    /// The class without any behaviour of its own: everything is in tokenizer.json.
    pub fn plain() -> &'static Class {
        static PLAIN: Class = class("PreTrainedTokenizer", Kind::Plain, NONE, &[]);
        &PLAIN
    }

    /// The names of the classes whose old files can be read.
    pub fn known_legacy() -> Vec<&'static str> {
        CLASSES.iter().filter(|class| !class.legacy_files().is_empty()).map(|class| class.name).collect()
    }

    /// The options that the class writes into tokenizer_config.json even where nothing sets them.
    pub fn fast_options(&self) -> Map<String, Value> {
        object(match self.kind {
            Kind::Bert | Kind::MpNet => json!({
                "do_lower_case": true,
                "strip_accents": null,
                "tokenize_chinese_chars": true,
            }),
            Kind::Roberta => json!({"add_prefix_space": false, "errors": "replace", "trim_offsets": true}),
            Kind::Gpt2 => json!({"add_prefix_space": false}),
            Kind::Deberta => json!({"add_prefix_space": false, "errors": "replace"}),
            Kind::Albert => json!({"do_lower_case": true, "keep_accents": false, "remove_space": true}),
            Kind::XlNet => json!({"do_lower_case": false, "keep_accents": false, "remove_space": true}),
            Kind::DebertaV2 => json!({"do_lower_case": false, "split_by_punct": false}),
            Kind::RemBert => json!({"do_lower_case": true, "keep_accents": false, "remove_space": true}),
            Kind::RoFormer => json!({"do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true}),
            Kind::Llama => json!({
                "add_bos_token": true, "add_eos_token": false, "add_prefix_space": null, "legacy": true,
                "use_default_system_prompt": false,
            }),
            Kind::Gemma => json!({"add_bos_token": true, "add_eos_token": false}),
            Kind::BosEos { bos, .. } => json!({"add_bos_token": bos, "add_eos_token": false}),
            _ => json!({}),
        })
    }

    /// The options that reading the old files through the slow class adds.
    pub fn slow_options(&self) -> Map<String, Value> {
        object(match self.kind {
            Kind::Bert | Kind::MpNet => json!({
                "clean_up_tokenization_spaces": true,
                "do_basic_tokenize": true,
                "never_split": null,
            }),
            Kind::Gpt2 => json!({"add_bos_token": false, "errors": "replace", "pad_token": null}),
            Kind::Deberta => json!({"add_bos_token": false}),
            Kind::RoFormer => {
                json!({"clean_up_tokenization_spaces": true, "do_basic_tokenize": true, "never_split": null})
            }
            Kind::RemBert => json!({"do_lower_case": false, "keep_accents": true}),
            Kind::Llama => json!({
                "pad_token": null, "sp_model_kwargs": {}, "spaces_between_special_tokens": false,
            }),
            Kind::Gemma => json!({
                "sp_model_kwargs": null, "spaces_between_special_tokens": false, "use_default_system_prompt": false,
            }),
            Kind::Xlm => json!({"do_lowercase_and_remove_accent": true, "id2lang": null, "lang2id": null}),
            Kind::Flaubert => json!({"do_lowercase": false, "id2lang": null, "lang2id": null}),
            Kind::Qwen2 => json!({"bos_token": null, "errors": "replace", "split_special_tokens": false}),
            _ if self.sentencepiece_file().is_some() => json!({"sp_model_kwargs": {}}),
            _ => json!({}),
        })
    }

    /// The class's default token for a role.
    pub fn default_role(&self, role: &str) -> Option<&'static str> {
        let index = ROLES.iter().position(|name| *name == role)?;
        self.roles[index]
    }

    /// The defaults with which the old files are read: those of Python's slow class.
    pub fn slow_roles(&self) -> Roles {
        let [bos, eos, _, sep, _, cls, mask] = self.roles;
        match self.kind {
            Kind::RemBert => [bos, eos, Some("[UNK]"), sep, Some("[PAD]"), cls, mask],
            _ => self.roles,
        }
    }

    /// Whether Python has no fast class for it, and reads and writes no tokenizer.json.
    pub fn is_slow(&self) -> bool {
        matches!(self.kind, Kind::Xlm | Kind::Flaubert | Kind::BioGpt | Kind::Ctrl | Kind::Esm)
    }

    /// Whether a begin token is put before a text unless told otherwise; none where the class has no such option.
    pub fn adds_bos(&self) -> Option<bool> {
        match self.kind {
            Kind::BosEos { bos, .. } => Some(bos),
            Kind::Llama | Kind::Gemma => Some(true),
            _ => None,
        }
    }

    fn dressed_roles(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Gpt2 | Kind::Qwen2 | Kind::Llama | Kind::Gemma => {
                &["bos_token", "eos_token", "unk_token", "pad_token"]
            }
            _ => &ROLES,
        }
    }

    /// What the fast class makes of special tokens given as text.
    pub fn fast_dress(&self) -> Dress {
        let (mask, others) = match self.kind {
            Kind::Albert => (rule(true, Some(false), false), None),
            Kind::Roberta if self.name == "BartTokenizer" => (rule(true, Some(true), true), None),
            Kind::Roberta => (rule(true, Some(false), false), None),
            Kind::XlNet | Kind::XlmRoberta | Kind::RemBert => (rule(true, None, false), None),
            Kind::Camembert => (rule(true, None, true), None),
            Kind::MpNet | Kind::BigBird => (rule(true, None, false), rule(false, None, false)),
            Kind::Qwen2 => (None, rule(false, Some(false), true)),
            _ => (None, None),
        };
        Dress { roles: self.dressed_roles(), mask, unk: others, others }
    }

    /// What the slow class, through which Python reads the old files, makes of them before the fast class does.
    pub fn slow_dress(&self) -> Dress {
        let (mask, others) = match self.kind {
            Kind::Albert => (rule(true, Some(false), false), None),
            Kind::Roberta if self.name == "BartTokenizer" => (rule(true, None, false), rule(false, None, false)),
            Kind::Roberta => (rule(true, Some(false), false), rule(false, None, false)),
            Kind::Gpt2 if self.name == "CodeGenTokenizer" => (None, rule(false, None, true)),
            Kind::Gpt2 => (None, rule(false, None, false)),
            Kind::XlNet | Kind::XlmRoberta => (rule(true, None, true), None),
            Kind::Camembert => (rule(true, Some(false), true), None),
            Kind::MpNet => (rule(true, None, true), rule(false, None, true)),
            Kind::BigBird => (rule(true, None, false), rule(false, None, false)),
            Kind::Deberta => (rule(true, None, false), rule(false, None, true)),
            Kind::RemBert => (rule(true, None, false), None),
            Kind::Llama | Kind::Gemma => (None, rule(false, Some(false), true)),
            Kind::Qwen2 => (None, rule(false, Some(false), true)),
            _ => (None, None),
        };
        let unk = match self.kind {
            Kind::DebertaV2 => rule(false, Some(true), true),
            _ => others,
        };
        Dress { roles: self.dressed_roles(), mask, unk, others }
    }

    /// Whether Python pads on the left unless told otherwise.
    pub fn pads_left(&self) -> bool {
        matches!(self.kind, Kind::XlNet | Kind::Llama | Kind::Gemma | Kind::BosEos { pad_left: true, .. })
    }

    /// The old vocabulary files of the class; none if only tokenizer.json will do.
    pub fn legacy_files(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Bert | Kind::MpNet | Kind::RoFormer | Kind::Esm => &["vocab.txt"],
            Kind::Roberta | Kind::Gpt2 | Kind::Qwen2 | Kind::Deberta | Kind::OpenAiGpt => &["vocab.json", "merges.txt"],
            Kind::Xlm | Kind::Flaubert | Kind::BioGpt | Kind::Ctrl => &["vocab.json", "merges.txt"],
            Kind::Albert | Kind::XlNet | Kind::BigBird => &["spiece.model"],
            Kind::XlmRoberta | Kind::Camembert => &["sentencepiece.bpe.model"],
            Kind::DebertaV2 => &["spm.model"],
            Kind::RemBert => &["sentencepiece.model"],
            Kind::Llama | Kind::Gemma => &["tokenizer.model"],
            Kind::BosEos { .. } | Kind::Plain => &[],
        }
    }

    /// The class's sentencepiece model, which is kept and saved byte for byte where a folder has it.
    pub fn sentencepiece_file(&self) -> Option<&'static str> {
        self.legacy_files().first().copied().filter(|name| name.ends_with(".model"))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{OTHER_FILES, VOCABULARY_FILES};
    use super::*;

    #[test]
    fn files_of_every_class_are_listed() {
        for class in CLASSES {
            for name in class.legacy_files().iter().copied().chain(class.sentencepiece_file()) {
                assert!([VOCABULARY_FILES, OTHER_FILES].concat().contains(&name), "{}: {name}", class.name);
            }
        }
    }
}
