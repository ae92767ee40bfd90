//! The values of `--optim`: a file and a line each.

pub(crate) mod adafactor;
pub(crate) mod adagrad;
mod adamw;
mod adamw_8bit;
mod lion;
pub(crate) mod rmsprop;
mod sgd;

use std::fmt;

use lm_models::parameters::Kind;

use crate::optim::rule::Rule;

/// The optimizers, named as in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerNames {
    /// AdamW.
    AdamwTorch,
    /// AdamW: the same numbers, fused where the backend can.
    AdamwTorchFused,
    /// Adafactor with Python's settings (`scale_parameter` and `relative_step` off).
    Adafactor,
    /// Plain stochastic gradient descent.
    Sgd,
    /// Adagrad: squares of the gradients, added up.
    Adagrad,
    /// AdamW with moments of 8 bits.
    AdamwBnb8bit,
    /// The same.
    Adamw8bit,
    /// RMSprop: squares of the gradients, averaged.
    RmsProp,
    /// Lion: the sign of the momentum.
    Lion,
}

impl OptimizerNames {
    /// All of them, in Python's order.
    pub const ALL: &[Self] = &[
        Self::AdamwTorch,
        Self::AdamwTorchFused,
        Self::Adafactor,
        Self::Sgd,
        Self::Adagrad,
        Self::AdamwBnb8bit,
        Self::Adamw8bit,
        Self::RmsProp,
        Self::Lion,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    pub(crate) fn rule(self) -> &'static Rule {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static Rule) {
        match self {
            Self::AdamwTorch => ("adamw_torch", &adamw::RULE),
            Self::AdamwTorchFused => ("adamw_torch_fused", &adamw::RULE),
            Self::Adafactor => ("adafactor", &adafactor::RULE),
            Self::Sgd => ("sgd", &sgd::RULE),
            Self::Adagrad => ("adagrad", &adagrad::RULE),
            Self::AdamwBnb8bit => ("adamw_bnb_8bit", &adamw_8bit::RULE),
            Self::Adamw8bit => ("adamw_8bit", &adamw_8bit::RULE),
            Self::RmsProp => ("rmsprop", &rmsprop::RULE),
            Self::Lion => ("lion_32bit", &lion::RULE),
        }
    }

    /// The one name of those that mean the same numbers.
    pub fn canonical(self) -> Self {
        match self {
            Self::AdamwTorchFused => Self::AdamwTorch,
            Self::AdamwBnb8bit => Self::Adamw8bit,
            other => other,
        }
    }

    /// Bytes of state for a parameter of this shape and kind, however large, for the plans of disk and memory.
    pub fn state_bytes(self, shape: &[usize], kind: Kind) -> u64 {
        (self.rule().slots)(shape, kind).iter().map(|slot| slot.layout.bytes(shape)).fold(0, u64::saturating_add)
    }
}

impl fmt::Display for OptimizerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
