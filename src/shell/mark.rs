//! Marks in text that goes to a terminal: where a value begins and ends and what it holds. [`super::screen`] reads them,
//! makes lines fit the window and gives them their colours. They are control characters, which no text of a dump brings
//! along (`quote::push_clean`).

use super::cell::Cell;
use super::returns::{Col, Type};

/// Begins a value; its kind and the width of its column follow.
const BEGIN: char = '\u{1e}';
/// Ends a value.
const END: char = '\u{1f}';
/// Stands at the start of a line: `ROW` or `TITLES` follows, and between the two spellings of a line of titles.
const LINE: char = '\u{1d}';
const ROW: char = 'r';
const TITLES: char = 't';

/// What a value is to the one who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A number or a word that is never shortened.
    Plain,
    /// An address.
    Address,
    /// A number of bytes.
    Size,
    /// The name of a type; it gives way where the window is narrow.
    TypeName,
    /// Other text that gives way.
    Text,
    /// Sentences and paths, which go on on a further line.
    Prose,
    /// How much something changed.
    Growth,
}

const ALL: [Mark; 7] = [Mark::Plain, Mark::Address, Mark::Size, Mark::TypeName, Mark::Text, Mark::Prose, Mark::Growth];

impl Mark {
    /// What a cell of `column` is.
    pub fn of(column: &Col, cell: &Cell<'_>) -> Self {
        match column.ty {
            _ if column.growth => Mark::Growth,
            _ if column.breaks => Mark::Prose,
            Type::Bytes => Mark::Size,
            Type::TypeName => Mark::TypeName,
            Type::Text | Type::Content | Type::Given | Type::Path | Type::FieldPath => match cell {
                cell if cell.address().is_some() => Mark::Address,
                // Words of a column on the right stand for numbers.
                Cell::Text(_) | Cell::Units(_) | Cell::Shown(..) | Cell::None if !column.right => Mark::Text,
                _ => Mark::Plain,
            },
            _ if cell.address().is_some() => Mark::Address,
            Type::Address => Mark::Address,
            _ => Mark::Plain,
        }
    }

    /// The letter it is written as.
    pub fn letter(self) -> u8 {
        b'a' + ALL.iter().position(|m| *m == self).unwrap_or(0) as u8
    }

    /// What a letter stands for.
    pub fn of_letter(letter: u8) -> Self {
        ALL.get(usize::from(letter.to_ascii_lowercase().saturating_sub(b'a'))).copied().unwrap_or(Mark::Plain)
    }

    /// Whether it gives way.
    pub fn gives_way(self) -> bool {
        matches!(self, Mark::TypeName | Mark::Text)
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    out.push(c as u8);
}

/// Begins a row, or a line of titles.
pub fn row(out: &mut Vec<u8>, titles: bool) {
    push(out, LINE);
    push(out, if titles { TITLES } else { ROW });
}

/// Stands between titles as a command spells them and those of the columns, which may take their place.
pub fn or_titles(out: &mut Vec<u8>) {
    push(out, LINE);
}

/// Begins a value of a column of this width; 0 is as wide as the value.
pub fn begin(out: &mut Vec<u8>, mark: Mark, right: bool, width: usize) {
    push(out, BEGIN);
    let code = mark.letter();
    out.push(if right { code.to_ascii_uppercase() } else { code });
    // Six bits a character, all of them printable.
    let width = width.min(0xFFF);
    out.extend([b'0' + (width >> 6) as u8, b'0' + (width & 0x3F) as u8]);
}

/// Ends a value.
pub fn end(out: &mut Vec<u8>) {
    push(out, END);
}

/// Whether a line has marks.
pub fn any(line: &str) -> bool {
    line.contains([BEGIN, END, LINE])
}

/// A piece of a line: a value, or what stands between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'t> {
    /// What it is; nothing between values.
    pub mark: Option<Mark>,
    /// Aligned right in its column.
    pub right: bool,
    /// Width of its column.
    pub width: usize,
    /// The text.
    pub text: &'t str,
}

/// What a marked line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'t> {
    /// A line with values in it.
    Loose(&'t str),
    /// A row of a table.
    Row(&'t str),
    /// The titles above one, and those of the columns where the command spells them itself.
    Titles(&'t str, Option<&'t str>),
}

/// Tells what a line is.
pub fn read(line: &str) -> Line<'_> {
    let Some(rest) = line.strip_prefix(LINE) else { return Line::Loose(line) };
    match rest.strip_prefix(TITLES) {
        Some(titles) => match titles.split_once(LINE) {
            Some((own, columns)) => Line::Titles(own, Some(columns)),
            None => Line::Titles(titles, None),
        },
        None => Line::Row(rest.strip_prefix(ROW).unwrap_or(rest)),
    }
}

/// The pieces of a line.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let between = |text| Piece { mark: None, right: false, width: 0, text };
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        if !before.is_empty() {
            found.push(between(before));
        }
        let (value, behind) = after.split_once(END).unwrap_or((after, ""));
        // Three characters of ASCII in front.
        let (head, text) = value.split_at_checked(3).unwrap_or(("", value));
        let digit = |i: usize| head.as_bytes().get(i).map_or(0, |b| usize::from(b.saturating_sub(b'0')));
        let code = head.as_bytes().first().copied().unwrap_or(b'a');
        found.push(Piece {
            mark: Some(Mark::of_letter(code)),
            right: code.is_ascii_uppercase(),
            width: digit(1) << 6 | digit(2),
            text,
        });
        rest = behind;
    }
    if !rest.is_empty() {
        found.push(between(rest));
    }
    found
}

/// The line without marks, as it is printed elsewhere.
pub fn plain(line: &str) -> String {
    let text = match read(line) {
        Line::Loose(t) | Line::Row(t) | Line::Titles(t, _) => t,
    };
    let mut plain: String = pieces(text).iter().map(|p| p.text).collect();
    // The end of a row has no blanks, whatever marks stood behind them.
    plain.truncate(plain.trim_end_matches(' ').len());
    plain
}

/// Appends `line` with marks around the values it shows. Each value is looked for once, behind those before it or, if it
/// is not there, anywhere.
pub fn line(out: &mut Vec<u8>, line: &str, values: &[(Type, &Cell<'_>)]) {
    let mut places: Vec<(usize, usize, Mark)> = Vec::new();
    let mut text = Vec::new();
    for (ty, cell) in values {
        let mark = match ty {
            Type::TypeName => Mark::TypeName,
            Type::Bytes => Mark::Size,
            _ if cell.address().is_some() => Mark::Address,
            _ => continue,
        };
        text.clear();
        match cell.address() {
            // Lines print addresses with and without zeros in front.
            Some(a) => text.extend_from_slice(format!("{a:x}").as_bytes()),
            None => drop(cell.push_text(&mut text)),
        }
        let Ok(text) = std::str::from_utf8(&text) else { continue };
        let from = places.last().map_or(0, |p| p.1);
        let free = |p: &(usize, usize)| places.iter().all(|q| p.1 <= q.0 || q.1 <= p.0);
        let found = find(line, text, from, mark).or_else(|| find(line, text, 0, mark)).filter(free);
        if let Some((start, end)) = found {
            places.push((start, end, mark));
            places.sort_unstable_by_key(|p| p.0);
        }
    }
    let mut at = 0;
    for (start, stop, mark) in places {
        out.extend_from_slice(line.get(at..start).unwrap_or("").as_bytes());
        begin(out, mark, false, 0);
        out.extend_from_slice(line.get(start..stop).unwrap_or("").as_bytes());
        end(out);
        at = stop;
    }
    out.extend_from_slice(line.get(at..).unwrap_or("").as_bytes());
}

/// Where `text` stands alone in `line`, at `from` or behind it; zeros in front of an address belong to it.
fn find(line: &str, text: &str, from: usize, mark: Mark) -> Option<(usize, usize)> {
    if text.is_empty() {
        return None;
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(text).filter(|(at, _)| *at >= from).find_map(|(at, _)| {
        let before = line.get(..at)?;
        let zeros = if mark == Mark::Address { before.trim_end_matches('0').len() } else { at };
        let alone = !line.get(..zeros)?.ends_with(word) && !line.get(at + text.len()..)?.starts_with(word);
        alone.then_some((zeros, at + text.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_read_back() {
        let mut out = Vec::new();
        row(&mut out, false);
        begin(&mut out, Mark::Size, true, 100);
        out.extend(b"  12");
        end(&mut out);
        out.push(b' ');
        begin(&mut out, Mark::TypeName, false, 0);
        end(&mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert_eq!(plain(&text), "  12");
        let Line::Row(rest) = read(&text) else { return assert!(any("")) };
        let found = pieces(rest);
        assert_eq!(found[0], Piece { mark: Some(Mark::Size), right: true, width: 100, text: "  12" });
        assert_eq!((found[1].text, found[2].mark), (" ", Some(Mark::TypeName)));
    }

    #[test]
    fn values_are_found_in_lines() {
        let (a, ty) = (Cell::Addr(0x7f00), Cell::text("Zoo.A"));
        let mut out = Vec::new();
        line(&mut out, "  -> 00007f00 (0x7f001) Zoo.AB Zoo.A", &[(Type::Address, &a), (Type::TypeName, &ty)]);
        let text = String::from_utf8_lossy(&out).into_owned();
        let values: Vec<&str> = pieces(&text).iter().filter(|p| p.mark.is_some()).map(|p| p.text).collect();
        assert_eq!(values, ["00007f00", "Zoo.A"]);
        assert_eq!(plain(&text), "  -> 00007f00 (0x7f001) Zoo.AB Zoo.A");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z0\u{1d}-\u{1f}äE ]{0,40}") {
            let _ = (plain(&text), read(&text), pieces(&text));
        }
    }
}
