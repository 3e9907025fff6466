//! Header, safe points, ranges and slot table.

use super::bits::Bits;
use super::{Base, Encoding, GcInfo, Generics, Header, Place, Slot};

/// Flags of a long header (`GcInfoHeaderFlags`).
mod flag {
    pub const VARARGS: u32 = 1;
    pub const SECURITY_OBJECT: u32 = 2;
    pub const COOKIE: u32 = 4;
    pub const PSP_SYM: u32 = 8;
    pub const GENERICS: u32 = 0x30;
    pub const FRAME_REGISTER: u32 = 0x40;
    pub const LEAF_ONLY: u32 = 0x80;
    pub const EDIT_AND_CONTINUE: u32 = 0x100;
    pub const REVERSE_PINVOKE: u32 = 0x200;
}

/// Bytes of a stack slot.
const SLOT: i32 = 8;

/// The front of the header, which tells the length.
struct Front {
    /// Flags of a long header, or those that a short one stands for.
    flags: u32,
    fat: bool,
    return_kind: Option<u32>,
    length: u32,
}

fn front(r: &mut Bits<'_>, e: Encoding) -> Option<Front> {
    let fat = r.bit()?;
    let flags = match fat {
        true => r.take(e.flag_bits())?,
        false if r.bit()? => flag::FRAME_REGISTER,
        false => 0,
    };
    let return_kind = if e.has_return_kind() { Some(r.take(if fat { 4 } else { 2 })?) } else { None };
    let length = r.unsigned(8)?.checked_mul(e.length_unit())?;
    Some(Front { flags, fat, return_kind, length })
}

/// Bytes of code.
pub fn code_length(bytes: &[u8], e: Encoding) -> Option<u32> {
    front(&mut Bits::new(bytes, 0), e).map(|f| f.length)
}

/// Everything in front of what is live.
pub fn decode(bytes: Vec<u8>, e: Encoding) -> Option<GcInfo> {
    let mut r = Bits::new(&bytes, 0);
    let front = front(&mut r, e)?;
    let header = header(&mut r, e, &front)?;
    let points = r.unsigned(e.safe_point_count())?;
    let ranges = if front.fat { r.unsigned(1)? } else { 0 };
    let safe_points = safe_points(&mut r, e, header.length, points)?;
    let ranges = self::ranges(&mut r, e, ranges)?;
    let (slots, tracked) = slots(&mut r, e)?;
    let states = r.position();
    Some(GcInfo { encoding: e, header, safe_points, ranges, slots, tracked, bytes, states })
}

fn header(r: &mut Bits<'_>, e: Encoding, front: &Front) -> Option<Header> {
    let has = |f: u32| front.flags & f != 0;
    let mut h = Header { length: front.length, return_kind: front.return_kind, ..Header::default() };
    (h.varargs, h.leaf_only) = (has(flag::VARARGS), has(flag::LEAF_ONLY));
    let (written, usual) = e.frame_register();
    if !front.fat {
        h.frame_register = has(flag::FRAME_REGISTER).then_some(usual);
        return Some(h);
    }
    let unit = e.offset_unit();
    let security = e.has_old_slots() && has(flag::SECURITY_OBJECT);
    let mut valid = 0..0;
    if has(flag::COOKIE) {
        h.prolog = r.unsigned(5)?.checked_add(1)?.checked_mul(unit)?;
        let epilog = r.unsigned(3)?.checked_mul(unit)?;
        valid = h.prolog..h.length.checked_sub(epilog)?;
    } else if security || has(flag::GENERICS) {
        h.prolog = r.unsigned(5)?.checked_add(1)?.checked_mul(unit)?;
    }
    let slot = |r: &mut Bits<'_>| r.signed(6)?.checked_mul(SLOT);
    if security {
        slot(r)?;
    }
    if has(flag::COOKIE) {
        h.cookie = Some((slot(r)?, valid));
    }
    if e.has_old_slots() && has(flag::PSP_SYM) {
        h.psp_sym = Some(slot(r)?);
    }
    let kind = match front.flags & flag::GENERICS {
        0x10 => Some(Generics::MethodTable),
        0x20 => Some(Generics::MethodDesc),
        0x30 => Some(Generics::This),
        _ => None,
    };
    if let Some(kind) = kind {
        h.generics = Some((slot(r)?, kind));
    }
    if has(flag::FRAME_REGISTER) {
        h.frame_register = Some(r.unsigned(written)? ^ usual);
    }
    if has(flag::EDIT_AND_CONTINUE) {
        h.preserved = Some(r.unsigned(4)?);
        if e.has_fixed_frame() {
            r.unsigned(4)?;
        }
    }
    if has(flag::REVERSE_PINVOKE) {
        h.reverse_pinvoke = Some(slot(r)?);
    }
    h.outgoing = r.unsigned(3)?.checked_mul(SLOT as u32)?;
    Some(h)
}

/// Bits that an offset in code of that length takes.
fn offset_bits(length: u32, e: Encoding) -> u32 {
    match length / e.offset_unit() {
        0 | 1 => 0,
        n => 32 - (n - 1).leading_zeros(),
    }
}

fn safe_points(r: &mut Bits<'_>, e: Encoding, length: u32, count: u32) -> Option<Vec<u32>> {
    let bits = offset_bits(length, e);
    // Each has an offset of its own, in as many bits.
    let possible = count <= length.saturating_add(1) && count as usize * bits as usize <= r.left();
    possible.then_some(())?;
    let one = |_| {
        let offset = r.take(bits)?.checked_mul(e.offset_unit())?;
        offset.checked_add(e.safe_point_bias())
    };
    (0..count).map(one).collect()
}

fn ranges(r: &mut Bits<'_>, e: Encoding, count: u32) -> Option<Vec<std::ops::Range<u32>>> {
    /// Bits of the shortest range.
    const LEAST: usize = 14;
    (count as usize * LEAST <= r.left()).then_some(())?;
    let mut last = 0u32;
    let one = |_| {
        let start = last.checked_add(r.unsigned(6)?)?;
        last = start.checked_add(r.unsigned(6)?)?.checked_add(1)?;
        let unit = e.offset_unit();
        Some(start.checked_mul(unit)?..last.checked_mul(unit)?)
    };
    (0..count).map(one).collect()
}

/// All slots, and how many come and go.
fn slots(r: &mut Bits<'_>, e: Encoding) -> Option<(Vec<Slot>, usize)> {
    /// Bits of the shortest slot.
    const LEAST: usize = 3;
    let registers = if r.bit()? { r.unsigned(e.register_count())? } else { 0 };
    let (stack, untracked) = if r.bit()? { (r.unsigned(2)?, r.unsigned(1)?) } else { (0, 0) };
    let count = [registers, stack, untracked].iter().map(|&n| n as usize).sum::<usize>();
    (count * LEAST <= r.left()).then_some(())?;
    let mut out = Vec::with_capacity(count);
    self::registers(r, registers, &mut out)?;
    stack_slots(r, stack, &mut out)?;
    let tracked = out.len();
    stack_slots(r, untracked, &mut out)?;
    Some((out, tracked))
}

/// Flags of a slot (`GcSlotFlags`).
fn slot(place: Place, flags: u32) -> Slot {
    Slot { place, interior: flags & 1 != 0, pinned: flags & 2 != 0 }
}

/// After a slot without flags the next one has none either, and only its distance is written.
fn registers(r: &mut Bits<'_>, count: u32, out: &mut Vec<Slot>) -> Option<()> {
    let (mut number, mut flags) = (0u32, 1);
    for _ in 0..count {
        if flags != 0 {
            number = r.unsigned(3)?;
            flags = r.take(2)?;
        } else {
            number = number.checked_add(r.unsigned(2)?)?.checked_add(1)?;
        }
        out.push(slot(Place::Register(number), flags));
    }
    Some(())
}

fn stack_slots(r: &mut Bits<'_>, count: u32, out: &mut Vec<Slot>) -> Option<()> {
    let (mut offset, mut flags) = (0i32, 1);
    for _ in 0..count {
        let base = match r.take(2)? {
            0 => Base::CallerSp,
            1 => Base::Sp,
            2 => Base::Frame,
            _ => return None,
        };
        if flags != 0 {
            offset = r.signed(6)?;
            flags = r.take(2)?;
        } else {
            offset = offset.checked_add(i32::try_from(r.unsigned(4)?).ok()?)?;
        }
        out.push(slot(Place::Stack(base, offset.checked_mul(SLOT)?), flags));
    }
    Some(())
}
