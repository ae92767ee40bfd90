//! What can go wrong between a name and its files, in words that say what to do.

use std::path::PathBuf;

/// What opens what is private, or why it was not opened.
fn opened(token: bool) -> &'static str {
    match token {
        true => {
            "is not opened by the token that was sent, which the Hub refused or whose account may not read it: check \
             --token, HF_TOKEN or the token of `hf auth login`"
        }
        false => "needs a token (--token or HF_TOKEN)",
    }
}

/// As many characters of what a server says as a message repeats.
const MOST_WORDS: usize = 200;

/// Why a name could not be resolved. Every message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Neither a folder nor possibly the name of a model.
    #[error("{}: no such folder: check the path (it cannot be a name on the Hub either)", without_credentials(.0))]
    NoSuchFolder(String),
    /// A file where a folder is needed.
    #[error("{0}: is {1}")]
    NotAFolder(String, &'static str),
    /// The Hub knows no such model, or does not show it to this user.
    #[error("{name}: no such folder, and no such {noun} on {endpoint}: check the name; a private {noun} {}", opened(*token))]
    UnknownModel {
        /// `model` or `dataset`.
        noun: &'static str,
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The model has conditions that this user has not accepted, or no token was given.
    #[error(
        "{name}: access is restricted: accept its conditions at {page}, then give a token of that account \
         (--token or HF_TOKEN)"
    )]
    Gated {
        /// The name asked for.
        name: String,
        /// Its page on the Hub asked.
        page: String,
    },
    /// The Hub does not accept the token.
    #[error("{name}: {endpoint} refused the token ({detail}): check --token, HF_TOKEN or the token of `hf auth login`")]
    TokenRefused {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The server's words.
        detail: String,
    },
    /// The token cannot be sent at all.
    #[error(
        "{name}: the token has characters that no token has, such as a space or a line break: check --token, HF_TOKEN or \
         the token of `hf auth login`"
    )]
    BadToken {
        /// The name asked for.
        name: String,
    },
    /// The model has no such branch, tag or commit.
    #[error("{name}: has no revision {revision:?}: check --{noun}_revision (a branch, a tag or a full commit hash)")]
    UnknownRevision {
        /// `model` or `dataset`.
        noun: &'static str,
        /// The name asked for.
        name: String,
        /// The revision asked for.
        revision: String,
    },
    /// The model exists and lacks what is needed.
    #[error("{name}: has no {wanted} that can be read here{instead}")]
    MissingFiles {
        /// The name asked for.
        name: String,
        /// What was looked for.
        wanted: String,
        /// What it has instead, and what to do; or empty.
        instead: String,
    },
    /// Offline, and not downloaded before.
    #[error(
        "{name}: no such folder, and HF_HUB_OFFLINE forbids to download it; not in the cache {cache}: {missing}: unset \
         HF_HUB_OFFLINE once, or give a folder"
    )]
    NotCached {
        /// The name asked for.
        name: String,
        /// The cache looked into.
        cache: PathBuf,
        /// What is missing there.
        missing: String,
    },
    /// The Hub cannot be reached.
    #[error(
        "{name}: no such folder, and {endpoint} cannot be reached ({detail}); not in the cache {cache}: {missing}: check \
         the network, or give a folder"
    )]
    NoNetwork {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The network's reason.
        detail: String,
        /// The cache looked into.
        cache: PathBuf,
        /// What is missing there.
        missing: String,
    },
    /// A download broke off, more than once.
    #[error("{name}: the download broke off ({detail}): run again, what has arrived is kept")]
    Interrupted {
        /// The name asked for.
        name: String,
        /// What happened.
        detail: String,
    },
    /// Reading a file over the network failed again and again.
    #[error(
        "{name}: {endpoint} does not give {file} from byte {at} on ({detail}), asked {attempts} times: check the network and run again"
    )]
    Unread {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The file.
        file: String,
        /// Where it broke off.
        at: u64,
        /// What happened last.
        detail: String,
        /// How often it was asked in vain.
        attempts: usize,
    },
    /// Bytes arrived that are not those of the file.
    #[error(
        "{name}: {endpoint} sent a wrong {file}: its bytes do not have the hash that it names ({hash}); nothing of it was \
         kept: try again later, or from another HF_ENDPOINT"
    )]
    WrongBytes {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The file.
        file: String,
        /// The hash that they should have.
        hash: String,
    },
    /// Nothing is uploaded without a token.
    #[error("{name}: uploading needs a token that may write: give --hub_token or HF_TOKEN, or run `hf auth login`")]
    NoToken {
        /// The repository.
        name: String,
    },
    /// The token is not accepted, or may not write there.
    #[error("{name}: {endpoint} does not let this token write there ({detail}): check --hub_token and --hub_model_id")]
    MayNotWrite {
        /// The repository.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The server's words.
        detail: String,
    },
    /// An upload that did not succeed.
    #[error("{name}: cannot upload to {endpoint}: {detail}")]
    Upload {
        /// The repository.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// What happened.
        detail: String,
    },
    /// The cache cannot be written.
    #[error("{cache}: cannot write the cache of downloads: {source}: free space or name another with --cache_dir")]
    Cache {
        /// The cache.
        cache: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// `HF_ENDPOINT` is no address.
    #[error("HF_ENDPOINT {endpoint:?} is no URL such as https://huggingface.co: {detail}")]
    Endpoint {
        /// Its value.
        endpoint: String,
        /// Why not.
        detail: String,
    },
    /// Anything else the Hub answered.
    #[error("{name}: {endpoint} answered: {detail}")]
    Other {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// Its answer.
        detail: String,
    },
}

/// What others wrote, fit for a message: one line, no control characters, not too long.
pub(super) fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::new();
    for (at, character) in line.chars().enumerate() {
        match character {
            _ if at == MOST_WORDS => {
                shown.push('…');
                break;
            }
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    plain(&text)
}

/// An address without the name and password that may stand in it.
pub(super) fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_string() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_one_short_line_and_no_password() {
        assert_eq!(plain("a\u{1b}[31m\n b\u{9b}\t"), "a\\u{1b}[31m b\\u{9b}");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), MOST_WORDS + 1);
        assert_eq!(without_credentials("https://me:secret@host/a@b"), "https://…@host/a@b");
        assert_eq!(without_credentials("https://me:sec@ret@host"), "https://…@host");
        for address in ["https://host/a@b", "/home/a@b", "owner/model"] {
            assert_eq!(without_credentials(address), address);
        }
    }
}
