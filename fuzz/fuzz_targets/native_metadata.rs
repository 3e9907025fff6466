//! Native metadata, hash tables and the stack trace map of NativeAOT images from arbitrary bytes. The first
//! byte chooses the form.
#![no_main]

use std::sync::LazyLock;

use clrscope::aot::format::Blob;
use clrscope::aot::metadata::Metadata;
use clrscope::aot::methods;
use clrscope::aot::tables::TABLES;
use clrscope::aot::types::ModuleNames;
use clrscope::clr::layout::Layout;
use libfuzzer_sys::fuzz_target;

static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| TABLES.iter().map(|t| t.layout()).collect());

fuzz_target!(|data: &[u8]| {
    let [form, data @ ..] = data else { return };
    let map = Blob { address: 0x1000, bytes: data.to_vec() };
    let entries = map.entries();
    let layout = &LAYOUTS[usize::from(*form) % LAYOUTS.len()];
    let bytes = [&0xDEAD_DFFDu32.to_le_bytes()[..], data].concat();
    let Some(metadata) = Metadata::new(Blob { address: 0, bytes }, layout) else { return };
    for word in data.as_chunks::<4>().0.iter().take(64) {
        let token = metadata.of_token(u32::from_le_bytes(*word));
        let _ = (metadata.full_name(token), metadata.tree(token).reflection(), metadata.text(token.offset));
        let _ = metadata.parameters(token.offset, 64);
    }
    let names = ModuleNames { metadata, fixups: vec![0x1000; 16], ..ModuleNames::default() };
    let mut found = Vec::new();
    methods::traced(&map, 0, &names, &mut found);
    methods::invoked(&map, 0, &names, &mut found);
    assert!(found.len() <= data.len() + entries.len());
});
