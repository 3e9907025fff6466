//! `?`, `??`, `n`, `.expr`: expressions and how they are read.

use anyhow::{Result, bail};

use super::misc::plain;
use crate::shell::expr::{Unevaluated, cplus};
use crate::shell::opaque::{show, words};
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Outcome, Prefix, Returns, Type};

/// `?`.
pub const EVALUATE: Command = Command {
    help: "Evaluates an expression: hexadecimal numbers (0n decimal, 0t octal, 0y binary; n changes what bare numbers are), \
           + - * / % & | ^ << >> >>> ~ !, comparisons (== != < > <= >=, 1 or 0), parentheses; poi qwo dwo wo by hi low \
           not, with parentheses or without; $scmp(\"a\", \"b\"), $sicmp, $spat(\"text\", \"pattern*\"), \
           $vvalid(ADDRESS, LENGTH), $iment(BASE); registers (@rax), `.` and @$ip, @$csp @$retreg @$teb @$peb @$tid @$tpid \
           @$ptrsize @$pagesize @$exp @$p @$exentry @$exr_code, @$t0 to @$t19 (set by r $t0 = EXPRESSION), module names; \
           @@c++(EXPRESSION), see ??.",
    args: &[Arg::pos("EXPRESSION", Kind::Rest, "what to evaluate")],
    examples: &[
        Example { line: "? poi(@$csp)+0n16", what: "a pointer on the stack plus 16" },
        Example { line: "? $vvalid(@$csp, 10) & not 0", what: "whether memory is there" },
    ],
    group: Group::Session,
    returns: Returns::facts(&[
        Fact::new("value", "the value as 64 bits", Type::Hex),
        Fact::new("signed", "the same with a sign", Type::Number),
    ]),
    run: |ctx, args| {
        let text = args.text("EXPRESSION").unwrap_or("");
        if text.is_empty() {
            ctx.out.note(".help lists the commands; ? EXPRESSION evaluates one")?;
            return Ok(Outcome::Complete);
        }
        let v = crate::commands::memory::value(ctx, text)?;
        ctx.settings.values.exp = v;
        // A value of a 32-bit process has 8 digits, when it needs no more.
        let narrow = ctx.session.is_some_and(|s| s.dump().arch.pointer_size() == 4);
        let narrow = narrow && (v >> 32 == 0 || v >> 31 == 0x1_FFFF_FFFF);
        let signed = if narrow { i64::from(v as u32 as i32) } else { v as i64 };
        let v = if narrow { u64::from(v as u32) } else { v };
        let digits = if narrow { format!("{v:08x}") } else { format!("{:08x}`{:08x}", v >> 32, v & 0xFFFF_FFFF) };
        let line = format!("Evaluate expression: {signed} = {digits}");
        ctx.out.facts(&[("value", Cell::Hex(v)), ("signed", Cell::Int(signed))], line)?;
        Ok(Outcome::Complete)
    },
    ..plain("?", Prefix::Plain, "evaluate an expression")
};

/// `??`.
pub const EVALUATE_CPLUS: Command = Command {
    help: "Evaluates a C++ expression and prints its type and value: decimal numbers (0x hexadecimal, a leading 0 octal), \
           the operators of C, registers (@rax, @$t0), casts between base types and pointers to them, what such pointers \
           point to (*(int *)@rsp, ((char *)@rsi)[3]), sizeof. Names and members need symbols, which are not read.",
    args: &[Arg::pos("EXPRESSION", Kind::LineBut(&[]), "what to evaluate")],
    examples: &[Example { line: "?? *(unsigned int *)@$csp", what: "four bytes on the stack" }],
    returns: Returns::facts(&[
        Fact::new("value", "the value as 64 bits", Type::Hex),
        Fact::new("shown", "its type and value as C++ has them", Type::Text),
    ]),
    run: |ctx, args| {
        let text = args.text("EXPRESSION").unwrap_or("");
        let scope = ctx.settings.scope(ctx.session.map(|s| s.dump()));
        let v = cplus::evaluate(&words(text), &scope).map_err(Unevaluated)?;
        ctx.settings.values.exp = v.bits();
        let shown = v.shown();
        ctx.out.facts(&[("value", Cell::Hex(v.bits())), ("shown", Cell::text(&shown))], shown.clone())?;
        Ok(Outcome::Complete)
    },
    ..plain("??", Prefix::Plain, "evaluate a C++ expression")
};

/// `n`.
pub const RADIX: Command = Command {
    help: "What numbers without a prefix are in expressions: 16 (as at the start), 10 or 8. Without an argument it says \
           which. Addresses behind 0x, and numbers behind 0n, 0t, 0y or with an h at their end are what they were.",
    args: &[Arg::pos("8|10|16", Kind::OneOf(&["8", "10", "16"]), "the radix, in decimal")],
    examples: &[Example { line: "n", what: "which radix numbers have" }],
    returns: Returns::facts(&[Fact::new("radix", "radix of numbers without a prefix", Type::Number)]),
    run: radix,
    ..plain("n", Prefix::Plain, "set or show the radix of numbers")
};

fn radix(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    if let Some(radix) = args.text("8|10|16").and_then(|t| t.parse().ok()) {
        ctx.settings.values.radix = radix;
    }
    let radix = ctx.settings.values.radix;
    ctx.out.fact("radix", Cell::Num(u64::from(radix)), format!("base is {radix}"))?;
    Ok(Outcome::Complete)
}

/// `.expr`.
pub const EXPR: Command = Command {
    help: "Which evaluator reads expressions that do not say so (@@masm(...), @@c++(...)): masm or c++. /q lists both.",
    args: &[
        Arg::opt("s", Kind::OneOf(&["masm", "c++"]), "the evaluator to take from now on"),
        Arg::flag("q", "list those there are"),
    ],
    examples: &[Example { line: ".expr /s masm", what: "expressions as the native debuggers have them" }],
    returns: Returns::facts(&[Fact::new("evaluator", "the evaluator in use", Type::Text)]),
    run: |ctx, args| {
        if let Some(name) = args.text("s") {
            ctx.settings.values.cplus = name == "c++";
        }
        if args.has("q") {
            ctx.out.note("Available expression evaluators: masm, c++")?;
        }
        let (name, full) = match ctx.settings.values.cplus {
            true => ("c++", "C++ source expressions"),
            false => ("masm", "Microsoft Assembler expressions"),
        };
        let line = format!("Current expression evaluator: {} - {full}", name.to_uppercase());
        ctx.out.fact("evaluator", Cell::text(name), line)?;
        Ok(Outcome::Complete)
    },
    ..plain("expr", Prefix::Dot, "set or show the evaluator of expressions")
};

const ANYTHING: &[Arg] = &[Arg::pos("ARGUMENTS", Kind::Rest, "taken as they are")];

/// What a switch of the debuggers would do, where it means nothing here.
const fn accepted(name: &'static str, aliases: &'static [&'static str], prefix: Prefix, why: &'static str) -> Command {
    Command {
        aliases,
        help: why,
        args: ANYTHING,
        run: |ctx, _| {
            ctx.out.note("accepted; it changes nothing here")?;
            Ok(Outcome::Complete)
        },
        ..plain(name, prefix, "accepted; it changes nothing here")
    }
}

/// `.symopt` and others about symbols and sources.
pub const SYMBOLS: Command = accepted(
    "symopt",
    &["srcpath", "srcfix", "lsrcpath", "lsrcfix", "srcnoisy"],
    Prefix::Dot,
    "Options of symbols and paths of sources: types, methods and fields are read from the dump itself.",
);

/// Switches of how the debuggers print.
pub const PRINTING: Command = accepted(
    "enable_unicode",
    &["enable_long_status", "force_radix_output", "asm", "outmask", "wtitle", "ocommand", "extmatch", "echotimestamps"],
    Prefix::Dot,
    "Switches of how the debuggers print: memory, code and texts have one form here.",
);

/// `.sleep`, `.unloadall`.
pub const NOTHING: Command = accepted(
    "unloadall",
    &["sleep"],
    Prefix::Dot,
    "Extensions and pauses: all commands are built in, and a dump stands still.",
);

/// `sxe` and its kin.
pub const EVENTS: Command = accepted(
    "sxe",
    &["sx", "sxd", "sxn", "sxi", "sxr", "sx-"],
    Prefix::Plain,
    "Which events stop a process: the process of a dump does not run.",
);

/// `.echotime`.
pub const ECHOTIME: Command = Command {
    aliases: &["ttime"],
    help: "Prints the time of this machine, for logs; .time shows that of the dump.",
    examples: &[Example { line: ".echotime", what: "the time in a log" }],
    returns: Returns::facts(&[Fact::new("now", "the time of this machine, in UTC", Type::Time)]),
    run: |ctx, _| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let Ok(seconds) = since.map(|d| d.as_secs()) else { bail!("the clock of this machine is before 1970") };
        let line = format!("Debugger (not debuggee) time: {}", crate::shell::numbers::utc(seconds));
        ctx.out.fact("now", Cell::Time(seconds), line)?;
        Ok(Outcome::Complete)
    },
    ..plain("echotime", Prefix::Dot, "print the time of this machine")
};

/// `.logfile`.
pub const LOGFILE: Command = Command {
    help: "Says which log .logopen or .logappend has opened.",
    examples: &[Example { line: ".logfile", what: "whether a log is open" }],
    returns: Returns::facts(&[Fact::new("log", "path of the log", Type::Text)]),
    run: |ctx, _| match &ctx.settings.log {
        Some(path) => {
            let path = path.display().to_string();
            ctx.out.fact("log", Cell::text(&path), format!("Log {} opened", show(&path)))?;
            Ok(Outcome::Complete)
        }
        None => {
            ctx.out.note("No log file open")?;
            Ok(Outcome::Empty)
        }
    },
    ..plain("logfile", Prefix::Dot, "say which log is open")
};
