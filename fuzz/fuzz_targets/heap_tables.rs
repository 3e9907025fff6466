//! Handle tables and GCDescs in arbitrary memory: each handle is found once, each slot of an object once, and the work is
//! that of what is there.
#![no_main]

use std::sync::LazyLock;

use clrscope::clr::layout::Layout;
use clrscope::clr::layout::tables::TABLES;
use clrscope::clr::runtime::handles::Tables;
use clrscope::clr::types::gcdesc::RefMap;
use clrscope::clr::types::methodtable::MtReader;
use libfuzzer_sys::fuzz_target;

#[path = "../pieces.rs"]
mod pieces;

static LAYOUTS: LazyLock<[(Layout, MtReader); 2]> = LazyLock::new(|| {
    ["coreclr-10.0-linux-x64", "coreclr-3.1-windows-x86"].map(|name| {
        let layout = TABLES.iter().find(|t| t.name == name).unwrap().layout();
        let reader = MtReader::new(&layout).unwrap();
        (layout, reader)
    })
});

fuzz_target!(|data: &[u8]| {
    let Some(p) = pieces::read(data) else { return };
    let (layout, reader) = &LAYOUTS[usize::from(p.flags & 1)];
    let ptr = u64::from(p.space.ptr_size());
    if p.flags & 2 == 0 {
        let tables = Tables { space: &p.space, layout, map: p.root, server: p.flags & 4 != 0 };
        let mut slots: Vec<u64> = tables.read().unwrap().items.iter().map(|h| h.address).collect();
        let found = slots.len();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), found, "a handle is found twice");
        return;
    }
    let Some(mt) = reader.read(&p.space, p.root) else { return };
    let refs = RefMap::read(&p.space, &mt);
    for size in [3 * ptr, u64::from(mt.base_size) & 0xFFFF, 1 << 12] {
        let mut slots = Vec::new();
        refs.slots(size, ptr, |s| slots.push(s));
        assert!(slots.is_sorted_by(|a, b| a < b) && slots.iter().all(|s| s + ptr <= size), "{refs:?} of {size}");
        let mut parts = Vec::new();
        for (from, to) in [(0, size / 3), (size / 3, size / 2), (size / 2, u64::MAX)] {
            refs.slots_between(size, ptr, (from, to), |s| parts.push(s));
        }
        assert_eq!(slots, parts, "{refs:?} of {size}");
    }
});
