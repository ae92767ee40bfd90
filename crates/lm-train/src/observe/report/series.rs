//! One line of a chart: its points, fewer of them, and their mean.

/// Step and value.
pub(super) type Point = (f64, f64);

/// One line of a chart.
pub(super) struct Series {
    /// What the legend calls it.
    pub name: String,
    /// The style's class, which has its colour: `train`, `eval`, or `c0` and so on.
    pub class: String,
    /// In the order of steps. Values that are no finite number leave a gap.
    pub points: Vec<Point>,
}

impl Series {
    pub fn new(name: &str, class: &str, points: Vec<Point>) -> Self {
        Self { name: name.to_owned(), class: class.to_owned(), points }
    }

    pub fn finite(&self) -> impl Iterator<Item = Point> {
        self.points.iter().copied().filter(|(_, value)| drawable(*value))
    }
}

/// Finite, and small enough that differences and margins are, too.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// At most `most` points: the last, and the least and the greatest of each of many short stretches, so that spikes stay
/// visible.
pub(super) fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil((most - 1) / 2);
    let of_stretch = |stretch: &[Point]| {
        let by_value = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let (least, greatest) = (stretch.iter().min_by(by_value), stretch.iter().max_by(by_value));
        least.into_iter().chain(greatest).copied().collect::<Vec<_>>()
    };
    let mut kept: Vec<Point> = points.chunks(stretch).flat_map(of_stretch).chain(points.last().copied()).collect();
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept.dedup();
    kept
}

/// The mean over about a thirtieth of the points, as many before as after each, so that the line does not lag behind.
/// Of logarithms when the axis is logarithmic. It begins and ends where there are enough points on both sides.
pub(super) fn smoothed(points: &[Point], log: bool) -> Vec<Point> {
    let points: Vec<Point> = points.iter().copied().filter(|(_, value)| drawable(*value)).collect();
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    for (_, value) in &points {
        sum += if log { value.ln() } else { *value };
        sums.push(sum);
    }
    let half = (points.len() / 60).max(2);
    let mean = |(index, (step, _)): (usize, &Point)| {
        let (begin, end) = (sums.get(index.checked_sub(half)?)?, sums.get(index + half + 1)?);
        let mean = (end - begin) / (2 * half + 1) as f64;
        Some((*step, if log { mean.exp() } else { mean }))
    };
    points.iter().enumerate().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_and_the_end_survive_thinning() {
        for length in [300, 301, 599, 10_000] {
            let points: Vec<Point> = (0..length)
                .map(|step| (f64::from(step), if step == 277 { 50.0 } else { f64::from(step % 7) }))
                .collect();
            let thin = thinned(&points, 300);
            assert!(thin.len() <= 300 && thin.len() > 100, "{} of {length}", thin.len());
            assert!(thin.contains(&(277.0, 50.0)) && thin.last() == points.last());
            assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn the_smoothed_line_does_not_lag() {
        let falling: Vec<Point> = (0..200).map(|step| (f64::from(step), 10.0 - 0.01 * f64::from(step))).collect();
        let smooth = smoothed(&falling, false);
        assert_eq!((smooth.len(), smooth[0].0), (194, 3.0), "without ends that would be as noisy as the points");
        for ((_, smooth), (_, raw)) in smooth.iter().zip(&falling[3..]) {
            assert!((smooth - raw).abs() < 1e-9, "{smooth} is not {raw}");
        }
        let noisy: Vec<Point> =
            (0..200).map(|step| (f64::from(step), if step % 2 == 0 { 1.0 } else { 100.0 })).collect();
        let middle = smoothed(&noisy, true).get(97).expect("a point").1;
        assert!((5.0..20.0).contains(&middle), "about the geometric mean: {middle}");
    }
}
