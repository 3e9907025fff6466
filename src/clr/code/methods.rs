//! MethodDescs: the runtime's records of the methods of a class, and their names.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/method.hpp` (`MethodDesc`, `MethodDescChunk`), the same from 3.1 to 10 but for
//! the pointer to code data that 9.0 added and for how a token is split between chunk and method.

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::image::metadata::sig;
use crate::clr::layout::relative_value;
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::{Instantiated, TypeName};
use crate::dump::Arch;

/// Bound on chunks of one class: methods are numbered with 16 bits.
const MAX_CHUNKS: usize = 1 << 16;
/// Bytes of a `FixupPrecode` through 6.0, on x64 and x86.
const FIXUP_PRECODE: u64 = 8;

/// `mdcHasNativeCodeSlot`.
const CODE_SLOT: u16 = 0x20;

/// One MethodDesc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodDesc {
    /// Its address.
    pub address: u64,
    /// MethodTable of its chunk: the canonical one of an instantiation.
    pub owner: u64,
    /// MethodDef row.
    pub rid: u32,
    /// Slot number.
    pub slot: u16,
    /// Low flag word: classification in bits 0 to 2.
    pub flags: u16,
}

impl MethodDesc {
    /// MethodDef token.
    pub fn token(&self) -> u32 {
        0x0600_0000 | self.rid
    }

    /// Whether its slot is not in the vtable but behind the MethodDesc.
    pub fn has_own_slot(&self) -> bool {
        self.flags & 0x8 != 0
    }

    /// `mdcClassification`.
    fn class(&self) -> u16 {
        self.flags & 7
    }

    /// Whether the runtime itself implements it (`mcFCall`).
    pub fn is_fcall(&self) -> bool {
        self.class() == 1
    }

    /// Whether it was made at run time and has no metadata (`mcDynamic`): dynamic methods, IL stubs.
    pub fn is_dynamic(&self) -> bool {
        self.class() == 7
    }

    /// Whether it is an instantiated generic method or its definition (`mcInstantiated`).
    pub fn is_generic(&self) -> bool {
        self.class() == 5
    }
}

impl Clr {
    /// Unit of sizes and positions inside a chunk in bytes (`MethodDesc::ALIGNMENT`): a pointer.
    fn unit(&self) -> u64 {
        self.header()
    }

    /// Bytes of a `MethodDescChunk` in front of its first method: two pointers, then size and count in a byte each and
    /// the upper part of the tokens.
    fn chunk_header(&self) -> u64 {
        3 * self.header()
    }

    /// The MethodDescs the class of `mt` declares, in the order of its chunks.
    pub fn methods(&self, mt: &MethodTable) -> Gathered<MethodDesc> {
        let mut out = Gathered::default();
        if self.read_chunks(mt, &mut out).is_none() {
            out.because(format!("methods of {:x} are not in the dump", mt.address));
        }
        out
    }

    fn read_chunks(&self, mt: &MethodTable, out: &mut Gathered<MethodDesc>) -> Option<()> {
        let class = self.mts().eeclass(self.space(), mt)?;
        let mut chunk = self.layout().pointer(self.space(), class, "EEClass", "MethodDescChunk")?;
        let mut seen = FxHashSet::default();
        while chunk != 0 {
            if !seen.insert(chunk) || seen.len() > MAX_CHUNKS {
                out.because("the list of method chunks runs in a circle");
                break;
            }
            self.read_chunk(chunk, out)?;
            chunk = self.chunk_pointer(chunk, "Next", self.header())?;
        }
        Some(())
    }

    fn read_chunk(&self, chunk: u64, out: &mut Gathered<MethodDesc>) -> Option<()> {
        let space = self.space();
        let (unit, header) = (self.unit(), self.chunk_header());
        let sizes = chunk.checked_add(2 * self.header())?;
        let units = u64::from(space.u8(sizes)?) + 1;
        let count = u32::from(space.u8(sizes.checked_add(1)?)?) + 1;
        let mut at = 0u64;
        for _ in 0..count {
            let address = chunk.checked_add(header + at * unit)?;
            let Some(md) = self.method_desc(address) else {
                out.because(format!("MethodDesc {address:x} is not in the dump"));
                return Some(());
            };
            out.items.push(md);
            // Each method says at which unit of the chunk it stands: that proves the size of the one before, and finds
            // the next one where a release changed a size. Most chunks hold their methods in the order of metadata.
            let holds = |p: u64| {
                let next = chunk.checked_add(header + p * unit)?;
                let index = space.u8(next.checked_add(2)?)?;
                (p < units && index == p as u8).then(|| self.method_desc(next)).flatten()
            };
            let expected = at + self.method_units(&md);
            let in_order = |p: &u64| holds(*p).is_some_and(|m| m.rid == md.rid + 1);
            let candidates = || std::iter::once(expected).chain(at + 1..units);
            match candidates().find(in_order).or_else(|| candidates().find(|&p| holds(p).is_some())) {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(())
    }

    /// The pointer at `offset` of a `MethodDescChunk`, a distance through 2.2.
    fn chunk_pointer(&self, chunk: u64, field: &str, offset: u64) -> Option<u64> {
        self.layout().pointer_at(self.space(), chunk.checked_add(offset)?, "MethodDescChunk", field)
    }

    /// Size of a MethodDesc with what follows it, in units.
    fn method_units(&self, md: &MethodDesc) -> u64 {
        // The optional slots: in the vtable's place, method implementations (two pointers), native code.
        let slots = u64::from(md.flags >> 3 & 1) + 2 * u64::from(md.flags >> 4 & 1) + u64::from(md.flags >> 5 & 1);
        self.method_base() / self.unit() + slots + self.class_units(md.class())
    }

    /// Bytes of the part all kinds of MethodDesc share: with a pointer to code data since 9.0.
    pub(super) fn method_base(&self) -> u64 {
        self.layout().try_offset("MethodDesc", "CodeData").map_or(8, |at| at + self.header())
    }

    fn token_bits(&self) -> u32 {
        self.layout().constant("MethodDescTokenRemainderBitCount").map_or(14, |b| b.clamp(1, 16) as u32)
    }

    /// What a kind of MethodDesc adds to the shared part, in units: `FCallMethodDesc`, `NDirectMethodDesc`,
    /// `EEImplMethodDesc`, `ArrayMethodDesc`, `InstantiatedMethodDesc`, `CLRToCOMCallMethodDesc`, `DynamicMethodDesc`. With
    /// units of four bytes what shares a unit of eight stands alone in the second and the last.
    fn class_units(&self, class: u16) -> u64 {
        let narrow = u64::from(self.unit() == 4);
        match class {
            1 => 1,
            2 => 7 + narrow,
            3 | 4 => 2,
            5 => 3,
            6 => 1,
            7 => 4 + narrow,
            _ => 0,
        }
    }

    /// The MethodDesc at `address`; `None` when it is not readable. It is not proved to be one.
    pub fn method_desc(&self, address: u64) -> Option<MethodDesc> {
        let space = self.space();
        let index = u64::from(space.u8(address.checked_add(2)?)?);
        let chunk = address.checked_sub(index * self.unit() + self.chunk_header())?;
        let owner = self.chunk_pointer(chunk, "MethodTable", 0)?;
        let bits = self.token_bits();
        let range = u32::from(space.u16(chunk.checked_add(2 * self.header() + 2)?)?) & (0x00FF_FFFF >> bits);
        let low = u32::from(space.u16(address)?) & ((1 << bits) - 1);
        let mut flags = space.u16(address.checked_add(6)?)?;
        if let Ok(mask) = self.layout().constant("MethodDescCodeSlotFlag2") {
            // In 3.1 the code slot is announced in the second flag byte; the bit it has since meant something else.
            let second = space.u8(address.checked_add(3)?)?;
            flags = flags & !CODE_SLOT | if u64::from(second) & mask != 0 { CODE_SLOT } else { 0 };
        }
        let slot = space.u16(address.checked_add(4)?)?;
        Some(MethodDesc { address, owner, rid: range << bits | low, slot, flags })
    }

    /// The MethodDesc at `address` if its chunk belongs to a MethodTable and it names a method of it.
    pub fn valid_method_desc(&self, address: u64) -> Option<MethodDesc> {
        if address == 0 || !address.is_multiple_of(self.unit()) {
            return None;
        }
        let md = self.method_desc(address)?;
        if md.is_dynamic() {
            return self.is_proved_dynamic(&md).then_some(md);
        }
        if md.rid == 0 {
            return None;
        }
        let mt = self.valid_type(md.owner)?;
        let module = self.module(self.defining_module(&mt)?);
        // An object begins with a MethodTable as a chunk does: its metadata tells whether the type has such a method. Rows
        // of a module made at run time may be younger than what the dump has of its metadata.
        let owner = module.metadata(self).map(|m| m.method_owner(md.rid));
        let right = owner.is_none_or(|o| o == Some(self.type_rid(&mt)) || module.dynamic && o.is_none());
        right.then_some(md)
    }

    /// Full name as SOS prints it: ``Zoo.Box`1[[System.__Canon, System.Private.CoreLib]].Put(System.__Canon)``.
    pub fn method_name(&self, md: &MethodDesc) -> String {
        self.method_name_in(md, md.owner)
    }

    /// The same with the type arguments of the instantiation `owner` of the method's class.
    pub fn method_name_in(&self, md: &MethodDesc, owner: u64) -> String {
        if let Some(name) = self.dynamic_method_name(md) {
            return name;
        }
        let Some(mt) = self.method_table(owner) else { return format!("MethodDesc {:x}", md.address) };
        let owner = self.type_name_long(owner);
        let arguments: Vec<TypeName> = self.type_arguments(&mt).iter().map(|&h| self.handle_tree(h)).collect();
        let module = self.defining_module(&mt).map(|m| self.module(m));
        let metadata = module.as_ref().and_then(|m| m.metadata(self));
        // A name that is empty lies in a page the dump lacks.
        let row = metadata.and_then(|m| Some((m, m.method(md.rid).filter(|r| !r.name.is_empty())?)));
        let Some((metadata, row)) = row else {
            return format!("{owner}.0x{:08x}", md.token());
        };
        let mvars: Vec<TypeName> = self.method_arguments(md).iter().map(|&h| self.handle_tree(h)).collect();
        let names = Instantiated { metadata, vars: &arguments, mvars: &mvars };
        let params = sig::method(row.signature).map_or_else(|| "(?)".into(), |s| s.print_params(&names));
        let mut of_method = String::new();
        if !mvars.is_empty() {
            let each: Vec<String> = mvars.iter().map(with_assembly).collect();
            of_method = format!("[[{}]]", each.join("],["));
        }
        format!("{owner}.{}{of_method}{params}", row.name)
    }

    /// Name of the method alone, without its class and parameters.
    pub fn method_simple_name(&self, md: &MethodDesc) -> Option<String> {
        let module = self.module(self.defining_module(&self.method_table(md.owner)?)?);
        Some(module.metadata(self)?.method(md.rid)?.name.to_owned())
    }

    /// Name of MethodDef row `rid` of the module at `module`, as far as metadata alone tells.
    pub fn method_name_of_row(&self, module: u64, rid: u32) -> Option<String> {
        let module = self.module(module);
        let metadata = module.metadata(self)?;
        let (row, owner) = (metadata.method(rid)?, metadata.method_owner(rid)?);
        let names = Instantiated { metadata, vars: &[], mvars: &[] };
        let params = sig::method(row.signature).map_or_else(|| "(?)".into(), |s| s.print_params(&names));
        Some(format!("{}.{}{params}", metadata.full_name(owner), row.name))
    }

    /// Type handles of the arguments of an instantiated generic method; empty for all others.
    pub fn method_arguments(&self, md: &MethodDesc) -> Vec<u64> {
        self.read_method_arguments(md).unwrap_or_default()
    }

    /// `InstantiatedMethodDesc`: layout or wrapped method, instantiation, u16 flags (kind in the low bits), u16 count.
    fn read_method_arguments(&self, md: &MethodDesc) -> Option<Vec<u64>> {
        /// `GenericMethodDefinition` among the kinds: its arguments are its own parameters.
        const DEFINITION: u16 = 0;
        if !md.is_generic() {
            return None;
        }
        let (space, base) = (self.space(), md.address.checked_add(self.method_base())?);
        let flags = base.checked_add(2 * self.header())?;
        let (kind, count) = (space.u16(flags)?, space.u16(flags.checked_add(2)?)?);
        let list = space.ptr(base.checked_add(self.header())?).filter(|&p| p != 0)?;
        if kind & 7 == DEFINITION || count == 0 || count > 256 {
            return None;
        }
        (0..u64::from(count)).map(|i| space.ptr_at(list, i * self.header())).collect()
    }

    /// Native code the MethodDesc itself leads to: the code slot behind it. `None` when it has no code there; precompiled
    /// code that was only reached through a stub is not found this way.
    pub fn native_code(&self, md: &MethodDesc) -> Option<u64> {
        if md.flags & CODE_SLOT == 0 {
            return None;
        }
        let before = u64::from(md.flags >> 3 & 1) + 2 * u64::from(md.flags >> 4 & 1) + self.class_units(md.class());
        let at = md.address.checked_add(self.method_base() + before * self.unit())?;
        self.space().ptr(at).map(|c| c & !1).filter(|&c| c != 0)
    }

    /// The method a precode stub at `code` stands for. Since 7.0 stubs are pages of code with their data a page further
    /// on, one data record a stub, in which the MethodDesc is the first or the second word (dotnet/runtime
    /// `src/coreclr/vm/precode.h`: `FixupPrecodeData` target, MethodDesc, fixup thunk; `StubPrecodeData` MethodDesc,
    /// target). Through 6.0 they hold it themselves (dotnet/coreclr v3.1.32 `src/vm/amd64/cgencpu.h`).
    pub fn method_of_stub(&self, code: u64) -> Option<MethodDesc> {
        let space = self.space();
        let back = |md: u64| self.valid_method_desc(md);
        // x64 since 7.0: FF 25 rel32 jumps through the data record; 4C 8B 15 rel32 loads the MethodDesc from it.
        let bytes = space.bytes(code, 8)?;
        let relative = |at: usize, end: u64| {
            let b = bytes.get(at..at + 4)?;
            let rel = i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            code.checked_add(end)?.checked_add_signed(i64::from(rel))
        };
        // arm64: ldr (literal) of the target and a jump, or of the MethodDesc second.
        let words = [
            u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?),
            u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?),
        ];
        let literal = |i: usize| {
            let distance = i64::from((words[i] << 8) as i32 >> 13) * 4;
            (words[i] >> 24 == 0x58).then(|| code.checked_add(4 * i as u64)?.checked_add_signed(distance)).flatten()
        };
        if let Some(first) = literal(0).filter(|_| self.dump.arch == Arch::Arm64) {
            return match literal(1) {
                Some(second) => space.ptr(second).and_then(back),
                None => space.ptr_at(first, 8).and_then(back),
            };
        }
        let absolute =
            |at: usize| bytes.get(at..at + 4).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        let x86 = self.dump.arch == Arch::X86;
        match bytes.get(..3)? {
            // x86: B8 loads the MethodDesc itself; since 7.0 the data record's place is in the code, not a distance.
            [0xB8, ..] if x86 => absolute(1).and_then(back),
            [0xA1, ..] if x86 => space.ptr(absolute(1)?).and_then(back),
            [0xFF, 0x25, _] if x86 => space.ptr_at(absolute(2)?, self.header()).and_then(back),
            // Through 6.0: a call or jump with, behind it, the places of the method and of the chunk's base.
            [0xE8 | 0xE9, ..] if matches!(bytes.get(5)?, 0x5E | 0x5F) => {
                let base = code.checked_add((u64::from(*bytes.get(7)?) + 1) * FIXUP_PRECODE)?;
                back(space.ptr(base)?.checked_add(u64::from(*bytes.get(6)?) * self.unit())?)
            }
            [0x49, 0xBA, _] => space.ptr(code.checked_add(2)?).and_then(back),
            [0xFF, 0x25, _] => space.ptr_at(relative(2, 6)?, 8).and_then(back),
            [0x4C, 0x8B, 0x15] => space.ptr(relative(3, 7)?).and_then(back),
            _ => None,
        }
    }

    /// What the slot of a method that is not in the vtable holds: its entry point, or a stub's.
    pub fn own_slot(&self, md: &MethodDesc) -> Option<u64> {
        if !md.has_own_slot() {
            return None;
        }
        let at = md.address.checked_add(self.method_base() + self.class_units(md.class()) * self.unit())?;
        let value = self.space().ptr(at).filter(|&c| c != 0)?;
        // Through 2.2 native images keep a distance there (`NonVtableSlot`).
        if self.layout().is_relative("MethodDescChunk", "MethodTable") && self.is_precompiled(md) {
            return relative_value(self.space(), at);
        }
        Some(value)
    }

    /// Whether the MethodDesc itself lies in its module's image: in a native image of 2.2 or older.
    fn is_precompiled(&self, md: &MethodDesc) -> bool {
        let module = self.method_table(md.owner).and_then(|mt| self.defining_module(&mt)).map(|m| self.module(m));
        module.is_some_and(|m| m.image_base != 0 && md.address.wrapping_sub(m.image_base) < m.size)
    }

    /// What vtable slot `slot` of `mt` holds. The vtable is cut into chunks of eight slots, pointed to from behind the
    /// fixed part of the MethodTable.
    pub fn vtable_slot(&self, mt: &MethodTable, slot: u16) -> Option<u64> {
        if slot >= mt.virtuals {
            return None;
        }
        let (space, ptr) = (self.space(), self.header());
        let fixed = self.layout().try_offset("MethodTable", "!").unwrap_or(64);
        let chunk = space.ptr_at(mt.address.checked_add(fixed)?, u64::from(slot / 8) * ptr)?;
        space.ptr_at(chunk, u64::from(slot % 8) * ptr)
    }
}

fn with_assembly(t: &TypeName) -> String {
    match t.assembly() {
        Some(assembly) => format!("{}, {assembly}", t.reflection()),
        None => t.reflection(),
    }
}
