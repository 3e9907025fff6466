//! Fields that reflection can read: the only ones of which the image has names and places.
//!
//! Source: dotnet/runtime `src/coreclr/tools/Common/Internal/Runtime/MappingTableFlags.cs` (`FieldTableFlags`),
//! `ILCompiler.Compiler/Compiler/DependencyAnalysis/ReflectionFieldMapNode.cs`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::clr::types::fields::et;
use crate::clr::types::gcdesc::RefMap;
use crate::clr::types::typename::TypeName;

use super::Aot;
use super::image::section;
use super::types::ModuleNames;

/// Storage, in the lowest bits of an entry's flags.
const STORAGE: u32 = 3;
const INSTANCE: u32 = 0;
const STATIC: u32 = 1;
const GC_STATIC: u32 = 2;
/// The field is named by its token; through 9.0 an entry may have its name instead.
const HAS_TOKEN: u32 = 8;
/// The place of an instance field is its offset itself.
const HAS_OFFSET: u32 = 0x20;
/// Since 10.0 tokens have as many bits, and every entry has one.
const BITS_OF_TOKENS: u64 = 25;

/// Where a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In instances: bytes from the object, of a value type from its first field.
    Instance(u64),
    /// A static without references: its address.
    Static(u64),
    /// A static with references: the cell that holds its base object, and the offset there.
    Base(u64, u64),
}

/// A field with its name.
#[derive(Debug, Clone)]
pub struct Reflected {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TypeName,
    /// Where it is.
    pub place: Place,
}

impl Aot {
    /// Reflected fields of the type `mt`.
    pub fn reflected(&self, mt: u64) -> &[Reflected] {
        self.all_reflected().get(&mt).map_or(&[], Vec::as_slice)
    }

    /// All of them by the MethodTable of their class.
    pub fn all_reflected(&self) -> &FxHashMap<u64, Vec<Reflected>> {
        self.reflected.get_or_init(|| {
            let mut all: FxHashMap<u64, Vec<Reflected>> = FxHashMap::default();
            let every = self.layout.constant("MetadataTokenBits").is_ok_and(|b| b >= BITS_OF_TOKENS);
            for (i, m) in self.types.modules().iter().enumerate() {
                let map = m.header.blob(&self.dump.space, section::FIELD_MAP);
                let (Some(names), Some(map)) = (self.types.names(i), map) else { continue };
                for entry in map.entries() {
                    let mut r = map.at(entry);
                    let mut next = || r.unsigned();
                    let (Some(flags), Some(ty), Some(token)) = (next(), next(), next()) else { continue };
                    let Some(&mt) = names.fixups.get(ty as usize) else { continue };
                    let cell = |i: Option<u32>| names.fixups.get(i? as usize).copied();
                    let place = match flags & STORAGE {
                        INSTANCE if flags & HAS_OFFSET != 0 => next().map(|o| Place::Instance(o.into())),
                        STATIC => cell(next()).map(Place::Static),
                        GC_STATIC => cell(next()).zip(next()).map(|(c, o)| Place::Base(c, o.into())),
                        _ => None,
                    };
                    let named = (every || flags & HAS_TOKEN != 0).then(|| field(names, token)).flatten();
                    if let Some(((name, ty), place)) = named.zip(place) {
                        all.entry(mt).or_default().push(Reflected { name, ty, place });
                    }
                }
            }
            all
        })
    }

    /// Element type of a field of the type `ty`; `reference` where its slot holds one.
    pub fn element_of(&self, ty: &TypeName, reference: Option<bool>) -> u8 {
        let named = match ty {
            TypeName::SzArray(_) => return et::SZARRAY,
            TypeName::MdArray(..) => return et::ARRAY,
            TypeName::Pointer(_) => return et::PTR,
            TypeName::FnPtr => return et::FNPTR,
            TypeName::Named(named) if named.args.is_empty() => named.name.as_str(),
            _ => "",
        };
        match named {
            "System.String" => et::STRING,
            "System.Object" => et::OBJECT,
            _ => {
                let own = self.types.words(self.named(named)).map(|w| self.types.element_type(&w));
                match (own, reference) {
                    (Some(e), _) => e,
                    (None, Some(false)) => et::STRUCT,
                    (None, _) => et::CLASS,
                }
            }
        }
    }

    /// Offsets of the references of an instance of `mt`, ascending.
    pub fn references(&self, mt: u64) -> Vec<u64> {
        let mut found = Vec::new();
        if let Some(m) = self.types.method_table(mt) {
            RefMap::read(&self.dump.space, &m).slots(u64::from(m.base_size), 8, |s| found.push(s));
        }
        found
    }
}

/// Name and type of the field whose record a token leads to: flags, name, signature.
fn field(names: &ModuleNames, token: u32) -> Option<(Arc<str>, TypeName)> {
    let metadata = &names.metadata;
    let mut r = metadata.record(metadata.of_token(token).offset);
    r.unsigned()?;
    let name = metadata.text(r.unsigned()?).filter(|n| !n.is_empty())?;
    let mut signature = metadata.record(r.unsigned()?);
    Some((name.into(), metadata.tree(metadata.handle(&mut signature)?)))
}
