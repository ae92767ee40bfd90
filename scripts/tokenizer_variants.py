#!/usr/bin/env python3
"""Write what Python's AutoTokenizer makes of variations of the small tokenizers in the repository's fixtures.

    python scripts/tokenizer_variants.py crates/lm-data/tests/fixtures/tokenizers

writes variants.json into that folder: for each variation the tokenizer it changes, the files to leave out, the files to
write, the ids of some awkward texts, and whether Python still gives these after saving and loading again. Needs transformers 4.57. Read by crates/lm-data/tests/tokenizer.rs.
"""
import json
import pathlib
import shutil
import sys
import tempfile

from transformers import AutoTokenizer

TEXTS = [
    "ÀÉÎ àéî ß ẞ İstanbul ﬁ Ω",
    "a\u0301\u0301b line\u2028sep cr\rlf\r\nend\x00 z\u200dw",
    "foo[MASK]bar [MASK]  baz [SEP]",
    "foo<mask>bar <mask>  baz <s> ＜mask＞ <MASK>",
    "NEW_TOK new_tok xNEW_TOKx  ent1  ent1 ENT1 ent2 x",
    "``quoted'' 9,000 ² ½, 中文 カタ 한국",
    " 👩‍👩‍👧 👍🏽  don't it’s <|endoftext|> x",
]
TOKENIZER, CONFIG, SPECIAL, ADDED = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
ENT2 = {"content": "ent2", "lstrip": True, "rstrip": True, "normalized": True, "single_word": True, "special": True}
OLD_MAP = {
    "mask_token": {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False},
    "additional_special_tokens": ["ent1", {**ENT2, "single_word": False}],
}


def variants():
    """(name, base, files left out, changes of tokenizer_config.json, other files)"""
    for base in ("bert-cased-small", "roberta-small", "openai-gpt-small", "xlnet-small", "xlm-roberta-small"):
        tokenizer_class = json.loads((ROOT / base / CONFIG).read_text())["tokenizer_class"]
        bare = {"tokenizer_class": tokenizer_class}
        for layout, left_out in (("new", []), ("old", [TOKENIZER])):
            yield f"{base}-bare-{layout}", base, left_out + [CONFIG, SPECIAL], bare, {}
            tokens = {"additional_special_tokens": ["ent1", {"__type": "AddedToken", **ENT2}], "pad_token": "NEW_TOK"}
            yield f"{base}-tokens-{layout}", base, left_out, tokens, {}
            yield f"{base}-sides-{layout}", base, left_out, {"padding_side": "left", "truncation_side": "left"}, {}
            older = {SPECIAL: OLD_MAP, ADDED: {"NEW_TOK": 60000, "ent1": 60001}}
            yield f"{base}-older-{layout}", base, left_out + [CONFIG, SPECIAL], bare, older
    for layout, left_out in (("new", []), ("old", [TOKENIZER])):
        for lower in (True, False):
            for accents in (True, False, None):
                config = {"do_lower_case": lower, "strip_accents": accents}
                yield f"bert-lower-{lower}-accents-{accents}-{layout}", "bert-cased-small", left_out, config, {}
        yield f"bert-chinese-{layout}", "bert-cased-small", left_out, {"tokenize_chinese_chars": False}, {}
        yield f"bert-no-mask-{layout}", "bert-cased-small", left_out, {"mask_token": None, "model_max_length": None}, {}
        yield f"bert-split-{layout}", "bert-cased-small", left_out, {"split_special_tokens": True}, {}
        yield f"roberta-prefix-{layout}", "roberta-small", left_out, {"add_prefix_space": True, "trim_offsets": False}, {}
        yield f"roberta-sep-{layout}", "roberta-small", left_out, {"sep_token": "<unk>", "cls_token": "<mask>"}, {}
        for model_type in ("distilbert", "mpnet"):
            config = {"config.json": {"model_type": model_type}}
            yield f"{model_type}-{layout}", "bert-cased-small", left_out + [CONFIG, SPECIAL], None, config
        for model_type in ("gpt2", "bart", "opt"):
            config = {"config.json": {"model_type": model_type}}
            yield f"{model_type}-{layout}", "roberta-small", left_out + [CONFIG, SPECIAL], None, config
    for lower in (True, False):
        config = {"keep_accents": True, "do_lower_case": lower}
        yield f"xlnet-accents-lower-{lower}", "xlnet-small", [TOKENIZER], config, {}
    llama = {"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": True}
    yield "llama", "roberta-small", [CONFIG, SPECIAL], llama, {}
    for name, options in {
        "BloomTokenizerFast": {"add_prefix_space": False}, "Qwen2TokenizerFast": {}, "CodeGenTokenizerFast": {},
        "GPT2TokenizerFast": {"add_bos_token": True, "bos_token": "</s>", "pad_token": "<pad>"},
        "GemmaTokenizerFast": {"bos_token": "<s>", "eos_token": "</s>"}, "DebertaTokenizerFast": {"unk_token": "<unk>"},
        "PreTrainedTokenizerFast": {"mask_token": "<mask>", "model_max_length": 8192},
    }.items():
        config = {"tokenizer_class": name, **options}
        yield f"class-{name}", "roberta-small", [CONFIG, SPECIAL], config, {}
        if name in ("GPT2TokenizerFast", "Qwen2TokenizerFast", "CodeGenTokenizerFast"):
            yield f"class-{name}-old", "roberta-small", [CONFIG, SPECIAL, TOKENIZER], config, {}
    yield "neox", "roberta-small", [CONFIG, SPECIAL], {"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": True}, {}


def describe(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    roles = ("mask", "pad", "cls", "sep", "bos", "eos", "unk")
    cases = []
    for text in TEXTS:
        encoded = tokenizer(text, return_special_tokens_mask=True)
        cut = tokenizer(text, truncation=True, max_length=tokenizer.num_special_tokens_to_add() + 5)
        decoded = tokenizer.decode(encoded["input_ids"], clean_up_tokenization_spaces=False)
        mask = encoded["special_tokens_mask"]
        cases.append(dict(text=text, ids=encoded["input_ids"], special_tokens_mask=mask, truncated=cut["input_ids"], decoded=decoded))
    return dict(
        vocab_size=len(tokenizer), padding_side=tokenizer.padding_side, all_special_ids=tokenizer.all_special_ids,
        model_max_length=int(min(tokenizer.model_max_length, 2**31 - 1)),
        special={role: getattr(tokenizer, f"{role}_token_id") for role in roles}, awkward=cases)


def main():
    lines = []
    for name, base, left_out, config, files in variants():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for path in (ROOT / base).iterdir():
                if path.name not in left_out:
                    shutil.copy(path, folder)
            if config is not None:
                path = folder / CONFIG
                files[CONFIG] = {**(json.loads(path.read_text()) if path.exists() else {}), **config}
            for file, content in files.items():
                (folder / file).write_text(json.dumps(content))
            found = describe(folder)
            AutoTokenizer.from_pretrained(folder).save_pretrained(folder / "saved")
            survives = describe(folder / "saved") == found
            case = dict(base=base, left_out=left_out, files=files, survives_saving=survives, **found)
        lines.append(f"{json.dumps(name)}:{json.dumps(case, ensure_ascii=False, separators=(',', ':'))}")
    (ROOT / "variants.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    ROOT = pathlib.Path(sys.argv[1])
    main()
