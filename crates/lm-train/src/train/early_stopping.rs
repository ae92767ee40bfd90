//! Stopping when the evaluation metric no longer improves (Python's `EarlyStoppingCallback`).

use serde_json::{Map, Value, json};

/// Counts evaluations in a row that did not improve the best metric by more than a threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    patience: u64,
    threshold: f64,
    counter: u64,
}

impl EarlyStopping {
    const NAME: &str = "EarlyStoppingCallback";

    /// Stops after `patience` evaluations without an improvement greater than `threshold`.
    pub fn new(patience: u64, threshold: f64) -> Self {
        Self { patience, threshold, counter: 0 }
    }

    /// Looks at the metric of an evaluation and says whether training should stop. `best` is the best metric of the
    /// evaluations before this one, so this comes before [`TrainerState::update_best`](crate::observe::TrainerState::update_best).
    pub fn should_stop(&mut self, metric: f64, best: Option<f64>, greater_is_better: bool) -> bool {
        let improved = best.is_none_or(|best| {
            let is_better = if greater_is_better { metric > best } else { metric < best };
            is_better && (metric - best).abs() > self.threshold
        });
        self.counter = if improved { 0 } else { self.counter + 1 };
        self.counter >= self.patience
    }

    /// Writes the counter into [`TrainerState::stateful_callbacks`](crate::observe::TrainerState::stateful_callbacks), where Python keeps it.
    pub fn save(&self, stateful_callbacks: &mut Map<String, Value>) {
        let state = json!({
            "args": {"early_stopping_patience": self.patience, "early_stopping_threshold": self.threshold},
            "attributes": {"early_stopping_patience_counter": self.counter},
        });
        stateful_callbacks.insert(Self::NAME.to_owned(), state);
    }

    /// Takes the counter of a checkpoint; patience and threshold stay those of the command line. Whether training should
    /// have stopped there.
    pub fn restore(&mut self, stateful_callbacks: &Map<String, Value>) -> bool {
        let saved = stateful_callbacks.get(Self::NAME);
        let counter = saved.and_then(|state| state.pointer("/attributes/early_stopping_patience_counter"));
        self.counter = counter.and_then(Value::as_u64).unwrap_or(0);
        self.counter >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::TrainerState;

    #[test]
    fn stops_after_patience_evaluations_without_improvement() {
        let (mut stopping, mut state) = (EarlyStopping::new(2, 0.1), TrainerState::default());
        let mut observe = |stopping: &mut EarlyStopping, metric| {
            let stop = stopping.should_stop(metric, state.best_metric, false);
            state.update_best(metric, false);
            stop
        };
        assert!(!observe(&mut stopping, 3.0));
        assert!(!observe(&mut stopping, 2.5), "an improvement");
        assert!(!observe(&mut stopping, 2.45), "better, but by less than the threshold");
        assert!(!observe(&mut stopping, 2.0), "an improvement again");
        assert!(!observe(&mut stopping, f64::NAN));
        let mut saved = Map::new();
        stopping.save(&mut saved);
        let mut resumed = EarlyStopping::new(2, 0.1);
        assert!(!resumed.restore(&saved));
        assert_eq!(resumed, stopping);
        assert!(observe(&mut resumed, 2.2));
        resumed.save(&mut saved);
        assert!(EarlyStopping::new(2, 0.1).restore(&saved), "stopped there");
        assert!(!EarlyStopping::new(3, 0.1).restore(&saved), "but not with more patience");
    }
}
