//! The command line: `;` between commands, quotes, `!ext.cmd`, `.dot`, native names, comments, pipes. One module holds all
//! of nom's use for it.

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{opt, recognize};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use super::pipes::{self, Pipe};
pub use super::words::{SyntaxError, Word, bracketed, words};
use super::words::{closing, split_at};

/// How a command was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// With `!`.
    Bang,
    /// With `.`.
    Dot,
    /// Bare.
    Plain,
}

/// One command of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// How it was typed.
    pub typed: Typed,
    /// Its name, lower case.
    pub name: String,
    /// The same as typed: `dd` and `dD` are two commands.
    pub typed_name: String,
    /// Where it starts in the line, in bytes.
    pub column: usize,
    /// Its arguments as typed, pipes removed.
    pub raw: String,
    /// Where the arguments start.
    pub raw_column: usize,
    /// Pipes behind it.
    pub pipes: Vec<Pipe>,
    /// Where it ends in the line, its pipes included.
    pub end: usize,
}

/// How far the arguments of a command reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the next `;`, pipes taken off.
    Command,
    /// To the next `;`, and nothing in it is a pipe.
    Semicolon,
    /// To the end of the line, `;` included.
    Line,
    /// To the next `;` outside parentheses and braces.
    Blocks,
}

/// Blanks and line ends: a block may span lines.
fn blanks(i: &str) -> IResult<&str, &str> {
    take_while(|c: char| c == ' ' || c == '\t' || c == '\n' || c == '\r').parse(i)
}

fn ident(i: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c.is_alphanumeric() || c == '_' || c == '-').parse(i)
}

/// The name of a command with a dot: a sign behind it is its argument (`.symopt-40`).
fn dotted(i: &str) -> IResult<&str, &str> {
    take_while1(|c: char| c.is_alphanumeric() || c == '_').parse(i)
}

/// `$<`, `$><`, `$$<`, `$$><`, `$$>a<`: run a script.
fn script(i: &str) -> IResult<&str, &str> {
    alt((tag("$$>a<"), tag("$$><"), tag("$$<"), tag("$><"), tag("$<"))).parse(i)
}

/// Head of a command: how it was typed and its name.
fn head(i: &str) -> IResult<&str, (Typed, &str)> {
    alt((
        script.map(|s| (Typed::Plain, s)),
        preceded((opt(char('!')), alt((tag_no_case("sos"), tag_no_case("ext"))), one_of(" \t"), blanks), ident)
            .map(|n| (Typed::Bang, n)),
        preceded(char('!'), preceded(opt(terminated(ident, char('.'))), ident)).map(|n| (Typed::Bang, n)),
        preceded(char('.'), dotted).map(|n| (Typed::Dot, n)),
        alt((tag("??"), tag("||"))).map(|n| (Typed::Plain, n)),
        recognize(one_of("?|~")).map(|n| (Typed::Plain, n)),
        ident.map(|n| (Typed::Plain, n)),
    ))
    .parse(i)
}

/// Splits a line, or the lines of a block, into commands. `reach` tells from a command's name as typed and from what
/// follows it how far its arguments go.
pub fn parse(line: &str, reach: &dyn Fn(&str, &str) -> Reach) -> Result<Vec<Call>, SyntaxError> {
    let mut calls = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let (after, _) = blanks(rest).unwrap_or((rest, ""));
        at = line.len() - after.len();
        if after.is_empty() {
            break;
        }
        if let Some(next) = after.strip_prefix(';') {
            at = line.len() - next.len();
            continue;
        }
        if after.starts_with('*') {
            at += after.find('\n').unwrap_or(after.len());
            continue;
        }
        // A comment runs to the next `;`; the script forms begin with `$$` too.
        if after.starts_with("$$") && script(after).is_err() {
            at += after.find([';', '\n']).unwrap_or(after.len());
            continue;
        }
        let Ok((args, (typed, name))) = head(after) else {
            return Err(SyntaxError {
                column: at,
                what: "expected a command: !name, .name or a native command".into(),
            });
        };
        let column = at;
        let start = line.len() - args.len();
        // `;` may stand in the names of files that are run line by line.
        let reach = match name {
            "$<" | "$><" => Reach::Line,
            _ if script(name).is_ok() => Reach::Semicolon,
            _ => reach(name, args),
        };
        let end = match reach {
            Reach::Line => start + args.find('\n').unwrap_or(args.len()),
            Reach::Command | Reach::Semicolon => start + split_at(args, &[';', '\n'], start)?,
            Reach::Blocks => start + blocks_end(args, start)?,
        };
        let (raw, pipes) =
            if reach == Reach::Command { behind(line, start, end)? } else { (&line[start..end], Vec::new()) };
        let (typed_name, name, raw) = (name.to_owned(), name.to_lowercase(), raw.to_owned());
        calls.push(Call { typed, name, typed_name, column, raw, raw_column: start, pipes, end });
        at = end;
    }
    Ok(calls)
}

/// Where the command with blocks at the start of `text` ends: at a `;` or a line end outside all parentheses and braces,
/// unless what follows the line end belongs to it.
fn blocks_end(text: &str, base: usize) -> Result<usize, SyntaxError> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let Some(stop) = rest.find([';', '\n', '(', '{', '"']) else { return Ok(text.len()) };
        at += stop;
        match rest[stop..].chars().next() {
            Some(';') => return Ok(at),
            Some('\n') => {
                let next = rest[stop..].trim_start();
                if !next.starts_with(['{', '(']) && !next.starts_with(".else") && !next.starts_with(".elsif") {
                    return Ok(at);
                }
                at += 1;
            }
            _ => at = closing(text, at, base)?,
        }
    }
}

/// Braces open at the end of a line at whose start `depth` were. Quotes end with their line.
pub fn braces(line: &str, mut depth: u32) -> u32 {
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth = depth.saturating_add(1),
            '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

/// Separates the pipes from the arguments.
fn behind(line: &str, start: usize, end: usize) -> Result<(&str, Vec<Pipe>), SyntaxError> {
    let text = &line[start..end];
    let first = split_at(text, &['|'], start)?;
    let mut found = Vec::new();
    let mut at = first;
    while at < text.len() {
        let rest = &text[at + 1..];
        let column = start + at + 1;
        let length = split_at(rest, &['|'], column)?;
        if found.len() == pipes::MOST {
            return Err(SyntaxError { column, what: format!("more than {} pipes behind a command", pipes::MOST) });
        }
        found.push(pipes::read(&rest[..length], column)?);
        at += 1 + length;
    }
    Ok((&text[..first], found))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reach(name: &str, _: &str) -> Reach {
        match name.to_lowercase().as_str() {
            "echo" => Reach::Line,
            "if" | "foreach" | "for" => Reach::Blocks,
            _ => Reach::Command,
        }
    }

    fn calls(line: &str) -> Vec<Call> {
        parse(line, &reach).unwrap()
    }

    #[test]
    fn splits_commands_and_comments() {
        let c = calls("!dumpheap -stat ; .time;; lm * the rest; !x");
        assert_eq!(c.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["dumpheap", "time", "lm", "x"]);
        assert_eq!(c[2].raw, " * the rest");
        assert_eq!(calls("* all of it; !x"), []);
        assert_eq!(calls("$$ until here; !x")[0].name, "x");
    }

    #[test]
    fn knows_every_way_to_type_a_name() {
        let c = calls("!sos.DumpHeap -mt 1; .Echo a;b");
        assert_eq!((c[0].typed, c[0].name.as_str()), (Typed::Bang, "dumpheap"));
        assert_eq!((c[1].typed, c[1].raw.as_str()), (Typed::Dot, " a;b"));
        let c = calls("sos DumpHeap -stat; !ext dso; !sos");
        assert_eq!((c[0].typed, c[0].name.as_str(), c[0].raw.as_str()), (Typed::Bang, "dumpheap", " -stat"));
        assert_eq!((c[1].name.as_str(), c[2].name.as_str()), ("dso", "sos"));
        assert_eq!(calls("~*e r")[0].raw, "*e r");
        assert_eq!(calls("?1+2")[0].raw, "1+2");
        assert_eq!(calls("$<c:\\x;y 1")[0].raw, "c:\\x;y 1");
        let c = calls("$$>a< f \"a;b\" 1; lm");
        assert_eq!((c[0].raw.as_str(), c[1].name.as_str()), (" f \"a;b\" 1", "lm"));
        let c = calls(".symopt-40");
        assert_eq!((c[0].name.as_str(), c[0].raw.as_str()), ("symopt", "-40"));
    }

    #[test]
    fn pipes_and_quotes() {
        let c = calls("!dumpheap \"a;b|c\" | find Zoo | top 3");
        assert_eq!(c[0].raw.trim(), "\"a;b|c\"");
        assert_eq!(c[0].pipes, [Pipe::Find("zoo".into()), Pipe::Top(3)]);
        let e = parse("!dumpheap \"abc", &reach).unwrap_err();
        assert_eq!(e.column, 10);
        assert_eq!(parse("lm | fnd x", &reach).unwrap_err().column, 5);
    }

    #[test]
    fn blocks_keep_their_semicolons() {
        let c = calls(".foreach (o {!a -short; x}) {!do o; .echo \"}\"}; lm");
        assert_eq!(c.len(), 2);
        assert_eq!(c[0].raw, " (o {!a -short; x}) {!do o; .echo \"}\"}");
        assert_eq!(c[1].name, "lm");
        let c = calls(".if (1)\n{\n  lm; r\n}\n.else\n{ q }\nlm");
        assert_eq!(c.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["if", "lm"]);
        assert_eq!(calls("* one\nlm; * two ; r\nr").len(), 2);
        let e = parse(".if (1) {lm; r", &reach).unwrap_err();
        assert_eq!((e.column, e.what.as_str()), (8, "this { is not closed"));
    }

    #[test]
    fn brackets() {
        assert_eq!(bracketed(" (a (b) \")\") c", '('), Some(("a (b) \")\"", " c")));
        assert_eq!(bracketed("{ :( }x", '{'), Some((" :( ", "x")));
        assert_eq!(bracketed("(a", '('), None);
        assert_eq!((braces(".if (1) {", 0), braces(".echo \"{\"", 0), braces("} }", 1)), (1, 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "[a-z.!?$*|;:(){}\"' \n\\PC]{0,80}") {
            if let Ok(calls) = parse(&line, &reach) {
                for c in calls {
                    let _ = words(&c.raw, c.raw_column);
                }
            }
        }
    }
}
