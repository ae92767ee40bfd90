//! What the three programs share from their first line to their exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use lm_models::Task;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::args::{self, ArgsError, Arguments, LogLevel, Parsed};
use crate::device;
use crate::dist::World;
use crate::observe::console::{Lines, Messages};
use crate::run::{run, what_is_kept};
use crate::sys::allocator;
use crate::sys::signals::{Ended, StopSignal};
use crate::sys::{escape, machine, panics};

/// The program for `task`: reads the command line, runs, and tells how it went. 0 when all is done, 1 for a failed run, 2
/// for bad arguments, 128 and its number after a signal.
pub fn main(task: Task) -> ExitCode {
    allocator::keep_memory(task.binary());
    panics::silence(task.binary());
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    args::secrets::learn(&words);
    let world = match World::open(machine::host()) {
        Ok(world) => world,
        Err(error) if error.is_main => return fail(task, &error.to_string(), BAD_ARGUMENTS),
        Err(_) => return ExitCode::from(BAD_ARGUMENTS),
    };
    if let Err(error) = expect_same_start(&world, &words) {
        return leave(task, &world, Err(error));
    }
    let args = match world.agree(args::parse(task, words).map_err(Into::into)) {
        Ok(Parsed::Run(args)) => Arguments { ranks: world.size(), ..*args },
        Err(error) => return leave(task, &world, Err(error)),
        // One of several processes says what all would.
        Ok(_) if !world.is_main() => return ExitCode::SUCCESS,
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
                .map_or_else(|panic| panicked(task, &world, &panic.to_string()), |text| print(&text));
        }
    };
    args::secrets::learn_arguments(&args);
    listen(&args, &world);
    if world.is_main() {
        args.notes.iter().for_each(|note| tracing::info!("{note}"));
    }
    let stop = match StopSignal::listen() {
        Ok(stop) => stop,
        Err(error) => return leave(task, &world, Err(anyhow!("cannot listen to signals: {error}"))),
    };
    match panics::caught(|| run_all(&args, &world, &stop)) {
        Ok(ended) => leave(task, &world, ended),
        Err(panic) if args.training.do_train && !args.beyond.plan => {
            panicked(task, &world, &format!("{panic}{}", what_is_kept(&args)))
        }
        Err(panic) => panicked(task, &world, &panic.to_string()),
    }
}

/// What needs several processes is done by all of them, and anything else by the first.
fn run_all(args: &Arguments, world: &World, stop: &StopSignal) -> Result<Ended> {
    world.expect_same("arguments", &args.to_json().to_string())?;
    match args.is_for_one_process() {
        false => run(args, world, stop),
        true if world.is_main() => run(args, &World::alone(machine::host()), stop),
        true => Ok(Ended::Done),
    }
}

/// Makes sure that all processes are the same program with the same command line.
fn expect_same_start(world: &World, words: &[OsString]) -> Result<()> {
    let build = format!("{} {}", env!("CARGO_PKG_VERSION"), option_env!("LM_COMMIT").unwrap_or_default());
    world.expect_same("versions of the program", &build)?;
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    world.expect_same("command lines", &words.join(" "))
}

/// How the program ends, told by one process if all know of it. A failure that the others do not know of ends them too.
fn leave(task: Task, world: &World, ended: Result<Ended>) -> ExitCode {
    let code = match &ended {
        Ok(Ended::Done) => 0,
        Ok(Ended::Signal(signal)) => 128 + *signal as u8,
        Err(error) if error.is::<ArgsError>() => BAD_ARGUMENTS,
        Err(_) => 1,
    };
    if let Err(error) = &ended {
        let known = world.size() == 1 || world.has_failed();
        if world.is_main() || !known {
            fail(task, &told(world, &one_line(error)), code);
        }
        if !known {
            world.abort(code);
        }
    }
    let codes = world.share(&code);
    ExitCode::from(codes.map_or(code, |codes| codes[0]))
}

/// With the rank that it happened on, where that is not clear.
fn told(world: &World, line: &str) -> String {
    if world.is_main() { line.to_owned() } else { format!("{}: {line}", world.name_of(world.rank())) }
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
    Messages::fail(task.binary(), &escape::line(message));
    ExitCode::from(code)
}

fn panicked(task: Task, world: &World, message: &str) -> ! {
    fail(task, &told(world, message), 1);
    world.abort(1);
    panics::exit()
}

/// Messages of the program go to standard error, around the progress bar.
fn listen(args: &Arguments, world: &World) {
    if !world.is_main() {
        Messages::speak_as(format!("rank {}", world.rank()));
    }
    let training = &args.training;
    // Python's `get_process_log_level`.
    let is_first = if training.log_on_each_node { world.local_rank() == 0 } else { world.is_main() };
    let level = match if is_first { training.log_level } else { training.log_level_replica } {
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
