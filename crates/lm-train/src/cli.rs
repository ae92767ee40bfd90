//! What the three programs share from their first line to their exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use lm_models::Task;
use tracing::Level;

use crate::allocator;
use crate::args::{self, ArgsError, Arguments, LogLevel, Parsed};
use crate::callbacks::console::MessageWriter;
use crate::device;
use crate::run::{Ended, run};

/// The program for `task`: reads the command line, runs, and tells how it went. 0 when all is done, 1 for a failed run, 2
/// for bad arguments, 130 and 143 after SIGINT and SIGTERM.
pub fn main(task: Task) -> ExitCode {
    allocator::keep_memory();
    let args = match args::parse(task, std::env::args_os().skip(1)) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help(text) | Parsed::Version(text)) => return print(&text),
        Ok(Parsed::DeviceList) => return print(&device::list()),
        Err(error) => return fail(task, &error.to_string(), 2),
    };
    listen(&args);
    args.notes.iter().for_each(|note| tracing::info!("{note}"));
    match run(&args) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Signal(signal)) => ExitCode::from(128 + signal as u8),
        Err(error) => fail(task, &one_line(&error), if error.is::<ArgsError>() { 2 } else { 1 }),
    }
}

fn print(text: &str) -> ExitCode {
    // A closed pipe, as of `| head`, is no failure.
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The error and its causes; a cause that the message already tells is left out.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.is_empty() {
        true => cause,
        false if line.contains(&cause) => line,
        false => format!("{line}: {cause}"),
    })
}

fn fail(task: Task, message: &str, code: u8) -> ExitCode {
    // There is nowhere left to report a failure of this.
    let _ = writeln!(MessageWriter::new(), "{}: error: {}", task.binary(), message.replace('\n', " "));
    ExitCode::from(code)
}

/// Messages of the program go to standard error, around the progress bar.
fn listen(args: &Arguments) {
    let level = match args.training.log_level {
        LogLevel::Detail => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info | LogLevel::Passive => Level::INFO,
        LogLevel::Warning => Level::WARN,
        LogLevel::Error | LogLevel::Critical => Level::ERROR,
    };
    let ours = ["lm_data", "lm_models", "lm_train"].map(|name| (name, level));
    let filter = tracing_subscriber::filter::Targets::new().with_default(level.min(Level::WARN)).with_targets(ours);
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let format = tracing_subscriber::fmt::layer()
        .with_writer(MessageWriter::new)
        .with_target(level == Level::TRACE)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .without_time();
    // A second call, in a test that calls this in its own process, keeps the first listener.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
}
