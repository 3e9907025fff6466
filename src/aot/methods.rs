//! Methods by the address of their code: the map that stack traces are made with, and the one of reflection.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/System.Private.StackTraceMetadata/src/Internal/StackTraceMetadata`,
//! `src/coreclr/tools/Common/Internal/Runtime/StackTraceData.cs` (commands of a record), `MappingTableFlags.cs`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::clr::types::typename::TypeName;

use super::Aot;
use super::format::{Blob, Reader};
use super::image::section;
use super::metadata::{Handle, kind};
use super::types::ModuleNames;

/// Commands of a record of the stack trace map: which values it gives anew.
mod command {
    pub const OWNER: u8 = 1;
    pub const NAME: u8 = 2;
    pub const SIGNATURE: u8 = 4;
    pub const GENERIC_SIGNATURE: u8 = 8;
}

/// `InvokeTableFlags.HasEntrypoint`.
const HAS_ENTRY_POINT: u32 = 0x20;
/// More parameters than any method has.
const MAX_PARAMETERS: u32 = 1 << 10;

/// Who declares a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    /// A record of metadata.
    Record(Handle),
    /// A MethodTable.
    Type(u64),
}

/// A method: where its code begins, and its records in metadata.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// First address of its code.
    pub start: u64,
    module: usize,
    owner: Owner,
    name: u32,
    signature: u32,
    /// Names of its own type arguments.
    arguments: u32,
}

impl Aot {
    /// All methods the image names, by address.
    pub fn methods(&self) -> &[Method] {
        self.methods.get_or_init(|| {
            let mut all = Vec::new();
            for (i, m) in self.types.modules().iter().enumerate() {
                let Some(names) = self.types.names(i) else { continue };
                if let Some(map) = m.header.blob(&self.dump.space, section::STACK_TRACE_MAP) {
                    traced(&map, i, names, &mut all);
                }
                if let Some(map) = m.header.blob(&self.dump.space, section::INVOKE_MAP) {
                    invoked(&map, i, names, &mut all);
                }
            }
            // The first map knows more of a method that is in both.
            all.sort_by_key(|m: &Method| m.start);
            all.dedup_by_key(|m| m.start);
            all
        })
    }

    /// Full name of the method whose code begins at `start`, with its parameters.
    pub fn name_of_method(&self, start: u64) -> Option<String> {
        let all = self.methods();
        let i = all.binary_search_by_key(&start, |m| m.start).ok()?;
        self.spell(all.get(i)?, true)
    }

    /// Name of the class of the method whose code begins at `start`, without type arguments, and the method's own.
    pub fn class_of_method(&self, start: u64) -> Option<(String, &str)> {
        let all = self.methods();
        let m = all.get(all.binary_search_by_key(&start, |m| m.start).ok()?)?;
        Some((self.class_of(m)?, self.types.names(m.module)?.metadata.text(m.name)?))
    }

    /// Code of the methods of the module of that number with the names of their classes; those of instantiations with type
    /// arguments have none.
    pub fn classes_of_methods(&self, module: usize) -> Vec<(u64, Arc<str>)> {
        let mut names: FxHashMap<Owner, Option<Arc<str>>> = FxHashMap::default();
        let of_module = self.methods().iter().filter(|m| m.module == module);
        let class = |m: &Method| {
            let name = names.entry(m.owner).or_insert_with(|| Some(self.class_of(m)?.into())).clone();
            Some((m.start, name?))
        };
        of_module.filter_map(class).collect()
    }

    fn class_of(&self, m: &Method) -> Option<String> {
        let owner = match m.owner {
            Owner::Type(mt) => self.types.tree(mt, 0),
            Owner::Record(handle) => self.types.names(m.module)?.metadata.tree(handle),
        };
        match owner {
            TypeName::Named(named) if named.args.is_empty() => Some(named.name),
            _ => None,
        }
    }

    /// Full name of a method; parameters where they are asked for.
    fn spell(&self, m: &Method, parameters: bool) -> Option<String> {
        let names = self.types.names(m.module)?;
        let metadata = &names.metadata;
        let owner = match m.owner {
            Owner::Type(mt) => self.types.tree(mt, 0),
            Owner::Record(handle) => metadata.tree(handle),
        };
        let name = metadata.text(m.name)?;
        let mut text = match owner {
            TypeName::Unknown => name.to_owned(),
            owner => format!("{}.{name}", owner.reflection()),
        };
        if !parameters {
            return Some(text);
        }
        if m.arguments != 0 {
            text.push_str(&format!("[[{}]]", self.arguments(m.module, m.arguments)?.join("],[")));
        }
        if m.signature != 0 {
            let all = metadata.parameters(m.signature, MAX_PARAMETERS)?;
            let all: Vec<String> = all.iter().map(TypeName::in_signature).collect();
            text.push_str(&format!("({})", all.join(", ")));
        }
        Some(text)
    }

    fn arguments(&self, module: usize, record: u32) -> Option<Vec<String>> {
        let metadata = &self.types.names(module)?.metadata;
        let mut r = metadata.record(record);
        let count = r.unsigned()?.min(MAX_PARAMETERS);
        // Each is a handle of its own kind.
        Some(
            (0..count)
                .map_while(|_| metadata.handle(&mut r))
                .filter_map(|h| metadata.text(h.offset))
                .map(str::to_owned)
                .collect(),
        )
    }

    /// First address of the method of that full name, without parameters.
    pub fn start_of(&self, name: &str) -> Option<u64> {
        let short = name.rsplit('.').next()?;
        let named = |m: &&Method| self.types.names(m.module).and_then(|n| n.metadata.text(m.name)) == Some(short);
        self.methods().iter().filter(named).find(|m| self.spell(m, false).as_deref() == Some(name)).map(|m| m.start)
    }
}

/// The stack trace map: records, each with what differs from the one before and the distance to the method.
pub fn traced(map: &Blob, module: usize, names: &ModuleNames, into: &mut Vec<Method>) {
    let mut r = map.at(0);
    let Some(count) = word(&mut r) else { return };
    let (mut owner, mut name, mut signature, mut arguments) = (Handle::default(), 0, 0, 0);
    for _ in 0..count {
        let Some(what) = r.byte() else { return };
        if what & command::OWNER != 0 {
            let Some(token) = word(&mut r) else { return };
            owner = names.metadata.of_token(token);
        }
        let mut next = |bit: u8| if what & bit != 0 { Some(r.unsigned()) } else { None };
        if let Some(value) = next(command::NAME) {
            let Some(value) = value else { return };
            name = value;
        }
        if let Some(value) = next(command::SIGNATURE) {
            let Some(value) = value else { return };
            (signature, arguments) = (value, 0);
        }
        if what & command::GENERIC_SIGNATURE != 0 {
            let (Some(first), Some(second)) = (r.unsigned(), r.unsigned()) else { return };
            (signature, arguments) = (first, second);
        }
        let here = map.address.wrapping_add(r.offset as u64);
        let Some(distance) = word(&mut r) else { return };
        let start = here.wrapping_add_signed(i64::from(distance as i32));
        into.push(Method { start, module, owner: Owner::Record(owner), name, signature, arguments });
    }
}

fn word(r: &mut Reader<'_>) -> Option<u32> {
    let bytes = [r.byte()?, r.byte()?, r.byte()?, r.byte()?];
    Some(u32::from_le_bytes(bytes))
}

/// The map of reflection: flags, method, type, entry point.
pub fn invoked(map: &Blob, module: usize, names: &ModuleNames, into: &mut Vec<Method>) {
    for entry in map.entries() {
        let mut r = map.at(entry);
        let mut read = || {
            let flags = r.unsigned()?;
            let (token, ty) = (r.unsigned()?, r.unsigned()?);
            let start = if flags & HAS_ENTRY_POINT != 0 { r.unsigned()? } else { return None };
            // A token of its own kind, or the record's offset alone.
            let method = names.metadata.of_token(token);
            if !matches!(method.kind, 0 | kind::METHOD) {
                return None;
            }
            let (start, mt) = (*names.fixups.get(start as usize)?, *names.fixups.get(ty as usize)?);
            let mut r = names.metadata.record(method.offset);
            // Flags, flags of the implementation.
            r.unsigned()?;
            r.unsigned()?;
            let (name, signature) = (r.unsigned()?, r.unsigned()?);
            Some(Method { start, module, owner: Owner::Type(mt), name, signature, arguments: 0 })
        };
        into.extend(read());
    }
}
