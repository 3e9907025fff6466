#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::dump::map::FileMap;
use crate::dump::space::SpaceBuilder;
use proptest::prelude::*;

const RVA: u32 = 0x2000;
const RAW: u32 = 0x400;

/// A flat image: headers, and one section at file offset 0x400 and RVA 0x2000 with CLI header, metadata, debug
/// directory and two CodeView records, the first of a native image.
fn image(wide: bool) -> Vec<u8> {
    let mut b = vec![0; 0x800];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    let word = |v: u32| v.to_le_bytes();
    put(0, b"MZ");
    put(0x3C, &word(0x80));
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664u16.to_le_bytes());
    put(0x86, &1u16.to_le_bytes());
    put(0x88, &word(0x1234_5678));
    put(0x94, &0xF0u16.to_le_bytes());
    let optional = 0x98;
    put(optional, &(if wide { 0x20Bu16 } else { 0x10B }).to_le_bytes());
    put(optional + 56, &word(0x4000));
    put(optional + 60, &word(0x400));
    let directories = optional + if wide { 112 } else { 96 };
    put(directories - 4, &word(16));
    put(directories + 6 * 8, &word(RVA + 0x100));
    put(directories + 6 * 8 + 4, &word(56));
    put(directories + 14 * 8, &word(RVA));
    put(directories + 14 * 8 + 4, &word(0x48));
    let section = optional + 0xF0;
    [0x400, RVA, 0x400, RAW].iter().enumerate().for_each(|(i, v)| put(section + 8 + i * 4, &word(*v)));
    let s = RAW as usize;
    [0x48, 0x5_0002, RVA + 0x48, 16, 1, 0x0600_0001].iter().enumerate().for_each(|(i, v)| put(s + i * 4, &word(*v)));
    put(s + 0x48, b"BSJB and the rest");
    for (n, path) in [b"a.ni.pdb", b"real.pdb"].iter().enumerate() {
        let (entry, record) = (s + 0x100 + n * 28, 0x200 + n as u32 * 0x40);
        [2, 33, RVA + record, RAW + record].iter().enumerate().for_each(|(i, v)| put(entry + 12 + i * 4, &word(*v)));
        let at = s + record as usize;
        put(at, b"RSDS\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\x07\0\0\0");
        put(at + 24, *path);
    }
    b
}

fn space(parts: &[(u64, &[u8])]) -> AddressSpace {
    let mut b = SpaceBuilder::new(8);
    for (at, bytes) in parts {
        let s = b.source(FileMap::owned(bytes.to_vec()));
        b.add(*at, s, 0, bytes.len() as u64);
    }
    b.build().0
}

fn check(info: &PeInfo, metadata: Range<u64>) {
    assert_eq!(info.metadata(), Ok(metadata));
    assert_eq!((info.timestamp, info.size_of_image, info.machine), (0x1234_5678, 0x4000, 0x8664));
    let cli = info.cli.as_ref().unwrap();
    assert_eq!((cli.flags, cli.entry_point), (1, 0x0600_0001));
    let pdb = info.pdb.as_ref().unwrap();
    assert_eq!((&*pdb.guid_text(), pdb.age, &*pdb.path), ("04030201-0605-0807-090a-0b0c0d0e0f10", 7, "real.pdb"));
}

#[test]
fn finds_metadata_in_every_layout() {
    for wide in [false, true] {
        let file = image(wide);
        check(&PeInfo::in_file(&file).unwrap(), 0x448..0x458);
        let flat = PeInfo::in_memory(&space(&[(0x10000, &file)]), 0x10000).unwrap();
        assert_eq!(flat.layout, Layout::Flat);
        check(&flat, 0x10448..0x10458);
        let memory = space(&[(0x10000, &file[..0x400]), (0x12000, &file[0x400..])]);
        let mapped = PeInfo::in_memory(&memory, 0x10000).unwrap();
        assert_eq!(mapped.layout, Layout::Mapped);
        check(&mapped, 0x12048..0x12058);
        assert_eq!(mapped.metadata_bytes(&memory).unwrap(), b"BSJB and the res");
        assert!(mapped.same_build(&flat));
    }
}

#[test]
fn says_what_is_missing() {
    let file = image(true);
    let only_headers = PeInfo::in_memory(&space(&[(0x10000, &file[..0x400])]), 0x10000).unwrap();
    assert_eq!(only_headers.metadata(), Err(PeError::MetadataMissing));
    assert_eq!((only_headers.timestamp, only_headers.pdb), (0x1234_5678, None));
    // The CLI header is there, the metadata begins behind what was dumped.
    let short = space(&[(0x10000, &file[..0x448])]);
    let info = PeInfo::in_memory(&short, 0x10000).unwrap();
    assert_eq!(info.layout, Layout::Flat);
    assert_eq!(info.metadata(), Err(PeError::MetadataMissing));
    // It begins, but is cut off.
    let cut = space(&[(0x10000, &file[..0x450])]);
    let info = PeInfo::in_memory(&cut, 0x10000).unwrap();
    assert_eq!(info.metadata(), Ok(0x10448..0x10458));
    assert_eq!(info.metadata_bytes(&cut), Err(PeError::MetadataMissing));

    let mut native = file.clone();
    native[0x98 + 112 + 14 * 8..][..8].fill(0);
    assert_eq!(PeInfo::in_file(&native).unwrap().metadata(), Err(PeError::NotManaged));
    assert_eq!(PeInfo::in_file(b"\x7FELF").unwrap_err(), PeError::NotPe);
    assert_eq!(PeInfo::in_memory(&space(&[]), 0x10000).unwrap_err(), PeError::NotPe);
}

#[test]
fn another_build_is_told_apart() {
    let here = PeInfo::in_file(&image(true)).unwrap();
    let mut other = here.clone();
    other.timestamp ^= 1;
    assert!(!here.same_build(&other));
    let mut other = here.clone();
    other.pdb.as_mut().unwrap().age = 9;
    assert!(!here.same_build(&other));
    other.pdb = None;
    assert!(here.same_build(&other));
}

proptest! {
    #[test]
    fn damaged_images_never_panic(
        wide: bool, base in prop::sample::select(vec![0x10000u64, u64::MAX - 0x900]),
        changes in prop::collection::vec((0usize..0x700, any::<u8>()), 1..16)
    ) {
        let mut file = image(wide);
        changes.into_iter().for_each(|(at, value)| file[at] = value);
        let _ = PeInfo::in_file(&file);
        let memory = space(&[(base, &file)]);
        if let Ok(info) = PeInfo::in_memory(&memory, base) {
            let _ = info.metadata_bytes(&memory);
            let _ = info.offset_of(0x2010);
        }
    }
}
