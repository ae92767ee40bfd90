//! Looking at the data: all examples as JSON, and the first of them as a reader sees them.

use std::io::Write;

use serde_json::json;

use crate::DataError;
use crate::batch::{Batch, IGNORE};
use crate::collate::Padding;
use crate::example::ExampleStore;
use crate::tokenizer::LmTokenizer;

/// Writes one line per example, `{"split":"train","input_ids":[…]}`; padded if every example is padded alike.
pub fn dump_examples(
    writer: &mut dyn Write,
    split: &str,
    store: &ExampleStore,
    padding: &Padding,
) -> Result<(), DataError> {
    for index in 0..store.len() {
        let Some(example) = store.get(index)? else { break };
        let line = json!({"split": split, "input_ids": padding.pad(&example.ids)?});
        writeln!(writer, "{line}").map_err(DataError::Dump)?;
    }
    writer.flush().map_err(DataError::Dump)
}

/// The examples of a batch as text. Where a token is to be predicted stands `{input: label}`, or `{label}` if the input
/// there is the token itself; of a causal model's examples every token is predicted and none is marked.
pub fn preview(batch: &Batch, tokenizer: &LmTokenizer) -> String {
    let mut text = String::new();
    for row in 0..batch.batch_size {
        let cells = row * batch.seq_len..(row + 1) * batch.seq_len;
        let (ids, labels) = (&batch.input_ids[cells.clone()], &batch.labels[cells.clone()]);
        let tokens = batch.attention_mask[cells].iter().filter(|&&mask| mask == 1).count();
        let predicted = labels.iter().filter(|&&label| label != IGNORE).count();
        let index = batch.example_ids.get(row).copied().unwrap_or_default();
        let marked = if ids == labels { tokenizer.decode(&unsigned(ids)) } else { marked(ids, labels, tokenizer) };
        text += &format!("example {index}: {tokens} tokens, {predicted} predicted\n{marked}\n");
    }
    text
}

fn marked(ids: &[i32], labels: &[i32], tokenizer: &LmTokenizer) -> String {
    let one = |id: i32| {
        let text = tokenizer.decode(&unsigned(&[id]));
        let text = text.trim();
        if text.is_empty() { tokenizer.token(id as u32).unwrap_or_default() } else { text.to_owned() }
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, (&id, &label)) in ids.iter().zip(labels).enumerate().filter(|(_, (_, label))| **label != IGNORE) {
        parts.push(tokenizer.decode(&unsigned(&ids[start..at])));
        parts.push(if id == label { format!("{{{}}}", one(id)) } else { format!("{{{}: {}}}", one(id), one(label)) });
        start = at + 1;
    }
    parts.push(tokenizer.decode(&unsigned(&ids[start..])));
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

fn unsigned(ids: &[i32]) -> Vec<u32> {
    ids.iter().map(|&id| id as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collate::PadTo;
    use crate::testing::{store, tokenizer};

    #[test]
    fn examples_are_dumped_one_per_line() {
        let padding = Padding::new(&tokenizer("bert-cased-small"), PadTo::Length(3));
        let mut dumped = Vec::new();
        dump_examples(&mut dumped, "train", &store(&[2, 4]), &padding).unwrap();
        let expected = "{\"split\":\"train\",\"input_ids\":[0,1,0]}\n{\"split\":\"train\",\"input_ids\":[1,2,3,4]}\n";
        assert_eq!(String::from_utf8(dumped).unwrap(), expected);
    }

    #[test]
    fn what_is_predicted_is_marked() {
        let tokenizer = tokenizer("bert-cased-small");
        let id = |token: &str| tokenizer.token_to_id(token).unwrap() as i32;
        let (the, of, mask) = (id("the"), id("of"), id("[MASK]"));
        let mut batch = Batch {
            batch_size: 1,
            seq_len: 4,
            input_ids: vec![the, mask, of, the],
            attention_mask: vec![1; 4],
            labels: vec![IGNORE, of, the, the],
            perm_mask: None,
            example_ids: vec![7],
        };
        assert_eq!(preview(&batch, &tokenizer), "example 7: 4 tokens, 3 predicted\nthe {[MASK]: of} {of: the} {the}\n");
        batch.labels.clone_from(&batch.input_ids);
        assert!(preview(&batch, &tokenizer).ends_with("the [MASK] of the\n"));
    }
}
