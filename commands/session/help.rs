//! `.help`: everything derives from the declarations.

use anyhow::{Result, bail};

use crate::shell::known;
use crate::shell::parse::{spelled, synopsis};
use crate::shell::pipes::declared::{self as pipes, Declared};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// Chapters in order, with their titles.
pub const CHAPTERS: &[(Group, &str)] = &[
    (Group::Heap, "Heap"),
    (Group::Objects, "Objects, types, modules"),
    (Group::Threads, "Threads, locks, exceptions"),
    (Group::Runtime, "Runtime"),
    (Group::Memory, "Process memory"),
    (Group::Scripts, "Scripts"),
    (Group::Session, "Session"),
];

/// `.help [COMMAND]`.
pub const HELP: Command = Command {
    name: "help",
    prefix: Prefix::Dot,
    aliases: &["soshelp", "hh", "sosexhelp", "whelp"],
    group: Group::Session,
    summary: "list the commands, or explain one",
    help: "Addresses are hexadecimal, with or without 0x, backticks and leading zeros, or expressions such as @rsp+10 \
           and poi(ADDR). Counts and sizes given to options are decimal, 0x for hexadecimal. Names are case-insensitive \
           and the ! is optional where no native command has the name.\n\n\
           Every command takes -json, -csv, -o FILE and -wide (rows as long as they are, whatever the window), and pipes \
           (.help pipes): | where, | sort, | group, | cols, | top, | last, | count, | find. Scripts: $$>< FILE, \
           $$>a< FILE ARGS, $< FILE.",
    args: &[Arg::pos("COMMAND", Kind::CommandName, "the command to explain, pipes, or the name of a pipe")],
    examples: &[
        Example { line: ".help dumpheap", what: "explain one command" },
        Example { line: ".help pipes", what: "what may stand behind a command" },
    ],
    needs: Needs::Nothing,
    returns: Returns::facts(&[
        Fact::new("synopsis", "how it is called", Type::Text),
        Fact::new("help", "the explanation, paragraphs parted by an empty line", Type::Text),
    ])
    .and(&[&COMMANDS, &ALIASES, &ARGUMENTS, &EXAMPLES]),
    run,
};

const COMMAND: Col = Col::data("command", Type::Text).titled("the command as it is typed");
const COMMANDS: Table = Table::new(
    "commands",
    &[
        Col::data("chapter", Type::Text).titled("chapter it stands in"),
        COMMAND,
        Col::data("summary", Type::Text).titled("what it is for"),
    ],
);
const ALIASES: Table = Table::new("aliases", &[COMMAND, Col::data("alias", Type::Text).titled("another name of it")])
    .under("commands", "command");
const ARGUMENTS: Table = Table::new(
    "arguments",
    &[
        COMMAND,
        Col::data("argument", Type::Text).titled("its name; of an option with the dash"),
        Col::data("required", Type::Bool).titled("it must be there"),
        Col::data("meaning", Type::Text).titled("what it means"),
    ],
)
.under("commands", "command");
const EXAMPLES: Table = Table::new(
    "examples",
    &[
        COMMAND,
        Col::data("line", Type::Text).titled("what to type"),
        Col::data("meaning", Type::Text).titled("what it shows"),
    ],
)
.under("commands", "command");

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    match args.text("COMMAND") {
        None => list(ctx),
        Some(name) => {
            let typed = name.trim_start_matches(['!', '.']);
            let bare = typed.to_lowercase();
            let find = |name: &str| ctx.commands.iter().find(|c| c.is_exactly(name));
            let found = find(typed).or_else(|| find(&bare));
            let lines = match (found, bare.as_str()) {
                (Some(command), _) => {
                    explained(ctx.out, command)?;
                    explain(command)
                }
                (None, "pipes" | "pipe") => {
                    pipes::ALL.iter().try_for_each(|pipe| pipe_explained(ctx.out, pipe))?;
                    explain_pipes()
                }
                (None, bare) => match pipes::named(bare) {
                    Some(pipe) => {
                        pipe_explained(ctx.out, pipe)?;
                        explain_pipe(pipe)
                    }
                    None => bail!("no command {name}; .help lists all"),
                },
            };
            for line in lines {
                ctx.out.note(line)?;
            }
            Ok(Outcome::Complete)
        }
    }
}

/// What [`explain`] says, as values.
fn explained(out: &mut Out, c: &Command) -> Result<()> {
    let name = spelled(c);
    let chapter = CHAPTERS.iter().find(|g| g.0 == c.group).map(|g| g.1);
    out.data_row(&COMMANDS, &[Cell::maybe(chapter), Cell::text(&name), Cell::text(c.summary)])?;
    out.datum("synopsis", &Cell::text(synopsis(c)));
    out.datum("help", &Cell::text(c.help));
    aliases(out, c, &name)?;
    for a in c.args {
        let row = [Cell::text(&name), Cell::text(argument(a)), Cell::Bool(a.required), Cell::text(a.help)];
        out.data_row(&ARGUMENTS, &row)?;
    }
    for e in c.examples {
        out.data_row(&EXAMPLES, &[Cell::text(&name), Cell::text(e.line), Cell::text(e.what)])?;
    }
    Ok(())
}

/// What [`explain_pipe`] says, as values.
fn pipe_explained(out: &mut Out, pipe: &Declared) -> std::io::Result<()> {
    let name = format!("| {}", pipe.name);
    out.data_row(&COMMANDS, &[Cell::text("Pipes"), Cell::text(&name), Cell::text(pipe.summary)])?;
    let mut aliases = pipe.aliases.iter();
    aliases.try_for_each(|a| out.data_row(&ALIASES, &[Cell::text(&name), Cell::text(*a)]))?;
    let mut examples = pipe.examples.iter();
    examples.try_for_each(|(l, what)| out.data_row(&EXAMPLES, &[Cell::text(&name), Cell::text(*l), Cell::text(*what)]))
}

fn aliases(out: &mut Out, c: &Command, name: &str) -> std::io::Result<()> {
    c.aliases.iter().try_for_each(|a| out.data_row(&ALIASES, &[Cell::text(name), Cell::text(*a)]))
}

fn list(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    for (group, title) in CHAPTERS {
        ctx.out.note(format!("{title}:"))?;
        for c in ctx.commands.iter().filter(|c| c.group == *group) {
            let name = spelled(c);
            let names = std::iter::once(name.as_str()).chain(c.aliases.iter().copied());
            let line = format!("  {:<34} {}", names.collect::<Vec<_>>().join(", "), c.summary);
            ctx.out.row_as(&COMMANDS, &[Cell::text(*title), Cell::text(&name), Cell::text(c.summary)], line)?;
            aliases(ctx.out, c, &name)?;
        }
        ctx.out.note("")?;
    }
    ctx.out
        .note(".help COMMAND explains one. Every command takes -json, -csv, -o FILE, -wide and pipes (.help pipes):")?;
    ctx.out.note(format!("  {}", pipes::ALL.iter().map(Declared::synopsis).collect::<Vec<_>>().join("  ")))?;
    ctx.out.note("")?;
    ctx.out.note(
        "Memory that grows: !dumpheap -stat, !leaks, then !gcroot ADDR of one object. A crash: .lastevent, !pe, r.",
    )?;
    ctx.out.note("A hang: !clrthreads, !syncblk, ~*e !dso. The rest of the process: !address -summary, lm, !peb.")?;
    Ok(Outcome::Complete)
}

/// An argument as it is typed.
fn argument(a: &Arg) -> String {
    if a.positional { a.name.to_owned() } else { format!("-{}", a.name) }
}

/// The help of one command, line by line.
pub fn explain(command: &Command) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", spelled(command), command.summary), String::new(), synopsis(command)];
    if !command.aliases.is_empty() {
        lines.push(format!("also: {}", command.aliases.join(", ")));
    }
    lines.push(String::new());
    for paragraph in command.help.split("\n\n") {
        lines.extend(wrap(paragraph, 100));
        lines.push(String::new());
    }
    for a in command.args {
        lines.push(format!("  {:<16} {}", argument(a), a.help));
    }
    if !command.args.is_empty() {
        lines.push(String::new());
    }
    for e in command.examples {
        lines.push(format!("  {:<40} {}", e.line, e.what));
    }
    lines
}

/// The help of all pipes.
fn explain_pipes() -> Vec<String> {
    let mut lines = vec!["Pipes: what may stand behind a command".to_owned(), String::new()];
    lines.extend(wrap(pipes::HELP, 100));
    for pipe in pipes::ALL {
        lines.push(String::new());
        lines.extend(explain_pipe(pipe));
    }
    lines
}

/// The help of one.
fn explain_pipe(pipe: &Declared) -> Vec<String> {
    let mut lines = vec![pipe.synopsis(), format!("    {}", pipe.summary)];
    if !pipe.aliases.is_empty() {
        lines.push(format!("    also: {}", pipe.aliases.join(", ")));
    }
    lines.extend(wrap(pipe.help, 96).into_iter().filter(|l| !l.is_empty()).map(|l| format!("    {l}")));
    lines.extend(pipe.examples.iter().flat_map(|(line, what)| [format!("  {line}"), format!("      {what}")]));
    lines
}

/// The chapter of the reference about pipes.
fn reference_of_pipes() -> String {
    let mut text = format!("\n## Pipes\n\n{}\n", pipes::HELP);
    for pipe in pipes::ALL {
        text.push_str(&format!("\n### `{}`\n\n{}\n", pipe.synopsis(), capital(pipe.summary)));
        if !pipe.aliases.is_empty() {
            let names: Vec<String> = pipe.aliases.iter().map(|a| format!("`{a}`")).collect();
            text.push_str(&format!("\nAlso: {}.\n", names.join(", ")));
        }
        if !pipe.help.is_empty() {
            text.push_str(&format!("\n{}\n", pipe.help));
        }
        for (line, what) in pipe.examples {
            text.push_str(&format!("\nExample: `{line}` — {what}.\n"));
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// `docs/commands.md`, whole.
pub fn reference(commands: &[&Command]) -> String {
    let mut text = String::from(
        "# Commands\n\nGenerated from the declarations in `commands/`; `cargo test --test docs` says how to renew it.\n",
    );
    for (group, title) in CHAPTERS {
        text.push_str(&format!("\n## {title}\n"));
        for c in commands.iter().filter(|c| c.group == *group) {
            text.push_str(&format!(
                "\n### `{}`\n\n{}\n\n```text\n{}\n```\n",
                spelled(c),
                capital(c.summary),
                synopsis(c)
            ));
            if !c.aliases.is_empty() {
                text.push_str(&format!(
                    "\nAlso: {}.\n",
                    c.aliases.iter().map(|a| format!("`{a}`")).collect::<Vec<_>>().join(", ")
                ));
            }
            for p in c.help.split("\n\n") {
                text.push_str(&format!("\n{}\n", p.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            if !c.args.is_empty() {
                text.push_str("\n| argument | meaning |\n| --- | --- |\n");
                for a in c.args {
                    text.push_str(&format!("| `{}` | {} |\n", argument(a), a.help.replace('|', "\\|")));
                }
            }
            returned(&mut text, c);
            for e in c.examples {
                text.push_str(&format!("\nExample: `{}` — {}.\n", e.line, e.what));
            }
        }
    }
    text.push_str(&reference_of_pipes());
    not_here(&mut text, commands);
    text
}

/// Names that people know from other debuggers and that are no commands.
fn not_here(text: &mut String, commands: &[&Command]) {
    text.push_str(
        "\n## Names that are not here\n\nCommands of SOS, WinDbg and their extensions that have no meaning on a dump:\n\n\
         | name | why |\n| --- | --- |\n",
    );
    let listed =
        |names: &[&str]| names.iter().map(|n| format!("`{}`", n.replace('|', "\\|"))).collect::<Vec<_>>().join(", ");
    for (names, why) in known::NO_MEANING {
        text.push_str(&format!("| {} | {why} |\n", listed(names)));
    }
    text.push_str(
        "\nThose that are not here, with what answers the same question:\n\n| name | answer |\n| --- | --- |\n",
    );
    for (names, answer) in known::INSTEAD {
        text.push_str(&format!("| {} | {} |\n", listed(names), answer.replace('|', "\\|")));
    }
    text.push_str(
        "\n## Names of SOS\n\nEvery name under which SOS knows a command, in any of its hosts:\n\n| name | here |\n| --- | --- |\n",
    );
    for name in known::SOS {
        text.push_str(&format!("| `{name}` | {} |\n", here(name, commands)));
    }
}

/// What is here of a name of SOS.
fn here(name: &str, commands: &[&Command]) -> String {
    let typed = known::BANG_ALONE.iter().find(|n| n.0 == name).map_or(name, |n| n.1);
    let is = |p: Prefix| commands.iter().find(|c| c.prefix == p && c.is_called(typed));
    if let Some(command) = is(Prefix::Bang).or_else(|| is(Prefix::Dot)).or_else(|| is(Prefix::Plain)) {
        return format!("`{}`", spelled(command));
    }
    let instead = known::of(known::INSTEAD, name).map(|answer| answer.replace('|', "\\|"));
    let none = || known::of(known::NO_MEANING, name).map(|why| format!("no meaning: {why}"));
    instead.or_else(none).unwrap_or_default()
}

/// The facts and tables a command returns, with their keys in JSON, CSV and pipes.
fn returned(text: &mut String, c: &Command) {
    let what =
        |ty: Type, unit: &str| if unit.is_empty() { ty.name().to_owned() } else { format!("{}, {unit}", ty.name()) };
    let facts = c.returns.all_facts();
    if !facts.is_empty() {
        text.push_str("\n| fact | holds | meaning |\n| --- | --- | --- |\n");
        for f in facts {
            text.push_str(&format!("| `{}` | {} | {} |\n", f.key, what(f.ty, f.unit), f.title.replace('|', "\\|")));
        }
    }
    for t in c.returns.all_tables() {
        text.push_str(&format!("\nTable `{}`", t.name));
        if let Some(p) = t.parent {
            text.push_str(&format!(", rows belong to those of `{}` by `{}`", p.table, p.key));
        }
        if let Some(key) = t.rising {
            text.push_str(&format!(", the biggest `{key}` last"));
        }
        if let Some(what) = t.varies {
            text.push_str(&format!(": its columns are {what}.\n"));
            continue;
        }
        text.push_str(":\n\n| column | holds | title |\n| --- | --- | --- |\n");
        for col in t.columns {
            let title = col.title.replace('|', "\\|");
            text.push_str(&format!("| `{}` | {} | {title} |\n", col.key, what(col.ty, col.unit)));
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default() + "."
}
