//! What the report says of a run beside its log.

use anyhow::Result;
use serde_json::Value;

use crate::args::{self, Arguments, DataTrainingArguments};
use crate::device;
use crate::observe::format::count;
use crate::observe::report::{Argument, RunFacts};
use crate::run::Run;
use crate::run::counts::Parameters;
use crate::sys::machine;
use crate::train::plan::Plan;

impl Run<'_> {
    /// The facts of this run, of a model of so many parameters.
    pub(super) fn facts(&self, plan: &Plan, parameters: Parameters) -> Result<RunFacts> {
        let family = self.files.config.family();
        Ok(RunFacts {
            title: self.output.path().display().to_string(),
            task: format!("{} model", family.task.noun()),
            command: args::secrets::command(std::env::args_os()),
            model: vec![
                ("architecture".into(), family.class.into()),
                ("parameters".into(), count(parameters.all)),
                ("trained".into(), format!("{} ({})", count(parameters.trained), parameters.share())),
                ("started from".into(), self.args.model.model_name_or_path.clone().unwrap_or_else(|| "scratch".into())),
                ("device".into(), device::full_names(self.args.beyond.device_list())),
                ("dtype".into(), self.files.dtype.name().into()),
                ("steps".into(), count(plan.max_steps)),
            ],
            machine: machine(self.args),
            arguments: arguments(self.args),
            data: self.data.facts()?.to_vec(),
            length_flag: DataTrainingArguments::length_flag(self.args.task),
            unigram_perplexity: self.data.unigram_perplexity()?,
        })
    }
}

/// Where and by what the run is made.
fn machine(args: &Arguments) -> Vec<(String, String)> {
    let version = format!("{} {}", args.task.binary(), env!("CARGO_PKG_VERSION"));
    let mut rows = vec![
        ("host".into(), machine::host()),
        ("processor".into(), machine::processor()),
        ("system".into(), machine::system()),
        ("version".into(), version),
    ];
    // Set by who builds a release; a build script that asks git would build everything again after each commit.
    rows.extend(option_env!("LM_COMMIT").map(|commit| ("commit".into(), commit.into())));
    rows
}

/// Every argument of a run, with its default.
fn arguments(args: &Arguments) -> Vec<Argument> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (given, defaults) = (args.to_json(), Arguments::defaults(args.task).to_json());
    let of = |(name, value): (&String, &Value)| Argument {
        name: name.clone(),
        value: text(value),
        default: defaults.get(name).map(text).unwrap_or_default(),
    };
    given.as_object().into_iter().flatten().map(of).collect()
}
