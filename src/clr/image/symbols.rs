//! Portable PDBs: inside the image, or a file of the same identity.
//!
//! Format: dotnet/runtime `docs/design/specs/PE-COFF.md` (CodeView and embedded entries of the debug directory),
//! `PortablePdb-Metadata.md` (identity: the GUID of the CodeView record and the time stamp of its entry); names in symbol
//! stores: dotnet/symstore `docs/specs/SSQP_Key_Conventions.md`.

use std::io::Read;

use super::metadata::Metadata;
use super::metadata::debug::{SourceLine, Symbols};
use super::modules::Module;
use super::pe::{PdbId, PeInfo};
use crate::clr::Clr;

/// Largest embedded PDB unpacked, in bytes.
const MAX_EMBEDDED: u32 = 1 << 28;

impl Module {
    /// Its portable PDB, or why there is none.
    pub fn symbols(&self, clr: &Clr) -> Result<&Symbols, &str> {
        self.symbols.get_or_init(|| find(clr, self)).as_ref().map_err(String::as_str)
    }
}

fn find(clr: &Clr, module: &Module) -> Result<Symbols, String> {
    let in_dump = PeInfo::in_memory(clr.space(), module.image_base).ok();
    if let Some(pe) = in_dump.as_ref()
        && let Some((at, size)) = pe.embedded_pdb
        && let Some(place) = module.image_base.checked_add(at)
        && let Some(tables) = clr.space().bytes(place, size.min(MAX_EMBEDDED) as usize).and_then(|b| unpack(&b))
    {
        return Ok(Symbols { tables, from: format!("the image of {} in the dump", module.file_name()) });
    }
    // The image of a heap dump often lacks what names its symbols.
    let file = module.image_file(clr);
    if let Ok(image) = file
        && let Some((at, size)) = image.pe.embedded_pdb
        && let Some(bytes) = usize::try_from(at).ok().and_then(|at| image.file.get(at..at.checked_add(size as usize)?))
        && let Some(tables) = unpack(bytes)
    {
        return Ok(Symbols { tables, from: format!("the image {}", image.path) });
    }
    let named = in_dump.and_then(|p| p.pdb).or_else(|| file.ok()?.pe.pdb.clone());
    match named {
        Some(id) => from_file(clr, module, &id),
        None => Err(format!("what names the symbols of {} is not in the dump", module.file_name())),
    }
}

fn from_file(clr: &Clr, module: &Module, id: &PdbId) -> Result<Symbols, String> {
    let name = id.path.rsplit(['/', '\\']).next().unwrap_or(&id.path);
    // In symbol stores portable PDBs are filed below GUID and `ffffffff`.
    let key = format!("{}ffffffff", id.guid_text().replace('-', ""));
    let is = |file: &crate::dump::map::FileMap| {
        let tables = Metadata::in_map(file.clone(), 0..file.len()).map_err(|_| "it is no portable PDB".to_owned())?;
        let found = tables.pdb_identity().ok_or("it is no portable PDB")?;
        // A few writers leave the stamp out.
        let stamp = found.last_chunk().map_or(0, |s| u32::from_le_bytes(*s));
        let same = found.starts_with(&id.guid) && (stamp == id.stamp || id.stamp == 0);
        same.then_some(()).ok_or_else(|| "it belongs to another build".to_owned())
    };
    match clr.dump.images.find_symbols(name, &module.path, &[key], is) {
        Ok((file, path)) => {
            let size = file.len();
            let tables = Metadata::in_map(file, 0..size).map_err(|e| e.to_string())?;
            Ok(Symbols { tables, from: path.display().to_string() })
        }
        Err(refused) if refused.is_empty() => Err(format!("no {name} was found; give its folder with -i FOLDER")),
        Err(refused) => {
            let each: Vec<String> = refused.iter().map(|r| format!("{}: {}", r.path.display(), r.why)).collect();
            Err(each.join("; "))
        }
    }
}

/// Unpacks an embedded PDB: `MPDB`, its size unpacked, and what deflate made of it.
fn unpack(bytes: &[u8]) -> Option<Metadata> {
    let packed = bytes.strip_prefix(b"MPDB")?;
    let (size, packed) = packed.split_first_chunk::<4>()?;
    let size = u32::from_le_bytes(*size).min(MAX_EMBEDDED);
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(packed).take(u64::from(size)).read_to_end(&mut out).ok()?;
    Metadata::parse(out).ok()
}

impl Clr {
    /// The source line of the IL at `offset` of method `row` of the module at `module`.
    pub fn source_line(&self, module: u64, row: u32, offset: u32) -> Option<SourceLine> {
        self.module(module).symbols(self).ok()?.tables.source_line(row, offset)
    }

    /// Slot and name of the local variables in scope at IL `offset` of method `row` of the module at `module`.
    pub fn local_names(&self, module: u64, row: u32, offset: u32) -> Vec<(u16, String)> {
        let module = self.module(module);
        let Ok(symbols) = module.symbols(self) else { return Vec::new() };
        symbols.tables.local_names(row, offset).into_iter().map(|(slot, name)| (slot, name.to_owned())).collect()
    }
}
