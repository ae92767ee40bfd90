//! Running squares (Tieleman and Hinton, 2012), as `torch.optim.RMSprop`.

use crate::optim::rule::{Rule, Slot};

/// What is kept of the squares so far.
pub(crate) const ALPHA: f64 = 0.99;
/// Added to their root.
pub(crate) const EPS: f64 = 1e-8;

pub(super) const RULE: Rule = Rule {
    slots: |_, _| const { &[Slot::whole("square_avg")] },
    update: |p, g, slots, update| {
        let g = update.with_decay(g, &p);
        let square =
            slots.take_whole("square_avg", update, &g.device()) * ALPHA + g.clone() * g.clone() * (1.0 - ALPHA);
        slots.put("square_avg", square.clone());
        p - g / (square.sqrt() + EPS) * update.learning_rate
    },
};
