//! What the report keeps of a run beside Python's log; part of `run_state.json`, so that a resumed run shows all of it.

use serde::{Deserialize, Serialize};

use super::curve::Curve;

/// Texts of different steps at most.
const MOST_VERSIONS: usize = 4;
/// Events at most; the oldest checkpoints go first.
const MOST_EVENTS: usize = 200;

/// Curve, events and texts of a run since its first step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunHistory {
    /// Loss and its companions.
    pub curve: Curve,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// What the model makes of a few texts.
    pub samples: Samples,
}

/// Something that happened after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The last whole step before it.
    pub step: u64,
    /// What it is.
    pub what: What,
}

/// What may happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A checkpoint is complete on disk.
    Checkpoint,
    /// A process went on from a checkpoint.
    Resumed,
    /// A signal ended the process.
    Stopped,
}

/// A few texts, and what the model makes of them as it learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// What the model is given.
    pub given: Vec<Text>,
    /// The step, and what the model made of each text after it; 0 is before training.
    pub versions: Vec<(u64, Vec<Text>)>,
}

/// A text, piece by piece.
pub type Text = Vec<Piece>;

/// A part of a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// The part as the tokenizer writes it.
    pub text: String,
    /// What it has to do with the model; none for what it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// What a piece has to do with the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A true token that the model has to find.
    Hidden {
        /// What stands in its place: the mask, another token, or the token itself.
        seen: String,
    },
    /// The model's likeliest token, which is the true one.
    Right {
        /// What the model gives it, 0 to 1.
        probability: f32,
    },
    /// The model's likeliest token, which is not the true one.
    Wrong {
        /// What the model gives it, 0 to 1.
        probability: f32,
        /// The true token.
        truth: String,
        /// What the model gives that.
        of_truth: f32,
    },
    /// Tokens that the model went on with.
    Added,
}

impl RunHistory {
    /// Notes that something happened after `step`.
    pub fn note(&mut self, step: u64, what: What) {
        self.events.push(Event { step, what });
        if self.events.len() > MOST_EVENTS {
            let oldest = self.events.iter().position(|event| event.what == What::Checkpoint).unwrap_or(0);
            self.events.remove(oldest);
        }
    }
}

impl Samples {
    /// Adds what the model made of the texts after `step`. Of too many versions the one whose neighbours are nearest to each
    /// other goes; the first and the last stay.
    pub fn add(&mut self, step: u64, texts: Vec<Text>) {
        self.versions.retain(|(at, _)| *at < step);
        self.versions.push((step, texts));
        if self.versions.len() > MOST_VERSIONS {
            let gap = |index: &usize| self.versions[index + 1].0 - self.versions[index - 1].0;
            if let Some(index) = (1..self.versions.len() - 1).min_by_key(gap) {
                self.versions.remove(index);
            }
        }
    }
}

/// The text of all pieces.
pub fn joined(text: &Text) -> String {
    text.iter().map(|piece| piece.text.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_versions_spread_over_the_run() {
        let mut samples = Samples::default();
        for step in (0..=5000).step_by(100) {
            samples.add(step, Vec::new());
        }
        let steps: Vec<u64> = samples.versions.iter().map(|(step, _)| *step).collect();
        assert_eq!((steps.len(), steps[0], steps[3]), (MOST_VERSIONS, 0, 5000));
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 3000), "{steps:?}");
        samples.add(5000, vec![vec![Piece::default()]]);
        assert_eq!(samples.versions.last().map(|(_, texts)| texts.len()), Some(1), "the same step again counts");
        assert_eq!(samples.versions.len(), MOST_VERSIONS);
    }

    #[test]
    fn of_many_events_the_oldest_checkpoints_go() {
        let mut history = RunHistory::default();
        history.note(5, What::Resumed);
        (1..=300).for_each(|step| history.note(step, What::Checkpoint));
        assert_eq!(history.events.len(), MOST_EVENTS);
        assert_eq!((history.events[0].what, history.events[1].step), (What::Resumed, 102));
    }
}
