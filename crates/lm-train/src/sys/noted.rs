//! Errors with something to know after them, which stay what they are.

/// An error with something to know after it.
#[derive(Debug, thiserror::Error)]
#[error("{cause:#}{note}")]
pub struct Noted {
    cause: anyhow::Error,
    note: String,
}

impl Noted {
    /// The error with this behind its line.
    pub fn add(cause: anyhow::Error, note: String) -> anyhow::Error {
        Self { cause, note }.into()
    }

    /// What caused an error, if it is of this kind.
    pub fn cause_of<E: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&E> {
        match error.downcast_ref::<Self>() {
            Some(noted) => Self::cause_of(&noted.cause),
            None => error.downcast_ref(),
        }
    }
}
