//! The types whose values are names: Python's enums and `choices`.

use lm_data::source::SampleBy;
use lm_models::adapter::LoraBias;
use serde_json::Value as Json;

use super::value::{Value, not_a};
use crate::optim::OptimizerNames;
use crate::schedule::SchedulerType;

/// Reads and writes a type by the names of its values.
macro_rules! by_name {
    ($name:ident, $all:expr, $as_str:expr, [$($absent:literal),*], $why:expr) => {
        impl Value for $name {
            const TYPE: &'static str = stringify!($name);

            fn expected() -> String {
                format!("one of {}", Self::choices().join(", "))
            }

            fn choices() -> Vec<&'static str> {
                $all.iter().copied().map($as_str).collect()
            }

            fn from_word(word: &str) -> Result<Self, String> {
                let absent: &[&str] = &[$($absent),*];
                if absent.contains(&word) {
                    return Err(format!("'{word}' is not supported by this program{}; expected {}", $why, Self::expected()));
                }
                let named = $all.iter().copied().find(|value| $as_str(*value) == word);
                named.ok_or_else(|| not_a::<Self>(word))
            }

            fn to_json(&self) -> Json {
                Json::from($as_str(*self))
            }
        }
    };
}

by_name!(SampleBy, SampleBy::ALL, SampleBy::as_str, [], "");
by_name!(LoraBias, [LoraBias::None, LoraBias::All, LoraBias::LoraOnly], LoraBias::name, [], "");
by_name!(SchedulerType, SchedulerType::ALL, SchedulerType::name, ["greedy"], "");
by_name!(
    OptimizerNames,
    OptimizerNames::ALL,
    OptimizerNames::as_str,
    [
        "adamw_torch_xla",
        "adamw_torch_npu_fused",
        "adamw_apex_fused",
        "adamw_anyprecision",
        "adamw_torch_4bit",
        "adamw_torch_8bit",
        "ademamix",
        "ademamix_8bit",
        "lion_8bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "paged_ademamix_32bit",
        "paged_ademamix_8bit",
        "paged_lion_32bit",
        "paged_lion_8bit",
        "rmsprop_bnb",
        "rmsprop_bnb_8bit",
        "rmsprop_bnb_32bit",
        "galore_adamw",
        "galore_adamw_8bit",
        "galore_adafactor",
        "galore_adamw_layerwise",
        "galore_adamw_8bit_layerwise",
        "galore_adafactor_layerwise",
        "lomo",
        "adalomo",
        "grokadamw",
        "schedule_free_radam",
        "schedule_free_adamw",
        "schedule_free_sgd",
        "apollo_adamw",
        "apollo_adamw_layerwise",
        "stable_adamw"
    ],
    ""
);

/// Defines a type whose values are names: Python's enums and `choices`. The names after `but not` exist in Python only,
/// for the reason after `because`.
macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident {
            $( $(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal, )+
        } $( but not [$($absent:literal),+] $( because $why:literal )? )?
    )+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $variant_doc])+ $variant, )+ }

        impl $name {
            /// Every value, in Python's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Python's name of the value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        by_name!($name, $name::ALL, $name::as_str, [$($($absent),+)?], concat!("" $($(, ": ", $why)?)?));
    )+ };
}

choices! {
    /// How an adapter's pairs start.
    LoraInit {
        /// A as torch's linear layers, B at zero.
        Default = "default",
        /// A normal with standard deviation 1 / r, B at zero.
        Gaussian = "gaussian",
    } but not ["pissa", "olora", "eva", "corda", "loftq", "orthogonal"]
        because "it changes the base's weights, or looks at them or at data first"
    /// What frozen weights lie in.
    BaseDtype {
        /// Four bytes a value.
        Float32 = "float32",
        /// Two bytes a value.
        Bfloat16 = "bfloat16",
    }
    /// When to evaluate or to log.
    IntervalStrategy {
        /// Never.
        No = "no",
        /// Every N optimizer steps.
        Steps = "steps",
        /// At the end of every epoch.
        Epoch = "epoch",
    }
    /// When to save a checkpoint.
    SaveStrategy {
        /// Never.
        No = "no",
        /// Every N optimizer steps.
        Steps = "steps",
        /// At the end of every epoch.
        Epoch = "epoch",
        /// Whenever an evaluation sets a new best value of `metric_for_best_model`.
        Best = "best",
    }
    /// In which order training walks its examples.
    SamplingStrategy {
        /// Shuffled anew in every epoch.
        Random = "random",
        /// As stored.
        Sequential = "sequential",
        /// Those of similar length in one batch.
        GroupByLength = "group_by_length",
    } but not ["batch_rebalance"] because "it makes batches of differing sizes, and here every batch has per_device_train_batch_size examples"
    /// How much a GPU backend measures to choose its kernels.
    Autotune {
        /// As little as it can.
        Minimal = "minimal",
        /// Whatever may pay.
        Full = "full",
    }
    /// How much the program says.
    LogLevel {
        /// Everything, with its place in the source.
        Detail = "detail",
        /// Everything.
        Debug = "debug",
        /// Progress and settings.
        Info = "info",
        /// Only what may be wrong.
        Warning = "warning",
        /// Only what went wrong.
        Error = "error",
        /// Only what ends the run.
        Critical = "critical",
        /// The program's own choice: `info`.
        Passive = "passive",
    }
    /// The precision that weights are loaded in.
    Dtype {
        /// What the checkpoint says.
        Auto = "auto",
        /// 16 bits, 8 of them exponent.
        Bfloat16 = "bfloat16",
        /// 16 bits, 5 of them exponent.
        Float16 = "float16",
        /// 32 bits.
        Float32 = "float32",
    }
    /// When Python uploads to the Hub.
    HubStrategy {
        /// At the end.
        End = "end",
        /// With every checkpoint.
        EverySave = "every_save",
        /// With every checkpoint, the newest one included as a folder.
        Checkpoint = "checkpoint",
        /// With every checkpoint, all of them included as folders.
        AllCheckpoints = "all_checkpoints",
    }
}
