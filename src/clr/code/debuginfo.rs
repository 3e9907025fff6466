//! Debug information of compiled methods: which IL a native offset stands for, where variables live, and what suspended
//! async methods keep.
//!
//! Format: dotnet/runtime `src/coreclr/vm/debuginfostore.cpp` (`CompressDebugInfo`), `vm/nibblestream.h`,
//! `docs/design/datacontracts/DebugInfo.md`. Three things changed: whether a byte of flags stands in front (JIT code of 5.0
//! to 10.0), how bounds are packed (nibbles through 9.0, bits since), and the header of 11.0. No version is asked: the
//! [`Form`] is the one under which a sample decodes without remainder.

use crate::dump::Arch;
use crate::dump::little_endian;

/// How bounds are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Every number in nibbles.
    Nibbles,
    /// A stream of bits, with so many for the kind of the entry.
    Bits(u32),
}

/// How debug information is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Whether a byte of flags stands in front (1: a patchpoint record follows, 2: rich information follows).
    pub flags: bool,
    /// How bounds are packed.
    pub packing: Packing,
    /// Whether a first number of 0 announces six sizes, and variables begin with their number.
    pub fat: bool,
}

/// 3.1 and ReadyToRun images through 9.0.
pub const PLAIN: Form = Form { flags: false, packing: Packing::Nibbles, fat: false };
/// JIT code of 5.0 to 9.0.
pub const FLAGGED: Form = Form { flags: true, packing: Packing::Nibbles, fat: false };
/// JIT code of 10.0.
pub const FLAGGED_BITS: Form = Form { flags: true, packing: Packing::Bits(2), fat: false };
/// ReadyToRun images of 10.0.
pub const BITS: Form = Form { flags: false, packing: Packing::Bits(2), fat: false };
/// 11.0.
pub const FAT: Form = Form { flags: false, packing: Packing::Bits(3), fat: true };

/// Forms JIT code may have, newest first.
pub const OF_JIT: &[Form] = &[FAT, FLAGGED_BITS, FLAGGED, PLAIN];
/// Forms a ReadyToRun image may have, newest first.
pub const OF_IMAGE: &[Form] = &[FAT, BITS, PLAIN];

/// An entry of the bounds: from `native` on the code is that of `il`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Offset from the start of the method's code, in bytes.
    pub native: u32,
    /// IL offset, or one of [`NO_MAPPING`], [`PROLOG`], [`EPILOG`].
    pub il: i32,
    /// [`CALL`], [`STACK_EMPTY`], [`ASYNC`].
    pub source: u8,
}

/// IL offset of code that belongs to no IL.
pub const NO_MAPPING: i32 = -1;
/// IL offset of the prolog.
pub const PROLOG: i32 = -2;
/// IL offset of an epilog.
pub const EPILOG: i32 = -3;

/// The entry is a call instruction.
pub const CALL: u8 = 1;
/// The evaluation stack is empty there.
pub const STACK_EMPTY: u8 = 2;
/// An async method is suspended and resumed there.
pub const ASYNC: u8 = 4;

/// Where a variable lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In a register (numbers of the architecture).
    Register(u32),
    /// At the address a register holds.
    AtRegister(u32),
    /// In a floating point register.
    Float(u32),
    /// On the stack: base register and offset in bytes.
    Stack(u32, i32),
    /// At the address a stack slot holds.
    AtStack(u32, i32),
    /// In two places or in a way not told further; the kind (`VarLocType`).
    Other(u32),
}

/// A stretch of code in which a variable lives in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Var {
    /// First native offset.
    pub start: u32,
    /// One past the last.
    pub end: u32,
    /// IL number: arguments (`this` first), then locals; negative ones are the compiler's own.
    pub number: i32,
    /// Where it is.
    pub location: Location,
}

/// A variable a suspended method keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncVar {
    /// IL number: arguments (`this` first), then locals; negative ones are the compiler's own.
    pub number: i32,
    /// Offset in the `Continuation` object, counted from the object's reference, in bytes.
    pub offset: u32,
}

/// A place where an async method can be suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncPoint {
    /// Native offset, as its continuations name it.
    pub native: u32,
    /// What is kept there.
    pub vars: Vec<AsyncVar>,
}

/// Debug information of a method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebugInfo {
    /// Bounds in order of native offset.
    pub bounds: Vec<Bound>,
    /// Variables.
    pub vars: Vec<Var>,
    /// Suspension points; the state of a continuation is their index. Empty where none is recorded.
    pub points: Vec<AsyncPoint>,
    /// Whether bounds or variables could not be read to their end.
    pub damaged: bool,
}

/// Sizes of the parts in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    /// Bytes in front of the bounds.
    start: usize,
    bounds: usize,
    vars: usize,
    /// What stands between variables and suspension points.
    between: usize,
    points: usize,
}

/// Shape of a patchpoint record: where its locals are counted, and its bytes but for four a local.
#[derive(Debug, Clone, Copy)]
struct Patchpoint {
    count: usize,
    size: usize,
}

/// Shapes the record had (dotnet/runtime `src/coreclr/inc/patchpointinfo.h`, 5.0 to 10.0; in 10.0.15 a pointer stands in
/// front of the count): the one behind which debug information follows that decodes without remainder is the right one.
const PATCHPOINTS: &[Patchpoint] = &[
    Patchpoint { count: 16, size: 40 },
    Patchpoint { count: 8, size: 32 },
    Patchpoint { count: 16, size: 48 },
    Patchpoint { count: 8, size: 40 },
    Patchpoint { count: 8, size: 28 },
];

/// Longest debug information believed.
const MAX_SIZE: usize = 1 << 24;

impl Sizes {
    /// Bytes from the start to the end of all parts.
    fn total(&self) -> usize {
        self.start + self.bounds + self.vars + self.between + self.points
    }

    /// Reads the sizes at the start of `bytes`, with a patchpoint record of the given shape where one is announced.
    fn read(bytes: &[u8], form: Form, patchpoint: Patchpoint) -> Option<Self> {
        let mut at = 0usize;
        if form.flags {
            let flags = *bytes.first()?;
            (flags <= 3).then_some(())?;
            at = 1;
            if flags & 1 != 0 {
                let locals = u32::from_le_bytes(*bytes.get(at + patchpoint.count..)?.first_chunk()?);
                at = at.checked_add(patchpoint.size)?.checked_add((locals as usize).checked_mul(4)?)?;
            }
            if flags & 2 != 0 {
                let rich = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
                at = at.checked_add(4)?.checked_add(rich as usize)?;
            }
        }
        let mut r = Nibbles::new(bytes.get(at..)?);
        let mut next = || r.unsigned().map(|v| v as usize);
        let mut s = Sizes { bounds: next()?, ..Sizes::default() };
        if form.fat && s.bounds == 0 {
            (s.bounds, s.vars) = (next()?, next()?);
            s.between = [next()?, next()?, next()?].into_iter().try_fold(0usize, usize::checked_add)?;
            s.points = next()?;
        } else {
            s.vars = next()?;
        }
        s.start = at.checked_add(r.bytes())?;
        let parts = [s.start, s.bounds, s.vars, s.between, s.points];
        let total = parts.into_iter().try_fold(0usize, usize::checked_add)?;
        (total <= MAX_SIZE).then_some(s)
    }
}

impl DebugInfo {
    /// Bytes that the debug information at the start of `bytes` takes, as far as its sizes can be read there.
    pub fn length(bytes: &[u8], form: Form) -> Option<usize> {
        let all = PATCHPOINTS.iter().filter_map(|&p| Sizes::read(bytes, form, p));
        all.map(|s| s.total()).max()
    }

    /// Decodes the debug information at the start of `bytes`; what does not fit is left out and said by `damaged`.
    pub fn decode(bytes: &[u8], form: Form, arch: Arch) -> Option<Self> {
        let patched = form.flags && bytes.first().is_some_and(|f| f & 1 != 0);
        let shapes = if patched { PATCHPOINTS } else { PATCHPOINTS.get(..1).unwrap_or(&[]) };
        let mut all = shapes.iter().filter_map(|&p| Some(Self::parts(bytes, Sizes::read(bytes, form, p)?, form, arch)));
        let first = all.next()?;
        if first.fits(None) { Some(first) } else { all.find(|d| d.fits(None)).or(Some(first)) }
    }

    fn parts(bytes: &[u8], sizes: Sizes, form: Form, arch: Arch) -> Self {
        let mut at = sizes.start;
        let mut part = |size: usize| {
            let range = at..at.saturating_add(size);
            at = range.end;
            bytes.get(range).unwrap_or(&[])
        };
        let (bounds, vars) = (part(sizes.bounds), part(sizes.vars));
        let _ = part(sizes.between);
        let points = part(sizes.points);
        let mut out = DebugInfo::default();
        let cut = bounds.len() != sizes.bounds || vars.len() != sizes.vars || points.len() != sizes.points;
        // The compilers of 10.0 put zeros behind bounds whose native offsets are all 0.
        let whole = |bytes: &[u8], used: Option<usize>| {
            bytes.is_empty() || used.and_then(|u| bytes.get(u..)).is_some_and(|rest| rest.iter().all(|&b| b == 0))
        };
        let whole = [
            whole(bounds, out.read_bounds(bounds, form.packing)),
            whole(vars, out.read_vars(vars, form, arch)),
            whole(points, out.read_points(points)),
        ];
        out.damaged = cut || whole.contains(&false);
        out
    }

    /// Whether it can be that of a method of `length` bytes: read to the last byte of every part, in order, inside.
    pub fn fits(&self, length: Option<u32>) -> bool {
        let ordered = self.bounds.windows(2).all(|w| w[0].native <= w[1].native);
        let inside = |n: u32| length.is_none_or(|l| n <= l);
        !self.damaged
            && !self.bounds.is_empty()
            && ordered
            && self.bounds.iter().all(|b| inside(b.native) && b.il < 1 << 24)
            && self.vars.iter().all(|v| v.start <= v.end)
    }

    fn read_bounds(&mut self, bytes: &[u8], packing: Packing) -> Option<usize> {
        let mut r = Nibbles::new(bytes);
        let count = r.unsigned()?;
        let il = |v: u32| v.wrapping_sub(3) as i32;
        match packing {
            Packing::Nibbles => {
                let mut native = 0u32;
                for _ in 0..count {
                    native = native.checked_add(r.unsigned()?)?;
                    let (il, source) = (il(r.unsigned()?), r.unsigned()?);
                    // `ICorDebugInfo::SourceTypes`: 2 stack empty, 16 call instruction.
                    let source = (source & 2) as u8 | (source >> 4 & 1) as u8;
                    self.bounds.push(Bound { native, il, source });
                }
                Some(r.bytes())
            }
            Packing::Bits(kind) => {
                let (delta, offset) = (r.unsigned()?.checked_add(1)?, r.unsigned()?.checked_add(1)?);
                (delta <= 32 && offset <= 32).then_some(())?;
                let start = r.bytes();
                let mut bits = Bits { bytes: bytes.get(start..)?, at: 0 };
                let mut native = 0u32;
                for _ in 0..count {
                    let source = bits.take(kind)? as u8;
                    native = native.checked_add(bits.take(delta)?)?;
                    self.bounds.push(Bound { native, il: il(bits.take(offset)?), source });
                }
                Some(start + bits.at.div_ceil(8))
            }
        }
    }

    fn read_vars(&mut self, bytes: &[u8], form: Form, arch: Arch) -> Option<usize> {
        /// Bias of a variable's number (`ICorDebugInfo::MAX_ILNUM`).
        const BIAS: u32 = 4;
        const BIAS_FAT: u32 = 6;
        /// What a call returned: instead of a length the IL offset of the call follows.
        const CALL_RETURN: i32 = -5;
        let mut r = Nibbles::new(bytes);
        let count = r.unsigned()?;
        for _ in 0..count {
            let (start, end, number);
            if form.fat {
                number = r.unsigned()?.wrapping_sub(BIAS_FAT) as i32;
                start = r.unsigned()?;
                let length = r.unsigned()?;
                end = start.saturating_add(if number == CALL_RETURN { 1 } else { length });
            } else {
                start = r.unsigned()?;
                end = start.saturating_add(r.unsigned()?);
                number = r.unsigned()?.wrapping_sub(BIAS) as i32;
            }
            let location = location(&mut r, arch)?;
            self.vars.push(Var { start, end, number, location });
        }
        Some(r.bytes())
    }

    /// Number of points, number of variables of all, then each point with its variables' count, then the variables.
    fn read_points(&mut self, bytes: &[u8]) -> Option<usize> {
        const BIAS: u32 = 6;
        let mut r = Nibbles::new(bytes);
        let (points, vars) = (r.unsigned()? as usize, r.unsigned()? as usize);
        let most = bytes.len().saturating_mul(2);
        (points <= most && vars <= most).then_some(())?;
        let mut counts = Vec::with_capacity(points);
        let mut native = 0u32;
        for _ in 0..points {
            native = native.checked_add_signed(r.signed()?)?;
            counts.push((native, r.unsigned()? as usize));
        }
        for (native, count) in counts {
            let mut kept = Vec::new();
            for _ in 0..count {
                kept.push(AsyncVar { number: r.unsigned()?.wrapping_sub(BIAS) as i32, offset: r.unsigned()? });
            }
            self.points.push(AsyncPoint { native, vars: kept });
        }
        Some(r.bytes())
    }

    /// IL offset of the code before a return address: the last entry that begins before it. `None` where it belongs to no
    /// IL.
    pub fn il_of_return(&self, native: u32) -> Option<i32> {
        self.last(|b| b.native < native)
    }

    /// IL offset of the instruction at `native`: where a thread was interrupted, or one that a fault names.
    pub fn il_of_instruction(&self, native: u32) -> Option<i32> {
        self.last(|b| b.native <= native)
    }

    /// IL offset of the await at which a method is suspended whose continuation names `native`: the entry of a suspension
    /// exactly there.
    pub fn il_of_suspension(&self, native: u32) -> Option<i32> {
        let exact = self.bounds.iter().find(|b| b.native == native && b.source & ASYNC != 0 && b.il >= 0);
        exact.map(|b| b.il).or_else(|| self.il_of_instruction(native))
    }

    fn last(&self, before: impl Fn(&Bound) -> bool) -> Option<i32> {
        let end = self.bounds.partition_point(before);
        self.bounds.get(end.checked_sub(1)?).map(|b| b.il)
    }
}

/// A place in parts, which are read over.
fn two<A, B>(kind: u32, _: A, _: B) -> Location {
    Location::Other(kind)
}

fn location(r: &mut Nibbles<'_>, arch: Arch) -> Option<Location> {
    let kind = r.unsigned()?;
    // Stack offsets of x86 are stored in words.
    let unit = if arch == Arch::X86 { 4 } else { 1 };
    let offset = |r: &mut Nibbles<'_>| r.signed().map(|o| o.wrapping_mul(unit));
    Some(match kind {
        0 => Location::Register(r.unsigned()?),
        1 => Location::AtRegister(r.unsigned()?),
        2 => Location::Float(r.unsigned()?),
        3 => Location::Stack(r.unsigned()?, offset(r)?),
        4 => Location::AtStack(r.unsigned()?, offset(r)?),
        5 => two(kind, r.unsigned()?, r.unsigned()?),
        6 => two(kind, r.unsigned()?, (r.unsigned()?, offset(r)?)),
        7 => two(kind, (offset(r)?, r.unsigned()?), r.unsigned()?),
        8 => two(kind, r.unsigned()?, offset(r)?),
        9 | 10 => two(kind, r.unsigned()?, ()),
        _ => return None,
    })
}

/// Numbers of three bits a nibble, most significant first, bit 3 for one that is continued; the low nibble of a byte first.
struct Nibbles<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Nibbles<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn nibble(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 2)?;
        let nibble = if self.at.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
        self.at += 1;
        Some(u32::from(nibble))
    }

    fn unsigned(&mut self) -> Option<u32> {
        /// 32 bits take eleven nibbles, three bits in each.
        const NIBBLES: usize = 11;
        let mut value = 0u32;
        for _ in 0..NIBBLES {
            let nibble = self.nibble()?;
            value = value << 3 | nibble & 7;
            if nibble & 8 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The sign is the lowest bit.
    fn signed(&mut self) -> Option<i32> {
        let value = self.unsigned()?;
        let size = (value >> 1) as i32;
        Some(if value & 1 != 0 { -size } else { size })
    }

    /// Bytes read, the last one whole.
    fn bytes(&self) -> usize {
        self.at.div_ceil(2)
    }
}

/// Bits from the lowest on.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let (byte, shift) = (self.at / 8, self.at % 8);
        let end = (self.at + count as usize).div_ceil(8);
        let bytes = self.bytes.get(byte..end)?;
        let word = little_endian(bytes);
        self.at += count as usize;
        Some((word >> shift) as u32 & (u64::from(u32::MAX) >> (32 - count)) as u32)
    }
}
