//! What is missing of an image to unwind and name its code, with the keys by which symbol stores have it.

use super::debugfiles::PdbName;
use super::image::Format;
use super::symbols::Kind;
use super::unwind::Unwinder;
use super::{Native, Opened};
use crate::dump::images::hex;

/// A file that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is: `image` or `symbols`.
    pub what: &'static str,
    /// Its name.
    pub file: String,
    /// What identifies it: PE time stamp and size, PDB GUID and age, ELF build id; `None` when the dump does not tell.
    pub key: Option<String>,
    /// Its path in a symbol store (dotnet/symstore `docs/specs/SSQP_Key_Conventions.md`).
    pub store_path: Option<String>,
}

impl Native {
    /// Files that would tell more of the code of an image.
    pub fn missing(&self, opened: &Opened) -> Vec<Missing> {
        let image = &opened.image;
        let Some(m) = self.dump().modules.get(image.index) else { return Vec::new() };
        let (kind, name) = (self.symbols(opened).kind, m.file_name().to_owned());
        let unwinds = !matches!(self.unwinder(opened), Unwinder::None);
        let mut out = Vec::new();
        let of_pe = m.timestamp.zip(m.image_size).map(|(t, s)| format!("{t:08X}{s:x}"));
        let (elf, pe) = (matches!(image.format, Format::Elf(_)), matches!(image.format, Format::Pe(_)));
        let pe = pe || (of_pe.is_some() && !elf);
        let build_id = m.build_id.as_deref().map(hex);
        if image.file.is_none() && (!unwinds || matches!(kind, Kind::None)) {
            let key = if pe { of_pe } else { build_id.as_ref().map(|id| format!("elf-buildid-{id}")) };
            let lower = name.to_lowercase();
            let store_path = key.as_ref().map(|k| format!("{lower}/{k}/{lower}"));
            out.push(Missing { what: "image", file: name.clone(), key, store_path });
        }
        if matches!(kind, Kind::None | Kind::Exports) {
            let pdb = PdbName::of(self.dump(), image);
            let missing = match (pe, pdb, build_id) {
                (true, Some(pdb), _) => {
                    let (key, file) = (pdb.key(), pdb.file);
                    let store_path = Some(format!("{file}/{key}/{file}"));
                    Missing { what: "symbols", file, key: Some(key), store_path }
                }
                (false, _, Some(id)) => {
                    let key = format!("elf-buildid-sym-{id}");
                    let store_path = Some(format!("_.debug/{key}/_.debug"));
                    Missing { what: "symbols", file: format!("{name}.dbg"), key: Some(key), store_path }
                }
                (true, ..) => {
                    let file = format!("{}.pdb", m.stem());
                    Missing { what: "symbols", file, key: None, store_path: None }
                }
                _ => Missing { what: "symbols", file: format!("{name}.dbg"), key: None, store_path: None },
            };
            out.push(missing);
        }
        out
    }

    /// Whether an image holds code of the runtime's JIT or compiler alone: its symbols are metadata.
    pub fn is_managed(&self, opened: &Opened) -> bool {
        const CLI_HEADER: usize = 14;
        matches!(&opened.image.format, Format::Pe(pe) if pe.directory(CLI_HEADER).is_some())
    }
}
