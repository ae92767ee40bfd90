//! Where steps and values lie in a picture, and what is written beside it.

use std::fmt::Write;

use super::series::Series;
use crate::observe::format::short_number;

pub(super) const HEIGHT: f64 = 225.0;
pub(super) const LEFT: f64 = 50.0;
pub(super) const RIGHT: f64 = 12.0;
pub(super) const TOP: f64 = 10.0;
pub(super) const BOTTOM: f64 = 26.0;

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// From the least to the greatest value.
    Range,
    /// From zero.
    FromZero,
    /// From zero, or logarithmic when few values are much greater than the rest.
    FromZeroUnlessSpread,
    /// Logarithmic.
    Log,
}

/// Where steps and values lie in the picture.
pub(super) struct Axes {
    pub width: f64,
    steps: (f64, f64),
    values: (f64, f64),
    pub log: bool,
}

impl Axes {
    /// Axes for all values of these lines and these levels, over the steps of a page's charts.
    pub fn around(series: &[&Series], levels: &[f64], steps: (f64, f64), scale: Scale, width: f64) -> Option<Self> {
        let mut values: Vec<f64> = series.iter().flat_map(|series| series.finite()).map(|(_, value)| value).collect();
        if !values.is_empty() {
            values.extend(levels);
        }
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &greatest) = (values.first()?, values.last()?);
        let median = values.get(values.len() / 2).copied().unwrap_or(greatest);
        let log = least > 0.0
            && match scale {
                Scale::Log => greatest > 2.0 * least,
                Scale::FromZeroUnlessSpread => greatest > 20.0 * median,
                Scale::Range | Scale::FromZero => false,
            };
        let (low, high) = match scale {
            _ if log => (least * 0.9, greatest * 1.1),
            Scale::FromZero | Scale::FromZeroUnlessSpread if least >= 0.0 => (0.0, greatest * 1.05),
            _ => {
                let margin = 0.06 * (greatest - least);
                (least - margin, greatest + margin)
            }
        };
        // One value: give it room.
        let (low, high) =
            if high > low { (low, high) } else { (low - 0.5 * low.abs().max(1e-9), high + 0.5 * high.abs().max(1e-9)) };
        Some(Self { width, steps, values: (low, high), log })
    }

    /// The steps of several charts that lie above one another.
    pub fn steps_of<'a>(series: impl Iterator<Item = &'a Series>) -> (f64, f64) {
        let steps = series.flat_map(|series| series.finite()).map(|(step, _)| step);
        let (first, last) = steps.fold((f64::MAX, 0.0), |(first, last), step| (step.min(first), step.max(last)));
        let first = first.min(last);
        // The first step is close enough to 0 to begin there, unless the run is a later piece of another.
        let first = if first <= 0.25 * last { 0.0 } else { first };
        // One step: give it room.
        if last > first { (first, last) } else { (first - 1.0, last + 1.0) }
    }

    /// For the script: the steps of the left and right end, where these are, and top and bottom.
    pub fn for_script(&self) -> String {
        let (first, last) = self.steps;
        format!("{first} {last} {LEFT} {} {TOP} {}", self.width - RIGHT, HEIGHT - BOTTOM)
    }

    pub fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.steps.0) / (self.steps.1 - self.steps.0) * (self.width - LEFT - RIGHT)
    }

    pub fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share =
            if self.log { (value.ln() - low.ln()) / (high.ln() - low.ln()) } else { (value - low) / (high - low) };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    pub fn draw(&self, svg: &mut String) {
        let values = if self.log { log_ticks(self.values) } else { ticks(self.values, 8.0) };
        for value in values {
            let (y, right) = (self.y(value), self.width - RIGHT);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                y + 3.5,
                axis_label(value)
            );
        }
        let (bottom, baseline) = (HEIGHT - 8.0, HEIGHT - BOTTOM);
        let _ = write!(
            svg,
            r#"<line class="axis" x1="{LEFT}" x2="{}" y1="{baseline}" y2="{baseline}"/><text class="tick" x="{}" y="{bottom}" text-anchor="end">step</text>"#,
            self.width - RIGHT,
            LEFT - 18.0
        );
        for step in ticks(self.steps, self.width / 75.0).into_iter().filter(|step| *step >= 0.0 && step.fract() == 0.0)
        {
            let _ = write!(
                svg,
                r#"<text class="tick" x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
                self.x(step),
                bottom,
                axis_label(step)
            );
        }
    }
}

/// Round numbers inside a range: 1, 2 or 5 times a power of ten apart, at most about `most` of them.
fn ticks((low, high): (f64, f64), most: f64) -> Vec<f64> {
    let rough = (high - low) / most;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * magnitude);
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    (0..=(last - first).clamp(0.0, 20.0) as usize)
        .map(|index| (first + index as f64) * step)
        .filter(|tick| *tick <= high)
        .collect()
}

/// Powers of ten inside a range, with 2 and 5 times them when there are few.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = last - first;
    let factors: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = (decades / 6).max(1);
    (first..=last)
        .filter(|power| (power - first) % every == 0)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// `1.5`, `20k`, `3M`, `5e-5`.
fn axis_label(value: f64) -> String {
    let (divisor, suffix) = match value.abs() {
        size if size > 0.0 && size < 1e-3 => return format!("{value:.1e}").replace(".0e", "e"),
        size if size >= 1e12 => (1.0, ""),
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{}{suffix}", short_number(value / divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 10.0), 5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks((3.1, 4.9), 5.0), [3.5, 4.0, 4.5]);
        assert_eq!(ticks((1.0, 1.0), 5.0), Vec::<f64>::new());
        assert_eq!(log_ticks((45.0, 31_000.0)), [100.0, 1000.0, 10_000.0]);
        assert_eq!(log_ticks((45.0, 450.0)), [50.0, 100.0, 200.0]);
    }

    #[test]
    fn axis_labels_are_short() {
        let labels = [0.0, 0.5, 9000.0, 20_000.0, 1.5e6, 5e-5, 2e9].map(axis_label);
        assert_eq!(labels, ["0", "0.5", "9000", "20k", "1.5M", "5e-5", "2G"]);
    }
}
