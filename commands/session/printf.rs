//! `.printf`: text with values in it.

use anyhow::{Result, bail};

use crate::commands::memory::{symbol, tick, value};
use crate::shell::opaque::show;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `.printf`.
pub const PRINTF: Command = Command {
    name: "printf",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Scripts,
    summary: "print text with values in it",
    help: "FORMAT is in quotes, expressions follow, each behind a comma. %d %i %u decimal, %x %X hexadecimal, %o octal, %c a \
           character, %p a pointer with all its digits, %N without leading zeros, %I64x %I64d as without I64, %ma %mu the \
           one-byte or two-byte text at an address, %msu the text of a UNICODE_STRING at one, %y module and offset, %% \
           a percent sign; widths as in %8x and %-8x; \\n \\t \\\" \\\\. Nothing ends the line unless \\n does.",
    args: &[Arg::pos("\"FORMAT\", EXPRESSION, ...", Kind::Rest, "text and values")],
    examples: &[Example {
        line: ".printf \"sp %p, in decimal %d\\n\", @$csp, @$csp",
        what: "a register in two notations",
    }],
    needs: Needs::Nothing,
    returns: Returns::NOTHING,
    run,
};

/// Widest field.
const MOST_WIDTH: usize = 1024;
/// Longest text read at an address.
const MOST_TEXT: usize = 4096;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text(PRINTF.args[0].name).unwrap_or("");
    let text = text.strip_prefix("/D").unwrap_or(text).trim_start();
    let Some((format, rest)) = quoted(text) else {
        bail!("expected a format in quotes: .printf \"FORMAT\", EXPRESSION, ...");
    };
    let mut values = commas(rest.trim().strip_prefix(',').unwrap_or("")).into_iter();
    let (mut out, mut literal) = (String::new(), String::new());
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => literal.push('\n'),
                Some('t') => literal.push('\t'),
                Some('r') => {}
                Some(c) => literal.push(c),
                None => {}
            },
            '%' if chars.peek() == Some(&'%') => {
                chars.next();
                literal.push('%');
            }
            '%' => {
                let spec = Spec::read(&mut chars)?;
                let Some(expression) = values.next() else { bail!("no value for %{}", show(&spec.kind)) };
                let v = value(ctx, expression)?;
                out.push_str(&show(&std::mem::take(&mut literal)));
                out.push_str(&spec.padded(field(ctx, &spec, v)?));
            }
            c => literal.push(c),
        }
    }
    out.push_str(&show(&literal));
    ctx.out.print(&out)?;
    Ok(Outcome::Complete)
}

/// The text in the quotes at the start, and what follows them; `\"` ends nothing.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in inner.char_indices() {
        match c {
            '"' if !escaped => return Some((inner.get(..i)?, inner.get(i + 1..)?)),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// Parts between commas outside parentheses.
fn commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(text[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|p| !p.is_empty());
    parts
}

/// One field of the format.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spec {
    left: bool,
    zeros: bool,
    width: usize,
    wide: bool,
    kind: String,
}

impl Spec {
    fn read(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Self> {
        let mut spec = Self::default();
        while let Some(c) = chars.next_if(|c| "-0+# ".contains(*c)) {
            spec.left |= c == '-';
            spec.zeros |= c == '0';
        }
        while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
            chars.next();
            spec.width = (spec.width * 10 + d as usize).min(MOST_WIDTH);
        }
        // A precision has no meaning for numbers here.
        if chars.next_if_eq(&'.').is_some() {
            while chars.next_if(char::is_ascii_digit).is_some() {}
        }
        while let Some(c) = chars.next_if(|c| "I64l".contains(*c)) {
            spec.wide |= c != 'h';
        }
        if let Some(c) = chars.next_if_eq(&'m') {
            spec.kind.push(c);
            spec.kind.extend(chars.next_if_eq(&'s'));
        }
        spec.kind.extend(chars.next());
        Ok(spec)
    }

    fn padded(&self, text: String) -> String {
        let fill = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zeros) {
            (true, _) => text + &" ".repeat(fill),
            (_, true) => "0".repeat(fill) + &text,
            _ => " ".repeat(fill) + &text,
        }
    }
}

fn field(ctx: &Ctx<'_>, spec: &Spec, v: u64) -> Result<String> {
    // Without I64 or l the native debuggers print 32 bits; scripts written for them know, those who type do not: a value
    // that needs more is printed whole.
    let signed = if spec.wide || v > u64::from(u32::MAX) { v as i64 } else { i64::from(v as u32 as i32) };
    let pointer = ctx.session.map_or(8, |s| s.dump().arch.pointer_size());
    Ok(match spec.kind.as_str() {
        "d" | "i" => signed.to_string(),
        "u" => v.to_string(),
        "x" => format!("{v:x}"),
        "X" => format!("{v:X}"),
        "o" => format!("{v:o}"),
        "c" | "C" => char::from_u32(v as u32).unwrap_or('.').to_string(),
        "p" => format!("{v:0width$x}", width = usize::from(pointer) * 2),
        "N" => format!("{v:X}"),
        "f" | "g" | "e" => f64::from_bits(v).to_string(),
        "y" => {
            let dump = ctx.session()?.dump();
            symbol(dump, v).map_or_else(|| tick(v, pointer), |s| format!("{s} ({})", tick(v, pointer)))
        }
        "ma" | "mu" | "msa" | "msu" | "s" | "S" => text(ctx, &spec.kind, v, pointer)?,
        other => bail!("no field %{other}; there are %d %i %u %x %X %o %c %p %N %ma %mu %msu %y"),
    })
}

fn text(ctx: &Ctx<'_>, kind: &str, mut at: u64, pointer: u8) -> Result<String> {
    let space = &ctx.session()?.dump().space;
    let mut most = MOST_TEXT;
    if let "msa" | "msu" = kind {
        // STRING and UNICODE_STRING: length in bytes, its maximum, the buffer at the next pointer.
        let length = space.u16(at).map(usize::from);
        let buffer = space.ptr_at(at, u64::from(pointer));
        let (Some(length), Some(buffer)) = (length, buffer) else { bail!("{at:x} is not in the dump") };
        (at, most) = (buffer, if kind == "msu" { length / 2 } else { length });
    }
    if !space.readable(at) {
        bail!("{at:x} is not in the dump");
    }
    Ok(if matches!(kind, "mu" | "msu" | "S") { space.utf16z(at, most) } else { space.utf8z(at, most) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_their_values() {
        assert_eq!(quoted("\"a \\\"b\\\\\" , c"), Some(("a \\\"b\\\\", " , c")));
        assert_eq!(quoted("\"a"), None);
        assert_eq!(commas(" poi(a,b)+1, c ,"), ["poi(a,b)+1", "c"]);
        let spec = Spec::read(&mut "-08I64xz".chars().peekable()).unwrap();
        assert_eq!((spec.left, spec.zeros, spec.width, spec.kind.as_str()), (true, true, 8, "x"));
        let spec = Spec::read(&mut "msu".chars().peekable()).unwrap();
        assert_eq!(spec.kind, "msu");
        let spec = Spec { zeros: true, width: 4, ..Spec::default() };
        assert_eq!(spec.padded("1f".into()), "001f");
    }
}
