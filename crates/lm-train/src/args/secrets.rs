//! The secrets of a command line: learnt before anything can repeat one, and shown by no command that a file keeps.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;

use super::{Arguments, flags, is_secret};
use crate::sys::escape::shell_word as quoted;
use crate::sys::secrets;

/// What stands for a secret in a command that can be run again.
const PLACEHOLDER: &str = "\"$HF_TOKEN\"";
/// Learns the secrets of a command line, before anything can repeat one, and blots them out of the list of processes
/// where the system lets a program do that (Linux).
pub fn learn(words: &[OsString]) {
    let words: Vec<Cow<str>> = words.iter().map(|word| word.to_string_lossy()).collect();
    for (word, place) in words.iter().zip(places(&words)) {
        if let Some(place) = place {
            secrets::add(&word[place]);
        }
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        secrets::add(&std::env::var(name).unwrap_or_default());
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = blot_out() {
        // Then only `HF_TOKEN` hides a token, as everywhere else; the documentation says so.
        tracing::debug!("the command line stays as it is in the list of processes: {error}");
    }
}

/// Learns the secrets among the arguments, which an argument file may have brought.
pub fn learn_arguments(args: &Arguments) {
    for secret in [&args.model.token, &args.training.hub_token, &args.training.push_to_hub_token].into_iter().flatten()
    {
        secrets::add(secret);
    }
}

/// The command line as a shell reads it, with a variable for each token.
pub fn command(words: impl IntoIterator<Item = OsString>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<Cow<str>> = words.iter().map(Cow::from).collect();
    let shown = words.iter().zip(places(&words)).map(|(word, place)| match place {
        Some(place) => format!("{}{PLACEHOLDER}{}", quoted_part(&word[..place.start]), quoted_part(&word[place.end..])),
        None => quoted(&secrets::hide_credentials(word)),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn quoted_part(text: &str) -> String {
    if text.is_empty() { String::new() } else { quoted(text) }
}

/// Where in each word the value of a secret argument stands.
fn places(words: &[Cow<str>]) -> Vec<Option<Range<usize>>> {
    let mut places = Vec::with_capacity(words.len());
    let mut expected = false;
    for word in words {
        let name = word.strip_prefix("--");
        let place = match name.map(|name| name.split_once('=').unwrap_or((name, ""))) {
            None if expected => Some(0..word.len()),
            Some((name, value)) if names_secret(name) => {
                let begin = word.len() - value.len();
                (begin < word.len()).then_some(begin..word.len())
            }
            _ => None,
        };
        expected = name.is_some_and(|name| !name.contains('=') && names_secret(name));
        places.push(place);
    }
    places
}

/// Whether a flag, perhaps abbreviated or unknown, is one whose value is secret.
fn names_secret(written: &str) -> bool {
    let name = written.replace('-', "_").to_lowercase();
    let known = |test: &dyn Fn(&str) -> bool| flags().any(|flag| test(flag.name));
    ["token", "password", "secret", "api_key"].iter().any(|end| name.ends_with(end))
        || (name.len() > 2 && known(&|flag| is_secret(flag) && flag.starts_with(&name)) && !known(&|flag| flag == name))
}

/// Overwrites the secrets where the kernel reads the command line that `ps` shows. No thread runs yet, and the words keep
/// their lengths.
#[cfg(target_os = "linux")]
fn blot_out() -> std::io::Result<()> {
    use std::io::{Error, Read, Seek, SeekFrom, Write};

    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses; fields 48 and 49 are where the words begin and end.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let bounds: Vec<u64> = fields.skip(45).take(2).filter_map(|field| field.parse().ok()).collect();
    let [begin, end] = bounds[..] else { return Err(Error::other("/proc/self/stat has no bounds of the arguments")) };
    let length = usize::try_from(end.saturating_sub(begin)).ok().filter(|length| (1..=1 << 24).contains(length));
    let length = length.ok_or_else(|| Error::other("/proc/self/stat has no bounds of the arguments"))?;

    let mut memory = std::fs::File::options().read(true).write(true).open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(begin))?;
    let mut bytes = vec![0; length];
    memory.read_exact(&mut bytes)?;
    let parts: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    let words: Vec<Cow<str>> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
    let mut at = begin;
    for ((part, word), place) in parts.iter().zip(&words).zip(places(&words)) {
        let inside = if matches!(word, Cow::Borrowed(_)) { secrets::credentials(word) } else { Vec::new() };
        for place in place.into_iter().chain(inside) {
            // A word that is not UTF-8 is overwritten as a whole.
            let place = if matches!(word, Cow::Borrowed(_)) { place } else { 0..part.len() };
            memory.seek(SeekFrom::Start(at + place.start as u64))?;
            memory.write_all(&vec![b'*'; place.len()])?;
        }
        at += part.len() as u64 + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command(words.iter().map(Into::into))
    }

    #[test]
    fn a_command_can_be_run_again_and_tells_no_secret() {
        assert_eq!(
            line(&["run_mlm", "--token", "s3cret", "--config_overrides", "a=1,b=2", "--run_name", "it's $HOME"]),
            "run_mlm --token \"$HF_TOKEN\" --config_overrides a=1,b=2 --run_name 'it'\"'\"'s $HOME'"
        );
        assert_eq!(
            line(&["--hub-token=s3cret", "--push_to_hub_to", "s3cret"]),
            "--hub-token=\"$HF_TOKEN\" --push_to_hub_to \"$HF_TOKEN\""
        );
        assert_eq!(line(&["--token", "--do_train", "a b", ""]), "--token --do_train 'a b' ''");
        assert_eq!(line(&["--push_to_hub", "true", "--tokenizer_name", "t"]), "--push_to_hub true --tokenizer_name t");
        assert_eq!(line(&["https://me:s3cret@host/a"]), "'https://…@host/a'");
    }
}
