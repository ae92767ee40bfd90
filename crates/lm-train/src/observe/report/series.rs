//! One line of a chart: its points, fewer of them, and their mean.

/// More points than this are thinned out before drawing.
const MOST_POINTS: usize = 600;

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
    pub fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(_, value)| drawable(*value))
    }

    /// The value at `step`, or the last one before it.
    pub fn value_at(&self, step: f64) -> Option<f64> {
        let until = self.points.partition_point(|(at, _)| *at <= step);
        self.points.iter().take(until).rev().map(|(_, value)| *value).find(|value| drawable(*value))
    }
}

/// Finite, and small enough that differences and margins are, too.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// Keeps the least and the greatest point of each of many short stretches, so that spikes stay visible.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
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
pub(super) fn smoothed(points: &[(f64, f64)], log: bool) -> Vec<(f64, f64)> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
