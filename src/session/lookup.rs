//! Loaded types by name, whether or not the heap has instances of them.

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::{Session, ranges};
use crate::clr::Clr;
use crate::clr::image::metadata::sig::TypeSig;
use crate::clr::image::metadata::table;
use crate::clr::types::fields::{Field, et};
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::statics;
use crate::clr::types::typename::{TypeName, canonical};

/// Types the modules define, by definition and by name.
#[derive(Debug, Default)]
pub struct LoadedTypes {
    /// MethodTable by module address and TypeDef row.
    by_def: FxHashMap<(u64, u32), u64>,
    /// MethodTables by name as heap listings spell it; open generics by their bare metadata name.
    by_name: FxHashMap<String, Vec<u64>>,
    /// Modules by simple assembly name.
    assemblies: FxHashMap<String, u64>,
    /// Why the list is not complete.
    pub partial: Option<String>,
}

/// Types made while the program ran: instantiations and arrays, by name as heap listings spell it.
pub type MadeTypes = FxHashMap<String, u64>;

/// Bound on the forwarding from assembly to assembly: a type moved so often at most (facade, library, core library).
const MAX_FORWARDS: usize = 8;

impl LoadedTypes {
    pub(super) fn read(clr: &Clr) -> Self {
        let mut types = Self::default();
        let assemblies = clr.assemblies();
        types.partial = assemblies.partial.clone();
        for a in &assemblies.items {
            let module = clr.module(a.module);
            types.assemblies.entry(module.assembly_name(clr)).or_insert(a.module);
            let loaded = clr.loaded_types(a.module);
            if types.partial.is_none() {
                types.partial = loaded.partial;
            }
            let metadata = module.metadata(clr);
            for (rid, mt) in loaded.items {
                types.by_def.insert((a.module, rid), mt);
                let name = match metadata {
                    Some(m) => m.full_name(rid),
                    None => clr.type_name(mt).to_string(),
                };
                types.by_name.entry(name).or_default().push(mt);
            }
        }
        types
    }

    /// MethodTable of TypeDef row `rid` of `module`, when it is loaded.
    pub fn of_def(&self, module: u64, rid: u32) -> Option<u64> {
        self.by_def.get(&(module, rid)).copied()
    }

    /// The type `name` of `assembly`, followed to where it is defined.
    fn of_ref(&self, clr: &Clr, assembly: &str, name: &str) -> Option<u64> {
        let mut module = *self.assemblies.get(assembly)?;
        for _ in 0..MAX_FORWARDS {
            let metadata = clr.module(module).metadata(clr)?.clone();
            if let Some(rid) = metadata.typedef_by_name(name) {
                return self.of_def(module, rid);
            }
            // The assembly may only forward the type.
            let outer = name.split('+').next().unwrap_or(name);
            let token = metadata.forwarded_to(outer)?;
            module = *self.assemblies.get(metadata.assemblyref(token & 0x00FF_FFFF)?.name)?;
        }
        None
    }

    /// Names of the definitions, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// MethodTables of the definitions named `name` as metadata spells it.
    pub fn named(&self, name: &str) -> &[u64] {
        self.by_name.get(name).map_or(&[], |v| v.as_slice())
    }
}

impl Session {
    /// The managed method whose code holds `address`, as `module!Type.Method(arguments)`, and the distance from where its
    /// code begins. Stubs are none.
    pub fn method_at(&self, address: u64) -> Option<(String, u64)> {
        let clr = self.clr().ok()?;
        let at = clr.code().at(address)?;
        let name = clr.code().name(&at)?;
        let module = clr.module(at.module);
        let file = module.file_name();
        let stem = file.strip_suffix(".dll").or_else(|| file.strip_suffix(".exe")).unwrap_or(file);
        let name = if stem.is_empty() || at.module == 0 { name } else { format!("{stem}!{name}") };
        Some((name, u64::from(at.native)))
    }

    /// Types the modules define that are loaded.
    pub fn loaded_types(&self) -> Result<&LoadedTypes> {
        self.loaded.get(|| Ok(LoadedTypes::read(self.clr()?)))
    }

    /// Instantiations and arrays: those of the heap, and those found in memory outside it.
    pub fn made_types(&self) -> Result<&MadeTypes> {
        self.made.get(|| {
            let clr = self.clr()?;
            let skip = self.heap_ranges();
            let mut made = MadeTypes::default();
            for t in self.types().all().iter().filter(|t| t.mt.is_array() || t.mt.is_generic()) {
                made.entry(clr.type_name(t.mt.address).to_string()).or_insert(t.mt.address);
            }
            for mt in clr.loaded_vectors(&skip).into_iter().chain(self.instantiations()?.iter().copied()) {
                made.entry(clr.type_name(mt).to_string()).or_insert(mt);
            }
            Ok(made)
        })
    }

    /// Instantiations, with instances or not, sorted by address.
    pub fn instantiations(&self) -> Result<&Vec<u64>> {
        self.instantiations.get(|| {
            let clr = self.clr()?;
            let mut found = clr.loaded_instantiations(&self.heap_ranges());
            found.extend(self.types().all().iter().filter(|t| t.mt.is_generic()).map(|t| t.mt.address));
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
    }

    /// Instantiations that may have static fields of their own: those with arguments of which none stands for others.
    pub fn closed_types(&self) -> Result<Vec<MethodTable>> {
        let clr = self.clr()?;
        let closed = |mt: &MethodTable| statics::may_have(clr, mt) && !clr.is_shared(mt.address);
        Ok(self.instantiations()?.iter().filter_map(|&mt| clr.valid_type(mt)).filter(closed).collect())
    }

    /// What the garbage collector has reserved: no types there.
    fn heap_ranges(&self) -> Vec<(u64, u64)> {
        self.heap().map(ranges::reserved).unwrap_or_default()
    }

    /// MethodTables of the loaded types called `name`, in either spelling.
    pub fn find_types(&self, name: &str) -> Result<Vec<u64>> {
        let loaded = self.loaded_types()?;
        let plain = loaded.named(name.trim());
        if !plain.is_empty() {
            return Ok(plain.to_vec());
        }
        Ok(self.made_types()?.get(&*canonical(name)).copied().into_iter().collect())
    }

    /// As [`Session::field_type`], with the reasons kept.
    pub(super) fn resolve_field_type(&self, field: &Field) -> Result<Option<u64>> {
        let clr = self.clr()?;
        let loaded = self.loaded_types()?;
        let by_name = |name: &str| loaded.of_ref(clr, clr.core_library(), name);
        let token = match &field.sig {
            Some(TypeSig::Primitive(et::STRING)) => return Ok(Some(clr.known.string)),
            Some(TypeSig::Primitive(et::OBJECT)) => return Ok(Some(clr.known.object)),
            Some(TypeSig::Primitive(e)) => {
                let name = crate::clr::image::metadata::sig::primitive_name(*e);
                return Ok(name.and_then(by_name));
            }
            Some(TypeSig::Class(t) | TypeSig::ValueType(t)) => Some(*t),
            _ => None,
        };
        let rid = token.map_or(0, |t| t & 0x00FF_FFFF);
        let kind = token.map(|t| (t >> 24) as u8);
        if kind == Some(table::TYPE_DEF) {
            return Ok(loaded.of_def(field.module, rid));
        }
        let Some(name) = &field.type_name else { return Ok(None) };
        if kind == Some(table::TYPE_REF)
            && let Some(mt) = name.assembly().and_then(|a| loaded.of_ref(clr, a, &name.display()))
        {
            return Ok(Some(mt));
        }
        if token.is_some() && kind != Some(table::TYPE_SPEC) {
            return Ok(loaded.named(&name.display()).first().copied());
        }
        if let Some(&mt) = self.find_types(&name.display())?.first() {
            return Ok(Some(mt));
        }
        // As the runtime does: the shared instantiation stands for one that was never made.
        Ok(self.shared_name(name)?.and_then(|n| self.made_types().ok()?.get(&n).copied()))
    }

    /// The name of the instantiation whose code `name` shares: `__Canon` for every argument that is a reference type.
    fn shared_name(&self, name: &TypeName) -> Result<Option<String>> {
        let TypeName::Named(named) = name else { return Ok(None) };
        let clr = self.clr()?;
        let mut shared = named.clone();
        for arg in shared.args.iter_mut().filter(|a| !matches!(a, TypeName::Pointer(_) | TypeName::FnPtr)) {
            let found = self.find_types(&arg.display())?.first().and_then(|&mt| clr.method_table(mt));
            if !found.is_some_and(|m| m.is_value_type()) {
                *arg = TypeName::plain("System.__Canon", clr.core_library());
            }
        }
        Ok((!shared.args.is_empty()).then(|| TypeName::Named(shared).display()))
    }
}
