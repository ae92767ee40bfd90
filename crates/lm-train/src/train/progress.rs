//! What the steps of a run leave behind: counts for the next log record, and sums for the end.

use std::time::Instant;

use crate::args::TokenCount;
use crate::checkpoint::{RunState, SinceLog};
use crate::observe::{LogRecord, StepInfo, TrainerState, speed_metrics};
use crate::sys::memory;
use crate::train::plan::Plan;

/// Counts of steps.
pub struct Progress {
    /// Sum of the losses of all steps of the run.
    pub total_loss: f64,
    /// Steps since the last record, those before a restart too.
    pub since_log: SinceLog,
    /// Steps since the last record in this process, their seconds and real tokens.
    timed: (u64, f64, u64),
    /// Tokens of this process, padding included.
    tokens: u64,
    flops_per_token: f64,
    /// When this process began to train, with the step and the `num_input_tokens_seen` of then.
    begin: (Instant, u64, u64),
}

impl Progress {
    /// Before the first step.
    pub fn new(flops_per_token: f64) -> Self {
        Self {
            total_loss: 0.0,
            since_log: SinceLog::default(),
            timed: (0, 0.0, 0),
            tokens: 0,
            flops_per_token,
            begin: (Instant::now(), 0, 0),
        }
    }

    /// Goes on from a checkpoint.
    pub fn resume(&mut self, saved: &RunState) {
        (self.total_loss, self.since_log) = (saved.total_loss, saved.since_log);
    }

    /// Training begins, from where the run stands.
    pub fn begin(&mut self, state: &TrainerState) {
        self.begin = (Instant::now(), state.global_step, state.num_input_tokens_seen);
    }

    /// Counts a whole step.
    pub fn count(&mut self, plan: &Plan, state: &mut TrainerState, step: &StepInfo) {
        state.global_step += 1;
        state.epoch = Some(plan.lengths.epoch(state.global_step, plan.max_steps));
        state.total_flos += self.flops_per_token * step.tokens as f64;
        state.num_input_tokens_seen += match plan.count_tokens {
            TokenCount::No => 0,
            TokenCount::All => step.tokens,
            TokenCount::NonPadding => step.real_tokens,
        };
        state.history.curve.add(state.global_step, step, memory::resident);
        self.total_loss += step.loss;
        self.tokens += step.tokens;
        let since = &mut self.since_log;
        since.steps += 1;
        since.loss += step.loss;
        since.tokens += step.tokens;
        since.real_tokens += step.real_tokens;
        self.timed.0 += 1;
        self.timed.1 += step.seconds;
        self.timed.2 += step.real_tokens;
    }

    /// The record of the steps since the last one, of which `last` was the last. The next record begins anew.
    pub fn record(&mut self, plan: &Plan, state: &TrainerState, last: &StepInfo) -> LogRecord {
        let since = std::mem::take(&mut self.since_log);
        let (timed_steps, seconds, timed_tokens) = std::mem::take(&mut self.timed);
        let steps = since.steps.max(1) as f64;
        let mut record = LogRecord::new()
            .with("loss", since.loss / steps)
            .with("grad_norm", last.grad_norm)
            .with("learning_rate", last.learning_rate)
            .with("tokens", since.tokens as f64 / steps)
            .with("real_tokens", since.real_tokens as f64 / steps);
        if seconds > 0.0 {
            record.set(LogRecord::TOKENS_PER_SECOND, timed_tokens as f64 / seconds);
            record.set("step_seconds", seconds / timed_steps as f64);
        }
        if let Some(bytes) = memory::resident() {
            record.set(LogRecord::MEMORY, bytes);
        }
        if plan.count_tokens != TokenCount::No {
            let (begin, _, seen) = self.begin;
            let tokens = state.num_input_tokens_seen - seen;
            record.extend(speed_metrics("train", begin.elapsed().as_secs_f64(), None, None, Some(tokens)));
        }
        record
    }

    /// Python's `train_metrics`.
    pub fn metrics(&self, plan: &Plan, state: &TrainerState) -> LogRecord {
        let (begin, first_step, _) = self.begin;
        let steps = state.global_step;
        let batches = plan.lengths.batches_before(steps).saturating_sub(plan.lengths.batches_before(first_step));
        let samples = batches * plan.fingerprint.per_device_train_batch_size as u64;
        let tokens = plan.tokens_per_second.then_some(self.tokens);
        let seconds = begin.elapsed().as_secs_f64();
        let mut metrics = speed_metrics("train", seconds, Some(samples), Some(steps - first_step), tokens);
        metrics.set("total_flos", state.total_flos);
        metrics.set("train_loss", self.total_loss / (steps as f64).max(0.001));
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::plan::tests::plan;

    fn step(loss: f64, tokens: u64, real_tokens: u64) -> StepInfo {
        StepInfo { loss, grad_norm: 2.0, learning_rate: 1e-3, tokens, real_tokens, seconds: 0.5 }
    }

    #[test]
    fn a_record_is_the_mean_of_the_steps_since_the_last() {
        let plan = plan(4, "--max_steps 8 --include_num_input_tokens_seen non_padding");
        let (mut progress, mut state) = (Progress::new(10.0), TrainerState::default());
        progress.begin(&state);
        let mut last = step(3.0, 100, 80);
        for (loss, tokens) in [(3.0, 100), (5.0, 300)] {
            last = step(loss, tokens, tokens - 20);
            progress.count(&plan, &mut state, &last);
        }
        let record = progress.record(&plan, &state, &last);
        let value = |name: &str| record.get(name).expect(name);
        assert_eq!((value("loss"), value("tokens"), value("real_tokens")), (4.0, 200.0, 180.0));
        assert_eq!((value("grad_norm"), value("learning_rate")), (2.0, 1e-3));
        assert_eq!((value(LogRecord::TOKENS_PER_SECOND), value("step_seconds")), (360.0, 0.5));
        assert_eq!((state.global_step, state.epoch), (2, Some(0.5)));
        assert_eq!((state.num_input_tokens_seen, state.total_flos), (360, 4000.0));

        last = step(1.0, 10, 10);
        progress.count(&plan, &mut state, &last);
        assert_eq!(progress.record(&plan, &state, &last).get("loss"), Some(1.0), "begins anew");
        let metrics = progress.metrics(&plan, &state);
        assert_eq!(metrics.get("train_loss"), Some(3.0));
        assert_eq!(metrics.get("total_flos"), Some(4100.0));
    }

    #[test]
    fn a_resumed_run_has_the_sums_of_before_but_times_its_own_steps() {
        let plan = plan(4, "--max_steps 8");
        let since_log = SinceLog { steps: 3, loss: 9.0, tokens: 30, real_tokens: 30 };
        let (mut progress, mut state) = (Progress::new(0.0), TrainerState { global_step: 3, ..Default::default() });
        (progress.total_loss, progress.since_log) = (9.0, since_log);
        progress.begin(&state);
        let last = step(1.0, 10, 10);
        progress.count(&plan, &mut state, &last);
        let record = progress.record(&plan, &state, &last);
        assert_eq!((record.get("loss"), record.get(LogRecord::TOKENS_PER_SECOND)), (Some(2.5), Some(20.0)));
        assert_eq!(progress.metrics(&plan, &state).get("train_loss"), Some(2.5));
    }
}
