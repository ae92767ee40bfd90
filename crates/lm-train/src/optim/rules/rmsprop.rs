//! Running squares (Tieleman and Hinton, 2012), as `torch.optim.RMSprop`.

use crate::optim::rule::Rule;

pub(super) const RULE: Rule = Rule {
    slots: |_| &["square_avg"],
    update: |p, g, slots, update| {
        let g = update.with_decay(g, &p);
        let square = slots.take("square_avg", update, &g) * 0.99 + g.clone() * g.clone() * 0.01;
        slots.put("square_avg", square.clone());
        p - g / (square.sqrt() + 1e-8) * update.learning_rate
    },
};
