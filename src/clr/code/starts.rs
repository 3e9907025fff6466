//! Where the methods of a precompiled image begin, and which they are.
//!
//! Two witnesses. The runtime's own table of the methods it prepared, entry point to MethodDesc, is complete for what runs
//! (dotnet/runtime `src/coreclr/vm/readytoruninfo.cpp`, `m_pMethodDescMap`; `vm/hash.h`, `HashMap`). The image's tables name
//! all methods: by row (103) and, for instantiations and bodies of async methods, by signature (109).

use super::jitcode::is_no_method;
use super::nativeformat::{Bytes, NativeArray, NativeHashtable, unsigned};
use super::readytorun::{INSTANCE_ENTRY_POINTS, Image, METHOD_ENTRY_POINTS, Start, Starts, View};
use super::unwind;
use crate::clr::Clr;

/// Words of a `Module` and of its `ReadyToRunInfo` looked through.
const MODULE_WORDS: u64 = 256;
const INFO_WORDS: u64 = 96;
/// Keys of a bucket; as many values follow (`SLOTS_PER_BUCKET`).
const SLOTS: u64 = 4;
/// Most buckets of a table.
const MAX_BUCKETS: u64 = 1 << 22;

impl Image {
    /// Starts of methods.
    pub fn starts(&self, clr: &Clr, view: &View<'_>) -> &Starts {
        self.starts.get_or_init(|| read(clr, self, view))
    }
}

/// Reads all starts of `image`.
fn read(clr: &Clr, image: &Image, view: &View<'_>) -> Starts {
    let mut all = prepared(clr, image).unwrap_or_default();
    let rows = by_row(clr, image, view, &mut all);
    let instances = by_signature(clr, image, view, &mut all);
    // One start a place: what knows the MethodDesc, and the row from whoever has it.
    all.sort_unstable_by_key(|s| (s.rva, std::cmp::Reverse(s.method), std::cmp::Reverse(s.rid)));
    all.dedup_by(|later, kept| {
        let same = later.rva == kept.rva;
        if same && kept.rid == 0 {
            kept.rid = later.rid;
        }
        same
    });
    Starts { all, complete: rows && instances }
}

/// What the runtime's own table has.
fn prepared(clr: &Clr, image: &Image) -> Option<Vec<Start>> {
    let (space, ptr) = (clr.space(), clr.header());
    let info = info(clr, image)?;
    let l = clr.layout();
    let described = l.try_offset("ReadyToRunInfo", "EntryPointToMethodDescMap");
    let described = described.and_then(|map| space.ptr_at(info, map.checked_add(l.try_offset("HashMap", "Buckets")?)?));
    let of = |buckets: u64| buckets_of(clr, image, buckets);
    if let Some(found) = described.and_then(of) {
        return Some(found);
    }
    (0..INFO_WORDS).filter_map(|i| space.ptr_at(info, i * ptr)).filter(|&b| b.is_multiple_of(ptr)).find_map(of)
}

/// The `ReadyToRunInfo` of the image's module: what holds the address of the table of functions and its count.
fn info(clr: &Clr, image: &Image) -> Option<u64> {
    let (space, ptr) = (clr.space(), clr.header());
    let (table, count) = image.function_table(clr.dump.arch)?;
    let table = image.base.checked_add(u64::from(table))?;
    // A sentinel may or may not be counted.
    let holds = |info: &u64| {
        let near = |at: u64| space.u32(at).is_some_and(|n| n.abs_diff(count) <= 1);
        (0..INFO_WORDS)
            .any(|i| space.ptr_at(*info, i * ptr) == Some(table) && info.checked_add((i + 1) * ptr).is_some_and(near))
    };
    let field = clr.layout().try_offset("Module", "ReadyToRunInfo");
    let described = field.and_then(|o| space.ptr_at(image.module, o)).filter(holds);
    let candidate = |i: u64| space.ptr_at(image.module, i * ptr).filter(|&p| p > 0xFFFF && p.is_multiple_of(ptr));
    described.or_else(|| (0..MODULE_WORDS).filter_map(candidate).find(holds))
}

/// The table whose buckets are at `at`: their count in the place of the first, then keys (entry points) and values
/// (MethodDescs, halved). Every key must lie in the image, and none of the first values may be certain to be something else.
fn buckets_of(clr: &Clr, image: &Image, at: u64) -> Option<Vec<Start>> {
    /// Values looked at before the others are believed.
    const PROBES: usize = 16;
    let (space, ptr) = (clr.space(), clr.header());
    let size = 2 * SLOTS * ptr;
    let count = space.ptr(at).filter(|&n| (1..MAX_BUCKETS).contains(&n))?;
    let mask = if ptr == 8 { u64::MAX >> 1 } else { u64::from(u32::MAX >> 1) };
    let mut found = Vec::new();
    for bucket in 1..=count {
        let bucket_at = at.checked_add(bucket * size)?;
        for slot in 0..SLOTS {
            let Some(key) = space.ptr_at(bucket_at, slot * ptr) else { break };
            // 0 is empty, 1 was deleted.
            if key <= 1 {
                continue;
            }
            let rva = key.checked_sub(image.base).filter(|_| key < image.end)?;
            let Some(value) = space.ptr_at(bucket_at, (SLOTS + slot) * ptr) else { break };
            let method = (value & mask) << 1;
            // A mini dump has the table and few of the methods.
            if found.len() < PROBES && space.readable(method) && is_no_method(clr, method) {
                return None;
            }
            found.push(Start { rva: u32::try_from(rva).ok()?, method, rid: 0 });
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Start of function `index`.
fn begin(clr: &Clr, image: &Image, view: &View<'_>, index: u32) -> Option<u32> {
    let (table, count) = image.function_table(clr.dump.arch)?;
    let size = unwind::entry_size(clr.dump.arch) as u32;
    (index < count).then_some(())?;
    view.u32(table.checked_add(index.checked_mul(size)?)?)
}

/// The index of a function as entry points store it: with a bit for whether fixups follow.
fn index_at(view: &View<'_>, at: u32) -> Option<u32> {
    let (value, _) = unsigned(view, at)?;
    Some(if value & 1 != 0 { value >> 2 } else { value >> 1 })
}

/// Adds the starts of the methods in table 103; whether it was read throughout.
fn by_row(clr: &Clr, image: &Image, view: &View<'_>, all: &mut Vec<Start>) -> bool {
    // An image that only forwards types has none.
    let Some((rva, _)) = image.section(METHOD_ENTRY_POINTS) else { return image.version != (0, 0) };
    let Some(array) = NativeArray::at(view, rva) else { return false };
    let mut whole = true;
    for row in 0..array.count().min(0x00FF_FFFF) {
        match array.get(view, row) {
            Some(None) => {}
            Some(Some(at)) => match index_at(view, at).and_then(|i| begin(clr, image, view, i)) {
                Some(rva) => all.push(Start { rva, method: 0, rid: row + 1 }),
                None => whole = false,
            },
            None => whole = false,
        }
    }
    whole
}

/// Adds the starts in table 109; whether it was read throughout.
fn by_signature(clr: &Clr, image: &Image, view: &View<'_>, all: &mut Vec<Start>) -> bool {
    let Some((rva, _)) = image.section(INSTANCE_ENTRY_POINTS) else { return image.version != (0, 0) };
    let Some(table) = NativeHashtable::at(view, rva) else { return false };
    let (entries, mut whole) = table.entries(view);
    for at in entries {
        let mut signature = Signature { view, at, depth: 0 };
        let start = signature.method().and_then(|rid| {
            let rva = begin(clr, image, view, index_at(view, signature.at)?)?;
            Some(Start { rva, method: 0, rid })
        });
        match start {
            Some(s) => all.push(s),
            None => whole = false,
        }
    }
    whole
}

/// Reads over a method's signature (readytorun-format.md, "Method Signatures"; ECMA-335 II.23.2 with the runtime's own
/// element types).
struct Signature<'a> {
    view: &'a dyn Bytes,
    at: u32,
    depth: u32,
}

impl Signature<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.view.byte(self.at)?;
        self.at = self.at.checked_add(1)?;
        Some(byte)
    }

    /// A compressed number (ECMA-335 II.23.2).
    fn number(&mut self) -> Option<u32> {
        let first = u32::from(self.byte()?);
        Some(match first {
            0..=0x7F => first,
            0x80..=0xBF => (first & 0x3F) << 8 | u32::from(self.byte()?),
            0xC0..=0xDF => {
                let rest = [self.byte()?, self.byte()?, self.byte()?];
                rest.iter().fold(first & 0x1F, |v, &b| v << 8 | u32::from(b))
            }
            _ => return None,
        })
    }

    fn types(&mut self, count: u32) -> Option<()> {
        (count <= 0x1_0000).then_some(())?;
        (0..count).try_for_each(|_| self.ty())
    }

    /// The method; its row where that is one of the image's own metadata, else 0.
    fn method(&mut self) -> Option<u32> {
        const INSTANTIATION: u32 = 4;
        const SLOT: u32 = 8;
        const MEMBER_REF: u32 = 0x10;
        const CONSTRAINED: u32 = 0x20;
        const OWNER: u32 = 0x40;
        const CONTEXT: u32 = 0x80;
        /// Owner whose module is named.
        const MODULE: u8 = 0x3F;
        let flags = self.number()?;
        if flags & CONTEXT != 0 {
            self.number()?;
        }
        let mut foreign = flags & (SLOT | MEMBER_REF | CONTEXT) != 0;
        if flags & OWNER != 0 {
            foreign |= self.view.byte(self.at)? == MODULE;
            self.ty()?;
        }
        let row = self.number()?;
        if flags & INSTANTIATION != 0 {
            let count = self.number()?;
            self.types(count)?;
        }
        if flags & CONSTRAINED != 0 {
            self.ty()?;
        }
        Some(if foreign { 0 } else { row & 0x00FF_FFFF })
    }

    fn ty(&mut self) -> Option<()> {
        const MAX_DEPTH: u32 = 64;
        self.depth += 1;
        (self.depth <= MAX_DEPTH).then_some(())?;
        match self.byte()? {
            0x01..=0x0E | 0x16 | 0x18 | 0x19 | 0x1C | 0x3E => {}
            0x0F | 0x10 | 0x1D | 0x3D | 0x41 | 0x45 => self.ty()?,
            0x11 | 0x12 | 0x13 | 0x1E | 0x3B => drop(self.number()?),
            0x14 => {
                self.ty()?;
                self.number()?;
                for _ in 0..2 {
                    let count = self.number()?.min(0x100);
                    (0..count).try_for_each(|_| self.number().map(drop))?;
                }
            }
            0x15 => {
                self.ty()?;
                let count = self.number()?;
                self.types(count)?;
            }
            0x1B => {
                let convention = self.byte()?;
                if convention & 0x10 != 0 {
                    self.number()?;
                }
                let count = self.number()?;
                self.types(count.checked_add(1)?)?;
            }
            0x1F | 0x20 | 0x3F => {
                self.number()?;
                self.ty()?;
            }
            _ => return None,
        }
        self.depth -= 1;
        Some(())
    }
}
