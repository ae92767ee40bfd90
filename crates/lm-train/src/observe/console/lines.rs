//! Log records as short lines.

use crate::observe::format::{compact, duration, short_number};
use crate::observe::{LogRecord, LogValue, TrainerState};
use crate::sys::escape;

/// A record as people read it: `step 50/800  loss 6.436  lr 1.8e-3  12.8k tok/s`, or a block of samples. What does not fit
/// into `width` columns is left out from the end on; log.jsonl has all.
pub(super) fn of_record(
    record: &LogRecord,
    state: &TrainerState,
    seconds_left: Option<f64>,
    width: Option<usize>,
) -> String {
    let texts: Vec<&str> = record.iter().filter_map(|(name, value)| sample(name, value)).collect();
    if !texts.is_empty() {
        return format!("{}samples\n{}", step(state), samples(texts, width));
    }
    let get = |name: &str| record.get(name);
    let mut fields = Vec::new();
    if let Some(value) = get("loss") {
        fields.push(loss("loss", value));
        fields.extend(get("learning_rate").map(rate));
        fields.extend(get(LogRecord::TOKENS_PER_SECOND).map(speed));
        fields.extend(seconds_left.map(|seconds| format!("left {}", duration(seconds))));
    } else if let Some(value) = get("eval_loss") {
        fields.push(loss("eval_loss", value));
        fields.extend(get(LogRecord::PERPLEXITY).map(|value| format!("perplexity {}", short(value))));
        fields.extend(get("eval_accuracy").map(|value| format!("accuracy {value:.3}")));
        fields.extend(get("eval_runtime").map(|seconds| format!("in {}", duration(seconds))));
    } else {
        let others = record.iter().filter(|(name, _)| !["step", "epoch"].contains(name));
        fields.extend(others.map(|(name, value)| match value {
            LogValue::Text(text) => format!("{name} {}", escape::visible(text)),
            LogValue::Integer(count) => format!("{name} {count}"),
            LogValue::Number(number) => format!("{name} {}", short_number(*number)),
        }));
    }
    let mut line = step(state);
    for (index, field) in fields.iter().enumerate() {
        let needed = line.chars().count() + field.chars().count();
        if index > 0 && width.is_some_and(|width| needed > width) {
            break;
        }
        line = format!("{line}{field}  ");
    }
    line.trim_end().to_owned()
}

fn step(state: &TrainerState) -> String {
    if state.max_steps > 0 { format!("step {}/{}  ", state.global_step, state.max_steps) } else { String::new() }
}

/// `loss 6.436`.
pub(super) fn loss(name: &str, value: f64) -> String {
    match value.abs() {
        1.0.. => format!("{name} {value:.3}"),
        _ => format!("{name} {value:.4}").replace("NaN", "nan"),
    }
}

/// `lr 1.8e-3`.
pub(super) fn rate(value: f64) -> String {
    match value {
        0.0 => "lr 0".to_owned(),
        _ => format!("lr {}", format!("{value:.1e}").replace(".0e", "e")),
    }
}

/// `12.8k tok/s`.
pub(super) fn speed(tokens_per_second: f64) -> String {
    format!("{} tok/s", compact(tokens_per_second))
}

/// Four digits, or a power of ten.
fn short(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{value:.2e}"),
        100.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}").replace("NaN", "nan"),
    }
}

fn sample<'a>(name: &str, value: &'a LogValue) -> Option<&'a str> {
    match value {
        LogValue::Text(text) if name.starts_with("sample_") => Some(text),
        _ => None,
    }
}

/// Numbered texts, each line of which is indented; broken between words where a terminal is `width` columns wide.
pub fn samples<'a>(texts: impl IntoIterator<Item = &'a str>, width: Option<usize>) -> String {
    let block = |(index, text): (usize, &str)| {
        let text = escape::visible(text);
        let mut lines = text.lines().flat_map(|line| wrapped(line, width.map(|width| width.saturating_sub(5))));
        let first = format!("{:>3}  {}", index + 1, lines.next().unwrap_or_default());
        lines.fold(first, |block, line| format!("{block}\n     {line}"))
    };
    texts.into_iter().enumerate().map(block).collect::<Vec<_>>().join("\n")
}

/// A line in pieces of at most so many columns; a longer word is a piece of its own.
fn wrapped(line: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return vec![line.to_owned()] };
    let mut pieces = vec![String::new()];
    for word in line.split(' ') {
        let columns = |text: &str| console::measure_text_width(text);
        match pieces.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if columns(last) + 1 + columns(word) <= width => *last += &format!(" {word}"),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TrainerState {
        TrainerState { global_step: 50, max_steps: 800, epoch: Some(0.5), ..TrainerState::default() }
    }

    #[test]
    fn a_record_is_one_short_line() {
        let record = state().log(
            LogRecord::new()
                .with("loss", 6.436_02)
                .with("grad_norm", 1.234_56)
                .with("learning_rate", 1.8375e-3)
                .with(LogRecord::TOKENS_PER_SECOND, 12_845.6)
                .with(LogRecord::MEMORY, 3_u64 << 29),
        );
        let line = |width| of_record(&record, &state(), Some(723.0), width);
        assert_eq!(line(None), "step 50/800  loss 6.436  lr 1.8e-3  12.8k tok/s  left 0:12:03");
        assert_eq!(line(Some(60)), "step 50/800  loss 6.436  lr 1.8e-3  12.8k tok/s");
        assert_eq!(line(Some(45)), "step 50/800  loss 6.436  lr 1.8e-3");
        assert_eq!(line(Some(10)), "step 50/800  loss 6.436", "the loss is always there");
    }

    #[test]
    fn an_evaluation_is_one_short_line() {
        let record = LogRecord::new()
            .with("eval_loss", 0.586_64)
            .with("eval_accuracy", 0.096_713)
            .with(LogRecord::PERPLEXITY, 353.063)
            .with("eval_runtime", 61.2)
            .with("eval_samples_per_second", 2202.1);
        let line = |width| of_record(&record, &state(), None, width);
        assert_eq!(line(None), "step 50/800  eval_loss 0.5866  perplexity 353.1  accuracy 0.097  in 0:01:01");
        assert_eq!(line(Some(50)), "step 50/800  eval_loss 0.5866  perplexity 353.1");
        let nothing = LogRecord::new().with("eval_loss", f64::NAN).with("note", 3_u64);
        assert_eq!(of_record(&nothing, &TrainerState::default(), None, None), "eval_loss nan");
    }

    #[test]
    fn samples_are_a_block() {
        let record = LogRecord::new()
            .with("sample_1", "Once upon a time\nthere was".to_owned())
            .with("sample_2", "x\u{1b}[2Jy".to_owned());
        let block = of_record(&record, &state(), None, Some(16));
        assert_eq!(block, "step 50/800  samples\n  1  Once upon a\n     time\n     there was\n  2  x\\u{1b}[2Jy");
    }

    #[test]
    fn rates_and_losses_of_any_size() {
        assert_eq!([0.0, 5e-5, 1.0, 2.5e-12].map(rate), ["lr 0", "lr 5e-5", "lr 1e0", "lr 2.5e-12"]);
        assert_eq!(loss("loss", f64::INFINITY), "loss inf");
        assert_eq!([12.5, 1e9].map(short), ["12.500", "1.00e9"]);
    }
}
