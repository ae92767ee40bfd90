//! `train_results.json`, `eval_results.json` and `all_results.json`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::observe::{LogRecord, console, json};

/// The metrics of all splits so far.
#[derive(Default)]
pub struct Results {
    all: Map<String, Value>,
}

impl Results {
    /// Prints the metrics of a split as Python's `log_metrics` and writes them as its `save_metrics`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&mut self, folder: &Path, split: &str, metrics: &LogRecord) -> Result<()> {
        let table = console::metrics_table(split, metrics);
        let Value::Object(metrics) = serde_json::to_value(metrics)? else { return Ok(()) };
        write_json(&folder.join(format!("{split}_results.json")), metrics.clone())?;
        self.all.extend(metrics);
        write_json(&folder.join("all_results.json"), self.all.clone())?;
        console::say(&table);
        Ok(())
    }
}

/// Sorted keys, four spaces, as Python writes its results.
fn write_json(path: &Path, mut object: Map<String, Value>) -> Result<()> {
    object.sort_keys();
    let text = json::to_string(&object, "    ")? + "\n";
    lm_files::write(path, text.as_bytes()).with_context(|| format!("{}: cannot be written", path.display()))
}
