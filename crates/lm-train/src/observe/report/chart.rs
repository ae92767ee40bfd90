//! Line charts as inline SVG, with tooltips that need no script.

use std::fmt::Write;

use super::axes::{Axes, BOTTOM, HEIGHT, LEFT, RIGHT, Scale, TOP};
use super::html::escape;
use super::series::{Series, drawable, smoothed, thinned};
use crate::observe::format::{count, short_number};

/// From this many points on, a smoothed line is drawn over the raw one.
const SMOOTH_FROM: usize = 40;
/// At most so many places show a tooltip.
const MOST_TOOLTIPS: usize = 90;

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
    fn nothing_to_draw_is_no_chart() {
        assert!(!chart(Vec::new(), Scale::Range).has_data());
        let gaps = chart(vec![(1.0, f64::NAN)], Scale::Log);
        assert!(!gaps.has_data() && gaps.figure(Width::Half).is_empty());
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
