//! LoRA in a run: where an adapter and its base are, what a new one is like, and what is frozen without one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lm_data::tokenizer::{OTHER_FILES, VOCABULARY_FILES};
use lm_hub::{Files, HubOptions};
use lm_models::adapter::{self, LoraConfig, Targets, base_of, is_adapter};
use lm_models::parameters::{Kind, ParameterInfo};
use lm_models::{AutoModel, ModelConfig};

use crate::args::{Arguments, BaseDtype, LoraInit};

/// The arguments with an adapter that `--model_name_or_path` names as an adapter, and with its base.
///
/// # Errors
/// If there is no adapter where there should be one, or its base is not told.
pub fn found(args: &Arguments) -> Result<Arguments> {
    let mut args = args.clone();
    let (model, lora) = (&mut args.model, &mut args.lora);
    if let Some(name) = model.model_name_or_path.as_ref().filter(|name| is_adapter(Path::new(name))) {
        ensure!(
            lora.adapter_name_or_path.is_none(),
            "--model_name_or_path {name}: is an adapter, and --adapter_name_or_path names another; name its base here, or leave one out"
        );
        lora.adapter_name_or_path = model.model_name_or_path.take();
    }
    let output = &args.training.output_dir;
    if let Some(name) = &mut lora.adapter_name_or_path {
        ensure!(!lora.use_lora, "--use_lora: {name} is an adapter already and goes on as it is; leave the flag out");
        let folder = match Path::new(name.as_str()) {
            here if here.exists() => here.to_owned(),
            _ => {
                let files = Files::Adapter { vocabularies: VOCABULARY_FILES, others: OTHER_FILES };
                let options =
                    HubOptions { revision: None, token: model.token.clone(), cache_dir: model.cache_dir.clone() };
                lm_hub::resolve(name, files, &options).context("--adapter_name_or_path")?
            }
        };
        ensure!(
            is_adapter(&folder),
            "--adapter_name_or_path {name}: there is no {} in it; name the folder of an adapter",
            adapter::CONFIG_NAME
        );
        if model.model_name_or_path.is_none() {
            let config = LoraConfig::from_folder(&folder)?;
            let Some(base) = config.base_model_name_or_path else {
                bail!("{name}: its {} does not name its base; give it with --model_name_or_path", adapter::CONFIG_NAME);
            };
            let base = base_of(&folder, &base);
            tracing::info!("{name} is an adapter of {}", base.display());
            model.model_name_or_path = Some(base.display().to_string());
            if let (Some(revision), "main") = (config.revision, model.model_revision.as_str()) {
                model.model_revision = revision;
            }
        }
        *name = folder.display().to_string();
    }
    ensure!(
        args.adapts() || !args.lora.merge_lora,
        "--merge_lora: there is no adapter; name one with --adapter_name_or_path"
    );
    ensure!(
        args.lora.base_dtype == BaseDtype::Float32 || args.adapts() || freezes(&args),
        "--base_dtype {}: nothing is frozen; it goes with --use_lora, an adapter, --freeze_embeddings or --freeze_layers",
        args.lora.base_dtype
    );
    let writes = args.training.do_train || args.merges_only();
    ensure!(
        args.writes_adapter() || !writes || args.beyond.plan || !is_adapter(output),
        "--output_dir {} holds an adapter, which Python would load in place of this run's model; choose another",
        output.display()
    );
    Ok(args)
}

/// The folder of the adapter to go on with.
pub fn folder(args: &Arguments) -> Option<PathBuf> {
    args.lora.adapter_name_or_path.as_ref().map(PathBuf::from)
}

/// What the run's adapter is like; none if it has none.
///
/// # Errors
/// If the adapter's configuration can't be used, or the architecture has no default.
pub fn config(args: &Arguments, model: &ModelConfig) -> Result<Option<LoraConfig>> {
    let (lora, model_type) = (&args.lora, model.model_type());
    if let Some(folder) = folder(args) {
        let config = LoraConfig::from_folder(&folder)?;
        // The base that is used is the one that is told.
        let base_model_name_or_path = args.model.model_name_or_path.clone();
        return Ok(Some(LoraConfig { base_model_name_or_path, ..config }));
    }
    if !lora.use_lora {
        return Ok(None);
    }
    let target_modules = if lora.lora_target_modules.is_empty() {
        let Some((targets, of_peft)) = Targets::of_model_type(model_type) else {
            bail!("--lora_target_modules: `{model_type}` has no default; name layers, or give all-linear");
        };
        if let (Targets::Names(names), false) = (&targets, of_peft) {
            let names = names.join(" ");
            tracing::info!(
                "peft has no default for `{model_type}`: --lora_target_modules {names}, as in its relatives"
            );
        }
        targets
    } else {
        Targets::from_words(&lora.lora_target_modules).map_err(anyhow::Error::msg)?
    };
    let revision = &args.model.model_revision;
    Ok(Some(LoraConfig {
        r: lora.lora_r,
        lora_alpha: lora.lora_alpha as f64,
        lora_dropout: lora.lora_dropout,
        target_modules,
        bias: lora.lora_bias,
        modules_to_save: lora.lora_modules_to_save.clone(),
        use_rslora: lora.use_rslora,
        gaussian: lora.lora_init == LoraInit::Gaussian,
        base_model_name_or_path: args.model.model_name_or_path.clone(),
        revision: (revision != "main").then(|| revision.clone()),
    }))
}

/// Attaches the run's adapter to its base, or freezes what the flags say.
///
/// # Errors
/// If the model has not what they name.
pub fn prepare(
    args: &Arguments,
    model: AutoModel,
    adapter: Option<&LoraConfig>,
    base: &ModelConfig,
) -> Result<AutoModel> {
    let Some(config) = adapter else { return freeze(args, model) };
    let model = adapter::attach(model, config, base, args.training.seed)?;
    let model = match folder(args) {
        Some(folder) => adapter::load(model, &folder, base)?,
        None => model,
    };
    if args.lora.merge_lora {
        let infos = model.parameters();
        let tied = |parameter: &str| {
            let ties = base.family().ties.iter();
            ties.clone().any(|(alias, name)| *name == parameter && !infos.iter().any(|info| info.name == *alias))
        };
        let embedding = |info: &ParameterInfo| Some(format!("{}.weight", info.name.strip_suffix(".lora_embedding_A")?));
        ensure!(
            !infos.iter().filter_map(embedding).any(|name| tied(&name)),
            "--merge_lora: the adapter has a pair for embeddings that the head shares, and merged, it would change both; leave the flag out"
        );
    }
    Ok(model)
}

/// Whether a weight of the base lies in bfloat16 (`--base_dtype`): those of layers and tables that are frozen.
pub fn in_16_bits(args: &Arguments, adapter: Option<&LoraConfig>, weight: &ParameterInfo) -> bool {
    let frozen = match adapter {
        Some(config) => adapter::freezes(config, weight),
        None => weight.layer.is_some() && is_frozen(args, weight),
    };
    args.lora.base_dtype == BaseDtype::Bfloat16 && frozen
}

/// Whether a model without an adapter has something frozen.
fn freezes(args: &Arguments) -> bool {
    args.lora.freeze_embeddings || args.lora.freeze_layers > 0
}

/// Whether `--freeze_embeddings` or `--freeze_layers` keeps a parameter as it is.
fn is_frozen(args: &Arguments, info: &ParameterInfo) -> bool {
    (args.lora.freeze_embeddings && info.kind == Kind::Embedding)
        || layer_of(info).is_some_and(|layer| layer < args.lora.freeze_layers)
}

/// `--freeze_embeddings` and `--freeze_layers`.
fn freeze(args: &Arguments, model: AutoModel) -> Result<AutoModel> {
    if !freezes(args) {
        return Ok(model);
    }
    let (infos, layers) = (model.parameters(), args.lora.freeze_layers);
    let count = infos.iter().filter_map(layer_of).max().map_or(0, |last| last + 1);
    ensure!(layers <= count, "--freeze_layers {layers}: give at most {count}, the number of the model's layers");
    Ok(model.freeze(|info| !is_frozen(args, info)))
}

/// The layer that a parameter belongs to: the first number in its name.
fn layer_of(info: &ParameterInfo) -> Option<usize> {
    info.name.split('.').find_map(|part| part.parse().ok())
}

/// Whether a checkpoint's adapter is of the same make as the run's: its pairs would mean something else otherwise.
///
/// # Errors
/// If it is not, with what differs.
pub fn expect_same(config: &LoraConfig, checkpoint: &Path) -> Result<()> {
    let then = LoraConfig::from_folder(checkpoint)?;
    let differing = [
        ("lora_r", then.r != config.r),
        ("lora_alpha", then.lora_alpha != config.lora_alpha),
        ("lora_dropout", then.lora_dropout != config.lora_dropout),
        ("use_rslora", then.use_rslora != config.use_rslora),
        ("lora_bias", then.bias != config.bias),
    ];
    match differing.into_iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((flag, _)) => Err(anyhow::anyhow!(
            "{} was trained with another --{flag}: give the old value, or start anew with --overwrite_output_dir",
            checkpoint.display()
        ))
        .context("resuming"),
    }
}
