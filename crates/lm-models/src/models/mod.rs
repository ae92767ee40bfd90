//! The architectures, one file each; relatives that are one another's code under other names share a file.

mod auto;
pub(crate) mod bert;
mod distilbert;
pub(crate) mod gpt;
mod gpt2;
mod gpt_neo;
mod roberta;
mod xlnet;

use crate::config::Family;

pub use auto::{family, known_model_types, model_type_in};

/// All of them. A new one is a file and a line here.
pub static FAMILIES: &[&Family] = &[
    &bert::BERT,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &roberta::CAMEMBERT,
    &distilbert::DISTILBERT,
    &gpt::OPENAI_GPT,
    &gpt2::GPT2,
    &gpt_neo::GPT_NEO,
    &xlnet::XLNET,
];

#[cfg(test)]
mod tests;
