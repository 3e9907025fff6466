//! The addresses printed last, for completion.

use super::cell::Cell;

/// Addresses remembered for completion.
const RECENT: usize = 4096;

/// The addresses printed last.
#[derive(Debug, Default)]
pub struct Recent {
    kept: Vec<u64>,
    next: usize,
}

impl Recent {
    /// Takes note of the addresses among these cells.
    pub fn add(&mut self, cells: &[Cell<'_>]) {
        for address in cells.iter().filter_map(Cell::address) {
            if self.kept.len() < RECENT {
                self.kept.push(address);
            } else {
                self.kept[self.next] = address;
                self.next = (self.next + 1) % RECENT;
            }
        }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<u64> {
        let (newer, older) = self.kept.split_at(self.next);
        [older, newer].concat()
    }
}
