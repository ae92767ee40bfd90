//! Line charts as inline SVG.

use std::fmt::Write;

use super::axes::{Axes, BOTTOM, HEIGHT, LEFT, RIGHT, Scale, TOP};
use super::html::escape;
use super::series::{Point, Series, drawable, smoothed};
use crate::observe::format::{count, short_number};
use crate::observe::history::{Event, What};

/// From this many points on, a smoothed line is drawn over the raw one.
const SMOOTH_FROM: usize = 40;

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

/// A chart over the steps of a run, or of several.
pub(super) struct Chart {
    /// What it shows, unit included.
    pub title: String,
    /// Its lines; those without points are left out.
    pub series: Vec<Series>,
    /// How values become heights.
    pub scale: Scale,
    /// Whether to draw a smoothed line over noisy values.
    pub smooth: bool,
    /// A value to compare with, and what it is.
    pub level: Option<(&'static str, f64)>,
}

impl Chart {
    /// Whether there is anything to draw.
    pub fn has_data(&self) -> bool {
        self.series.iter().any(|series| series.finite().next().is_some())
    }

    /// The chart as a `<figure>`; empty when there is nothing to draw.
    pub fn figure(&self, width: Width, steps: (f64, f64), events: &[Event]) -> String {
        let series: Vec<&Series> = self.series.iter().filter(|series| series.finite().next().is_some()).collect();
        let level = self.level.filter(|(_, value)| drawable(*value));
        let levels: Vec<f64> = level.iter().map(|(_, value)| *value).collect();
        let Some(axes) = Axes::around(&series, &levels, steps, self.scale, width.units()) else {
            return String::new();
        };
        let mut legend = String::new();
        for line in &series {
            let last = line.finite().last().map_or(String::new(), |(_, value)| short_number(value));
            let key = if series.len() > 1 { line.class.as_str() } else { "" };
            let _ = write!(legend, r#"<span class="key {key}">{}<b>{last}</b></span>"#, escape(&line.name));
        }
        let (title, class, width) = (escape(&self.title), width.class(), axes.width);
        let mut svg = format!(
            r#"<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{title} over steps" data-axis="{}">"#,
            axes.for_script()
        );
        axes.draw(&mut svg);
        draw_events(&mut svg, events, &axes);
        if let Some((name, value)) = level {
            let (y, right) = (axes.y(value), width - RIGHT);
            let _ = write!(
                svg,
                r#"<line class="level" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{right}" y="{:.1}" text-anchor="end">{} {}</text>"#,
                y - 5.0,
                escape(name),
                short_number(value)
            );
        }
        for line in &series {
            self.draw_line(&mut svg, line, &axes);
        }
        format!(
            r#"<figure class="card {class}"><figcaption><span>{title}</span>{legend}</figcaption>{svg}</svg></figure>"#
        )
    }

    fn draw_line(&self, svg: &mut String, series: &Series, axes: &Axes) {
        let class = &series.class;
        let smooth = self.smooth && series.points.len() >= SMOOTH_FROM;
        let raw = if smooth { "raw" } else { "line" };
        let steps: Vec<String> = series.finite().map(|(step, _)| step.to_string()).collect();
        let values: Vec<String> = series.finite().map(|(_, value)| short_number(value)).collect();
        let _ = write!(
            svg,
            r#"<path class="{raw} {class}" data-line="{class}" data-steps="{}" data-values="{}" d="{}"/>"#,
            steps.join(" "),
            values.join(" "),
            path(&series.points, axes)
        );
        if smooth {
            let smoothed = smoothed(&series.points, axes.log);
            let _ = write!(svg, r#"<path class="line {class}" d="{}"/>"#, path(&smoothed, axes));
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
fn path(points: &[Point], axes: &Axes) -> String {
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

/// Checkpoints as marks on the axis, resumes and stops as lines.
fn draw_events(svg: &mut String, events: &[Event], axes: &Axes) {
    let bottom = HEIGHT - BOTTOM;
    for event in events {
        let (x, step) = (axes.x(event.step as f64), count(event.step));
        if !(LEFT - 1.0..=axes.width - RIGHT + 1.0).contains(&x) {
            continue;
        }
        let _ = match event.what {
            What::Checkpoint => write!(
                svg,
                r#"<path class="checkpoint" d="M{x:.1} {bottom}l-3.5 6h7z"><title>checkpoint {step}</title></path>"#
            ),
            What::Resumed | What::Stopped => {
                let (class, what) =
                    if event.what == What::Resumed { ("resumed", "resumed from") } else { ("stopped", "stopped at") };
                write!(
                    svg,
                    r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"><title>{what} step {step}</title></line>"#
                )
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(points: Vec<Point>, scale: Scale) -> Chart {
        Chart {
            title: "Loss".to_owned(),
            series: vec![Series::new("train", "train", points)],
            scale,
            smooth: true,
            level: Some(("unigram", 100.0)),
        }
    }

    fn figure(chart: &Chart, events: &[Event]) -> String {
        chart.figure(Width::Third, Axes::steps_of(chart.series.iter()), events)
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        assert!(!chart(Vec::new(), Scale::Range).has_data());
        let gaps = chart(vec![(1.0, f64::NAN)], Scale::Log);
        assert!(!gaps.has_data() && figure(&gaps, &[]).is_empty());
    }

    #[test]
    fn what_happened_is_marked_at_its_step() {
        let events = [(5, What::Checkpoint), (5, What::Stopped), (5, What::Resumed), (50, What::Checkpoint)];
        let events = events.map(|(step, what)| Event { step, what });
        let html = figure(&chart((0..=10).map(|step| (f64::from(step), 1.0)).collect(), Scale::Range), &events);
        for part in ["checkpoint 5<", "stopped at step 5<", "resumed from step 5<", "unigram 100<"] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("checkpoint 50"), "beyond the last step");
    }

    #[test]
    fn the_script_finds_a_step_and_a_value_for_each_place_of_a_line() {
        let html = figure(&chart(vec![(1.0, 2.5), (2.0, f64::NAN), (3.0, 1e-5)], Scale::Range), &[]);
        assert!(html.contains(r#"data-steps="1 3" data-values="2.5 1e-05" d="M"#), "{html}");
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
            let figure = figure(&chart(points, scale), &[]);
            prop_assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
        }
    }
}
