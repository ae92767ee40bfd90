//! `--do_eval`: the evaluation that ends a run, or is all of it.

use std::time::Instant;

use anyhow::{Result, ensure};
use lm_data::collate::Split;
use lm_models::AutoModel;
use lm_models::ops::Compute;

use crate::checkpoint::values;
use crate::device::precision;
use crate::observe::format::count;
use crate::observe::memory::Stage;
use crate::observe::{Callbacks, Console, TRAINER_STATE_NAME, TrainerState, console, round};
use crate::run::Run;
use crate::run::reporting;
use crate::run::results::Results;
use crate::sys::signals::Ended;
use crate::train::samples::Samples;

impl Run<'_> {
    /// How the evaluation computes that does not belong to training.
    pub(super) fn compute_of_evaluation(&self) -> Compute {
        precision::of_evaluation(self.args)
    }

    /// Evaluates the model. `memory` is watched until it begins.
    pub(super) fn evaluate(
        &self,
        model: &AutoModel,
        state: &mut TrainerState,
        memory: Option<Stage>,
        callbacks: &mut Callbacks,
        results: &mut Results,
    ) -> Result<Ended> {
        let evaluation = self.data.evaluation(&self.devices[0], self.compute_of_evaluation())?;
        let examples = evaluation.loader.store().len() as u64;
        tracing::info!("evaluating on {} examples", count(examples));
        let alone = !self.args.training.do_train;
        if alone && self.world.is_main() {
            evaluation.warn_if_nothing_is_predicted()?;
            callbacks.add(Console::new(self.args.training.disable_tqdm.unwrap_or(false)));
        }
        let before = memory.map(Stage::stop);
        let during = self.watch_memory("eval")?;
        let begin = Instant::now();
        let model = model.valid();
        let preparation = round(begin.elapsed().as_secs_f64(), 4);
        let Some(mut metrics) = evaluation.run(&model, self.world, callbacks, self.stop)? else {
            tracing::warn!("the trained model is saved; a signal ended its evaluation, which --do_eval alone makes");
            return Ok(self.stop.ended());
        };
        if !self.world.is_main() {
            return Ok(Ended::Done);
        }
        if alone {
            metrics.set("eval_model_preparation_time", preparation);
            let record = state.log(metrics.clone());
            reporting::report_evaluation(self.args, &self.files, values(&model.parameters()), state, &record)?;
            self.continue_prompts(&model)?;
        } else {
            let record = state.log(metrics.clone());
            callbacks.on_log(state, &record);
            callbacks.on_evaluate(state, &record);
            state.save(&self.output.path().join(TRAINER_STATE_NAME))?;
        }
        for figures in [before, during.map(Stage::stop)].into_iter().flatten() {
            metrics.extend(figures);
        }
        metrics.set("eval_samples", examples);
        state.add_progress(&mut metrics);
        results.save(self.output.path(), "eval", &metrics)?;
        ensure!(
            metrics.get("eval_loss").is_some_and(f64::is_finite) || evaluation.predicts_nothing()?,
            "the validation loss is no finite number: the model's weights are no longer usable; go back to an earlier checkpoint, and train it with a lower --learning_rate"
        );
        Ok(Ended::Done)
    }

    /// `--sample_prompts` of an evaluation alone.
    fn continue_prompts(&self, model: &AutoModel) -> Result<()> {
        if self.args.beyond.sample_prompts.is_none() {
            return Ok(());
        }
        let (collator, no_examples) = (self.data.collator(Split::Eval)?, || Ok(Vec::new()));
        let samples = Samples::new(self.args, &self.data.tokenizer, &*collator, no_examples)?;
        let texts = samples.texts(model, &self.devices[0], self.compute_of_evaluation(), 0)?;
        console::say(&console::samples(texts.iter().map(String::as_str), None));
        Ok(())
    }
}
