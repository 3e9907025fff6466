//! What the cells of a precompiled image stand for, whether or not the runtime has filled them: methods that are called,
//! helpers of the runtime, strings, types.
//!
//! Format: dotnet/runtime `docs/design/coreclr/botr/readytorun-format.md` (import sections, fixup kinds, method
//! signatures), `src/coreclr/inc/readytorun.h` (`ReadyToRunHelper`).

use super::lookup::Code;
use super::nativeformat::Bytes;
use super::readytorun::{Image, View};
use crate::clr::Clr;
use crate::clr::il::names::plain_type;
use crate::clr::image::metadata::sig::{self, compressed};
use crate::clr::image::metadata::{Metadata, table, token};
use crate::clr::image::modules::Module;
use crate::clr::types::typename::{ModuleNames, TypeName};

/// `ReadyToRunSectionType::ImportSections`.
const IMPORT_SECTIONS: u32 = 101;
/// Bytes of a `READYTORUN_IMPORT_SECTION`.
const SECTION_SIZE: u32 = 20;
/// More sections than any image has.
const MAX_SECTIONS: u32 = 64;
/// Longest signature read, in bytes.
const MAX_SIGNATURE: usize = 0x200;

/// What a cell stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// Code of a method: its name, and its MethodDef token where it is one of the image's own module.
    Method(String, u32),
    /// A helper of the runtime.
    Helper(&'static str),
    /// A string, by its text.
    Text(String),
    /// A type.
    Type(String),
    /// Something that belongs to a type: what, and its name.
    OfType(&'static str, String),
}

/// `ReadyToRunFixupKind`.
mod fixup {
    pub const TYPE_HANDLE: u8 = 0x10;
    pub const METHOD_ENTRY: u8 = 0x13;
    pub const METHOD_ENTRY_DEF: u8 = 0x14;
    pub const METHOD_ENTRY_REF: u8 = 0x15;
    pub const VIRTUAL_ENTRY: u8 = 0x16;
    pub const VIRTUAL_ENTRY_DEF: u8 = 0x17;
    pub const VIRTUAL_ENTRY_REF: u8 = 0x18;
    pub const HELPER: u8 = 0x1A;
    pub const STRING_HANDLE: u8 = 0x1B;
    pub const DELEGATE_CTOR: u8 = 0x2C;
    pub const INDIRECT_PINVOKE: u8 = 0x2E;
    pub const PINVOKE: u8 = 0x2F;
    /// The tokens are of another module.
    pub const MODULE_OVERRIDE: u8 = 0x80;
}

/// What stands behind a fixup with a type.
fn of_type(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x1C => "new",
        0x1D => "new array",
        0x1E => "is instance of",
        0x1F => "cast to",
        0x21 => "static constructor of",
        0x22 => "statics of",
        0x23 => "object statics of",
        0x24 => "thread statics of",
        0x25 => "object thread statics of",
        _ => return None,
    })
}

/// `ReadyToRunHelper`.
fn helper(number: u32) -> Option<&'static str> {
    Some(match number {
        0x01 => "Module",
        0x02 => "GSCookie",
        0x03 => "IndirectTrapThreads",
        0x08 => "DelayLoad_MethodCall",
        0x10 => "DelayLoad_Helper",
        0x11 => "DelayLoad_Helper_Obj",
        0x12 => "DelayLoad_Helper_ObjObj",
        0x20 => "Throw",
        0x21 => "Rethrow",
        0x22 => "Overflow",
        0x23 => "RngChkFail",
        0x24 => "FailFast",
        0x25 => "ThrowNullRef",
        0x26 => "ThrowDivZero",
        0x30 => "WriteBarrier",
        0x31 => "CheckedWriteBarrier",
        0x32 => "ByRefWriteBarrier",
        0x38 => "Stelem_Ref",
        0x39 => "Ldelema_Ref",
        0x40 => "MemSet",
        0x41 => "MemCpy",
        0x42 => "PInvokeBegin",
        0x43 => "PInvokeEnd",
        0x44 => "GCPoll",
        0x45 => "ReversePInvokeEnter",
        0x46 => "ReversePInvokeExit",
        0x50 => "GetString",
        0x54 => "GetRuntimeTypeHandle",
        0x55 => "GetRuntimeMethodHandle",
        0x56 => "GetRuntimeFieldHandle",
        0x58 => "Box",
        0x59 => "Box_Nullable",
        0x5A => "Unbox",
        0x5B => "Unbox_Nullable",
        0x5C => "NewMultiDimArr",
        0x60 => "NewObject",
        0x61 => "NewArray",
        0x62 => "CheckCastAny",
        0x63 => "CheckInstanceAny",
        0x64 => "GenericGcStaticBase",
        0x65 => "GenericNonGcStaticBase",
        0x66 => "GenericGcTlsBase",
        0x67 => "GenericNonGcTlsBase",
        0x68 => "VirtualFuncPtr",
        0xF0 => "PersonalityRoutine",
        0xF1 => "PersonalityRoutineFilterFunclet",
        0xF8 => "MonitorEnter",
        0xF9 => "MonitorExit",
        _ => return None,
    })
}

impl Code<'_> {
    /// What the cell at `address` stands for, if it is one of a precompiled image.
    pub fn import(&self, address: u64) -> Option<Import> {
        let (index, module) = self.image_around(address)?;
        let of = self.clr().module(module);
        self.with_image(index, |image, view| read(self.clr(), &of, image, view, address))
    }
}

fn read(clr: &Clr, module: &Module, image: &Image, view: &View<'_>, address: u64) -> Option<Import> {
    let rva = u32::try_from(address.checked_sub(image.base)?).ok()?;
    let (table, size) = image.section(IMPORT_SECTIONS)?;
    let count = (size / SECTION_SIZE).min(MAX_SECTIONS);
    let word = |at: u32, offset: u32| view.u32(at.checked_add(offset)?);
    let around = (0..count).map_while(|i| table.checked_add(i * SECTION_SIZE)).find(|&s| {
        let (start, length) = (word(s, 0).unwrap_or(0), word(s, 4).unwrap_or(0));
        rva.checked_sub(start).is_some_and(|d| d < length)
    })?;
    let entry = u32::from(view.byte(around.checked_add(11)?)?);
    let signatures = word(around, 12).filter(|&s| s != 0 && entry != 0)?;
    let number = (rva - word(around, 0)?) / entry;
    let at = view.u32(signatures.checked_add(number.checked_mul(4)?)?)?;
    decode(clr, module, &view.run(at, MAX_SIGNATURE))
}

/// What a fixup's signature says.
fn decode(clr: &Clr, module: &Module, bytes: &[u8]) -> Option<Import> {
    let (&kind, mut rest) = bytes.split_first()?;
    if kind & fixup::MODULE_OVERRIDE != 0 {
        return None;
    }
    if kind == fixup::HELPER {
        return helper(compressed(&mut rest)?).map(Import::Helper);
    }
    let m = module.metadata(clr)?;
    match kind {
        fixup::METHOD_ENTRY_DEF | fixup::VIRTUAL_ENTRY_DEF => {
            let rid = compressed(&mut rest)?;
            Some(Import::Method(clr.method_name_of_row(module.address, rid)?, token(table::METHOD_DEF, rid)))
        }
        fixup::METHOD_ENTRY_REF | fixup::VIRTUAL_ENTRY_REF => {
            Some(Import::Method(member(m, compressed(&mut rest)?)?, 0))
        }
        fixup::METHOD_ENTRY
        | fixup::VIRTUAL_ENTRY
        | fixup::DELEGATE_CTOR
        | fixup::INDIRECT_PINVOKE
        | fixup::PINVOKE => method(clr, module, m, rest),
        fixup::STRING_HANDLE => {
            let units = m.user_string(compressed(&mut rest)?)?;
            Some(Import::Text(String::from_utf16_lossy(&units)))
        }
        fixup::TYPE_HANDLE => type_name(clr, module, m, rest).map(Import::Type),
        other => Some(Import::OfType(of_type(other)?, type_name(clr, module, m, rest)?)),
    }
}

/// A method signature: flags, the owner where it is told, then the token.
fn method(clr: &Clr, module: &Module, m: &Metadata, mut rest: &[u8]) -> Option<Import> {
    const SLOT: u32 = 0x08;
    const MEMBER_REF: u32 = 0x10;
    const OWNER: u32 = 0x40;
    const CONTEXT: u32 = 0x80;
    let flags = compressed(&mut rest)?;
    // The owner's length is not told: its instantiation would have to be read to find the token.
    if flags & (SLOT | OWNER | CONTEXT) != 0 {
        return None;
    }
    let rid = compressed(&mut rest)?;
    if flags & MEMBER_REF != 0 {
        return member(m, rid).map(|name| Import::Method(name, 0));
    }
    Some(Import::Method(clr.method_name_of_row(module.address, rid)?, token(table::METHOD_DEF, rid)))
}

/// Type, name and parameters of a MemberRef.
fn member(m: &Metadata, rid: u32) -> Option<String> {
    let row = m.memberref(rid)?;
    let owner = row.parent.map(|p| plain_type(m, p)).unwrap_or_default();
    let params = sig::method(row.signature).map(|s| s.print_params(m)).unwrap_or_default();
    Some(format!("{owner}.{}{params}", row.name))
}

fn type_name(clr: &Clr, module: &Module, m: &Metadata, bytes: &[u8]) -> Option<String> {
    let names = ModuleNames::new(m, module.assembly_name(clr).into(), &[]);
    Some(TypeName::from_sig(&sig::type_spec(bytes)?, &names).display())
}
