//! The shell as those see it who run in it: settings, the open dump, where output and complaints go. [`super::run`] runs
//! lines on it.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};

use super::alias;
use super::command::{Command, Prefix, Settings};
use super::control::Jump;
use super::grammar::{Call, Typed};
use super::known;
use super::opaque;
use super::opening::Opening;
use super::out::{Format, Out};
use super::page::Page;
use super::parse::Common;
use super::quote::clean_lines;
use super::screen::Screen;
use super::terminal::tell_error;
use crate::dump::{Dump, OpenError, OpenOptions};
use crate::session::Session;
use crate::session::saved::IndexMode;
use crate::watch::{Interrupted, Watch};

/// Most bytes of output taken for `.foreach`, `as /c` and `.shell`.
const MOST_TAKEN: usize = 256 << 20;

/// Output that is taken.
#[derive(Debug, Clone, Default)]
pub struct Taken(Arc<Mutex<Vec<u8>>>);

impl Taken {
    /// Gives up what was taken so far.
    pub fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len().saturating_add(bytes.len()) > MOST_TAKEN {
            return Err(io::Error::other(format!("more than {MOST_TAKEN} bytes are too many to go through")));
        }
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ended {
    /// Of two that ran one after the other: a failure of either is one of both.
    pub fn and(self, then: Ended) -> Ended {
        if self == Ended::Failed && then == Ended::Well { self } else { then }
    }

    /// Whether something failed.
    pub fn is_failure(self) -> bool {
        matches!(self, Ended::Failed | Ended::Cut | Ended::Halt)
    }
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every command ran, complete, partial or empty.
    Well,
    /// At least one failed; the others ran.
    Failed,
    /// An expression has no value, or the text cannot be read: what stands behind it in its line or block does not run.
    Cut,
    /// At least one failed, and nothing runs behind it: `--strict` says so, or lines stood in each other too deep.
    Halt,
    /// The user asked to leave.
    Quit,
    /// A loop or `.catch` around it is to be left.
    Left(Jump),
}

/// What the shell remembers while a line runs.
#[derive(Debug, Default)]
pub struct State {
    /// Lines and blocks the running command stands in.
    pub nesting: u32,
    /// They stood in each other too deep: all of them end.
    pub too_deep: bool,
    /// Loops of those.
    pub loops: u32,
    /// `.catch` blocks of those.
    pub catches: u32,
    /// Takes the output instead of the sink.
    pub taken: Option<Taken>,
    /// The last output did not end its line.
    pub mid_line: bool,
    /// Takes errors instead of stderr, for those who run the shell inside another program.
    pub errors: Option<Arc<Mutex<Vec<String>>>>,
    /// The part of answers that is given, for readers with little room.
    pub page: Option<Page>,
    /// That a stop was asked for has been said.
    pub stop_said: bool,
}

/// The shell: settings, the open dump, where output goes.
pub struct Shell {
    /// All commands.
    pub commands: &'static [&'static Command],
    /// Settings that outlive commands.
    pub settings: Settings,
    /// The open dump.
    pub session: Option<Arc<Session>>,
    /// Rendering unless a command says otherwise.
    pub format: Format,
    /// Cancellation and progress, shared with every session.
    pub watch: Watch,
    /// How dumps are opened.
    pub open: OpenOptions,
    /// Addresses printed last, for completion.
    pub recent: Arc<Mutex<Vec<u64>>>,
    /// Makes the sink for a command's output; `true` asks for paging.
    pub sink: Box<dyn Fn() -> Box<dyn Write + Send>>,
    /// Depth of scripts that run scripts.
    pub depth: u32,
    /// The last line typed, for Enter.
    pub last: String,
    /// What is remembered while a line runs.
    pub state: State,
}

/// Copies everything to a log file too.
struct Tee(Box<dyn Write + Send>, File);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write(bytes)?;
        self.1.write_all(&bytes[..n])?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

impl Shell {
    /// Opens `path`, replacing the open dump.
    pub fn open(&mut self, path: &std::path::Path) -> Result<(), OpenError> {
        let Opening { options, providers_off: off, .. } = self.opening();
        let dump = Dump::open(path, &options, &self.watch)?;
        self.save_index();
        self.settings.thread = first_thread(&dump);
        self.settings.choose(None);
        super::numbers::set_pointer_size(dump.arch.pointer_size());
        // What is kept for the next time was found with all providers.
        let index = if off.is_empty() { self.settings.index.clone() } else { IndexMode::None };
        let session = Session::new(dump, self.watch.clone()).without(off).with_index(index, &options);
        self.session = Some(Arc::new(session));
        Ok(())
    }

    /// How dumps are opened now.
    pub(super) fn opening(&self) -> Opening {
        let mut options = self.open.clone();
        options.image_paths = self.settings.image_paths.clone();
        options.symbol_path = Some(self.settings.symbol_path.clone()).filter(|s| !s.is_empty());
        Opening { options, providers_off: self.settings.providers_off.clone(), watch: self.watch.clone() }
    }

    /// Keeps what was computed of the open dump for the next time, unless the user stops it.
    pub fn save_index(&self) {
        if let Some(Err(e)) = self.session.as_ref().map(|s| s.save_index(false))
            && !e.is::<Interrupted>()
        {
            self.complain(&format!("{e:#}"));
        }
    }

    /// Opens `path`, or the open dump again.
    pub(super) fn reopen(&mut self, path: Option<&std::path::Path>) -> Result<()> {
        let current = self.session.as_ref().map(|s| s.dump().path.clone());
        match path.or(current.as_deref()) {
            Some(path) => self.open(path).map_err(|e| anyhow!(e.to_string())),
            None => Ok(()),
        }
    }

    /// The command a call means. With `!`, names of that kind win; bare names prefer native commands.
    pub fn find(&self, call: &Call) -> Option<&'static Command> {
        let other = known::BANG_ALONE.iter().find(|n| call.typed == Typed::Bang && n.0 == call.name);
        let name = other.map_or(call.typed_name.as_str(), |n| n.1);
        let of = |p: Prefix| {
            let all = || self.commands.iter().filter(|c| c.prefix == p);
            all().find(|c| c.is_exactly(name)).or_else(|| all().find(|c| c.is_called(name))).copied()
        };
        match call.typed {
            Typed::Bang => of(Prefix::Bang).or_else(|| of(Prefix::Dot)).or_else(|| of(Prefix::Plain)),
            Typed::Dot => of(Prefix::Dot),
            Typed::Plain => {
                of(Prefix::Plain).or_else(|| of(Prefix::Bang)).or_else(|| of(Prefix::Dot)).or_else(|| self.joined(call))
            }
        }
    }

    /// The command whose name the call begins with, its argument following without a blank.
    fn joined(&self, call: &Call) -> Option<&'static Command> {
        let fits = |c: &&&'static Command| {
            let rest = call.name.strip_prefix(c.name);
            c.prefix == Prefix::Plain && rest.is_some_and(|r| c.joined().is_some_and(|fits| fits(r)))
        };
        self.commands.iter().filter(fits).max_by_key(|c| c.name.len()).copied()
    }

    /// Puts aliases into a line; the failure is said.
    pub fn expand(&mut self, line: &str) -> Result<String, Ended> {
        alias::expand(line, &self.settings.aliases).map_err(|why| self.mistaken(line, &why))
    }

    /// Says that the user stopped it, unless they only had seen enough.
    pub fn stopped(&mut self) -> Ended {
        if self.watch.cancel.is_enough() {
            return Ended::Well;
        }
        if !std::mem::replace(&mut self.state.stop_said, true) {
            self.complain("interrupted");
        }
        Ended::Failed
    }

    /// Forgets an earlier stop, before a line is run.
    pub fn rearm(&mut self) {
        self.watch.cancel.clear();
        self.state.stop_said = false;
    }

    /// Says why `command` failed: the whole answer, where answers are data, and an error.
    pub fn failed(&self, command: &str, why: &str) -> Ended {
        self.answer_failed(command, why, self.format);
        self.complain(why);
        Ended::Failed
    }

    /// As [`Shell::failed`], of an expression or a text of the language: it ends its line or block.
    pub fn mistaken(&self, command: &str, why: &str) -> Ended {
        self.failed(command, why);
        Ended::Cut
    }

    /// The whole answer to something that cannot run, where answers are data.
    pub fn answer_failed(&self, command: &str, why: &str, format: Format) {
        if format != Format::Json || self.state.taken.is_some() {
            return;
        }
        // Where it cannot be written, the message on stderr is all there is.
        let Ok(sink) = self.make_sink(None) else { return };
        let mut out = Out::new(sink, format);
        out.begin(&opaque::show(command), self.session.as_ref().map(|s| s.about()).as_ref());
        let _ = out.end("failed", Some(&opaque::show(why)));
    }

    /// Where output goes: to the file given, to who takes it, else to the sink, and to the log.
    pub fn make_sink(&self, output: Option<&str>) -> Result<Box<dyn Write + Send>> {
        let sink: Box<dyn Write + Send> = match output {
            Some(path) => {
                self.settings.may(&format!("-o {path}"))?;
                let file = File::create(path).with_context(|| format!("cannot write {path}"))?;
                Box::new(io::BufWriter::new(file))
            }
            None => match &self.state.taken {
                Some(taken) => return Ok(Box::new(taken.clone())),
                None => (self.sink)(),
            },
        };
        Ok(match self.log_file()? {
            Some(log) => Box::new(Tee(sink, log)),
            None => sink,
        })
    }

    fn log_file(&self) -> Result<Option<File>> {
        let Some(log) = &self.settings.log else { return Ok(None) };
        let file = File::options().append(true).create(true).open(log);
        Ok(Some(file.with_context(|| format!("cannot write {}", log.display()))?))
    }

    /// Where the answer of a command goes. On a terminal text is made to fit.
    pub(super) fn make_out(&self, command: &Command, common: &Common, format: Format) -> Result<Out> {
        let shown = format == Format::Text && common.output.is_none() && self.state.taken.is_none();
        Ok(match self.settings.window.filter(|_| shown) {
            Some(window) => {
                let screen = Screen::new((self.sink)(), self.log_file()?, window, common.wide);
                Out::new(Box::new(screen), format).marked(command.returns.all_facts())
            }
            None => Out::new(self.make_sink(common.output.as_deref())?, format).paged(self.state.page.clone()),
        })
    }

    pub(super) fn remember(&self, out: &Out) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(out.recent());
        let excess = recent.len().saturating_sub(4096);
        recent.drain(..excess);
    }

    /// An error for the user, on stderr and in the log.
    pub fn complain(&self, text: &str) {
        let shown = opaque::show(text);
        let text = &*clean_lines(&shown);
        match &self.state.errors {
            Some(errors) => errors.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned()),
            None => tell_error(text),
        }
        self.log(text);
    }

    /// Writes a line to the log, when one is open: what was typed, what went wrong.
    pub fn log(&self, text: &str) {
        if let Some(path) = &self.settings.log
            && let Ok(mut file) = File::options().append(true).open(path)
        {
            // A log that cannot be written is said by the next output.
            let _ = writeln!(file, "{text}");
        }
    }
}

/// The thread to begin with: that of the exception, else the first.
fn first_thread(dump: &Dump) -> usize {
    let faulting = dump.exception.as_ref().map(|e| e.thread_id);
    faulting.and_then(|id| dump.threads.iter().position(|t| t.os_id == id)).unwrap_or(0)
}
