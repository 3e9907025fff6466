//! Any bytes taken for a minidump: opening ends without a panic, and the map adds up to what is readable.
#![no_main]

use std::path::Path;

use clrscope::dump::map::FileMap;
use clrscope::dump::{Dump, OpenOptions, Presence};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let magic: &[u8] = b"MDMP\x93\xA7\0\0";
    let bytes = [magic, data.get(magic.len()..).unwrap_or(&[])].concat();
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    if let Ok(dump) = Dump::from_map(Path::new("fuzz"), FileMap::owned(bytes), &options) {
        let dumped = dump.map.iter().filter(|e| e.presence == Presence::Dumped).map(|e| e.end - e.start);
        assert_eq!(dumped.sum::<u64>(), dump.space.readable_bytes());
    }
});
