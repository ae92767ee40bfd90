//! What the three programs share from their first line to their exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use lm_models::Task;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::args::{self, ArgsError, Arguments, LogLevel, Parsed};
use crate::device;
use crate::observe::console::{Lines, Messages};
use crate::run::{run, what_is_kept};
use crate::sys::allocator;
use crate::sys::signals::{Ended, StopSignal};
use crate::sys::{escape, panics};

/// The program for `task`: reads the command line, runs, and tells how it went. 0 when all is done, 1 for a failed run, 2
/// for bad arguments, 128 and its number after a signal.
pub fn main(task: Task) -> ExitCode {
    allocator::keep_memory(task.binary());
    panics::silence(task.binary());
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    args::secrets::learn(&words);
    let args = match args::parse(task, words) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help { long }) => {
            let width = if io::stdout().is_terminal() { None } else { Some(PIPED_WIDTH) };
            return print(&args::help(task, long, width));
        }
        Ok(Parsed::Text(text)) => return print(&text),
        Ok(Parsed::Usage(text)) => {
            // There is nowhere left to report a failure of this.
            let _ = io::stderr().write_all(text.as_bytes());
            return ExitCode::from(BAD_ARGUMENTS);
        }
        Ok(Parsed::DeviceList) => {
            return panics::caught(device::list)
                .map_or_else(|panic| panicked(task, &panic.to_string()), |text| print(&text));
        }
        Err(error) => return fail(task, &error.to_string(), BAD_ARGUMENTS),
    };
    args::secrets::learn_arguments(&args);
    listen(&args);
    args.notes.iter().for_each(|note| tracing::info!("{note}"));
    let stop = match StopSignal::listen() {
        Ok(stop) => stop,
        Err(error) => return fail(task, &format!("cannot listen to signals: {error}"), 1),
    };
    match panics::caught(|| run(&args, &stop)) {
        Ok(Ok(Ended::Done)) => ExitCode::SUCCESS,
        Ok(Ok(Ended::Signal(signal))) => ExitCode::from(128 + signal as u8),
        Ok(Err(error)) => fail(task, &one_line(&error), if error.is::<ArgsError>() { BAD_ARGUMENTS } else { 1 }),
        Err(panic) if args.training.do_train && !args.beyond.plan => {
            panicked(task, &format!("{panic}{}", what_is_kept(&args)))
        }
        Err(panic) => panicked(task, &panic.to_string()),
    }
}

/// The exit code of a command line that cannot be followed, as Python's argparse has it.
const BAD_ARGUMENTS: u8 = 2;

/// The lines of a help that no terminal shows.
const PIPED_WIDTH: usize = 80;

fn print(text: &str) -> ExitCode {
    // A closed pipe, as of `| head`, is no failure.
    match writeln!(io::stdout(), "{}", escape::visible(text.trim_end())) {
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
    if code != BAD_ARGUMENTS {
        Messages::release();
    }
    Messages::fail(task.binary(), &escape::line(message));
    ExitCode::from(code)
}

fn panicked(task: Task, message: &str) -> ! {
    fail(task, message, 1);
    panics::exit()
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
    let ours = ["lm_data", "lm_files", "lm_hub", "lm_models", "lm_train"].map(|name| (name, level));
    let mut filter = tracing_subscriber::filter::Targets::new().with_default(level.min(Level::WARN)).with_targets(ours);
    // Their messages hold addresses as the user gave them, with a password if there was one.
    filter = filter.with_targets(["hf_hub", "xet"].map(|name| (name, LevelFilter::OFF)));
    if level < Level::DEBUG {
        // What fails there comes back as an error; their messages hold whole shaders.
        filter = filter.with_targets(["burn", "cubecl", "naga", "wgpu"].map(|name| (name, LevelFilter::OFF)));
    }
    use tracing_subscriber::field::MakeExt;
    use tracing_subscriber::fmt::format::debug_fn;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    // The colours around a message are the listener's; what comes from values is escaped.
    let fields = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", escape::message(&format!("{value:?}"))),
        // Where a message of the `log` crate came from.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, "{name}={}", escape::message(&format!("{value:?}"))),
    });
    let format =
        tracing_subscriber::fmt::layer().fmt_fields(fields.delimited(" ")).event_format(Lines).with_writer(Messages);
    // A second call, in a test that calls this in its own process, keeps the first listener.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
}
