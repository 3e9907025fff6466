//! From words to arguments: what a command declares decides how each word is read.

use super::args::{Args, Value};
use super::command::{Arg, Command, Kind, Prefix};
use super::expr::{Scope, evaluate};
use super::grammar::{self, Call, Reach, SyntaxError, Typed, Word, words};
use super::opaque::{digits, show};
use super::out::Format;

/// What the shell itself takes off any command's arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// `-json`, `-csv`.
    pub format: Option<Format>,
    /// `-o FILE`.
    pub output: Option<String>,
    /// `-wide`: rows keep their length, whatever the window has.
    pub wide: bool,
}

/// The options the shell itself takes off any command's arguments.
pub const COMMON: &[Arg] = &[
    Arg::flag("json", "the answer as JSON"),
    Arg::flag("csv", "its tables as CSV"),
    Arg::opt("o", Kind::File, "write it to a file"),
    Arg::flag("wide", "do not make rows fit the window"),
];

/// Reads the arguments of `call` as `command` declares them.
pub fn arguments(command: &Command, call: &Call, scope: &Scope<'_>) -> Result<(Args, Common), SyntaxError> {
    let mut args = Args::default();
    let mut common = Common::default();
    if let [Arg { kind, name, .. }] = command.args
        && kind.is_raw()
    {
        let raw = if *kind == Kind::Each { digits(&call.raw) } else { call.raw.as_str().into() };
        // A command that holds others leaves their options to them.
        let own = matches!(kind, Kind::Rest | Kind::LineFor(_)) || *kind == Kind::Each && each(&raw).is_none();
        let text = if own { trailing(&raw, &mut common) } else { &raw };
        args.push(name, Value::Text(text.trim().to_owned()));
        return Ok((args, common));
    }
    let all = words(&call.raw, call.raw_column)?;
    let mut positional = command.args.iter().filter(|a| a.positional).peekable();
    let mut i = 0;
    while let Some(word) = all.get(i) {
        i += 1;
        if let Some((name, inline)) = option_name(word) {
            match (option(command, &name), inline) {
                (Some(Arg { kind: Kind::Flag, name, .. }), _) => {
                    args.push(name, Value::Flag);
                    continue;
                }
                (Some(arg), inline) => {
                    let value = match inline {
                        Some(text) => Word { text, quoted: true, column: word.column },
                        None => {
                            i += 1;
                            all.get(i - 1).cloned().ok_or_else(|| SyntaxError {
                                column: word.column,
                                what: format!("-{} needs {}", arg.name, expected(arg)),
                            })?
                        }
                    };
                    args.push(arg.name, read(arg, &value, scope)?);
                    continue;
                }
                (None, _) if name == "json" => {
                    common.format = Some(Format::Json);
                    continue;
                }
                (None, _) if name == "csv" => {
                    common.format = Some(Format::Csv);
                    continue;
                }
                // Links in the logs of the debuggers: `!DumpObj /d ADDRESS`.
                (None, None) if name == "d" && (call.typed == Typed::Bang || command.prefix == Prefix::Bang) => {
                    continue;
                }
                (None, None) if name == "wide" => {
                    common.wide = true;
                    continue;
                }
                (None, Some(path)) if name == "o" => {
                    common.output = Some(show(&path).into_owned());
                    continue;
                }
                (None, None) if name == "o" && all.len() > i => {
                    common.output = all.get(i).map(|w| show(&w.text).into_owned());
                    i += 1;
                    continue;
                }
                (None, _) if word.text.starts_with('-') => return Err(unknown_option(command, word)),
                // `/m:text` is an option; `/tmp` may be a text, and with a colon a path.
                (None, Some(_)) if !positional.peek().is_some_and(|a| a.kind == Kind::File) => {
                    return Err(unknown_option(command, word));
                }
                _ => {}
            }
        }
        let Some(arg) = positional.peek().copied() else {
            return Err(SyntaxError { column: word.column, what: format!("unexpected argument; {}", usage(command)) });
        };
        if arg.kind.is_raw() {
            let from = word.column - call.raw_column;
            let text = call.raw.get(from..).unwrap_or("");
            let text = if arg.kind == Kind::Rest { trailing(text, &mut common) } else { text };
            args.push(arg.name, Value::Text(text.trim().to_owned()));
            args.raw_at = Some(from);
            return Ok((args, common));
        }
        args.push(arg.name, read(arg, word, scope)?);
        if !arg.many {
            positional.next();
        }
    }
    if let Some(missing) = command.args.iter().find(|a| a.required && !args.has(a.name)) {
        let end = call.raw_column + call.raw.trim_end().len();
        let what = format!("{} is missing ({}); {}", missing.name, expected(missing), usage(command));
        return Err(SyntaxError { column: end, what });
    }
    Ok((args, common))
}

/// Takes the options of [`COMMON`] off the end of arguments that are read as typed.
fn trailing<'t>(text: &'t str, common: &mut Common) -> &'t str {
    let mut text = text.trim_end();
    loop {
        let (rest, last) = text.rsplit_once(char::is_whitespace).unwrap_or(("", text));
        // Within quotes it is text.
        if rest.matches('"').count() % 2 == 1 {
            return text;
        }
        match last.trim_start_matches('-').to_ascii_lowercase().as_str() {
            "json" if last.starts_with('-') => common.format = Some(Format::Json),
            "csv" if last.starts_with('-') => common.format = Some(Format::Csv),
            "wide" if last.starts_with('-') => common.wide = true,
            _ => {
                match rest.trim_end().strip_suffix("-o").filter(|r| r.is_empty() || r.ends_with(char::is_whitespace)) {
                    Some(before) if common.output.is_none() && !last.is_empty() => {
                        common.output = Some(show(last.trim_matches('"')).into_owned());
                        text = before.trim_end();
                        continue;
                    }
                    _ => return text,
                }
            }
        }
        text = rest.trim_end();
    }
}

/// How far the arguments of the command typed as `name` go, `rest` being what follows it.
pub fn reach(commands: &[&'static Command], name: &str, rest: &str) -> Reach {
    let kinds = commands.iter().filter(|c| c.is_called(name)).filter_map(|c| match c.args {
        [arg] => Some(arg.kind),
        _ => None,
    });
    kinds
        .map(|kind| match kind {
            Kind::Line | Kind::LineBut(_) if name.ends_with(|c: char| c.is_ascii_uppercase()) => Reach::Semicolon,
            Kind::LineBut(words) if rest.split_whitespace().next().is_some_and(|w| words.contains(&w)) => {
                Reach::Semicolon
            }
            Kind::Line | Kind::LineBut(_) => Reach::Line,
            Kind::LineFor(heads) if heads.iter().any(|h| begins(rest, h)) => Reach::Line,
            Kind::Blocks => Reach::Blocks,
            Kind::Each if each(&digits(rest)).is_some() => Reach::Line,
            _ => Reach::Command,
        })
        .find(|r| *r != Reach::Command)
        .unwrap_or(Reach::Command)
}

fn begins(text: &str, head: &str) -> bool {
    text.trim_start().get(..head.len()).is_some_and(|t| t.eq_ignore_ascii_case(head))
}

/// Whether what was typed goes on on the next line: a bracket or a quotation mark is open, or a block is still to follow
/// its condition.
pub fn unfinished(text: &str, commands: &[&'static Command]) -> bool {
    let reach = |name: &str, rest: &str| reach(commands, name, rest);
    match grammar::parse(text, &reach) {
        Err(e) => e.is_unclosed(),
        // The last command may be a head whose block is still to come.
        Ok(calls) => calls.last().is_some_and(|call| {
            let raw = call.raw.trim();
            let condition = raw.find('(').and_then(|i| Some((&raw[..i], grammar::bracketed(&raw[i..], '(')?.1)));
            let head = condition.is_some_and(|(before, behind)| !before.contains('{') && behind.is_empty());
            let tail = raw.rsplit('}').next().unwrap_or("").trim();
            let arm = tail == ".else" || tail.starts_with(".els") && tail.ends_with(')');
            (head || arm) && reach(&call.name, &call.raw) == Reach::Blocks
        }),
    }
}

/// `*e COMMAND`, `*COMMAND`, `2 COMMAND`: which threads, and what is run with each current. `Ns` alone switches.
pub fn each(spec: &str) -> Option<(&str, &str)> {
    let spec = spec.trim_start();
    let end = match spec.strip_prefix("~[").or_else(|| spec.strip_prefix('[')) {
        Some(inner) => spec.len() - inner.len() + inner.find(']')? + 1,
        None if spec.starts_with(['*', '.', '#']) => 1,
        None => spec.find(|c: char| !c.is_ascii_digit()).unwrap_or(spec.len()),
    };
    let (which, rest) = spec.split_at_checked(end)?;
    let rest = rest.trim_start();
    let line = match rest.strip_prefix('e').filter(|r| r.starts_with(char::is_whitespace) || r.starts_with(['!', '.']))
    {
        Some(line) => line.trim(),
        // Without `e` one letter more or less makes another command: s switches, the rest of a native name runs.
        None if which.is_empty() || rest.starts_with(['e', '-', ';']) => return None,
        None if rest.split([';', ' ']).next() == Some("s") => return None,
        None => rest.trim(),
    };
    (!line.is_empty() && !line.starts_with('~')).then_some((which, line))
}

/// `-name`, `--name`, `/name`, `-name:value`: the name in lower case and the value behind a colon. A word with another
/// slash is a path.
fn option_name(word: &Word) -> Option<(String, Option<String>)> {
    if word.quoted {
        return None;
    }
    let text = word.text.strip_prefix("--").or_else(|| word.text.strip_prefix(['-', '/']))?;
    let name = text.split(':').next().unwrap_or("");
    if text.is_empty() || name.contains(['/', '\\']) || !text.starts_with(|c: char| c.is_alphabetic()) {
        return None;
    }
    match text.split_once(':') {
        Some((n, v)) => Some((n.to_lowercase(), Some(v.to_owned()))),
        None => Some((text.to_lowercase(), None)),
    }
}

fn option<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.args.iter().find(|a| a.is_option(name))
}

fn unknown_option(command: &Command, word: &Word) -> SyntaxError {
    let options: Vec<String> = command.args.iter().filter(|a| !a.positional).map(|a| format!("-{}", a.name)).collect();
    let what = if options.is_empty() {
        format!("{} has no options", command.name)
    } else {
        format!("no option {}; there are: {}", show(&word.text), options.join(" "))
    };
    SyntaxError { column: word.column, what }
}

fn expected(arg: &Arg) -> String {
    match arg.kind {
        Kind::Flag => "nothing".into(),
        Kind::Address | Kind::Object | Kind::MethodTable => "an address or expression".into(),
        Kind::Count => "a number, decimal unless it starts with 0x".into(),
        Kind::TypeName => "a type name".into(),
        Kind::Text | Kind::Rest | Kind::Line | Kind::LineBut(_) | Kind::LineFor(_) => "text".into(),
        Kind::Blocks => "blocks in braces".into(),
        Kind::Each => "threads".into(),
        Kind::File => "a path".into(),
        Kind::CommandName => "the name of a command".into(),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
    }
}

/// `usage: !dumpobj ADDR [-nofields]`.
pub fn usage(command: &Command) -> String {
    format!("usage: {}", synopsis(command))
}

/// The command with its arguments in one line.
pub fn synopsis(command: &Command) -> String {
    let mut text = spelled(command);
    for a in command.args {
        let inner = placeholder(a);
        text.push_str(&match a.kind {
            Kind::Blocks => format!(" {inner}"),
            _ if a.required => format!(" {inner}"),
            _ => format!(" [{inner}]"),
        });
    }
    text
}

/// How an argument is shown where it is to be typed: `ADDR`, `-limit N`.
pub fn placeholder(a: &Arg) -> String {
    let value = match a.kind {
        _ if a.positional => return a.name.to_owned(),
        Kind::Flag => return format!("-{}", a.name),
        Kind::OneOf(words) => return format!("-{} {}", a.name, words.join("|")),
        Kind::Count => "N",
        Kind::TypeName => "TYPE",
        Kind::File => "FILE",
        Kind::Text | Kind::CommandName => "TEXT",
        _ => "ADDR",
    };
    format!("-{} {value}", a.name)
}

/// The command's name with its prefix.
pub fn spelled(command: &Command) -> String {
    match command.prefix {
        Prefix::Bang => format!("!{}", command.name),
        Prefix::Dot => format!(".{}", command.name),
        Prefix::Plain => command.name.to_owned(),
    }
}

fn read(arg: &Arg, word: &Word, scope: &Scope<'_>) -> Result<Value, SyntaxError> {
    let wrong = |why: String| SyntaxError { column: word.column, what: why };
    Ok(match arg.kind {
        Kind::Flag => Value::Flag,
        Kind::Address | Kind::Object | Kind::MethodTable => Value::Number(evaluate(&word.text, scope).map_err(wrong)?),
        Kind::Count => {
            Value::Number(count(&show(&word.text)).ok_or_else(|| wrong(format!("expected {}", expected(arg))))?)
        }
        Kind::OneOf(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(&show(&word.text))) {
            Some(w) => Value::Text((*w).to_owned()),
            None => return Err(wrong(format!("expected {}", expected(arg)))),
        },
        _ => Value::Text(show(&word.text).into_owned()),
    })
}

/// A decimal number, hexadecimal behind `0x`; `_` and thousands separators are no part of one.
fn count(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.strip_prefix("0n").unwrap_or(text).parse().ok(),
    }
}
