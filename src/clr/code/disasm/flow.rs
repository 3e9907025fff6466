//! What registers hold, as far as straight code tells.

use super::{Flow, Instruction, Machine, Source};

/// Values of registers that are known.
#[derive(Debug, Clone)]
pub struct Registers([Option<u64>; 64]);

impl Default for Registers {
    fn default() -> Self {
        Self([None; 64])
    }
}

impl Registers {
    /// Forgets all: the next instruction is reached from elsewhere.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn get(&self, register: u8) -> Option<u64> {
        self.0.get(usize::from(register)).copied().flatten()
    }

    /// Where a source lies or what it is: the address of memory is given as such.
    pub fn place(&self, source: Source) -> Option<Source> {
        Some(match source {
            Source::Register(r, distance) => Source::Value(self.get(r)?.wrapping_add_signed(distance)),
            Source::At(r, distance) => Source::Memory(self.get(r)?.wrapping_add_signed(distance)),
            Source::Insert(r, bits, shift) => {
                let hole = !(0xFFFFu64.checked_shl(shift)?);
                Source::Value(self.get(r)? & hole | u64::from(bits).checked_shl(shift)?)
            }
            known => known,
        })
    }

    /// The value of a source; `read` gives the pointer at an address.
    pub fn value(&self, source: Source, read: &impl Fn(u64) -> Option<u64>) -> Option<u64> {
        match self.place(source)? {
            Source::Value(v) => Some(v),
            Source::Memory(at) => read(at),
            _ => None,
        }
    }

    /// Goes on behind an instruction.
    pub fn step(&mut self, machine: &Machine, i: &Instruction, read: &impl Fn(u64) -> Option<u64>) {
        let set = i.sets.map(|(r, source)| (r, source.and_then(|s| self.value(s, read))));
        let scratch = if i.flow == Flow::Call { machine.scratch() } else { 0 };
        let spoiled = i.spoils | scratch;
        for (n, slot) in self.0.iter_mut().enumerate() {
            if spoiled >> n & 1 != 0 {
                *slot = None;
            }
        }
        if let Some((r, value)) = set
            && let Some(slot) = self.0.get_mut(usize::from(r))
        {
            *slot = value;
        }
        if matches!(i.flow, Flow::Jump | Flow::End) {
            self.forget();
        }
    }
}
