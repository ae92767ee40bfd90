//! The architectures, one file each; relatives that are one another's code under other names share a file.

mod albert;
mod auto;
pub(crate) mod bert;
mod big_bird;
mod biogpt;
mod bloom;
mod convbert;
mod ctrl;
mod deberta;
mod distilbert;
mod electra;
mod ernie;
mod esm;
mod falcon;
mod gemma;
pub(crate) mod gpt;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod llama;
mod longformer;
mod megatron_bert;
mod mobilebert;
mod modernbert;
mod mpnet;
mod olmo2;
mod opt;
mod phi;
mod phi3;
mod rembert;
mod roberta;
mod roberta_prelayernorm;
mod roformer;
mod stablelm;
mod starcoder2;
mod xlm;
mod xlm_roberta_xl;
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
    &mpnet::MPNET,
    &deberta::DEBERTA,
    &deberta::DEBERTA_V2,
    &modernbert::MODERNBERT,
    &esm::ESM,
    &xlm::XLM,
    &xlm::FLAUBERT,
    &gpt::OPENAI_GPT,
    &gpt2::GPT2,
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::QWEN2,
    &llama::QWEN3,
    &llama::SMOLLM3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3_TEXT,
    &phi3::PHI3,
    &olmo2::OLMO2,
    &granite::GRANITE,
    &gpt_neo::GPT_NEO,
    &gptj::GPTJ,
    &gpt_neox::GPT_NEOX,
    &opt::OPT,
    &biogpt::BIOGPT,
    &bloom::BLOOM,
    &ctrl::CTRL,
    &falcon::FALCON,
    &phi::PHI,
    &stablelm::STABLELM,
    &starcoder2::STARCODER2,
    &xlnet::XLNET,
    &electra::ELECTRA,
    &albert::ALBERT,
    &mobilebert::MOBILEBERT,
    &ernie::ERNIE,
    &megatron_bert::MEGATRON_BERT,
    &roberta::DATA2VEC_TEXT,
    &roberta_prelayernorm::ROBERTA_PRELAYERNORM,
    &xlm_roberta_xl::XLM_ROBERTA_XL,
    &rembert::REMBERT,
    &roformer::ROFORMER,
    &convbert::CONVBERT,
    &longformer::LONGFORMER,
    &big_bird::BIG_BIRD,
];

#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod tests;
