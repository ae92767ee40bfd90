//! What is due after which step: a function of the plan and the step, whatever happened before.

use crate::args::{IntervalStrategy, SaveStrategy};
use crate::train::plan::Plan;

/// What is due after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// A record of the steps since the last one.
    pub log: bool,
    /// An evaluation.
    pub evaluate: bool,
    /// A checkpoint, whatever an evaluation comes to.
    pub save: bool,
}

/// What is due after `step` steps (Python's `DefaultFlowCallback`).
pub fn due(plan: &Plan, step: u64) -> Due {
    let last = step >= plan.max_steps;
    let epoch_ends = plan.lengths.steps_per_epoch().is_some_and(|steps| step.is_multiple_of(steps)) || last;
    let every = |steps: u64| steps > 0 && step.is_multiple_of(steps);
    let (logging, logging_steps) = plan.logging;
    let (evaluation, eval_steps) = plan.evaluation;
    let (saving, save_steps) = plan.saving;
    Due {
        log: match logging {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => every(logging_steps),
            IntervalStrategy::Epoch => epoch_ends,
        } || (step == 1 && plan.log_first_step),
        evaluate: match evaluation {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => every(eval_steps) && plan.eval_delay <= step as f64,
            IntervalStrategy::Epoch => epoch_ends && plan.eval_delay <= plan.lengths.epoch(step, plan.max_steps),
        },
        save: match saving {
            SaveStrategy::No | SaveStrategy::Best => false,
            SaveStrategy::Steps => every(save_steps) || last,
            SaveStrategy::Epoch => epoch_ends,
        },
    }
}

/// Checkpoints that the run writes after `step`; at most, where that depends on a metric.
pub fn saves_after(plan: &Plan, step: u64) -> u64 {
    let left = plan.max_steps.saturating_sub(step);
    let every = |steps: u64| plan.max_steps.div_ceil(steps.max(1)).saturating_sub(step / steps.max(1)).min(left);
    match plan.saving {
        (SaveStrategy::No, _) => 0,
        (SaveStrategy::Steps, steps) => every(steps),
        (SaveStrategy::Epoch, _) => every(plan.lengths.steps_per_epoch().unwrap_or(plan.max_steps)),
        (SaveStrategy::Best, _) => every(plan.evaluation.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::plan::tests::plan;

    const NEVER: [u64; 0] = [];

    /// The steps after which something is due.
    fn steps(plan: &Plan, what: impl Fn(Due) -> bool) -> Vec<u64> {
        (1..=plan.max_steps).filter(|step| what(due(plan, *step))).collect()
    }

    fn logs(batches: u64, flags: &str) -> Vec<u64> {
        steps(&plan(batches, flags), |due| due.log)
    }

    fn evaluations(batches: u64, flags: &str) -> Vec<u64> {
        steps(&plan(batches, &format!("--do_eval {flags}")), |due| due.evaluate)
    }

    fn saves(batches: u64, flags: &str) -> Vec<u64> {
        steps(&plan(batches, flags), |due| due.save)
    }

    #[test]
    fn records() {
        assert_eq!(logs(4, "--max_steps 10 --logging_steps 3"), [3, 6, 9]);
        assert_eq!(logs(4, "--max_steps 10 --logging_steps 4 --logging_first_step"), [1, 4, 8]);
        assert_eq!(logs(4, "--max_steps 10 --logging_steps 0.5"), [5, 10]);
        assert_eq!(logs(4, "--max_steps 10 --logging_strategy epoch"), [4, 8, 10], "the last epoch is cut short");
        assert_eq!(logs(4, "--max_steps 10 --logging_strategy no"), NEVER);
        assert_eq!(logs(4, "--max_steps 10 --logging_strategy no --logging_first_step"), [1]);
    }

    #[test]
    fn evaluations_wait_for_their_delay() {
        let by_steps = "--max_steps 10 --eval_strategy steps --eval_steps 3";
        assert_eq!(evaluations(4, by_steps), [3, 6, 9]);
        assert_eq!(evaluations(4, &format!("{by_steps} --eval_delay 4")), [6, 9]);
        assert_eq!(evaluations(4, &format!("{by_steps} --eval_delay 6")), [6, 9]);
        let by_epochs = "--max_steps 10 --eval_strategy epoch";
        assert_eq!(evaluations(4, by_epochs), [4, 8, 10]);
        assert_eq!(evaluations(4, &format!("{by_epochs} --eval_delay 1.5")), [8, 10]);
        assert_eq!(evaluations(4, &format!("{by_epochs} --eval_delay 2.5")), [10]);
        assert_eq!(evaluations(4, &format!("{by_epochs} --eval_delay 3")), NEVER);
        assert_eq!(evaluations(4, "--max_steps 10"), NEVER);
        let without_steps = "--max_steps 10 --eval_strategy steps --logging_steps 4";
        assert_eq!(evaluations(4, without_steps), [4, 8], "--eval_steps are --logging_steps");
    }

    #[test]
    fn the_last_step_is_saved() {
        assert_eq!(saves(4, "--max_steps 10 --save_steps 4"), [4, 8, 10]);
        assert_eq!(saves(4, "--max_steps 8 --save_steps 4"), [4, 8]);
        assert_eq!(saves(4, "--max_steps 10 --save_strategy epoch"), [4, 8, 10]);
        assert_eq!(saves(4, "--max_steps 10 --save_strategy no"), NEVER);
        assert_eq!(saves(5, "--num_train_epochs 2 --gradient_accumulation_steps 2 --save_strategy epoch"), [3, 6]);
    }

    #[test]
    fn an_epoch_of_a_stream_is_the_run() {
        let stream = |flags: &str| {
            let mut plan = plan(4, flags);
            plan.lengths.batches_per_epoch = None;
            steps(&plan, |due| due.save)
        };
        assert_eq!(stream("--max_steps 10 --save_strategy epoch"), [10]);
        assert_eq!(stream("--max_steps 10 --save_steps 4"), [4, 8, 10]);
    }

    #[test]
    fn saves_to_come_are_counted() {
        for flags in ["--save_steps 4", "--save_strategy epoch", "--save_strategy no", "--save_steps 100"] {
            let plan = plan(4, &format!("--max_steps 10 {flags}"));
            for step in 0..=10 {
                let coming = steps(&plan, |due| due.save).into_iter().filter(|save| *save > step).count() as u64;
                assert_eq!(saves_after(&plan, step), coming, "{flags} after {step}");
            }
        }
    }
}
