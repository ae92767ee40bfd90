//! `--generate`: texts that grow before one's eyes.

use std::io::{self, Write};

use anyhow::{Context, Result};
use lm_data::tokenizer::LmTokenizer;
use lm_models::generate::{Sampling, check, generate};
use lm_models::ops;

use super::LanguageModel;
use super::lines;
use crate::args::Arguments;
use crate::sys::escape;
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
        let mut pairs = text.char_indices().zip(self.shown.chars());
        let differs = pairs.find(|((_, new), old)| new != old).map(|((at, _), _)| at);
        // A decoder may spell the end of a text in another way once more follows.
        let from = differs.unwrap_or(text.len().min(self.shown.len()));
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
