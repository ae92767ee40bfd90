//! AdamW with moments of 8 bits (Dettmers et al., 2022), as bitsandbytes' `AdamW(optim_bits=8)`: its names, and float32 for
//! small parameters; and for embeddings, as Python's Trainer asks of it.

use lm_models::ops;
use lm_models::parameters::Kind;

use crate::optim::rule::{Layout, Rule, Slot, count};

/// bitsandbytes' `min_8bit_size`
const MIN_8BIT_SIZE: usize = 4096;

const MEAN: [&str; 2] = ["state1", "absmax1"];
const SQUARE: [&str; 2] = ["state2", "absmax2"];

const SMALL: &[Slot] = &[Slot::whole(MEAN[0]), Slot::whole(SQUARE[0])];
const LARGE: &[Slot] = &[
    Slot { name: MEAN[0], layout: Layout::Codes },
    Slot { name: MEAN[1], layout: Layout::Blocks },
    Slot { name: SQUARE[0], layout: Layout::Codes },
    Slot { name: SQUARE[1], layout: Layout::Blocks },
];

/// Whether a parameter's moments are float32.
fn whole(shape: &[usize], kind: Kind) -> bool {
    count(shape) < MIN_8BIT_SIZE || kind == Kind::Embedding
}

pub(super) const RULE: Rule = Rule {
    slots: |shape, kind| if whole(shape, kind) { SMALL } else { LARGE },
    update: |p, g, slots, update| {
        let (device, options) = (g.device(), update.numbers());
        if whole(update.shape, update.kind) {
            let mut take = |[name, _]: [&'static str; 2]| slots.take_whole(name, update, &device);
            let (m, v) = (take(MEAN), take(SQUARE));
            let (p, m, v) = update.by_adamw([p, m, v, g]);
            slots.put(MEAN[0], m);
            slots.put(SQUARE[0], v);
            return p;
        }
        let mut take = |names| slots.take_quantized(names, update, &device);
        let (m, v) = (take(MEAN), take(SQUARE));
        let (p, m, v) = ops::adamw_8bit(p, m, v, g, options, update.compute);
        slots.put_quantized(MEAN, m);
        slots.put_quantized(SQUARE, v);
        p
    },
};

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::cell::RefCell;

    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::optim::OptimizerNames::{self, Adamw8bit, AdamwTorch};
    use crate::optim::rule::{Hyperparameters, Kept, Slots, Update};

    /// Bytes that a step leaves for a parameter of this shape.
    fn held(optimizer: OptimizerNames, shape: &[usize], kind: Kind) -> u64 {
        let (device, mut slots) = (Device::flex(), Slots::default());
        let (step, factor, learning_rate) = (1, 1.0, 1e-3);
        let (hyper, compute) = (Hyperparameters::default(), ops::Compute::default());
        let adamw = &RefCell::default();
        let update = Update { shape, kind, step, factor, learning_rate, hyper, compute, adamw };
        let ones = Tensor::ones([count(shape)], &device);
        (optimizer.rule().update)(ones.clone(), ones, &mut slots, &update);
        let bytes = |slot: &Slot| match slots.get(slot.name).expect("kept") {
            Kept::Float(tensor) => tensor.to_data().as_bytes().len() as u64,
            Kept::Codes(tensor) => tensor.to_data().as_bytes().len() as u64,
        };
        (optimizer.rule().slots)(shape, kind).iter().map(bytes).sum()
    }

    #[test]
    fn large_parameters_take_a_quarter() {
        for (shape, kind, share) in [
            (&[4095][..], Kind::Weight, 1.0),
            (&[4096], Kind::Weight, 0.26),
            (&[4097], Kind::Weight, 0.26),
            (&[3, 100, 200], Kind::Head, 0.26),
            (&[300, 200], Kind::Embedding, 1.0),
        ] {
            let (ours, float32) = (held(Adamw8bit, shape, kind), held(AdamwTorch, shape, kind));
            assert!(ours as f64 <= share * float32 as f64, "{shape:?}: {ours} of {float32} bytes");
            assert_eq!((ours, float32), (Adamw8bit.state_bytes(shape, kind), AdamwTorch.state_bytes(shape, kind)));
        }
    }
}
