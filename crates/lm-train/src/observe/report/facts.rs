//! What the report says of a run beside its log.

/// What the report says about a run beside its log. All texts are escaped when they are written.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The headline: the run's name or its output folder.
    pub title: String,
    /// The task, such as `masked language model`.
    pub task: String,
    /// The command that started the run, to repeat it.
    pub command: String,
    /// Name and value of what describes the model: architecture, parameters, device, dtype.
    pub model: Vec<(String, String)>,
    /// Name and value of what describes the machine and the program.
    pub machine: Vec<(String, String)>,
    /// Every argument of the run.
    pub arguments: Vec<Argument>,
    /// What the model is trained and evaluated on.
    pub data: Vec<SplitFacts>,
    /// The flag that limits the tokens of an example.
    pub length_flag: &'static str,
    /// What the validation text's perplexity is for a guess by the frequency of tokens in the training text alone.
    pub unigram_perplexity: Option<f64>,
}

/// An argument of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name without dashes.
    pub name: String,
    /// Its value in this run.
    pub value: String,
    /// Its default; arguments that keep it are folded away.
    pub default: String,
}

/// The data of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitFacts {
    /// `train` or `validation`.
    pub split: String,
    /// Examples the model sees per epoch.
    pub examples: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
    /// The share of padding among all positions that are computed, 0 to 1.
    pub padding_share: Option<f64>,
    /// The share of texts that were cut to the maximal length, 0 to 1.
    pub truncated_share: Option<f64>,
}
