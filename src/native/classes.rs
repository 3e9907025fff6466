//! Classes with their members, and names of data, as an image or the file split off it has them: for readers that know
//! what the names stand for.

use std::sync::Arc;

use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, EndianArcSlice, LittleEndian, Reader, Unit, UnitOffset};
use object::{Object, ObjectSymbol};
use rustc_hash::FxHashMap;

use super::image::Format;
use super::lines;
pub use super::members::{Member, MemberType};
use super::{Native, Opened, PdbName, debugfiles, pdb};
use crate::dump::map::FileMap;

type Slice = EndianArcSlice<LittleEndian>;

/// Classes and symbols of a file: real ones have some 100,000.
const MAX_CLASSES: usize = 1 << 22;
/// Types of a member that stand for another, followed to the last.
const MAX_STEPS: usize = 16;

/// Classes by name, without those they derive from, and data by name.
#[derive(Debug, Default)]
pub struct Classes {
    /// Members of each class that is described.
    pub members: FxHashMap<Arc<str>, Vec<Member>>,
    /// Wanted names of the linker's table, with their addresses.
    pub data: Vec<(String, u64)>,
    /// The file.
    pub file: String,
}

impl Native {
    /// Classes of the image that holds `address` and symbols that are `wanted`, from itself, the file split off it or its PDB;
    /// `None` where none has classes.
    pub fn classes(&self, address: u64, wanted: impl Fn(&str) -> bool + Copy) -> Option<Classes> {
        let opened = self.image_at(address)?;
        let elf = match &opened.image.format {
            Format::Elf(elf) => elf,
            Format::Pe(_) => return self.classes_of_pdb(opened, wanted),
            Format::Unknown => return None,
        };
        let own = opened.image.file.as_ref().map(|f| (f.file.clone(), f.path.display().to_string()));
        let split = || debugfiles::split(self.dump(), &opened.image).ok().map(|f| (f.file, f.path));
        let read = |(file, path): (FileMap, String)| {
            let mut classes = Classes { file: path, ..Classes::default() };
            classes.read(&file, opened.image.base.wrapping_sub(elf.low), wanted);
            (!classes.members.is_empty()).then_some(classes)
        };
        own.and_then(read).or_else(|| split().and_then(read))
    }

    /// Those of the PDB that the image was built with.
    fn classes_of_pdb(&self, opened: &Opened, wanted: impl Fn(&str) -> bool) -> Option<Classes> {
        let image = &opened.image;
        let found = debugfiles::pdb(self.dump(), image, &PdbName::of(self.dump(), image)?).ok()?;
        let members = pdb::classes(&found.file).ok().filter(|m| !m.is_empty())?;
        let named = self.symbols(opened).iter().filter(|s| wanted(s.name));
        let data = named.map(|s| (s.name.to_owned(), image.base.wrapping_add(s.rva)));
        Some(Classes { members, data: data.take(MAX_CLASSES).collect(), file: found.path })
    }
}

impl Classes {
    fn read(&mut self, file: &FileMap, bias: u64, wanted: impl Fn(&str) -> bool) {
        let Ok(parsed) = object::File::parse(&file[..]) else { return };
        let Some(dwarf) = lines::dwarf(&parsed) else { return };
        let named = parsed.symbols().filter(|s| s.is_definition() && s.address() != 0);
        let named = named.filter_map(|s| {
            let name = s.name().ok().filter(|n| wanted(n))?;
            Some((name.to_owned(), bias.wrapping_add(s.address())))
        });
        self.data = named.take(MAX_CLASSES).collect();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            if let Ok(unit) = dwarf.unit(header) {
                // A damaged unit is read as far as it goes.
                let _ = self.unit(&dwarf, &unit);
            }
        }
    }

    fn unit(&mut self, dwarf: &Dwarf<Slice>, unit: &Unit<Slice>) -> Result<(), gimli::Error> {
        let mut types: FxHashMap<UnitOffset, Type> = FxHashMap::default();
        let mut classes: Vec<(Arc<str>, Vec<Unresolved>)> = Vec::new();
        // The class whose children are read, and how deep it lies.
        let mut inside: Option<isize> = None;
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            let depth = entry.depth();
            if inside.is_some_and(|d| depth <= d) {
                inside = None;
            }
            let reference = || match entry.attr_value(gimli::DW_AT_type) {
                Some(AttributeValue::UnitRef(at)) => Some(at),
                _ => None,
            };
            match entry.tag() {
                gimli::DW_TAG_class_type | gimli::DW_TAG_structure_type => {
                    let Some(name) = name(dwarf, unit, entry) else { continue };
                    types.insert(entry.offset(), Type::Class(name.clone()));
                    let declared =
                        matches!(entry.attr_value(gimli::DW_AT_declaration), Some(AttributeValue::Flag(true)));
                    if !declared && classes.len() < MAX_CLASSES {
                        classes.push((name, Vec::new()));
                        inside = Some(depth);
                    }
                }
                gimli::DW_TAG_member if inside.is_some_and(|d| depth == d + 1) => {
                    let offset = entry.attr_value(gimli::DW_AT_data_member_location).and_then(|v| v.udata_value());
                    let member = name(dwarf, unit, entry).zip(offset).zip(reference());
                    if let (Some(((name, offset), ty)), Some((_, members))) = (member, classes.last_mut()) {
                        members.push((name, offset, ty));
                    }
                }
                gimli::DW_TAG_base_type => {
                    let number = |at| entry.attr_value(at).and_then(|v| v.udata_value()).unwrap_or(0);
                    let encoding = match entry.attr_value(gimli::DW_AT_encoding) {
                        Some(AttributeValue::Encoding(e)) => e.0,
                        _ => number(gimli::DW_AT_encoding) as u8,
                    };
                    let name = name(dwarf, unit, entry).unwrap_or_default();
                    types.insert(entry.offset(), Type::Number(encoding, number(gimli::DW_AT_byte_size), name));
                }
                gimli::DW_TAG_reference_type => drop(types.insert(entry.offset(), Type::Reference(reference()))),
                gimli::DW_TAG_pointer_type => drop(types.insert(entry.offset(), Type::Pointer)),
                gimli::DW_TAG_enumeration_type | gimli::DW_TAG_typedef | gimli::DW_TAG_const_type => {
                    drop(types.insert(entry.offset(), Type::Like(reference())));
                }
                _ => {}
            }
        }
        for (name, members) in classes {
            let member = |(name, offset, ty)| Member { name, offset, ty: resolve(&types, ty) };
            let members: Vec<Member> = members.into_iter().map(member).collect();
            let known = self.members.entry(name).or_default();
            if known.len() < members.len() {
                *known = members;
            }
        }
        Ok(())
    }
}

/// A member as its entry says: name, offset, where its type is.
type Unresolved = (Arc<str>, u64, UnitOffset);

/// A type as its entry says.
enum Type {
    Class(Arc<str>),
    Number(u8, u64, Arc<str>),
    Reference(Option<UnitOffset>),
    Pointer,
    Like(Option<UnitOffset>),
}

fn resolve(types: &FxHashMap<UnitOffset, Type>, mut at: UnitOffset) -> MemberType {
    for _ in 0..MAX_STEPS {
        return match types.get(&at) {
            Some(Type::Class(name)) => MemberType::Class(name.clone()),
            Some(Type::Number(encoding, size, name)) => MemberType::Number(*encoding, *size, name.clone()),
            Some(Type::Pointer) => MemberType::Pointer,
            Some(Type::Reference(to)) => match to.and_then(|to| types.get(&to)) {
                Some(Type::Class(name)) => MemberType::Reference(name.clone()),
                _ => MemberType::Pointer,
            },
            Some(Type::Like(Some(next))) => {
                at = *next;
                continue;
            }
            _ => MemberType::Other,
        };
    }
    MemberType::Other
}

fn name(dwarf: &Dwarf<Slice>, unit: &Unit<Slice>, entry: &DebuggingInformationEntry<Slice>) -> Option<Arc<str>> {
    let text = dwarf.attr_string(unit, entry.attr_value(gimli::DW_AT_name)?).ok()?;
    let text = text.to_string_lossy().ok()?;
    Some(Arc::from(&*text))
}
