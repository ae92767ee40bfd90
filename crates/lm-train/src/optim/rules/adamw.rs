//! Decoupled weight decay (Loshchilov and Hutter, 2019), as torch computes it.

use lm_models::ops;

use crate::optim::rule::Rule;

pub(super) const RULE: Rule = Rule {
    slots: |_| &["exp_avg", "exp_avg_sq"],
    update: |p, g, slots, update| {
        let (m, v) = (slots.take("exp_avg", update, &g), slots.take("exp_avg_sq", update, &g));
        let options = ops::AdamW {
            learning_rate: update.learning_rate,
            beta1: update.hyper.adam_beta1,
            beta2: update.hyper.adam_beta2,
            epsilon: update.hyper.adam_epsilon,
            weight_decay: update.hyper.weight_decay,
            step: update.step,
            factor: update.factor,
        };
        let (p, m, v) = ops::adamw(p, m, v, g, options, update.compute);
        slots.put("exp_avg", m);
        slots.put("exp_avg_sq", v);
        p
    },
};
