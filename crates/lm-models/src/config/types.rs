//! Numbers of a config.json that say by their type what they may be. The message of one that is not names the field,
//! see [`super::ModelConfig::parse`].

use std::num::NonZeroUsize;

use serde::Deserialize;

/// The largest number of things: ids and positions are 32-bit numbers.
const MOST: u64 = i32::MAX as u64;

/// A number of things of which there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Count(usize);

impl Count {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<u64> for Count {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number > MOST { Err(format!("is more than the {MOST} that can be had")) } else { Ok(Self(number as usize)) }
    }
}

/// A number of things of which there is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Count")]
pub struct Size(NonZeroUsize);

impl Size {
    /// The number.
    pub fn get(self) -> usize {
        self.0.get()
    }
}

impl TryFrom<Count> for Size {
    type Error = &'static str;

    fn try_from(count: Count) -> Result<Self, &'static str> {
        NonZeroUsize::new(count.0).map(Self).ok_or("must be at least 1")
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Probability(f64);

impl Probability {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = &'static str;

    fn try_from(number: f64) -> Result<Self, &'static str> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err("must lie in 0 to 1") }
    }
}
