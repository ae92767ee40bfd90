//! Accumulated squares (Duchi et al., 2011), as `torch.optim.Adagrad`.

use crate::optim::rule::{Rule, Slot};

/// Added to the root of the squares.
pub(crate) const EPS: f64 = 1e-10;

pub(super) const RULE: Rule = Rule {
    slots: |_, _| const { &[Slot::whole("sum")] },
    update: |p, g, slots, update| {
        let g = update.with_decay(g, &p);
        let sum = slots.take_whole("sum", update, &g.device()) + g.clone() * g.clone();
        slots.put("sum", sum.clone());
        p - g / (sum.sqrt() + EPS) * update.learning_rate
    },
};
