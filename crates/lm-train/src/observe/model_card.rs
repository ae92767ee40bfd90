//! The model card: `README.md` of the output folder, as Python's `Trainer.create_model_card` writes it.

use std::borrow::Borrow;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::observe::{LogRecord, LogValue};

/// The file's name in the output folder.
pub const MODEL_CARD_NAME: &str = "README.md";

/// Tells a card that was written by a program from one that a person wrote, or has read and completed.
const GENERATED: &str = "\
<!-- This model card has been generated automatically according to the information the Trainer had access to. You
should probably proofread and complete it, then remove this comment. -->
";

/// What a model card tells about a run.
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// The model's name: the last part of the output folder.
    pub model_name: String,
    /// `--model_name_or_path`; `None` for a model trained from scratch.
    pub finetuned_from: Option<String>,
    /// The Hub's tag of the task, such as `fill-mask` or `text-generation`.
    pub task: String,
    /// `--dataset_name`.
    pub dataset: Option<String>,
    /// `--dataset_config_name`.
    pub dataset_config: Option<String>,
    /// The settings worth telling.
    pub hyperparameters: Hyperparameters,
    /// Names and versions of what trained the model.
    pub framework_versions: Vec<(String, String)>,
}

/// The settings that a model card lists.
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    /// `--learning_rate`
    pub learning_rate: f64,
    /// Examples per training batch.
    pub train_batch_size: u64,
    /// Examples per evaluation batch.
    pub eval_batch_size: u64,
    /// `--seed`
    pub seed: u64,
    /// `--gradient_accumulation_steps`
    pub gradient_accumulation_steps: u64,
    /// Number of `--devices`.
    pub num_devices: u64,
    /// `--optim`
    pub optim: String,
    /// `--optim_args`
    pub optim_args: Option<String>,
    /// `--adam_beta1`
    pub adam_beta1: f64,
    /// `--adam_beta2`
    pub adam_beta2: f64,
    /// `--adam_epsilon`
    pub adam_epsilon: f64,
    /// `--lr_scheduler_type`
    pub lr_scheduler_type: String,
    /// `--warmup_ratio`
    pub warmup_ratio: f64,
    /// `--warmup_steps`
    pub warmup_steps: u64,
    /// `--max_steps`; `None` when epochs set the length of the run.
    pub max_steps: Option<u64>,
    /// `--num_train_epochs`
    pub num_train_epochs: f64,
    /// Whether training mixed float32 with a shorter type.
    pub mixed_precision: bool,
    /// `--label_smoothing_factor`
    pub label_smoothing_factor: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            learning_rate: 5e-5,
            train_batch_size: 8,
            eval_batch_size: 8,
            seed: 42,
            gradient_accumulation_steps: 1,
            num_devices: 1,
            optim: "adamw_torch".to_owned(),
            optim_args: None,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            lr_scheduler_type: "linear".to_owned(),
            warmup_ratio: 0.0,
            warmup_steps: 0,
            max_steps: None,
            num_train_epochs: 3.0,
            mixed_precision: false,
            label_smoothing_factor: 0.0,
        }
    }
}

/// Metrics that the Hub knows; only they appear in the card's metadata (Python's `METRIC_TAGS`).
const METRIC_TAGS: [&str; 1] = ["accuracy"];

/// Names and values of an evaluation, as the card lists them.
type Results = Vec<(String, LogValue)>;

impl ModelCard {
    /// Writes `README.md` for a run with this history, unless a person's stands there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write<R: Borrow<LogRecord>>(&self, folder: &Path, log_history: &[R]) -> Result<()> {
        let path = folder.join(MODEL_CARD_NAME);
        let show = path.display();
        let found = std::fs::symlink_metadata(&path).is_ok();
        let generated = || lm_files::read_to_string(&path, lm_files::SMALL).is_ok_and(|text| text.contains(GENERATED));
        if found && !generated() {
            tracing::warn!("{show} is not a card that this program wrote: it is kept, and no other is written");
            return Ok(());
        }
        let card = self.to_markdown(log_history);
        lm_files::write(&path, card.as_bytes()).with_context(|| format!("{show}: cannot be written"))
    }

    /// The text of `README.md` for a run with this history.
    pub fn to_markdown<R: Borrow<LogRecord>>(&self, log_history: &[R]) -> String {
        let (results, table) = results_of(log_history);
        let mut card = format!("---\n{}---\n\n{GENERATED}", self.metadata(&results));
        let _ = write!(card, "\n# {}\n\n", markdown(&self.model_name));
        match &self.finetuned_from {
            None => card += "This model was trained from scratch on ",
            Some(base) => {
                let (name, path) = (markdown(base), url_path(base));
                let _ =
                    write!(card, "This model is a fine-tuned version of [{name}](https://huggingface.co/{path}) on ");
            }
        }
        match self.dataset_name() {
            None => card += "an unknown dataset.",
            Some(name) => {
                let _ = write!(card, "the {} dataset.", markdown(&name));
            }
        }
        if !results.is_empty() {
            card += "\nIt achieves the following results on the evaluation set:";
            for (name, value) in &results {
                let _ = write!(card, "\n- {name}: {}", rounded(value));
            }
        }
        card += "

## Model description

More information needed

## Intended uses & limitations

More information needed

## Training and evaluation data

More information needed

## Training procedure

### Training hyperparameters

The following hyperparameters were used during training:
";
        for (name, value) in self.hyperparameters.rows() {
            let _ = writeln!(card, "- {name}: {}", markdown_lines(&value));
        }
        if let Some(table) = table {
            let _ = write!(card, "\n### Training results\n\n{table}\n");
        }
        card += "\n### Framework versions\n\n";
        for (name, version) in &self.framework_versions {
            let _ = writeln!(card, "- {name} {version}");
        }
        card
    }

    /// The dataset as prose names it.
    fn dataset_name(&self) -> Option<String> {
        let name = self.dataset.as_ref()?;
        Some(self.dataset_config.as_ref().map_or_else(|| name.clone(), |config| format!("{name} {config}")))
    }

    /// The YAML between the dashes.
    fn metadata(&self, results: &Results) -> String {
        let mut yaml = String::from("library_name: transformers\n");
        if let Some(base) = &self.finetuned_from {
            let _ = writeln!(yaml, "base_model: {}", yaml_string(base));
        }
        yaml += "tags:\n- generated_from_trainer\n";
        if let Some(dataset) = &self.dataset {
            let _ = writeln!(yaml, "datasets:\n- {}", yaml_string(dataset));
        }
        let metrics: Vec<(String, &String, &LogValue)> = results
            .iter()
            .map(|(name, value)| (name.to_lowercase().replace(' ', "_"), name, value))
            .filter(|(tag, ..)| METRIC_TAGS.contains(&tag.as_str()))
            .collect();
        if !metrics.is_empty() {
            yaml += "metrics:\n";
            for (tag, ..) in &metrics {
                let _ = writeln!(yaml, "- {tag}");
            }
        }
        let _ = write!(yaml, "model-index:\n- name: {}\n  results:", yaml_string(&self.model_name));
        // The Hub refuses a result that lacks its task, dataset or metrics.
        match (task_name(&self.task), &self.dataset, self.dataset_name()) {
            (Some(task), Some(dataset), Some(name)) if !metrics.is_empty() => {
                let _ = write!(
                    yaml,
                    "\n  - task:\n      name: {task}\n      type: {}\n    dataset:\n      name: {}\n      type: {}\n",
                    self.task,
                    yaml_string(&name),
                    yaml_string(dataset)
                );
                if let Some(config) = &self.dataset_config {
                    let _ = writeln!(yaml, "      args: {}", yaml_string(config));
                }
                yaml += "    metrics:\n";
                for (tag, name, value) in metrics {
                    let value = yaml_number(value);
                    let _ = writeln!(yaml, "    - name: {name}\n      type: {tag}\n      value: {value}");
                }
            }
            _ => yaml += " []\n",
        }
        yaml
    }
}

/// Python's `TASK_TAG_TO_NAME_MAPPING`, as far as the scripts use it.
fn task_name(tag: &str) -> Option<&'static str> {
    match tag {
        "fill-mask" => Some("Masked Language Modeling"),
        "text-generation" => Some("Causal Language Modeling"),
        _ => None,
    }
}

impl Hyperparameters {
    /// Python's `extract_hyperparameters_from_trainer`, for one process.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("learning_rate", python_float(self.learning_rate)),
            ("train_batch_size", self.train_batch_size.to_string()),
            ("eval_batch_size", self.eval_batch_size.to_string()),
            ("seed", self.seed.to_string()),
        ];
        if self.num_devices > 1 {
            rows.push(("distributed_type", "multi-GPU".into()));
            rows.push(("num_devices", self.num_devices.to_string()));
        }
        if self.gradient_accumulation_steps > 1 {
            rows.push(("gradient_accumulation_steps", self.gradient_accumulation_steps.to_string()));
        }
        let batches = self.num_devices.saturating_mul(self.gradient_accumulation_steps);
        if batches > 1 {
            rows.push(("total_train_batch_size", self.train_batch_size.saturating_mul(batches).to_string()));
        }
        let optim_args = self.optim_args.as_deref().unwrap_or("No additional optimizer arguments");
        let optimizer = if self.optim.to_lowercase().contains("adam") {
            format!(
                "Use {} with betas=({},{}) and epsilon={} and optimizer_args={optim_args}",
                self.optim,
                python_float(self.adam_beta1),
                python_float(self.adam_beta2),
                python_float(self.adam_epsilon)
            )
        } else {
            format!("Use {} and the args are:\n{optim_args}", self.optim)
        };
        rows.push(("optimizer", optimizer));
        rows.push(("lr_scheduler_type", self.lr_scheduler_type.clone()));
        if self.warmup_ratio != 0.0 {
            rows.push(("lr_scheduler_warmup_ratio", python_float(self.warmup_ratio)));
        }
        if self.warmup_steps != 0 {
            rows.push(("lr_scheduler_warmup_steps", self.warmup_steps.to_string()));
        }
        rows.push(match self.max_steps {
            Some(steps) => ("training_steps", steps.to_string()),
            None => ("num_epochs", python_float(self.num_train_epochs)),
        });
        if self.mixed_precision {
            rows.push(("mixed_precision_training", "Native AMP".to_owned()));
        }
        if self.label_smoothing_factor != 0.0 {
            rows.push(("label_smoothing_factor", python_float(self.label_smoothing_factor)));
        }
        rows
    }
}

/// Figures of an evaluation that describe the machine, not the model.
const NOT_RESULTS: [&str; 8] = [
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "total_flos",
    "epoch",
    "step",
    LogRecord::TOKENS_PER_SECOND,
    LogRecord::MEMORY,
];

/// Python's `parse_log_history`: the last evaluation, which without a training is told as it was logged, and after one the
/// table of all evaluations in it.
fn results_of(log_history: &[impl Borrow<LogRecord>]) -> (Results, Option<String>) {
    let log_history: Vec<&LogRecord> = log_history.iter().map(Borrow::borrow).collect();
    // Not by train_runtime as in Python: there every record has it with --include_num_input_tokens_seen.
    let trained = log_history.iter().position(|record| record.get("train_loss").is_some());
    let results = log_history.iter().rev().find(|record| record.get("eval_loss").is_some()).map(|record| {
        let title = |name: &str| match trained {
            Some(_) => title_case(name.strip_prefix("eval_").unwrap_or(name)),
            None => name.to_owned(),
        };
        let results = record.iter().filter(|(name, _)| trained.is_none() || !NOT_RESULTS.contains(name));
        results.map(|(name, value)| (title(name), value.clone())).collect()
    });
    let table = trained.map(|end| {
        let mut training_loss = LogValue::Text("No log".to_owned());
        let mut lines: Vec<Results> = Vec::new();
        for record in log_history.iter().take(end) {
            let value = |name: &str| record.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
            training_loss = value("loss").unwrap_or(training_loss);
            if record.get("eval_loss").is_none() {
                continue;
            }
            let mut line = vec![("Training Loss".to_owned(), training_loss.clone())];
            line.extend(["epoch", "step"].iter().filter_map(|name| Some((title_case(name), value(name)?))));
            for (name, value) in record.iter().filter(|(name, _)| !NOT_RESULTS.contains(name)) {
                let title = match name {
                    "eval_loss" => "Validation Loss".to_owned(),
                    "num_input_tokens_seen" => "Input Tokens Seen".to_owned(),
                    _ => title_case(name.strip_prefix("eval_").unwrap_or(name)),
                };
                line.push((title, value.clone()));
            }
            lines.push(line);
        }
        markdown_table(&lines)
    });
    (results.unwrap_or_default(), table)
}

/// `samples_per_second` as `Samples Per Second`.
fn title_case(name: &str) -> String {
    let capitalise = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    };
    name.split('_').map(capitalise).collect::<Vec<String>>().join(" ")
}

/// Python's `make_markdown_table`; the first line sets the columns.
fn markdown_table(lines: &[Results]) -> String {
    let Some(first) = lines.first() else {
        return String::new();
    };
    let titles: Vec<&String> = first.iter().map(|(title, _)| title).collect();
    let cell = |line: &Results, title: &String| {
        line.iter().find(|(other, _)| other == title).map_or(String::new(), |(_, value)| rounded(value))
    };
    let width = |title: &String| lines.iter().map(|line| cell(line, title).len()).max().unwrap_or(0).max(title.len());
    let (mut head, mut rule, mut rows) = (String::new(), String::new(), vec![String::new(); lines.len()]);
    for &title in &titles {
        let width = width(title);
        let _ = write!(head, "| {title:width$} ");
        let _ = write!(rule, "|:{}:", "-".repeat(width));
        for (row, line) in rows.iter_mut().zip(lines) {
            let _ = write!(row, "| {:width$} ", cell(line, title));
        }
    }
    [head, rule].into_iter().chain(rows).map(|line| line + "|\n").collect()
}

/// Python's `_maybe_round`: four decimals when there are more.
fn rounded(value: &LogValue) -> String {
    match value {
        LogValue::Text(text) => text.clone(),
        LogValue::Integer(count) => count.to_string(),
        LogValue::Number(number) => {
            let text = python_float(*number);
            let is_long = text.split_once('.').is_some_and(|(_, decimals)| decimals.len() > 4);
            if is_long { format!("{number:.4}") } else { text }
        }
    }
}

/// A name as Markdown's text, where nothing in it has a meaning: no link, no HTML, no new line.
fn markdown(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        // Within a word, an underscore is only that.
        let in_word = before.is_alphanumeric() && letters.peek().is_some_and(|next| next.is_alphanumeric());
        match letter {
            '_' if in_word => text.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '#' | '!' => text.extend(['\\', letter]),
            _ if letter.is_control() => text.push(' '),
            _ => text.push(letter),
        }
        before = letter;
    }
    text
}

/// A value that may have several lines, each without a meaning in Markdown.
fn markdown_lines(value: &str) -> String {
    value.split('\n').map(markdown).collect::<Vec<_>>().join("\n")
}

/// A name as the path of a web address.
fn url_path(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => path.push(byte.into()),
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

/// A float as Python's `repr` writes it.
fn python_float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
        Some((mantissa, Ok(exponent))) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ if number.fract() == 0.0 => format!("{number:.1}"),
        _ => number.to_string(),
    }
}

/// A number as PyYAML writes it.
fn yaml_number(value: &LogValue) -> String {
    match value {
        LogValue::Number(number) if number.is_nan() => ".nan".to_owned(),
        LogValue::Number(number) if number.is_infinite() => if *number > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        LogValue::Number(number) => {
            let text = python_float(*number);
            if text.contains('.') { text } else { text.replace('e', ".0e") }
        }
        LogValue::Integer(count) => count.to_string(),
        LogValue::Text(text) => yaml_string(text),
    }
}

/// A string for YAML: plain where nothing in it has a meaning there, else quoted.
fn yaml_string(text: &str) -> String {
    if text.chars().any(char::is_control) {
        // A JSON string is a YAML string, but JSON lets DEL and what follows it stand.
        let json = serde_json::Value::from(text).to_string();
        let hide = |letter: char| match letter.is_control() {
            true => format!("\\u{:04x}", u32::from(letter)),
            false => letter.to_string(),
        };
        return json.chars().map(hide).collect();
    }
    let starts_plainly = text.starts_with(|first: char| first.is_alphanumeric() || "_/.\\".contains(first));
    let has_syntax = text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']);
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = words.contains(&text.to_lowercase().as_str());
    let is_number_or_date = text.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && text.chars().all(|letter| letter.is_ascii_hexdigit() || "_.:+-xoTtZz ".contains(letter));
    if starts_plainly && !has_syntax && !is_word && !is_number_or_date && text.parse::<f64>().is_err() {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::TrainerState;

    /// The history of the run that wrote the fixtures, its evaluations in the order in which they were logged.
    fn history() -> Vec<LogRecord> {
        let state: TrainerState =
            serde_json::from_str(include_str!("../../tests/fixtures/trainer_state.json")).expect("Python's state");
        let in_order = |record: &LogRecord| {
            let mut ordered = LogRecord::new();
            if let Some(loss) = record.get("eval_loss") {
                ordered.set("eval_loss", loss);
            }
            ordered.extend(record.clone());
            ordered
        };
        state.log_history.iter().map(|record| in_order(record)).collect()
    }

    fn card() -> ModelCard {
        ModelCard {
            model_name: "mkstate".to_owned(),
            finetuned_from: Some("bert-tiny".to_owned()),
            task: "fill-mask".to_owned(),
            dataset: Some("wikitext".to_owned()),
            dataset_config: Some("wikitext-2-raw-v1".to_owned()),
            hyperparameters: Hyperparameters {
                learning_rate: 0.001,
                train_batch_size: 4,
                optim: "OptimizerNames.ADAMW_TORCH_FUSED".to_owned(),
                max_steps: Some(9),
                ..Hyperparameters::default()
            },
            framework_versions: [
                ("Transformers", "4.57.6"),
                ("Pytorch", "2.9.1+cu128"),
                ("Datasets", "5.0.1"),
                ("Tokenizers", "0.22.2"),
            ]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        }
    }

    #[test]
    fn the_card_is_pythons() {
        assert_eq!(card().to_markdown(&history()), include_str!("../../tests/fixtures/model_card.md"));
    }

    #[test]
    fn without_training_evaluation_or_base_model_the_card_is_shorter() {
        let plain = ModelCard { finetuned_from: None, dataset: None, dataset_config: None, ..card() };
        let empty = plain.to_markdown::<LogRecord>(&[]);
        assert!(empty.contains("trained from scratch on an unknown dataset.\n\n## Model description"), "{empty}");
        assert!(
            empty.contains("  results: []\n---")
                && !empty.contains("base_model")
                && !empty.contains("Training results")
        );
        let evaluated = plain.to_markdown(&[LogRecord::new().with("eval_loss", 2.5).with("epoch", 1.0)]);
        let as_logged = "evaluation set:\n- eval_loss: 2.5\n- epoch: 1.0\n\n##";
        assert!(evaluated.contains(as_logged) && !evaluated.contains("Training results"), "{evaluated}");
        let record = || LogRecord::new().with("train_runtime", 2.5);
        let trained = plain.to_markdown(&[record().with("loss", 9.0), record().with("train_loss", 8.0)]);
        assert!(trained.contains("### Training results\n\n\n\n### Framework"), "{trained}");
    }

    #[test]
    fn settings_off_their_default_are_listed() {
        let settings = Hyperparameters {
            gradient_accumulation_steps: 4,
            optim: "adafactor".to_owned(),
            warmup_ratio: 0.06,
            warmup_steps: 10,
            mixed_precision: true,
            label_smoothing_factor: 0.1,
            ..Hyperparameters::default()
        };
        let rows: Vec<String> = settings.rows().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            rows,
            [
                "learning_rate: 5e-05",
                "train_batch_size: 8",
                "eval_batch_size: 8",
                "seed: 42",
                "gradient_accumulation_steps: 4",
                "total_train_batch_size: 32",
                "optimizer: Use adafactor and the args are:\nNo additional optimizer arguments",
                "lr_scheduler_type: linear",
                "lr_scheduler_warmup_ratio: 0.06",
                "lr_scheduler_warmup_steps: 10",
                "num_epochs: 3.0",
                "mixed_precision_training: Native AMP",
                "label_smoothing_factor: 0.1",
            ]
        );
    }

    #[test]
    fn floats_are_as_python_writes_them() {
        let shown = [5e-5, 1e-4, 0.1, 3.0, 1e15, 1e16, 1.5e-7, -2.0, f64::NAN].map(python_float);
        assert_eq!(shown, ["5e-05", "0.0001", "0.1", "3.0", "1000000000000000.0", "1e+16", "1.5e-07", "-2.0", "nan"]);
        assert_eq!([5e-5, 0.25].map(|number| yaml_number(&number.into())), ["5.0e-05", "0.25"]);
    }

    #[test]
    fn names_mean_nothing_in_the_card() {
        let hostile = "x](http://evil) <script>\n# new `y` \u{1b}[31m";
        let card = ModelCard {
            model_name: hostile.to_owned(),
            finetuned_from: Some(hostile.to_owned()),
            dataset: Some(hostile.to_owned()),
            ..card()
        };
        let text = card.to_markdown::<LogRecord>(&[]);
        let shown = r"x\](http://evil) \<script\> \# new \`y\`  \[31m";
        let link = "x%5D%28http%3A//evil%29%20%3Cscript%3E%0A%23%20new%20%60y%60%20%1B%5B31m";
        assert!(text.contains(&format!("\n# {shown}\n")), "{text}");
        assert!(
            text.contains(&format!("of [{shown}](https://huggingface.co/{link}) on the {shown} wikitext")),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(markdown("my_model-v1.0 (a) _b_"), r"my_model-v1.0 (a) \_b\_");
    }

    #[test]
    fn strings_with_a_meaning_in_yaml_are_quoted() {
        let strings = [
            "bert-base-uncased",
            "/models/my bert",
            "a: b",
            "true",
            "1e5",
            "2024-01-01",
            "it's: so",
            "- x",
            "",
            "a\nb",
            "#1",
            "C:\\m",
        ];
        let expected = [
            "bert-base-uncased",
            "/models/my bert",
            "'a: b'",
            "'true'",
            "'1e5'",
            "'2024-01-01'",
            "'it''s: so'",
            "'- x'",
            "''",
            r#""a\nb""#,
            "'#1'",
            "C:\\m",
        ];
        assert_eq!(strings.map(yaml_string), expected);
    }
}
