//! CLR 2.0 (`mscorwks.dll`), whose MethodTables have their vtables inline: what no table can say of it, by shape.
//!
//! Order of the DAC table and of members: the shared source of CLR 2.0. No byte of such a runtime was at hand, so each piece is
//! taken only where what it leads to has the shape it must have: a variable that holds the image's own base aligns the
//! table, each generation begins in a segment whose record lies in the page in front of its objects, the core library's module
//! leads to an image whose metadata calls System.Object and System.String by these names.

mod contexts;
mod domains;
mod heap;
mod modules;
mod server;
mod statics;

use super::scan::Anchor;
use super::search::Search;
use super::{Layout, Source};
use crate::dump::Dump;

pub use domains::domain_of_threads;

/// Slots on either side in which the variable with the image's base is looked for: service packs add some.
const REACH: i32 = 8;

/// Completes `layout`, bound to the DAC table at `anchor`. What is not proved is taken out of it.
pub fn complete(dump: &Dump, layout: &mut Layout, anchor: &Anchor) {
    if layout.constant("InlineVtables").is_err() {
        return;
    }
    let found = align(dump, layout, anchor).and_then(|()| match server::is_one(&dump.space, layout) {
        true => server::heaps(&dump.space, layout),
        false => heap::workstation(&dump.space, layout),
    });
    let Some(segments) = found else {
        layout.drop_global("GCHeapGenerationTable");
        layout.drop_global("Heaps");
        return;
    };
    // How many collections have the heap in pieces: another variable would hold an address or a flag word.
    const MOST: u32 = 16;
    if layout.global("StructureInvalidCount").is_ok_and(|c| dump.space.u32(c).is_none_or(|n| n > MOST)) {
        layout.drop_global("StructureInvalidCount");
    }
    modules::complete(dump, layout);
    modules::elements(&dump.space, layout, &segments);
}

/// Completes what hangs on threads and app domains, when these are known.
pub fn rest(search: &Search<'_>, layout: &mut Layout) {
    contexts::complete(search, layout);
    statics::complete(search, layout);
}

/// Moves the slots behind the well-known types so that the one that should hold the image's base does.
fn align(dump: &Dump, layout: &mut Layout, anchor: &Anchor) -> Option<()> {
    let own = *layout.dac_slots.get("RuntimeBase")?;
    let holds = |d: &i32| {
        let cell = anchor.get(&dump.space, own + d);
        cell.and_then(|c| dump.space.ptr(c)) == Some(anchor.base)
    };
    let moved = (0..=REACH).flat_map(|d| [d, -d]).find(holds)?;
    let behind: Vec<(String, i32)> =
        layout.dac_slots.iter().filter(|s| *s.1 > 0).map(|(n, &i)| (n.clone(), i + moved)).collect();
    for (name, index) in behind {
        match anchor.get(&dump.space, index) {
            Some(cell) => layout.set_global(&name, cell, Source::DacTable(index)),
            None => layout.drop_global(&name),
        }
    }
    Some(())
}
