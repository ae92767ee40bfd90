//! Adapters, and what is frozen: the names that users of peft and TRL type.

use lm_models::adapter::{LoraBias, Targets};

use super::Status::Supported;
use super::choice::{BaseDtype, LoraInit};
use super::error::rule;
use super::flag::arguments;
use super::{ArgsError, Arguments};

arguments! {
    /// Adapters, and what is frozen.
    pub struct LoraArguments, lora, Beyond, |task| {
        /// Train a LoRA adapter and nothing else: low-rank pairs beside some layers. The output folder is peft's.
        use_lora: bool = false, Supported;
        /// Rank of the pairs.
        lora_r: usize = 8, Supported;
        /// Scale of the pairs, times their rank.
        lora_alpha: u64 = 8, Supported;
        /// Dropout of what the pairs are given.
        lora_dropout: f64 = 0.0, Supported;
        /// Which layers have a pair: their names, all-linear, or a regular expression for whole paths. Without it peft's default
        /// for the architecture.
        lora_target_modules: Vec<String> = Vec::new(), Supported;
        /// Which biases are trained too.
        lora_bias: LoraBias = LoraBias::None, Supported;
        /// Modules that are trained and saved whole, by the ends of their paths.
        lora_modules_to_save: Vec<String> = Vec::new(), Supported;
        /// Divide the scale by the root of the rank, not the rank (rank-stabilized LoRA).
        use_rslora: bool = false, Supported;
        /// How the pairs start.
        lora_init: LoraInit = LoraInit::Default, Supported;
        /// LoRA adapter to go on with, a folder or a name on the Hub; its base is model_name_or_path, else the one that it names.
        adapter_name_or_path: Option<String> = None, Supported;
        /// Write the model with its adapter added to its weights, a plain model: after training, or of an adapter alone.
        merge_lora: bool = false, Supported;
        /// What the frozen weights of layers and tables lie in: bfloat16 takes half the memory of float32, or only that of the file
        /// where it has this type.
        base_dtype: BaseDtype = BaseDtype::Float32, Supported;
        /// Keep the embeddings as they are.
        freeze_embeddings: bool = false, Supported;
        /// Keep the first N layers as they are.
        freeze_layers: usize = 0, Supported;
    }
}

/// Nothing about an adapter without one, and no adapter that is two things.
pub(super) fn check(args: &Arguments) -> Result<(), ArgsError> {
    let lora = &args.lora;
    let defaults = LoraArguments::defaults(args.task);
    let new = [
        ("lora_r", lora.lora_r != defaults.lora_r),
        ("lora_alpha", lora.lora_alpha != defaults.lora_alpha),
        ("lora_dropout", lora.lora_dropout != defaults.lora_dropout),
        ("lora_target_modules", !lora.lora_target_modules.is_empty()),
        ("lora_bias", lora.lora_bias != defaults.lora_bias),
        ("lora_modules_to_save", !lora.lora_modules_to_save.is_empty()),
        ("use_rslora", lora.use_rslora),
        ("lora_init", lora.lora_init != defaults.lora_init),
    ];
    for (flag, given) in new {
        rule(!given || lora.use_lora, || format!("--{flag} needs --use_lora"))?;
        rule(!given || lora.adapter_name_or_path.is_none(), || {
            format!(
                "--{flag}: the adapter of --adapter_name_or_path is what its adapter_config.json says; leave one of them out"
            )
        })?;
    }
    rule(lora.lora_r > 0, || "--lora_r must be at least 1".into())?;
    rule((0.0..1.0).contains(&lora.lora_dropout), || "--lora_dropout must be at least 0 and below 1".into())?;
    if !lora.lora_target_modules.is_empty() {
        Targets::from_words(&lora.lora_target_modules)
            .map_err(|reason| ArgsError::Rule(format!("--lora_target_modules: {reason}")))?;
    }
    for (flag, given) in [("freeze_embeddings", lora.freeze_embeddings), ("freeze_layers", lora.freeze_layers > 0)] {
        rule(!given || !args.adapts(), || {
            format!("--{flag}: a LoRA adapter has all of the model frozen; leave it out")
        })?;
    }
    rule(!lora.use_lora || args.model.model_name_or_path.is_some() || lora.adapter_name_or_path.is_some(), || {
        "--use_lora adapts a model that is trained: give --model_name_or_path".into()
    })
}
