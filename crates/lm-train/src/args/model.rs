//! Which model and which tokenizer: `ModelArguments` of the Python scripts.

use std::path::PathBuf;

use super::Status::{SameByNature, Supported};
use super::choice::Dtype;
use super::flag::arguments;

arguments! {
    /// Which model and which tokenizer. Without `model_name_or_path` a new model is trained from scratch.
    pub struct ModelArguments, model, Model, |task| {
        /// Folder or Hub name of the checkpoint to start from, or X.ckpt of TensorFlow 1. Leave it out to train from scratch.
        model_name_or_path: Option<String> = None, Supported;
        /// Architecture of a model trained from scratch.
        model_type: Option<String> = None, Supported;
        /// Settings of a model trained from scratch, such as hidden_size=128,num_hidden_layers=2.
        config_overrides: Option<String> = None, Supported;
        /// Folder or Hub name of the config.json, if it is not the model's.
        config_name: Option<String> = None, Supported;
        /// Folder or Hub name of the tokenizer, if it is not the model's.
        tokenizer_name: Option<String> = None, Supported;
        /// Folder for what is downloaded from the Hub.
        cache_dir: Option<PathBuf> = None, Supported;
        /// Whether to use the fast tokenizer.
        use_fast_tokenizer: bool = true, SameByNature("there is one tokenizer, with the ids of Python's fast one");
        /// Branch, tag or commit of the model on the Hub.
        model_revision: String = "main".into(), Supported;
        /// Access token for the Hub; HF_TOKEN, or the one that `hf auth login` stored, stays out of the command line.
        token: Option<String> = None, Supported;
        /// Whether Python code inside a model folder may run.
        trust_remote_code: bool = false, SameByNature("code inside a model or data folder is never run");
        /// Precision that the weights are loaded in.
        dtype: Option<Dtype> = None, Supported;
    }
}
