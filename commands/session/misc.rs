//! Small session commands: leaving, echo, logs, other dumps, expressions.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Outcome, Prefix, Request, Returns, Type,
};

/// A session command without arguments; what differs is said by each.
pub(super) const fn plain(name: &'static str, prefix: Prefix, summary: &'static str) -> Command {
    Command::bare(name, prefix, Group::Session, summary)
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
        ctx.out.note(show(args.text("TEXT").unwrap_or("")))?;
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

const LOG: Returns = Returns::facts(&[Fact::new("log", "path of the log", Type::Text)]);

/// `.logopen`.
pub const LOGOPEN: Command = Command {
    help: "Copies everything printed from now on to FILE, which is replaced.",
    args: &[
        Arg::pos("FILE", Kind::File, "the log").required(),
        Arg::flag("t", "accepted; no effect"),
        Arg::flag("u", "accepted; logs are UTF-8"),
    ],
    examples: &[Example { line: ".logopen hunt.log", what: "keep what follows" }],
    returns: LOG,
    run: |ctx, args| log(ctx, args, false),
    ..plain("logopen", Prefix::Dot, "copy output to a file")
};

/// `.logappend`.
pub const LOGAPPEND: Command = Command {
    help: "As .logopen, but what FILE holds stays.",
    args: &[Arg::pos("FILE", Kind::File, "the log").required()],
    returns: LOG,
    run: |ctx, args| log(ctx, args, true),
    ..plain("logappend", Prefix::Dot, "append output to a file")
};

/// `.logclose`.
pub const LOGCLOSE: Command = Command {
    help: "Ends .logopen or .logappend.",
    returns: LOG,
    run: |ctx, _| {
        match &ctx.settings.log {
            Some(p) => {
                let path = p.display().to_string();
                ctx.out.fact("log", Cell::text(&path), format!("closed the log {path}"))?;
            }
            None => ctx.out.note("no log is open")?,
        }
        ctx.request = Some(Request::LogClose);
        Ok(Outcome::Complete)
    },
    ..plain("logclose", Prefix::Dot, "stop copying output")
};

fn log(ctx: &mut Ctx<'_>, args: &Args, append: bool) -> Result<Outcome> {
    let path = PathBuf::from(args.text("FILE").unwrap_or_default());
    let opened = if append { File::options().append(true).create(true).open(&path) } else { File::create(&path) };
    opened.with_context(|| format!("cannot open the log {}", path.display()))?;
    let shown = path.display().to_string();
    ctx.out.fact("log", Cell::text(&shown), format!("output is copied to {shown}"))?;
    ctx.request = Some(Request::LogOpen(path));
    Ok(Outcome::Complete)
}
