//! Native heaps out of any memory: reading them ends without a panic, no two blocks overlap, and the sums add up.
#![no_main]

use std::path::Path;

use clrscope::dump::{Arch, CoreWriter, Dump, DumpKind, MapEntry, MapState, MapType, Os, Presence};
use clrscope::native::heaps;
use clrscope::watch::Watch;
use libfuzzer_sys::fuzz_target;

#[path = "../pieces.rs"]
mod pieces;

fuzz_target!(|data: &[u8]| {
    let Some(pieces) = pieces::read(data) else { return };
    let arch = if pieces.space.ptr_size() == 8 { Arch::X64 } else { Arch::X86 };
    let writer = if pieces.flags & 2 == 0 { CoreWriter::Gcore } else { CoreWriter::CreateDump };
    let kind = DumpKind::ElfCore { writer };
    let mut dump = Dump::empty(Path::new("fuzz"), data.len() as u64, kind, Os::Linux, arch, pieces.space);
    let entry = |start, end| MapEntry {
        start,
        end,
        state: MapState::Commit,
        kind: MapType::Private,
        protect: 0x04,
        allocation_base: start,
        allocation_protect: 0x04,
        presence: Presence::Dumped,
        module: None,
        file: None,
        file_offset: 0,
    };
    dump.map = dump.space.pieces().iter().map(|p| entry(p.start, p.end)).collect();
    // The secret of musl's allocator lies where this points to.
    dump.auxv = vec![(25, pieces.root)];
    let heaps = heaps::read(&dump, &[], &Watch::default()).expect("nobody interrupts");
    for pair in heaps.blocks.list().windows(2) {
        assert!(pair[0].end() <= pair[1].address());
    }
    for b in heaps.blocks.list().iter().filter(|b| b.size() > 0) {
        assert_eq!(heaps.blocks.at(b.address()).and_then(|i| heaps.blocks.get(i)), Some(b));
    }
    for a in &heaps.arenas {
        assert_eq!(a.used.bytes + a.free.bytes + a.fast.bytes + a.cached.bytes + a.top + a.own + a.lost, a.system);
    }
});
