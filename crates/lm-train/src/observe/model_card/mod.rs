//! The model card: `README.md` of the output folder, as Python's `Trainer.create_model_card` writes it.

mod data;
mod history;
mod hyperparameters;
mod text;

use std::borrow::Borrow;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use lm_models::Task;
use lm_models::config::Family;

use crate::args::Arguments;
use crate::observe::report::SplitFacts;
use crate::observe::{LogRecord, LogValue};
use data::Text;
use history::{Results, results_of};
use hyperparameters::hyperparameters;
use text::{markdown, markdown_lines, python_string, rounded, url_path, yaml_number, yaml_string};

/// The file's name in the output folder.
pub const MODEL_CARD_NAME: &str = "README.md";

/// Tells a card that was written by a program from one that a person wrote, or has read and completed.
const GENERATED: &str = "\
<!-- This model card has been generated automatically according to the information the Trainer had access to. You
should probably proofread and complete it, then remove this comment. -->
";

/// How the list of results names the baseline.
const UNIGRAM: &str = "Perplexity of a unigram model, which knows only how frequent each token of the training text is";

/// What a model card tells about a run.
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// The model's name: the last part of the output folder.
    pub model_name: String,
    /// `--model_name_or_path`; `None` for a model trained from scratch.
    pub finetuned_from: Option<String>,
    /// Whether the folder holds an adapter, which is peft's, not a model.
    pub adapter: bool,
    /// What the model is, such as `masked language`.
    pub noun: &'static str,
    /// Its class in Python.
    pub class: &'static str,
    /// From where Python loads it: the name on the Hub, else the output folder; `None` if only an evaluation was made.
    pub load_from: Option<String>,
    /// What it was trained and evaluated on.
    pub text: Text,
    /// The perplexity that guessing by frequency reaches on the evaluation set.
    pub unigram_perplexity: Option<f64>,
    /// The Hub's tag of the task, such as `fill-mask` or `text-generation`.
    pub task: String,
    /// `--dataset_name`.
    pub dataset: Option<String>,
    /// `--dataset_config_name`.
    pub dataset_config: Option<String>,
    /// The settings worth telling.
    pub hyperparameters: Vec<(&'static str, String)>,
    /// Names and versions of what trained the model.
    pub framework_versions: Vec<(String, String)>,
}

/// Metrics that the Hub knows; only they appear in the card's metadata (Python's `METRIC_TAGS`).
const METRIC_TAGS: [&str; 1] = ["accuracy"];

impl ModelCard {
    /// The card of a run with these arguments, of a model of this family, on splits of which `facts` tell; `repository` is
    /// where it is uploaded to.
    pub fn of(args: &Arguments, family: &Family, facts: &[SplitFacts], repository: Option<&str>) -> Self {
        let name = args.training.output_dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let versions = [(args.task.binary(), env!("CARGO_PKG_VERSION")), ("Burn", "0.22.1")];
        Self {
            model_name: name.unwrap_or_else(|| "model".into()),
            finetuned_from: args.model.model_name_or_path.clone(),
            adapter: args.writes_adapter(),
            noun: family.task.noun(),
            class: family.class,
            load_from: args.training.do_train.then(|| match repository {
                Some(name) => name.to_owned(),
                None => args.training.output_dir.display().to_string(),
            }),
            text: Text::of(args, facts),
            unigram_perplexity: None,
            task: match args.task {
                Task::Mlm => "fill-mask".into(),
                Task::Clm | Task::Plm => "text-generation".into(),
            },
            // A folder has no page on the Hub.
            dataset: args.data.dataset_name.clone().filter(|name| !Path::new(name).is_dir()),
            dataset_config: args.data.dataset_config_name.clone(),
            hyperparameters: hyperparameters(args),
            framework_versions: versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
        }
    }

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
        let _ = write!(card, "{}.", self.text.name.as_deref().unwrap_or("an unknown dataset"));
        if !results.is_empty() {
            card += "\nIt achieves the following results on the evaluation set:";
            for (name, value) in &results {
                let _ = write!(card, "\n- {name}: {}", rounded(value));
            }
        }
        if let (false, Some(perplexity)) = (results.is_empty(), self.unigram_perplexity) {
            let _ = write!(card, "\n- {UNIGRAM}: {}", rounded(&perplexity.into()));
        }
        let _ = write!(card, "\n\n## Model description\n\n{}", self.description());
        card += "

## Intended uses & limitations

More information needed

## Training and evaluation data

";
        card += &self.data(!results.is_empty());
        card += "

## Training procedure

### Training hyperparameters

The following hyperparameters were used during training:
";
        for (name, value) in &self.hyperparameters {
            let _ = writeln!(card, "- {name}: {}", markdown_lines(value));
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

    /// What the model is, and how Python loads it.
    fn description(&self) -> String {
        let (noun, class) = (self.noun, self.class);
        let Some(place) = &self.load_from else { return format!("A {noun} model: `{class}`.") };
        let place = python_string(place);
        let kind = if self.adapter { "A LoRA adapter, which `peft` loads, of a" } else { "A" };
        format!(
            "{kind} {noun} model: `{class}`. In Python it is loaded by

```python
from transformers import AutoTokenizer, {class}

tokenizer = AutoTokenizer.from_pretrained({place})
model = {class}.from_pretrained({place})
```"
        )
    }

    /// What the model was trained and evaluated on.
    fn data(&self, evaluated: bool) -> String {
        let evaluation = self.text.evaluation.as_ref().filter(|_| evaluated);
        let lines = [("Training", self.text.training.as_ref()), ("Evaluation", evaluation)];
        let lines = lines.into_iter().filter_map(|(what, text)| Some(format!("- {what}: {}", text?)));
        let lines = lines.collect::<Vec<_>>().join("\n");
        if lines.is_empty() { "More information needed".into() } else { lines }
    }

    /// The dataset as the metadata names it.
    fn dataset_name(&self) -> Option<String> {
        let name = self.dataset.as_ref()?;
        Some(self.dataset_config.as_ref().map_or_else(|| name.clone(), |config| format!("{name} {config}")))
    }

    /// The YAML between the dashes.
    fn metadata(&self, results: &Results) -> String {
        let mut yaml = format!("library_name: {}\n", if self.adapter { "peft" } else { "transformers" });
        if let Some(base) = &self.finetuned_from {
            let _ = writeln!(yaml, "base_model: {}", yaml_string(base));
        }
        yaml += "tags:\n- generated_from_trainer\n";
        if let Some(base) = self.finetuned_from.as_ref().filter(|_| self.adapter) {
            // As peft's `create_or_update_model_card`.
            let _ = writeln!(yaml, "- {}\n- lora\n- transformers", yaml_string(&format!("base_model:adapter:{base}")));
        }
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

#[cfg(test)]
mod tests {
    use super::hyperparameters::tests::rows;
    use super::*;
    use crate::observe::TrainerState;

    /// The history of the run that wrote the fixtures, its evaluations in the order in which they were logged.
    fn history() -> Vec<LogRecord> {
        let state: TrainerState =
            serde_json::from_str(include_str!("../../../tests/fixtures/trainer_state.json")).expect("Python's state");
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
            adapter: false,
            noun: "masked language",
            class: "BertForMaskedLM",
            load_from: None,
            text: Text { name: Some("the wikitext wikitext-2-raw-v1 dataset".to_owned()), ..Text::default() },
            unigram_perplexity: None,
            task: "fill-mask".to_owned(),
            dataset: Some("wikitext".to_owned()),
            dataset_config: Some("wikitext-2-raw-v1".to_owned()),
            hyperparameters: rows("--learning_rate 0.001 --per_device_train_batch_size 4 --max_steps 9"),
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
        // There the enum tells its own name, here the flag's value stands.
        let pythons = include_str!("../../../tests/fixtures/model_card.md");
        let pythons = pythons.replace("OptimizerNames.ADAMW_TORCH_FUSED", "adamw_torch_fused");
        // What Python leaves to the reader.
        let described = "## Model description\n\nA masked language model: `BertForMaskedLM`.";
        let pythons = pythons.replace("## Model description\n\nMore information needed", described);
        assert_eq!(card().to_markdown(&history()), pythons);
    }

    #[test]
    fn what_python_leaves_open_is_told() {
        let place = "my \"model\"\\\n```";
        let text =
            Text { training: Some("a.txt".into()), evaluation: Some("b.txt".into()), name: Some("a.txt".into()) };
        let told = ModelCard { load_from: Some(place.into()), text, unigram_perplexity: Some(232.612_34), ..card() };
        let card = told.to_markdown(&history());
        for part in [
            " on a.txt.\n",
            "- Perplexity of a unigram model, which knows only how frequent each token of the training text is: 232.6123\n\n##",
            "import AutoTokenizer, BertForMaskedLM\n",
            "\nmodel = BertForMaskedLM.from_pretrained(\"my \\\"model\\\"\\\\\\x0a```\")\n```\n\n## Intended",
            "evaluation data\n\n- Training: a.txt\n- Evaluation: b.txt\n\n## Training procedure",
        ] {
            assert!(card.contains(part), "{part}\n{card}");
        }
        let adapter = ModelCard { adapter: true, ..told }.to_markdown::<LogRecord>(&[]);
        assert!(adapter.contains("A LoRA adapter, which `peft` loads, of a masked language model"), "{adapter}");
        assert!(!adapter.contains("unigram") && !adapter.contains("- Evaluation"), "nothing was evaluated");
    }

    #[test]
    fn without_training_evaluation_or_base_model_the_card_is_shorter() {
        let plain =
            ModelCard { finetuned_from: None, dataset: None, dataset_config: None, text: Text::default(), ..card() };
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
    fn names_mean_nothing_in_the_card() {
        let hostile = "x](http://evil) <script>\n# new `y` \u{1b}[31m";
        let card = ModelCard {
            model_name: hostile.to_owned(),
            finetuned_from: Some(hostile.to_owned()),
            dataset: Some(hostile.to_owned()),
            text: Text { name: Some(markdown(hostile)), ..Text::default() },
            ..card()
        };
        let text = card.to_markdown::<LogRecord>(&[]);
        let shown = r"x\](http://evil) \<script\> \# new \`y\`  \[31m";
        let link = "x%5D%28http%3A//evil%29%20%3Cscript%3E%0A%23%20new%20%60y%60%20%1B%5B31m";
        assert!(text.contains(&format!("\n# {shown}\n")), "{text}");
        assert!(text.contains(&format!("of [{shown}](https://huggingface.co/{link}) on {shown}.")), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(markdown("my_model-v1.0 (a) _b_"), r"my_model-v1.0 (a) \_b\_");
    }
}
