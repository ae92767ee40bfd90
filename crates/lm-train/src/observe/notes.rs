//! What a person should notice in the figures of a run: said at its end and in the report.

use super::TrainerState;
use super::format::count;
use super::report::SplitFacts;

/// Notes on a run that has come so far or is finished, and on the text that it is trained on; `length_flag` is what limits the
/// tokens of an example.
pub(crate) fn notes(state: &TrainerState, data: &[SplitFacts], length_flag: &str, finished: bool) -> Vec<String> {
    let losses = losses(state);
    let mut notes = Vec::new();
    notes.extend(diverged(&losses).or_else(|| still_falling(&losses).filter(|_| finished)));
    notes.extend(risen(&values(state, "eval_loss")));
    notes.extend(data.iter().find_map(|split| truncated(split, length_flag)));
    notes.extend(data.iter().find_map(padded));
    notes
}

/// Training losses: of the run's own record, else of the log.
fn losses(state: &TrainerState) -> Vec<(u64, f64)> {
    match state.history.curve.points() {
        [] => values(state, "loss"),
        points => points.iter().map(|point| (point.step, point.loss)).collect(),
    }
}

/// Step and value of all records that have a finite one of this name.
fn values(state: &TrainerState, name: &str) -> Vec<(u64, f64)> {
    let history = state.log_history.iter();
    history.filter_map(|record| Some((record.step()?, record.get(name).filter(|value| value.is_finite())?))).collect()
}

fn mean(values: &[(u64, f64)]) -> f64 {
    values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64
}

/// How much a difference between the means of so many neighbours each owes to chance: its standard error, where the points
/// scatter about a trend as the series does. What a trend does to the second differences is little, and an outlier leaves
/// their median as it is.
fn chance(losses: &[(u64, f64)], counts: [usize; 2]) -> f64 {
    let mut bends: Vec<f64> = losses.windows(3).map(|near| (near[0].1 - 2.0 * near[1].1 + near[2].1).abs()).collect();
    bends.sort_by(f64::total_cmp);
    // 0.6745 √6: the median of the second differences of normal numbers, in standard deviations of these.
    let scatter = bends.get(bends.len() / 2).map_or(0.0, |median| median / 1.652);
    scatter * counts.map(|count| 1.0 / count as f64).iter().sum::<f64>().sqrt()
}

/// The loss ended above where it began: the mean of the last quarter above that of the first twelfth, by more than chance.
fn diverged(losses: &[(u64, f64)]) -> Option<String> {
    let (twelfth, quarter) = (losses.len() / 12, losses.len() / 4);
    let first = mean(losses.get(..twelfth).filter(|first| !first.is_empty())?);
    let last = mean(losses.get(losses.len() - quarter..)?);
    (last > first * 1.05 && last > first + 3.0 * chance(losses, [twelfth, quarter])).then(|| {
        format!(
            "the training loss rose from {first:.3} to {last:.3}: the run diverged; a lower --learning_rate helps, or more --warmup_steps"
        )
    })
}

/// The loss of the last quarter is lower than that of the quarter before by more than a fiftieth, and by more than chance.
fn still_falling(losses: &[(u64, f64)]) -> Option<String> {
    let quarter = losses.len() / 4;
    let (before, last) = losses.split_at_checked(losses.len() - quarter)?;
    let before = before.get(before.len().saturating_sub(quarter)..).filter(|_| quarter > 1)?;
    let (before, last) = (mean(before), mean(last));
    (last < before * 0.98 && last < before - 2.0 * chance(losses, [quarter; 2])).then(|| {
        format!(
            "the training loss was still falling, from {before:.3} to {last:.3} in the last quarter: more --num_train_epochs or --max_steps would help"
        )
    })
}

/// The evaluation loss has a minimum before its end.
fn risen(losses: &[(u64, f64)]) -> Option<String> {
    let (step, best) = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let last = losses.last()?.1;
    (last > best * 1.002).then(|| {
        format!(
            "the evaluation loss has risen since step {}, from {best:.3} to {last:.3}: the model overfits; --load_best_model_at_end keeps the best",
            count(step)
        )
    })
}

fn truncated(split: &SplitFacts, length_flag: &str) -> Option<String> {
    let share = split.truncated_share.filter(|share| *share >= 0.01)?;
    Some(format!(
        "{:.0} % of the {} rows were cut: a larger {length_flag} keeps more of them",
        100.0 * share,
        split.split
    ))
}

fn padded(split: &SplitFacts) -> Option<String> {
    let share = split.padding_share.filter(|share| *share >= 0.4)?;
    Some(format!(
        "{:.0} % of the {} batches is padding: --group_by_length puts examples of like length together",
        100.0 * share,
        split.split
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{LogRecord, StepInfo};

    fn state(name: &str, losses: &[f64]) -> TrainerState {
        let mut state = TrainerState::default();
        for loss in losses {
            state.global_step += 10;
            state.log(LogRecord::new().with(name, *loss));
        }
        state
    }

    fn said(state: &TrainerState) -> String {
        notes(state, &[], "--block_size", true).join("\n")
    }

    #[test]
    fn a_loss_that_falls_rises_or_rests() {
        let falling = state("loss", &[8.0, 7.0, 6.0, 5.0, 4.9, 4.8, 4.6, 4.5]);
        assert!(said(&falling).contains("from 4.850 to 4.550"));
        assert!(notes(&falling, &[], "", false).is_empty(), "a run that goes on is meant to fall");
        let rising = [3.0, 2.9, 2.8, 2.7, 2.7, 2.8, 3.0, 3.4, 3.8, 4.1, 4.3, 4.4];
        assert!(said(&state("loss", &rising)).contains("rose from 3.000 to 4.267: the run diverged"));
        assert_eq!(said(&state("loss", &[8.0, 5.0, 5.0, 4.99])), "");
        for short in [&[][..], &[5.0], &[5.0, 1.0, 0.5], &[5.2, 5.3, 5.5, 5.9], &[3.0, 2.0, 2.0, 4.0, 5.0, 6.0, 7.0]] {
            assert_eq!(said(&state("loss", short)), "", "too few records to tell");
        }
        assert_eq!(said(&state("loss", &[f64::NAN; 16])), "");
    }

    /// Whatever the batches of a run that stays where it is happen to be.
    #[test]
    fn what_chance_does_is_not_noticed() {
        let mut noticed = 0;
        for run in 0..1000 {
            let mut draws = lm_random::Stream::new(run, lm_random::Purpose::Dropout, 0, 0);
            let losses: Vec<f64> = (0..4 + run % 36).map(|_| 3.0 + 0.3 * f64::from(draws.normal())).collect();
            noticed += u32::from(!said(&state("loss", &losses)).is_empty());
        }
        assert!(noticed < 50, "{noticed} of 1000 runs");
    }

    /// `--logging_steps` beyond the end of the run.
    #[test]
    fn the_runs_own_record_tells_without_a_log() {
        let mut state = TrainerState::default();
        for step in 1..=40 {
            let loss = if step % 2 == 0 { 10.2 } else { 9.8 } - 0.1 * step as f64;
            let info = StepInfo { loss, grad_norm: 1.0, learning_rate: 1e-4, tokens: 1, real_tokens: 1, seconds: 1.0 };
            state.history.curve.add(step, &info, || None);
        }
        assert!(said(&state).contains("still falling, from 7.450 to 6.450"), "{}", said(&state));
    }

    #[test]
    fn an_evaluation_that_rises() {
        assert!(said(&state("eval_loss", &[5.0, 4.0, 4.5])).contains("since step 20, from 4.000 to 4.500"));
        assert_eq!(said(&state("eval_loss", &[5.0, 4.0, 4.001])), "");
    }

    #[test]
    fn text_that_is_cut_or_padded() {
        let split = |truncated: f64, padding: f64| SplitFacts {
            split: "train".into(),
            truncated_share: Some(truncated),
            padding_share: Some(padding),
            ..SplitFacts::default()
        };
        let of = |split| notes(&TrainerState::default(), &[split], "--max_seq_length", true).join("\n");
        assert!(of(split(0.36, 0.1)).starts_with("36 % of the train rows were cut: a larger --max_seq_length"));
        assert!(of(split(0.0, 0.62)).starts_with("62 % of the train batches is padding"));
        assert_eq!(of(split(0.004, 0.3)), "");
    }
}
