//! What a condition is asked of an object: its values are compared where they lie.

use super::read::{At, Reader, Value, units};
use crate::session::enums::EnumNames;
use crate::shell::Cell;
use crate::shell::expr::pattern::Pattern;
use crate::shell::pipes::condition::{self, Op, Row, compared};
use crate::shell::pipes::literal::Literal;
use crate::shell::pipes::value::Number;

/// An object and who reads it.
pub struct Judge<'r, 's, 'o> {
    /// Knows the paths.
    pub reader: &'r mut Reader<'s>,
    /// The object.
    pub object: &'o At<'o>,
}

impl Row for Judge<'_, '_, '_> {
    fn is_true(&mut self, at: usize) -> bool {
        matches!(self.reader.value(at, self.object), Value::Bool(true))
    }

    fn is_missing(&mut self, at: usize) -> bool {
        matches!(self.reader.value(at, self.object), Value::Missing)
    }

    #[inline]
    fn against(&mut self, at: usize, op: Op, right: &Literal) -> bool {
        let value = self.reader.value(at, self.object);
        match &value {
            Value::Text(bytes) => against_text(bytes, op, right),
            Value::Enum(x, names) => against_enum(*x, names, op, right),
            Value::Char(c) if !matches!(op, Op::Contains | Op::Lacks) => against_char(*c, op, right),
            other => condition::against_literal(&self.reader.cell(other, usize::MAX), op, right),
        }
    }

    fn against_column(&mut self, at: usize, op: Op, other: usize) -> bool {
        let (a, b) = (self.reader.value(at, self.object), self.reader.value(other, self.object));
        if let (Value::Text(a), Value::Text(b)) = (&a, &b)
            && !matches!(op, Op::Contains | Op::Lacks)
        {
            return compared(Some(lower(a).cmp(lower(b))), op);
        }
        let (a, b) = (self.reader.cell(&a, usize::MAX), self.reader.cell(&b, usize::MAX));
        condition::against_cell(&a, op, &b)
    }

    fn is_like(&mut self, at: usize, pattern: &Pattern) -> bool {
        match &self.reader.value(at, self.object) {
            Value::Text(bytes) => pattern.fits(characters(bytes)),
            other => condition::like(&self.reader.cell(other, usize::MAX), pattern),
        }
    }
}

fn characters(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    char::decode_utf16(units(bytes)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
}

fn lower(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    characters(bytes).flat_map(char::to_lowercase)
}

/// As text in cells is compared: whatever its case.
fn against_text(bytes: &[u8], op: Op, right: &Literal) -> bool {
    match op {
        Op::Contains | Op::Lacks => contains(bytes, &right.lower) == (op == Op::Contains),
        Op::Equal | Op::Unequal => {
            let same = lower(bytes).eq(right.text.chars().flat_map(char::to_lowercase));
            same == (op == Op::Equal)
        }
        _ => compared(Some(lower(bytes).cmp(right.text.chars().flat_map(char::to_lowercase))), op),
    }
}

/// Whether a text holds `wanted`, which is in lower case.
fn contains(bytes: &[u8], wanted: &str) -> bool {
    let units = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    if !wanted.is_ascii() || bytes.chunks_exact(2).any(|b| b[1] != 0 || !b[0].is_ascii()) {
        // Letters that change their number of bytes with their case are compared as whole texts.
        return characters(bytes).collect::<String>().to_lowercase().contains(wanted);
    }
    let wanted = wanted.as_bytes();
    let last = (bytes.len() / 2 + 1).saturating_sub(wanted.len());
    (0..last).any(|start| {
        let same = |(i, w): (usize, &u8)| units(2 * (start + i)).is_some_and(|u| (u as u8).to_ascii_lowercase() == *w);
        wanted.iter().enumerate().all(same)
    })
}

/// Values of an enum are compared as numbers, with a number or a name.
fn against_enum(value: i64, names: &EnumNames, op: Op, right: &Literal) -> bool {
    let number = match (op, right.decimal) {
        (Op::Contains | Op::Lacks, _) => None,
        (_, Some(n)) => Some(n),
        (_, None) => names.value_of(&right.text).map(|x| Number::Int(x.into())),
    };
    match number {
        Some(n) => compared(Some(Number::Int(value.into()).compare(n)), op),
        None => condition::against_literal(&names.spell(value).map_or(Cell::Int(value), Cell::text), op, right),
    }
}

/// A character is compared with one, or with a number.
fn against_char(value: u16, op: Op, right: &Literal) -> bool {
    let mut characters = right.text.chars();
    let order = match (characters.next(), characters.next(), right.decimal) {
        (Some(c), None, _) => Some(char::from_u32(value.into()).unwrap_or(char::REPLACEMENT_CHARACTER).cmp(&c)),
        (_, _, Some(n)) => Some(Number::Int(value.into()).compare(n)),
        _ => None,
    };
    compared(order, op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    proptest::proptest! {
        #[test]
        fn texts_compare_as_cells_do(text in "[aAbBéÉßİ \u{10400}]{0,8}", right in "[aAbBéÉßİ \u{10400}]{0,4}") {
            let literal = Literal::new(&right, 0);
            for op in [Op::Equal, Op::Unequal, Op::Less, Op::AtMost, Op::Greater, Op::AtLeast, Op::Contains, Op::Lacks] {
                let plain = condition::against_literal(&Cell::text(text.as_str()), op, &literal);
                proptest::prop_assert_eq!(against_text(&utf16(&text), op, &literal), plain, "{:?}", op);
            }
        }
    }

    #[test]
    fn characters_compare() {
        let is = |c: char, op, right: &str| against_char(c as u16, op, &Literal::new(right, 0));
        assert!(is('a', Op::Equal, "a") && !is('a', Op::Equal, "A") && is('a', Op::Less, "b"));
        assert!(is('a', Op::Equal, "97") && is('7', Op::Equal, "7") && is('a', Op::Unequal, "xyz"));
        assert!(!is('a', Op::Equal, "xyz") && !is('a', Op::Less, "xyz"));
    }
}
