//! Pipes that look at no value: `find`, `top` and `last` pass the lines of an answer, rows as the command prints them among
//! them. Each table, with the prose behind it, is a section of its own.

use std::collections::VecDeque;
use std::io;

use super::super::cell::Cell;
use super::kept::{Budget, Packer};
use super::pipe::Pipe;
use super::value::contains;

/// A line of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Line<'l> {
    /// As text has it.
    pub text: &'l str,
    /// As it is printed, where text is asked for.
    pub printed: &'l [u8],
    /// The number of the table and the cells, where it is a row.
    pub row: Option<(usize, &'l [Cell<'l>])>,
}

/// Takes the lines that come through.
pub type Sink<'s> = dyn FnMut(Line<'_>) -> io::Result<()> + 's;

/// A line that is kept.
#[derive(Debug)]
struct Held {
    text: String,
    printed: Vec<u8>,
    row: Option<(usize, Vec<u8>)>,
}

/// Bytes that a line needs beside its own.
const LINE: usize = size_of::<Held>() + 32;

impl Held {
    fn bytes(&self) -> usize {
        LINE + self.text.len() + self.printed.len() + self.row.as_ref().map_or(0, |r| r.1.len())
    }
}

/// Where one pipe is in a section.
#[derive(Debug, Default)]
struct Place {
    passed: u64,
    held: VecDeque<Held>,
}

/// Where the pipes are in a section.
#[derive(Debug, Default)]
pub struct Section {
    places: Vec<Place>,
    /// Its table has the biggest rows last.
    rising: bool,
}

/// Such pipes behind a command.
#[derive(Debug)]
pub struct Lines {
    pipes: Vec<Pipe>,
    packer: Packer,
    budget: Budget,
    /// What comes before any table.
    pub before: Section,
}

impl Lines {
    /// These pipes.
    pub fn new(pipes: Vec<Pipe>, budget: Budget) -> Self {
        Lines { pipes, packer: Packer::default(), budget, before: Section::default() }
    }

    /// A line of a section; `None` means that before any table.
    pub fn push(&mut self, section: Option<&mut Section>, line: Line<'_>, sink: &mut Sink<'_>) -> io::Result<()> {
        let Lines { pipes, packer, budget, before } = self;
        let section = section.unwrap_or(before);
        section.places.resize_with(pipes.len(), Place::default);
        let mut on = On { packer, budget, rising: section.rising };
        on.push(pipes, &mut section.places, line, sink)
    }

    /// Ends a section, the one before any table where `None` stands: what was kept goes on, and it begins anew, `rising`
    /// or not.
    pub fn end(&mut self, section: Option<&mut Section>, rising: bool, sink: &mut Sink<'_>) -> io::Result<()> {
        let Lines { pipes, packer, budget, before } = self;
        let section = section.unwrap_or(before);
        let mut ended = std::mem::replace(section, Section { places: Vec::new(), rising });
        let mut on = On { packer, budget, rising: ended.rising };
        let (mut pipes, mut places) = (&pipes[..], &mut ended.places[..]);
        while let (Some((_, behind)), Some((place, rest))) = (pipes.split_first(), places.split_first_mut()) {
            on.release(place, behind, rest, sink)?;
            (pipes, places) = (behind, rest);
        }
        Ok(())
    }
}

struct On<'o> {
    packer: &'o mut Packer,
    budget: &'o Budget,
    rising: bool,
}

impl On<'_> {
    fn push(&mut self, pipes: &[Pipe], places: &mut [Place], line: Line<'_>, sink: &mut Sink<'_>) -> io::Result<()> {
        let (Some((pipe, behind)), Some((place, rest))) = (pipes.split_first(), places.split_first_mut()) else {
            return sink(line);
        };
        match pipe {
            Pipe::Find(text) if !contains(line.text, text) => return Ok(()),
            // The biggest are the last; prose behind the rows does not count as one.
            Pipe::Top(n) if self.rising && line.row.is_some() && place.passed == 0 => {
                return self.hold(place, *n, "top", line);
            }
            Pipe::Top(n) => {
                place.passed += place.held.len() as u64;
                self.release(place, behind, rest, sink)?;
                if place.passed >= *n {
                    return Ok(());
                }
                place.passed += 1;
            }
            Pipe::Last(n) => return self.hold(place, *n, "last", line),
            _ => {}
        }
        self.push(behind, rest, line, sink)
    }

    /// Keeps a line, and no more than `most`.
    fn hold(&mut self, place: &mut Place, most: u64, what: &str, line: Line<'_>) -> io::Result<()> {
        if most == 0 {
            return Ok(());
        }
        if place.held.len() as u64 >= most
            && let Some(first) = place.held.pop_front()
        {
            self.budget.give(first.bytes());
        }
        let row = line.row.map(|(table, cells)| {
            let mut packed = Vec::new();
            cells.iter().for_each(|c| self.packer.push(c, &mut packed));
            (table, packed)
        });
        let held = Held { text: line.text.to_owned(), printed: line.printed.to_owned(), row };
        self.budget.take(held.bytes(), what, place.held.len() as u64)?;
        place.held.push_back(held);
        Ok(())
    }

    /// Lets what was kept go on.
    fn release(
        &mut self,
        place: &mut Place,
        behind: &[Pipe],
        rest: &mut [Place],
        sink: &mut Sink<'_>,
    ) -> io::Result<()> {
        for held in std::mem::take(&mut place.held) {
            self.budget.give(held.bytes());
            let mut cells = Vec::new();
            // The packer is needed by those behind too.
            let packer = std::mem::take(self.packer);
            let row = held.row.as_ref().map(|(table, packed)| {
                packer.row(packed, &mut cells);
                *table
            });
            *self.packer = packer;
            let line = Line { text: &held.text, printed: &held.printed, row: row.map(|table| (table, &cells[..])) };
            self.push(behind, rest, line, sink)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What comes through of rows (numbers) and prose (words), section by section.
    fn through(pipes: &[Pipe], sections: &[(bool, &[&str])]) -> Vec<String> {
        let mut lines = Lines::new(pipes.to_vec(), Budget::of(1 << 20));
        let mut out = Vec::new();
        for (rising, texts) in sections {
            let mut sink = |l: Line<'_>| {
                out.push(l.text.to_owned());
                Ok(())
            };
            let mut section = Section { places: Vec::new(), rising: *rising };
            for text in *texts {
                let cells = [Cell::text(*text)];
                let row = text.parse::<u64>().ok().map(|_| (0, &cells[..]));
                lines.push(Some(&mut section), Line { text, printed: &[], row }, &mut sink).unwrap();
            }
            lines.end(Some(&mut section), false, &mut sink).unwrap();
        }
        out
    }

    #[test]
    fn each_stands_behind_the_other() {
        let texts: &[(bool, &[&str])] = &[(false, &["1", "21", "22", "3", "prose 2", "23"])];
        let find = || Pipe::Find("2".into());
        assert_eq!(through(&[find()], texts), ["21", "22", "prose 2", "23"]);
        assert_eq!(through(&[find(), Pipe::Top(2)], texts), ["21", "22"]);
        assert_eq!(through(&[Pipe::Top(2), find()], texts), ["21"]);
        assert_eq!(through(&[find(), Pipe::Last(2)], texts), ["prose 2", "23"]);
        assert_eq!(through(&[Pipe::Last(4), Pipe::Top(2)], texts), ["22", "3"]);
        assert_eq!(through(&[Pipe::Last(0)], texts), [""; 0]);
        let twice = [texts[0], texts[0]];
        assert_eq!(through(&[Pipe::Top(1)], &twice), ["1", "1"]);
    }

    #[test]
    fn the_top_of_what_rises_is_its_end() {
        let texts: &[(bool, &[&str])] = &[(true, &["1", "2", "13", "14", "Total"])];
        assert_eq!(through(&[Pipe::Top(2)], texts), ["13", "14"]);
        assert_eq!(through(&[Pipe::Top(5)], texts), ["1", "2", "13", "14", "Total"]);
        assert_eq!(through(&[Pipe::Find("1".into()), Pipe::Top(1)], texts), ["14"]);
        assert_eq!(through(&[Pipe::Top(3), Pipe::Find("1".into()), Pipe::Top(1)], texts), ["14"]);
        assert_eq!(through(&[Pipe::Top(3), Pipe::Find("2".into())], texts), ["2"]);
    }
}
