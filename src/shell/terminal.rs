//! What is shown while a command runs on a terminal, and how big it is. Pages are those of [`super::pager`].

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use rustyline::Editor;
use rustyline::history::MemHistory;

use super::quote::clean_lines;
use crate::watch::Watch;

/// A line on standard output, in which nothing acts on the terminal. That its reader has gone is no error.
pub fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{}", clean_lines(text));
}

/// A line on standard error, in which nothing acts on the terminal. That its reader has gone is no error.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean_lines(text));
}

/// An error message on standard error.
pub fn tell_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", super::style::error(&clean_lines(text)));
}

/// A thread that shows progress on stderr after half a second; nothing when stderr is no terminal.
pub struct ProgressLine(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl ProgressLine {
    /// Ends it and clears the line.
    pub fn stop(self) {
        if let Some((stop, thread)) = self.0 {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Starts showing `watch`'s progress.
pub fn show_progress(watch: &Watch) -> ProgressLine {
    if !io::stderr().is_terminal() {
        return ProgressLine(None);
    }
    watch.progress.show();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watch = watch.clone();
    let thread = std::thread::spawn(move || {
        let mut wait = Duration::from_millis(500);
        let bar = indicatif::ProgressBar::with_draw_target(None, indicatif::ProgressDrawTarget::stderr());
        let mut drawn = false;
        while stopped.recv_timeout(wait) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            wait = Duration::from_millis(200);
            let (what, done, total) = watch.progress.now();
            if what.is_empty() {
                continue;
            }
            drawn |= watch.progress.draw(|| {
                bar.set_style(style(total));
                bar.set_message(what);
                bar.set_length(total.max(1));
                bar.set_position(done);
                bar.tick();
            });
        }
        // Where output stands now, there is nothing to clear.
        if !drawn || !watch.progress.draw(|| bar.finish_and_clear()) {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
    });
    ProgressLine(Some((stop, thread)))
}

fn style(total: u64) -> indicatif::ProgressStyle {
    let template = if total > 0 { "{msg} {percent}% ({bytes_per_sec}, {eta} left)" } else { "{msg} {bytes}" };
    indicatif::ProgressStyle::with_template(template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
}

/// Columns and rows of the terminal of standard output, as it is now.
pub fn size() -> (usize, usize) {
    let found = Editor::<(), MemHistory>::with_history(rustyline::Config::default(), MemHistory::new());
    let found = found.ok().and_then(|mut editor| editor.dimensions());
    let sane = found.map(|(c, r)| (usize::from(c), usize::from(r))).filter(|(c, r)| *c > 0 && *r > 2);
    sane.unwrap_or((80, 24))
}

/// Its columns.
pub fn columns() -> usize {
    size().0
}
