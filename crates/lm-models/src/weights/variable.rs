//! What the variables of TensorFlow 1 programs are called in PyTorch, and how they lie there.

/// The rule of an architecture: from a variable's name to a tensor's.
pub type Variables = fn(&str) -> Variable;

/// A variable as PyTorch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The tensor's name; of [`Form::PerLayer`] with `*` where the layer's number goes.
    pub name: String,
    /// How its values become the tensor's.
    pub form: Form,
}

/// How the values of a variable become a tensor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Same,
    /// The axes the other way round.
    Transposed,
    /// Without axes of one entry.
    Squeezed,
    /// The first axis counts layers, each of which has a tensor of its own.
    PerLayer,
}

impl Variable {
    /// A tensor with the values as they are.
    pub fn same(name: &str) -> Self {
        Self { name: name.to_owned(), form: Form::Same }
    }
}

/// The rule of BERT's program, and of those that were made from it (`load_tf_weights_in_bert` in modeling_bert.py of
/// transformers 4.57): scopes are modules, `layer_0` is the first of a list, and what a layer calls `kernel` is transposed.
pub fn by_scopes(variable: &str) -> Variable {
    let mut parts = Vec::new();
    for scope in variable.split('/') {
        match scope {
            "kernel" | "gamma" | "output_weights" => parts.push("weight"),
            "beta" | "output_bias" => parts.push("bias"),
            _ => match scope.split_once('_').filter(|(list, number)| is_word(list) && is_number(number)) {
                Some((list, number)) => parts.extend([list, number]),
                None => parts.push(scope),
            },
        }
    }
    let last = variable.rsplit('/').next().unwrap_or_default();
    if last.ends_with("_embeddings") {
        parts.push("weight");
    }
    let form = if last == "kernel" { Form::Transposed } else { Form::Same };
    Variable { name: parts.join("."), form }
}

/// Whether it is of letters alone.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether it is of digits alone.
pub fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_modules() {
        for (variable, name, form) in [
            ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight", Form::Same),
            (
                "bert/encoder/layer_11/attention/self/query/kernel",
                "bert.encoder.layer.11.attention.self.query.weight",
                Form::Transposed,
            ),
            ("bert/embeddings/LayerNorm/beta", "bert.embeddings.LayerNorm.bias", Form::Same),
            ("cls/predictions/output_bias", "cls.predictions.bias", Form::Same),
            ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight", Form::Same),
        ] {
            assert_eq!(by_scopes(variable), Variable { name: name.to_owned(), form });
        }
    }
}
