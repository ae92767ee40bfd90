//! Factored second moments (Shazeer and Stern, 2018): `transformers.Adafactor(scale_parameter=False,
//! relative_step=False)`, which is how the Trainer calls it.

use burn::tensor::Tensor;

use crate::optim::rule::{Layout, Rule, Slot, Slots, Update};

/// Added to the squares.
pub(crate) const EPS: f64 = 1e-30;
/// The largest root mean square of a change, in learning rates.
pub(crate) const CLIP_THRESHOLD: f64 = 1.0;
/// The power of the step by which the share of new squares falls.
pub(crate) const DECAY_RATE: f64 = -0.8;

/// Means of the rows.
const ROW: Slot = Slot { name: "exp_avg_sq_row", layout: Layout::Rows };
/// Means of the columns.
const COL: Slot = Slot { name: "exp_avg_sq_col", layout: Layout::Columns };

pub(super) const RULE: Rule = Rule {
    slots: |shape, _| if shape.len() >= 2 { &[ROW, COL] } else { const { &[Slot::whole("exp_avg_sq")] } },
    update: |p, g, slots, update| {
        let (lr, decay) = (update.learning_rate, update.hyper.weight_decay);
        let direction = direction(update.scaled(g), slots, update);
        let rms = (direction.clone() * direction.clone()).mean().sqrt();
        let change = direction / (rms / CLIP_THRESHOLD).clamp_min(1.0) * lr;
        let p = if decay == 0.0 { p } else { p.clone() - p * (decay * lr) };
        p - change
    },
};

/// The gradient over the root of its squares' running mean, of a matrix that of its rows times that of its columns.
fn direction(g: Tensor<1>, slots: &mut Slots, update: &Update) -> Tensor<1> {
    let beta2 = 1.0 - f64::from(update.step).powf(DECAY_RATE);
    let squares = g.clone() * g.clone() + EPS;
    let [.., rows, columns] = update.shape[..] else {
        let v = slots.take_whole("exp_avg_sq", update, &g.device()) * beta2 + squares * (1.0 - beta2);
        slots.put("exp_avg_sq", v.clone());
        return g / v.sqrt();
    };
    let outer = squares.dims()[0] / (rows * columns).max(1);
    let squares = squares.reshape([outer, rows, columns]);
    let device = g.device();
    let mut take = |slot: Slot| slots.take(slot.name, slot.layout, update, &device);
    let (row, col) = (take(ROW), take(COL));
    let row = row * beta2 + squares.clone().mean_dim(2).flatten(0, 2) * (1.0 - beta2);
    let col = col * beta2 + squares.mean_dim(1).flatten(0, 2) * (1.0 - beta2);
    let r = row.clone().reshape([outer, rows, 1]);
    let r = (r.clone() / r.mean_dim(1)).sqrt().recip();
    let c = col.clone().reshape([outer, 1, columns]).sqrt().recip();
    slots.put(ROW.name, row);
    slots.put(COL.name, col);
    (r * c).flatten::<1>(0, 2) * g
}
