//! Plain stochastic gradient descent, as `torch.optim.SGD`.

use crate::optim::rule::Rule;

pub(super) const RULE: Rule = Rule {
    slots: |_, _| &[],
    update: |p, g, _, update| {
        let g = update.with_decay(g, &p);
        p - g * update.learning_rate
    },
};
