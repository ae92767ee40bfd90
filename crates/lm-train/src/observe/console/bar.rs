//! The progress bars, each one line that fits the terminal.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::terminal::{BARS, width_of};
use crate::observe::format::duration;

/// A bar over steps, with a few words behind it.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    /// What stands behind the bar, the most important first.
    fields: Arc<Mutex<Vec<String>>>,
}

impl Bar {
    /// A bar of `total` steps, `done` of which are not this process's; `what` stands before it.
    pub fn new(what: &'static str, done: u64, total: u64) -> Self {
        let bar = BARS.add(ProgressBar::new(total));
        let fields = Arc::<Mutex<Vec<String>>>::default();
        let shown = Arc::clone(&fields);
        let draw = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let fields = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let line = line(&View {
                what,
                done: state.pos(),
                total: state.len().unwrap_or(0),
                elapsed: state.elapsed(),
                left: state.eta(),
                fields: &fields,
                width: width_of(&console::Term::stderr()).unwrap_or(80),
            });
            // Writing to a string does not fail.
            let _ = text.write_str(&line);
        };
        // The template is a constant; the default bar is no worse than no bar.
        let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("line", draw));
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, fields }
    }

    /// So many steps are done.
    pub fn show(&self, done: u64, fields: Vec<String>) {
        *self.fields.lock().unwrap_or_else(PoisonError::into_inner) = fields;
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a bar shows at one moment.
struct View<'a> {
    what: &'a str,
    done: u64,
    total: u64,
    elapsed: Duration,
    left: Duration,
    fields: &'a [String],
    width: usize,
}

/// The line of a bar, shorter than the terminal is wide: fields are left out from the last on, then the bar itself, then the
/// times.
fn line(view: &View) -> String {
    // A terminal whose last column is written to may have begun its next line.
    let room = view.width.saturating_sub(1);
    let share = if view.total == 0 { 1.0 } else { (view.done as f64 / view.total as f64).clamp(0.0, 1.0) };
    let mut line = format!("{}{:>3}%", view.what, (share * 100.0) as u64);
    let steps = format!(" {}/{}", view.done, view.total);
    let times = format!(" {}<{}", duration(view.elapsed.as_secs_f64()), duration(view.left.as_secs_f64()));
    let fixed = line.len() + steps.len();
    let mut free = room.saturating_sub(fixed);
    let with_times = times.len() <= free;
    if with_times {
        free -= times.len();
    }
    let fields: Vec<&String> = view
        .fields
        .iter()
        .take_while(|field| {
            let needed = field.chars().count() + 2;
            let fits = needed <= free;
            free -= if fits { needed } else { 0 };
            fits
        })
        .collect();
    if free > SHORTEST {
        line.push(' ');
        push_bar(&mut line, share, (free - 1).min(LONGEST));
    }
    line += &steps;
    if with_times {
        line += &times;
    }
    for field in fields {
        let _ = write!(line, "  {field}");
    }
    line.chars().take(room).collect()
}

/// Columns of a bar: below and above these it tells nothing more.
const SHORTEST: usize = 6;
const LONGEST: usize = 40;

/// Draws in eighths of a column.
fn push_bar(line: &mut String, share: f64, columns: usize) {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share * (columns * 8) as f64) as usize;
    for column in 0..columns {
        line.push(match eighths.saturating_sub(column * 8) {
            8.. => '█',
            part => EIGHTHS[part],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize) -> String {
        let fields = ["loss 6.436".to_owned(), "lr 1.8e-3".to_owned(), "12.8k tok/s".to_owned()];
        let (elapsed, left) = (Duration::from_secs(83), Duration::from_secs(1296));
        line(&View { what: "", done: 50, total: 800, elapsed, left, fields: &fields, width })
    }

    #[test]
    fn a_bar_loses_fields_with_the_width_and_never_wraps() {
        let bar = format!("██▏{}", " ".repeat(32));
        assert_eq!(shown(100), format!("  6% {bar} 50/800 0:01:23<0:21:36  loss 6.436  lr 1.8e-3  12.8k tok/s"));
        assert_eq!(shown(60), "  6% ▌        50/800 0:01:23<0:21:36  loss 6.436  lr 1.8e-3");
        assert_eq!(shown(45), "  6% 50/800 0:01:23<0:21:36  loss 6.436");
        for width in 0..200 {
            assert!(shown(width).chars().count() < width.max(1), "{width}: {}", shown(width));
        }
    }

    #[test]
    fn a_bar_fills() {
        let bar = |share| {
            let mut line = String::new();
            push_bar(&mut line, share, 4);
            line
        };
        assert_eq!([0.0, 0.5, 0.53125, 1.0].map(bar), ["    ", "██  ", "██▏ ", "████"]);
    }
}
