//! Files of symbols that lie beside an image: what names them, and whether a file is the one.

use object::{Object, ObjectSection};

use super::image::{Format, Image};
use crate::dump::elf::image::ElfImage;
use crate::dump::images::{Refusal, hex};
use crate::dump::map::FileMap;
use crate::dump::{AddressSpace, Dump};

/// The PDB an image was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbName {
    /// Its file name.
    pub file: String,
    /// GUID as stored: the first three groups are little-endian.
    pub guid: [u8; 16],
    /// Age.
    pub age: u32,
}

impl PdbName {
    /// GUID and age as symbol stores name a folder: `A5E2F...1`.
    pub fn key(&self) -> String {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.guid;
        let head = [d, c, b, a, f, e, h, g];
        format!("{}{}{:X}", hex(&head).to_uppercase(), hex(&rest).to_uppercase(), self.age)
    }

    /// That of an image: what its debug directory says, else what the dump recorded.
    pub fn of(dump: &Dump, image: &Image) -> Option<Self> {
        in_image(&dump.space, image).or_else(|| {
            let m = dump.modules.get(image.index)?;
            let (guid, age) = m.pdb_id?;
            Some(Self { file: last(m.pdb.as_deref()?), guid, age })
        })
    }
}

impl super::Native {
    /// The PDB an image was built with, as far as the dump tells.
    pub fn pdb(&self, opened: &super::Opened) -> Option<PdbName> {
        PdbName::of(self.dump(), &opened.image)
    }
}

fn last(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}

/// The `RSDS` record of the debug directory (PE format specification, "Debug Type").
fn in_image(space: &AddressSpace, image: &Image) -> Option<PdbName> {
    const DEBUG: usize = 6;
    const CODE_VIEW: u32 = 2;
    let Format::Pe(pe) = &image.format else { return None };
    let (at, size) = pe.directory(DEBUG)?;
    (0..u64::from(size / 28).min(32)).find_map(|i| {
        let entry = u64::from(at) + i * 28;
        (image.u32(space, entry + 12)? == CODE_VIEW).then_some(())?;
        let place = u64::from(image.u32(space, entry + 20)?);
        (image.array(space, place)? == *b"RSDS").then_some(())?;
        let mut path = [0; 512];
        let n = image.read(space, place + 24, &mut path);
        let path = path.get(..n)?.split(|&b| b == 0).next()?;
        let (guid, age) = (image.array(space, place + 4)?, image.u32(space, place + 20)?);
        Some(PdbName { file: last(&String::from_utf8_lossy(path)), guid, age }).filter(|p| !p.file.is_empty())
    })
}

/// A file of symbols.
pub struct Found {
    /// The file.
    pub file: FileMap,
    /// Its place.
    pub path: String,
}

/// The PDB of an image, or why none was taken.
pub fn pdb(dump: &Dump, image: &Image, name: &PdbName) -> Result<Found, Vec<Refusal>> {
    let module = dump.modules.get(image.index).map_or("", |m| m.path.as_str());
    let keys = [name.key(), name.key().to_lowercase()];
    let is = |file: &FileMap| {
        super::pdb::identity(file).and_then(|found| match found.ages {
            _ if found.guid != name.guid => Err("it belongs to another build".to_owned()),
            // Tools that add to a PDB count it up, those that link leave theirs.
            (of_image, all) if of_image.unwrap_or(all) != name.age && all != name.age => {
                Err(format!("it belongs to another link of this build: age {} expected, {all} found", name.age))
            }
            _ => Ok(()),
        })
    };
    let (file, path) = dump.images.find_symbols(&name.file, module, &keys, is)?;
    Ok(Found { file, path: path.display().to_string() })
}

/// The file of debug information split off an ELF image.
pub fn split(dump: &Dump, image: &Image) -> Result<Found, Vec<Refusal>> {
    let Some(m) = dump.modules.get(image.index) else { return Err(Vec::new()) };
    let Some(id) = &m.build_id else { return Err(Vec::new()) };
    let is = |file: &FileMap| match ElfImage::read(&file[..], 0).and_then(|e| build_id(&e, file)) {
        Some(found) if found == *id => Ok(()),
        Some(found) => Err(format!("build id {} expected, {} found", hex(id), hex(&found))),
        None => Err(format!("build id {} expected, the file has none", hex(id))),
    };
    let (file, path) = dump.images.find_debug_file(id, &m.path, is)?;
    Ok(Found { file, path: path.display().to_string() })
}

/// The build id of a file, whose program headers may be those of the image it was split off: then they do not fit it and
/// its sections tell.
fn build_id(elf: &ElfImage, file: &FileMap) -> Option<Vec<u8>> {
    let by_section = || {
        let parsed = object::File::parse(&file[..]).ok()?;
        parsed.section_by_name(".note.gnu.build-id")?.data().ok()?.get(16..).map(<[u8]>::to_vec)
    };
    by_section().or_else(|| elf.build_id_in_file(file))
}
