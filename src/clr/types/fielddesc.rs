//! FieldDescs: the runtime's records of the fields a class declares itself.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/field.h` (unchanged from 3.1 to 10: 16 bytes, the MethodTable, then two words
//! of bit fields) and `class.h` for the counts, which are packed or plain 32-bit words through .NET 8.

use super::methodtable::{MethodTable, MtReader};
use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::{Layout, Missing, relative_pointer};
use crate::dump::AddressSpace;

/// More fields than any class has (the runtime's own limit is 65,535).
const MAX_FIELDS: u32 = 0x1_0000;

/// One FieldDesc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDesc {
    /// Its address.
    pub address: u64,
    /// MethodTable that declares it (the canonical one of an instantiation).
    pub owner: u64,
    /// Row in the module's Field table.
    pub rid: u32,
    /// Static, thread statics included.
    pub is_static: bool,
    /// `[ThreadStatic]`, in CLR 2.0 `[ContextStatic]` too.
    pub is_thread_static: bool,
    /// Lives in the image (`.data` with an RVA).
    pub is_rva: bool,
    /// Offset in bytes, from the first field or in its statics storage.
    pub offset: u32,
    /// Element type; every reference is a class (0x12) here.
    pub element_type: u8,
}

/// Counts an EEClass keeps of its fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instance fields, inherited ones included.
    pub instance: u32,
    /// Methods.
    pub methods: u32,
    /// Static fields, thread statics included.
    pub statics: u32,
    /// Virtual slots that are not in the vtable.
    pub non_virtual_slots: u32,
}

/// The counts of the class of `mt`.
pub fn counts(space: &AddressSpace, l: &Layout, mts: &MtReader, mt: &MethodTable) -> Result<Option<Counts>, Missing> {
    let Some(class) = mts.eeclass(space, mt) else { return Ok(None) };
    if let Some(fixed) = l.try_offset("EEClass", "FixedSize") {
        let packed = space.u8(class.saturating_add(l.offset("EEClass", "Packed")?));
        let size = space.u8(class.saturating_add(fixed));
        let (Some(packed), Some(size)) = (packed, size) else { return Ok(None) };
        let at = class.saturating_add(u64::from(size));
        let words = if packed == 0 { plain(space, at) } else { unpack(space, at) };
        return Ok(words.map(|w| Counts { instance: w[0], methods: w[1], statics: w[2], non_virtual_slots: w[10] }));
    }
    let half = |f| Ok(space.u16(class.saturating_add(l.offset("EEClass", f)?)).map(u32::from));
    if mts.has_element_types() {
        // CLR 2.0 counts its methods in their chunks alone.
        let fields = half("NumInstanceFields")?.zip(half("NumStaticFields")?);
        return Ok(fields.map(|(instance, statics)| Counts { instance, statics, ..Counts::default() }));
    }
    Ok(match (half("NumInstanceFields")?, half("NumStaticFields")?, half("NumMethods")?) {
        (Some(instance), Some(statics), Some(methods)) => {
            let non_virtual_slots = half("NumNonVirtualSlots")?.unwrap_or(0);
            Some(Counts { instance, methods, statics, non_virtual_slots })
        }
        _ => None,
    })
}

fn plain(space: &AddressSpace, at: u64) -> Option<[u32; 11]> {
    let mut words = [0; 11];
    for (i, w) in words.iter_mut().enumerate() {
        *w = space.u32(at.checked_add(4 * i as u64)?)?;
    }
    Some(words)
}

/// Bit stream of precompiled images: for each value five bits of length minus one, then the value.
fn unpack(space: &AddressSpace, at: u64) -> Option<[u32; 11]> {
    let bits = space.bytes(at, 11 * 5)?;
    let mut position = 0usize;
    let mut take = |n: usize| {
        let mut v = 0u32;
        for i in 0..n {
            let byte = bits.get((position + i) / 8)?;
            v |= u32::from(byte >> ((position + i) % 8) & 1) << i;
        }
        position += n;
        Some(v)
    };
    let mut words = [0; 11];
    for w in &mut words {
        let length = take(5)? as usize + 1;
        *w = take(length)?;
    }
    Some(words)
}

/// The FieldDescs `mt`'s own class declares: instance fields first, then statics.
pub fn read(clr: &Clr, mt: &MethodTable) -> Result<Gathered<FieldDesc>, Missing> {
    list(clr.space(), clr.layout(), clr.mts(), mt)
}

/// As [`read`], before there is a runtime: the layout itself is under test.
pub fn list(
    space: &AddressSpace,
    l: &Layout,
    mts: &MtReader,
    mt: &MethodTable,
) -> Result<Gathered<FieldDesc>, Missing> {
    let mut out = Gathered::default();
    let Some(own) = counts(space, l, mts, mt)? else {
        out.because(format!("the EEClass of {:x} is not in the dump", mt.address));
        return Ok(out);
    };
    let inherited = match mts.read(space, mt.parent) {
        Some(parent) => counts(space, l, mts, &parent)?.unwrap_or_default().instance,
        None => 0,
    };
    let count = own.instance.saturating_sub(inherited).saturating_add(own.statics);
    let list = mts.eeclass(space, mt).and_then(|c| l.pointer(space, c, "EEClass", "FieldDescList"));
    let Some(list) = list.filter(|_| count > 0) else { return Ok(out) };
    if count > MAX_FIELDS {
        out.because(format!("{count} fields are more than a class can have"));
        return Ok(out);
    }
    let records = Records::of(l)?;
    let ptr = u64::from(space.ptr_size());
    for i in 0..u64::from(count) {
        let address = list.saturating_add(i * (ptr + 8));
        match records.read(space, address) {
            Some(f) => out.items.push(f),
            None => {
                out.because(format!("FieldDesc {address:x} is not in the dump"));
                break;
            }
        }
    }
    Ok(out)
}

/// How FieldDescs are stored.
#[derive(Debug, Clone, Copy)]
pub struct Records {
    /// Whether all 24 bits of a token are always stored (9.0 and later).
    wide_tokens: bool,
    /// Whether the owner is stored as distance (through 2.2).
    relative_owner: bool,
    /// Bit of fields that live in the image: in CLR 2.0 that of context statics stands in front of it, which like those of a thread
    /// are not among the statics of the module.
    rva_bit: u32,
}

impl Records {
    /// As the layout says.
    pub fn of(l: &Layout) -> Result<Self, Missing> {
        let wide_tokens = l.constant("FieldDescTokenBits")? == 24;
        let rva_bit = l.constant("FieldDescRvaBit").map_or(26, |bit| (bit & 31) as u32);
        Ok(Self { wide_tokens, relative_owner: l.is_relative("FieldDesc", "MTOfEnclosingClass"), rva_bit })
    }

    /// The record at `address`.
    pub fn read(self, space: &AddressSpace, address: u64) -> Option<FieldDesc> {
        let ptr = u64::from(space.ptr_size());
        let owner = if self.relative_owner { relative_pointer(space, address)? } else { space.ptr(address)? };
        let (a, b) = (space.u32(address.checked_add(ptr)?)?, space.u32(address.checked_add(ptr + 4)?)?);
        // Through .NET 8 a token of up to 17 bits leaves its upper bits to other uses, marked by bit 30 being clear.
        let mask = if self.wide_tokens || a & 1 << 30 != 0 { 0x00FF_FFFF } else { 0x0001_FFFF };
        Some(FieldDesc {
            address,
            owner,
            rid: a & mask,
            is_static: a & 1 << 24 != 0,
            is_thread_static: a & ((1 << self.rva_bit) - (1 << 25)) != 0,
            is_rva: a >> self.rva_bit & 1 != 0,
            offset: b & 0x07FF_FFFF,
            element_type: (b >> 27) as u8,
        })
    }
}
