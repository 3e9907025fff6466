//! The image of a program: its modules' ReadyToRun headers and their sections.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/RuntimeInstance.h`, `TypeManager.h`, `inc/ModuleHeaders.h` and
//! `src/coreclr/tools/Common/Internal/Runtime/ModuleHeaders.cs`.

use crate::clr::layout::Layout;
use crate::dump::AddressSpace;

use super::format::Blob;

/// `RTR\0`.
pub const SIGNATURE: u32 = u32::from_le_bytes(*b"RTR\0");
/// Sections of a header: real ones have 34 to 40.
const MAX_SECTIONS: u16 = 400;
/// Modules of a process: one, two with a library of its own.
const MAX_MODULES: usize = 64;
/// Largest section read: those of large programs have some megabytes.
const MAX_SECTION: u64 = 1 << 30;

/// Ids of sections, and of reflection blobs among them.
pub mod section {
    /// Cells of the static bases with references.
    pub const GC_STATICS: u32 = 201;
    /// Cells that lead to the `TypeManager`.
    pub const TYPE_MANAGER: u32 = 204;
    /// Objects made at compile time, string literals among them.
    pub const FROZEN: u32 = 206;
    /// Blob: MethodTables and their definitions in metadata.
    pub const TYPE_MAP: u32 = 301;
    /// Blob: methods that can be called by reflection.
    pub const INVOKE_MAP: u32 = 306;
    /// Blob: pointers that other blobs refer to by number.
    pub const FIXUPS: u32 = 308;
    /// Blob: fields that can be read by reflection.
    pub const FIELD_MAP: u32 = 309;
    /// Blob: native metadata.
    pub const METADATA: u32 = 313;
    /// Blob: types that tables of instantiations refer to by number.
    pub const NATIVE_REFERENCES: u32 = 331;
    /// Blob: what refers to static bases of instantiations, by number.
    pub const NATIVE_STATICS: u32 = 333;
    /// Blob: instantiations and the numbers of their statics.
    pub const STATICS_TABLE: u32 = 334;
    /// Blob: methods by the address of their code, for stack traces.
    pub const STACK_TRACE_MAP: u32 = 327;
}

/// The ReadyToRun header of a module.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Where it lies.
    pub address: u64,
    /// Version of its format.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Id, start and one past the end of each section; the end is 0 where it is not recorded.
    pub sections: Vec<(u32, u64, u64)>,
}

impl Header {
    /// Reads the header at `address`; `None` where there is none.
    pub fn read(space: &AddressSpace, address: u64) -> Option<Self> {
        let at = |o: u64| address.checked_add(o);
        let size = u64::from(space.u8(at(14)?)?);
        let count = space.u16(at(12)?)?;
        if space.u32(address)? != SIGNATURE || !(size == 16 || size == 24) || count > MAX_SECTIONS {
            return None;
        }
        let mut sections = Vec::with_capacity(count.into());
        for i in 0..u64::from(count) {
            let entry = at(16 + i * size)?;
            let start = space.u64(entry.checked_add(8)?)?;
            // Through 10.0 a flag says whether the end is recorded, since then there is the length.
            let second = space.u32(entry.checked_add(4)?)?;
            let end = match size {
                16 => start.checked_add(second.into())?,
                _ if second & 1 != 0 => space.u64(entry.checked_add(16)?)?,
                _ => 0,
            };
            sections.push((space.u32(entry)?, start, end));
        }
        let (major, minor) = (space.u16(at(4)?)?, space.u16(at(6)?)?);
        Some(Self { address, major, minor, sections })
    }

    /// Start and end of a section.
    pub fn section(&self, id: u32) -> Option<(u64, u64)> {
        self.sections.iter().find(|s| s.0 == id).map(|s| (s.1, s.2)).filter(|s| s.1 >= s.0)
    }

    /// Start of a section, whether its end is recorded or not.
    pub fn start(&self, id: u32) -> Option<u64> {
        self.sections.iter().find(|s| s.0 == id).map(|s| s.1)
    }

    /// The bytes of a section; `None` where it is not there, not whole in the dump or larger than any.
    pub fn blob(&self, space: &AddressSpace, id: u32) -> Option<Blob> {
        let (start, end) = self.section(id)?;
        let length = (end - start).min(MAX_SECTION);
        if !space.holds(start, length) {
            return None;
        }
        Some(Blob { address: start, bytes: space.bytes(start, length as usize)? })
    }
}

/// A module of the program: its `TypeManager` and header.
#[derive(Debug, Clone, Default)]
pub struct AotModule {
    /// Address of the `TypeManager`.
    pub manager: u64,
    /// Base of the image.
    pub base: u64,
    /// Its header.
    pub header: Header,
}

/// The modules that the `RuntimeInstance` at `instance` lists.
pub fn modules(space: &AddressSpace, layout: &Layout, instance: u64) -> Vec<AotModule> {
    let mut found: Vec<AotModule> = Vec::new();
    let field = |of: u64, ty: &str, name: &str| space.ptr_at(of, layout.try_offset(ty, name)?);
    let mut entry = field(instance, "RuntimeInstance", "TypeManagerList").unwrap_or(0);
    for _ in 0..MAX_MODULES {
        let manager = if entry == 0 { None } else { field(entry, "TypeManagerEntry", "TypeManager") };
        let Some(manager) = manager else { break };
        let module = || {
            let header = Header::read(space, field(manager, "TypeManager", "Header")?)?;
            Some(AotModule { manager, base: field(manager, "TypeManager", "OsModule")?, header })
        };
        if found.iter().any(|m| m.manager == manager) {
            break;
        }
        found.extend(module());
        entry = field(entry, "TypeManagerEntry", "Next").unwrap_or(0);
    }
    found
}
