//! What the card tells of the text that the model was trained and evaluated on.

use std::path::Path;

use super::text::markdown;
use crate::args::Arguments;
use crate::observe::format::count;
use crate::observe::report::SplitFacts;

/// Files named of many.
const NAMED: usize = 4;

/// The text of a run, as Markdown.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// What the model was trained on; `None` without `--do_train`.
    pub training: Option<String>,
    /// What it was evaluated on.
    pub evaluation: Option<String>,
    /// The same in a word or two, for the card's first sentence; `None` if there is no training text.
    pub name: Option<String>,
}

impl Text {
    /// The text of a run with these arguments; `facts` say how much of it there is.
    pub fn of(args: &Arguments, facts: &[SplitFacts]) -> Self {
        let counted = |source: String, split: &str| match facts.iter().find(|facts| facts.split == split) {
            Some(facts) => format!("{source}: {} examples, {} tokens", count(facts.examples), count(facts.tokens)),
            None => source,
        };
        let name = name(args);
        let train_split = args.beyond.train_split.as_deref().unwrap_or("train");
        let training = name.clone().filter(|_| args.training.do_train).map(|name| match args.dataset {
            Some(_) => format!("split {} of {name}", markdown(train_split)),
            None => name,
        });
        let share = args.data.validation_split_percentage.unwrap_or(5);
        let evaluation = match (&args.dataset, &args.data.validation_file) {
            (_, Some(files)) => files_named(&files.0),
            (Some(dataset), None) if !dataset.validation.is_empty() => {
                let split = args.beyond.validation_split.as_deref().unwrap_or("validation");
                format!("split {} of {}", markdown(split), name.as_deref().unwrap_or("the dataset"))
            }
            _ => format!("the first {share} % of the training text, held out"),
        };
        Self {
            training: training.map(|source| counted(source, "train")),
            evaluation: facts
                .iter()
                .any(|facts| facts.split == "validation")
                .then(|| counted(evaluation, "validation")),
            name,
        }
    }
}

fn name(args: &Arguments) -> Option<String> {
    match (&args.data.dataset_name, &args.data.train_file) {
        (Some(name), _) => {
            let config = args.data.dataset_config_name.as_ref().map_or_else(String::new, |config| format!(" {config}"));
            let kind = if Path::new(name).is_dir() { "folder" } else { "dataset" };
            Some(format!("the {} {kind}", markdown(&format!("{name}{config}"))))
        }
        (None, Some(files)) => Some(files_named(&files.0)),
        (None, None) => None,
    }
}

fn files_named(files: &[String]) -> String {
    let named: Vec<String> = files.iter().take(NAMED).map(|file| markdown(file)).collect();
    match files.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {} more", named.join(", "), count(more as u64)),
    }
}
