//! GC information written as the runtime writes it is read back, and nothing else makes the reader fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::{Base, Encoding, GcInfo, Place, Slot, Stop};
use crate::dump::Arch;

/// Writes bits, the lowest of a byte first.
#[derive(Default)]
struct Writer {
    bits: Vec<bool>,
}

impl Writer {
    fn put(&mut self, value: u64, count: u32) {
        self.bits.extend((0..count).map(|i| value >> i & 1 != 0));
    }

    fn unsigned(&mut self, mut value: u64, base: u32) {
        loop {
            self.put(value, base);
            value >>= base;
            self.put(u64::from(value != 0), 1);
            if value == 0 {
                return;
            }
        }
    }

    fn signed(&mut self, mut value: i64, base: u32) {
        loop {
            self.put(value as u64, base);
            let sign = value >> (base - 1) & 1 != 0;
            value >>= base;
            let done = value == 0 && !sign || value == -1 && sign;
            self.put(u64::from(!done), 1);
            if done {
                return;
            }
        }
    }

    fn align(&mut self) {
        while !self.bits.len().is_multiple_of(8) {
            self.bits.push(false);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |b, (i, &x)| b | u8::from(x) << i)).collect()
    }
}

/// A method as the compiler knows it.
#[derive(Debug, Clone)]
struct Method {
    encoding: Encoding,
    length: u32,
    frame: bool,
    psp: Option<i32>,
    outgoing: u32,
    slots: Vec<Slot>,
    untracked: Vec<Slot>,
    /// Return addresses and what is live there, by bits.
    points: Vec<(u32, u64)>,
    /// One range in units, and per slot whether it is live at each unit.
    range: Option<(u32, u32)>,
    lives: Vec<u64>,
    shared: bool,
    runs: bool,
}

fn write_slots(w: &mut Writer, slots: &[Slot], e: Encoding) {
    let registers: Vec<&Slot> = slots.iter().filter(|s| matches!(s.place, Place::Register(_))).collect();
    let mut last = (0u32, true);
    for s in registers {
        let Place::Register(n) = s.place else { unreachable!() };
        let flags = u64::from(s.interior) | u64::from(s.pinned) << 1;
        if last.1 {
            w.unsigned(n.into(), 3);
            w.put(flags, 2);
            last.1 = flags != 0;
        } else {
            w.unsigned(u64::from(n - last.0 - 1), 2);
        }
        last.0 = n;
    }
    let _ = e;
    let mut last = (0i64, true);
    for s in slots {
        let Place::Stack(base, at) = s.place else { continue };
        w.put(
            match base {
                Base::CallerSp => 0,
                Base::Sp => 1,
                Base::Frame => 2,
            },
            2,
        );
        let (flags, at) = (u64::from(s.interior) | u64::from(s.pinned) << 1, i64::from(at / 8));
        if last.1 {
            w.signed(at, 6);
            w.put(flags, 2);
            last.1 = flags != 0;
        } else {
            w.unsigned((at - last.0) as u64, 4);
        }
        last.0 = at;
    }
}

/// A set of `count` slots, as runs or as bits.
fn write_set(w: &mut Writer, set: u64, count: usize, packed: bool, runs: bool) {
    if packed {
        w.put(u64::from(runs), 1);
    }
    if !packed || !runs {
        w.put(set, count as u32);
        return;
    }
    let swapped = set & 1 != 0;
    w.put(u64::from(swapped), 1);
    let (mut at, mut inside, mut first) = (0, false, true);
    while at < count {
        let end = (at..count).find(|&i| (set >> i & 1 != 0) != inside).unwrap_or(count);
        let base = if inside == swapped { 4 } else { 2 };
        w.unsigned((end - at - usize::from(!first)) as u64, base);
        (at, inside, first) = (end, !inside, false);
    }
}

impl Method {
    fn tracked(&self) -> usize {
        self.slots.len()
    }

    fn write(&self) -> Vec<u8> {
        let e = self.encoding;
        let mut w = Writer::default();
        w.put(1, 1);
        let flags = if self.psp.is_some() && e.has_old_slots() { 8 } else { 0 } | if self.frame { 0x40 } else { 0 };
        w.put(flags, e.flag_bits());
        if e.has_return_kind() {
            w.put(1, 4);
        }
        w.unsigned(u64::from(self.length / e.length_unit()), 8);
        if let Some(at) = self.psp.filter(|_| e.has_old_slots()) {
            w.signed(i64::from(at / 8), 6);
        }
        if self.frame {
            w.unsigned(0, e.frame_register().0);
        }
        w.unsigned(u64::from(self.outgoing / 8), 3);
        w.unsigned(self.points.len() as u64, e.safe_point_count());
        w.unsigned(u64::from(self.range.is_some()), 1);
        let units = self.length / e.offset_unit();
        let bits = if units < 2 { 0 } else { 32 - (units - 1).leading_zeros() };
        for (at, _) in &self.points {
            w.put(u64::from((at - e.safe_point_bias()) / e.offset_unit()), bits);
        }
        if let Some((start, size)) = self.range {
            w.unsigned(start.into(), 6);
            w.unsigned(u64::from(size - 1), 6);
        }
        let registers = self.slots.iter().filter(|s| matches!(s.place, Place::Register(_))).count();
        w.put(u64::from(registers > 0), 1);
        if registers > 0 {
            w.unsigned(registers as u64, e.register_count());
        }
        let stack = self.slots.len() - registers;
        let some = stack + self.untracked.len() > 0;
        w.put(u64::from(some), 1);
        if some {
            w.unsigned(stack as u64, 2);
            w.unsigned(self.untracked.len() as u64, 1);
        }
        write_slots(&mut w, &self.slots, e);
        write_slots(&mut w, &self.untracked, e);
        if self.tracked() > 0 {
            self.write_points(&mut w);
            self.write_range(&mut w);
        }
        w.align();
        w.bytes()
    }

    fn write_points(&self, w: &mut Writer) {
        if self.points.is_empty() {
            return;
        }
        w.put(u64::from(self.shared), 1);
        let sets: Vec<u64> = self.points.iter().map(|p| p.1).collect();
        if !self.shared {
            sets.iter().for_each(|&s| write_set(w, s, self.tracked(), false, false));
            return;
        }
        let (mut states, mut places) = (Writer::default(), Vec::new());
        for &s in &sets {
            places.push(states.bits.len() as u64);
            write_set(&mut states, s, self.tracked(), true, self.runs);
        }
        let bits = 64 - places.iter().max().unwrap().leading_zeros().min(63);
        w.unsigned(u64::from(bits - 1), 3);
        places.iter().for_each(|&p| w.put(p, bits));
        w.align();
        w.bits.extend(states.bits);
    }

    /// What is live at a unit of the range: slot `i` while a bit of its pattern is set, each bit for ten units.
    fn live_in_range(&self, at: u32) -> Vec<usize> {
        (0..self.tracked()).filter(|&i| self.lives[i] >> (at / 10 % 64) & 1 != 0).collect()
    }

    fn write_range(&self, w: &mut Writer) {
        let Some((_, size)) = self.range else { return };
        let chunks = size.div_ceil(64);
        let (mut all, mut places) = (Writer::default(), Vec::new());
        for chunk in 0..chunks {
            let (first, end) = (chunk * 64, (chunk * 64 + 64).min(size));
            let live = |i: usize, at: u32| self.live_in_range(at).contains(&i);
            let changes =
                |i: usize| (first + 1..end).filter(|&at| live(i, at) != live(i, at - 1)).collect::<Vec<u32>>();
            let some: Vec<usize> =
                (0..self.tracked()).filter(|&i| live(i, end - 1) || !changes(i).is_empty()).collect();
            if some.is_empty() {
                places.push(0);
                // Nothing is live where nothing was before either, else the chunk says so.
                if (0..self.tracked()).all(|i| chunk == 0 || !live(i, first - 1)) {
                    continue;
                }
                places.pop();
            }
            places.push(all.bits.len() as u64 + 1);
            let set = some.iter().fold(0, |s, i| s | 1 << i);
            write_set(&mut all, set, self.tracked(), true, self.runs);
            some.iter().for_each(|&i| all.put(u64::from(live(i, end - 1)), 1));
            for &i in &some {
                for at in changes(i).into_iter().rev() {
                    all.put(1, 1);
                    all.put(u64::from(at - first), 6);
                }
                all.put(0, 1);
            }
        }
        let bits = 64 - places.iter().max().unwrap().leading_zeros();
        w.unsigned(bits.into(), 3);
        places.iter().for_each(|&p| w.put(p, bits));
        w.align();
        w.bits.extend(all.bits);
    }
}

fn encoding() -> impl Strategy<Value = Encoding> {
    (1u32..=5, prop_oneof![Just(Arch::X64), Just(Arch::Arm64)]).prop_map(|(v, a)| Encoding::new(v, a).unwrap())
}

fn slots(most: usize, registers: bool) -> impl Strategy<Value = Vec<Slot>> {
    let place = (0u32..16, -40i32..400, 0usize..3, any::<bool>());
    prop::collection::vec((place, any::<bool>(), any::<bool>()), 0..most).prop_map(move |all| {
        let mut out: Vec<Slot> = Vec::new();
        let bases = [Base::CallerSp, Base::Sp, Base::Frame];
        for ((number, at, base, register), interior, pinned) in all {
            let register = register && registers;
            let place = if register { Place::Register(number) } else { Place::Stack(bases[base], at * 8) };
            out.push(Slot { place, interior, pinned });
        }
        // As the compiler sorts them: plain ones behind those with flags, then by place.
        let key = |s: &Slot| match s.place {
            Place::Register(n) => (0, !(s.interior || s.pinned), i64::from(n)),
            Place::Stack(_, at) => (1, !(s.interior || s.pinned), i64::from(at)),
        };
        out.sort_by_key(key);
        out.dedup_by_key(|s| key(s));
        out
    })
}

fn method() -> impl Strategy<Value = Method> {
    let shape = (encoding(), 8u32..3000, any::<bool>(), prop::option::of(-20i32..20), 0u32..20);
    let points = prop::collection::btree_map(0u32..3000, any::<u64>(), 0..20);
    let rest = (slots(12, true), slots(6, false), points, any::<(u32, u32)>(), any::<(bool, bool, bool)>());
    (shape, rest, prop::collection::vec(any::<u64>(), 12)).prop_map(|(shape, rest, lives)| {
        let (encoding, units, frame, psp, outgoing) = shape;
        let (slots, untracked, points, range, (ranges, shared, runs)) = rest;
        // A unit is what offsets are counted in.
        let unit = encoding.length_unit();
        let length = units * unit;
        let steps = length / encoding.offset_unit();
        let mask = (1u64 << slots.len()) - 1;
        let at = |p: u32| p % steps * encoding.offset_unit() + encoding.safe_point_bias();
        let mut points: Vec<(u32, u64)> = points.into_iter().map(|(p, s)| (at(p), s & mask)).collect();
        points.sort_unstable();
        points.dedup_by_key(|p| p.0);
        // The compiler writes one or the other.
        if ranges {
            points.clear();
        }
        let start = range.0 % steps;
        let range = ranges.then_some((start, range.1 % (steps - start) + 1));
        let frame = frame || slots.iter().chain(&untracked).any(|s| matches!(s.place, Place::Stack(Base::Frame, _)));
        let psp = psp.map(|p| p * 8);
        Method {
            encoding,
            length,
            frame,
            psp,
            outgoing: outgoing * 8,
            slots,
            untracked,
            points,
            range,
            lives,
            shared,
            runs,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(m in method()) {
        let info = GcInfo::decode(m.write(), m.encoding).unwrap();
        let unit = m.encoding.offset_unit();
        prop_assert!(info.fits(Some(m.length)) && info.is_whole());
        prop_assert_eq!(info.header.frame_register.is_some(), m.frame);
        prop_assert_eq!(info.header.outgoing, m.outgoing);
        prop_assert_eq!(info.header.psp_sym, m.psp.filter(|_| m.encoding.has_old_slots()));
        prop_assert_eq!(info.slots.get(..info.tracked).unwrap(), &m.slots[..]);
        prop_assert_eq!(info.untracked(), &m.untracked[..]);
        prop_assert_eq!(&info.safe_points, &m.points.iter().map(|p| p.0).collect::<Vec<u32>>());
        for (at, set) in &m.points {
            let live = info.live(*at, Stop::Return).unwrap();
            let want: Vec<usize> = (0..m.tracked()).filter(|i| set >> i & 1 != 0).collect();
            prop_assert_eq!(live.tracked, want);
            // Thrown there, nothing goes on, and nothing is live.
            let thrown = info.live(*at, Stop::Thrown).unwrap();
            prop_assert!(thrown.tracked.is_empty() && thrown.untracked == (m.encoding.version < 4));
        }
        if let Some((start, size)) = m.range {
            for at in 0..size {
                let offset = (start + at) * unit;
                let live = info.live(offset, Stop::Instruction).unwrap();
                prop_assert_eq!(&live.tracked, &m.live_in_range(at), "at {} of {}", at, size);
                prop_assert!(info.is_interruptible(offset));
            }
            prop_assert!(!info.is_interruptible((start + size) * unit));
        }
    }

    #[test]
    fn transitions_add_up_to_what_is_live(m in method()) {
        let info = GcInfo::decode(m.write(), m.encoding).unwrap();
        let transitions = info.transitions().unwrap();
        let (mut live, mut next) = (std::collections::BTreeSet::new(), transitions.iter().peekable());
        for offset in 0..=m.length {
            while let Some(t) = next.next_if(|t| t.offset == offset) {
                prop_assert!(t.dead.iter().all(|i| live.remove(i)));
                prop_assert!(t.born.iter().all(|i| live.insert(*i)));
            }
            let want = match m.range {
                Some((start, size)) => {
                    let at = (offset / m.encoding.offset_unit()).checked_sub(start).filter(|&a| a < size);
                    at.map_or(Vec::new(), |a| m.live_in_range(a))
                }
                None => info.live(offset, Stop::Return).unwrap().tracked,
            };
            let point = m.range.is_some() || info.safe_point(offset).is_some();
            if point {
                prop_assert_eq!(live.iter().copied().collect::<Vec<usize>>(), want);
            }
        }
        prop_assert!(next.next().is_none());
    }

    #[test]
    fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..400), e in encoding(), at in any::<u32>()) {
        if let Some(info) = GcInfo::decode(bytes.clone(), e) {
            for stop in [Stop::Return, Stop::Instruction, Stop::Thrown, Stop::Faulted] {
                let _ = (info.live(at, stop), info.live(at % 64, stop));
            }
            let _ = (info.transitions(), info.fits(None), info.fits(Some(at)), info.is_whole());
            prop_assert!(info.slots.len() <= bytes.len() * 8);
            prop_assert!(info.safe_points.len() <= bytes.len() * 8 + 2);
        }
    }

    #[test]
    fn what_is_cut_off_is_not_read(m in method(), cut in 1usize..40) {
        let bytes = m.write();
        let short = bytes.get(..bytes.len().saturating_sub(cut)).unwrap().to_vec();
        // Nothing but the bits that are left decides: what is read there is what the whole says.
        if let Some(info) = GcInfo::decode(short, m.encoding) {
            let whole = GcInfo::decode(bytes, m.encoding).unwrap();
            for (at, _) in &m.points {
                if let Some(live) = info.live(*at, Stop::Return) {
                    prop_assert_eq!(Some(live), whole.live(*at, Stop::Return));
                }
            }
        }
    }
}
