//! The runtime's contract descriptor: its own description of its layouts, when the dump holds it.
//!
//! Format: dotnet/runtime `docs/design/datacontracts/contract-descriptor.md` (as shipped in 9.0 and 10.0): magic, flags,
//! length and address of a JSON text, number and address of the pointers that indirect globals refer to.

use serde_json::Value;

use super::report::{Check, Verdict};
use super::scan::{Span, words_equal};
use super::{Layout, Source};
use crate::dump::Dump;

const MAGIC: u64 = u64::from_le_bytes(*b"DNCCDAC\0");
/// Longest text accepted; real ones are 3 to 20 KB.
const MAX_TEXT: u32 = 1 << 20;
const MAX_POINTERS: u32 = 10_000;

/// A descriptor found.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Where it lies.
    pub address: u64,
    layout: Layout,
    json: Value,
}

impl Descriptor {
    /// Number of types it describes.
    pub fn types(&self) -> usize {
        self.json.get("types").and_then(Value::as_object).map_or(0, |t| t.len())
    }

    /// What it says, alone.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Finds the descriptor in the runtime's image by its magic.
pub fn find(dump: &Dump, image: Span) -> Option<Descriptor> {
    let ptr = u64::from(dump.space.ptr_size());
    let half = words_equal(&dump.space, image, 4, MAGIC & 0xFFFF_FFFF);
    half.into_iter().filter(|&a| dump.space.u64(a) == Some(MAGIC)).find_map(|a| read(dump, a, ptr))
}

fn read(dump: &Dump, address: u64, ptr: u64) -> Option<Descriptor> {
    let space = &dump.space;
    let (flags, length) = (space.u32(address.checked_add(8)?)?, space.u32(address.checked_add(12)?)?);
    let text = space.ptr(address.checked_add(16)?)?;
    let count = space.u32(address.checked_add(16 + ptr)?)?;
    let pointers = space.ptr(address.checked_add(16 + ptr + 8)?)?;
    let right_size = (flags & 2 != 0) == (ptr == 4);
    if flags & 1 == 0 || !right_size || length > MAX_TEXT || count > MAX_POINTERS {
        return None;
    }
    let json: Value = serde_json::from_slice(&space.bytes(text, length as usize)?).ok()?;
    let mut layout = Layout::default();
    layout.merge(&json, &Source::Descriptor(address), &|n| {
        if n < u64::from(count) { space.ptr_at(pointers, n * ptr) } else { None }
    });
    Some(Descriptor { address, layout, json })
}

/// Compares what both know: a disagreement is a failed check of the table's value.
pub fn witness(table: &Layout, descriptor: &Descriptor) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, theirs, _) in descriptor.layout.facts() {
        let ours = match name.split_once('.') {
            Some((_, "!")) => None,
            Some((ty, field)) => table.field(ty, field),
            None => None,
        };
        let Some(ours) = ours.filter(|o| o.value != theirs) else { continue };
        checks.push(Check {
            name: "the contract descriptor agrees",
            fields: vec![name],
            source: ours.source.clone(),
            expected: theirs.to_string(),
            found: ours.value.to_string(),
            verdict: Verdict::Failed,
        });
    }
    checks
}

/// Facts only the descriptor has, or that the table lost, are taken from it. Returns how many.
pub fn fill(layout: &mut Layout, descriptor: &Descriptor) -> usize {
    let mut filled = 0;
    let source = Source::Descriptor(descriptor.address);
    for (name, value, _) in descriptor.layout.facts() {
        if let Some((ty, field)) = name.split_once('.') {
            if layout.field(ty, field).is_none() {
                layout.set_field(ty, field, value, source.clone());
                filled += 1;
            }
        } else if let Some(global) = name.strip_prefix('&')
            && layout.global(global).is_err()
        {
            layout.set_global(global, value, source.clone());
            filled += 1;
        }
    }
    filled
}
