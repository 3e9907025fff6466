//! Debug information, tables of precompiled images and sequence points from arbitrary bytes.
#![no_main]

use clrscope::clr::code::debuginfo::{BITS, DebugInfo, FAT, FLAGGED, FLAGGED_BITS, PLAIN};
use clrscope::clr::code::nativeformat::{NativeArray, NativeHashtable};
use clrscope::clr::image::metadata::{Metadata, table};
use clrscope::dump::Arch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for form in [FAT, FLAGGED_BITS, BITS, FLAGGED, PLAIN] {
        for arch in [Arch::X64, Arch::X86] {
            if let Some(d) = DebugInfo::decode(data, form, arch) {
                let _ = (d.il_of_return(64), d.il_of_instruction(64), d.il_of_suspension(64), d.fits(Some(256)));
            }
        }
    }
    if let Some(array) = NativeArray::at(data, 0) {
        for index in 0..array.count().min(256) {
            array.get(data, index);
        }
    }
    if let Some(table) = NativeHashtable::at(data, 0) {
        table.entries(data);
    }
    if let Ok(m) = Metadata::parse(data.to_vec()) {
        for row in 0..=m.rows(table::METHOD_DEBUG_INFORMATION).min(64) {
            let _ = (m.source_line(row, 7), m.local_names(row, 7), m.document(row));
        }
    }
});
