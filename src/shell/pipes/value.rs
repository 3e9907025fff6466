//! What pipes see of a cell: its value without the form text gives it. How values are told apart and ordered.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::super::cell::Cell;

/// A number, exact where it is whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole one. All of 64 bits, and sums of them, have room.
    Int(i128),
    /// A finite one with a fraction.
    Float(f64),
}

/// The value of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing, or a number that is none (JSON has `null` for both).
    Missing,
    /// A number that people write in decimal.
    Number(Number),
    /// An address or another number that people write in hexadecimal.
    Hex(u64),
    /// True or false.
    Bool(bool),
    /// Seconds since 1970.
    Time(u64),
    /// Text.
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// The value of a cell.
    pub fn of(cell: &'a Cell<'_>) -> Self {
        match whole(cell) {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) | Cell::Hex(x) => {
                Value::Hex(*x)
            }
            Cell::Num(x) | Cell::Sep(x) | Cell::As(_, x) => Value::Number(Number::Int((*x).into())),
            Cell::Int(x) => Value::Number(Number::Int((*x).into())),
            Cell::Float(x) | Cell::Percent(x) if x.is_finite() => Value::Number(Number::of(*x)),
            Cell::Float(_) | Cell::Percent(_) | Cell::Shown(..) | Cell::None => Value::Missing,
            Cell::Time(t) => Value::Time(*t),
            Cell::Bool(b) | Cell::Either(b, ..) => Value::Bool(*b),
            Cell::Text(t) => Value::Text(Cow::Borrowed(t)),
            Cell::Units(t) => Value::Text(String::from_utf16_lossy(t).into()),
        }
    }

    /// Whether there is none.
    pub fn is_missing(&self) -> bool {
        *self == Value::Missing
    }

    /// The order of two values of one kind; `None` when either is missing or they are of two kinds.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) => Some(compare_text(a, b)),
            (a, b) => Some(a.number()?.compare(b.number()?)),
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Value::Number(n) => Some(*n),
            Value::Hex(x) => Some(Number::Int((*x).into())),
            _ => None,
        }
    }

    /// Its place among kinds: numbers, true and false, times, text.
    fn kind(&self) -> u64 {
        match self {
            Value::Number(_) | Value::Hex(_) => 0,
            Value::Bool(_) => 1,
            Value::Time(_) => 2,
            Value::Text(_) => 3,
            Value::Missing => 4,
        }
    }

    /// An order of all values, missing ones last.
    pub fn order(&self, other: &Value<'_>) -> Ordering {
        self.compare(other).unwrap_or_else(|| self.kind().cmp(&other.kind()))
    }

    /// A number below 2^60 that grows with the order, as far as it tells values apart: most comparisons of a sort need no
    /// more.
    pub fn prefix(&self) -> u64 {
        let body = match self {
            Value::Number(_) | Value::Hex(_) => self.number().map_or(0, |n| ordered(n.approximate())),
            Value::Bool(b) => u64::from(*b) << 8,
            Value::Time(t) => *t,
            Value::Text(t) => text_prefix(t),
            Value::Missing => 0,
        };
        self.kind() << 57 | body >> 8
    }
}

impl Number {
    /// A finite number, a whole one as such.
    pub fn of(x: f64) -> Self {
        let small = x.abs() < 2f64.powi(64);
        if small && x.fract() == 0.0 { Number::Int(x as i128) } else { Number::Float(x) }
    }

    /// The nearest number with a fraction.
    pub fn approximate(self) -> f64 {
        match self {
            Number::Int(x) => x as f64,
            Number::Float(x) => x,
        }
    }

    /// The order of two numbers, exact: a whole number of 64 bits has more digits than one with a fraction.
    pub fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Number::Int(a), Number::Float(b)) => whole_to_fraction(a, b),
            (Number::Float(a), Number::Int(b)) => whole_to_fraction(b, a).reverse(),
        }
    }

    /// As a cell, a whole one with thousands separators if `separated`.
    pub fn cell(self, separated: bool) -> Cell<'static> {
        match self {
            Number::Int(x) => match (u64::try_from(x), i64::try_from(x)) {
                (Ok(x), _) if separated => Cell::Sep(x),
                (Ok(x), _) => Cell::Num(x),
                (_, Ok(x)) => Cell::Int(x),
                _ => Cell::Float(x as f64),
            },
            Number::Float(x) => Cell::Float(x),
        }
    }
}

fn whole_to_fraction(a: i128, b: f64) -> Ordering {
    if b.abs() >= 2f64.powi(120) {
        return if b > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    let floor = b.floor();
    a.cmp(&(floor as i128)).then(if b > floor { Ordering::Less } else { Ordering::Equal })
}

/// The bits of a finite number in an order that is that of the numbers.
fn ordered(x: f64) -> u64 {
    // Minus zero is zero.
    let bits = (x + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The first characters of a text as a number, case apart.
fn text_prefix(text: &str) -> u64 {
    let mut bytes = [0u8; 8];
    let mut at = 0;
    for c in text.chars().flat_map(char::to_lowercase) {
        let mut utf8 = [0; 4];
        for b in c.encode_utf8(&mut utf8).bytes() {
            if at == bytes.len() {
                return u64::from_be_bytes(bytes);
            }
            bytes[at] = b;
            at += 1;
        }
    }
    u64::from_be_bytes(bytes)
}

/// The order of two texts, case apart.
pub fn compare_text(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()));
    }
    a.chars().flat_map(char::to_lowercase).cmp(b.chars().flat_map(char::to_lowercase))
}

/// Whether `text` contains `lower`, which is in lower case, case apart.
pub fn contains(text: &str, lower: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().contains(lower);
    }
    let (text, wanted) = (text.as_bytes(), lower.as_bytes());
    let Some(&first) = wanted.first() else { return true };
    let last = (text.len() + 1).saturating_sub(wanted.len());
    (0..last).any(|i| {
        text[i].to_ascii_lowercase() == first
            && text.get(i..i + wanted.len()).is_some_and(|t| t.eq_ignore_ascii_case(wanted))
    })
}

/// The cell without what text makes of it: a name that is not cut, a number that is not rounded.
pub fn whole<'c, 'a>(cell: &'c Cell<'a>) -> &'c Cell<'a> {
    let mut cell = cell;
    while let Cell::Shown(_, value) = cell {
        cell = value;
    }
    cell
}

/// Appends the cell as text shows it behind a pipe, whole.
pub fn push_whole(cell: &Cell<'_>, out: &mut Vec<u8>) {
    match whole(cell) {
        Cell::As(_, x) => Cell::Sep(*x).push_text(out),
        other => other.push_text(out),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Cell<'static>> {
        prop_oneof![
            any::<u64>().prop_map(Cell::Num),
            any::<i64>().prop_map(Cell::Int),
            any::<u64>().prop_map(Cell::Hex),
            any::<f64>().prop_map(Cell::Float),
            (-3i64..3).prop_map(|x| Cell::Float(x as f64 / 2.0)),
            (0u64..3).prop_map(Cell::Sep),
            any::<bool>().prop_map(Cell::Bool),
            (0u64..5_000_000_000).prop_map(Cell::Time),
            "[aAbBéÉ\u{0}ß]{0,10}".prop_map(Cell::text),
            Just(Cell::None),
        ]
    }

    proptest! {
        #[test]
        fn the_prefix_agrees_with_the_order(a in values(), b in values(), c in values()) {
            let (a, b, c) = (Value::of(&a), Value::of(&b), Value::of(&c));
            let order = a.order(&b);
            prop_assert_eq!(order, b.order(&a).reverse());
            prop_assert!(order == a.prefix().cmp(&b.prefix()) || a.prefix() == b.prefix(), "{:?} {:?}", a, b);
            prop_assert!(a.prefix() < 1 << 60);
            if order.is_le() && b.order(&c).is_le() {
                prop_assert!(a.order(&c).is_le(), "{:?} {:?} {:?}", a, b, c);
            }
        }

        #[test]
        fn text_is_found_whatever_its_case(text in "[aAbB é]{0,12}", wanted in "[aAbB é]{0,3}") {
            let lower = wanted.to_lowercase();
            prop_assert_eq!(contains(&text, &lower), text.to_lowercase().contains(&lower));
        }
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let of = |c: Cell<'static>| match Value::of(&c) {
            Value::Number(n) => n,
            other => unreachable!("{other:?}"),
        };
        let big = of(Cell::Num(u64::MAX));
        assert_eq!(big.compare(of(Cell::Num(u64::MAX - 1))), Ordering::Greater);
        assert_eq!(big.compare(of(Cell::Float(2f64.powi(64)))), Ordering::Less);
        assert_eq!(of(Cell::Int(-1)).compare(of(Cell::Float(-0.5))), Ordering::Less);
        assert_eq!(of(Cell::Float(1e300)).compare(big), Ordering::Greater);
        assert_eq!(of(Cell::Float(-0.0)).compare(of(Cell::Num(0))), Ordering::Equal);
        assert_eq!(Value::of(&Cell::Float(f64::NAN)), Value::Missing);
    }
}
