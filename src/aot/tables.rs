//! The built-in layouts, in the form of CoreCLR's tables ([`crate::clr::layout::tables`]): what no header in the dump names.
//!
//! Sources: dotnet/runtime `src/coreclr/nativeaot/Runtime/threadstore.h`, `thread.h`, `RuntimeInstance.h`,
//! `inc/MethodTable.h`, `datadescriptor/datadescriptor.inc`, v8.0 to v11.0; the collector's structures as in
//! `src/coreclr/gc/`. Names are those of the contract descriptor of 11.0 where it has one.

use serde_json::Value;

use crate::clr::layout::{Layout, Source};

/// One built-in table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, e.g. `nativeaot-10.0`.
    pub name: &'static str,
    /// Major and minor version of .NET.
    pub era: (u16, u16),
    json: &'static str,
}

macro_rules! table {
    ($name:literal, $major:literal) => {
        Table { name: $name, era: ($major, 0), json: include_str!(concat!("tables/", $name, ".json")) }
    };
}

/// All, oldest first: each builds on the one before.
pub const TABLES: &[Table] = &[
    table!("nativeaot-8.0", 8),
    table!("nativeaot-9.0", 9),
    table!("nativeaot-10.0", 10),
    table!("nativeaot-11.0", 11),
];

impl Table {
    /// The layout: the tables it builds on first, then its own entries.
    pub fn layout(&self) -> Layout {
        let mut layout = Layout::default();
        for t in TABLES {
            let json: Value = serde_json::from_str(t.json).unwrap_or(Value::Null);
            layout.merge(&json, &Source::Table(t.name.to_owned()), &|_| None);
            if t.name == self.name {
                break;
            }
        }
        layout
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_builds_on_the_one_before() {
        let mut before = "empty";
        for t in TABLES {
            let json: Value = serde_json::from_str(t.json).unwrap();
            assert_eq!(json["baseline"].as_str().unwrap(), before);
            assert_eq!(t.layout().offset("MethodTable", "BaseSize").unwrap(), 4);
            before = t.name;
        }
        let newest = TABLES.last().unwrap().layout();
        assert_eq!(newest.offset("Thread", "OSId"), Ok(176));
        assert!(newest.try_offset("RuntimeInstance", "ThreadStore").is_none());
    }
}
