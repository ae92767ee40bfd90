//! Line charts as inline SVG, with tooltips that need no script.

use std::fmt::Write;

use super::escape;
use crate::observe::format::{count, short_number};

const HEIGHT: f64 = 225.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// More points than this are thinned out before drawing.
const MOST_POINTS: usize = 600;
/// From this many points on, a smoothed line is drawn over the raw one.
const SMOOTH_FROM: usize = 40;
/// At most so many places show a tooltip.
const MOST_TOOLTIPS: usize = 90;

/// One line of a chart.
pub(super) struct Series {
    /// What the legend calls it.
    pub name: &'static str,
    /// The style's class: `train` or `eval`.
    pub class: &'static str,
    /// Step and value, in the order of steps. Values that are no finite number leave a gap.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(_, value)| drawable(*value))
    }

    /// The value at `step`, or the last one before it.
    fn value_at(&self, step: f64) -> Option<f64> {
        let until = self.points.partition_point(|(at, _)| *at <= step);
        self.points.iter().take(until).rev().map(|(_, value)| *value).find(|value| drawable(*value))
    }
}

/// Finite, and small enough that differences and margins are, too.
fn drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// How much of a row a chart takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Width {
    /// Half of it.
    Half,
    /// A third of it.
    Third,
}

impl Width {
    /// The width of the picture, such that text is equally large in all charts of a page.
    fn units(self) -> f64 {
        match self {
            Self::Half => 520.0,
            Self::Third => 342.0,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Third => "third",
        }
    }
}

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

/// A chart over the steps of a run.
pub(super) struct Chart {
    /// What it shows, unit included.
    pub title: String,
    /// Its lines; those without points are left out.
    pub series: Vec<Series>,
    /// How values become heights.
    pub scale: Scale,
    /// Whether to draw a smoothed line over noisy values.
    pub smooth: bool,
}

impl Chart {
    /// Whether there is anything to draw.
    pub fn has_data(&self) -> bool {
        self.series.iter().any(|series| series.finite().next().is_some())
    }

    /// The chart as a `<figure>`; empty when there is nothing to draw.
    pub fn figure(&self, width: Width) -> String {
        let series: Vec<&Series> = self.series.iter().filter(|series| series.finite().next().is_some()).collect();
        let Some(axes) = Axes::around(&series, self.scale, width.units()) else {
            return String::new();
        };
        let mut legend = String::new();
        for line in &series {
            let last = line.finite().last().map_or(String::new(), |(_, value)| short_number(value));
            let key = if series.len() > 1 { line.class } else { "" };
            let _ = write!(legend, r#"<span class="key {key}">{}<b>{last}</b></span>"#, escape(line.name));
        }
        let (title, class, width) = (escape(&self.title), width.class(), axes.width);
        let mut svg = format!(r#"<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{title} over steps">"#);
        axes.draw(&mut svg);
        for line in &series {
            self.draw_line(&mut svg, line, &axes);
        }
        tooltips(&mut svg, &series, &axes);
        format!(
            r#"<figure class="card {class}"><figcaption><span>{title}</span>{legend}</figcaption>{svg}</svg></figure>"#
        )
    }

    fn draw_line(&self, svg: &mut String, series: &Series, axes: &Axes) {
        let class = series.class;
        let smooth = self.smooth && series.points.len() >= SMOOTH_FROM;
        let raw = if smooth { "raw" } else { "line" };
        let _ = write!(svg, r#"<path class="{raw} {class}" d="{}"/>"#, path(&thinned(&series.points), axes));
        if smooth {
            let smoothed = smoothed(&series.points, axes.log);
            let _ = write!(svg, r#"<path class="line {class}" d="{}"/>"#, path(&thinned(&smoothed), axes));
        }
        if series.points.len() <= 24 {
            for (step, value) in series.finite() {
                let (x, y) = (axes.x(step), axes.y(value));
                let _ = write!(svg, r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
            }
        }
    }
}

/// Where steps and values lie in the picture.
struct Axes {
    width: f64,
    steps: (f64, f64),
    values: (f64, f64),
    log: bool,
}

impl Axes {
    fn around(series: &[&Series], scale: Scale, width: f64) -> Option<Self> {
        let points = || series.iter().flat_map(|series| series.finite());
        let mut values: Vec<f64> = points().map(|(_, value)| value).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &greatest) = (values.first()?, values.last()?);
        let median = values.get(values.len() / 2).copied().unwrap_or(greatest);
        let log = least > 0.0
            && match scale {
                Scale::Log => greatest > 2.0 * least,
                Scale::FromZeroUnlessSpread => greatest > 20.0 * median,
                Scale::Range | Scale::FromZero => false,
            };
        let last_step = points().map(|(step, _)| step).fold(0.0, f64::max);
        let first_step = points().map(|(step, _)| step).fold(last_step, f64::min);
        // The first logged step is close enough to 0 to begin there, unless the run is a later piece of another.
        let first_step = if first_step <= 0.25 * last_step { 0.0 } else { first_step };
        let (low, high) = match scale {
            _ if log => (least * 0.9, greatest * 1.1),
            Scale::FromZero | Scale::FromZeroUnlessSpread if least >= 0.0 => (0.0, greatest * 1.05),
            _ => {
                let margin = 0.06 * (greatest - least);
                (least - margin, greatest + margin)
            }
        };
        // One value, or one step: give it room.
        let (low, high) =
            if high > low { (low, high) } else { (low - 0.5 * low.abs().max(1e-9), high + 0.5 * high.abs().max(1e-9)) };
        let steps = if last_step > first_step { (first_step, last_step) } else { (first_step - 1.0, last_step + 1.0) };
        Some(Self { width, steps, values: (low, high), log })
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.steps.0) / (self.steps.1 - self.steps.0) * (self.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share =
            if self.log { (value.ln() - low.ln()) / (high.ln() - low.ln()) } else { (value - low) / (high - low) };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, svg: &mut String) {
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

/// Keeps the least and the greatest point of each of many short stretches, so that spikes stay visible.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    points
        .chunks(stretch)
        .flat_map(|chunk| {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (least, greatest) = (chunk.iter().min_by(by_value), chunk.iter().max_by(by_value));
            let mut kept: Vec<(f64, f64)> = least.into_iter().chain(greatest).copied().collect();
            kept.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            kept.dedup();
            kept
        })
        .collect()
}

/// The mean over about a thirtieth of the points, as many before as after each, so that the line does not lag behind.
/// Of logarithms when the axis is logarithmic.
fn smoothed(points: &[(f64, f64)], log: bool) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(_, value)| drawable(*value)).collect();
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    for (_, value) in &points {
        sum += if log { value.ln() } else { *value };
        sums.push(sum);
    }
    let half = (points.len() / 60).max(2);
    let mean = |(index, (step, value)): (usize, &(f64, f64))| {
        let reach = half.min(index).min(points.len() - 1 - index);
        match (sums.get(index + reach + 1), sums.get(index - reach)) {
            (Some(end), Some(begin)) => {
                let mean = (end - begin) / (2 * reach + 1) as f64;
                (*step, if log { mean.exp() } else { mean })
            }
            _ => (*step, *value),
        }
    };
    points.iter().enumerate().map(mean).collect()
}

/// The `d` of a path; a gap where a value is no finite number.
fn path(points: &[(f64, f64)], axes: &Axes) -> String {
    let mut path = String::new();
    let mut command = 'M';
    for &(step, value) in points {
        if drawable(value) {
            let _ = write!(path, "{command}{:.1} {:.1}", axes.x(step), axes.y(value));
            command = 'L';
        } else {
            command = 'M';
        }
    }
    path
}

/// Invisible columns over the chart; the one under the pointer shows step and values.
fn tooltips(svg: &mut String, series: &[&Series], axes: &Axes) {
    let mut steps: Vec<f64> = series.iter().flat_map(|series| series.finite()).map(|(step, _)| step).collect();
    steps.sort_unstable_by(f64::total_cmp);
    steps.dedup();
    let every = steps.len().div_ceil(MOST_TOOLTIPS).max(1);
    // Counted from the end: the last value is the one most asked for.
    let mut steps: Vec<f64> = steps.iter().rev().step_by(every).copied().collect();
    steps.reverse();
    let middle = |a: f64, b: f64| (axes.x(a) + axes.x(b)) / 2.0;
    for (index, &step) in steps.iter().enumerate() {
        let begin =
            index.checked_sub(1).and_then(|before| steps.get(before)).map_or(LEFT, |&before| middle(before, step));
        let end = steps.get(index + 1).map_or(axes.width - RIGHT, |&after| middle(step, after));
        let x = axes.x(step);
        let rows: Vec<(&Series, f64)> =
            series.iter().filter_map(|series| Some((*series, series.value_at(step)?))).collect();
        let (box_width, box_height) = (132.0, 24.0 + 15.0 * rows.len() as f64);
        let box_x = if x > axes.width / 2.0 { x - box_width - 8.0 } else { x + 8.0 };
        let _ = write!(
            svg,
            r#"<g class="tip"><rect class="hit" x="{begin:.1}" y="{TOP}" width="{:.1}" height="{}"/><g class="show"><line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{}"/>"#,
            (end - begin).max(0.0),
            HEIGHT - TOP - BOTTOM,
            HEIGHT - BOTTOM
        );
        for (series, value) in &rows {
            let _ =
                write!(svg, r#"<circle class="dot {}" cx="{x:.1}" cy="{:.1}" r="3.5"/>"#, series.class, axes.y(*value));
        }
        let _ = write!(
            svg,
            r#"<rect class="box" x="{box_x:.1}" y="{TOP}" width="{box_width}" height="{box_height}" rx="5"/><text x="{:.1}" y="{}">step {}</text>"#,
            box_x + 9.0,
            TOP + 16.0,
            count(step as u64)
        );
        for (row, (series, value)) in rows.iter().enumerate() {
            let _ = write!(
                svg,
                r#"<text class="{}" x="{:.1}" y="{}">{} {}</text>"#,
                series.class,
                box_x + 9.0,
                TOP + 31.0 + 15.0 * row as f64,
                escape(series.name),
                short_number(*value)
            );
        }
        svg.push_str("</g></g>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(points: Vec<(f64, f64)>, scale: Scale) -> Chart {
        Chart {
            title: "Loss".to_owned(),
            series: vec![Series { name: "train", class: "train", points }],
            scale,
            smooth: true,
        }
    }

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

    #[test]
    fn nothing_to_draw_is_no_chart() {
        assert!(!chart(Vec::new(), Scale::Range).has_data());
        let gaps = chart(vec![(1.0, f64::NAN)], Scale::Log);
        assert!(!gaps.has_data() && gaps.figure(Width::Half).is_empty());
    }

    #[test]
    fn spikes_survive_thinning() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|step| (f64::from(step), if step == 7777 { 50.0 } else { 1.0 })).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(7777.0, 50.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn the_smoothed_line_does_not_lag() {
        let falling: Vec<(f64, f64)> = (0..200).map(|step| (f64::from(step), 10.0 - 0.01 * f64::from(step))).collect();
        for ((_, smooth), (_, raw)) in smoothed(&falling, false).iter().zip(&falling) {
            assert!((smooth - raw).abs() < 1e-9, "{smooth} is not {raw}");
        }
        let noisy: Vec<(f64, f64)> =
            (0..200).map(|step| (f64::from(step), if step % 2 == 0 { 1.0 } else { 100.0 })).collect();
        let middle = smoothed(&noisy, true).get(100).expect("a point").1;
        assert!((5.0..20.0).contains(&middle), "about the geometric mean: {middle}");
    }

    proptest! {
        /// Whatever is logged, the picture stays inside its frame and holds no NaN.
        #[test]
        fn any_values_give_a_sound_picture(
            values in proptest::collection::vec(prop_oneof![
                -1e9_f64..1e9, Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(1e300), Just(1e-300), Just(-1e300),
            ], 1..60),
            scale in prop_oneof![Just(Scale::Range), Just(Scale::FromZero), Just(Scale::FromZeroUnlessSpread), Just(Scale::Log)],
            first in 0_u32..1000,
        ) {
            let points = values.iter().enumerate().map(|(i, &value)| (f64::from(first) + i as f64, value)).collect();
            let figure = chart(points, scale).figure(Width::Third);
            prop_assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
        }
    }
}
