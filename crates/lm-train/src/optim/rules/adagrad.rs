//! Accumulated squares (Duchi et al., 2011), as `torch.optim.Adagrad`.

use crate::optim::rule::Rule;

pub(super) const RULE: Rule = Rule {
    slots: |_| &["sum"],
    update: |p, g, slots, update| {
        let g = update.with_decay(g, &p);
        let sum = slots.take("sum", update, &g) + g.clone() * g.clone();
        slots.put("sum", sum.clone());
        p - g / (sum.sqrt() + 1e-10) * update.learning_rate
    },
};
