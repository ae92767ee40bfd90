//! What was loaded from where, and what was not: in Python's words, and in one line each.

use std::collections::BTreeMap;

/// A tensor whose shape in the checkpoint is not the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The parameter.
    pub name: String,
    /// Shape in the checkpoint.
    pub found: Vec<usize>,
    /// Shape in the model.
    pub expected: Vec<usize>,
}

/// What is loaded from where, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    pub(super) class_name: String,
    /// Which files they are, for messages.
    pub(super) files: String,
    /// Parameter → tensor of the checkpoint.
    pub(super) sources: BTreeMap<String, String>,
    pub(super) renamed: Vec<(String, String)>,
    /// Names the model has and the checkpoint lacks, aliases of tied parameters included as Python lists them, sorted.
    pub missing: Vec<String>,
    /// Names the checkpoint has and the model lacks, by today's names but without an added prefix, sorted.
    pub unexpected: Vec<String>,
    /// Parameters of which one dimension is the vocabulary's, and which the model has more or fewer of, sorted.
    pub resized: Vec<Mismatch>,
}

impl LoadReport {
    /// The tensor of the checkpoint that a parameter is read from; `None` when it is newly initialised.
    pub fn source(&self, parameter: &str) -> Option<&str> {
        self.sources.get(parameter).map(String::as_str)
    }

    /// What was read, and from where, of `checkpoint`, the folder or name that the user gave.
    pub fn read_message(&self, checkpoint: &str) -> String {
        let Self { class_name, files, sources, missing, unexpected, .. } = self;
        format!(
            "read {} parameters of {class_name} from {checkpoint} ({files}); missing there: {}, left over: {}",
            sources.len(),
            missing.len(),
            unexpected.len()
        )
    }

    /// The same one by one: a line for each parameter that was read, each that is missing and each tensor left over.
    pub fn listing(&self) -> impl Iterator<Item = String> {
        let read = self.sources.iter().map(|(parameter, tensor)| match parameter == tensor {
            true => format!("read {parameter}"),
            false => format!("read {parameter} from {tensor}"),
        });
        let missing = self.missing.iter().map(|name| format!("missing {name}"));
        read.chain(missing).chain(self.unexpected.iter().map(|name| format!("left over {name}")))
    }

    /// Python's word on unused tensors of `checkpoint`, the folder or name that the user gave. It is a warning when
    /// `architectures` in config.json names the class, else information.
    pub fn unexpected_message(&self, checkpoint: &str) -> Option<String> {
        let class = &self.class_name;
        (!self.unexpected.is_empty()).then(|| {
            format!(
                "Some weights of the model checkpoint at {checkpoint} were not used when initializing {class}: {}\n- This IS \
                 expected if you are initializing {class} from the checkpoint of a model trained on another task or with \
                 another architecture (e.g. initializing a BertForSequenceClassification model from a BertForPreTraining \
                 model).\n- This IS NOT expected if you are initializing {class} from the checkpoint of a model that you \
                 expect to be exactly identical (initializing a BertForSequenceClassification model from a \
                 BertForSequenceClassification model).",
                python_list(&self.unexpected)
            )
        })
    }

    /// Python's warning about parameters that `checkpoint`, the folder or name that the user gave, lacks.
    pub fn missing_message(&self, checkpoint: &str) -> Option<String> {
        let class = &self.class_name;
        (!self.missing.is_empty()).then(|| {
            format!(
                "Some weights of {class} were not initialized from the model checkpoint at {checkpoint} and are newly \
                 initialized: {}\nYou should probably TRAIN this model on a down-stream task to be able to use it for \
                 predictions and inference.",
                python_list(&self.missing)
            )
        })
    }

    /// Python's note on names of early checkpoints, `LayerNorm.gamma` and `LayerNorm.beta`.
    pub fn renamed_message(&self) -> Option<String> {
        (!self.renamed.is_empty()).then(|| {
            let list: String = self.renamed.iter().map(|(old, new)| format!("* `{old}` -> `{new}`\n")).collect();
            format!(
                "A pretrained model of type `{}` contains parameters that have been renamed internally (a few are listed \
                 below but more are present in the model):\n{list}If you are using a model from the Hub, consider \
                 submitting a PR to adjust these weights and help future users.",
                self.class_name
            )
        })
    }
}

/// `['a', 'b']`, as Python prints a list of names.
fn python_list(names: &[String]) -> String {
    // Python tells all of them; no model of the three scripts has so many that are known to it.
    const MOST: usize = 1000;
    let quoted: Vec<String> = names.iter().take(MOST).map(|name| format!("'{name}'")).collect();
    let more = names.len().saturating_sub(MOST);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("[{}{more}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_said_in_one_line_each() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let report = LoadReport {
            class_name: "BertForMaskedLM".to_owned(),
            files: "tf_model.h5, TensorFlow".to_owned(),
            sources: [("a.bias", "a.bias"), ("a.weight", "a.gamma")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            renamed: Vec::new(),
            missing: names(&["b.bias"]),
            unexpected: names(&["c.bias"]),
            resized: Vec::new(),
        };
        assert_eq!(
            report.read_message("model"),
            "read 2 parameters of BertForMaskedLM from model (tf_model.h5, TensorFlow); missing there: 1, left over: 1"
        );
        let listing: Vec<_> = report.listing().collect();
        assert_eq!(listing, ["read a.bias", "read a.weight from a.gamma", "missing b.bias", "left over c.bias"]);
    }
}
