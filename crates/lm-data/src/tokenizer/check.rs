//! Checks on files that the `tokenizers` library trusts: where these fail, it would end the program, or take all memory,
//! instead of returning an error.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer, Tokenizer};

/// The most bytes that a normalizer may put into a text at a place, and the most tokens around a text: far more than any
/// tokenizer has.
const MOST_PUT_IN: usize = 1000;

/// Checks a tokenizer.json before the library reads it.
pub(super) fn check_json(tokenizer: &Value) -> Result<(), String> {
    check_normalizer(&tokenizer["normalizer"])?;
    check_template(&tokenizer["post_processor"])?;
    check_merges(&tokenizer["model"])
}

fn check_template(processor: &Value) -> Result<(), String> {
    for name in ["single", "pair"] {
        let pieces = processor[name].as_array().map_or(0, Vec::len);
        if pieces > MOST_PUT_IN {
            return Err(format!("its template \"{name}\" has {pieces} pieces"));
        }
    }
    let parts = processor["processors"].as_array();
    parts.into_iter().flatten().try_for_each(check_template)
}

fn check_normalizer(normalizer: &Value) -> Result<(), String> {
    if normalizer["type"] == "Precompiled" {
        let table = normalizer["precompiled_charsmap"].as_str();
        let table = table.and_then(|text| STANDARD.decode(text).ok());
        return check_charsmap(&table.ok_or("the normalisation table is not base64")?);
    }
    for name in ["content", "prepend"] {
        let length = normalizer[name].as_str().map_or(0, str::len);
        if length > MOST_PUT_IN {
            return Err(format!("the \"{name}\" of a normalizer has {length} bytes"));
        }
    }
    let parts = normalizer["normalizers"].as_array();
    parts.into_iter().flatten().try_for_each(check_normalizer)
}

/// The second part of a merge begins with the prefix of continuing subwords, which the library cuts off.
fn check_merges(model: &Value) -> Result<(), String> {
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for merge in model["merges"].as_array().into_iter().flatten() {
        let second = match merge {
            Value::String(pair) => pair.split_once(' ').map(|(_, second)| second),
            pair => pair[1].as_str(),
        };
        if second.is_some_and(|second| !second.is_char_boundary(prefix.len())) {
            return Err(format!("merge {merge} does not continue a word with {prefix:?}"));
        }
    }
    Ok(())
}

/// Added tokens that the normaliser turns into nothing would match everywhere.
pub(super) fn check_added_tokens(backend: &Tokenizer) -> Result<(), String> {
    let Some(normalizer) = backend.get_normalizer() else {
        return Ok(());
    };
    for (id, token) in backend.get_added_tokens_decoder() {
        let mut text = NormalizedString::from(token.content.as_str());
        let normalized = !token.normalized || normalizer.normalize(&mut text).is_ok();
        if !normalized || text.get().is_empty() {
            return Err(format!(
                "nothing is left of added token {:?} (id {id}) after normalisation; set its \"normalized\" to false",
                token.content
            ));
        }
    }
    Ok(())
}

/// Checks that a compiled normalisation table stays within its own bounds for every text. The library that walks it
/// trusts it, so a damaged one would end the program.
pub(super) fn check_charsmap(bytes: &[u8]) -> Result<(), String> {
    let short = || "normalisation table is cut short".to_owned();
    let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let size = u32::from_le_bytes(*size) as usize / 4 * 4;
    let (units, text) = rest.split_at_checked(size).ok_or_else(short)?;
    let text = std::str::from_utf8(text).map_err(|_| "normalisation table holds no valid text".to_owned())?;
    let units: Vec<usize> =
        units.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]) as usize).collect();
    // A unit of the double array: bit 8 says that a value follows, the upper bits where its children are.
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let damaged = || Err("normalisation table points outside itself".to_owned());
    if units.is_empty() {
        return damaged();
    }
    let mut reached = vec![false; units.len()];
    let mut pending = vec![offset(units[0])];
    while let Some(base) = pending.pop() {
        for byte in 1..=255 {
            let Some(unit) = units.get(base ^ byte) else {
                return damaged();
            };
            if unit & ((1 << 31) | 0xFF) != byte || std::mem::replace(&mut reached[base ^ byte], true) {
                continue;
            }
            let children = (base ^ byte) ^ offset(*unit);
            if unit >> 8 & 1 == 1 {
                let value = units.get(children).map(|leaf| leaf & ((1 << 31) - 1));
                if !value.is_some_and(|start| text.is_char_boundary(start)) {
                    return damaged();
                }
            }
            pending.push(children);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn damaged_normalisation_tables_are_refused() {
        assert!(check_charsmap(&[]).is_err());
        assert!(check_charsmap(&[8, 0, 0, 0, 1]).is_err());
        // One unit cannot hold the children of the root.
        assert!(check_charsmap(&[4, 0, 0, 0, 0, 4, 0, 0]).is_err());
        let mut empty_root = vec![0, 4, 0, 0];
        empty_root.extend([0; 1024]);
        assert!(check_charsmap(&empty_root[..1028]).is_ok());
    }

    #[test]
    fn json_that_would_end_the_program_is_refused() {
        let table = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
        assert!(check_json(&json!({"normalizer": table})).is_err());
        let nested = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, table]});
        assert!(check_json(&json!({"normalizer": nested})).is_err());
        let no_text = json!({"type": "Precompiled", "precompiled_charsmap": [1, 2]});
        assert!(check_json(&json!({"normalizer": no_text})).is_err());
        let long = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "x".repeat(MOST_PUT_IN + 1)});
        assert!(check_json(&json!({"normalizer": long})).is_err());
        let pieces = vec![json!({"Sequence": {"id": "A", "type_id": 0}}); MOST_PUT_IN + 1];
        let many = json!({"processors": [{"type": "TemplateProcessing", "single": pieces, "pair": []}]});
        assert!(check_json(&json!({"post_processor": many})).is_err());
        for merges in [json!(["a ##"]), json!([["a", "#"]])] {
            let model = json!({"continuing_subword_prefix": "###", "merges": merges});
            assert!(check_json(&json!({"model": model})).is_err());
        }
        let model = json!({"continuing_subword_prefix": "##", "merges": ["a ##b", ["c", "##d"]]});
        assert!(check_json(&json!({"normalizer": null, "model": model})).is_ok());
    }
}
