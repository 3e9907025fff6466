//! The lines of an answer as pages: which are shown next, when a page is full, where a text stands. It knows no terminal.

use std::collections::VecDeque;

use super::fit::columns;
use super::style;

/// Bytes of lines kept to go back to.
const KEPT: usize = 64 << 20;
/// Clears the window.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What the reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The next page.
    Page,
    /// One line more.
    Line,
    /// The page before.
    Back,
    /// One line back.
    LineBack,
    /// The first page.
    Start,
    /// The last page.
    End,
    /// The next line that contains the text.
    Search(String),
    /// The one after it.
    Again,
    /// No more of it.
    Quit,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This is shown.
    Show(Vec<u8>),
    /// Lines are waited for.
    Wait,
    /// There is more than fits: the reader is asked.
    Full,
    /// The reader asked for the end, and this is it.
    End,
    /// The text does not come again.
    NotFound,
}

/// How lines go on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// As long as the page has room.
    Page,
    /// To the last one.
    ToEnd,
    /// To one that contains the text, looked for from this line on.
    Find(u64),
    /// From this line on.
    Turn(u64),
    /// The reader went to the last page: it does not go away by itself.
    AtEnd,
    /// The reader is done with the last page.
    Done,
}

/// The lines of one answer.
#[derive(Debug)]
pub struct Book {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lines dropped before those kept.
    dropped: u64,
    /// First line not shown yet.
    shown: u64,
    /// Rows used on the page.
    used: usize,
    size: Option<(usize, usize)>,
    mode: Mode,
    search: String,
    /// Matches are marked in the lines shown.
    marking: bool,
    /// The reader has been back: the end is not passed over.
    stays: bool,
}

impl Book {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            shown: 0,
            used: 0,
            size: None,
            mode: Mode::Page,
            search: String::new(),
            marking: false,
            stays: false,
        }
    }

    /// Whether no line has come yet.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether the window is not known yet.
    pub fn is_new(&self) -> bool {
        self.size.is_none()
    }

    /// Whether the reader is done with the last page.
    pub fn is_done(&self) -> bool {
        self.mode == Mode::Done
    }

    /// Says how many columns and rows the window has.
    pub fn resize(&mut self, size: (usize, usize)) {
        self.size = Some(size);
    }

    /// The text searched for last.
    pub fn prompt(&self) -> String {
        self.search.clone()
    }

    /// Adds a line, its end included.
    pub fn push(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(line.into());
        // What is not shown yet is kept, whatever it takes: only going to the end gathers.
        while self.bytes > KEPT && (self.dropped < self.shown || self.mode != Mode::Page) {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len();
            self.dropped += 1;
            self.shown = self.shown.max(self.dropped);
        }
    }

    /// Everything that is kept.
    pub fn all(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|l| l.iter().copied()).collect()
    }

    fn count(&self) -> u64 {
        self.dropped + self.lines.len() as u64
    }

    fn line(&self, number: u64) -> Option<&[u8]> {
        let at = usize::try_from(number.checked_sub(self.dropped)?).ok()?;
        self.lines.get(at).map(|l| &**l)
    }

    /// Rows a line takes in the window.
    fn rows(&self, line: &[u8]) -> usize {
        let (window, _) = self.size.unwrap_or((80, 24));
        let text = bare(&String::from_utf8_lossy(line));
        1 + columns(text.trim_end_matches(['\n', '\r'])).saturating_sub(1) / window.max(1)
    }

    /// Rows of a page: the last row of the window is that of the question.
    fn page(&self) -> usize {
        self.size.map_or(23, |(_, rows)| rows.saturating_sub(1).max(1))
    }

    /// What happens next. `ended`: no line will come.
    pub fn next(&mut self, ended: bool) -> Next {
        match self.mode {
            Mode::Page => self.show(ended),
            Mode::ToEnd if ended => {
                self.mode = Mode::AtEnd;
                let first = self.before(self.count(), self.page());
                self.turn_to(first)
            }
            Mode::Find(from) => self.find(from, ended),
            Mode::Turn(line) => {
                self.mode = Mode::Page;
                self.turn_to(line)
            }
            Mode::AtEnd => Next::End,
            Mode::ToEnd | Mode::Done => Next::Wait,
        }
    }

    fn show(&mut self, ended: bool) -> Next {
        let mut text = Vec::new();
        while let Some(line) = self.line(self.shown) {
            let rows = self.rows(line);
            if self.used > 0 && self.used + rows > self.page() {
                return if text.is_empty() { Next::Full } else { Next::Show(text) };
            }
            self.push_line(&mut text, self.shown);
            self.used += rows;
            self.shown += 1;
        }
        match text.is_empty() {
            false => Next::Show(text),
            true if ended && self.stays => {
                self.mode = Mode::AtEnd;
                Next::End
            }
            true => Next::Wait,
        }
    }

    fn find(&mut self, from: u64, ended: bool) -> Next {
        let from = from.max(self.dropped);
        let found = (from..self.count()).find(|&n| self.line(n).is_some_and(|l| self.holds(l)));
        match found {
            Some(n) => {
                self.marking = true;
                self.mode = Mode::Page;
                self.turn_to(n)
            }
            None if ended => {
                self.mode = Mode::Page;
                self.stays = true;
                Next::NotFound
            }
            None => {
                self.mode = Mode::Find(self.count());
                Next::Wait
            }
        }
    }

    /// Clears the window and shows the page that begins with a line.
    fn turn_to(&mut self, first: u64) -> Next {
        self.stays = true;
        self.shown = first.max(self.dropped);
        self.used = 0;
        let mut text = CLEAR.as_bytes().to_vec();
        if first < self.dropped {
            text.extend_from_slice(b"(earlier lines are not kept)\n");
            self.used = 1;
        }
        let mode = std::mem::replace(&mut self.mode, Mode::Page);
        if let Next::Show(page) = self.show(false) {
            text.extend_from_slice(&page);
        }
        self.mode = mode;
        Next::Show(text)
    }

    fn push_line(&self, text: &mut Vec<u8>, number: u64) {
        let Some(line) = self.line(number) else { return };
        if !self.marking || !self.holds(line) {
            return text.extend_from_slice(line);
        }
        // The line without its colours, with what was found in it.
        let line = bare(&String::from_utf8_lossy(line));
        let (mut at, mut rest) = (0, line.as_str());
        while let Some(i) = position(rest, &self.search) {
            let end = i + self.search.len();
            text.extend_from_slice(rest.get(..i).unwrap_or("").as_bytes());
            text.extend_from_slice(style::found(rest.get(i..end).unwrap_or("")).as_bytes());
            at += end;
            rest = line.get(at..).unwrap_or("");
        }
        text.extend_from_slice(rest.as_bytes());
    }

    fn holds(&self, line: &[u8]) -> bool {
        !self.search.is_empty() && position(&bare(&String::from_utf8_lossy(line)), &self.search).is_some()
    }

    /// The line from which so many rows lead to `line`.
    fn before(&self, line: u64, rows: usize) -> u64 {
        let (mut first, mut used) = (line, 0);
        while first > self.dropped {
            used += self.line(first - 1).map_or(1, |l| self.rows(l));
            if used > rows {
                break;
            }
            first -= 1;
        }
        first
    }

    /// First line of the page that is shown.
    fn top(&self) -> u64 {
        self.before(self.shown, self.used)
    }

    /// Does what the reader asks for; [`Book::next`] tells what follows.
    pub fn ask(&mut self, asked: Asked) {
        let at_end = self.mode == Mode::AtEnd;
        let mut mode = Mode::Page;
        match asked {
            Asked::Page | Asked::Line if at_end => mode = Mode::Done,
            Asked::Page => self.used = 0,
            Asked::Line => self.used = self.used.min(self.page().saturating_sub(self.rows_next())),
            Asked::Back => mode = Mode::Turn(self.before(self.top(), self.page())),
            Asked::LineBack => mode = Mode::Turn(self.top().saturating_sub(1).max(self.dropped)),
            Asked::Start => mode = Mode::Turn(0),
            Asked::End => mode = Mode::ToEnd,
            Asked::Search(text) => {
                self.search = text;
                // What was found stays marked until another is looked for; the first line may hold it.
                mode = Mode::Find(self.top());
            }
            Asked::Again => mode = Mode::Find(self.top() + 1),
            Asked::Quit => mode = Mode::Done,
        }
        self.mode = mode;
    }

    fn rows_next(&self) -> usize {
        self.line(self.shown).map_or(1, |l| self.rows(l))
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

/// Text without the sequences that colour it.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |i| i + 1);
        rest = after.get(end..).unwrap_or("");
    }
    out + rest
}

/// Where `part` stands in `text`; in small letters it means capitals too.
fn position(text: &str, part: &str) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    if part.contains(|c: char| c.is_uppercase()) {
        return text.find(part);
    }
    text.char_indices()
        .map(|c| c.0)
        .find(|&i| text.get(i..i + part.len()).is_some_and(|t| t.eq_ignore_ascii_case(part)))
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn book(lines: u32) -> Book {
        let mut b = Book::new();
        b.resize((80, 5));
        for n in 0..lines {
            b.push(format!("line {n}\n").as_bytes());
        }
        b
    }

    /// The numbers of the lines shown next, without what clears the window.
    fn shown(b: &mut Book, ended: bool) -> Vec<u32> {
        match b.next(ended) {
            Next::Show(text) => {
                let text = bare(&String::from_utf8_lossy(&text));
                text.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_lines_and_back() {
        let mut b = book(30);
        assert_eq!(shown(&mut b, false), [0, 1, 2, 3]);
        assert_eq!(b.next(false), Next::Full);
        b.ask(Asked::Page);
        assert_eq!(shown(&mut b, false), [4, 5, 6, 7]);
        b.ask(Asked::Line);
        assert_eq!(shown(&mut b, false), [8]);
        b.ask(Asked::Back);
        assert_eq!(shown(&mut b, false), [1, 2, 3, 4]);
        b.ask(Asked::LineBack);
        assert_eq!(shown(&mut b, false), [0, 1, 2, 3]);
        b.ask(Asked::End);
        assert_eq!(b.next(false), Next::Wait);
        b.push(b"line 30\n");
        assert_eq!(shown(&mut b, true), [27, 28, 29, 30]);
        assert_eq!(b.next(true), Next::End);
        b.ask(Asked::Start);
        assert_eq!(shown(&mut b, true), [0, 1, 2, 3]);
        assert_eq!(b.next(true), Next::Full);
        b.ask(Asked::End);
        assert_eq!(shown(&mut b, true), [27, 28, 29, 30]);
        assert_eq!(b.next(true), Next::End);
        b.ask(Asked::Line);
        assert!(b.is_done());
    }

    #[test]
    fn a_search_goes_on_as_lines_come() {
        let mut b = book(6);
        assert_eq!(shown(&mut b, false), [0, 1, 2, 3]);
        b.ask(Asked::Search("NE 7".into()));
        assert_eq!(b.next(false), Next::Wait);
        b.push(b"line 6\n");
        b.ask(Asked::Search("ne 7".into()));
        b.push(b"LINE 7\n");
        assert!(matches!(b.next(false), Next::Show(t) if String::from_utf8_lossy(&t).contains("7")));
        b.ask(Asked::Again);
        assert_eq!(b.next(true), Next::NotFound);
        b.ask(Asked::Back);
        assert_eq!(shown(&mut b, true), [3, 4, 5, 6]);
    }

    #[test]
    fn what_fits_is_not_asked_about() {
        let mut b = book(4);
        assert_eq!(shown(&mut b, false).len(), 4);
        assert_eq!(b.next(true), Next::Wait);
        // A line of two rows.
        let mut b = book(3);
        b.push(format!("\x1b[1m{}\x1b[0m\n", "x".repeat(81)).as_bytes());
        assert_eq!(shown(&mut b, false).len(), 3);
        assert_eq!(b.next(true), Next::Full);
    }

    #[test]
    fn memory_is_bounded() {
        let mut b = book(1);
        b.ask(Asked::End);
        let line = [b"x".repeat(1 << 20), vec![b'\n']].concat();
        for _ in 0..100 {
            b.push(&line);
        }
        assert!(b.bytes <= KEPT && b.dropped > 30);
        b.ask(Asked::Start);
        assert!(matches!(b.next(true), Next::Show(t) if bare(&String::from_utf8_lossy(&t)).starts_with("(earlier")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(keys in "[plbBsefaq]{0,40}", text in "[\\PC]{0,20}") {
            let mut b = book(9);
            for k in keys.chars() {
                b.ask(match k {
                    'p' => Asked::Page, 'l' => Asked::Line, 'b' => Asked::Back, 'B' => Asked::LineBack,
                    's' => Asked::Start, 'e' => Asked::End, 'f' => Asked::Search(text.clone()), 'a' => Asked::Again,
                    _ => Asked::Quit,
                });
                b.push(format!("\x1b[{text}\n").as_bytes());
                let _ = b.next(k == 'e');
            }
        }
    }
}
