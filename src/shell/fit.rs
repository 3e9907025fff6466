//! Making lines fit a window: text gives way in its middle, sentences and paths go on on a further line, numbers and
//! addresses are never cut. A row that is too wide even so continues below, column by column.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::mark::{Mark, Piece};

/// Least columns left to text that gives way.
const LEAST: usize = 16;
/// Columns that further lines of a row are indented by.
const INDENT: usize = 4;
/// Columns a path or a sentence wants at least beside what stands before it.
const PROSE: usize = 32;

/// A piece of a line that is ready to be printed.
pub type Ready<'t> = (Option<Mark>, Cow<'t, str>);

/// Columns that `text` takes on a terminal.
pub fn columns(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

/// `text` in at most `most` columns: its beginning, `…`, its end.
pub fn middle(text: &str, most: usize) -> Cow<'_, str> {
    if columns(text) <= most {
        return Cow::Borrowed(text);
    }
    let room = most.saturating_sub(1);
    let head = take(text.chars(), room * 2 / 5);
    let tail = take(text.chars().rev(), room - room * 2 / 5);
    let (head, tail) = (text.get(..head).unwrap_or(""), text.get(text.len() - tail..).unwrap_or(""));
    Cow::Owned(format!("{head}…{tail}"))
}

/// The beginning of `text` in at most `most` columns, `…` where it was cut.
pub fn head(text: &str, most: usize) -> Cow<'_, str> {
    if columns(text) <= most {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", text.get(..take(text.chars(), most.saturating_sub(1))).unwrap_or("")))
}

/// Bytes of the characters that fit into `most` columns.
fn take(chars: impl Iterator<Item = char>, most: usize) -> usize {
    let (mut bytes, mut wide) = (0, 0);
    for c in chars {
        wide += c.width().unwrap_or(0);
        if wide > most {
            break;
        }
        bytes += c.len_utf8();
    }
    bytes
}

/// The name of a type in at most `most` columns. Its own name stays longest: first the namespace gives way, then type
/// arguments, the last one last.
pub fn type_name(name: &str, most: usize) -> Cow<'_, str> {
    if columns(name) <= most {
        return Cow::Borrowed(name);
    }
    let Some(parts) = Generic::parse(name) else { return middle(name, most) };
    let namespace = parts.namespace.trim_end_matches('.');
    let whole = columns(namespace);
    // A beginning of the namespace that still says which it is.
    let least = whole.min(8);
    for left_out in 0..=parts.arguments.len() {
        let shown = parts.arguments.iter().skip(left_out).copied();
        let arguments: Vec<&str> = std::iter::repeat_n("…", left_out.min(1)).chain(shown).collect();
        let rest = format!("{}<{}>{}", parts.name, arguments.join(", "), parts.behind);
        let room = most.saturating_sub(columns(&rest));
        if room > whole {
            let dot = if namespace.is_empty() { "" } else { "." };
            return Cow::Owned(format!("{namespace}{dot}{rest}"));
        }
        if room > least {
            let head = namespace.get(..take(namespace.chars(), room - 1)).unwrap_or("");
            return Cow::Owned(format!("{head}…{rest}"));
        }
    }
    middle(name, most)
}

/// A generic type's name in parts.
struct Generic<'t> {
    namespace: &'t str,
    name: &'t str,
    arguments: Vec<&'t str>,
    behind: &'t str,
}

impl<'t> Generic<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let open = text.match_indices('<').map(|m| m.0).find(|i| !text[i + 1..].starts_with('>'))?;
        let (before, inner) = text.split_at(open);
        let dot = before.rfind(['.', ' ']).map_or(0, |i| i + 1);
        let (mut depth, mut from, mut arguments, mut end) = (0usize, 1, Vec::new(), None);
        for (i, c) in inner.char_indices() {
            match c {
                '<' | '[' => depth += 1,
                ',' if depth == 1 => {
                    arguments.push(inner.get(from..i)?.trim());
                    from = i + 1;
                }
                '>' | ']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = Some(i);
                        break;
                    }
                }
                _ => {}
            }
        }
        let end = end?;
        arguments.push(inner.get(from..end)?.trim());
        let (namespace, name) = before.split_at(dot);
        Some(Self { namespace, name, arguments, behind: inner.get(end + 1..)? })
    }
}

/// A value in so many columns.
fn shortened<'t>(p: &Piece<'t>, most: usize) -> Cow<'t, str> {
    match p.mark {
        Some(Mark::TypeName) => type_name(p.text, most),
        // Owners and messages name types too.
        Some(Mark::Text) if p.text.contains('<') => type_name(p.text, most),
        Some(Mark::Text) => middle(p.text, most),
        _ => Cow::Borrowed(p.text),
    }
}

/// Takes columns from the widest that may give way until all together take `room`, none below `least`.
fn shrink(widths: &mut [usize], may: &[bool], room: usize, least: usize) {
    for (w, _) in widths.iter_mut().zip(may).filter(|(_, may)| **may) {
        *w = (*w).min(room.max(least));
    }
    let mut total: usize = widths.iter().sum();
    while total > room {
        let widest = widths.iter_mut().zip(may).filter(|(w, may)| **may && **w > least).map(|(w, _)| w);
        let Some(w) = widest.max_by_key(|w| **w) else { return };
        *w -= 1;
        total -= 1;
    }
}

fn gives_way(p: &Piece<'_>) -> bool {
    p.mark.is_some_and(Mark::gives_way)
}

/// A line with values in it, type names shortened where it is too long. A sentence goes on on further lines.
pub fn line<'t>(pieces: &[Piece<'t>], window: usize) -> Vec<Vec<Ready<'t>>> {
    if let [Piece { mark: Some(Mark::Prose), text, .. }] = pieces {
        let bare = text.trim_start_matches(' ');
        let indent = text.len() - bare.len();
        // Blanks in a row are columns.
        if columns(text) <= window || bare.contains("  ") || indent + LEAST > window {
            return vec![vec![(None, Cow::Borrowed(text))]];
        }
        let lines = wrap(bare, window - indent, window - indent).into_iter();
        return lines.map(|l| vec![(None, Cow::Owned(format!("{}{l}", " ".repeat(indent))))]).collect();
    }
    vec![loose(pieces, window)]
}

fn loose<'t>(pieces: &[Piece<'t>], window: usize) -> Vec<Ready<'t>> {
    let mut widths: Vec<usize> = pieces.iter().map(|p| columns(p.text)).collect();
    let may: Vec<bool> = pieces.iter().map(gives_way).collect();
    shrink(&mut widths, &may, window, LEAST);
    pieces.iter().zip(widths).map(|(p, w)| (p.mark, shortened(p, w))).collect()
}

/// A row of a table as one line or more. What is decided for a row follows from the widths of the columns wherever it can,
/// so that rows stay aligned.
pub fn row<'t>(pieces: &[Piece<'t>], window: usize) -> Vec<Vec<Ready<'t>>> {
    let cells: Vec<Piece<'t>> = pieces.iter().filter(|p| p.mark.is_some()).copied().collect();
    let natural = |c: &Piece<'_>| match (c.width, c.mark) {
        (0, Some(Mark::Prose)) => PROSE,
        (0, _) if gives_way(c) => LEAST,
        (0, _) => columns(c.text),
        (w, Some(Mark::Prose)) => w.min(PROSE),
        (w, _) => w,
    };
    let widths: Vec<usize> = cells.iter().map(natural).collect();
    let fits = sum(&widths) <= window;
    if fits && pieces.iter().map(|p| columns(p.text)).sum::<usize>() <= window {
        return vec![pieces.iter().map(|p| (p.mark, Cow::Borrowed(p.text))).collect()];
    }
    let mut lines: Vec<Vec<Ready<'t>>> = Vec::new();
    let mut first_width = 0;
    let mut from = 0;
    for group in groups(&cells, &widths, window) {
        let (cells, widths) = (&cells[from..from + group], &widths[from..from + group]);
        from += group;
        let numbers = cells.iter().all(|c| c.right);
        let indent = match lines.is_empty() {
            true => 0,
            false if numbers => first_width.max(sum(widths) + INDENT).min(window).saturating_sub(sum(widths)),
            false => INDENT,
        };
        let widths = fitted(cells, widths, window.saturating_sub(indent), fits);
        if lines.is_empty() {
            first_width = sum(&widths);
        }
        print(cells, &widths, indent, window, &mut lines);
    }
    lines
}

/// Columns of cells with a blank between each two.
fn sum(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + widths.len().saturating_sub(1)
}

/// How many columns stand on each line.
fn groups(cells: &[Piece<'_>], widths: &[usize], window: usize) -> Vec<usize> {
    let mut groups = vec![0usize];
    let mut at = 0;
    for (cell, width) in cells.iter().zip(widths) {
        let least = if gives_way(cell) { (*width).min(LEAST) } else { *width };
        let last = groups.len() - 1;
        if groups[last] > 0 && at + 1 + least > window {
            // Text beside text goes along: together they have more room there.
            let from = groups.iter().sum::<usize>();
            let before = cells.get(from - groups[last]..from).unwrap_or_default();
            let along = before.iter().rev().take_while(|c| gives_way(c) && gives_way(cell)).count();
            let along = if along < groups[last] { along } else { 0 };
            groups[last] -= along;
            groups.push(1 + along);
            at = INDENT + least + along * (LEAST + 1);
            continue;
        }
        at += least + usize::from(groups[last] > 0);
        groups[last] += 1;
    }
    groups
}

/// The widths of the cells of one line.
fn fitted(cells: &[Piece<'_>], widths: &[usize], room: usize, fits: bool) -> Vec<usize> {
    let may: Vec<bool> = cells.iter().map(gives_way).collect();
    let blanks = cells.len().saturating_sub(1);
    let room = room.saturating_sub(blanks);
    let mut widths = widths.to_vec();
    if !fits {
        shrink(&mut widths, &may, room, LEAST);
    }
    // Then what this row has: cells wider than their column, and columns without a width.
    for ((w, c), may) in widths.iter_mut().zip(cells).zip(&may) {
        if c.mark != Some(Mark::Prose) && (fits || c.width == 0 || !may) {
            *w = (*w).max(columns(c.text));
        }
    }
    shrink(&mut widths, &may, room, LEAST);
    widths
}

fn print<'t>(cells: &[Piece<'t>], widths: &[usize], indent: usize, window: usize, lines: &mut Vec<Vec<Ready<'t>>>) {
    let mut at = indent;
    let mut line: Vec<Ready<'t>> = Vec::new();
    let mut blanks = indent;
    let mut further = Vec::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if i > 0 {
            blanks += 1;
            at += 1;
        }
        let text = match cell.mark {
            Some(Mark::Prose) => {
                let from = if window.saturating_sub(at) < PROSE { INDENT } else { at };
                let mut parts = wrap(cell.text, window.saturating_sub(at), window.saturating_sub(from)).into_iter();
                let first = parts.next().unwrap_or_default();
                further = parts.map(|p| vec![(None, " ".repeat(from).into()), (cell.mark, p.into())]).collect();
                first.into()
            }
            _ => shortened(cell, (*width).max(if gives_way(cell) { 1 } else { usize::MAX })),
        };
        let pad = width.saturating_sub(columns(&text));
        at += columns(&text) + pad;
        if cell.right {
            blanks += pad;
        }
        if !text.is_empty() {
            if blanks > 0 {
                line.push((None, " ".repeat(blanks).into()));
            }
            line.push((cell.mark, text));
            blanks = 0;
        }
        if !cell.right {
            blanks += pad;
        }
    }
    lines.push(line);
    lines.append(&mut further);
}

/// A path broken at its arrows, or a sentence between words: the first line in `first` columns, the others in `room`.
pub fn wrap(text: &str, first: usize, room: usize) -> Vec<String> {
    if columns(text) <= first {
        return vec![text.to_owned()];
    }
    let path = text.contains(" -> ");
    let parts: Vec<String> = match path {
        true => {
            text.split(" -> ").enumerate().map(|(i, s)| if i == 0 { s.into() } else { format!("-> {s}") }).collect()
        }
        false => words(text).into_iter().map(str::to_owned).collect(),
    };
    let mut lines: Vec<String> = vec![String::new()];
    for part in parts {
        let most = if lines.len() == 1 { first } else { room };
        let Some(line) = lines.last_mut() else { break };
        let gap = usize::from(!line.is_empty());
        if columns(line) + gap + columns(&part) <= most && (gap == 0 || !path) {
            line.push_str(if gap > 0 { " " } else { "" });
            line.push_str(&part);
            continue;
        }
        let begun = gap > 0;
        for piece in step(&part, if begun { room } else { most }) {
            match lines.last_mut().filter(|l| l.is_empty()) {
                Some(l) => *l = piece,
                None => lines.push(piece),
            }
        }
    }
    lines
}

/// A step of a path, or a word, in lines of at most `room` columns: the longest word gives way if that is enough.
fn step(part: &str, room: usize) -> Vec<String> {
    let over = columns(part).saturating_sub(room);
    if over == 0 {
        return vec![part.to_owned()];
    }
    let mut parts: Vec<Cow<'_, str>> = words(part).into_iter().map(Cow::Borrowed).collect();
    let longest = parts.iter().enumerate().max_by_key(|(_, w)| columns(w)).map_or(0, |(i, _)| i);
    if let Some(word) = parts.get_mut(longest) {
        let most = columns(word).saturating_sub(over).max(LEAST);
        *word = type_name(word, most).into_owned().into();
    }
    let mut lines = vec![String::new()];
    for word in parts {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && columns(line) + 1 + columns(&word) > room {
            lines.push(format!("   {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(&word);
        }
    }
    lines
}

/// Words of a sentence; what stands in angle brackets is one with the name before it.
fn words(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut from) = (Vec::new(), 0usize, 0);
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            // Not that of an arrow.
            '>' if before != '-' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                found.extend(text.get(from..i).filter(|w| !w.is_empty()));
                from = i + 1;
            }
            _ => {}
        }
        before = c;
    }
    found.extend(text.get(from..).filter(|w| !w.is_empty()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DICTIONARY: &str = "System.Collections.Generic.Dictionary<System.String, Zoo.Session>";

    #[test]
    fn names_give_way_in_the_middle() {
        assert_eq!(type_name(DICTIONARY, 38), "System.Coll…Dictionary<…, Zoo.Session>");
        assert_eq!(type_name(DICTIONARY, 52), "System.Collec…Dictionary<System.String, Zoo.Session>");
        assert_eq!(type_name(DICTIONARY, 65), DICTIONARY);
        assert_eq!(type_name("A.B+<>c__DisplayClass1", 10), "A.B…Class1");
        assert_eq!(middle("日本語の名前です", 9), "日…です");
        for most in 0..70 {
            let cut = type_name(DICTIONARY, most);
            assert!(columns(&cut) <= most.max(1), "{most}: {cut}");
        }
    }

    fn piece(mark: Mark, right: bool, width: usize, text: &str) -> Piece<'_> {
        Piece { mark: Some(mark), right, width, text }
    }

    fn shown(lines: &[Vec<Ready<'_>>]) -> Vec<String> {
        lines.iter().map(|l| l.iter().map(|p| &*p.1).collect()).collect()
    }

    #[test]
    fn numbers_are_whole_and_text_gives_way() {
        let cells = [
            piece(Mark::Address, true, 12, "7fd0d900a770"),
            piece(Mark::Size, true, 12, "2,492,710"),
            piece(Mark::TypeName, false, 65, DICTIONARY),
        ];
        assert_eq!(shown(&row(&cells, 65)), ["7fd0d900a770    2,492,710 System.Colle…Dictionary<…, Zoo.Session>"]);
        // Shorter rows of the same table keep the columns.
        let short = [cells[0], cells[1], piece(Mark::TypeName, false, 65, "Zoo.A")];
        assert_eq!(shown(&row(&short, 65)), ["7fd0d900a770    2,492,710 Zoo.A"]);
        // Too narrow for both: the row goes on below.
        let lines = shown(&row(&cells, 40));
        assert_eq!(lines, ["7fd0d900a770    2,492,710", "    System.Co…Dictionary<…, Zoo.Session>"]);
    }

    #[test]
    fn numbers_go_on_below_on_the_right() {
        let mut cells = vec![piece(Mark::Text, false, 34, "Stack")];
        cells.extend((0..5).map(|_| piece(Mark::Size, true, 12, "64.111 MB")));
        let lines = shown(&row(&cells, 60));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.iter().all(|l| columns(l) <= 60), "{lines:?}");
        assert_eq!(columns(&lines[0]), columns(&lines[1]));
    }

    #[test]
    fn paths_are_broken_at_arrows() {
        let path = "strong handle -> static Zoo.Zoo.Cache: System.Collections.Generic.Dictionary<System.String, \
                    Zoo.Session> 7fd0d900a770 -> _entries: Zoo.Session[] 7fd0d916e178";
        let lines = wrap(path, 60, 60);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[1].starts_with("-> static") && lines[1].ends_with("7fd0d900a770"), "{lines:#?}");
        assert!(lines.iter().all(|l| columns(l) <= 60), "{lines:#?}");
        assert_eq!(wrap("one two three", 7, 9), ["one two", "three"]);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_numbers(text in "[A-Za-z0-9.<>, \\-日\\PC]{0,60}", most in 0usize..50) {
            let _ = (type_name(&text, most), wrap(&text, most, most));
            let cells = [piece(Mark::Size, true, 5, "12345"), piece(Mark::TypeName, false, 0, &text),
                         piece(Mark::Prose, false, 0, &text)];
            let all = shown(&row(&cells, most)).join("\n");
            proptest::prop_assert!(all.contains("12345"));
        }
    }
}
