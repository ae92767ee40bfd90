//! The report's own record of training: few points, however long the run and however rarely it logs.

use serde::{Deserialize, Serialize};

use super::StepInfo;

/// Points of a curve at most.
pub const MOST_POINTS: usize = 300;

/// What training did, step by step at first; each time the points become too many, neighbours become one. Which steps
/// share a point follows from their numbers alone, so that a resumed run has the points of one without a break.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Steps per point; the last point may have fewer.
    every: u64,
    points: Vec<Point>,
}

/// Some steps in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The last of them.
    pub step: u64,
    /// How many there are.
    pub steps: u64,
    /// Mean of their losses, in nats.
    pub loss: f64,
    /// The greatest of their gradient norms that are finite (`--fp16` skips steps whose norm is not).
    pub grad_norm: Option<f64>,
    /// The last of their rates.
    pub learning_rate: f64,
    /// Their tokens, padding not counted.
    pub tokens: u64,
    /// What they took.
    pub seconds: f64,
    /// Resident memory of the process in bytes, the most that was seen.
    pub memory: Option<u64>,
}

impl Default for Curve {
    fn default() -> Self {
        Self { every: 1, points: Vec::new() }
    }
}

impl Curve {
    /// The points, in the order of steps.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The first step on record.
    pub fn first_step(&self) -> Option<u64> {
        self.points.first().map(|point| point.step + 1 - point.steps)
    }

    /// Adds a step; `memory` is asked at the first step of each point only.
    pub fn add(&mut self, step: u64, info: &StepInfo, memory: impl FnOnce() -> Option<u64>) {
        let mut point = Point {
            step,
            steps: 1,
            loss: info.loss,
            grad_norm: Some(info.grad_norm).filter(|norm| norm.is_finite()),
            learning_rate: info.learning_rate,
            tokens: info.real_tokens,
            seconds: info.seconds,
            memory: None,
        };
        let every = self.every;
        match self.points.last_mut() {
            Some(last) if last.place(every) == point.place(every) => last.join(&point),
            _ => {
                point.memory = memory();
                self.points.push(point);
            }
        }
        if self.points.len() > MOST_POINTS {
            self.every *= 2;
            let every = self.every;
            self.points.dedup_by(|next, point| {
                let joins = next.place(every) == point.place(every);
                if joins {
                    point.join(next);
                }
                joins
            });
        }
    }
}

impl Point {
    /// Which point of `every` steps it belongs to; steps count from 1.
    fn place(&self, every: u64) -> u64 {
        self.step.saturating_sub(1) / every
    }

    /// Takes the steps that follow in.
    fn join(&mut self, next: &Self) {
        let steps = self.steps + next.steps;
        self.loss = (self.loss * self.steps as f64 + next.loss * next.steps as f64) / steps as f64;
        self.grad_norm = self.grad_norm.into_iter().chain(next.grad_norm).reduce(f64::max);
        (self.step, self.steps, self.learning_rate) = (next.step, steps, next.learning_rate);
        self.tokens += next.tokens;
        self.seconds += next.seconds;
        self.memory = self.memory.max(next.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(step: u64) -> StepInfo {
        StepInfo {
            loss: 1.0 + 1.0 / step as f64,
            grad_norm: if step == 777 { 50.0 } else { 1.0 },
            learning_rate: step as f64,
            tokens: 12,
            real_tokens: 10,
            seconds: 0.5,
        }
    }

    fn curve(steps: std::ops::RangeInclusive<u64>, mut curve: Curve) -> Curve {
        steps.for_each(|step| curve.add(step, &info(step), || Some(step)));
        curve
    }

    #[test]
    fn few_points_hold_all_steps() {
        for steps in [1, 200, 299, 300, 301, 599, 600, 601, 1201, 10_000] {
            let curve = curve(1..=steps, Curve::default());
            let points = curve.points();
            assert!(points.len() <= MOST_POINTS && points.len() as u64 >= steps.min(MOST_POINTS as u64 / 2));
            assert_eq!((curve.first_step(), points.last().map(|point| point.step)), (Some(1), Some(steps)));
            let sum = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>();
            assert_eq!(sum(|point| point.steps as f64), steps as f64);
            assert_eq!(sum(|point| point.tokens as f64), 10.0 * steps as f64);
            assert_eq!(sum(|point| point.seconds), 0.5 * steps as f64);
            let loss: f64 = (1..=steps).map(|step| info(step).loss).sum();
            assert!((sum(|point| point.loss * point.steps as f64) - loss).abs() < 1e-9 * loss);
            assert!(points.iter().all(|point| point.learning_rate == point.step as f64 && point.memory.is_some()));
            assert_eq!(points.iter().any(|point| point.grad_norm == Some(50.0)), steps >= 777, "a spike stays");
        }
    }

    #[test]
    fn a_break_changes_nothing() {
        let whole = curve(1..=1500, Curve::default());
        for at in [1, 299, 300, 301, 450, 601, 1000, 1499] {
            let text = serde_json::to_string(&curve(1..=at, Curve::default())).expect("JSON");
            let saved: Curve = serde_json::from_str(&text).expect("a curve");
            assert_eq!(curve(at + 1..=1500, saved), whole, "resumed at {at}");
        }
        let later = curve(101..=1500, Curve::default());
        assert_eq!((later.first_step(), later.points().len() <= MOST_POINTS), (Some(101), true), "of weights alone");
    }

    #[test]
    fn a_gradient_that_overflows_is_left_out() {
        let mut curve = Curve::default();
        curve.add(1, &StepInfo { grad_norm: f64::INFINITY, ..info(1) }, || None);
        assert_eq!(curve.points()[0].grad_norm, None);
        assert!(serde_json::to_string(&curve).is_ok_and(|text| text.contains("\"grad_norm\":null")));
    }
}
