//! The architectures, one file each; relatives that are one another's code under other names share a file.

mod auto;
pub(crate) mod bert;
mod distilbert;
pub(crate) mod gpt;
mod gpt2;
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
    &xlnet::XLNET,
];

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::ModelConfig;
    use crate::parameters::{Initial, Kind, ParameterInfo};

    /// All parameters of a small model of each family, tied and untied.
    fn parameters() -> impl Iterator<Item = (&'static str, ParameterInfo)> {
        FAMILIES.iter().flat_map(|family| [(*family, true), (*family, false)]).flat_map(|(family, tied)| {
            let mut config = ModelConfig::from_model_type(family.model_type).expect("a family of the list");
            for (name, value) in
                [("vocab_size", 50), ("hidden_size", 8), ("num_attention_heads", 2), ("num_hidden_layers", 2)]
            {
                config.set(name, value);
            }
            config.set("tie_word_embeddings", tied);
            let model = (family.build)(&config, &Device::flex()).expect("a model");
            model.parameters().into_iter().map(|info| (family.model_type, info))
        })
    }

    /// `get_decay_parameter_names` of transformers 4.57: all but those of `nn.LayerNorm` and those whose names say so.
    #[test]
    fn weight_decay_is_pythons() {
        for (model_type, ParameterInfo { name, kind, .. }) in parameters() {
            let lower = name.to_lowercase();
            let exempt = ["bias", "layernorm", "rmsnorm"].iter().any(|word| lower.contains(word))
                || lower.split('.').any(|part| part == "norm" || part.ends_with("_norm"));
            assert_eq!(kind.decays(), !exempt && kind != Kind::Norm, "{model_type} {name}");
        }
    }

    /// `_init_weights` of some families, by the names of their parameters.
    #[test]
    fn initial_values_are_pythons() {
        let (std, layers) = (0.02, 2.0f64);
        for (model_type, ParameterInfo { name, kind, initial, .. }) in parameters() {
            let of_norm = kind == Kind::Norm;
            let padding = match model_type {
                "bert" | "distilbert" if name.ends_with("word_embeddings.weight") => Some(0),
                "roberta" | "xlm-roberta" | "camembert" => Some(1).filter(|_| {
                    name.ends_with("word_embeddings.weight") || name.ends_with("position_embeddings.weight")
                }),
                "bert" | "distilbert" | "openai-gpt" | "gpt2" | "xlnet" => None,
                _ => continue,
            };
            let expected = match (name.rsplit('.').next(), padding) {
                (Some("bias"), _) => Initial::Zeros,
                (_, Some(zero_row)) => Initial::NormalExceptRow { std, zero_row },
                _ if of_norm => Initial::Ones,
                _ if model_type == "gpt2" && name.ends_with("c_proj.weight") => {
                    Initial::Normal(std / (2.0 * layers).sqrt())
                }
                _ => Initial::Normal(std),
            };
            assert_eq!(initial, expected, "{model_type} {name}");
        }
    }

    #[test]
    fn entries_say_what_they_are() {
        for family in FAMILIES {
            assert!(![family.model_type, family.class, family.base_model_prefix].contains(&""), "{family:?}");
        }
    }
}
