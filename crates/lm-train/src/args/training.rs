//! `TrainingArguments` of transformers 4.57, all 132 fields in Python's order, and what 5 brought.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::Status::{Refused, SameByNature, Supported};
use super::choice::{HubStrategy, IntervalStrategy, LogLevel, SamplingStrategy, SaveStrategy};
use super::flag::arguments;
use super::value::{Kwargs, Resume, Steps, TokenCount};
use crate::optim::OptimizerNames;
use crate::schedule::SchedulerType;

// A reason that several fields share stands here once.
const NO_SHARDING: &str = "the model and its optimizer are never split over devices";
const NO_TPU: &str = "there is no TPU backend";
const NO_PROJECTION: &str = "only optimizers that this program does not have (GaLore, APOLLO, …) read it";
const HOW_TO_RECOMPUTE: &str = "it says how PyTorch does it; here the gradients are those without checkpointing";
const NO_COMPILER: &str = "a mode of PyTorch that changes the speed, not the numbers: this program is compiled already";
const STREAMED_METRICS: &str = "evaluation adds up loss and hits batch by batch and keeps no predictions";
const NO_METRIC_INPUTS: &str = "the metrics of language modelling need no inputs";

arguments! {
    /// `TrainingArguments` of transformers 4.57 and 5.
    pub struct TrainingArguments, training, Training, |task| {
        /// Folder for the model, its checkpoints and results.
        output_dir: PathBuf = "trainer_output".into(), Supported;
        /// Start anew even if the output folder is not empty or holds checkpoints.
        overwrite_output_dir: bool = false, Supported;
        /// Train.
        do_train: bool = false, Supported;
        /// Evaluate, at the end and as --eval_strategy says.
        do_eval: bool = false, Supported;
        /// Predict on a test set.
        do_predict: bool = false, SameByNature("the Python scripts have no test set and ignore it too");
        /// When to evaluate during training.
        eval_strategy: IntervalStrategy = IntervalStrategy::No, Supported;
        /// Evaluate the loss only, no accuracy.
        prediction_loss_only: bool = false, Supported;
        /// Examples per batch in training.
        per_device_train_batch_size: usize = 8, Supported;
        /// Examples per batch in evaluation.
        per_device_eval_batch_size: usize = 8, Supported;
        /// Old name of per_device_train_batch_size.
        per_gpu_train_batch_size: Option<usize> = None, Supported;
        /// Old name of per_device_eval_batch_size.
        per_gpu_eval_batch_size: Option<usize> = None, Supported;
        /// Batches whose gradients are added up before a step.
        gradient_accumulation_steps: usize = 1, Supported;
        /// Evaluation batches whose predictions stay on the device.
        eval_accumulation_steps: Option<usize> = None, SameByNature(STREAMED_METRICS);
        /// Epochs or steps, as --eval_strategy counts, before the first evaluation.
        eval_delay: Steps = Steps(0.0), Supported;
        /// Steps between two emptyings of the device's memory cache.
        torch_empty_cache_steps: Option<usize> = None, SameByNature("it trades speed for memory of a GPU, and no number depends on it; here no cache is emptied");
        /// Highest learning rate.
        learning_rate: f64 = 5e-5, Supported;
        /// Weight decay, on all weights but biases and norms.
        weight_decay: f64 = 0.0, Supported;
        /// Decay of AdamW's and Lion's first moment.
        adam_beta1: f64 = 0.9, Supported;
        /// Decay of AdamW's and Lion's second moment.
        adam_beta2: f64 = 0.999, Supported;
        /// Added to the root of the second moment.
        adam_epsilon: f64 = 1e-8, Supported;
        /// Longest gradient, over all tensors together; 0 does not clip.
        max_grad_norm: f64 = 1.0, Supported;
        /// Times that training sees the data.
        num_train_epochs: f64 = 3.0, Supported;
        /// Steps to train; overrides num_train_epochs. -1 leaves it to the epochs.
        max_steps: i64 = -1, Supported;
        /// Schedule of the learning rate.
        lr_scheduler_type: SchedulerType = SchedulerType::Linear, Supported;
        /// Settings of the schedule, such as '{"num_cycles": 2}'.
        lr_scheduler_kwargs: Option<Kwargs> = None, Supported;
        /// Share of the steps in which the learning rate rises from zero.
        warmup_ratio: f64 = 0.0, Supported;
        /// Steps in which the learning rate rises from zero; below 1 a share of all steps. Overrides warmup_ratio.
        warmup_steps: Steps = Steps(0.0), Supported;
        /// How much the program says.
        log_level: LogLevel = LogLevel::Passive, Supported;
        /// How much processes say that are not the first of their machine.
        log_level_replica: LogLevel = LogLevel::Warning, Supported;
        /// Whether the first process of every machine says as much as rank 0.
        log_on_each_node: bool = true, Supported;
        /// Folder for TensorBoard files; without it, runs/ in the output folder.
        logging_dir: Option<PathBuf> = None, Supported;
        /// When to log.
        logging_strategy: IntervalStrategy = IntervalStrategy::Steps, Supported;
        /// Log the first step as well.
        logging_first_step: bool = false, Supported;
        /// Steps between two logs; below 1 a share of all steps.
        logging_steps: Steps = Steps(500.0), Supported;
        /// Leave losses that are NaN or infinite out of the log.
        logging_nan_inf_filter: bool = true, SameByNature("a loss that is NaN or infinite stops the run, so there is none to leave out");
        /// When to save a checkpoint.
        save_strategy: SaveStrategy = SaveStrategy::Steps, Supported;
        /// Steps between two checkpoints; below 1 a share of all steps.
        save_steps: Steps = Steps(500.0), Supported;
        /// Checkpoints to keep, the newest (and the best); 0 keeps all. Of a finished run 1 keeps the best, where there is one. Python
        /// keeps all by default.
        save_total_limit: Option<i64> = Some(3), Supported;
        /// Save as safetensors.
        save_safetensors: bool = true, Refused("weights are always saved as safetensors, as in transformers 5, which dropped the flag; pytorch_model.bin is read, not written");
        /// Whether every machine saves.
        save_on_each_node: bool = false, SameByNature("rank 0 writes for all machines, which share the output folder");
        /// Leave out of checkpoints what only resuming needs.
        save_only_model: bool = false, Supported;
        /// Restore the state of callbacks on resume.
        restore_callback_states_from_checkpoint: bool = false, SameByNature("the state of early stopping is always restored: a resumed run equals an unbroken one");
        /// Old name of use_cpu.
        no_cuda: bool = false, Supported;
        /// Compute on the CPU: --device cpu.
        use_cpu: bool = false, Supported;
        /// Compute on Apple's GPU.
        use_mps_device: bool = false, SameByNature("Python ignores it too; --device names the device, libtorch:mps on Apple's machines");
        /// Seed of every random choice.
        seed: u64 = 42, Supported;
        /// Seed of the order of the examples; without it, --seed.
        data_seed: Option<u64> = None, Supported;
        /// Evaluate through PyTorch's tracing compiler.
        jit_mode_eval: bool = false, SameByNature(NO_COMPILER);
        /// Multiply matrices in bfloat16; weights, norms and loss stay float32.
        bf16: bool = false, Supported;
        /// Multiply matrices in float16, with a scaled loss; weights, norms and loss stay float32.
        fp16: bool = false, Supported;
        /// Level of NVIDIA Apex.
        fp16_opt_level: String = "O1".into(), SameByNature("read by NVIDIA Apex only, which PyTorch's own mixed precision replaced");
        /// Who provides 16-bit training.
        half_precision_backend: String = "auto".into(), Refused("16-bit training is this program's own: apex and cpu_amp are parts of PyTorch");
        /// Multiply matrices in bfloat16 in the evaluation after training.
        bf16_full_eval: bool = false, Supported;
        /// Multiply matrices in float16 in the evaluation after training.
        fp16_full_eval: bool = false, Supported;
        /// Multiply matrices in TensorFloat-32, on NVIDIA GPUs by libtorch.
        tf32: Option<bool> = None, Supported;
        /// Rank of this process on its machine.
        local_rank: i64 = -1, Refused("mpirun, srun and torchrun tell it themselves, and a process without them is alone");
        /// Library that joins processes.
        ddp_backend: Option<String> = None, SameByNature("processes are joined by what the program is built with: MPI, NCCL or Gloo");
        /// Cores of a TPU.
        tpu_num_cores: Option<usize> = None, Refused(NO_TPU);
        /// Print metrics of a TPU.
        tpu_metrics_debug: bool = false, Refused(NO_TPU);
        /// Debugging aids of PyTorch.
        debug: Vec<String> = Vec::new(), Refused("these are aids of PyTorch; a loss that is NaN or infinite always stops the run and names the step");
        /// Drop the last batch of an epoch if it is not full.
        dataloader_drop_last: bool = false, Supported;
        /// Steps between two evaluations; below 1 a share of all steps. Without it, --logging_steps.
        eval_steps: Option<Steps> = None, Supported;
        /// Threads that build batches ahead, at most 256; 0 takes one. The batches are the same.
        dataloader_num_workers: usize = 0, Supported;
        /// Batches that each of these threads builds ahead; 2 if not given.
        dataloader_prefetch_factor: Option<usize> = None, Supported;
        /// Output that is handed to the next step as its past.
        past_index: i64 = -1, Refused("no state is carried from one batch to the next");
        /// Name of the run for services that collect runs.
        run_name: Option<String> = None, Supported;
        /// No progress bar. Without a terminal there is none anyway.
        disable_tqdm: Option<bool> = None, Supported;
        /// Drop columns that the model does not read, and with them the mask of special tokens: special tokens in the text are then
        /// never predicted. False: run_mlm may predict them.
        remove_unused_columns: bool = true, Supported;
        /// Names of the labels.
        label_names: Option<Vec<String>> = None, SameByNature("the program makes the labels itself");
        /// Load the best checkpoint when training ends.
        load_best_model_at_end: bool = false, Supported;
        /// Metric by which the best checkpoint is chosen: loss, accuracy or perplexity. Default: loss, where one is needed.
        metric_for_best_model: Option<String> = None, Supported;
        /// Whether a greater metric is a better one. Default: not for loss and perplexity.
        greater_is_better: Option<bool> = None, Supported;
        /// Do not go forward to the position in the data on resume.
        ignore_data_skip: bool = false, SameByNature("a resumed run always goes on at its position in the data, which costs no reading");
        /// PyTorch's fully sharded training.
        fsdp: Option<String> = None, Refused(NO_SHARDING);
        /// Smallest shard.
        fsdp_min_num_params: usize = 0, Refused(NO_SHARDING);
        /// Settings of fully sharded training.
        fsdp_config: Option<Kwargs> = None, Refused(NO_SHARDING);
        /// Layer to shard by.
        fsdp_transformer_layer_cls_to_wrap: Option<String> = None, Refused(NO_SHARDING);
        /// Settings of the Python library Accelerate.
        accelerator_config: Option<Kwargs> = None, Refused("Accelerate is a Python library that is not used here");
        /// Dimensions of parallel training.
        parallelism_config: Option<Kwargs> = None, Refused(NO_SHARDING);
        /// Settings of the Python library DeepSpeed.
        deepspeed: Option<Kwargs> = None, Refused(NO_SHARDING);
        /// Share of the label's probability that is spread over the vocabulary.
        label_smoothing_factor: f64 = 0.0, Supported;
        /// Optimizer.
        optim: OptimizerNames = OptimizerNames::AdamwTorchFused, Supported;
        /// Settings of the optimizer.
        optim_args: Option<String> = None, Refused(NO_PROJECTION);
        /// Old name of --optim adafactor.
        adafactor: bool = false, Supported;
        /// Put examples of similar length into one batch: --train_sampling_strategy group_by_length.
        group_by_length: bool = false, Supported;
        /// Column with the lengths.
        length_column_name: String = "length".into(), SameByNature("lengths are counted while tokenizing, never read");
        /// Where to report besides the log: tensorboard, wandb, mlflow, all or none. Default: tensorboard; in transformers 5,
        /// none.
        report_to: Option<Vec<String>> = None, Supported;
        /// Project name for Trackio.
        project: String = "huggingface".into(), SameByNature("read by Trackio only");
        /// Space for Trackio.
        trackio_space_id: Option<String> = Some("trackio".into()), SameByNature("read by Trackio only");
        /// Whether a parameter may have no gradient on a rank of several; false makes it an error.
        ddp_find_unused_parameters: Option<bool> = None, Supported;
        /// Megabytes of the pieces in which gradients travel between processes; without it, 25.
        ddp_bucket_cap_mb: Option<usize> = None, Supported;
        /// Whether buffers travel.
        ddp_broadcast_buffers: Option<bool> = None, SameByNature("no model has buffers that training changes");
        /// Build batches in pinned memory.
        dataloader_pin_memory: bool = true, SameByNature("no memory is pinned; it would change the speed of a copy, not the batch");
        /// Keep the processes that build batches.
        dataloader_persistent_workers: bool = false, SameByNature("the threads that build batches go on from one epoch to the next");
        /// Leave memory out of the metrics; false adds init_mem_cpu_…, train_mem_cpu_… and eval_mem_cpu_…, in bytes of this process. A
        /// GPU's own memory is not among them.
        skip_memory_metrics: bool = true, Supported;
        /// Evaluate with the old loop.
        use_legacy_prediction_loop: bool = false, SameByNature("there is one evaluation loop");
        /// Upload the model to the Hub, checkpoints in the background. An upload that fails is a warning.
        push_to_hub: bool = false, Supported;
        /// Resume from this checkpoint folder; given alone, from the newest of the output folder.
        resume_from_checkpoint: Option<Resume> = None, Supported;
        /// Repository of the upload, OWNER/NAME or NAME. Default: the name of output_dir.
        hub_model_id: Option<String> = None, Supported;
        /// What is uploaded when: the model at the end, with every save, with the newest checkpoint as the folder last-checkpoint, or
        /// with all checkpoints.
        hub_strategy: HubStrategy = HubStrategy::EverySave, Supported;
        /// Token for uploads; without it, token, HF_TOKEN or the one of `hf auth login`.
        hub_token: Option<String> = None, Supported;
        /// Upload to a private repository.
        hub_private_repo: Option<bool> = None, Supported;
        /// Upload every checkpoint, after the upload before it; otherwise one that comes while another is uploaded is left out.
        hub_always_push: bool = false, Supported;
        /// Branch of the upload.
        hub_revision: Option<String> = None, Supported;
        /// Compute activations again in the backward pass, to save memory.
        gradient_checkpointing: bool = false, Supported;
        /// Settings of gradient checkpointing.
        gradient_checkpointing_kwargs: Option<Kwargs> = None, SameByNature(HOW_TO_RECOMPUTE);
        /// Hand the inputs to the metrics.
        include_inputs_for_metrics: bool = false, SameByNature(NO_METRIC_INPUTS);
        /// What else is handed to the metrics.
        include_for_metrics: Vec<String> = Vec::new(), SameByNature(NO_METRIC_INPUTS);
        /// Join the predictions of all batches.
        eval_do_concat_batches: bool = true, SameByNature(STREAMED_METRICS);
        /// Old name of half_precision_backend.
        fp16_backend: String = "auto".into(), Refused("16-bit training is this program's own: apex and cpu_amp are parts of PyTorch");
        /// Old name of hub_model_id.
        push_to_hub_model_id: Option<String> = None, Supported;
        /// Owner of the upload.
        push_to_hub_organization: Option<String> = None, Supported;
        /// Old name of hub_token.
        push_to_hub_token: Option<String> = None, Supported;
        /// Settings from SageMaker's launcher.
        mp_parameters: String = String::new(), SameByNature("Python ignores it too");
        /// When memory runs out, halve per_device_train_batch_size, double gradient_accumulation_steps, so that a step stays the
        /// same, and go on from the last checkpoint, or start again.
        auto_find_batch_size: bool = false, Supported;
        /// Allow only what gives the same bits again: --device cpu, where every run does.
        full_determinism: bool = false, Supported;
        /// Old name of torch_compile_backend.
        torchdynamo: Option<String> = None, SameByNature(NO_COMPILER);
        /// Which trials Ray looks at.
        ray_scope: Option<String> = Some("last".into()), SameByNature("read by Ray's hyperparameter search only");
        /// Seconds that a process in training waits for the others, before it ends them all.
        ddp_timeout: usize = 1800, Supported;
        /// Compile the model.
        torch_compile: bool = false, SameByNature(NO_COMPILER);
        /// Compiler.
        torch_compile_backend: Option<String> = None, SameByNature(NO_COMPILER);
        /// Mode of the compiler.
        torch_compile_mode: Option<String> = None, SameByNature(NO_COMPILER);
        /// Report tokens per second with the results.
        include_tokens_per_second: bool = false, Supported;
        /// Log how many tokens training has seen, and how many per second: all, or non_padding ones.
        include_num_input_tokens_seen: TokenCount = TokenCount::No, Supported;
        /// Strength of the noise that NEFTune adds to the embeddings.
        neftune_noise_alpha: Option<f64> = None, Supported;
        /// Modules that GaLore or APOLLO train.
        optim_target_modules: Option<Vec<String>> = None, Refused(NO_PROJECTION);
        /// Compute metrics batch by batch.
        batch_eval_metrics: bool = false, SameByNature(STREAMED_METRICS);
        /// Evaluate before the first step.
        eval_on_start: bool = false, Supported;
        /// Use Liger's fused operations.
        use_liger_kernel: bool = false, SameByNature("fused operations for CUDA that change the speed, not the numbers");
        /// Which of Liger's operations.
        liger_kernel_config: Option<Kwargs> = None, SameByNature("fused operations for CUDA that change the speed, not the numbers");
        /// Gather predictions as Python objects.
        eval_use_gather_object: bool = false, SameByNature(STREAMED_METRICS);
        /// Average the loss over the tokens of all devices; must stay true with several --devices.
        average_tokens_across_devices: bool = true, Supported;

        // What transformers 5 brought.

        /// Order of the examples in training: shuffled in every epoch, as stored, or those of similar length together.
        train_sampling_strategy: SamplingStrategy = SamplingStrategy::Random, Supported;
        /// New name of gradient_checkpointing.
        activation_checkpointing: Option<bool> = None, Supported;
        /// New name of gradient_checkpointing_kwargs.
        activation_checkpointing_kwargs: Option<Kwargs> = None, SameByNature(HOW_TO_RECOMPUTE);
        /// Keep keys and values of past tokens in training.
        use_cache: bool = false, SameByNature("training reads no past tokens again; the continuation of --sample_prompts always keeps them");
        /// Save a checkpoint when the system asks the program to end.
        enable_jit_checkpoint: bool = false, SameByNature("a signal always saves a checkpoint before the program ends");
        /// How the processes that build batches are started.
        dataloader_multiprocessing_context: Option<String> = None, SameByNature("batches are built by threads of this process");
        /// Hand out batches in the order of the examples.
        dataloader_in_order: bool = true, SameByNature("batches always come in their order, whichever thread is done first");
        /// Whether the same parameters take part in every step.
        ddp_static_graph: Option<bool> = None, SameByNature("a hint that makes PyTorch faster; no number depends on it");
        /// Bucket for Trackio.
        trackio_bucket_id: Option<String> = None, SameByNature("read by Trackio only");
        /// Read-only Space for Trackio.
        trackio_static_space_id: Option<String> = None, SameByNature("read by Trackio only");
    }
}

impl TrainingArguments {
    /// Optimizer steps of `max_steps`, if the command line fixes them.
    pub fn fixed_steps(&self) -> Option<u64> {
        u64::try_from(self.max_steps).ok().filter(|&steps| steps > 0)
    }

    /// Checkpoints to keep; `None` keeps all.
    pub fn checkpoint_limit(&self) -> Option<usize> {
        self.save_total_limit.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0)
    }

    /// Seed of the order of the examples.
    pub fn order_seed(&self) -> u64 {
        self.data_seed.unwrap_or(self.seed)
    }

    /// Whether `--report_to` names `service`, after the rules have said what `all` is.
    pub fn reports_to(&self, service: &str) -> bool {
        self.report_to.as_ref().is_some_and(|names| names.iter().any(|name| name == service))
    }
}

/// Whether a value is one of Python's ways to say nothing or off: never a request.
pub(super) fn is_off(value: &Json) -> bool {
    [json!(null), json!(false), json!(""), json!([]), json!([""]), json!({})].contains(value)
}

/// Whether a value is what `TrainingArguments` itself puts in place of the field's default, as it stands in the files that
/// it writes.
pub(super) fn is_filled_in(name: &str, value: &Json) -> bool {
    let within =
        |own: Json| value.as_object().is_some_and(|given| given.iter().all(|(key, value)| own.get(key) == Some(value)));
    match name {
        "local_rank" => *value == json!(0),
        // What stands for a password.
        "hub_token" | "push_to_hub_token" => *value == json!(format!("<{}>", name.to_uppercase())),
        // Its default in transformers 5.
        "trackio_space_id" => is_off(value),
        "fsdp_config" => within(json!({
            "min_num_params": 0, "xla": false, "xla_fsdp_v2": false, "xla_fsdp_grad_ckpt": false,
        })),
        "accelerator_config" => within(json!({
            "split_batches": false, "dispatch_batches": null, "even_batches": true, "use_seedable_sampler": true,
            "non_blocking": false, "gradient_accumulation_kwargs": null, "use_configured_state": false,
        })),
        _ => false,
    }
}
