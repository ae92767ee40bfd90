//! Which tensor of a checkpoint belongs to which parameter: the rules of `from_pretrained`
//! (`_load_pretrained_model` and what it calls in modeling_utils.py of transformers 4.57).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::report::{LoadReport, Mismatch};
use super::{Checkpoint, WeightsError};

/// What a model says about the names of its parameters.
#[derive(Debug, Clone, Copy)]
pub struct ModelNames<'a> {
    /// Python's name of the class, such as `BertForMaskedLM`; only messages need it.
    pub class_name: &'a str,
    /// Under which name the class holds its base model, such as `bert`. A checkpoint of the base model alone lacks it.
    pub base_model_prefix: &'a str,
    /// Names and shapes of the parameters, tied ones once.
    pub parameters: &'a [(String, Vec<usize>)],
    /// `(alias, parameter)`: further names of a parameter in Python's state dict, such as
    /// (`cls.predictions.decoder.weight`, `bert.embeddings.word_embeddings.weight`).
    pub ties: &'a [(&'a str, &'a str)],
    /// Buffers that are computed, not loaded, though old checkpoints hold them, such as
    /// `transformer.h.*.attn.bias`; `*` stands for one part between dots.
    pub buffers: &'a [&'a str],
    /// How names begin in checkpoints of other programs, `(old, new)`; a tensor of such a name is taken for the new one if
    /// it has the parameter's shape and the checkpoint has no other of that name.
    pub old_names: &'a [(&'a str, &'a str)],
    /// Unexpected names that contain one of these are not worth a word (`_keys_to_ignore_on_load_unexpected`).
    pub ignore_unexpected: &'a [&'a str],
    /// `(rows in the checkpoint, rows in the model)` when the model has a larger or smaller vocabulary than config.json
    /// says: tensors that differ from the checkpoint in just this go to [`LoadReport::resized`].
    pub vocab_resize: Option<(usize, usize)>,
}

/// Matches the names and shapes of a checkpoint to a model's.
///
/// Early names are understood (`LayerNorm.gamma`, `LayerNorm.beta`, `weight_g`, `weight_v`); the checkpoint may be the
/// base model's, without its prefix; a parameter with several names is missing only when all of them are.
///
/// # Errors
///
/// When a tensor's shape is not the parameter's (other than by [`ModelNames::vocab_resize`]), or when a checkpoint of
/// the base model holds a tensor of the head.
pub fn match_names(model: &ModelNames<'_>, checkpoint: &Checkpoint) -> Result<LoadReport, WeightsError> {
    let report = match_entries(model, checkpoint.folder(), checkpoint.names(), |name| {
        checkpoint.info(name).map(|info| info.shape.clone()).unwrap_or_default()
    })?;
    Ok(LoadReport { files: checkpoint.files_in_words(), ..report })
}

fn match_entries(
    model: &ModelNames<'_>,
    folder: &Path,
    names: &[String],
    shape_of: impl Fn(&str) -> Vec<usize>,
) -> Result<LoadReport, WeightsError> {
    let expected: BTreeSet<&str> = model
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(model.ties.iter().map(|(alias, _)| *alias))
        .collect();
    let prefix = format!("{}.", model.base_model_prefix);
    let modern_names: Vec<String> = names.iter().map(|name| modern_name(name)).collect();
    // Python looks for the prefix without its dot; and its Gemma 3 has one that no part of the model is called by.
    let of_base_model = expected.iter().any(|name| name.starts_with(&prefix))
        && !modern_names.iter().any(|name| name.starts_with(model.base_model_prefix));

    let mut found: HashMap<String, &str> = HashMap::new();
    let mut renamed: Vec<(String, String)> = Vec::new();
    for (name, mut modern) in names.iter().zip(modern_names.iter().cloned()) {
        let renewed = model.old_names.iter().find_map(|(old, new)| Some(format!("{new}{}", modern.strip_prefix(old)?)));
        if let Some(renewed) = renewed {
            let fits = |(parameter, shape): &(String, Vec<usize>)| *parameter == renewed && *shape == shape_of(name);
            if model.parameters.iter().any(fits) && !modern_names.contains(&renewed) {
                modern = renewed;
            }
        }
        if of_base_model {
            let in_base_model = format!("{prefix}{modern}");
            if expected.contains(modern.as_str()) && !expected.contains(in_base_model.as_str()) {
                return Err(WeightsError::tensor(
                    folder,
                    name,
                    format!(
                        "belongs to the head of {}, yet no tensor has the prefix {prefix}: the checkpoint mixes two \
                         models: save it again with save_pretrained",
                        model.class_name
                    ),
                ));
            }
            modern = in_base_model;
        }
        if let Some(suffix) = ["LayerNorm.gamma", "LayerNorm.beta"].into_iter().find(|suffix| name.ends_with(suffix)) {
            let example = (name.clone(), modern.clone());
            // One example of each kind, the last, as Python has it.
            match renamed.iter_mut().find(|(old, _)| old.ends_with(suffix)) {
                Some(earlier) => *earlier = example,
                None => renamed.push(example),
            }
        }
        found.insert(modern, name);
    }

    let unexpected: BTreeSet<&str> = found
        .iter()
        .filter(|(name, _)| {
            !expected.contains(name.as_str())
                && !model.buffers.iter().any(|pattern| matches_pattern(pattern, name))
                && !model.ignore_unexpected.iter().any(|part| name.contains(part))
        })
        .map(|(name, _)| if of_base_model { name.strip_prefix(&prefix).unwrap_or(name) } else { name })
        .collect();

    let mut sources = BTreeMap::new();
    let mut resized = Vec::new();
    let mut mismatched = Vec::new();
    let mut with_source = HashSet::new();
    for (parameter, shape) in model.parameters {
        let aliases = model.ties.iter().filter(|(_, tied)| tied == parameter).map(|(alias, _)| *alias);
        // The parameter's own name comes first: Python ties after loading, and so overwrites the aliases.
        let Some(source) = std::iter::once(parameter.as_str()).chain(aliases).find_map(|name| found.get(name)) else {
            continue;
        };
        with_source.insert(parameter.as_str());
        sources.insert(parameter.clone(), (*source).to_string());
        let in_checkpoint = shape_of(source);
        if in_checkpoint != *shape {
            let mismatch = Mismatch { name: parameter.clone(), found: in_checkpoint, expected: shape.clone() };
            if is_vocab_resize(&mismatch, model.vocab_resize) {
                resized.push(mismatch);
            } else {
                mismatched.push(mismatch);
            }
        }
    }
    if let Some(first) = mismatched.first() {
        let more = match mismatched.len() - 1 {
            0 => String::new(),
            1 => " (and 1 more tensor differs)".to_string(),
            n => format!(" (and {n} more tensors differ)"),
        };
        return Err(WeightsError::ShapeMismatch {
            path: folder.to_path_buf(),
            tensor: first.name.clone(),
            found: first.found.clone(),
            expected: first.expected.clone(),
            more,
        });
    }

    let has_source = |name: &str| {
        let parameter = model.ties.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, parameter)| *parameter);
        with_source.contains(parameter)
    };
    let missing = expected.iter().filter(|name| !has_source(name)).map(|name| name.to_string()).collect();
    Ok(LoadReport {
        class_name: model.class_name.to_string(),
        files: String::new(),
        sources,
        renamed,
        missing,
        unexpected: unexpected.into_iter().map(str::to_string).collect(),
        resized,
    })
}

/// Today's name of a tensor (`_fix_state_dict_key_on_load`), without what torch puts around modules.
fn modern_name(name: &str) -> String {
    // Of DataParallel and its kin, of `torch.compile`, and of what shards or recomputes.
    const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
    let unwrapped: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let name = unwrapped.join(".");
    const RENAMES: [(&str, &str); 4] = [
        ("LayerNorm.beta", "LayerNorm.bias"),
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ];
    for (old, new) in RENAMES {
        if let Some(stem) = name.strip_suffix(old) {
            return format!("{stem}{new}");
        }
    }
    name
}

fn is_vocab_resize(mismatch: &Mismatch, resize: Option<(usize, usize)>) -> bool {
    let differ = || mismatch.found.iter().copied().zip(mismatch.expected.iter().copied()).filter(|(a, b)| a != b);
    mismatch.found.len() == mismatch.expected.len() && differ().count() == 1 && differ().next() == resize
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('.'), name.split('.'));
    loop {
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some(part), Some(other)) if part == "*" || part == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// One line of names.json, which make_names.py wrote with transformers 4.57.
    #[derive(Deserialize)]
    struct Case {
        case: String,
        class_name: String,
        base_model_prefix: String,
        parameters: Vec<(String, Vec<usize>)>,
        ties: Vec<(String, String)>,
        buffers: Vec<String>,
        ignore_unexpected: Vec<String>,
        checkpoint: Vec<(String, Vec<usize>)>,
        missing: Vec<String>,
        unexpected: Vec<String>,
        error: Option<String>,
        log: String,
    }

    impl Case {
        fn all() -> Vec<Self> {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights/names.json");
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        }

        fn matched(&self, vocab_resize: Option<(usize, usize)>) -> Result<LoadReport, WeightsError> {
            let ties: Vec<_> = self.ties.iter().map(|(alias, name)| (alias.as_str(), name.as_str())).collect();
            let buffers: Vec<_> = self.buffers.iter().map(String::as_str).collect();
            let ignore_unexpected: Vec<_> = self.ignore_unexpected.iter().map(String::as_str).collect();
            let model = ModelNames {
                class_name: &self.class_name,
                base_model_prefix: &self.base_model_prefix,
                parameters: &self.parameters,
                ties: &ties,
                buffers: &buffers,
                old_names: &[],
                ignore_unexpected: &ignore_unexpected,
                vocab_resize,
            };
            let names: Vec<_> = self.checkpoint.iter().map(|(name, _)| name.clone()).collect();
            let shapes: HashMap<_, _> = self.checkpoint.iter().cloned().collect();
            match_entries(&model, Path::new("FOLDER"), &names, |name| shapes[name].clone())
        }
    }

    #[test]
    fn names_are_matched_as_from_pretrained_does() {
        for case in Case::all() {
            let report = match case.matched(None) {
                Ok(report) => report,
                Err(error) => {
                    assert!(case.error.is_some(), "{}: {error}", case.case);
                    continue;
                }
            };
            assert_eq!(case.error, None, "{}", case.case);
            assert_eq!(report.missing, case.missing, "{}", case.case);
            assert_eq!(report.unexpected, case.unexpected, "{}", case.case);
            for (message, words) in [
                (report.unexpected_message("FOLDER"), "were not used when"),
                (report.missing_message("FOLDER"), "were not initialized from"),
                (report.renamed_message(), "renamed internally"),
            ] {
                assert_eq!(message.is_some(), case.log.contains(words), "{}: {words}", case.case);
                let message = message.unwrap_or_default();
                assert!(case.log.contains(&message), "{}: {message}", case.case);
            }
            for (parameter, _) in &case.parameters {
                assert_eq!(report.source(parameter).is_none(), case.missing.contains(parameter), "{parameter}");
            }
        }
    }

    #[test]
    fn early_names_and_prefixes_lead_to_the_right_tensor() {
        let cases = Case::all();
        let source = |case: &str, parameter: &str| {
            let report = cases.iter().find(|one| one.case == case).unwrap().matched(None).unwrap();
            report.source(parameter).map(str::to_string)
        };
        let embeddings = "bert.embeddings.word_embeddings.weight";
        assert_eq!(source("base model into masked LM", embeddings).unwrap(), "embeddings.word_embeddings.weight");
        assert_eq!(source("early names, aliases and buffers", embeddings).unwrap(), embeddings);
        assert_eq!(
            source("early names, aliases and buffers", "bert.embeddings.LayerNorm.weight").unwrap(),
            "bert.embeddings.LayerNorm.gamma"
        );
        assert_eq!(source("without the tied bias", "cls.predictions.bias"), None);
    }

    #[test]
    fn an_alias_serves_when_the_parameter_itself_is_not_there() {
        let parameters = [("model.embed.weight".to_string(), vec![3, 2])];
        let model = ModelNames {
            class_name: "Model",
            base_model_prefix: "model",
            parameters: &parameters,
            ties: &[("lm_head.weight", "model.embed.weight")],
            buffers: &[],
            old_names: &[],
            ignore_unexpected: &[],
            vocab_resize: None,
        };
        let names = ["model.other.weight".to_string(), "lm_head.weight".to_string()];
        let report = match_entries(&model, Path::new("m"), &names, |_| vec![3, 2]).unwrap();
        assert_eq!(report.source("model.embed.weight"), Some("lm_head.weight"));
        assert!(report.missing.is_empty());
        assert_eq!(report.unexpected, ["model.other.weight"]);
    }

    #[test]
    fn what_torch_puts_around_modules_is_no_part_of_a_name() {
        let parameters = [("bert.encoder.layer.0.weight".to_owned(), vec![2]), ("cls.bias".to_owned(), vec![3])];
        let model = ModelNames {
            class_name: "Model",
            base_model_prefix: "bert",
            parameters: &parameters,
            ties: &[],
            buffers: &[],
            old_names: &[],
            ignore_unexpected: &[],
            vocab_resize: None,
        };
        let shape = |name: &str| if name.ends_with("bias") { vec![3] } else { vec![2] };
        for names in [
            ["module.bert.encoder.layer.0.weight", "module.cls.bias"],
            ["_orig_mod.bert.encoder.layer.0.weight", "_orig_mod.cls.bias"],
            ["module._orig_mod.bert.encoder.layer.0.weight", "_orig_mod.module.cls.bias"],
            ["bert.encoder.layer.0._orig_mod.weight", "cls.bias"],
            ["bert._fsdp_wrapped_module.encoder.layer.0._checkpoint_wrapped_module.weight", "cls.bias"],
        ] {
            let names = names.map(str::to_owned);
            let report = match_entries(&model, Path::new("m"), &names, shape).unwrap();
            assert_eq!((report.missing.len(), report.unexpected.len()), (0, 0), "{names:?}");
            assert_eq!(report.source("bert.encoder.layer.0.weight"), Some(names[0].as_str()));
        }
        let base = ["module.encoder.layer.0.weight".to_owned()];
        let report = match_entries(&model, Path::new("m"), &base, shape).unwrap();
        assert_eq!(report.source("bert.encoder.layer.0.weight"), Some("module.encoder.layer.0.weight"));
        assert_eq!(report.missing, ["cls.bias"]);
    }

    #[test]
    fn a_head_by_its_old_name_serves_where_it_fits() {
        let parameters = [("deberta.w".to_string(), vec![2]), ("cls.dense.weight".to_string(), vec![3, 2])];
        let model = ModelNames {
            class_name: "Model",
            base_model_prefix: "deberta",
            parameters: &parameters,
            ties: &[],
            buffers: &[],
            old_names: &[("lm_predictions.dense.", "cls.dense.")],
            ignore_unexpected: &[],
            vocab_resize: None,
        };
        let old = "lm_predictions.dense.weight";
        let report = |names: &[&str], rows: usize| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            let shape = |name: &str| if name == "deberta.w" { vec![2] } else { vec![rows, 2] };
            match_entries(&model, Path::new("m"), &names, shape).unwrap()
        };
        let taken = report(&["deberta.w", old], 3);
        assert_eq!((taken.source("cls.dense.weight"), taken.missing.len(), taken.unexpected.len()), (Some(old), 0, 0));
        let other_size = report(&["deberta.w", old], 5);
        assert_eq!(other_size.missing, ["cls.dense.weight"]);
        assert_eq!(other_size.unexpected, [old]);
        let both = report(&["deberta.w", old, "cls.dense.weight"], 3);
        assert_eq!(both.source("cls.dense.weight"), Some("cls.dense.weight"));
        assert_eq!(both.unexpected, [old]);
    }

    #[test]
    fn a_wrong_shape_is_an_error_unless_the_vocabulary_was_resized() {
        let mut case = Case::all().into_iter().find(|case| case.case == "exact").unwrap();
        for (_, shape) in case.parameters.iter_mut().filter(|(_, shape)| shape[0] == 7) {
            shape[0] = 9;
        }
        let error = case.matched(None).unwrap_err().to_string();
        assert!(error.contains("bert.embeddings.word_embeddings.weight has shape [7, 4]"), "{error}");
        assert!(error.contains("needs [9, 4] (and 1 more tensor differs)"), "{error}");
        assert!(case.matched(Some((8, 9))).is_err(), "config.json does not say 7");

        let report = case.matched(Some((7, 9))).unwrap();
        let resized: Vec<_> = report.resized.iter().map(|mismatch| mismatch.name.as_str()).collect();
        assert_eq!(resized, ["bert.embeddings.word_embeddings.weight", "cls.predictions.bias"]);
        assert_eq!(report.resized[0].found, [7, 4]);
        assert_eq!(report.resized[0].expected, [9, 4]);
    }

    #[test]
    fn a_star_stands_for_one_part() {
        assert!(matches_pattern("transformer.h.*.attn.bias", "transformer.h.11.attn.bias"));
        assert!(!matches_pattern("transformer.h.*.attn.bias", "transformer.h.11.attn.c_attn.bias"));
        assert!(!matches_pattern("h.*", "h"));
        assert!(!matches_pattern("h", "h.0"));
    }
}
