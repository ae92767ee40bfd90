//! Decoupled weight decay (Loshchilov and Hutter, 2019), as torch computes it.

use crate::optim::rule::{Rule, Slot};

pub(super) const RULE: Rule = Rule {
    slots: |_, _| const { &[Slot::whole("exp_avg"), Slot::whole("exp_avg_sq")] },
    update: |p, g, slots, update| {
        let (m, v) =
            (slots.take_whole("exp_avg", update, &g.device()), slots.take_whole("exp_avg_sq", update, &g.device()));
        let (p, m, v) = update.by_adamw([p, m, v, g]);
        slots.put("exp_avg", m);
        slots.put("exp_avg_sq", v);
        p
    },
};
