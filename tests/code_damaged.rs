//! Damaged code tables: whatever stands in them, a lookup ends, and soon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/patch.rs"]
mod patch;

use std::path::Path;
use std::time::{Duration, Instant};

use clrscope::clr::code::debuginfo::{self, DebugInfo};
use clrscope::clr::code::nativeformat::{NativeArray, NativeHashtable};
use clrscope::clr::code::ranges::RangeKind;
use clrscope::clr::image::metadata::Metadata;
use clrscope::dump::Arch;
use clrscope::session::Session;
use opened::open;
use patch::Patch;
use proptest::prelude::*;

const FORMS: &[debuginfo::Form] =
    &[debuginfo::FAT, debuginfo::FLAGGED_BITS, debuginfo::BITS, debuginfo::FLAGGED, debuginfo::PLAIN];

proptest! {
    #[test]
    fn any_bytes_as_debug_information(bytes in proptest::collection::vec(any::<u8>(), 0..300), native in any::<u32>()) {
        for &form in FORMS {
            let Some(d) = DebugInfo::decode(&bytes, form, Arch::X64) else { continue };
            // An entry takes at least four bits, a variable as many nibbles as it has numbers.
            prop_assert!(d.bounds.len() <= bytes.len() * 2 && d.vars.len() <= bytes.len());
            let kept: usize = d.points.iter().map(|p| p.vars.len()).sum();
            prop_assert!(d.points.len() + kept <= bytes.len() * 2);
            let _ = (d.il_of_return(native), d.il_of_instruction(native), d.il_of_suspension(native), d.fits(Some(native)));
        }
    }

    #[test]
    fn any_bytes_as_tables_of_an_image(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0u32..64) {
        if let Some(array) = NativeArray::at(&bytes[..], at) {
            for index in (0..64).chain([u32::MAX, array.count().wrapping_sub(1)]) {
                if let Some(Some(place)) = array.get(&bytes[..], index) {
                    prop_assert!(index < array.count() && place > at);
                }
            }
        }
        if let Some(table) = NativeHashtable::at(&bytes[..], at) {
            let (entries, _) = table.entries(&bytes[..]);
            prop_assert!(entries.len() <= 1 << 21);
        }
    }

    #[test]
    fn any_bytes_as_a_portable_pdb(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        // A root with a tables stream and a stream of a PDB, both over the bytes.
        let mut bytes = b"BSJB\x01\0\x01\0\0\0\0\0\x04\0\0\0PDB \0\0\x03\0".to_vec();
        for name in [&b"#~\0\0"[..], b"#Pdb\0\0\0\0", b"#Blob\0\0\0"] {
            bytes.extend([80, 0, 0, 0]);
            bytes.extend((tail.len() as u32).to_le_bytes());
            bytes.extend(name);
        }
        bytes.resize(80, 0);
        bytes.extend(&tail);
        if let Ok(m) = Metadata::parse(bytes) {
            for row in 0..8 {
                let _ = (m.source_line(row, 5), m.local_names(row, 5), m.document(row));
            }
        }
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Places that lead to code: the map's top, sections, heap lists, nibble maps, words in front of code, images' tables.
fn places(session: &Session, random: &mut Random) -> Vec<u64> {
    let clr = session.clr().unwrap();
    let (space, code) = (clr.space(), clr.code());
    let mut all = Vec::new();
    let top = clr.layout().global("ExecutionManagerCodeRangeMapAddress").unwrap();
    all.extend([top, space.ptr(top).unwrap_or(0), space.ptr(space.ptr(top).unwrap_or(0) & !1).unwrap_or(0)]);
    for range in code.ranges() {
        all.extend((0..9).map(|i| range.section + 8 * i));
        match range.kind {
            RangeKind::Jit(node) => {
                all.extend((0..8).map(|i| node + 8 * i));
                let map = space.ptr(node + 40).unwrap_or(0);
                all.extend((0..64).map(|_| map + random.next() % 0x800 / 8 * 8));
            }
            RangeKind::Image(module) => {
                all.extend((0..160).map(|i| module + 8 * i));
                all.extend((0..256).map(|_| range.start + random.next() % (range.end - range.start) / 8 * 8));
            }
            RangeKind::Ahead | RangeKind::Stubs => {}
        }
    }
    let starts = code.starts();
    all.extend((0..512).map(|_| starts[(random.next() % starts.len() as u64) as usize] - 8));
    let headers: Vec<u64> = all.iter().rev().take(512).filter_map(|&a| space.ptr(a)).collect();
    all.extend(headers.iter().flat_map(|&h| (0..6).map(move |i| h.wrapping_add(8 * i))));
    all.retain(|&a| space.readable(a) && space.readable(a.wrapping_add(7)));
    all
}

#[test]
fn damaged_tables_of_code_never_loop_or_panic() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for name in ["linux-x64-10.0-wks-heap.core", "linux-x64-3.1-wks-heap.core", "linux-x64-2.1-wks-heap.core"] {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{name}.zst"));
        let whole = open(&packed);
        let ips: Vec<u64> = whole.clr().unwrap().code().starts();
        let places = places(&whole, &mut random);
        let plain = whole.dump().unpacked.clone().unwrap();
        for round in 0..6 {
            let mut copy = Patch::open(&plain);
            let damage = [4, 16, 64, 256, 1024, 4096][round];
            for _ in 0..damage {
                let at = places[(random.next() % places.len() as u64) as usize];
                let other = places[(random.next() % places.len() as u64) as usize];
                let value = match random.next() % 6 {
                    0 => 0,
                    1 => u64::MAX,
                    2 => random.next(),
                    3 => at,
                    4 => other,
                    _ => copy.ptr(at).unwrap_or(0) ^ 1 << (random.next() % 40),
                };
                if copy.read(at, 8).is_some() {
                    copy.write(at, &value.to_le_bytes());
                }
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            copy.save(file.path());
            let session = open(file.path());
            let Ok(clr) = session.clr() else { continue };
            let begin = Instant::now();
            let code = clr.code();
            for &ip in ips.iter().chain(&code.starts()) {
                if let Some(at) = code.at(ip.wrapping_add(random.next() % 64)) {
                    let _ = (code.name(&at), code.debug_info(&at));
                }
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{name} {damage}: {:?}", begin.elapsed());
        }
    }
}
