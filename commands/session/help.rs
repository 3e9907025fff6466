//! `.help`: everything derives from the declarations.

use anyhow::{Result, bail};

use crate::shell::parse::{spelled, synopsis};
use crate::shell::pipes::declared::{self as pipes, Declared};
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

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
    aliases: &["soshelp", "hh"],
    group: Group::Session,
    summary: "list the commands, or explain one",
    help: "Addresses are hexadecimal, with or without 0x, backticks and leading zeros, or expressions such as @rsp+10 \
           and poi(ADDR). Counts and sizes given to options are decimal, 0x for hexadecimal. Names are case-insensitive \
           and the ! is optional where no native command has the name.\n\n\
           Every command takes -json, -csv and -o FILE, and pipes (.help pipes): | where, | sort, | group, | cols, | top, \
           | last, | count, | find. Scripts: $$>< FILE, $$>a< FILE ARGS, $< FILE.",
    args: &[Arg::pos("COMMAND", Kind::CommandName, "the command to explain, pipes, or the name of a pipe")],
    examples: &[
        Example { line: ".help dumpheap", what: "explain one command" },
        Example { line: ".help pipes", what: "what may stand behind a command" },
    ],
    needs: Needs::Nothing,
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    match args.text("COMMAND") {
        None => list(ctx),
        Some(name) => {
            let bare = name.trim_start_matches(['!', '.']).to_lowercase();
            let found = ctx.commands.iter().find(|c| c.name == bare || c.aliases.contains(&bare.as_str()));
            let lines = match (found, bare.as_str()) {
                (Some(command), _) => explain(command),
                (None, "pipes" | "pipe") => explain_pipes(),
                (None, bare) => match pipes::named(bare) {
                    Some(pipe) => explain_pipe(pipe),
                    None => bail!("no command {name}; .help lists all"),
                },
            };
            for line in lines {
                ctx.out.line(line)?;
            }
            Ok(Outcome::Complete)
        }
    }
}

fn list(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    for (group, title) in CHAPTERS {
        ctx.out.line(format!("{title}:"))?;
        for c in ctx.commands.iter().filter(|c| c.group == *group) {
            let names = std::iter::once(spelled(c)).chain(c.aliases.iter().map(|a| (*a).to_owned()));
            ctx.out.line(format!("  {:<34} {}", names.collect::<Vec<_>>().join(", "), c.summary))?;
        }
        ctx.out.line("")?;
    }
    ctx.out.line(".help COMMAND explains one. Every command takes -json, -csv, -o FILE and pipes (.help pipes):")?;
    ctx.out.line(format!("  {}", pipes::ALL.iter().map(Declared::synopsis).collect::<Vec<_>>().join("  ")))?;
    ctx.out.line("")?;
    ctx.out.line(
        "Memory that grows: !dumpheap -stat, !leaks, then !gcroot ADDR of one object. A crash: .lastevent, !pe, r.",
    )?;
    ctx.out.line("A hang: !clrthreads, !syncblk, ~*e !dso. The rest of the process: !address -summary, lm, !peb.")?;
    Ok(Outcome::Complete)
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
        let name = if a.positional { a.name.to_owned() } else { format!("-{}", a.name) };
        lines.push(format!("  {name:<16} {}", a.help));
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
                    let name = if a.positional { a.name.to_owned() } else { format!("-{}", a.name) };
                    text.push_str(&format!("| `{name}` | {} |\n", a.help.replace('|', "\\|")));
                }
            }
            returned(&mut text, c);
            for e in c.examples {
                text.push_str(&format!("\nExample: `{}` — {}.\n", e.line, e.what));
            }
        }
    }
    text.push_str(&reference_of_pipes());
    text
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
