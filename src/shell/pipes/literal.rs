//! What stands behind a comparison: the same word may be a decimal number, an address, a moment or text. Which of them it
//! is, the column says.

use super::super::expr::{Scope, evaluate, number};
use super::super::numbers::seconds;
use super::super::opaque::show;
use super::value::Number;

/// A value as typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// As typed, quotes removed.
    pub text: String,
    /// As the line has it: what nobody typed is opaque in it, and is no expression.
    raw: String,
    /// In lower case.
    pub lower: String,
    /// Where it stands in the line.
    pub column: usize,
    /// As a number where numbers are decimal.
    pub decimal: Option<Number>,
    /// As a number where numbers are hexadecimal; why it is none.
    pub hex: Result<u64, String>,
    /// As true or false.
    pub truth: Option<bool>,
    /// As a moment.
    pub time: Option<u64>,
}

impl Literal {
    /// Reads every meaning that needs no dump.
    pub fn new(raw: &str, column: usize) -> Self {
        let text = &*show(raw);
        let lower = text.to_lowercase();
        Literal {
            decimal: decimal(&lower),
            hex: number(text).ok_or_else(|| format!("expected a hexadecimal number, not `{text}`")),
            truth: match lower.as_str() {
                "true" | "yes" | "1" => Some(true),
                "false" | "no" | "0" => Some(false),
                _ => None,
            },
            time: seconds(text),
            text: text.to_owned(),
            raw: raw.to_owned(),
            lower,
            column,
        }
    }

    /// Reads what stands for a number in this dump: a register, `poi(...)`, `@$t0`.
    pub fn evaluate(&mut self, scope: &Scope<'_>) {
        if self.hex.is_err() {
            self.hex = evaluate(&self.raw, scope);
        }
    }
}

/// Units of bytes, and the percent sign of shares; the longer of two that end alike first.
const UNITS: &[(&str, u32)] = &[
    ("kib", 10),
    ("mib", 20),
    ("gib", 30),
    ("tib", 40),
    ("kb", 10),
    ("mb", 20),
    ("gb", 30),
    ("tb", 40),
    ("k", 10),
    ("m", 20),
    ("g", 30),
    ("t", 40),
    ("b", 0),
    ("%", 0),
];

/// Whether a word of its own is the unit of the number before it.
pub fn is_unit(word: &str) -> bool {
    UNITS.iter().any(|(u, _)| word.eq_ignore_ascii_case(u))
}

/// A number in lower case where numbers are decimal: `0x` for hexadecimal, `0n` allowed, thousands separators, a unit.
fn decimal(lower: &str) -> Option<Number> {
    let (negative, text) = lower.strip_prefix('-').map_or((false, lower), |t| (true, t));
    let plain = |t: &str, shift: u32| -> Option<Number> {
        let t = t.trim_end();
        let (digits, radix) = match t.get(..2) {
            Some("0x") => (t[2..].replace('`', ""), 16),
            Some("0n") => (t[2..].to_owned(), 10),
            _ => (ungrouped(t)?, 10),
        };
        if digits.len() > 30 || !digits.starts_with(|c: char| c.is_digit(radix)) {
            return None;
        }
        let Ok(n) = u128::from_str_radix(&digits, radix) else {
            let fraction = radix == 10 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let x: f64 = digits.parse().ok().filter(|_| fraction)?;
            return Some(Number::of(x * 2f64.powi(shift as i32)));
        };
        let n = i128::try_from(n).ok()?.checked_mul(1 << shift)?;
        Some(Number::Int(n))
    };
    let units = UNITS.iter().filter_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let found = std::iter::once((text, 0)).chain(units).find_map(|(t, shift)| plain(t, shift))?;
    Some(match found {
        Number::Int(x) if negative => Number::Int(-x),
        Number::Float(x) if negative => Number::Float(-x),
        positive => positive,
    })
}

/// `1,234,567` without its separators; none where they stand elsewhere.
fn ungrouped(text: &str) -> Option<String> {
    if !text.contains(',') {
        return Some(text.to_owned());
    }
    let mut groups = text.split(',');
    let first = groups.next().is_some_and(|g| (1..=3).contains(&g.len()));
    (first && groups.all(|g| g.len() == 3)).then(|| text.replace(',', ""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::expr::Values;
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (text, want) in [
            ("100", Some(Number::Int(100))),
            ("0x10", Some(Number::Int(16))),
            ("0x1b", Some(Number::Int(27))),
            ("0n16", Some(Number::Int(16))),
            ("85,000", Some(Number::Int(85_000))),
            ("8,50", None),
            ("1kb", Some(Number::Int(1024))),
            ("1KiB", Some(Number::Int(1024))),
            ("0x2kb", Some(Number::Int(2048))),
            ("1.5mb", Some(Number::Int(1_572_864))),
            ("2 GB", Some(Number::Int(2 << 30))),
            ("12.5%", Some(Number::Float(12.5))),
            ("-3", Some(Number::Int(-3))),
            ("-0.5", Some(Number::Float(-0.5))),
            ("7f3a", None),
            ("inf", None),
            ("1e5", None),
            ("", None),
            ("-", None),
            ("kb", None),
            ("+1", None),
            ("99999999999999999999999999999999", None),
        ] {
            assert_eq!(Literal::new(text, 0).decimal, want, "{text}");
        }
    }

    #[test]
    fn the_same_word_has_several_meanings() {
        let l = Literal::new("10", 3);
        assert_eq!((l.decimal, l.hex, l.truth), (Some(Number::Int(10)), Ok(16), None));
        let l = Literal::new("2026-11-25T15:59:53Z", 0);
        assert_eq!((l.time, l.decimal), (Some(1_795_622_393), None));
        let mut l = Literal::new("@$t3+1", 0);
        assert!(l.hex.is_err());
        let mut values = Values::default();
        values.user[3] = 7;
        l.evaluate(&Scope { dump: None, thread: 0, values: &values, context: None });
        assert_eq!(l.hex, Ok(8));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9a-fxnkmgbit.,%`+-]{0,12}|\\PC{0,12}") {
            let _ = Literal::new(&text, 0);
        }
    }
}
