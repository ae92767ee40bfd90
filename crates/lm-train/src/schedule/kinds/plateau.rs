//! `reduce_lr_on_plateau`: the peak rate, multiplied by `factor` whenever the evaluation metric stops improving.

use serde::{Deserialize, Serialize};

use crate::schedule::formula::Run;
use crate::schedule::kwargs::{Kwargs, ScheduleError};

/// The settings of `torch.optim.lr_scheduler.ReduceLROnPlateau`, and its state.
#[derive(Clone, Debug)]
pub struct Plateau {
    maximise: bool,
    absolute_threshold: bool,
    factor: f64,
    patience: f64,
    threshold: f64,
    cooldown: f64,
    min_lr: f64,
    eps: f64,
    /// What a checkpoint keeps.
    pub state: PlateauState,
}

/// What `reduce_lr_on_plateau` remembers between evaluations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The rate in use.
    pub learning_rate: f64,
    /// The best metric so far; `None` before the first that counted as one.
    pub best: Option<f64>,
    /// Evaluations without improvement since the best or since the last reduction.
    pub num_bad_epochs: u64,
    /// Evaluations left in which bad metrics are not counted.
    pub cooldown_counter: f64,
}

pub(super) fn reduce_lr_on_plateau(run: Run, kwargs: &mut Kwargs) -> Result<Plateau, ScheduleError> {
    let state = PlateauState { learning_rate: run.peak, best: None, num_bad_epochs: 0, cooldown_counter: 0.0 };
    let plateau = Plateau {
        maximise: kwargs.choice("mode", &[("min", false), ("max", true)], false)?,
        absolute_threshold: kwargs.choice("threshold_mode", &[("rel", false), ("abs", true)], false)?,
        factor: kwargs.number("factor", 0.1)?,
        patience: kwargs.number("patience", 10.0)?,
        threshold: kwargs.number("threshold", 1e-4)?,
        cooldown: kwargs.number("cooldown", 0.0)?,
        min_lr: kwargs.number("min_lr", 0.0)?,
        eps: kwargs.number("eps", 1e-8)?,
        state,
    };
    if plateau.factor >= 1.0 {
        return Err(kwargs.bad(format!("factor {} must be smaller than 1", plateau.factor)));
    }
    Ok(plateau)
}

impl Plateau {
    /// One `step(metric)` of `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    pub fn observe(&mut self, metric: f64) {
        let state = &mut self.state;
        let worst = if self.maximise { f64::NEG_INFINITY } else { f64::INFINITY };
        let best = state.best.unwrap_or(worst);
        let is_better = match (self.maximise, self.absolute_threshold) {
            (false, false) => metric < best * (1.0 - self.threshold),
            (false, true) => metric < best - self.threshold,
            (true, false) => metric > best * (1.0 + self.threshold),
            (true, true) => metric > best + self.threshold,
        };
        if is_better {
            state.best = Some(metric);
            state.num_bad_epochs = 0;
        } else {
            state.num_bad_epochs += 1;
        }
        if state.cooldown_counter > 0.0 {
            state.cooldown_counter -= 1.0;
            state.num_bad_epochs = 0;
        }
        if state.num_bad_epochs as f64 > self.patience {
            let reduced = (state.learning_rate * self.factor).max(self.min_lr);
            if state.learning_rate - reduced > self.eps {
                state.learning_rate = reduced;
            }
            state.cooldown_counter = self.cooldown;
            state.num_bad_epochs = 0;
        }
    }
}
