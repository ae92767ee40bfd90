//! Reads every row of the files named, or of the sample text, on one thread, without tokenizing:
//! `cargo bench --workspace --bench reading -- FILE …`.
//!
//! For each file the rows, the bytes of text in them, and the seconds that reading them took.

use std::time::Instant;

use lm_data::source::{RowOptions, SourceError, TextFiles};

fn main() -> Result<(), SourceError> {
    let mut files: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if files.is_empty() {
        files.push(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/train.txt").to_owned());
    }
    for file in files {
        let [found] = TextFiles::resolve([std::slice::from_ref(&file)], None, &RowOptions::default())?;
        let (began, mut rows, mut text) = (Instant::now(), found.rows(), String::new());
        let (mut count, mut bytes) = (0_u64, 0);
        while rows.read(&mut text)? {
            count += 1;
            bytes += text.len();
        }
        println!("{file}: {count} rows, {bytes} bytes, seconds: {:.4}", began.elapsed().as_secs_f64());
    }
    Ok(())
}
