//! The built-in tables, as data. Sources: offsets measured on dumps of the builds named in `docs/layouts.md`; names
//! follow dotnet/runtime `src/coreclr/vm/datadescriptor/datadescriptor.inc`, with additions for what no descriptor names.

use serde_json::Value;

use super::{Layout, Source};
use crate::dump::{Arch, Os};

/// One built-in table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, e.g. `coreclr-10.0-linux-x64`.
    pub name: &'static str,
    /// Operating system and architecture it is for; none for a shape, which holds what they do not move.
    pub platform: Option<(Os, Arch)>,
    /// Bytes of a pointer.
    pub pointer_size: u8,
    json: &'static str,
}

macro_rules! table {
    ($name:literal, $os:ident, $arch:ident) => {
        Table {
            name: $name,
            platform: Some((Os::$os, Arch::$arch)),
            pointer_size: Arch::$arch.pointer_size(),
            json: include_str!(concat!("tables/", $name, ".json")),
        }
    };
    ($name:literal, $pointer:literal) => {
        Table {
            name: $name,
            platform: None,
            pointer_size: $pointer,
            json: include_str!(concat!("tables/", $name, ".json")),
        }
    };
}

/// All built-in tables, newest first.
pub const TABLES: &[Table] = &[
    table!("coreclr-11.0-linux-x64", Linux, X64),
    table!("coreclr-11.0-windows-x64", Windows, X64),
    table!("coreclr-10.0-linux-x64", Linux, X64),
    table!("coreclr-10.0-windows-x64", Windows, X64),
    table!("coreclr-10.0-linux-arm64", Linux, Arm64),
    table!("coreclr-10.0-windows-arm64", Windows, Arm64),
    table!("coreclr-9.0-linux-x64", Linux, X64),
    table!("coreclr-9.0-windows-x64", Windows, X64),
    table!("coreclr-8.0-linux-x64", Linux, X64),
    table!("coreclr-8.0-windows-x64", Windows, X64),
    table!("coreclr-8.0-linux-arm64", Linux, Arm64),
    table!("coreclr-6.0-windows-x64", Windows, X64),
    table!("coreclr-3.1-linux-x64", Linux, X64),
    table!("coreclr-3.1-windows-x64", Windows, X64),
    table!("coreclr-3.1-windows-x86", Windows, X86),
    table!("coreclr-2.1-linux-x64", Linux, X64),
    table!("coreclr-2.1-windows-x64", Windows, X64),
    table!("coreclr-2.1-windows-x86", Windows, X86),
    table!("coreclr-2.0-linux-x64", Linux, X64),
    table!("coreclr-2.0-windows-x64", Windows, X64),
    table!("coreclr-2.0-windows-x86", Windows, X86),
    table!("coreclr-1.0-linux-x64", Linux, X64),
    table!("coreclr-1.0-windows-x64", Windows, X64),
    table!("coreclr-1.0-windows-x86", Windows, X86),
    table!("clr-4.8-windows-x64", Windows, X64),
    table!("clr-4.8-windows-x86", Windows, X86),
    table!("clr-4.6-windows-x64", Windows, X64),
    table!("clr-4.6-windows-x86", Windows, X86),
    table!("clr-2.0-windows-x64", Windows, X64),
    table!("clr-2.0-windows-x86", Windows, X86),
];

/// What each generation of the runtime has in common on every system: where structural discovery starts, newest first.
pub const SHAPES: &[Table] = &[
    table!("shape-11.0", 8),
    table!("shape-10.0", 8),
    table!("shape-9.0", 8),
    table!("shape-8.0", 8),
    table!("shape-6.0", 8),
    table!("shape-3.1", 8),
    table!("shape-2.1", 8),
    table!("shape-2.0", 8),
    table!("shape-1.0", 8),
    table!("shape-10.0-x86", 4),
    table!("shape-9.0-x86", 4),
    table!("shape-8.0-x86", 4),
    table!("shape-6.0-x86", 4),
    table!("shape-3.1-x86", 4),
    table!("shape-2.1-x86", 4),
    table!("shape-2.0-x86", 4),
    table!("shape-1.0-x86", 4),
];

/// Tables and shapes.
pub fn all() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().chain(SHAPES)
}

impl Table {
    /// The table's own JSON document, without its baseline.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.json).unwrap_or(Value::Null)
    }

    /// The layout: the baseline chain first, then this table over it. Every fact carries this table's name.
    pub fn layout(&self) -> Layout {
        self.layout_with(&self.json())
    }

    /// As [`Table::layout`], with `json` in place of this table's own document (tests corrupt single fields so).
    pub fn layout_with(&self, json: &Value) -> Layout {
        let source = Source::Table(self.name.to_owned());
        let mut layout = Layout::default();
        let mut chain = vec![json.clone()];
        while let Some(base) = chain.last().and_then(|j| j.get("baseline")?.as_str().map(str::to_owned)) {
            let Some(t) = all().find(|t| t.name == base) else { break };
            if chain.len() > TABLES.len() + SHAPES.len() {
                break;
            }
            chain.push(t.json());
        }
        for j in chain.iter().rev() {
            layout.merge(j, &source, &|_| None);
        }
        layout.follow();
        layout
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_table_parses_and_its_baselines_exist() {
        for t in all() {
            let json = t.json();
            assert!(json.is_object(), "{} is not JSON", t.name);
            let base = json["baseline"].as_str().unwrap();
            assert!(base == "empty" || all().any(|t| t.name == base), "{}: baseline {base}", t.name);
            assert_eq!(t.layout().offset("MethodTable", "BaseSize").unwrap(), 4, "{}", t.name);
        }
    }

    #[test]
    fn null_removes_an_inherited_field() {
        let t = TABLES.iter().find(|t| t.name == "coreclr-9.0-linux-x64").unwrap().layout();
        assert_eq!(t.offset("DomainAssembly", "Module"), Ok(16));
        assert!(t.try_offset("DomainAssembly", "Assembly").is_none());
    }
}
