//! The learning rate of every optimizer step.
//!
//! Each schedule is the function of the same name in Python's `transformers/optimization.py` (4.57): a closed formula of the
//! step, so a resumed run needs no history. The one exception is `reduce_lr_on_plateau`, which follows the evaluation
//! metric as `torch.optim.lr_scheduler.ReduceLROnPlateau` does and has a small state to save.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The values of `--lr_scheduler_type`, named as in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Linear warm-up, then linearly down to 0.
    Linear,
    /// Linear warm-up, then `num_cycles` (0.5) waves of a cosine.
    Cosine,
    /// Linear warm-up, then `num_cycles` (1) half cosines from the peak to 0.
    CosineWithRestarts,
    /// Linear warm-up, then a polynomial of degree `power` (1) down to `lr_end` (1e-7).
    Polynomial,
    /// The peak rate throughout, without warm-up.
    Constant,
    /// Linear warm-up, then the peak rate.
    ConstantWithWarmup,
    /// Linear warm-up, then proportional to 1 / sqrt(step).
    InverseSqrt,
    /// The peak rate, multiplied by `factor` whenever the evaluation metric stops improving.
    ReduceLrOnPlateau,
    /// As `cosine`, down to `min_lr` or `min_lr_rate` × peak.
    CosineWithMinLr,
    /// As `cosine_with_min_lr`, with a warm-up that starts above 0.
    CosineWarmupWithMinLr,
    /// Warm-up, a plateau, and a decay over the last `num_decay_steps`.
    WarmupStableDecay,
}

impl SchedulerType {
    /// All of them, in Python's order.
    pub const ALL: [Self; 11] = [
        Self::Linear,
        Self::Cosine,
        Self::CosineWithRestarts,
        Self::Polynomial,
        Self::Constant,
        Self::ConstantWithWarmup,
        Self::InverseSqrt,
        Self::ReduceLrOnPlateau,
        Self::CosineWithMinLr,
        Self::CosineWarmupWithMinLr,
        Self::WarmupStableDecay,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::CosineWithRestarts => "cosine_with_restarts",
            Self::Polynomial => "polynomial",
            Self::Constant => "constant",
            Self::ConstantWithWarmup => "constant_with_warmup",
            Self::InverseSqrt => "inverse_sqrt",
            Self::ReduceLrOnPlateau => "reduce_lr_on_plateau",
            Self::CosineWithMinLr => "cosine_with_min_lr",
            Self::CosineWarmupWithMinLr => "cosine_warmup_with_min_lr",
            Self::WarmupStableDecay => "warmup_stable_decay",
        }
    }
}

impl fmt::Display for SchedulerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerType {
    type Err = ScheduleError;

    fn from_str(name: &str) -> Result<Self, ScheduleError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| ScheduleError::UnknownType(name.to_owned()))
    }
}

/// Why a schedule cannot be built.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScheduleError {
    /// `--lr_scheduler_type` names no schedule.
    #[error("--lr_scheduler_type: unknown schedule '{0}', expected one of {list}", list = names(&SchedulerType::ALL.map(SchedulerType::name)))]
    UnknownType(String),
    /// A keyword that the schedule does not have.
    #[error("--lr_scheduler_kwargs: {kind} has no argument '{name}', it takes {known}", known = names(known))]
    UnknownKwarg {
        /// The schedule.
        kind: SchedulerType,
        /// The keyword as given.
        name: String,
        /// The keywords of this schedule.
        known: Vec<&'static str>,
    },
    /// A keyword with a value that the schedule cannot use.
    #[error("--lr_scheduler_kwargs: {kind}: {problem}")]
    BadKwarg {
        /// The schedule.
        kind: SchedulerType,
        /// What is wrong with which keyword, and what to write instead.
        problem: String,
    },
    /// The peak rate is not a finite number ≥ 0.
    #[error("--learning_rate {0}: expected a finite number of at least 0")]
    BadPeak(f64),
    /// State of a plateau schedule given to another kind, or none given to a plateau schedule.
    #[error(
        "the checkpoint's schedule state does not belong to a {0} schedule; resume with the --lr_scheduler_type of the checkpoint"
    )]
    OtherSchedule(SchedulerType),
}

/// The number of warm-up steps: `--warmup_steps` when positive, else `--warmup_ratio` of the run, rounded up
/// (`TrainingArguments.get_warmup_steps`).
pub fn warmup_steps(warmup_steps: u64, warmup_ratio: f64, total_steps: u64) -> u64 {
    if warmup_steps > 0 { warmup_steps } else { (total_steps as f64 * warmup_ratio).ceil() as u64 }
}

/// The learning rate over a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: SchedulerType,
    /// `--learning_rate`, which some formulas measure their minimum against.
    peak: f64,
    /// What the formulas' result is multiplied with: the peak, of the run's beginning when it is resumed.
    base_lr: f64,
    warmup: f64,
    total: f64,
    shape: Shape,
    unused_kwargs: Vec<String>,
    /// The step that a resumed run begins with, and the rate that its checkpoint gives to it.
    resumed: Option<(u64, f64)>,
}

/// What a checkpoint keeps of a schedule, as Python's `scheduler.pt` and the rate in `optimizer.pt` do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The peak rate that the run began with.
    pub base_lr: f64,
    /// The step that comes next.
    pub next_step: u64,
    /// The rate that it will use.
    pub next_rate: f64,
    /// Of `reduce_lr_on_plateau` only.
    pub plateau: Option<PlateauState>,
}

/// What distinguishes the schedules once warm-up, peak and length are taken apart. Counts of steps are `f64`, as the
/// formulas use them; they are exact up to 2^53.
#[derive(Clone, Debug)]
enum Shape {
    Constant,
    ConstantWithWarmup,
    Linear,
    /// `cosine` (`min_lr_rate` 0) and `cosine_with_min_lr`.
    Cosine {
        num_cycles: f64,
        min_lr_rate: f64,
    },
    HardRestarts {
        num_cycles: f64,
    },
    Polynomial {
        lr_end: f64,
        power: f64,
    },
    InverseSqrt,
    CosineFromMinLr {
        num_cycles: f64,
        min_lr_rate: f64,
        warmup_lr_rate: Option<f64>,
    },
    WarmupStableDecay(WarmupStableDecay),
    Plateau(Plateau, PlateauState),
}

#[derive(Clone, Debug)]
struct WarmupStableDecay {
    stable: f64,
    decay: f64,
    warmup_curve: Curve,
    decay_curve: Curve,
    min_lr_ratio: f64,
    num_cycles: f64,
}

#[derive(Clone, Copy, Debug)]
enum Curve {
    Linear,
    Cosine,
    OneMinusSqrt,
}

#[derive(Clone, Debug)]
struct Plateau {
    maximise: bool,
    absolute_threshold: bool,
    factor: f64,
    patience: f64,
    threshold: f64,
    cooldown: f64,
    min_lr: f64,
    eps: f64,
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

impl Schedule {
    /// A schedule that rises to `peak_lr` over `warmup_steps` of `total_steps` optimizer steps. `kwargs` are those of
    /// `--lr_scheduler_kwargs`, with Python's names and defaults.
    ///
    /// # Errors
    /// When a keyword is unknown to this kind of schedule, missing or unusable, or the peak is negative or not finite.
    pub fn new(
        kind: SchedulerType,
        peak_lr: f64,
        warmup_steps: u64,
        total_steps: u64,
        kwargs: &Map<String, Value>,
    ) -> Result<Self, ScheduleError> {
        if !(peak_lr.is_finite() && peak_lr >= 0.0) {
            return Err(ScheduleError::BadPeak(peak_lr));
        }
        let (warmup, total) = (warmup_steps as f64, total_steps as f64);
        // Python's get_scheduler hands these three no keywords at all.
        let takes_kwargs =
            !matches!(kind, SchedulerType::Constant | SchedulerType::ConstantWithWarmup | SchedulerType::InverseSqrt);
        let nothing = Map::new();
        let (given, unused_kwargs) =
            if takes_kwargs { (kwargs, Vec::new()) } else { (&nothing, kwargs.keys().cloned().collect()) };
        let mut kwargs = Kwargs { kind, given, known: Vec::new() };
        let shape = match kind {
            SchedulerType::Constant => Shape::Constant,
            SchedulerType::ConstantWithWarmup => Shape::ConstantWithWarmup,
            SchedulerType::InverseSqrt => Shape::InverseSqrt,
            SchedulerType::Linear => Shape::Linear,
            SchedulerType::Cosine => Shape::Cosine { num_cycles: kwargs.number("num_cycles", 0.5)?, min_lr_rate: 0.0 },
            SchedulerType::CosineWithRestarts => Shape::HardRestarts { num_cycles: kwargs.number("num_cycles", 1.0)? },
            SchedulerType::Polynomial => {
                let lr_end = kwargs.number("lr_end", 1e-7)?;
                if lr_end >= peak_lr {
                    return Err(kwargs.bad(format!("lr_end {lr_end} must be smaller than --learning_rate {peak_lr}")));
                }
                Shape::Polynomial { lr_end, power: kwargs.number("power", 1.0)? }
            }
            SchedulerType::CosineWithMinLr => Shape::Cosine {
                num_cycles: kwargs.number("num_cycles", 0.5)?,
                min_lr_rate: kwargs.min_lr_rate(peak_lr)?,
            },
            SchedulerType::CosineWarmupWithMinLr => Shape::CosineFromMinLr {
                num_cycles: kwargs.number("num_cycles", 0.5)?,
                min_lr_rate: kwargs.min_lr_rate(peak_lr)?,
                warmup_lr_rate: kwargs.optional_number("warmup_lr_rate")?,
            },
            SchedulerType::WarmupStableDecay => {
                let Some(decay) = kwargs.optional_number("num_decay_steps")? else {
                    return Err(kwargs.bad(r#"num_decay_steps is required, e.g. {"num_decay_steps": 1000}"#.to_owned()));
                };
                let stable = kwargs.optional_number("num_stable_steps")?;
                Shape::WarmupStableDecay(WarmupStableDecay {
                    stable: stable.unwrap_or(total - warmup - decay),
                    decay,
                    warmup_curve: kwargs.choice("warmup_type", &CURVES, Curve::Linear)?,
                    decay_curve: kwargs.choice("decay_type", &CURVES, Curve::Cosine)?,
                    min_lr_ratio: kwargs.number("min_lr_ratio", 0.0)?,
                    num_cycles: kwargs.number("num_cycles", 0.5)?,
                })
            }
            SchedulerType::ReduceLrOnPlateau => {
                let maximise = kwargs.choice("mode", &[("min", false), ("max", true)], false)?;
                let plateau = Plateau {
                    maximise,
                    absolute_threshold: kwargs.choice("threshold_mode", &[("rel", false), ("abs", true)], false)?,
                    factor: kwargs.number("factor", 0.1)?,
                    patience: kwargs.number("patience", 10.0)?,
                    threshold: kwargs.number("threshold", 1e-4)?,
                    cooldown: kwargs.number("cooldown", 0.0)?,
                    min_lr: kwargs.number("min_lr", 0.0)?,
                    eps: kwargs.number("eps", 1e-8)?,
                };
                if plateau.factor >= 1.0 {
                    return Err(kwargs.bad(format!("factor {} must be smaller than 1", plateau.factor)));
                }
                let state =
                    PlateauState { learning_rate: peak_lr, best: None, num_bad_epochs: 0, cooldown_counter: 0.0 };
                Shape::Plateau(plateau, state)
            }
        };
        kwargs.refuse_unknown()?;
        Ok(Self { kind, peak: peak_lr, base_lr: peak_lr, warmup, total, shape, unused_kwargs, resumed: None })
    }

    /// The kind of schedule this is.
    pub fn kind(&self) -> SchedulerType {
        self.kind
    }

    /// Keywords that were given and change nothing: Python's `get_scheduler` passes none to `constant`,
    /// `constant_with_warmup` and `inverse_sqrt`. The caller tells the user.
    pub fn unused_kwargs(&self) -> &[String] {
        &self.unused_kwargs
    }

    /// The learning rate that the optimizer step with index `step` uses; the first step of a run is 0.
    pub fn rate(&self, step: u64) -> f64 {
        match (&self.shape, self.resumed) {
            (Shape::Plateau(_, state), _) => state.learning_rate,
            (_, Some((next_step, rate))) if step == next_step => rate,
            _ => self.base_lr * self.factor(step as f64),
        }
    }

    /// The share of the peak rate at `step`: the `lr_lambda` functions of Python's `optimization.py`.
    fn factor(&self, step: f64) -> f64 {
        let (warmup, total) = (self.warmup, self.total);
        let warming_up = step < warmup;
        let linear_warmup = step / warmup.max(1.0);
        let progress = (step - warmup) / (total - warmup).max(1.0);
        match &self.shape {
            Shape::Constant => 1.0,
            Shape::WarmupStableDecay(shape) => shape.factor(step, warmup),
            Shape::CosineFromMinLr { num_cycles, min_lr_rate, warmup_lr_rate } => {
                if !warming_up {
                    let progress = (step - warmup + 1.0) / (total - warmup).max(1.0);
                    return above_minimum(cosine(num_cycles * 2.0 * progress), *min_lr_rate);
                }
                match warmup_lr_rate {
                    None => (step + 1.0) / warmup.max(1.0),
                    Some(start) => start + (1.0 - start) * step / (warmup - 1.0).max(1.0),
                }
            }
            _ if warming_up => linear_warmup,
            Shape::ConstantWithWarmup => 1.0,
            Shape::Linear => ((total - step) / (total - warmup).max(1.0)).max(0.0),
            Shape::Cosine { num_cycles, min_lr_rate } => {
                above_minimum(cosine(num_cycles * 2.0 * progress), *min_lr_rate)
            }
            Shape::HardRestarts { .. } if progress >= 1.0 => 0.0,
            Shape::HardRestarts { num_cycles } => cosine((num_cycles * progress).rem_euclid(1.0)).max(0.0),
            Shape::Polynomial { lr_end, power } => {
                if step > total || total == warmup {
                    return lr_end / self.peak;
                }
                let remaining = 1.0 - (step - warmup) / (total - warmup);
                ((self.peak - lr_end) * remaining.powf(*power) + lr_end) / self.peak
            }
            Shape::InverseSqrt => {
                let timescale = if warmup > 0.0 { warmup } else { 10_000.0 };
                1.0 / ((step + timescale - warmup) / timescale).sqrt()
            }
            Shape::Plateau(..) => 1.0,
        }
    }

    /// Whether the schedule wants the evaluation metric (`--metric_for_best_model`) after each evaluation.
    pub fn follows_metric(&self) -> bool {
        matches!(self.shape, Shape::Plateau(..))
    }

    /// Tells a `reduce_lr_on_plateau` schedule the metric of an evaluation; the others do not look at it.
    pub fn observe(&mut self, metric: f64) {
        if let Shape::Plateau(plateau, state) = &mut self.shape {
            plateau.observe(state, metric);
        }
    }

    /// What to save in a checkpoint before the step with index `next_step`.
    pub fn state(&self, next_step: u64) -> ScheduleState {
        let plateau = match &self.shape {
            Shape::Plateau(_, state) => Some(state.clone()),
            _ => None,
        };
        ScheduleState { base_lr: self.base_lr, next_step, next_rate: self.rate(next_step), plateau }
    }

    /// Continues from a checkpoint as Python does. With the same arguments the rates are those of the unbroken run. With
    /// another number of steps the first rate is still the old one, the rest follow the new formula. The peak stays that
    /// of the checkpoint even when `--learning_rate` differs: the caller compares [`ScheduleState::base_lr`] and tells.
    ///
    /// # Errors
    /// When one of the two is `reduce_lr_on_plateau` and the other is not.
    pub fn resume(&mut self, saved: ScheduleState) -> Result<(), ScheduleError> {
        match (&mut self.shape, saved.plateau) {
            (Shape::Plateau(_, state), Some(plateau)) => *state = plateau,
            (Shape::Plateau(..), None) | (_, Some(_)) => return Err(ScheduleError::OtherSchedule(self.kind)),
            (_, None) => {}
        }
        self.base_lr = saved.base_lr;
        self.resumed = Some((saved.next_step, saved.next_rate));
        Ok(())
    }
}

/// Half a cosine wave per unit of `half_waves`, from 1 down to 0.
fn cosine(half_waves: f64) -> f64 {
    0.5 * (1.0 + (PI * half_waves).cos())
}

/// Squeezes a factor between `minimum` and 1.
fn above_minimum(factor: f64, minimum: f64) -> f64 {
    (factor * (1.0 - minimum) + minimum).max(0.0)
}

impl WarmupStableDecay {
    fn factor(&self, step: f64, warmup: f64) -> f64 {
        let decay_start = warmup + self.stable;
        if step < warmup {
            let progress = step / warmup.max(1.0);
            let rising = match self.warmup_curve {
                Curve::Linear => progress,
                Curve::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
                Curve::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
            };
            above_minimum(rising, self.min_lr_ratio)
        } else if step < decay_start {
            1.0
        } else if step < decay_start + self.decay {
            let progress = (step - warmup - self.stable) / self.decay.max(1.0);
            let falling = match self.decay_curve {
                Curve::Linear => 1.0 - progress,
                Curve::Cosine => cosine(self.num_cycles * 2.0 * progress),
                Curve::OneMinusSqrt => 1.0 - progress.sqrt(),
            };
            above_minimum(falling, self.min_lr_ratio)
        } else {
            self.min_lr_ratio
        }
    }
}

impl Plateau {
    /// One `step(metric)` of `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    fn observe(&self, state: &mut PlateauState, metric: f64) {
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

const CURVES: [(&str, Curve); 3] =
    [("linear", Curve::Linear), ("cosine", Curve::Cosine), ("1-sqrt", Curve::OneMinusSqrt)];

/// Reads keywords by name and remembers which names the schedule has.
struct Kwargs<'a> {
    kind: SchedulerType,
    given: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl Kwargs<'_> {
    fn bad(&self, problem: String) -> ScheduleError {
        ScheduleError::BadKwarg { kind: self.kind, problem }
    }

    /// A number, or `None` when absent or `null`.
    fn optional_number(&mut self, name: &'static str) -> Result<Option<f64>, ScheduleError> {
        self.known.push(name);
        match self.given.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.bad(format!("{name} must be a number, not {value}"))),
            },
        }
    }

    fn number(&mut self, name: &'static str, default: f64) -> Result<f64, ScheduleError> {
        match self.optional_number(name)? {
            Some(number) => Ok(number),
            None if self.given.contains_key(name) => Err(self.bad(format!("{name} must be a number, not null"))),
            None => Ok(default),
        }
    }

    fn choice<T: Copy>(&mut self, name: &'static str, of: &[(&str, T)], default: T) -> Result<T, ScheduleError> {
        self.known.push(name);
        let Some(value) = self.given.get(name) else {
            return Ok(default);
        };
        let chosen = of.iter().find(|(word, _)| value.as_str() == Some(word));
        chosen.map(|&(_, meaning)| meaning).ok_or_else(|| {
            let words: Vec<_> = of.iter().map(|&(word, _)| word).collect();
            self.bad(format!("{name} must be one of {}, not {value}", names(&words)))
        })
    }

    /// The lower end of the two cosines with a minimum, as a share of the peak: exactly one of `min_lr` and
    /// `min_lr_rate` says it.
    fn min_lr_rate(&mut self, peak_lr: f64) -> Result<f64, ScheduleError> {
        match (self.optional_number("min_lr")?, self.optional_number("min_lr_rate")?) {
            (None, Some(rate)) => Ok(rate),
            (Some(_), None) if peak_lr == 0.0 => {
                Err(self.bad("min_lr needs a --learning_rate above 0; give min_lr_rate instead".to_owned()))
            }
            (Some(min_lr), None) => Ok(min_lr / peak_lr),
            (Some(_), Some(_)) => Err(self.bad("give only one of min_lr and min_lr_rate".to_owned())),
            (None, None) => {
                Err(self.bad(r#"one of min_lr and min_lr_rate is required, e.g. {"min_lr_rate": 0.1}"#.to_owned()))
            }
        }
    }

    fn refuse_unknown(&self) -> Result<(), ScheduleError> {
        match self.given.keys().find(|name| !self.known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                Err(ScheduleError::UnknownKwarg { kind: self.kind, name: name.clone(), known: self.known.clone() })
            }
        }
    }
}

/// `a, b, c`, or `none` for an empty list.
fn names(list: &[&str]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Deserialize)]
    struct Case {
        lr_scheduler_type: SchedulerType,
        steps: u64,
        warmup_steps: u64,
        kwargs: Map<String, Value>,
        rates: Vec<f64>,
        #[serde(default)]
        metrics: Vec<f64>,
        #[serde(default = "default_peak")]
        peak: f64,
    }

    fn default_peak() -> f64 {
        5e-4
    }

    fn build(kind: SchedulerType, warmup: u64, total: u64, kwargs: Value) -> Result<Schedule, ScheduleError> {
        let Value::Object(kwargs) = kwargs else { panic!("kwargs of a test are an object") };
        Schedule::new(kind, 5e-4, warmup, total, &kwargs)
    }

    /// Both files were written by Python's get_scheduler; `scripts/make_schedules.py` says how.
    #[test]
    fn rates_equal_pythons() {
        let files = [
            include_str!("../../tests/fixtures/schedules.json"),
            include_str!("../../tests/fixtures/schedules_more.json"),
        ];
        for case in files.iter().flat_map(|text| serde_json::from_str::<Vec<Case>>(text).expect("a list of cases")) {
            let name =
                format!("{} {:?} warmup {} of {}", case.lr_scheduler_type, case.kwargs, case.warmup_steps, case.steps);
            let mut schedule =
                Schedule::new(case.lr_scheduler_type, case.peak, case.warmup_steps, case.steps, &case.kwargs)
                    .expect(&name);
            assert_eq!(schedule.follows_metric(), !case.metrics.is_empty(), "{name}");
            for (step, expected) in case.rates.iter().enumerate() {
                let rate = schedule.rate(step as u64);
                assert!(
                    (rate - expected).abs() <= 1e-9 * expected.abs(),
                    "{name}: step {step}: {rate} is not {expected}"
                );
                if let Some(&metric) = case.metrics.get(step) {
                    schedule.observe(metric);
                }
            }
        }
    }

    #[test]
    fn warmup_is_steps_or_else_the_ratio_rounded_up() {
        assert_eq!(warmup_steps(7, 0.5, 100), 7);
        assert_eq!(warmup_steps(0, 0.1, 101), 11);
        assert_eq!(warmup_steps(0, 0.0, 101), 0);
        assert_eq!(warmup_steps(0, 0.07, 100), 8, "0.07 * 100 is 7.000000000000001 in Python, too");
    }

    #[test]
    fn wrong_keywords_are_named() {
        let message = |kind, kwargs| build(kind, 0, 10, kwargs).expect_err("refused").to_string();
        assert_eq!(
            message(SchedulerType::Cosine, json!({"num_cycle": 1})),
            "--lr_scheduler_kwargs: cosine has no argument 'num_cycle', it takes num_cycles"
        );
        assert_eq!(
            message(SchedulerType::Linear, json!({"power": 1})),
            "--lr_scheduler_kwargs: linear has no argument 'power', it takes none"
        );
        assert!(message(SchedulerType::Polynomial, json!({"lr_end": 5e-4})).contains("lr_end 0.0005 must be smaller"));
        assert!(
            message(SchedulerType::CosineWithMinLr, json!({})).contains("one of min_lr and min_lr_rate is required")
        );
        assert!(
            message(SchedulerType::CosineWithMinLr, json!({"min_lr": 1e-5, "min_lr_rate": 0.1})).contains("only one")
        );
        assert!(message(SchedulerType::WarmupStableDecay, json!({})).contains("num_decay_steps is required"));
        assert!(
            message(SchedulerType::WarmupStableDecay, json!({"num_decay_steps": 2, "decay_type": "exp"}))
                .contains(r#"decay_type must be one of linear, cosine, 1-sqrt, not "exp""#)
        );
        assert!(message(SchedulerType::ReduceLrOnPlateau, json!({"factor": 1.0})).contains("smaller than 1"));
        assert!(
            message(SchedulerType::Cosine, json!({"num_cycles": "many"})).contains(r#"must be a number, not "many""#)
        );
        assert!("cosin".parse::<SchedulerType>().expect_err("unknown").to_string().contains("warmup_stable_decay"));
    }

    #[test]
    fn keywords_that_python_drops_are_reported_and_change_nothing() {
        let schedule = build(SchedulerType::InverseSqrt, 6, 60, json!({"timescale": 20})).expect("accepted");
        assert_eq!(schedule.unused_kwargs(), ["timescale"]);
        assert_eq!(schedule.rate(24), 5e-4 / 2.0);
    }

    #[test]
    fn a_plateau_schedule_continues_from_its_saved_state() {
        let kwargs = json!({"factor": 0.5, "patience": 1, "cooldown": 2, "mode": "max"});
        let metrics = [0.1, 0.3, 0.2, 0.2, 0.25, 0.4, 0.4, 0.4, 0.4, 0.4];
        let mut whole = build(SchedulerType::ReduceLrOnPlateau, 0, 10, kwargs.clone()).expect("a schedule");
        for stop in 0..metrics.len() {
            let mut resumed = build(SchedulerType::ReduceLrOnPlateau, 0, 10, kwargs.clone()).expect("a schedule");
            let saved = serde_json::to_string(&whole.state(stop as u64)).expect("JSON");
            resumed.resume(serde_json::from_str(&saved).expect("the state")).expect("fits");
            let mut unbroken = whole.clone();
            for &metric in &metrics[stop..] {
                resumed.observe(metric);
                unbroken.observe(metric);
                assert_eq!(resumed.state(9), unbroken.state(9));
            }
            whole.observe(metrics[stop]);
        }
        let mut linear = build(SchedulerType::Linear, 0, 10, json!({})).expect("linear");
        assert!(linear.resume(whole.state(3)).is_err() && whole.resume(linear.state(3)).is_err());
    }

    #[test]
    fn a_resumed_run_goes_on_as_in_python() {
        // What Python logs for --max_steps 10 --learning_rate 1e-3, resumed at step 5 with --max_steps 20 --learning_rate 2e-3.
        let pythons = [0.0005, 0.0007, 0.00065, 0.0006, 0.00055];
        let linear = |peak, total| Schedule::new(SchedulerType::Linear, peak, 0, total, &Map::new()).expect("linear");
        let saved = serde_json::to_string(&linear(1e-3, 10).state(5)).expect("JSON");
        let mut resumed = linear(2e-3, 20);
        resumed.resume(serde_json::from_str(&saved).expect("the state")).expect("fits");
        for (step, expected) in (5..).zip(pythons) {
            assert!((resumed.rate(step) - expected).abs() < 1e-12, "step {step}: {}", resumed.rate(step));
        }
        let again = resumed.state(7);
        assert_eq!((again.base_lr, again.next_rate), (1e-3, resumed.rate(7)));
    }

    proptest! {
        /// Whatever the lengths, no rate is negative, infinite or above the peak.
        #[test]
        fn rates_stay_between_zero_and_the_peak(
            index in 0..SchedulerType::ALL.len(), warmup in 0_u64..50, total in 0_u64..100, step in 0_u64..200,
        ) {
            let kind = SchedulerType::ALL[index];
            let kwargs = match kind {
                SchedulerType::CosineWithMinLr | SchedulerType::CosineWarmupWithMinLr => json!({"min_lr_rate": 0.1}),
                SchedulerType::WarmupStableDecay => json!({"num_decay_steps": 10}),
                _ => json!({}),
            };
            let rate = build(kind, warmup, total, kwargs).expect("valid").rate(step);
            prop_assert!((0.0..=5e-4 * (1.0 + 1e-12)).contains(&rate), "{kind} at {step}: {rate}");
        }
    }
}
