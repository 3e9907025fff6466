//! `dx`: questions in the form of the debugger's data model, answered by the commands and pipes that are here.

mod read;
mod source;

use anyhow::Result;

use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Outcome, Prefix, Request};

/// `dx`.
pub const DX: Command = Command {
    help: "Takes a collection of the debugger's data model and LINQ behind it, and runs what answers it here, a command with pipes \
           (-n shows that line instead of running it).\n\n\
           Collections: @$curprocess.Modules, @$curprocess.Threads (also @$curthread), @$curprocess.Handles, \
           @$curstack.Frames; of .NET @$heap.Types, @$heap.Objects, @$heap.Strings, @$heap.Segments, @$heap.Handles, \
           @$heap.Assemblies. Members are Name, Id, BaseAddress, Size, Count, Bytes, Type, Address, ... and the columns of the \
           command's table as the reference has them. Methods: Where, Select (a member or new { ... }), OrderBy, \
           OrderByDescending, ThenBy, GroupBy, Take, First, Last, Count and [N]. In conditions: == != < <= > >= && || !, \
           Contains; numbers are decimal unless 0x says otherwise, for addresses and identifiers too.\n\n\
           Anything else is a C++ expression, as with ??. Links, -g, -r and -v change nothing: collections come as tables.",
    args: &[Arg::pos("EXPRESSION", Kind::Blocks, "[-n] a collection with what is asked of it, or a C++ expression")],
    examples: &[
        Example {
            line: "dx @$heap.Types.OrderByDescending(t => t.Bytes).Take(5)",
            what: "the five types with the most bytes",
        },
        Example { line: "dx @$curprocess.Modules.Where(m => m.Name.Contains(\"clr\"))", what: "modules by name" },
        Example { line: "dx -g @$curprocess.Threads.Select(t => new { Id = t.Id, t.Name })", what: "two columns" },
        Example { line: "dx @$heap.Types.Where(t => t.Count > 100 && t.Bytes < 0x10000).Count()", what: "how many" },
        Example { line: "dx 6*7", what: "a C++ expression" },
    ],
    run,
    ..Command::bare("dx", Prefix::Plain, Group::Scripts, "questions in the form of the debugger's data model")
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let (shows, text) = options(args.text("EXPRESSION").unwrap_or(""));
    let line = match text.trim_start().starts_with("@$cur") || text.trim_start().starts_with("@$heap") {
        true => read::line(text)?,
        false => other(text)?,
    };
    match shows {
        true => ctx.out.note(line)?,
        false => ctx.request = Some(Request::Lines(vec![line])),
    }
    Ok(Outcome::Complete)
}

/// What is no collection: an expression.
fn other(text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("Debugger") || text.starts_with("@$cursession") {
        anyhow::bail!(
            "a dump has one session with one process: begin with @$curprocess, @$curthread, @$curstack or @$heap (.help dx)"
        );
    }
    Ok(format!("?? {text}"))
}

/// Whether the line is to be shown, and the expression behind the options.
fn options(text: &str) -> (bool, &str) {
    let (mut shows, mut rest) = (false, text.trim_start());
    while let Some(option) = rest.strip_prefix('-') {
        let end = option.find(char::is_whitespace).unwrap_or(option.len());
        let word = &option[..end];
        // A number with a sign is an expression.
        if word.is_empty() || !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            break;
        }
        shows |= word == "n";
        rest = option[end..].trim_start();
        // `-r 2`, `-c 10`: their number.
        if matches!(word, "r" | "c" | "s") && rest.starts_with(|c: char| c.is_ascii_digit()) {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).trim_start();
        }
    }
    (shows, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_before_the_expression() {
        assert_eq!(options("-g -r2 @$heap.Types"), (false, "@$heap.Types"));
        assert_eq!(options(" -r 2 -n @$heap.Types"), (true, "@$heap.Types"));
        assert_eq!(options("-5 + 2"), (false, "-5 + 2"));
    }
}
