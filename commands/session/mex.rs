//! `!grep`, `!head`, `!tail`, `!count`: pipes in front of a command, as the extension MEX has them.

use anyhow::{Result, bail};

use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Outcome, Prefix, Request};

const fn piped(name: &'static str, summary: &'static str) -> Command {
    Command::bare(name, Prefix::Bang, Group::Scripts, summary)
}

/// `!grep`.
pub const GREP: Command = Command {
    help: "Runs COMMAND and keeps the lines that contain TEXT, whatever its case: as COMMAND | find TEXT.",
    args: &[Arg::pos(
        "TEXT COMMAND",
        Kind::Blocks,
        "what to look for, in quotation marks if it holds blanks; what to run",
    )],
    examples: &[Example { line: "!grep zoo. !dumpheap -stat", what: "types of the program" }],
    run: |ctx, args| {
        let text = rest(args, &GREP);
        let text = text.strip_prefix("-i ").unwrap_or(text).trim_start();
        if let Some(option) = text.split_whitespace().next().filter(|w| w.starts_with('-')) {
            bail!("no option {option}: COMMAND | where not COLUMN ~ TEXT leaves rows out");
        }
        let end = match text.strip_prefix('"') {
            Some(inner) => inner.find('"').map_or(text.len(), |e| e + 2),
            None => text.find(char::is_whitespace).unwrap_or(text.len()),
        };
        let (wanted, command) = text.split_at(end);
        let command = command.trim();
        if command.is_empty() {
            bail!("expected a text and a command: !grep TEXT COMMAND");
        }
        go_on(ctx, command, &format!("find {wanted}"))
    },
    ..piped("grep", "run a command and keep the lines that contain a text")
};

/// `!head`.
pub const HEAD: Command = Command {
    help: "Runs COMMAND and keeps the first N lines, 10 without a number: as COMMAND | top N, which of a table with the biggest \
           last keeps the biggest.",
    args: &[Arg::pos("[-n N] COMMAND", Kind::Blocks, "how many lines; what to run")],
    examples: &[Example { line: "!head -n 3 !dumpheap -short", what: "the first objects" }],
    run: |ctx, args| {
        let (n, command) = number(rest(args, &HEAD))?;
        go_on(ctx, command, &format!("top {n}"))
    },
    ..piped("head", "run a command and keep its first lines")
};

/// `!tail`.
pub const TAIL: Command = Command {
    help: "Runs COMMAND and keeps the last N lines, 10 without a number: as COMMAND | last N.",
    args: &[Arg::pos("[-n N] COMMAND", Kind::Blocks, "how many lines; what to run")],
    examples: &[Example { line: "!tail -n 3 !dumpheap -short", what: "the last objects" }],
    run: |ctx, args| {
        let (n, command) = number(rest(args, &TAIL))?;
        go_on(ctx, command, &format!("last {n}"))
    },
    ..piped("tail", "run a command and keep its last lines")
};

/// `!count`.
pub const COUNT: Command = Command {
    help: "Runs COMMAND and counts the rows of each of its tables: as COMMAND | count.",
    args: &[Arg::pos("COMMAND", Kind::Blocks, "what to run")],
    examples: &[Example { line: "!count !dumpheap -short", what: "how many objects there are" }],
    run: |ctx, args| go_on(ctx, rest(args, &COUNT), "count"),
    ..piped("count", "run a command and count its rows")
};

fn rest<'a>(args: &'a Args, command: &Command) -> &'a str {
    command.args.first().and_then(|a| args.text(a.name)).unwrap_or("").trim()
}

/// `-n N COMMAND`, `-N COMMAND` or `COMMAND`.
fn number(text: &str) -> Result<(u64, &str)> {
    let Some(option) = text.strip_prefix("-n").or_else(|| text.strip_prefix('-')) else { return Ok((10, text)) };
    let (digits, command) = option.trim_start().split_once(char::is_whitespace).unwrap_or((option.trim(), ""));
    match digits.parse() {
        Ok(n) => Ok((n, command.trim())),
        Err(_) => bail!("expected a number: -n N COMMAND"),
    }
}

fn go_on(ctx: &mut Ctx<'_>, command: &str, pipe: &str) -> Result<Outcome> {
    let command = command.strip_prefix('"').and_then(|c| c.strip_suffix('"')).unwrap_or(command);
    if command.is_empty() {
        bail!("a command is missing: what to run");
    }
    ctx.request = Some(Request::Lines(vec![format!("{command} | {pipe}")]));
    Ok(Outcome::Complete)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::number;

    #[test]
    fn numbers_of_lines() {
        assert_eq!(number("-n 3 !dso").unwrap(), (3, "!dso"));
        assert_eq!(number("-3 !dso").unwrap(), (3, "!dso"));
        assert_eq!(number("!dso -short").unwrap(), (10, "!dso -short"));
        assert!(number("-x !dso").is_err());
    }
}
