//! Small session commands: leaving, echo, time, logs, threads, other dumps.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::dump::DumpKind;
use crate::shell::banner::{event, utc};
use crate::shell::opaque::show;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns};

const fn plain(name: &'static str, prefix: Prefix, summary: &'static str) -> Command {
    Command {
        name,
        prefix,
        aliases: &[],
        group: Group::Session,
        summary,
        help: "",
        args: &[],
        examples: &[],
        needs: Needs::Nothing,
        returns: Returns::NOTHING,
        run: |_, _| Ok(Outcome::Complete),
    }
}

/// `q`.
pub const QUIT: Command = Command {
    aliases: &["quit", "exit", "qq", "qd"],
    help: "Leaves the shell. Ctrl-D does too.",
    run: |ctx, _| {
        ctx.request = Some(Request::Quit);
        Ok(Outcome::Complete)
    },
    ..plain("q", Prefix::Plain, "leave")
};

/// `.echo`.
pub const ECHO: Command = Command {
    help: "Prints its text; useful in scripts. A semicolon ends it.",
    args: &[Arg::pos("TEXT", Kind::Rest, "what to print")],
    examples: &[Example { line: ".echo ---- heap ----", what: "a heading in a log" }],
    run: |ctx, args| {
        ctx.out.line(show(args.text("TEXT").unwrap_or("")))?;
        Ok(Outcome::Complete)
    },
    ..plain("echo", Prefix::Dot, "print text")
};

/// `.cls`.
pub const CLS: Command = Command {
    help: "Clears the screen.",
    run: |ctx, _| {
        ctx.request = Some(Request::ClearScreen);
        Ok(Outcome::Complete)
    },
    ..plain("cls", Prefix::Dot, "clear the screen")
};

/// `.opendump`.
pub const OPENDUMP: Command = Command {
    help: "Closes the open dump and opens FILE.",
    args: &[Arg::pos("FILE", Kind::File, "the dump").required()],
    examples: &[Example { line: ".opendump other.core", what: "go on with another dump" }],
    run: |ctx, args| {
        ctx.request = args.text("FILE").map(|f| Request::Open(PathBuf::from(f)));
        Ok(Outcome::Complete)
    },
    ..plain("opendump", Prefix::Dot, "open another dump")
};

/// `.logopen`.
pub const LOGOPEN: Command = Command {
    help: "Copies everything printed from now on to FILE, which is replaced.",
    args: &[
        Arg::pos("FILE", Kind::File, "the log").required(),
        Arg::flag("t", "accepted; no effect"),
        Arg::flag("u", "accepted; logs are UTF-8"),
    ],
    examples: &[Example { line: ".logopen hunt.log", what: "keep what follows" }],
    run: |ctx, args| log(ctx, args, false),
    ..plain("logopen", Prefix::Dot, "copy output to a file")
};

/// `.logappend`.
pub const LOGAPPEND: Command = Command {
    help: "As .logopen, but what FILE holds stays.",
    args: &[Arg::pos("FILE", Kind::File, "the log").required()],
    run: |ctx, args| log(ctx, args, true),
    ..plain("logappend", Prefix::Dot, "append output to a file")
};

/// `.logclose`.
pub const LOGCLOSE: Command = Command {
    help: "Ends .logopen or .logappend.",
    run: |ctx, _| {
        let said = match &ctx.settings.log {
            Some(p) => format!("closed the log {}", p.display()),
            None => "no log is open".into(),
        };
        ctx.out.line(said)?;
        ctx.request = Some(Request::LogClose);
        Ok(Outcome::Complete)
    },
    ..plain("logclose", Prefix::Dot, "stop copying output")
};

fn log(ctx: &mut Ctx<'_>, args: &Args, append: bool) -> Result<Outcome> {
    let path = PathBuf::from(args.text("FILE").unwrap_or_default());
    let opened = if append { File::options().append(true).create(true).open(&path) } else { File::create(&path) };
    opened.with_context(|| format!("cannot open the log {}", path.display()))?;
    ctx.out.line(format!("output is copied to {}", path.display()))?;
    ctx.request = Some(Request::LogOpen(path));
    Ok(Outcome::Complete)
}

/// `.time`.
pub const TIME: Command = Command {
    help: "When the dump was written, how long the process had run, its CPU times, as far as the dump records them.",
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let p = &ctx.session()?.dump().process;
        let none = || "not recorded".to_owned();
        let written =
            ctx.session()?.dump().file_time.map_or_else(none, |t| format!("not recorded; file written {}", utc(t)));
        ctx.out.line(format!("Debug session time: {}", p.dump_time.map_or(written, utc)))?;
        let up = p.dump_time.zip(p.start_time).map(|(d, s)| span(d.saturating_sub(s)));
        ctx.out.line(format!("Process Uptime: {}", up.unwrap_or_else(none)))?;
        ctx.out.line(format!("  Kernel time: {}", p.cpu_seconds.map_or_else(none, |c| span(c.1))))?;
        ctx.out.line(format!("  User time: {}", p.cpu_seconds.map_or_else(none, |c| span(c.0))))?;
        Ok(Outcome::Complete)
    },
    ..plain("time", Prefix::Dot, "times of dump and process")
};

fn span(seconds: u64) -> String {
    let (d, r) = (seconds / 86_400, seconds % 86_400);
    format!("{d} days {}:{:02}:{:02}", r / 3600, r / 60 % 60, r % 60)
}

/// `vertarget`.
pub const VERTARGET: Command = Command {
    aliases: &["version"],
    help: "The machine and the process of the dump, and the runtime in it.",
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let session = ctx.session()?;
        let thread = ctx.settings.thread;
        for line in crate::shell::banner::lines(session, thread) {
            ctx.out.line(line)?;
        }
        let p = &session.dump().process;
        if let Some(n) = p.processors {
            ctx.out.line(format!("{n} processors, page size {}", p.page_size))?;
        }
        if let Some(c) = &p.command_line {
            ctx.out.line(format!("command line: {c}"))?;
        }
        Ok(Outcome::Complete)
    },
    ..plain("vertarget", Prefix::Plain, "machine, process and runtime of the dump")
};

/// `.lastevent`.
pub const LASTEVENT: Command = Command {
    help: "The event the dump was taken at: exception code or signal, address, thread.",
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let dump = ctx.session()?.dump();
        let pid = dump.process.pid.unwrap_or(0);
        match &dump.exception {
            Some(e) => {
                let what = event(dump.os, e);
                ctx.out.line(format!("Last event: {pid:x}.{:x}: {what} at {:x}", e.thread_id, e.address))?;
                if let Some(managed) = ctx.session()?.describe_exception() {
                    ctx.out.line(format!("  managed exception {managed}"))?;
                }
                if let Some(t) = dump.process.dump_time {
                    ctx.out.line(format!("  debugger time: {}", utc(t)))?;
                }
                Ok(Outcome::Complete)
            }
            None => {
                let kind = if matches!(dump.kind, DumpKind::Minidump { .. }) { "exception stream" } else { "signal" };
                ctx.out.line(format!("no event: the dump has no {kind}, it was taken of a running process"))?;
                Ok(Outcome::Empty)
            }
        }
    },
    ..plain("lastevent", Prefix::Dot, "what the dump was taken at")
};

/// `?`.
pub const EVALUATE: Command = Command {
    help: "Evaluates an expression: hexadecimal numbers (0n decimal, 0t octal, 0y binary), + - * / % & | ^ << >> >>> ~ !, \
           comparisons (== != < > <= >=, 1 or 0), parentheses, poi qwo dwo wo by hi low not, $scmp(\"a\", \"b\"), $sicmp, \
           $spat(\"text\", \"pattern*\"), registers (@rax), @$ip @$csp @$retreg @$teb @$peb @$tid @$tpid @$ptrsize \
           @$pagesize @$exr_code, @$t0 to @$t19 (set by r $t0 = EXPRESSION), module names.",
    args: &[Arg::pos("EXPRESSION", Kind::Rest, "what to evaluate")],
    examples: &[Example { line: "? poi(@$csp)+0n16", what: "a pointer on the stack plus 16" }],
    run: |ctx, args| {
        let text = args.text("EXPRESSION").unwrap_or("");
        if text.is_empty() {
            ctx.out.line(".help lists the commands; ? EXPRESSION evaluates one")?;
            return Ok(Outcome::Complete);
        }
        let v = crate::commands::memory::value(ctx, text)?;
        ctx.out.line(format!("Evaluate expression: {} = {:08x}`{:08x}", v as i64, v >> 32, v & 0xFFFF_FFFF))?;
        Ok(Outcome::Complete)
    },
    ..plain("?", Prefix::Plain, "evaluate an expression")
};
