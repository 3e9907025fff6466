//! Running command lines: look-up, arguments, the sink, outcomes. The prompt, scripts and `-c` all come through here.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

use super::command::{Arg, Command, Ctx, Needs, Outcome, Prefix, Request};
use super::expr::Unevaluated;
use super::grammar::{Call, SyntaxError, parse};
use super::opaque;
use super::out::{Format, Out};
use super::parse::{arguments, reach, spelled};
use super::redact;
use super::state::{Ended, Shell, is_spreadsheet};
use super::terminal::tell;
use super::{alias, flow, known, pipes, script};
use crate::session::Session;
use crate::watch::Interrupted;

/// Lines in lines, at most this deep.
const MAX_NESTING: u32 = 64;

impl Shell {
    /// Runs one line, or the lines of a block: all commands in order. One that fails says why, and the next one runs; an
    /// expression without a value ends the line.
    pub fn line(&mut self, line: &str) -> Ended {
        match self.steps(line) {
            Ended::Cut => self.after(Ended::Failed),
            ended => ended,
        }
    }

    /// As [`Shell::line`], and says so when an expression ended it.
    pub(super) fn steps(&mut self, line: &str) -> Ended {
        // Whatever runs a line within a line comes through here: blocks, loops, `~*e`, an alias that holds itself.
        if self.state.nesting >= MAX_NESTING {
            let why = format!("commands stand in each other more than {MAX_NESTING} deep; does an alias hold itself?");
            self.failed("", &why);
            // Nothing goes on behind it: an alias that holds itself twice would run for ages.
            self.state.too_deep = true;
            return Ended::Halt;
        }
        self.state.too_deep &= self.state.nesting > 0;
        self.state.nesting += 1;
        let ended = self.in_order(line);
        self.state.nesting -= 1;
        ended
    }

    fn in_order(&mut self, line: &str) -> Ended {
        let line = match self.expand(line.trim_end_matches(['\r', '\n'])) {
            Ok(l) => l,
            Err(ended) => return ended,
        };
        let line = line.as_str();
        let calls = match parse(line, &|name, rest| reach(self.commands, name, rest)) {
            Ok(c) => c,
            Err(e) => {
                self.answer_failed(line.trim(), &e.what, self.format);
                self.complain(&e.caret(line));
                return Ended::Cut;
            }
        };
        let mut all = Ended::Well;
        for (i, call) in calls.iter().enumerate() {
            // A command too quick to notice the stop is done; those after it are not begun.
            if i > 0 && self.watch.cancel.is_set() {
                return self.stopped();
            }
            let ended = self.call(line, call);
            all = all.and(self.after(ended));
            if !matches!(all, Ended::Well | Ended::Failed) {
                return all;
            }
        }
        all
    }

    /// What a failure means for what stands behind it.
    pub(super) fn after(&self, ended: Ended) -> Ended {
        if self.settings.strict && ended.is_failure() { Ended::Halt } else { ended }
    }

    fn call(&mut self, line: &str, call: &Call) -> Ended {
        if script::is_script(&call.name) {
            return script::run(self, &call.name, call.raw.trim());
        }
        let text = line.get(call.column..call.end).unwrap_or(&call.name).trim();
        let text = opaque::show(text).into_owned();
        let Some(command) = self.find(call) else {
            let typed = line.get(call.column..call.raw_column).unwrap_or(&call.name).trim();
            let why = known::unknown(&call.name, call.typed, &opaque::show(typed), self.commands);
            self.answer_failed(&text, &why, asked(call).unwrap_or(self.format));
            self.complain(&why);
            return Ended::Failed;
        };
        let rewritten = joined(command, call, line);
        let call = rewritten.as_ref().unwrap_or(call);
        // An extension that cannot read its arguments fails as any other; a native command takes its line with it.
        let mistake = if command.prefix == Prefix::Bang { Ended::Failed } else { Ended::Cut };
        let scope = self.settings.scope(self.session.as_deref().map(Session::dump));
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
                return mistake;
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
        let sheets = common.output.as_deref().is_some_and(is_spreadsheet);
        if self.settings.redact
            && format == Format::Text
            && !sheets
            && !command.args.iter().any(|a| a.name == redact::REDACT)
        {
            let why = "with --redact answers leave as --json or --csv, and by .report and .export: text has no columns to tell by";
            self.complain(why);
            return Ended::Failed;
        }
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
            let skipped = args.raw_at.unwrap_or(call.raw.len() - call.raw.trim_start().len());
            let e = SyntaxError { column: call.raw_column + skipped + e.column, what: e.what.clone() };
            let _ = out.end("failed", Some(&e.what));
            self.complain(&format!("{}\n{}", e.caret(line), super::parse::usage(command)));
            return mistake;
        }
        let cut = result.as_ref().is_err_and(|e| e.chain().any(|e| e.is::<Unevaluated>()));
        match self.finish(result, &mut out) {
            Ended::Failed if cut => mistake,
            ended => ended,
        }
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
            (Needs::CoreClr, Some(s)) => {
                if s.clr()?.ahead().is_some() {
                    let what =
                        "a NativeAOT program has no modules, MethodDescs, IL, EEClasses, app domains or load contexts";
                    return Err(anyhow!("{} has no meaning here: {what}", spelled(command)));
                }
            }
            (Needs::Dump, Some(_)) => {}
        }
        let opening = self.opening();
        let mut ctx = Ctx {
            session: self.session.as_deref(),
            opening: &opening,
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
            Request::Thread(index) => {
                self.settings.thread = index;
                self.settings.choose(None);
            }
            Request::Each { threads, line, heads } => return self.each(&threads, &line, heads),
            Request::Lines(lines) => return flow::each(self, lines.iter(), |shell, line| shell.line(line)),
            Request::Control(control) => return flow::run(self, &control),
            Request::Capture { name, line } => match flow::taken(self, &line) {
                Ok((text, ended)) => {
                    alias::set(&mut self.settings.aliases, name, opaque::hide(text.trim_end()));
                    return ended;
                }
                Err(ended) => return ended,
            },
            Request::Program { program, line } => return flow::program(self, &program, line.as_deref()),
        }
        Ended::Well
    }

    fn each(&mut self, threads: &[usize], line: &str, heads: bool) -> Ended {
        let before = (self.settings.thread, self.settings.context.take());
        let ended = flow::each(self, threads.iter(), |shell, &index| {
            if heads {
                shell.settings.thread = before.0;
                let head = shell.line(&format!("~{index}"));
                if !matches!(head, Ended::Well) {
                    return head;
                }
            }
            shell.settings.thread = index;
            shell.line(line)
        });
        (self.settings.thread, self.settings.context) = before;
        ended
    }
}

/// A call whose arguments begin in the name as it was typed: `lmvm clr` is `lm vm clr`.
fn joined(command: &Command, call: &Call, line: &str) -> Option<Call> {
    command.joined()?;
    let start = call.column + command.name.len();
    let rest = line.get(start..call.raw_column + call.raw.len()).filter(|_| start < call.raw_column)?;
    let typed = line.get(call.column..start)?;
    typed.eq_ignore_ascii_case(command.name).then(|| Call { raw: rest.to_owned(), raw_column: start, ..call.clone() })
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

/// Whether an error is a closed pipe: someone piped us into `head`.
fn is_broken_pipe(e: &(dyn std::error::Error + 'static)) -> bool {
    e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
