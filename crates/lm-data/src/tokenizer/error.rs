use std::path::PathBuf;

/// Why a tokenizer could not be loaded, trained, saved or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The folder holds no file that a tokenizer can be built from.
    #[error(
        "{}: no tokenizer found; looked for {looked_for}; give a folder that Python's save_pretrained wrote, or train one",
        dir.display()
    )]
    NoFiles {
        /// The folder that was searched.
        dir: PathBuf,
        /// The file names that would have done.
        looked_for: String,
    },
    /// The folder holds only old vocabulary files and nothing says which tokenizer they belong to.
    #[error(
        "{}: {found}, so the vocabulary files cannot be read; known classes: {known}; \
         name one as \"tokenizer_class\" in tokenizer_config.json, or save the folder with a tokenizer.json",
        dir.display()
    )]
    UnknownClass {
        /// The folder.
        dir: PathBuf,
        /// What the folder says about its class.
        found: String,
        /// The classes whose old files can be read.
        known: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is damaged or contradicts another one.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file, or the folder where it concerns several.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A text could not be encoded.
    #[error("cannot tokenize {text:?}: {message}")]
    Encode {
        /// Its place among the texts that were given.
        index: usize,
        /// The beginning of the text.
        text: String,
        /// The reason.
        message: String,
    },
    /// The `tokenizers` library stopped at a text, where it should have returned an error.
    #[error("{file}: the tokenizer fails on the text {text:?}: {cause}; {}", advice(.cause))]
    Stopped {
        /// Its place among the texts that were given.
        index: usize,
        /// The tokenizer's file or folder.
        file: String,
        /// The beginning of the text.
        text: String,
        /// What the library said.
        cause: String,
    },
    /// The length limit leaves no room for the text.
    #[error(
        "sequences of {max_length} tokens have no room for text beside {special_tokens} special tokens; use a longer sequence"
    )]
    NoRoom {
        /// The limit asked for.
        max_length: usize,
        /// Special tokens per sequence.
        special_tokens: usize,
    },
    /// Training was given something it cannot work with.
    #[error("cannot train a tokenizer: {0}")]
    Train(String),
}

/// What can be done where the library stops.
pub(super) fn advice(cause: &str) -> &'static str {
    if cause.contains("retry-limit") || cause.contains("match-stack") {
        "a regular expression in it takes too long there: write it so that it does not try the same again in other ways, \
         or take another tokenizer with --tokenizer_name"
    } else {
        "it is damaged or says what cannot be: mend it, get it again, or take another with --tokenizer_name"
    }
}

impl TokenizerError {
    pub(super) fn invalid(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }
}
