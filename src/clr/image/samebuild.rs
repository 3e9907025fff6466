//! Whether metadata is of the build that runs: its types against those in memory. For files that nothing else proves to be
//! the right ones.

use super::metadata::Metadata;
use crate::clr::Clr;
use crate::clr::types::fielddesc;

/// Types looked at.
const MAX_TYPES: usize = 4096;
/// `tdInterface`.
const INTERFACE: u32 = 0x20;

/// What of a type in memory `metadata` cannot describe; `None` when all that is loaded of the module at `module` fits it.
///
/// A loaded type has a FieldDesc for every field that is no constant, each with its row (dotnet/runtime
/// `src/coreclr/vm/field.h`): rows shift with any type, field or method that was added or taken away.
pub fn contradiction(clr: &Clr, module: u64, metadata: &Metadata) -> Option<String> {
    let loaded = clr.loaded_types(module).items;
    loaded.iter().filter(|t| t.0 != 0).take(MAX_TYPES).find_map(|&(rid, mt)| one(clr, rid, mt, metadata))
}

fn one(clr: &Clr, rid: u32, mt: u64, metadata: &Metadata) -> Option<String> {
    let table = clr.valid_type(mt)?;
    let Some(typedef) = metadata.typedef(rid) else {
        return Some(format!("there is a type {:08x} in memory", 0x0200_0000 | rid));
    };
    let name = || metadata.full_name(rid);
    if (typedef.flags & INTERFACE != 0) != table.is_interface() {
        return Some(format!("{} is an interface in one of the two", name()));
    }
    let descs = fielddesc::read(clr, &table).ok().filter(|d| d.partial.is_none())?;
    let mut wanted: Vec<(u32, bool)> = metadata
        .fields_of(rid)
        .filter_map(|f| Some((f, metadata.field(f)?)))
        .filter(|(_, f)| !f.is_literal())
        .map(|(rid, f)| (rid, f.is_static()))
        .collect();
    let mut found: Vec<(u32, bool)> = descs.items.iter().map(|d| (d.rid, d.is_static)).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    (wanted != found).then(|| format!("{} has other fields in memory", name()))
}
