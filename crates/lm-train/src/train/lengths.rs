//! How batches make steps, and steps epochs.

/// How many steps make what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// Batches of an epoch; none of a stream.
    pub batches_per_epoch: Option<u64>,
    /// Batches of a step: `--gradient_accumulation_steps` on each device.
    pub batches_per_step: u64,
}

impl Lengths {
    /// Optimizer steps of an epoch; the last may have fewer batches than the others.
    pub fn steps_per_epoch(&self) -> Option<u64> {
        Some(self.batches_per_epoch?.div_ceil(self.batches_per_step).max(1))
    }

    /// Epochs after `step` steps, the current one as a fraction; of a stream, as a share of the run (Python takes a
    /// stream for one epoch of `max_steps`).
    pub fn epoch(&self, step: u64, max_steps: u64) -> f64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => {
                let within = ((step % steps) * self.batches_per_step).min(batches);
                (step / steps) as f64 + within as f64 / batches as f64
            }
            _ => step as f64 / max_steps.max(1) as f64,
        }
    }

    /// Batches of the step with this index, from 0.
    pub fn batches_of(&self, step: u64) -> u64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => {
                (batches - (step % steps) * self.batches_per_step).min(self.batches_per_step)
            }
            _ => self.batches_per_step,
        }
    }

    /// Batches of all steps before this one.
    pub fn batches_before(&self, step: u64) -> u64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => step / steps * batches + step % steps * self.batches_per_step,
            _ => step * self.batches_per_step,
        }
    }

    /// The numbers of the batches, from this step on and without end, that are those of `rank` of so many ranks: every
    /// `ranks`-th of each step.
    pub fn batches_of_rank(self, first_step: u64, rank: usize, ranks: usize) -> impl Iterator<Item = u64> + Send {
        (first_step..).flat_map(move |step| {
            let first = self.batches_before(step);
            (first + rank as u64..first + self.batches_of(step)).step_by(ranks)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_partition_the_batches_of_every_epoch() {
        for batches in 1..20 {
            for batches_per_step in 1..6 {
                let lengths = Lengths { batches_per_epoch: Some(batches), batches_per_step };
                let mut before = 0;
                for step in 0..40 {
                    assert_eq!(lengths.batches_before(step), before, "{batches} {batches_per_step} {step}");
                    before += lengths.batches_of(step);
                }
                let steps = lengths.steps_per_epoch().unwrap();
                assert_eq!(lengths.batches_before(3 * steps), 3 * batches);
                assert_eq!(lengths.epoch(2 * steps, 0), 2.0);
            }
        }
    }
    #[test]
    fn ranks_share_the_batches_of_each_step() {
        let lengths = Lengths { batches_per_epoch: Some(7), batches_per_step: 4 };
        let of = |rank, ranks| lengths.batches_of_rank(1, rank, ranks).take(4).collect::<Vec<_>>();
        assert_eq!(of(0, 1), [4, 5, 6, 7]);
        assert_eq!(of(0, 2), [4, 6, 7, 9]);
        assert_eq!(of(1, 2), [5, 8, 10, 12]);
        assert_eq!(of(3, 4), [10, 17, 24, 31], "none of the epoch's last step");
    }
}
