//! Small session commands: leaving, echo, time, logs, threads, other dumps.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};

use crate::dump::{DumpKind, Os};
use crate::shell::banner::utc;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request};

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
        ctx.out.line(args.text("TEXT").unwrap_or(""))?;
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
    ctx.out.line(format!("output is copied to {}", path.display()))?;
    ctx.request = Some(Request::LogOpen { path, append });
    Ok(Outcome::Complete)
}

/// `.time`.
pub const TIME: Command = Command {
    help: "When the dump was written, how long the process had run, its CPU times, as far as the dump records them.",
    needs: Needs::Dump,
    run: |ctx, _| {
        let p = &ctx.session()?.dump().process;
        let none = || "not recorded".to_owned();
        ctx.out.line(format!("Debug session time: {}", p.dump_time.map_or_else(none, utc)))?;
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
    run: |ctx, _| {
        let dump = ctx.session()?.dump();
        let pid = dump.process.pid.unwrap_or(0);
        match &dump.exception {
            Some(e) => {
                let what = if dump.os == Os::Linux {
                    format!("signal {}", e.code)
                } else {
                    format!("exception {:08x}", e.code)
                };
                ctx.out.line(format!("Last event: {pid:x}.{:x}: {what} at {:x}", e.thread_id, e.address))?;
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
    help: "Evaluates an expression: hexadecimal numbers (0n decimal, 0t octal, 0y binary), + - * / % & | ^ << >> ~, \
           parentheses, poi qwo dwo wo by, registers (@$csp), @$ip @$teb @$tpid @$ptrsize, module names.",
    args: &[Arg::pos("EXPRESSION", Kind::Rest, "what to evaluate")],
    examples: &[Example { line: "? poi(@$csp)+0n16", what: "a pointer on the stack plus 16" }],
    run: |ctx, args| {
        let text = args.text("EXPRESSION").unwrap_or("");
        if text.is_empty() {
            ctx.out.line(".help lists the commands; ? EXPRESSION evaluates one")?;
            return Ok(Outcome::Complete);
        }
        let user = [0; 20];
        let dump = ctx.session.map(|s| s.dump());
        let scope = crate::shell::expr::Scope { dump, thread: ctx.settings.thread, user: &user };
        let v = crate::shell::expr::evaluate(text, &scope).map_err(|e| anyhow!(e))?;
        ctx.out.line(format!("Evaluate expression: {} = {:08x}`{:08x}", v as i64, v >> 32, v & 0xFFFF_FFFF))?;
        Ok(Outcome::Complete)
    },
    ..plain("?", Prefix::Plain, "evaluate an expression")
};

const THREADS: &[Col] = &[
    Col::right("", "current", 1),
    Col::right("", "index", 3),
    Col::left("", "id", 22),
    Col::left("", "suspend", 11),
    Col::left("", "teb", 22),
    Col::left("", "name", 0),
];

/// `~`.
pub const THREAD: Command = Command {
    help: "~ lists the threads of the dump (. the current one, # the one of the event). ~Ns makes thread N current, \
           ~~[ID]s the one of that id. ~*e COMMAND runs a command with each thread current, ~Ne COMMAND with one.",
    args: &[Arg::pos("SPEC", Kind::Rest, "nothing or * to list, Ns to switch, . or # for one")],
    examples: &[Example { line: "~0s", what: "make thread 0 current" }],
    needs: Needs::Dump,
    run: threads,
    ..plain("~", Prefix::Plain, "list threads, switch the current one")
};

/// `*e COMMAND`: which threads, and what to run; the command must not be another `~`.
fn each(spec: &str) -> Option<(&str, &str)> {
    let (which, line) = spec.split_once('e')?;
    let known = matches!(which, "*" | "." | "#" | "") || which.bytes().all(|b| b.is_ascii_digit());
    let line = line.trim();
    (known && !line.is_empty() && !line.starts_with('~')).then_some((which, line))
}

fn threads(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let spec = args.text("SPEC").unwrap_or("").trim().to_owned();
    let faulting = dump.exception.as_ref().map(|e| e.thread_id);
    let current = ctx.settings.thread;
    if let Some((which, line)) = each(&spec) {
        let threads = match which {
            "*" => (0..dump.threads.len()).collect(),
            "." | "" => vec![current],
            "#" => dump.threads.iter().position(|t| Some(t.os_id) == faulting).into_iter().collect(),
            n => match n.parse::<usize>() {
                Ok(i) if i < dump.threads.len() => vec![i],
                _ => bail!("no thread {n}; there are 0 to {}", dump.threads.len().saturating_sub(1)),
            },
        };
        ctx.request = Some(Request::Each { threads, line: line.to_owned() });
        return Ok(Outcome::Complete);
    }
    if let Some(n) = spec.strip_suffix('s') {
        let by_id = n.strip_prefix("~[").and_then(|r| r.strip_suffix(']'));
        let index = match by_id {
            Some(id) => u64::from_str_radix(id.trim_start_matches("0x"), 16)
                .ok()
                .and_then(|id| dump.threads.iter().position(|t| t.os_id == id)),
            None => n.trim().parse::<usize>().ok().filter(|&i| i < dump.threads.len()),
        };
        let Some(index) = index else {
            bail!("no thread {n}; there are 0 to {}", dump.threads.len().saturating_sub(1))
        };
        ctx.request = Some(Request::Thread(index));
        return Ok(Outcome::Complete);
    }
    let chosen: Vec<usize> = match spec.as_str() {
        "" | "*" => (0..dump.threads.len()).collect(),
        "." => vec![current],
        "#" => dump.threads.iter().position(|t| Some(t.os_id) == faulting).into_iter().collect(),
        n => match n.parse::<usize>() {
            Ok(i) if i < dump.threads.len() => vec![i],
            _ => bail!("expected ~, ~*, ~N, ~Ns, ~., ~# or ~*e COMMAND"),
        },
    };
    ctx.out.table("threads", THREADS, false)?;
    let pid = dump.process.pid.unwrap_or(0);
    for i in chosen {
        let t = &dump.threads[i];
        let mark = if i == current {
            "."
        } else if Some(t.os_id) == faulting {
            "#"
        } else {
            ""
        };
        let teb = t.teb.map(|a| format!("Teb: {:08x}`{:08x}", a >> 32, a & 0xFFFF_FFFF)).unwrap_or_default();
        ctx.out.row(&[
            Cell::text(mark),
            Cell::Num(i as u64),
            Cell::text(format!(" Id: {pid:x}.{:x}", t.os_id)),
            Cell::text(format!("Suspend: {}", t.suspend_count)),
            Cell::text(teb),
            Cell::text(t.name.as_ref().map(|n| format!("\"{n}\"")).unwrap_or_default()),
        ])?;
    }
    Ok(Outcome::Complete)
}
