//! GC information of x86: how a method's frame is laid out, and where it holds references.
//!
//! Format: dotnet/coreclr v1.0 and release/3.1 `src/inc/gcdecoder.cpp`, `inc/gcinfo.h` (`InfoHdr`), `vm/eetwain.cpp`
//! (`DecodeGCHdrInfo`, `scanArgRegTable`, `scanArgRegTableI`, `EnumGcRefs`); the same in .NET Framework. Newer versions add
//! codes to the header and change none. A header with a code that is not known is not read.
//!
//! The bytes say nowhere how many they are: every loop takes one at least and ends with them.

mod calls;
mod common;
mod steps;
#[cfg(test)]
mod tests;

use common::HEADERS;

use super::Stop;

/// Registers of an instruction's numbers, in the order in which GC information names those a call preserves.
pub const SAVED: [usize; 4] = [7, 6, 3, 5];
/// Bits of a header.
mod bit {
    pub const EPILOGS: u16 = 7;
    pub const EPILOG_AT_END: u16 = 1 << 3;
    pub const SAVED: u16 = 0xF << 4;
    pub const FRAME: u16 = 1 << 8;
    pub const INTERRUPTIBLE: u16 = 1 << 9;
    pub const DOUBLE_ALIGN: u16 = 1 << 10;
    pub const SECURITY: u16 = 1 << 11;
    pub const HANDLERS: u16 = 1 << 12;
    pub const LOCALLOC: u16 = 1 << 13;
    pub const EDIT_AND_CONTINUE: u16 = 1 << 14;
    pub const VARARGS: u16 = 1 << 15;
}

/// Bytes, one after the other.
#[derive(Debug, Clone, Copy)]
struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u32> {
        let byte = self.all.get(self.at)?;
        self.at += 1;
        Some(u32::from(*byte))
    }

    fn word(&mut self) -> Option<u32> {
        let bytes = self.all.get(self.at..self.at.checked_add(4)?)?;
        self.at += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Seven bits a byte, the highest first.
    fn unsigned(&mut self) -> Option<u32> {
        let mut value = 0u32;
        loop {
            let byte = self.byte()?;
            value = value.checked_mul(128)?.checked_add(byte & 0x7F)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    /// The same with the sign in the first byte.
    fn signed(&mut self) -> Option<i32> {
        let first = self.byte()?;
        let (mut value, mut last) = (i32::try_from(first & 0x3F).ok()?, first);
        while last & 0x80 != 0 {
            last = self.byte()?;
            value = value.checked_mul(128)?.checked_add(i32::try_from(last & 0x7F).ok()?)?;
        }
        Some(if first & 0x40 != 0 { -value } else { value })
    }
}

/// Bytes of code of the method whose GC information begins `bytes`.
pub fn code_length(bytes: &[u8]) -> Option<u32> {
    Bytes { all: bytes, at: 0 }.unsigned().filter(|&l| l > 0 && l < 1 << 28)
}

/// How a method lays out its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Bytes of code, and of it the prologue and each epilogue.
    pub length: u32,
    /// See `length`.
    pub prolog: u32,
    /// See `length`.
    pub epilog: u32,
    /// Bytes of arguments on the stack.
    pub arguments: u32,
    /// Bytes of the frame without saved registers.
    pub locals: u32,
    /// Saved registers by bits: edi, esi, ebx, ebp.
    pub saved: u8,
    /// ebp leads to the frame.
    pub frame: bool,
    /// The frame is aligned to eight bytes; arguments lie where ebp says.
    pub double_align: bool,
    /// What is live is known at each instruction, not only at calls.
    pub interruptible: bool,
    /// It has handlers of exceptions, which run on its frame.
    pub handlers: bool,
    /// It takes room on the stack as it runs.
    pub localloc: bool,
    /// It has a slot for a security object.
    pub security: bool,
    /// The caller takes the arguments off the stack.
    pub varargs: bool,
}

impl Header {
    /// Bytes of saved registers and locals.
    pub fn frame_size(&self) -> u32 {
        self.locals.saturating_add(4 * self.saved.count_ones())
    }

    /// Bytes that returning takes off the stack behind the return address.
    pub fn popped(&self) -> u32 {
        if self.varargs { 0 } else { self.arguments }
    }

    /// Saved registers below the frame pointer.
    fn saved_below(&self) -> u32 {
        self.saved.count_ones().saturating_sub(1)
    }

    /// How far below ebp the slot lies that has the stack pointer behind what was taken as it runs.
    pub fn localloc_slot(&self) -> u32 {
        4 * (self.saved_below() + u32::from(self.security) + 1)
    }

    /// How far below ebp the first of the slots lies that have the stack pointers of handlers that run: behind one with the
    /// end of the filter that ran last.
    pub fn handler_slots(&self) -> u32 {
        4 * (self.saved_below() + u32::from(self.security) + u32::from(self.localloc) + 3)
    }
}

/// What an address of a slot is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// ebp.
    Frame,
    /// The stack pointer in the frame, pushed arguments taken off.
    Base,
    /// The stack pointer.
    Sp,
    /// The first pushed argument: those behind it lie lower.
    FirstPushed,
}

/// A place that holds a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Register by its number in instructions, or where a slot is counted from.
    pub place: Result<usize, From>,
    /// Distance of a slot in bytes.
    pub distance: i32,
    /// It may point into an object, or at something that is none.
    pub interior: bool,
    /// The object must not move.
    pub pinned: bool,
}

/// What is pushed and live at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Words of arguments pushed for a call, where the frame is counted from the stack pointer.
    pushed: u32,
    /// Registers: number, whether interior.
    registers: Vec<(usize, bool)>,
    /// Pushed arguments.
    arguments: Vec<Held>,
    /// The register that holds `this` of a method whose lock or types hang on it.
    this: Option<usize>,
}

/// GC information of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameInfo {
    /// The frame.
    pub header: Header,
    epilogs: Vec<u32>,
    untracked: u32,
    lifetimes: u32,
    bytes: Vec<u8>,
    /// Where slots begin in the bytes.
    slots: usize,
    /// Where calls begin, if it is told.
    calls: Option<usize>,
}

impl FrameInfo {
    /// Reads what `bytes` begin with; `None` where it makes no sense.
    pub fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut r = Bytes { all: &bytes, at: 0 };
        let length = r.unsigned()?;
        let front = Front::read(&mut r)?;
        let has = |f: u16| front.bits & f != 0;
        let header = Header {
            length,
            prolog: front.prolog,
            epilog: front.epilog,
            arguments: front.arguments.checked_mul(4)?,
            locals: front.frame.checked_mul(4)?,
            saved: ((front.bits & bit::SAVED) >> 4) as u8,
            frame: has(bit::FRAME),
            double_align: has(bit::DOUBLE_ALIGN),
            interruptible: has(bit::INTERRUPTIBLE),
            handlers: has(bit::HANDLERS),
            localloc: has(bit::LOCALLOC),
            security: has(bit::SECURITY),
            varargs: has(bit::VARARGS),
        };
        let mut told = false;
        let mut more = |is: bool, own: u32, r: &mut Bytes<'_>| {
            told |= is;
            if is { r.unsigned() } else { Some(own) }
        };
        let untracked = more(front.many_untracked, front.untracked, &mut r)?;
        let lifetimes = more(front.has_lifetimes, 0, &mut r)?;
        // The cookie's slot; where a lock is held from and to; the frame of a call from native code.
        for _ in 0..u32::from(front.cookie) + 2 * u32::from(front.sync) + u32::from(front.reverse) {
            r.unsigned()?;
        }
        let count = u32::from(front.bits & bit::EPILOGS);
        let mut epilogs = Vec::new();
        if count > 1 || count == 1 && !has(bit::EPILOG_AT_END) {
            let mut at = 0u32;
            for _ in 0..count {
                at = at.checked_add(r.unsigned()?)?;
                epilogs.push(at);
            }
        } else if count == 1 {
            epilogs.push(length.checked_sub(front.epilog)?);
        }
        let distance = if told { r.unsigned()? } else { 0 };
        let slots = r.at;
        let calls = if distance == 0 { None } else { Some(slots.checked_add(distance as usize)?) };
        let info = Self { header, epilogs, untracked, lifetimes, bytes, slots, calls };
        info.makes_sense().then_some(info)
    }

    /// What the compiler itself holds true of a header.
    fn makes_sense(&self) -> bool {
        let h = &self.header;
        let ends = self.epilogs.iter().all(|e| e.checked_add(h.epilog).is_some_and(|end| end <= h.length));
        let with_frame = h.frame || !(h.security || h.handlers || h.localloc);
        let ebp = h.saved & 8 != 0 || !(h.frame || h.double_align);
        let both = h.frame && h.double_align;
        h.length > 0 && h.prolog <= h.length && ends && with_frame && ebp && !both && h.arguments < 0x1_0000
    }

    /// Whether ebp need not be the frame's: it is counted from the stack pointer.
    pub fn by_stack_pointer(&self) -> bool {
        !self.header.frame && !self.header.double_align
    }

    /// Whether `offset` is in the prologue.
    pub fn in_prolog(&self, offset: u32) -> bool {
        offset < self.header.prolog
    }

    /// Whether `offset` is in an epilogue whose first instruction has run.
    pub fn in_epilog(&self, offset: u32) -> bool {
        self.epilogs.iter().any(|&e| offset > e && offset < e.saturating_add(self.header.epilog))
    }

    fn reader(&self, at: usize) -> Bytes<'_> {
        Bytes { all: &self.bytes, at }
    }

    /// Where the table of calls begins: behind the slots.
    fn table(&self) -> Option<Bytes<'_>> {
        if let Some(at) = self.calls {
            return Some(self.reader(at));
        }
        let mut r = self.reader(self.slots);
        for _ in 0..self.untracked {
            r.signed()?;
        }
        for _ in 0..self.lifetimes {
            r.unsigned()?;
            r.unsigned()?;
            r.unsigned()?;
        }
        Some(r)
    }

    fn state(&self, registers_at: u32, offset: u32) -> Option<State> {
        let table = self.table()?;
        match (self.header.interruptible, self.header.frame) {
            (true, frame) => steps::state(table, registers_at, offset, frame),
            (false, true) => calls::with_frame(table, offset),
            (false, false) => calls::without_frame(table, offset),
        }
    }

    /// Bytes of arguments pushed for a call at `offset`, where the frame is counted from the stack pointer.
    pub fn pushed(&self, offset: u32) -> Option<u32> {
        self.state(offset, offset)?.pushed.checked_mul(4)
    }

    /// What holds references where execution left the code at `offset`; `None` where the bytes do not hold what they promise.
    pub fn live(&self, offset: u32, stop: Stop) -> Option<Vec<Held>> {
        let leaf = stop == Stop::Instruction;
        let goes_on = leaf || stop == Stop::Return;
        if self.in_prolog(offset) || self.in_epilog(offset) {
            return Some(Vec::new());
        }
        let inside_call = offset.saturating_sub(1);
        let state = self.state(if leaf { offset } else { inside_call }, offset)?;
        let register =
            |(number, interior): (usize, bool)| Held { place: Ok(number), distance: 0, interior, pinned: false };
        let mut out: Vec<Held> = if goes_on {
            let kept = state.registers.iter().filter(|r| leaf || SAVED.contains(&r.0));
            kept.copied().map(register).chain(state.arguments).collect()
        } else {
            state.this.map(|n| register((n, false))).into_iter().collect()
        };
        let at = if leaf || stop == Stop::Faulted { offset } else { inside_call };
        self.frame_slots(at, &mut out)?;
        Some(out)
    }

    /// Slots of the frame that are live at `at`: those that always are, then those that come and go.
    fn frame_slots(&self, at: u32, out: &mut Vec<Held>) -> Option<()> {
        const INTERIOR: i32 = 1;
        const PINNED: i32 = 2;
        let mut r = self.reader(self.slots);
        let own = if self.header.frame { From::Frame } else { From::Base };
        let mut last = 0i32;
        for _ in 0..self.untracked {
            last = last.checked_sub(r.signed()?)?;
            let (interior, pinned) = (last & INTERIOR != 0, last & PINNED != 0);
            let distance = last & !3;
            // Arguments of an aligned frame are counted as if it had no saved ebp.
            let behind = i32::try_from(self.header.frame_size().saturating_sub(4)).ok()?;
            let (place, distance) = match self.header.double_align && distance >= behind {
                true => (From::Frame, distance - behind),
                false => (own, distance),
            };
            out.push(Held { place: Err(place), distance, interior, pinned });
        }
        let mut begin = 0u32;
        for _ in 0..self.lifetimes {
            let slot = r.unsigned()?;
            begin = begin.checked_add(r.unsigned()?)?;
            let end = begin.checked_add(r.unsigned()?)?;
            if begin > at {
                break;
            }
            if at < end {
                let distance = i32::try_from(slot & !3).ok()?;
                let distance = if self.header.frame { -distance } else { distance };
                // The second bit marks `this`.
                out.push(Held { place: Err(own), distance, interior: slot & 1 != 0, pinned: false });
            }
        }
        Some(())
    }
}

/// The front of a header as it is written: a common one, and what differs.
struct Front {
    bits: u16,
    prolog: u32,
    epilog: u32,
    arguments: u32,
    frame: u32,
    untracked: u32,
    many_untracked: bool,
    has_lifetimes: bool,
    cookie: bool,
    sync: bool,
    reverse: bool,
}

impl Front {
    fn read(r: &mut Bytes<'_>) -> Option<Self> {
        const MORE: u32 = 0x80;
        let mut byte = r.byte()?;
        let &(prolog, epilog, bits, arguments, frame, untracked, lifetimes) = HEADERS.get((byte & 0x7F) as usize)?;
        let mut f = Self {
            bits,
            prolog: prolog.into(),
            epilog: epilog.into(),
            arguments: arguments.into(),
            frame: frame.into(),
            untracked: untracked.into(),
            many_untracked: false,
            has_lifetimes: lifetimes != 0,
            cookie: false,
            sync: false,
            reverse: false,
        };
        while byte & MORE != 0 {
            byte = r.byte()?;
            f.adjust(byte & 0x7F, byte & MORE != 0, r, &mut byte)?;
        }
        Some(f)
    }

    /// One difference (`infoHdrAdjust`). `more`: whether further ones follow.
    fn adjust(&mut self, code: u32, more: bool, r: &mut Bytes<'_>, byte: &mut u32) -> Option<()> {
        match code {
            0x00..=0x07 => self.frame = code,
            0x08..=0x10 => self.arguments = code - 0x08,
            0x11..=0x21 => self.prolog = code - 0x11,
            0x22..=0x2C => self.epilog = code - 0x22,
            0x2D..=0x36 => {
                let count = (code - 0x2D) / 2;
                let at_end = if (code - 0x2D) % 2 == 1 { bit::EPILOG_AT_END } else { 0 };
                self.bits = self.bits & !(bit::EPILOGS | bit::EPILOG_AT_END) | count as u16 | at_end;
            }
            0x37..=0x3A => (self.untracked, self.many_untracked) = (code - 0x37, false),
            // edi, esi, ebx and ebp saved; frame, interruptible, aligned, security, handlers, localloc, edit and continue.
            0x3B..=0x3E => self.bits ^= 1 << (4 + code - 0x3B),
            0x3F => self.bits ^= bit::FRAME,
            0x40 => self.bits ^= bit::INTERRUPTIBLE,
            0x41 => self.bits ^= bit::DOUBLE_ALIGN,
            0x42 => self.bits ^= bit::SECURITY,
            0x43 => self.bits ^= bit::HANDLERS,
            0x44 => self.bits ^= bit::LOCALLOC,
            0x45 => self.bits ^= bit::EDIT_AND_CONTINUE,
            0x46 => self.has_lifetimes ^= true,
            0x47 => self.many_untracked = true,
            0x48 => self.bits ^= bit::VARARGS,
            // Calls of a profiler; a generic context, and which.
            0x49 | 0x4C | 0x4D => {}
            0x4A => self.cookie ^= true,
            0x4B => self.sync ^= true,
            0x4E => self.reverse ^= true,
            0x4F => {
                // What kind of value is returned (since 2.0); the rest of this second set is not known.
                const KINDS: u32 = 4;
                *byte = r.byte().filter(|b| more && b & 0x7F < KINDS)?;
            }
            0x50..=0x5F => self.frame = self.frame.checked_mul(16)?.checked_add(code & 15)?,
            0x60..=0x6F => self.arguments = self.arguments.checked_mul(16)?.checked_add(code & 15)?,
            0x70..=0x77 => self.prolog = self.prolog.checked_mul(8)?.checked_add(code & 7)?,
            _ => self.epilog = self.epilog.checked_mul(8)?.checked_add(code & 7)?,
        }
        Some(())
    }
}
