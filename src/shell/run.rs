//! Running command lines: look-up, arguments, the sink, outcomes. The prompt, scripts and `-c` all come through here.

use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};

use super::command::{Arg, Command, Ctx, Needs, Outcome, Prefix, Request, Settings};
use super::control::Jump;
use super::expr::Scope;
use super::flow::Taken;
use super::grammar::{Call, SyntaxError, Typed, parse};
use super::opaque;
use super::out::{Format, Out};
use super::parse::{Common, arguments, reach, spelled};
use super::screen::Screen;
use super::terminal::{tell, tell_error};
use super::{alias, flow, known, pipes, script};
use crate::dump::{Dump, OpenError, OpenOptions};
use crate::session::Session;
use crate::session::saved::IndexMode;
use crate::watch::{Interrupted, Watch};

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every command ran, complete, partial or empty.
    Well,
    /// At least one failed.
    Failed,
    /// The user asked to leave.
    Quit,
    /// A loop or `.catch` around it is to be left.
    Left(Jump),
}

/// What the shell remembers while a line runs.
#[derive(Debug, Default)]
pub struct State {
    /// Blocks the running command stands in.
    pub nesting: u32,
    /// Loops of those.
    pub loops: u32,
    /// `.catch` blocks of those.
    pub catches: u32,
    /// Takes the output instead of the sink.
    pub taken: Option<Taken>,
    /// The last failure was a mistake in what was typed: an unknown command, a wrong argument.
    pub mistake: bool,
    /// The last output did not end its line.
    pub mid_line: bool,
    /// Takes errors instead of stderr, for those who run the shell inside another program.
    pub errors: Option<Arc<Mutex<Vec<String>>>>,
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
        let mut options = self.open.clone();
        options.image_paths = self.settings.image_paths.clone();
        options.symbol_path = Some(self.settings.symbol_path.clone()).filter(|s| !s.is_empty());
        let dump = Dump::open(path, &options, &self.watch)?;
        self.save_index();
        self.settings.thread = first_thread(&dump);
        super::numbers::set_pointer_size(dump.arch.pointer_size());
        let off = self.settings.providers_off.clone();
        // What is kept for the next time was found with all providers.
        let index = if off.is_empty() { self.settings.index.clone() } else { IndexMode::None };
        let session = Session::new(dump, self.watch.clone()).without(off).with_index(index, &options);
        self.session = Some(Arc::new(session));
        Ok(())
    }

    /// Keeps what was computed of the open dump for the next time, unless the user stops it.
    pub fn save_index(&self) {
        if let Some(Err(e)) = self.session.as_ref().map(|s| s.save_index(false))
            && !e.is::<Interrupted>()
        {
            self.complain(&format!("{e:#}"));
        }
    }

    /// The command a call means. With `!`, names of that kind win; bare names prefer native commands.
    pub fn find(&self, call: &Call) -> Option<&'static Command> {
        let named = |c: &&&'static Command| {
            c.name.eq_ignore_ascii_case(&call.name) || c.aliases.iter().any(|a| a.eq_ignore_ascii_case(&call.name))
        };
        let of = |p: Prefix| self.commands.iter().filter(named).find(|c| c.prefix == p).copied();
        match call.typed {
            Typed::Bang => of(Prefix::Bang).or_else(|| of(Prefix::Dot)).or_else(|| of(Prefix::Plain)),
            Typed::Dot => of(Prefix::Dot),
            Typed::Plain => of(Prefix::Plain).or_else(|| of(Prefix::Bang)).or_else(|| of(Prefix::Dot)),
        }
    }

    /// Puts aliases into a line; the failure is said.
    pub fn expand(&mut self, line: &str) -> Result<String, Ended> {
        alias::expand(line, &self.settings.aliases).map_err(|why| {
            self.answer_failed(line, &why, self.format);
            self.complain(&why);
            Ended::Failed
        })
    }

    /// Runs one line, or the lines of a block: all commands in order. A failure ends it.
    pub fn line(&mut self, line: &str) -> Ended {
        let line = match self.expand(line.trim_end_matches(['\r', '\n'])) {
            Ok(l) => l,
            Err(ended) => return ended,
        };
        let line = line.as_str();
        let calls = match parse(line, &|name, rest| reach(self.commands, name, rest)) {
            Ok(c) => c,
            Err(e) => {
                self.answer_failed(&opaque::show(line.trim()), &e.what, self.format);
                self.complain(&e.caret(line));
                self.state.mistake = true;
                return Ended::Failed;
            }
        };
        for (i, call) in calls.iter().enumerate() {
            // A command too quick to notice the stop is done; those after it are not begun.
            if i > 0 && self.watch.cancel.is_set() {
                return self.stopped();
            }
            let ended = self.call(line, call);
            if ended != Ended::Well {
                return ended;
            }
        }
        Ended::Well
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

    fn call(&mut self, line: &str, call: &Call) -> Ended {
        if script::is_script(&call.name) {
            return script::run(self, &call.name, call.raw.trim());
        }
        let text = line.get(call.column..call.end).unwrap_or(&call.name).trim();
        let text = opaque::show(text).into_owned();
        let Some(command) = self.find(call) else {
            let why = known::unknown(&call.name, call.typed, self.commands);
            self.answer_failed(&text, &why, asked(call).unwrap_or(self.format));
            self.complain(&why);
            self.state.mistake = true;
            return Ended::Failed;
        };
        let user = self.settings.user;
        let scope =
            Scope { dump: self.session.as_deref().map(Session::dump), thread: self.settings.thread, user: &user };
        let read = arguments(command, call, &scope).map_err(|e| {
            let said = format!("{}\n{}", e.caret(line), super::parse::usage(command));
            (e, said)
        });
        let mut pipes = call.pipes.clone();
        let end = call.raw_column + call.raw.len();
        let read = read.and_then(|read| match pipes::check(&mut pipes, command, end, &scope) {
            Ok(()) => Ok(read),
            Err(e) => {
                let said = e.caret(line);
                Err((e, said))
            }
        });
        let (args, common) = match read {
            Ok(a) => a,
            Err((e, said)) => {
                self.answer_failed(&text, &e.what, asked(call).unwrap_or(self.format));
                self.complain(&said);
                self.state.mistake = true;
                return Ended::Failed;
            }
        };
        let given = |a: &&Arg| a.outside && args.has(a.name) && args.text(a.name) != Some("");
        let allowed = match command.args.iter().find(given) {
            Some(_) => self.settings.may(&spelled(command)),
            None => Ok(()),
        };
        if let Err(e) = allowed {
            self.answer_failed(&text, &format!("{e:#}"), asked(call).unwrap_or(self.format));
            self.complain(&format!("{e:#}"));
            return Ended::Failed;
        }
        let taken = self.state.taken.is_some() && common.output.is_none();
        let format = if taken { Format::Text } else { common.format.unwrap_or(self.format) };
        let mut out = match self.make_out(command, &common, format) {
            Ok(out) => out,
            Err(e) => {
                self.answer_failed(&text, &format!("{e:#}"), format);
                self.complain(&format!("{e:#}"));
                return Ended::Failed;
            }
        };
        out.set_pipes(pipes);
        let result = self.invoke(command, &args, &mut out, &text);
        self.remember(&out);
        if let Err(e) = &result
            && let Some(e) = e.downcast_ref::<SyntaxError>()
        {
            // A command that reads its text itself points into it; the line's place is known here.
            let skipped = call.raw.len() - call.raw.trim_start().len();
            let e = SyntaxError { column: call.raw_column + skipped + e.column, what: e.what.clone() };
            let _ = out.end("failed", Some(&e.what));
            self.complain(&format!("{}\n{}", e.caret(line), super::parse::usage(command)));
            self.state.mistake = true;
            return Ended::Failed;
        }
        self.finish(result, &mut out)
    }

    /// The whole answer to something that cannot run, where answers are data.
    pub fn answer_failed(&self, command: &str, why: &str, format: Format) {
        if format != Format::Json || self.state.taken.is_some() {
            return;
        }
        // Where it cannot be written, the message on stderr is all there is.
        let Ok(sink) = self.make_sink(None) else { return };
        let mut out = Out::new(sink, format);
        out.begin(command, self.session.as_ref().map(|s| s.about()).as_ref());
        let _ = out.end("failed", Some(why));
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
    fn make_out(&self, command: &Command, common: &Common, format: Format) -> Result<Out> {
        let shown = format == Format::Text && common.output.is_none() && self.state.taken.is_none();
        Ok(match self.settings.window.filter(|_| shown) {
            Some(window) => {
                let screen = Screen::new((self.sink)(), self.log_file()?, window, common.wide);
                Out::new(Box::new(screen), format).marked(command.returns.all_facts())
            }
            None => Out::new(self.make_sink(common.output.as_deref())?, format),
        })
    }

    fn invoke(
        &mut self,
        command: &'static Command,
        args: &super::Args,
        out: &mut Out,
        text: &str,
    ) -> Result<(Outcome, Option<Request>)> {
        // Finding the runtime takes a moment: only where the answer names it.
        let about = self.session.as_ref().filter(|_| out.format() == Format::Json).map(|s| s.about());
        out.begin(text, about.as_ref());
        match (command.needs, &self.session) {
            (Needs::Nothing, _) => {}
            (_, None) => return Err(anyhow!("no dump is open; open one with .opendump FILE")),
            (Needs::Clr, Some(s)) => {
                s.clr()?;
            }
            (Needs::Dump, Some(_)) => {}
        }
        let mut ctx = Ctx {
            session: self.session.as_deref(),
            out,
            settings: &mut self.settings,
            commands: self.commands,
            request: None,
        };
        // A bug in one command must not take the prompt down: the session's caches are only set when complete.
        let run = catch_unwind(AssertUnwindSafe(|| (command.run)(&mut ctx, args)));
        let request = ctx.request.take();
        self.watch.progress.finish();
        match run {
            Ok(result) => result.and_then(|outcome| settled(out, outcome)).map(|o| (o, request)),
            Err(_) => Err(anyhow!(
                "{} hit a bug in clrscope; please report it with the dump's runtime version",
                spelled(command)
            )),
        }
    }

    fn remember(&self, out: &Out) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(out.recent());
        let excess = recent.len().saturating_sub(4096);
        recent.drain(..excess);
    }

    fn finish(&mut self, result: Result<(Outcome, Option<Request>)>, out: &mut Out) -> Ended {
        // Whether another dump opens belongs to the answer.
        let result = match result {
            Ok((outcome, Some(Request::Open(path)))) => self.reopen(Some(&path)).map(|()| (outcome, None)),
            Ok((outcome, Some(Request::Reopen))) => self.reopen(None).map(|()| (outcome, None)),
            other => other,
        };
        let (ended, said) = match result {
            Ok((outcome, request)) => {
                let said = match &outcome {
                    Outcome::Complete => out.end("complete", None),
                    Outcome::Empty => out.end("empty", None),
                    Outcome::Partial(why) if self.state.taken.is_some() => {
                        // No word of it is one of the answer.
                        tell(&format!("partial: {why}"));
                        out.end("partial", Some(why))
                    }
                    Outcome::Partial(why) => out.partial(why).and_then(|()| out.end("partial", Some(why))),
                };
                (request.map_or(Ended::Well, |r| self.request(r)), said)
            }
            Err(e) => {
                if e.chain().any(is_broken_pipe) {
                    return Ended::Quit;
                }
                if self.watch.cancel.is_enough() && e.chain().any(|e| e.is::<Interrupted>()) {
                    return Ended::Well;
                }
                let said = out.end("failed", Some(&format!("{e:#}")));
                if e.chain().any(|e| e.is::<Interrupted>()) && self.watch.cancel.is_set() {
                    (self.stopped(), said)
                } else {
                    self.complain(&format!("{e:#}"));
                    (Ended::Failed, said)
                }
            }
        };
        if self.state.taken.is_none() {
            self.state.mid_line = out.mid_line();
        }
        match said {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ended::Quit,
            Err(e) => {
                self.complain(&format!("cannot write the output: {e}"));
                Ended::Failed
            }
            Ok(()) => ended,
        }
    }

    fn request(&mut self, request: Request) -> Ended {
        match request {
            Request::Quit => return Ended::Quit,
            // Done before the answer ended.
            Request::Open(_) | Request::Reopen => {}
            Request::LogOpen(path) => self.settings.log = Some(path),
            Request::LogClose => self.settings.log = None,
            Request::ClearScreen => {
                let _ = (self.sink)().write_all(b"\x1b[2J\x1b[H");
            }
            Request::Thread(index) => self.settings.thread = index,
            Request::Each { threads, line } => return self.each(&threads, &line),
            Request::Lines(lines) => return flow::each(self, lines.iter(), |shell, line| shell.line(line)),
            Request::Control(control) => return flow::run(self, &control),
            Request::Capture { name, line } => match flow::taken(self, &line) {
                Ok(text) => set_alias(&mut self.settings.aliases, name, opaque::hide(text.trim_end())),
                Err(ended) => return ended,
            },
            Request::Program { program, line } => return flow::program(self, &program, line.as_deref()),
        }
        Ended::Well
    }

    fn each(&mut self, threads: &[usize], line: &str) -> Ended {
        let before = self.settings.thread;
        let ended = flow::each(self, threads.iter(), |shell, &index| {
            shell.settings.thread = index;
            shell.line(line)
        });
        self.settings.thread = before;
        ended
    }

    /// Opens `path`, or the open dump again.
    fn reopen(&mut self, path: Option<&std::path::Path>) -> Result<()> {
        let current = self.session.as_ref().map(|s| s.dump().path.clone());
        match path.or(current.as_deref()) {
            Some(path) => self.open(path).map_err(|e| anyhow!(e.to_string())),
            None => Ok(()),
        }
    }

    /// An error for the user, on stderr and in the log.
    pub fn complain(&self, text: &str) {
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

/// The outcome of a command once what its pipes kept has gone on. Pipes that need a table fail where there is none, unless
/// the command says why.
fn settled(out: &mut Out, outcome: Outcome) -> Result<Outcome> {
    let result = match &outcome {
        Outcome::Complete if out.lacks_tables() => Err(anyhow!("the answer has no table for the pipes behind it")),
        _ => out.settle().map_err(anyhow::Error::from),
    };
    match (result, outcome) {
        (Ok(()), outcome) => Ok(outcome),
        // That the answer is partial is said all the same.
        (Err(e), Outcome::Partial(why)) if !is_broken(&e) => Err(anyhow!("{e:#}; the answer is partial: {why}")),
        (Err(e), _) => Err(e),
    }
}

fn is_broken(e: &anyhow::Error) -> bool {
    e.chain().any(is_broken_pipe)
}

/// The format a call asks for, whatever else is wrong with it.
fn asked(call: &Call) -> Option<Format> {
    let options: Vec<String> = call.raw.split_whitespace().map(|w| w.to_lowercase().replace("--", "-")).collect();
    let has = |name: &str| options.iter().any(|o| o == name);
    if has("-json") { Some(Format::Json) } else { has("-csv").then_some(Format::Csv) }
}

/// Sets the text of an alias, in the place of an older one of that name.
pub fn set_alias(aliases: &mut Vec<(String, String)>, name: String, text: String) {
    match aliases.iter_mut().find(|a| a.0 == name) {
        Some(a) => a.1 = text,
        None => aliases.push((name, text)),
    }
}

/// Whether an error is a closed pipe: someone piped us into `head`.
fn is_broken_pipe(e: &(dyn std::error::Error + 'static)) -> bool {
    e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The thread to begin with: that of the exception, else the first.
fn first_thread(dump: &Dump) -> usize {
    let faulting = dump.exception.as_ref().map(|e| e.thread_id);
    faulting.and_then(|id| dump.threads.iter().position(|t| t.os_id == id)).unwrap_or(0)
}
