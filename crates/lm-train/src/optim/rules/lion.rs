//! The sign of the momentum (Chen et al., 2023).

use crate::optim::rule::{Rule, Slot};

pub(super) const RULE: Rule = Rule {
    slots: |_, _| const { &[Slot::whole("exp_avg")] },
    update: |p, g, slots, update| {
        let (lr, decay) = (update.learning_rate, update.hyper.weight_decay);
        let (beta1, beta2) = (update.hyper.adam_beta1, update.hyper.adam_beta2);
        let g = update.scaled(g);
        let m = slots.take_whole("exp_avg", update, &g.device());
        let direction = (m.clone() * beta1 + g.clone() * (1.0 - beta1)).sign();
        let p = if decay == 0.0 { p } else { p * (1.0 - lr * decay) };
        slots.put("exp_avg", m * beta2 + g * (1.0 - beta2));
        p - direction * lr
    },
};
