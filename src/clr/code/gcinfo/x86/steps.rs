//! What is live at each instruction of code that can be interrupted anywhere.

use super::{Bytes, From, Held, State};

/// Most words pushed for a call (`MAX_PTRARG_OFS`).
const MAX_PUSHED: u32 = 1024;

#[derive(Default)]
struct Walk {
    at: u32,
    /// Registers that hold references: bit by number; and those that are interior.
    registers: (u32, u32),
    this: Option<usize>,
    /// Words pushed, and those of them that hold references: which, whether interior.
    pushed: u32,
    references: Vec<(u32, bool)>,
    next_interior: bool,
    next_this: bool,
}

/// The state at `offset`, registers as they are at `registers_at`. `frame`: ebp leads to the frame, and only references are told
/// among what is pushed.
pub fn state(mut r: Bytes<'_>, registers_at: u32, offset: u32, frame: bool) -> Option<State> {
    let mut w = Walk::default();
    while w.at <= offset {
        let code = r.byte()?;
        if !w.one(&mut r, code, registers_at, offset, frame)? {
            break;
        }
    }
    let (live, interior) = w.registers;
    let registers = (0..8).filter(|n| live >> n & 1 != 0).map(|n| (n, interior >> n & 1 != 0)).collect();
    let argument = |&(i, interior): &(u32, bool)| Held {
        place: Err(From::FirstPushed),
        distance: -4 * i as i32,
        interior,
        pinned: false,
    };
    let arguments = w.references.iter().map(argument).collect();
    Some(State { pushed: if frame { 0 } else { w.pushed }, registers, arguments, this: w.this })
}

impl Walk {
    /// Whether there is more to read before `offset`.
    fn one(&mut self, r: &mut Bytes<'_>, code: u32, registers_at: u32, offset: u32, frame: bool) -> Option<bool> {
        let small = code & 7;
        if code & 0x80 == 0 {
            self.at = self.at.checked_add(small)?;
            if self.at > offset {
                return Some(false);
            }
            if self.at <= registers_at {
                self.register(code >> 3 & 7, code & 0x40 != 0);
            }
            (self.next_interior, self.next_this) = (false, false);
            return Some(true);
        }
        match (code >> 3 & 7, code & 0x40 != 0) {
            (n @ 0..=5, is_pop) => {
                self.at = self.at.checked_add(small)?;
                if self.at > offset {
                    return Some(false);
                }
                if is_pop { self.pop(n, frame)? } else { self.push(n)? }
            }
            (6, true) => self.at = self.at.checked_add((small + 1) << 3)?,
            (6, false) => {
                self.at = self.at.checked_add(small)?;
                if self.at > offset {
                    return Some(false);
                }
                self.grow(1)?;
            }
            _ => match code {
                0xFF => return Some(false),
                0xB8 => self.at = self.at.checked_add(r.unsigned()?)?,
                0xBC => self.next_this = true,
                0xBF => self.next_interior = true,
                0xF8 => self.push(r.unsigned()?)?,
                0xFC => self.pop(r.unsigned()?, frame)?,
                0xFD => self.forget(r.unsigned()?),
                0xF9 => self.grow(r.unsigned()?)?,
                _ => return None,
            },
        }
        Some(true)
    }

    fn register(&mut self, number: u32, live: bool) {
        let bit = 1 << number;
        self.registers.0 &= !bit;
        self.registers.1 &= !bit;
        if live {
            self.registers.0 |= bit;
            if self.next_interior {
                self.registers.1 |= bit;
            }
            if self.next_this {
                self.this = Some(number as usize);
            }
        } else if self.this == Some(number as usize) {
            self.this = None;
        }
    }

    fn grow(&mut self, words: u32) -> Option<()> {
        self.pushed = self.pushed.checked_add(words).filter(|&p| p < MAX_PUSHED)?;
        Some(())
    }

    /// A reference pushed as the word of that number.
    fn push(&mut self, number: u32) -> Option<()> {
        self.pushed = number.checked_add(1).filter(|&p| p < MAX_PUSHED)?;
        self.references.retain(|a| a.0 < number);
        self.references.push((number, self.next_interior));
        (self.next_interior, self.next_this) = (false, false);
        Some(())
    }

    /// Takes words off the stack; with a frame only those that are references count.
    fn pop(&mut self, count: u32, frame: bool) -> Option<()> {
        if frame {
            self.forget(count);
            self.pushed = self.references.last().map_or(0, |a| a.0 + 1);
        } else {
            let pushed = self.pushed.checked_sub(count)?;
            self.pushed = pushed;
            self.references.retain(|a| a.0 < pushed);
        }
        Some(())
    }

    /// The last so many references are none any more.
    fn forget(&mut self, count: u32) {
        self.references.truncate(self.references.len().saturating_sub(count as usize));
    }
}
