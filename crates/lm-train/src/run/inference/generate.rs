//! `--generate`: texts that grow before one's eyes.

use std::io::{self, Write};

use anyhow::{Context, Result};
use lm_data::tokenizer::LmTokenizer;
use lm_models::generate::{Sampling, check, generate};
use lm_models::ops;

use super::language_model::LanguageModel;
use super::lines;
use crate::args::Arguments;
use crate::sys::escape;
use crate::train::pieces::common;
use crate::train::samples::{prompt_ids, sampling};

/// Prints each text and goes on with it.
///
/// # Errors
/// If a text can't be continued.
pub fn run(model: &LanguageModel, args: &Arguments, text: &str) -> Result<()> {
    for (index, line) in (0..).zip(lines::given("--generate", text)) {
        let line = line?;
        let prompts = prompt_ids(&model.tokenizer, &[&line.text]).with_context(|| line.place.clone())?;
        for prompt in &prompts {
            check(&model.model, prompt).with_context(|| line.place.clone())?;
        }
        let mut out = io::stdout();
        if index > 0 {
            writeln!(out)?;
        }
        // Equal lines are continued in different ways.
        let sampling = Sampling { evaluation: index, ..sampling(args) };
        let mut growing = Growing::new(&model.tokenizer, &line.text, prompts.concat(), out);
        ops::on_worker(&model.device, || {
            let eos = model.tokenizer.special().eos;
            generate(&model.model, &prompts, &sampling, eos, model.compute, |_, token| growing.push(token))
        })?;
        growing.finish()?;
    }
    Ok(())
}

/// A text that is printed as tokens are added to it.
struct Growing<'a, W> {
    tokenizer: &'a LmTokenizer,
    ids: Vec<u32>,
    /// What the tokens were as text when they were printed last.
    shown: String,
    out: W,
    /// The first error of `out`; nothing is written after it.
    written: io::Result<()>,
}

impl<'a, W: Write> Growing<'a, W> {
    /// Prints the beginning as it was given.
    fn new(tokenizer: &'a LmTokenizer, text: &str, ids: Vec<u32>, out: W) -> Self {
        let shown = tokenizer.decode(&ids);
        let mut growing = Self { tokenizer, ids, shown, out, written: Ok(()) };
        growing.write(text);
        growing
    }

    /// Adds a token and prints what is whole of it: the bytes of a character may be several tokens.
    fn push(&mut self, token: u32) {
        self.ids.push(token);
        let text = self.tokenizer.decode(&self.ids);
        self.show(text.trim_end_matches(char::REPLACEMENT_CHARACTER));
    }

    /// Prints what is left, and ends the line.
    fn finish(mut self) -> io::Result<()> {
        self.show(&self.tokenizer.decode(&self.ids));
        self.write("\n");
        self.written
    }

    /// Prints what `text` has beyond what was shown.
    fn show(&mut self, text: &str) {
        // A decoder may spell the end of a text in another way once more follows.
        let from = common(text, &self.shown);
        if from < text.len() {
            self.write(&text[from..]);
            self.shown = text.to_owned();
        }
    }

    fn write(&mut self, text: &str) {
        if self.written.is_ok() {
            let visible = escape::visible(text);
            self.written = self.out.write_all(visible.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What was written piece by piece.
    #[derive(Default)]
    struct Pieces(Vec<String>);

    impl Write for &mut Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8(bytes.to_vec()).map_err(io::Error::other)?);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pieces(tokenizer: &str, prompt: &str, continuation: &str) -> Result<(Vec<String>, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lm-data/tests/fixtures/tokenizers").join(tokenizer);
        let tokenizer = LmTokenizer::from_folder(&folder)?;
        let ids = prompt_ids(&tokenizer, &[prompt, &format!("{prompt}{continuation}")])?;
        let [prompt_ids, all] = &ids[..] else { unreachable!("two texts") };
        let mut pieces = Pieces::default();
        let mut growing = Growing::new(&tokenizer, prompt, prompt_ids.clone(), &mut pieces);
        all[prompt_ids.len()..].iter().for_each(|&id| growing.push(id));
        growing.finish()?;
        let continued = tokenizer.decode(all)[tokenizer.decode(prompt_ids).len()..].to_owned();
        Ok((pieces.0, continued))
    }

    #[test]
    fn a_text_is_printed_as_it_grows() -> Result<()> {
        let (pieces, continued) = pieces("bert-cased-small", "The clock", " on the tower . It")?;
        assert_eq!(pieces.concat(), format!("The clock{continued}\n"));
        assert!(pieces.len() > 4, "{pieces:?}");
        Ok(())
    }

    /// A character of several tokens is printed when it is whole, a control character spelled out.
    #[test]
    fn no_part_of_a_character_is_printed() -> Result<()> {
        let (pieces, continued) = pieces("roberta-small", "The clock", " 漢字 🦀 \u{1b}[31m")?;
        assert!(continued.contains("漢字 🦀"), "{continued}");
        assert_eq!(pieces.concat(), "The clock 漢字 🦀 \\u{1b}[31m\n");
        assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)), "{pieces:?}");
        Ok(())
    }
}
