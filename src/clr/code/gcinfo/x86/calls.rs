//! What is live at the calls of code that can be interrupted nowhere else.

use super::common::{CALLS, DELTAS};
use super::{Bytes, From, Held, SAVED, State};

/// Registers of a mask (edi, esi, ebx, ebp), with those that are interior.
fn registers(mask: u32, interior: u32) -> Vec<(usize, bool)> {
    SAVED.iter().enumerate().filter(|(i, _)| mask >> i & 1 != 0).map(|(i, &n)| (n, interior >> i & 1 != 0)).collect()
}

/// Arguments of a mask, counted from the stack pointer.
fn arguments(mask: u32, interior: u32) -> Vec<Held> {
    let slot =
        |i: u32| Held { place: Err(From::Sp), distance: 4 * i as i32, interior: interior >> i & 1 != 0, pinned: false };
    (0..32).filter(|i| mask >> i & 1 != 0).map(slot).collect()
}

/// Arguments of a list of so many, in so many bytes.
fn listed(r: &mut Bytes<'_>) -> Option<Vec<Held>> {
    let (count, size) = (r.word()?, r.word()?);
    let end = r.at.checked_add(size as usize)?;
    let mut out = Vec::new();
    let mut list = *r;
    for _ in 0..count {
        let word = list.unsigned()?;
        let distance = i32::try_from(word & !3).ok()?;
        out.push(Held { place: Err(From::Sp), distance, interior: word & 1 != 0, pinned: false });
    }
    r.at = end;
    Some(out)
}

/// With a frame that ebp leads to.
pub fn with_frame(mut r: Bytes<'_>, offset: u32) -> Option<State> {
    let (mut at, mut state) = (0u32, State::default());
    while at < offset {
        let code = r.byte().filter(|&c| c != 0)?;
        state.arguments.clear();
        match code {
            0xFF => return Some(State { this: state.this, ..State::default() }),
            0xFD => {
                let (low, middle, high) = (r.byte()?, r.byte()?, r.byte()?);
                at = at.checked_add((middle & 15) + ((high & 31) << 4))?;
                state.registers = registers(high >> 5, 0);
                state.arguments = arguments(low | (middle & 0xF0) << 4, 0);
            }
            0xF9 => {
                let (delta, live, interior) = (r.byte()?, r.byte()?, r.byte()?);
                at = at.checked_add(delta)?;
                state.registers = registers(live >> 5, interior >> 5);
                state.arguments = arguments(live & 31, interior & 31);
            }
            0xFE | 0xFA => {
                let mask = r.byte()?;
                at = at.checked_add(r.word()?)?;
                let live = r.word()?;
                let interior = if code == 0xFA { r.word()? } else { 0 };
                state.registers = registers(mask & 7, mask >> 4);
                state.arguments = arguments(live, interior);
            }
            0xFB => {
                let mask = r.byte()?;
                at = at.checked_add(r.word()?)?;
                state.registers = registers(mask & 7, mask >> 4);
                state.arguments = listed(&mut r)?;
            }
            0x80.. => {
                at = at.checked_add(code & 0x7F)?;
                let live = r.byte()?;
                state.registers = registers(live >> 5, 0);
                state.arguments = arguments(live & 31, 0);
            }
            _ if code & 15 != 0 => {
                at = at.checked_add(code & 15)?;
                state.registers = registers(code >> 4, 0);
            }
            _ => state.this = registers(code >> 4, 0).first().map(|r| r.0),
        }
    }
    // Calls that need no word are not written.
    Some(if at == offset { state } else { State { this: state.this, ..State::default() } })
}

/// A frame that is counted from the stack pointer.
struct Walk {
    at: u32,
    state: State,
    /// Of the call that follows, which references are interior: registers, then arguments.
    interior: u32,
}

/// With one that is counted from the stack pointer: what was pushed is followed, too.
pub fn without_frame(mut r: Bytes<'_>, offset: u32) -> Option<State> {
    let mut w = Walk { at: 0, state: State::default(), interior: 0 };
    while w.at <= offset {
        if !w.one(&mut r, offset)? {
            break;
        }
    }
    let State { pushed, this, .. } = w.state;
    Some(if w.at == offset { w.state } else { State { pushed, this, ..State::default() } })
}

impl Walk {
    /// Whether there is more to read before `offset`.
    fn one(&mut self, r: &mut Bytes<'_>, offset: u32) -> Option<bool> {
        let interior = std::mem::take(&mut self.interior);
        let code = r.byte()?;
        if code & 0x80 == 0 {
            return self.push_or_pop(r, code, offset);
        }
        let (delta, popped, mask, arguments) = match code >> 4 & 7 {
            5 => {
                let second = r.byte()?;
                let delta = *DELTAS.get((second >> 6) as usize)?;
                (delta, second >> 3 & 7, code & 15, arguments(second & 7, interior >> 4))
            }
            6 => {
                let popped = r.unsigned()?;
                (0, popped, code & 15, arguments(r.unsigned()?, interior >> 4))
            }
            7 => match code & 0x0C {
                0 => {
                    self.interior = r.unsigned()?;
                    return Some(true);
                }
                4 => {
                    self.state.this = SAVED.get((code & 3) as usize).copied();
                    return Some(true);
                }
                8 => {
                    let mask = r.byte()?;
                    let (delta, popped) = (r.word()?, r.word()?);
                    let list = listed(r)?;
                    return self.call((delta, popped), registers(mask & 15, mask >> 4), list, offset);
                }
                _ => return Some(false),
            },
            _ => {
                let &(delta, mask, popped) = CALLS.get((code & 0x7F) as usize)?;
                (delta.into(), popped.into(), mask.into(), Vec::new())
            }
        };
        self.call((delta, popped), registers(mask, interior & 15), arguments, offset)
    }

    fn call(
        &mut self,
        (delta, popped): (u32, u32),
        registers: Vec<(usize, bool)>,
        arguments: Vec<Held>,
        offset: u32,
    ) -> Option<bool> {
        if self.at == offset && delta > 0 {
            return Some(false);
        }
        self.at = self.at.checked_add(delta)?;
        if self.at > offset {
            return Some(false);
        }
        let state = &mut self.state;
        (state.registers, state.arguments) = (registers, arguments);
        state.pushed = state.pushed.checked_sub(popped)?;
        Some(true)
    }

    fn push_or_pop(&mut self, r: &mut Bytes<'_>, code: u32, offset: u32) -> Option<bool> {
        let (delta, change) = match code {
            0..=0x1F => (code, 1),
            0x20 => (0, i64::from(r.unsigned()?)),
            0x40 if self.at >= offset => return Some(false),
            // What is skipped may lie behind the place asked for.
            0x40 => {
                self.at = self.at.checked_add(r.unsigned()?)?;
                (self.state.registers, self.state.arguments) = (Vec::new(), Vec::new());
                return Some(true);
            }
            0x41..=0x7F => (code & 15, -i64::from(code >> 4 & 3)),
            _ => return None,
        };
        let next = self.at.checked_add(delta)?;
        if next > offset {
            return Some(false);
        }
        self.at = next;
        let state = &mut self.state;
        state.pushed = u32::try_from(i64::from(state.pushed) + change).ok()?;
        (state.registers, state.arguments) = (Vec::new(), Vec::new());
        Some(true)
    }
}
