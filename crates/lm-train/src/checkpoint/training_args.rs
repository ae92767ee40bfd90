//! training_args.bin: the `TrainingArguments` of Python's Trainer, as a version of transformers from 4.57 on makes them up
//! from their names and values. Their `__init__` is not called, so what it would have put in place is here.

use serde_json::{Map, Value as Json};

use super::torch_save::{Class, Value};

const TRAINING_ARGUMENTS: Class = ("transformers.training_args", "TrainingArguments");

/// Fields whose values are members of an enumeration.
const ENUMS: [(&str, Class); 6] = [
    ("eval_strategy", ("transformers.trainer_utils", "IntervalStrategy")),
    ("logging_strategy", ("transformers.trainer_utils", "IntervalStrategy")),
    ("save_strategy", ("transformers.trainer_utils", "SaveStrategy")),
    ("lr_scheduler_type", ("transformers.trainer_utils", "SchedulerType")),
    ("hub_strategy", ("transformers.trainer_utils", "HubStrategy")),
    ("optim", ("transformers.training_args", "OptimizerNames")),
];

/// What the file holds for these arguments, by Python's names.
pub(super) fn value(arguments: &Map<String, Json>) -> Value<'static> {
    let mut attributes: Vec<(String, Value)> = arguments.iter().map(|(name, value)| field(name, value)).collect();
    let is = |name: &str| arguments.get(name) == Some(&Json::Bool(true));
    let precision = match (is("fp16"), is("bf16")) {
        (true, _) => "fp16",
        (_, true) => "bf16",
        _ => "no",
    };
    let made = [
        ("fsdp", Value::List(Vec::new())),
        ("fsdp_config", fsdp_config()),
        ("accelerator_config", Value::Made(("transformers.trainer_pt_utils", "AcceleratorConfig"), None)),
        ("distributed_state", Value::None),
        ("deepspeed_plugin", Value::None),
        ("fsdp_plugin_args", Value::None),
        ("mixed_precision", Value::Text(precision.to_owned())),
    ];
    attributes.extend(made.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(TRAINING_ARGUMENTS, attributes)
}

fn field(name: &str, value: &Json) -> (String, Value<'static>) {
    let value = match ENUMS.iter().find(|(of, _)| *of == name) {
        Some((_, class)) => Value::Made(*class, Some(Box::new(plain(value)))),
        None => plain(value),
    };
    (name.to_owned(), value)
}

/// What 4.57 makes of no `fsdp_config`.
fn fsdp_config() -> Value<'static> {
    let flags = ["xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt"].map(|name| (name.to_owned(), Value::Bool(false)));
    let sizes = [("min_num_params".to_owned(), Value::Int(0))];
    Value::Dict(sizes.into_iter().chain(flags).collect())
}

/// A value of JSON in Python's types.
fn plain(value: &Json) -> Value<'static> {
    match value {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(values) => Value::List(values.iter().map(plain).collect()),
        Json::Object(entries) => {
            Value::Dict(entries.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_pythons_types() {
        let arguments = json!({
            "output_dir": "out", "bf16": true, "max_steps": -1, "learning_rate": 5e-5, "optim": "adamw_torch",
            "hub_token": null, "report_to": ["tensorboard"], "lr_scheduler_kwargs": {"num_cycles": 2},
        });
        let Value::Object(class, attributes) = value(arguments.as_object().expect("an object")) else { panic!() };
        assert_eq!(class, TRAINING_ARGUMENTS);
        let of = |name: &str| attributes.iter().find(|(of, _)| of == name).map(|(_, value)| value);
        assert!(matches!(of("output_dir"), Some(Value::Text(text)) if text == "out"));
        assert!(matches!(of("bf16"), Some(Value::Bool(true))));
        assert!(matches!(of("max_steps"), Some(Value::Int(-1))));
        assert!(matches!(of("learning_rate"), Some(Value::Float(5e-5))));
        assert!(matches!(of("hub_token"), Some(Value::None)));
        assert!(matches!(of("report_to"), Some(Value::List(of)) if matches!(&of[..], [Value::Text(_)])));
        assert!(matches!(of("lr_scheduler_kwargs"), Some(Value::Dict(of)) if matches!(of[0].1, Value::Int(2))));
        assert!(matches!(of("mixed_precision"), Some(Value::Text(text)) if text == "bf16"));
        let Some(Value::Made(("transformers.training_args", "OptimizerNames"), Some(name))) = of("optim") else {
            panic!()
        };
        assert!(matches!(&**name, Value::Text(text) if text == "adamw_torch"));
    }
}
