//! Messages of the program on standard error: in cargo's colours, around a progress bar, and none that only informs before
//! an error in the arguments.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::terminal::BARS;

/// Standard error, while a progress bar may be shown there.
#[derive(Debug)]
pub struct Messages;

/// Who speaks, where not everybody does.
static SPEAKER: OnceLock<String> = OnceLock::new();

/// What was said before it is known that the arguments can be followed; none once that is known. A run that fails before says
/// its error alone.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(Some(Vec::new()));

impl Messages {
    /// What was held back, and from now on all, is written: the arguments can be followed.
    pub fn release() {
        if let Some(held) = HELD.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // There is nowhere left to report a failure of this.
            let _ = Messages.write_all(&held);
        }
    }

    /// From now on every message says whose it is: `rank 1: warning: …`.
    pub fn speak_as(name: String) {
        // Of two the first counts.
        let _ = SPEAKER.set(name);
    }

    /// Writes an error as the last line of a program.
    pub fn fail(program: &str, message: &str) {
        let label = paint("error:", Level::ERROR, colours(&io::stderr()));
        // There is nowhere left to report a failure of this.
        let _ = writeln!(Messages, "{program}: {label} {message}");
    }
}

impl Write for Messages {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Where a message goes: on, or to those that are held back.
#[derive(Debug)]
pub enum Destination {
    Terminal(Messages),
    Held,
}

impl Write for Destination {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(messages) => messages.write(text),
            Self::Held => match HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(held) => held.write(text),
                None => Messages.write(text),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Messages {
    type Writer = Destination;

    fn make_writer(&'a self) -> Destination {
        Destination::Terminal(Messages)
    }

    /// What only informs can wait; a download, which takes a while, cannot.
    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Destination {
        if *metadata.level() != Level::INFO {
            return Destination::Terminal(Messages);
        }
        if !metadata.target().starts_with("lm_hub") {
            return Destination::Held;
        }
        Self::release();
        Destination::Terminal(Messages)
    }
}

/// One message, one line: `warning: …` in colour, plain what only informs.
#[derive(Debug)]
pub struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let label = match level {
            Level::ERROR => "error:",
            Level::WARN => "warning:",
            Level::INFO => "",
            Level::DEBUG => "debug:",
            _ => "trace:",
        };
        if let Some(speaker) = SPEAKER.get() {
            write!(writer, "{speaker}: ")?;
        }
        if !label.is_empty() {
            write!(writer, "{} ", paint(label, level, colours(&io::stderr())))?;
        }
        if level == Level::TRACE {
            write!(writer, "{}: ", event.metadata().target())?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Whether what goes there may be coloured: a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or it is dumb.
fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|kind| kind != "dumb")
}

/// As cargo colours its words.
fn paint(label: &str, level: Level, colours: bool) -> String {
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        _ => "36",
    };
    if colours { format!("\x1b[1;{colour}m{label}\x1b[0m") } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_coloured_as_cargos() {
        assert_eq!(paint("warning:", Level::WARN, true), "\u{1b}[1;33mwarning:\u{1b}[0m");
        assert_eq!(paint("error:", Level::ERROR, false), "error:");
    }
}
