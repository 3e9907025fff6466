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
           character, %p a pointer with all its digits, %N without leading zeros, %I64x %I64d as without I64, %f %e %g a \
           32-bit floating-point number (with l or I64 a 64-bit one), %ma %mu the one-byte or two-byte text at an \
           address, %msa %msu the text of a STRING or UNICODE_STRING at one, %y module and offset, %% a percent sign; \
           flags, widths and precisions as in C (%#x %+d %-8x %08x %.3f); \\n \\t \\\" \\\\. Nothing ends the line unless \\n \
           does. /D takes marks of links out of the text: there are no links here.",
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
    let mut text = args.text(PRINTF.args[0].name).unwrap_or("").trim_start();
    let mut links = false;
    while let Some(option) = text.strip_prefix('/') {
        let (name, rest) = option.split_at(option.find([' ', '\t', '"']).unwrap_or(option.len()));
        match name {
            "D" => links = true,
            // Where the windows debuggers send it: to the one output there is.
            "od" | "oD" | "oe" | "on" | "op" | "oP" | "or" | "os" | "ov" | "ow" => {}
            _ => bail!("no option /{}; there are /D and /od /oD /oe /on /op /oP /or /os /ov /ow", show(name)),
        }
        text = rest.trim_start();
    }
    let Some((format, rest)) = quoted(text) else {
        bail!("expected a format in quotes: .printf \"FORMAT\", EXPRESSION, ...");
    };
    let format = if links { without_tags(format) } else { format.to_owned() };
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

/// `text` without `<...>` marks, and with what `&lt;` and its kin stand for. Quotation marks in a mark are escaped.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').map(|e| at + e + 1);
        let names = rest[at + 1..].trim_start_matches('/');
        // What is no mark stays: `a < b`.
        let (keep, next) = match end.filter(|_| names.starts_with(|c: char| c.is_ascii_alphabetic())) {
            Some(end) => (at, end),
            None => (at + 1, at + 1),
        };
        out.push_str(&rest[..keep]);
        rest = &rest[next..];
    }
    out.push_str(rest);
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\\\"").replace("&amp;", "&")
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
    plus: bool,
    blank: bool,
    prefix: bool,
    width: usize,
    precision: Option<usize>,
    wide: bool,
    kind: String,
}

impl Spec {
    fn read(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Self> {
        let mut spec = Self::default();
        while let Some(c) = chars.next_if(|c| "-0+# ".contains(*c)) {
            match c {
                '-' => spec.left = true,
                '0' => spec.zeros = true,
                '+' => spec.plus = true,
                '#' => spec.prefix = true,
                _ => spec.blank = true,
            }
        }
        spec.width = digits(chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(digits(chars));
        }
        while let Some(c) = chars.next_if(|c| "I64lh".contains(*c)) {
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
        // Zeros stand behind the sign and the prefix, and a precision of a whole number takes them away.
        let whole = matches!(self.kind.as_str(), "d" | "i" | "u" | "x" | "X" | "o");
        match (self.left, self.zeros && !(whole && self.precision.is_some())) {
            (true, _) => text + &" ".repeat(fill),
            (_, true) => {
                let head = text.find(|c: char| !"+- ".contains(c)).unwrap_or(0);
                let head = head + if text[head..].starts_with("0x") || text[head..].starts_with("0X") { 2 } else { 0 };
                format!("{}{}{}", &text[..head], "0".repeat(fill), &text[head..])
            }
            _ => " ".repeat(fill) + &text,
        }
    }

    /// A whole number: at least as many digits as the precision says, then sign and prefix.
    fn whole(&self, negative: bool, digits: String, prefix: &str) -> String {
        let zeros = "0".repeat(self.precision.unwrap_or(0).saturating_sub(digits.len()));
        let signed = matches!(self.kind.as_str(), "d" | "i");
        let sign = match (negative, self.plus && signed, self.blank && signed) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (.., true) => " ",
            _ => "",
        };
        let prefix = if self.prefix && digits != "0" { prefix } else { "" };
        format!("{sign}{prefix}{zeros}{digits}")
    }

    fn float(&self, bits: u64) -> String {
        let x = if self.wide { f64::from_bits(bits) } else { f64::from(f32::from_bits(bits as u32)) };
        let sign = match (x.is_sign_negative(), self.plus, self.blank) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (.., true) => " ",
            _ => "",
        };
        let precision = self.precision.unwrap_or(6);
        let x = x.abs();
        let text = match self.kind.as_str() {
            _ if !x.is_finite() => {
                if x.is_nan() {
                    "nan".to_owned()
                } else {
                    "inf".to_owned()
                }
            }
            "f" => format!("{x:.precision$}"),
            "e" => exponent(&format!("{x:.precision$e}")),
            _ => shortest(x, precision.max(1)),
        };
        format!("{sign}{text}")
    }
}

/// Decimal digits of a width or a precision.
fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut n = 0;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = (n * 10 + d as usize).min(MOST_WIDTH);
    }
    n
}

/// `1.5e3` as C prints it: `1.5e+003`, three digits as the debuggers of Windows have it.
fn exponent(text: &str) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
    format!("{mantissa}e{sign}{power:0>3}")
}

/// `%g`: the shorter of both forms, without zeros at its end.
fn shortest(x: f64, precision: usize) -> String {
    let scientific = format!("{x:.*e}", precision - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, p)| p.parse().ok()).unwrap_or(0);
    let trim =
        |t: &str| if t.contains('.') { t.trim_end_matches('0').trim_end_matches('.').to_owned() } else { t.to_owned() };
    if power < -4 || power >= precision as i32 {
        let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return exponent(&format!("{}e{power}", trim(mantissa)));
    }
    let decimals = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
    trim(&format!("{x:.decimals$}"))
}

fn field(ctx: &Ctx<'_>, spec: &Spec, v: u64) -> Result<String> {
    let pointer = ctx.session.map_or(8, |s| s.dump().arch.pointer_size());
    // Without I64 or l the native debuggers print 32 bits; scripts written for them know, those who type do not: a value
    // that needs more is printed whole, unless all of it is a sign.
    let sign_alone = v >> 31 == 0x1_FFFF_FFFF;
    let narrow = !spec.wide && (v <= u64::from(u32::MAX) || sign_alone);
    let signed = if narrow { i64::from(v as u32 as i32) } else { v as i64 };
    // A value of a 32-bit process has 32 bits.
    let unsigned = if narrow && pointer == 4 { u64::from(v as u32) } else { v };
    Ok(match spec.kind.as_str() {
        "d" | "i" => spec.whole(signed < 0, signed.unsigned_abs().to_string(), ""),
        "u" => spec.whole(false, unsigned.to_string(), ""),
        "x" => spec.whole(false, format!("{unsigned:x}"), "0x"),
        "X" => spec.whole(false, format!("{unsigned:X}"), "0X"),
        "o" => spec.whole(false, format!("{unsigned:o}"), "0"),
        "c" | "C" => char::from_u32(v as u32).unwrap_or('.').to_string(),
        "p" => format!("{unsigned:0width$x}", width = usize::from(pointer) * 2),
        "N" => format!("{unsigned:X}"),
        "f" | "g" | "e" => spec.float(v),
        "y" => {
            let dump = ctx.session()?.dump();
            symbol(dump, v).map_or_else(|| tick(v, pointer), |s| format!("{s} ({})", tick(v, pointer)))
        }
        "ma" | "mu" | "msa" | "msu" | "s" | "S" => {
            let text = text(ctx, &spec.kind, v)?;
            match spec.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text,
            }
        }
        other => bail!("no field %{}; there are %d %i %u %x %X %o %c %p %N %f %e %g %ma %mu %msa %msu %y", show(other)),
    })
}

/// The text at an address: `ma` one-byte, `mu` two-byte characters up to a zero, `msa` and `msu` those that a STRING or
/// UNICODE_STRING there counts.
pub(super) fn text(ctx: &Ctx<'_>, kind: &str, mut at: u64) -> Result<String> {
    let space = &ctx.session()?.dump().space;
    let mut most = MOST_TEXT;
    if let "msa" | "msu" = kind {
        // Length in bytes, its maximum, the buffer at the next pointer.
        let length = space.u16(at).map(usize::from);
        let buffer = space.ptr_at(at, u64::from(space.ptr_size()));
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

    #[test]
    fn flags_and_floats() {
        let shown = |format: &str, v: u64| {
            let spec = Spec::read(&mut format.chars().peekable()).unwrap();
            let text = match spec.kind.as_str() {
                "d" => spec.whole((v as i64) < 0, (v as i64).unsigned_abs().to_string(), ""),
                "x" => spec.whole(false, format!("{v:x}"), "0x"),
                _ => spec.float(v),
            };
            spec.padded(text)
        };
        for (format, v, want) in [
            ("#x", 0x1f, "0x1f"),
            ("#x", 0, "0"),
            ("#08x", 0x1f, "0x00001f"),
            ("+d", 5, "+5"),
            (" d", 5, " 5"),
            ("5d", 7, "    7"),
            ("-5d", 7, "7    "),
            ("05d", 7, "00007"),
            ("05d", -7i64 as u64, "-0007"),
            (".3d", 7, "007"),
            ("f", u64::from(1.5f32.to_bits()), "1.500000"),
            ("lf", 0, "0.000000"),
            ("lf", 1.5f64.to_bits(), "1.500000"),
            (".2le", 1234.5f64.to_bits(), "1.23e+003"),
            ("lg", 1234.5f64.to_bits(), "1234.5"),
            ("lg", 1e-9f64.to_bits(), "1e-009"),
            ("lg", 1e20f64.to_bits(), "1e+020"),
            ("08.2lf", (-1.5f64).to_bits(), "-0001.50"),
            ("lf", f64::NAN.to_bits(), "nan"),
        ] {
            assert_eq!(shown(format, v), want, "%{format} of {v:x}");
        }
        assert_eq!(without_tags("see <link cmd=\\\"x\\\">details</link> a < b &lt;"), "see details a < b <");
    }
}
