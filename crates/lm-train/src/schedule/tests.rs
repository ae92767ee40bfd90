//! Rates against Python's, and what keywords a schedule takes.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;

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
    let files =
        [include_str!("../../tests/fixtures/schedules.json"), include_str!("../../tests/fixtures/schedules_more.json")];
    for case in files.iter().flat_map(|text| serde_json::from_str::<Vec<Case>>(text).expect("a list of cases")) {
        let name =
            format!("{} {:?} warmup {} of {}", case.lr_scheduler_type, case.kwargs, case.warmup_steps, case.steps);
        let mut schedule =
            Schedule::new(case.lr_scheduler_type, case.peak, case.warmup_steps, case.steps, &case.kwargs).expect(&name);
        assert_eq!(schedule.state(0).plateau.is_some(), !case.metrics.is_empty(), "{name}");
        for (step, expected) in case.rates.iter().enumerate() {
            let rate = schedule.rate(step as u64);
            assert!((rate - expected).abs() <= 1e-9 * expected.abs(), "{name}: step {step}: {rate} is not {expected}");
            if let Some(&metric) = case.metrics.get(step) {
                schedule.observe(metric);
            }
        }
    }
}

#[test]
fn warmup_is_steps_or_else_the_ratio_rounded_up() {
    assert_eq!(warmup_steps(7.0, 0.5, 100), 7);
    assert_eq!(warmup_steps(1.0, 0.5, 100), 1);
    assert_eq!(warmup_steps(0.06, 0.5, 101), 7);
    assert_eq!(warmup_steps(0.0, 0.1, 101), 11);
    assert_eq!(warmup_steps(0.0, 0.0, 101), 0);
    assert_eq!(warmup_steps(0.0, 0.07, 100), 8, "0.07 * 100 is 7.000000000000001 in Python, too");
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
    assert!(message(SchedulerType::CosineWithMinLr, json!({})).contains("one of min_lr and min_lr_rate is required"));
    assert!(message(SchedulerType::CosineWithMinLr, json!({"min_lr": 1e-5, "min_lr_rate": 0.1})).contains("only one"));
    assert!(message(SchedulerType::WarmupStableDecay, json!({})).contains("num_decay_steps is required"));
    assert!(
        message(SchedulerType::WarmupStableDecay, json!({"num_decay_steps": 2, "decay_type": "exp"}))
            .contains(r#"decay_type must be one of linear, cosine, 1-sqrt, not "exp""#)
    );
    assert!(message(SchedulerType::ReduceLrOnPlateau, json!({"factor": 1.0})).contains("smaller than 1"));
    assert!(message(SchedulerType::Cosine, json!({"num_cycles": "many"})).contains(r#"must be a number, not "many""#));
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
