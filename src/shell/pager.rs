//! Output by the page, or through the user's own pager. What was shown is kept: pages can be gone back to and searched.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyCode, KeyEvent, Modifiers, RepeatCount,
};

use super::book::{Asked, Book, Next};
use super::terminal::size;
use crate::watch::Watch;

/// What is said below a page. It fits 80 columns.
const MORE: &str = "-- more -- (space: page, Enter: line, b: back, g/G: ends, /: search, q: stop) ";
/// What is said below the last page.
const END: &str = "-- end -- (b: back, g: start, /: search, n: again, Enter: done) ";

/// Who pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// Nobody.
    Off,
    /// This program.
    Own,
    /// A program of the user, as a shell takes it.
    Program(String),
}

/// Standard output on a terminal. It hides the progress line, and pages.
pub struct Pager {
    out: io::Stdout,
    paging: Paging,
    book: Book,
    /// The end of a line that has not come.
    rest: Vec<u8>,
    keys: Option<Keys>,
    program: Option<Child>,
    watch: Watch,
}

impl Pager {
    /// Writes to standard output.
    pub fn new(paging: Paging, watch: Watch) -> Self {
        Self { out: io::stdout(), paging, book: Book::new(), rest: Vec::new(), keys: None, program: None, watch }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.watch.cancel.is_enough() {
            return Ok(());
        }
        if let Some(program) = &mut self.program {
            return feed(program, line, &self.watch);
        }
        self.book.push(line);
        self.go_on(false)
    }

    /// Shows what may be shown, asks where the page is full. `ended`: no line will come.
    fn go_on(&mut self, ended: bool) -> io::Result<()> {
        if self.book.is_new() {
            self.book.resize(size());
        }
        loop {
            match self.book.next(ended) {
                Next::Wait => return Ok(()),
                Next::Show(text) => self.out.write_all(&text)?,
                Next::Full if matches!(self.paging, Paging::Program(_)) => return self.hand_over(),
                Next::Full => self.ask(MORE)?,
                // Who stops a command wants the prompt.
                Next::End if self.watch.cancel.is_set() => return Ok(()),
                Next::End => self.ask(END)?,
                Next::NotFound => {
                    self.ask("-- not found -- (n: again, space: page, Enter: line, b: back, q: stop) ")?
                }
            }
            if self.watch.cancel.is_enough() || self.book.is_done() {
                return Ok(());
            }
        }
    }

    /// Starts the user's pager with what there is. Without it everything is shown.
    fn hand_over(&mut self) -> io::Result<()> {
        let Paging::Program(program) = &self.paging else { return Ok(()) };
        self.out.flush()?;
        match start(program) {
            Ok(mut child) => {
                // What stands on the screen already belongs to the text.
                let kept = self.book.all();
                feed(&mut child, &kept, &self.watch)?;
                self.program = Some(child);
            }
            Err(e) => {
                super::terminal::tell(&format!("cannot run the pager {program}: {e}"));
                self.paging = Paging::Own;
                self.book.ask(Asked::Page);
            }
        }
        Ok(())
    }

    /// Waits for a key and removes the question.
    fn ask(&mut self, question: &str) -> io::Result<()> {
        self.out.flush()?;
        let keys = match &mut self.keys {
            Some(k) => k,
            none => match Keys::new() {
                Some(k) => none.insert(k),
                None => {
                    // Nobody can be asked.
                    self.watch.cancel.set_enough();
                    return Ok(());
                }
            },
        };
        let asked = keys.read(question, &self.book.prompt());
        self.out.flush()?;
        // The window may have been resized meanwhile.
        self.book.resize(size());
        match asked {
            Asked::Quit => self.watch.cancel.set_enough(),
            other => self.book.ask(other),
        }
        Ok(())
    }

    /// Everything has come.
    fn end(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        if let Some(mut program) = self.program.take() {
            drop(program.stdin.take());
            program.wait()?;
        } else if self.paging == Paging::Own && !self.watch.cancel.is_enough() && !self.book.is_empty() {
            self.go_on(true)?;
        }
        self.book = Book::new();
        self.out.flush()
    }
}

/// Starts a program that reads what it is to show.
fn start(program: &str) -> io::Result<Child> {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.arg(option).arg(program).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Colours as colours.
        command.env("LESS", "-R");
    }
    command.spawn()
}

fn feed(program: &mut Child, bytes: &[u8], watch: &Watch) -> io::Result<()> {
    let Some(to) = &mut program.stdin else { return Ok(()) };
    match to.write_all(bytes) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            // Its user left: they have seen enough.
            watch.cancel.set_enough();
            Ok(())
        }
        other => other,
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.progress.hide() {
            io::stderr().write_all(b"\r\x1b[2K")?;
        }
        if self.paging == Paging::Off {
            return self.out.write(bytes);
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if !part.ends_with(b"\n") {
                self.rest.extend_from_slice(part);
            } else if self.rest.is_empty() {
                self.line(part)?;
            } else {
                let mut line = std::mem::take(&mut self.rest);
                line.extend_from_slice(part);
                self.line(&line)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.paging == Paging::Off { self.out.flush() } else { self.end() }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        // Whoever wants to know of a failure flushes before.
        let _ = self.end();
    }
}

/// What the keyboard is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressed {
    /// One key, which has not come.
    None,
    /// This one.
    Key(KeyEvent),
    /// A line of text.
    Text,
}

/// Keeps the key that was pressed, and ends the line; of a text the editor has the keys.
struct OneKey(Arc<Mutex<Pressed>>);

impl ConditionalEventHandler for OneKey {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        let mut pressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *pressed == Pressed::Text {
            return None;
        }
        *pressed = event.get(0).map_or(Pressed::None, |k| Pressed::Key(*k));
        Some(Cmd::AcceptLine)
    }
}

/// The keyboard, through the line editor: it knows every terminal. One editor reads keys and text, as it keeps what was
/// typed ahead.
struct Keys {
    editor: Editor<(), MemHistory>,
    pressed: Arc<Mutex<Pressed>>,
}

/// Goes back to the line of the question and removes it.
const ERASE: &str = "\x1b[1A\x1b[2K\r";

impl Keys {
    fn new() -> Option<Self> {
        let mut editor = {
            let config = rustyline::Config::builder().max_history_size(0).ok()?.build();
            let history = MemHistory::with_config(&config);
            Editor::with_history(config, history).ok()?
        };
        let pressed = Arc::new(Mutex::new(Pressed::None));
        editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(OneKey(pressed.clone()))));
        Some(Self { editor, pressed })
    }

    /// Shows a question, reads a key or a text, and removes both.
    fn line(&mut self, question: &str, wanted: Pressed) -> rustyline::Result<String> {
        *self.pressed.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        let read = self.editor.readline(question);
        let _ = io::stdout().write_all(ERASE.as_bytes());
        read
    }

    /// Shows a question until a key is pressed that means something.
    fn read(&mut self, question: &str, search: &str) -> Asked {
        loop {
            let read = self.line(question, Pressed::None);
            let key = *self.pressed.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = match (read, key) {
                (Ok(_), Pressed::Key(key)) => meaning(key),
                _ => return Asked::Quit,
            };
            match asked {
                Some(Asked::Search(_)) => {
                    match self.line("/", Pressed::Text) {
                        // The same again, as other pagers do.
                        Ok(t) if t.is_empty() && !search.is_empty() => return Asked::Search(search.to_owned()),
                        Ok(t) if !t.is_empty() => return Asked::Search(t),
                        _ => {}
                    }
                }
                Some(Asked::Again) if search.is_empty() => {}
                Some(asked) => return asked,
                None => {}
            }
        }
    }
}

/// What a key asks for.
fn meaning(KeyEvent(code, modifiers): KeyEvent) -> Option<Asked> {
    let control = modifiers.contains(Modifiers::CTRL);
    Some(match code {
        KeyCode::Char(c) if control => match c.to_ascii_lowercase() {
            'c' | 'd' => Asked::Quit,
            'j' | 'm' | 'n' | 'e' => Asked::Line,
            'f' | 'v' => Asked::Page,
            'b' => Asked::Back,
            'p' | 'y' => Asked::LineBack,
            _ => return None,
        },
        KeyCode::Char(' ' | 'f') | KeyCode::PageDown => Asked::Page,
        KeyCode::Enter | KeyCode::Down | KeyCode::Char('j') => Asked::Line,
        KeyCode::Char('b') | KeyCode::PageUp => Asked::Back,
        KeyCode::Up | KeyCode::Char('k') => Asked::LineBack,
        KeyCode::Char('g') | KeyCode::Home => Asked::Start,
        KeyCode::Char('G') | KeyCode::End => Asked::End,
        KeyCode::Char('/') => Asked::Search(String::new()),
        KeyCode::Char('n') => Asked::Again,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Asked::Quit,
        _ => return None,
    })
}
