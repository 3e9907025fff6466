//! The language of scripts: conditions, loops, `.foreach`, aliases, programs outside.

use anyhow::{Result, anyhow, bail};

use crate::shell::alias;
use crate::shell::control::{self, Control, Jump};
use crate::shell::opaque::{hide, show};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Outcome, Prefix, Request, Returns, Table, Type, flow,
};

const fn dot(name: &'static str, summary: &'static str) -> Command {
    Command::bare(name, Prefix::Dot, Group::Scripts, summary)
}

fn control(ctx: &mut Ctx<'_>, control: Control) -> Result<Outcome> {
    ctx.request = Some(Request::Control(control));
    Ok(Outcome::Complete)
}

/// `.foreach`.
pub const FOREACH: Command = Command {
    aliases: &["fe"],
    help: "Runs the second block once for each word the first one prints, NAME standing for the word: as NAME between \
           blanks, brackets, commas or `;`, and as ${NAME} anywhere. /pS N passes over the first N words, /ps N over N \
           words after each one taken. /s takes the words of a text, /f those of a file. Numbers are hexadecimal, 0n \
           decimal.\n\n\
           When a command of the block fails for one word the next command runs, and the loop goes on; .break and Ctrl-C \
           end it. -short makes listings print addresses alone.",
    args: &[Arg::pos("[/pS N] [/ps N] (NAME {COMMANDS}) {COMMANDS}", Kind::Blocks, "what to run for each word")],
    examples: &[
        Example {
            line: ".foreach (o {!dumpheap -mt $MT -short | top 2}) {!dumpobj -nofields o}",
            what: "the first two objects of a type",
        },
        Example { line: ".foreach /pS 1 /ps 1 (v {.echo a 1 b 2}) {.echo value v}", what: "every second word" },
    ],
    run: |ctx, args| {
        let read = control::foreach(args.text(FOREACH.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("foreach", "run commands for each word others print")
};

/// `.if`.
pub const IF: Command = Command {
    help: "Runs the first block whose condition is not 0, else the block of .else. Conditions are expressions: see \
           .help ?.",
    args: &[Arg::pos("(E) {COMMANDS} [.elsif (E) {COMMANDS}] [.else {COMMANDS}]", Kind::Blocks, "conditions, blocks")],
    examples: &[Example {
        line: ".if (@$ptrsize == 8) {.echo 64-bit} .else {.echo 32-bit}",
        what: "what depends on the process",
    }],
    run: |ctx, args| {
        let read = control::conditional(args.text(IF.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("if", "run commands if a condition holds")
};

/// `j`.
pub const JUDGE: Command = Command {
    prefix: Prefix::Plain,
    help: "Runs the first command if the expression is not 0, else the second; commands that hold `;` themselves stand in \
           single quotes. Reaches to the end of the line. .if is easier to read.",
    args: &[Arg::pos("EXPRESSION 'COMMANDS' ; 'COMMANDS'", Kind::Line, "what to ask, what to run")],
    examples: &[Example { line: "j (@$t0 == 0) '.echo unset' ; '.echo set'", what: "one or the other" }],
    run: |ctx, args| {
        let read = control::judge(args.text(JUDGE.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("j", "run one command or another")
};

/// `.while`.
pub const WHILE: Command = Command {
    help: "Runs the block as long as the condition is not 0. .break leaves it, .continue begins the next round, Ctrl-C \
           stops it.",
    args: &[Arg::pos("(E) {COMMANDS}", Kind::Blocks, "condition, block")],
    examples: &[Example { line: "r $t0 = 3; .while (@$t0 > 0) {r $t0 = @$t0 - 1}", what: "count down" }],
    run: |ctx, args| {
        let read = control::while_loop(args.text(WHILE.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("while", "repeat commands as long as a condition holds")
};

/// `.do`.
pub const DO: Command = Command {
    help: "As .while, but the first round is not asked for.",
    args: &[Arg::pos("{COMMANDS} (E)", Kind::Blocks, "block, condition")],
    examples: &[Example { line: ".do {.echo once} (0)", what: "at least once" }],
    run: |ctx, args| {
        let read = control::do_loop(args.text(DO.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("do", "run commands, and again as long as a condition holds")
};

/// `.for`.
pub const FOR: Command = Command {
    help: "Runs FIRST, then the block as long as E is not 0, and STEP after each round.",
    args: &[Arg::pos("(FIRST; E; STEP) {COMMANDS}", Kind::Blocks, "head, block")],
    examples: &[Example {
        line: ".for (r $t0 = 0; @$t0 < 2; r $t0 = @$t0 + 1) {.printf \"%d\\n\", @$t0}",
        what: "count to two",
    }],
    run: |ctx, args| {
        let read = control::for_loop(args.text(FOR.args[0].name).unwrap_or(""))?;
        control(ctx, read)
    },
    ..dot("for", "repeat commands, counting")
};

/// `.block`.
pub const BLOCK: Command = Command {
    help: "Runs its commands. Aliases made on the line before it are known in it.",
    args: &[Arg::pos("{COMMANDS}", Kind::Blocks, "block")],
    examples: &[Example { line: "aS what heap; .block {.echo the what}", what: "use an alias on its own line" }],
    run: |ctx, args| {
        let body = control::block(args.text(BLOCK.args[0].name).unwrap_or(""))?;
        control(ctx, Control::Block(body))
    },
    ..dot("block", "run commands with aliases read again")
};

/// `.catch`.
pub const CATCH: Command = Command {
    help: "Runs its commands; an expression without a value ends the block, but not what follows it, and failures of commands \
           in it are no failure of what it stands in. .leave ends it too.",
    args: &[Arg::pos("{COMMANDS}", Kind::Blocks, "block")],
    examples: &[Example { line: ".catch {!dumpobj 10}; .echo still here", what: "go on after a failure" }],
    run: |ctx, args| {
        let body = control::block(args.text(CATCH.args[0].name).unwrap_or(""))?;
        control(ctx, Control::Catch(body))
    },
    ..dot("catch", "keep a failure to a block")
};

/// `.break`.
pub const BREAK: Command = Command {
    help: "Ends the innermost loop or .foreach.",
    run: |ctx, _| control(ctx, Control::Jump(Jump::Break)),
    ..dot("break", "leave a loop")
};

/// `.continue`.
pub const CONTINUE: Command = Command {
    help: "Begins the next round of the innermost loop or .foreach.",
    run: |ctx, _| control(ctx, Control::Jump(Jump::Continue)),
    ..dot("continue", "go on with the next round of a loop")
};

/// `.leave`.
pub const LEAVE: Command = Command {
    help: "Ends the innermost .catch block.",
    run: |ctx, _| control(ctx, Control::Jump(Jump::Leave)),
    ..dot("leave", "leave a .catch block")
};

/// `as`, `aS`.
pub const AS: Command = Command {
    prefix: Prefix::Plain,
    help: "Gives TEXT a name. From the next line on (or in .block) the name stands for it: between blanks or brackets, and \
           as ${NAME} anywhere; ${/d:NAME} is 1 if there is such an alias, else 0; ${/f:NAME} its text or nothing; \
           ${/v:NAME} and ${/n:NAME} keep the name. In braces names are replaced when the block runs. A line or block that \
           begins with as, aS, ad or al keeps bare names; with a blank or `;` before it, it does not. `as` takes the rest \
           of the line, `;` included; `aS` ends at `;`, and so do the options but /f and /c.\n\n\
           /x takes the value of an expression, /ma and /mu the text of one-byte and two-byte characters at an address, \
           /msa and /msu that of a STRING or UNICODE_STRING there, /e an environment variable, /f the contents of a file, /c what commands print.",
    args: &[Arg::pos(
        "[/x|/ma|/mu|/msa|/msu|/e|/f|/c] NAME TEXT",
        Kind::LineBut(&["/x", "/ma", "/mu", "/msa", "/msu", "/e"]),
        "name and text",
    )],
    examples: &[
        Example { line: "as leaked Zoo.Session", what: "a name for a type" },
        Example { line: "as /x stack @$csp", what: "a name for a number" },
    ],
    run: set,
    ..dot("as", "make an alias")
};

fn set(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text(AS.args[0].name).unwrap_or("");
    let (option, rest) = match text.strip_prefix('/') {
        Some(o) => {
            let (o, rest) = o.split_once(char::is_whitespace).unwrap_or((o, ""));
            (Some(o), rest.trim_start())
        }
        None => (None, text),
    };
    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    // `${/v:NAME}` keeps a name from being replaced where it is made anew.
    let name = name.strip_prefix("${/v:").and_then(|n| n.strip_suffix('}')).unwrap_or(name).trim_matches('"');
    let value = value.trim();
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_.$@".contains(c)) {
        bail!("expected a name of letters and digits: as NAME TEXT");
    }
    let text = match option {
        None => value.trim_matches('"').to_owned(),
        // What was not typed is no command.
        Some("x") => hide(&format!("0x{:x}", crate::commands::memory::value(ctx, value)?)),
        Some(o @ ("ma" | "mu" | "msa" | "msu")) => {
            let at = crate::commands::memory::value(ctx, value)?;
            hide(&super::printf::text(ctx, o, at)?)
        }
        Some(o @ ("e" | "f")) => {
            ctx.settings.may(&format!("as /{o}"))?;
            let text = match o {
                "f" => flow::read(value.trim_matches('"')).map_err(anyhow::Error::msg)?.trim_end().to_owned(),
                _ => std::env::var(&*show(value)).map_err(|_| anyhow!("no environment variable {}", show(value)))?,
            };
            hide(&text)
        }
        Some("c") => {
            ctx.request = Some(Request::Capture { name: name.to_owned(), line: value.to_owned() });
            return Ok(Outcome::Complete);
        }
        Some(o) => bail!("no option /{o}; there are /x /ma /mu /msa /msu /e /f /c"),
    };
    alias::set(&mut ctx.settings.aliases, name.to_owned(), text);
    Ok(Outcome::Complete)
}

/// `ad`.
pub const AD: Command = Command {
    prefix: Prefix::Plain,
    help: "Deletes the alias NAME, or all with *. /q says nothing of one that does not exist.",
    args: &[
        Arg::pos("NAME", Kind::Text, "the alias, or *").completes_aliases().required(),
        Arg::flag("q", "say nothing of one that does not exist"),
    ],
    examples: &[Example { line: "ad /q leaked", what: "forget an alias" }],
    run: |ctx, args| {
        let name = args.text("NAME").unwrap_or("");
        let name = name.strip_prefix("${/v:").and_then(|n| n.strip_suffix('}')).unwrap_or(name);
        let before = ctx.settings.aliases.len();
        ctx.settings.aliases.retain(|a| name != "*" && a.0 != name);
        if ctx.settings.aliases.len() == before && name != "*" && !args.has("q") {
            bail!("no alias {name}; al lists them");
        }
        Ok(Outcome::Complete)
    },
    ..dot("ad", "delete an alias")
};

const ALIASES: Table =
    Table::new("aliases", &[Col::left("Alias", "alias", 16), Col::left("Value", "value", 0).of(Type::Content)]);

/// `al`.
pub const AL: Command = Command {
    prefix: Prefix::Plain,
    help: "Lists the aliases with their texts.",
    examples: &[Example { line: "al", what: "which aliases there are" }],
    returns: Returns::tables(&[&ALIASES]),
    run: |ctx, _| {
        if ctx.settings.aliases.is_empty() {
            ctx.out.note("No aliases")?;
            return Ok(Outcome::Empty);
        }
        ctx.out.fill(
            &ALIASES,
            ctx.settings.aliases.iter().map(|(name, text)| [Cell::text(name), Cell::text(show(text))]),
        )?;
        Ok(Outcome::Complete)
    },
    ..dot("al", "list the aliases")
};

/// `.shell`.
pub const SHELL: Command = Command {
    help: "Runs a program of this machine through its shell (sh, or cmd on Windows) and prints what it prints. With -ci the \
           commands in quotes run first and what they print is the program's input. Nothing of the dump decides what \
           runs.",
    args: &[Arg::pos("[-ci \"COMMANDS\"] PROGRAM", Kind::Line, "what to run").outside().completes_files()],
    examples: &[Example { line: ".shell -ci \"!dumpheap -stat\" sort", what: "the statistics in another order" }],
    run: |ctx, args| {
        let mut text = args.text(SHELL.args[0].name).unwrap_or("");
        let mut line = None;
        while let Some(option) = text.strip_prefix('-') {
            let (name, rest) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
            text = rest.trim_start();
            if name == "ci" {
                let quoted = text.strip_prefix('"').and_then(|t| t.split_once('"'));
                let Some((inner, rest)) = quoted else { bail!("-ci needs commands in quotes") };
                line = Some(inner.to_owned());
                text = rest.trim_start();
            } else if !matches!(name, "x" | "i-" | "o-" | "e-") {
                bail!("no option -{name}; there is -ci \"COMMANDS\"");
            }
        }
        if text.is_empty() {
            bail!("a program is missing: .shell [-ci \"COMMANDS\"] PROGRAM");
        }
        ctx.request = Some(Request::Program { program: text.to_owned(), line });
        Ok(Outcome::Complete)
    },
    ..dot("shell", "run a program, its input what commands print")
};
