//! What is shown while a command runs on a terminal: the progress line, and output by the page.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use rustyline::history::MemHistory;
use rustyline::{Cmd, Editor, KeyEvent};

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

/// Standard output on a terminal. It hides the progress line, and pages: after a window of rows it waits for a key.
pub struct Pager {
    out: io::Stdout,
    paging: bool,
    rows: usize,
    size: Option<(usize, usize)>,
    asker: Option<Editor<(), MemHistory>>,
    watch: Watch,
}

impl Pager {
    /// Writes to standard output, by the page with `paging`.
    pub fn new(paging: bool, watch: Watch) -> Self {
        Self { out: io::stdout(), paging, rows: 0, size: None, asker: None, watch }
    }

    /// Columns and rows of the terminal, asked for once.
    fn size(&mut self) -> (usize, usize) {
        if self.size.is_none() {
            self.asker = asker();
            let found = self.asker.as_mut().and_then(Editor::dimensions);
            let sane = found.map(|(c, r)| (usize::from(c), usize::from(r))).filter(|(c, r)| *c > 0 && *r > 2);
            self.size = Some(sane.unwrap_or((80, 24)));
        }
        self.size.unwrap_or((80, 24))
    }

    /// Waits for a key and removes the question.
    fn ask(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let Some(asker) = &mut self.asker else { return Ok(()) };
        match asker.readline("-- more -- (space: next page, q: stop) ") {
            Ok(answer) if answer.trim().eq_ignore_ascii_case("q") => self.watch.cancel.set_enough(),
            Ok(_) => {}
            Err(_) => self.watch.cancel.set_enough(),
        }
        self.out.write_all(b"\x1b[1A\x1b[2K\r")?;
        self.out.flush()?;
        self.rows = 0;
        // The window may have been resized meanwhile.
        self.size = None;
        Ok(())
    }
}

/// Reads one key: space and Enter accept, `q` and Ctrl-C interrupt.
fn asker() -> Option<Editor<(), MemHistory>> {
    let config = rustyline::Config::builder().max_history_size(0).ok()?.build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history).ok()?;
    editor.bind_sequence(KeyEvent::from(' '), Cmd::AcceptLine);
    for key in ['q', 'Q'] {
        editor.bind_sequence(KeyEvent::from(key), Cmd::Interrupt);
    }
    Some(editor)
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.progress.hide() {
            io::stderr().write_all(b"\r\x1b[2K")?;
        }
        if !self.paging {
            return self.out.write(bytes);
        }
        let (columns, rows) = self.size();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if self.watch.cancel.is_enough() {
                break;
            }
            // A character is at most as many columns as bytes, near enough.
            let wrapped = line.len().saturating_sub(1) / columns;
            if self.rows + 1 + wrapped >= rows {
                self.ask()?;
                if self.watch.cancel.is_enough() {
                    break;
                }
            }
            self.out.write_all(line)?;
            self.rows += wrapped + usize::from(line.ends_with(b"\n"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
