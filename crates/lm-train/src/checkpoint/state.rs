//! `run_state.json`: what a run needs to go on besides the Hugging Face files, and what tells whether it may.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};

use lm_data::StreamPosition;
use serde::{Deserialize, Serialize};

use crate::observe::history::RunHistory;
use crate::optim::{GradScaler, Hyperparameters, StateTensor};
use crate::schedule::ScheduleState;

/// What must be the same for a resumed run to be the unbroken one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Digest of the training examples: text, tokenizer, lengths.
    pub data: String,
    /// `--per_device_train_batch_size`
    pub per_device_train_batch_size: usize,
    /// `--gradient_accumulation_steps`
    pub gradient_accumulation_steps: usize,
    /// Number of `--devices` of each process.
    pub num_devices: usize,
    /// Processes that train together.
    #[serde(default = "one")]
    pub ranks: usize,
    /// `--gradient_accumulation_steps` as it was given, where another number of processes changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_accumulation_steps: Option<usize>,
    /// `--data_seed`, or `--seed`: the order of the examples.
    pub data_seed: u64,
    /// `--seed`: masks and dropout.
    pub seed: u64,
    /// How examples are ordered and batches formed: `--group_by_length`, `--dataloader_drop_last`.
    pub order: String,
    /// Whether a step is the next so many examples of a shuffled epoch, however they are cut into batches.
    pub by_example: bool,
}

impl Fingerprint {
    /// What differs, in words; none when nothing does.
    pub fn difference(&self, saved: &Self) -> Option<String> {
        let mut parts = Vec::new();
        if self.data != saved.data {
            parts.push("the training examples differ (other text, tokenizer or length)".to_owned());
        }
        let compare = |parts: &mut Vec<String>, name: &str, now: String, then: String| {
            if now != then {
                parts.push(format!("--{name} is {now}, was {then}"));
            }
        };
        if !self.same_steps(saved) {
            let size = |of: &Self| of.per_device_train_batch_size.to_string();
            let accumulated = |of: &Self| of.gradient_accumulation_steps.to_string();
            compare(&mut parts, "per_device_train_batch_size", size(self), size(saved));
            compare(&mut parts, "gradient_accumulation_steps", accumulated(self), accumulated(saved));
            compare(&mut parts, "devices", self.num_devices.to_string(), saved.num_devices.to_string());
            if self.ranks != saved.ranks {
                parts.push(format!("there are {} processes, were {}", self.ranks, saved.ranks));
            }
        }
        compare(&mut parts, "seed", self.seed.to_string(), saved.seed.to_string());
        compare(&mut parts, "data_seed", self.data_seed.to_string(), saved.data_seed.to_string());
        compare(&mut parts, "group_by_length/dataloader_drop_last", self.order.clone(), saved.order.clone());
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Batches of a step.
    pub fn batches_per_step(&self) -> usize {
        self.gradient_accumulation_steps.saturating_mul(self.num_devices).saturating_mul(self.ranks)
    }

    /// Whether each step has the same examples: batches of a step may be shared out otherwise, and cut otherwise where only
    /// the order of the examples decides what a step sees.
    fn same_steps(&self, saved: &Self) -> bool {
        let examples = |of: &Self| of.batches_per_step().saturating_mul(of.per_device_train_batch_size);
        let cut_anew = self.by_example && saved.by_example;
        examples(self) == examples(saved) && (cut_anew || self.batches_per_step() == saved.batches_per_step())
    }

    /// Whether the steps are the same and the batches within them are not, which only rounding and dropout tell.
    pub fn batches_differ(&self, saved: &Self) -> bool {
        self.same_steps(saved) && self.per_device_train_batch_size != saved.per_device_train_batch_size
    }
}

/// Of checkpoints that do not tell.
fn one() -> usize {
    1
}

/// `run_state.json`: what the Hugging Face files have no place for. There is no random state: every random choice is a
/// function of the seed and the position.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunState {
    /// Of this file.
    pub version: u32,
    /// What the run must not change; Python's Trainer does not tell.
    pub fingerprint: Option<Fingerprint>,
    /// The learning-rate schedule; none beside weights alone.
    pub schedule: Option<ScheduleState>,
    /// `--optim`; none beside weights alone.
    pub optimizer: Option<String>,
    /// Steps of the optimizer on each parameter.
    pub optimizer_steps: Vec<u64>,
    /// The loss scale, with `--fp16`.
    #[serde(default)]
    pub grad_scaler: Option<GradScaler>,
    /// Place in the corpus, with `--streaming`.
    pub stream_position: Option<StreamPosition>,
    /// Sum of the losses of all steps.
    pub total_loss: f64,
    /// What the next log record is made of.
    pub since_log: SinceLog,
    /// What the report shows of the run so far.
    #[serde(default)]
    pub history: RunHistory,
    /// Whether a signal came before the evaluation that is due after this step.
    pub evaluation_due: bool,
    /// The other files of the checkpoint.
    pub files: BTreeMap<String, FileCheck>,
}

/// What a run goes on from besides the model.
pub struct Resumable {
    /// run_state.json
    pub run_state: RunState,
    /// The optimizer's tensors.
    pub optimizer: Vec<StateTensor>,
    /// The optimizer's numbers, which Python keeps beside them.
    pub hyper: Hyperparameters,
}

/// The last field of the file: CRC-32 (IEEE) of the file with zeros in place of these eight hexadecimal digits.
const SEAL: &str = "\"seal\": \"";
const ZEROS: &str = "00000000";

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Sealed<S> {
    #[serde(flatten)]
    state: S,
    seal: String,
}

impl RunState {
    /// The text of the file, which checks itself.
    ///
    /// # Errors
    /// If a value has no place in JSON.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(&Sealed { state: self, seal: ZEROS.to_owned() })? + "\n";
        let seal = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        let at = text.rfind(SEAL).map_or(text.len(), |at| at + SEAL.len());
        Ok(format!("{}{seal}{}", &text[..at], text.get(at + ZEROS.len()..).unwrap_or_default()))
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// In words, if it is not to the last bit what [`Self::to_text`] gave.
    pub fn from_text(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = || "its content is not what was written (another CRC-32): the file is damaged".to_owned();
        let text = std::str::from_utf8(text).map_err(|_| damaged())?;
        let Some(at) = text.rfind(SEAL).map(|at| at + SEAL.len()) else {
            return Err(match serde_json::from_str(text) {
                Ok(Version { version }) if version != RUN_STATE_VERSION => {
                    format!("version {version}, this program reads {RUN_STATE_VERSION}")
                }
                _ => damaged(),
            });
        };
        let seal = text.get(at..at + ZEROS.len()).ok_or_else(damaged)?;
        let blank = format!("{}{ZEROS}{}", &text[..at], &text[at + ZEROS.len()..]);
        if seal != format!("{:08x}", crc32fast::hash(blank.as_bytes())) {
            return Err(damaged());
        }
        let Sealed { state, .. } = serde_json::from_str::<Sealed<Self>>(text).map_err(|error| error.to_string())?;
        if state.version != RUN_STATE_VERSION {
            return Err(format!("version {}, this program reads {RUN_STATE_VERSION}", state.version));
        }
        Ok(state)
    }
}

/// Sums over the steps since the last log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceLog {
    /// Steps.
    pub steps: u64,
    /// Their losses.
    pub loss: f64,
    /// Their tokens, padding included.
    pub tokens: u64,
    /// Their tokens without padding.
    pub real_tokens: u64,
}

/// What tells a file of a checkpoint from a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheck {
    /// Its size.
    pub bytes: u64,
    /// Its CRC-32 (IEEE).
    pub crc32: u32,
}

impl FileCheck {
    pub(super) fn of(mut file: fs::File) -> io::Result<Self> {
        let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { bytes, crc32: hasher.finalize() }),
                read => {
                    bytes += read as u64;
                    hasher.update(&buffer[..read]);
                }
            }
        }
    }
}

/// The version of `run_state.json` that this program writes.
pub const RUN_STATE_VERSION: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::history::{Mark, Piece, Samples};

    fn fingerprint(size: usize, accumulation: usize, devices: usize) -> Fingerprint {
        Fingerprint {
            data: "text".into(),
            per_device_train_batch_size: size,
            gradient_accumulation_steps: accumulation,
            num_devices: devices,
            ranks: 1,
            asked_accumulation_steps: None,
            data_seed: 42,
            seed: 42,
            order: "false/false".into(),
            by_example: true,
        }
    }

    #[test]
    fn steps_of_the_same_examples_are_the_same_run() {
        let saved = fingerprint(1, 4, 1);
        for (size, accumulation, devices) in [(4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 1, 4)] {
            let now = fingerprint(size, accumulation, devices);
            assert_eq!(now.difference(&saved), None);
            assert_eq!(now.batches_differ(&saved), size != 1);
        }
        let more = fingerprint(4, 2, 1).difference(&saved).expect("a difference");
        assert!(more.contains("--per_device_train_batch_size is 4, was 1") && more.contains("_steps is 2"), "{more}");
        // Where batches decide what a step sees, they must stay.
        let grouped = |size, accumulation| Fingerprint { by_example: false, ..fingerprint(size, accumulation, 1) };
        assert!(grouped(4, 1).difference(&grouped(1, 4)).is_some());
        assert!(Fingerprint { num_devices: 4, ..grouped(1, 1) }.difference(&grouped(1, 4)).is_none());
        assert!(Fingerprint { ranks: 2, ..grouped(1, 2) }.difference(&grouped(1, 4)).is_none());
        let ranks = Fingerprint { ranks: 2, ..grouped(1, 4) }.difference(&grouped(1, 4)).expect("a difference");
        assert_eq!(ranks, "there are 2 processes, were 1");
    }

    /// Every single bit of the file.
    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let piece = Piece { text: "the \"seal\": \"deadbeef\" of é".into(), mark: Some(Mark::Added) };
        let state = RunState {
            version: RUN_STATE_VERSION,
            fingerprint: Some(fingerprint(4, 1, 1)),
            schedule: Some(
                crate::schedule::Schedule::new(
                    crate::schedule::SchedulerType::Linear,
                    1e-3,
                    2,
                    10,
                    &serde_json::Map::new(),
                )
                .expect("a schedule")
                .state(3),
            ),
            optimizer: Some("adamw_torch".into()),
            optimizer_steps: vec![3, 3],
            grad_scaler: None,
            stream_position: None,
            total_loss: 12.5,
            since_log: SinceLog::default(),
            history: RunHistory {
                samples: Samples { given: vec![vec![piece]], versions: Vec::new() },
                ..RunHistory::default()
            },
            evaluation_due: false,
            files: BTreeMap::from([("config.json".into(), FileCheck { bytes: 3, crc32: 7 })]),
        };
        let text = state.to_text().expect("text").into_bytes();
        let read = RunState::from_text(&text).expect("whole");
        assert_eq!(read.to_text().expect("text").into_bytes(), text);
        for bit in 0..8 * text.len() {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(RunState::from_text(&damaged).is_err(), "bit {bit}");
        }
        for end in 0..text.len() - 1 {
            assert!(RunState::from_text(&text[..end]).is_err(), "cut at {end}");
        }
        let old = String::from_utf8(text).expect("text").replace("\"seal\"", "\"other\"").replace("n\": 3", "n\": 1");
        assert_eq!(RunState::from_text(old.as_bytes()).expect_err("old"), "version 1, this program reads 3");
    }
}
