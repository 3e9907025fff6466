//! Windows minidumps built byte by byte: every stream, every architecture, every lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/make_minidump.rs"]
mod make_minidump;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use clrscope::dump::map::FileMap;
use clrscope::dump::{Arch, Dump, DumpKind, MapState, MapType, OpenError, OpenOptions, Os, Presence};
use clrscope::watch::Watch;
use make_minidump::*;

fn open(bytes: Vec<u8>) -> Dump {
    try_open(bytes).unwrap()
}

fn try_open(bytes: Vec<u8>) -> Result<Dump, OpenError> {
    Dump::from_map(Path::new("test.dmp"), FileMap::owned(bytes), &OpenOptions::default())
}

fn register(d: &Dump, thread: usize, name: &str) -> u64 {
    d.threads[thread].registers.as_ref().unwrap().general.iter().find(|r| r.0 == name).unwrap().1
}

fn dumped(d: &Dump) -> u64 {
    d.map.iter().filter(|e| e.presence == Presence::Dumped).map(|e| e.end - e.start).sum()
}

#[test]
fn reads_every_stream() {
    let d = open(everything());
    assert_eq!(d.problems, []);
    assert_eq!((d.os, d.arch, d.kind.clone()), (Os::Windows, Arch::X64, DumpKind::Minidump { flags: 0x1826 }));
    assert_eq!((d.process.pid, d.process.start_time), (Some(4242), Some(1_699_999_000)));
    assert_eq!((d.process.dump_time, d.process.cpu_seconds), (Some(1_700_000_000), Some((3, 1))));
    assert_eq!(d.process.os_version.as_deref(), Some("10.0.19045"));
    assert_eq!((d.process.name.as_deref(), d.process.processors), (Some(r"C:\app\shop.exe"), Some(8)));
    let coreclr = d.module_at(0x7FF8_0000_2FFF).unwrap();
    assert_eq!((coreclr.file_name(), coreclr.version), ("coreclr.dll", Some([8, 0, 123, 4])));
    assert_eq!((coreclr.timestamp, coreclr.image_size), (Some(0x6543_2100), Some(0x3000)));
    assert_eq!(coreclr.pdb.as_deref(), Some(r"D:\a\coreclr.pdb"));
    assert!(d.module_at(0x7FF8_0000_3000).is_none());
    assert_eq!((d.unloaded[0].base, d.unloaded[0].name.as_str()), (0x7FF9_0000_0000, "gone.dll"));
    let e = d.exception.as_ref().unwrap();
    assert_eq!((e.thread_id, e.code, e.address), (100, 0xE043_4352, 0x7FF8_0000_1500));
    assert_eq!(e.parameters, [0x8013_1500, 0, 0x1F00]);
    assert_eq!((d.handles[0].value, d.handles[0].type_name.as_str()), (0x44, "Event"));
    assert_eq!(d.handles[0].object_name.as_deref(), Some(r"\BaseNamedObjects\ready"));
    assert_eq!(d.handles[1].object_name, None);
}

#[test]
fn reads_threads_and_their_stacks() {
    let d = open(everything());
    let (a, b) = (&d.threads[0], &d.threads[1]);
    assert_eq!((a.os_id, a.name.as_deref(), a.teb), (100, None, Some(0x5000)));
    // The event's context wins over the thread's; the stack comes from the environment block.
    assert_eq!((register(&d, 0, "rip"), register(&d, 0, "rsp")), (0x7FF8_0000_1500, 0x2_0700));
    assert_eq!(a.stack, Some((0x2_0000, 0x2_1000)));
    assert_eq!((b.os_id, b.suspend_count, b.name.as_deref()), (101, 1, Some("worker \u{2603}")));
    let info = b.info.unwrap();
    assert_eq!((info.start_address, info.kernel_time, info.user_time), (0x7FF8_0000_2000, 20_000_000, 10_000_000));
    assert_eq!(info.create_time, Some(1_700_000_000));
    // Its environment block is not in the dump: the stack recorded with the thread counts, and is readable.
    assert_eq!(b.stack, Some((0x3_0100, 0x3_1000)));
    assert_eq!(d.space.u8(0x3_0FFF), Some(0xCC));
    assert_eq!((register(&d, 1, "rax"), register(&d, 1, "rbx"), register(&d, 1, "r15")), (0x100, 0x103, 0x10F));
}

#[test]
fn maps_memory_to_the_byte() {
    let d = open(everything());
    assert_eq!(dumped(&d), d.space.readable_bytes());
    assert!(d.map.windows(2).all(|w| w[0].end <= w[1].start));
    let heap: Vec<_> = d
        .map
        .iter()
        .filter(|e| e.allocation_base == 0x10_0000)
        .map(|e| (e.start, e.end, e.state, e.presence))
        .collect();
    let (commit, reserve) = (MapState::Commit, MapState::Reserve);
    assert_eq!(
        heap,
        [
            (0x10_0000, 0x10_1000, commit, Presence::Dumped),
            (0x10_1000, 0x10_2000, commit, Presence::MappedOnly),
            (0x10_2000, 0x10_3000, commit, Presence::Dumped),
            (0x10_3000, 0x10_4000, commit, Presence::MappedOnly),
            (0x10_4000, 0x11_0000, reserve, Presence::MappedOnly),
        ]
    );
    let image = d.map_at(0x1_4000_1800).unwrap();
    assert_eq!((image.kind, image.presence, image.protect), (MapType::Image, Presence::MappedOnly, 0x20));
    assert_eq!(d.modules[image.module.unwrap() as usize].file_name(), "shop.exe");
    assert_eq!(d.map[0].state, MapState::Free);
    // The recorded stack of thread 101 is described nowhere.
    assert_eq!(d.map_at(0x3_0200).unwrap().kind, MapType::Unknown);
}

#[test]
fn reads_x86_and_arm64() {
    let build = |arch, context: Vec<u8>, teb_bytes: Vec<u8>| {
        let mut m = Mini::new();
        m.system(arch, 2);
        m.threads(&[MiniThread { id: 7, teb: 0x5000, context, ..MiniThread::default() }]);
        m.memory32(&[(0x5000, teb_bytes), (0x2_0000, vec![9; 0x1000])]);
        open(m.finish())
    };
    let d = build(X86, context_x86(0x401_000, 0x2_0400), teb(0x2_1000, 0x2_0000, false));
    assert_eq!((d.arch, d.space.ptr_size(), d.threads[0].stack), (Arch::X86, 4, Some((0x2_0000, 0x2_1000))));
    assert_eq!((register(&d, 0, "eax"), register(&d, 0, "eip"), register(&d, 0, "esp")), (0xEA, 0x401_000, 0x2_0400));
    let d = build(ARM64, context_arm64(0x7FF8_1000, 0x2_0400), teb(0x2_1000, 0x2_0000, true));
    assert_eq!((d.arch, d.threads[0].stack), (Arch::Arm64, Some((0x2_0000, 0x2_1000))));
    let r = d.threads[0].registers.as_ref().unwrap();
    assert_eq!((r.ip, r.sp, r.fp, register(&d, 0, "x28")), (0x7FF8_1000, 0x2_0400, 0x11D, 0x11C));
}

#[test]
fn without_memory_info_modules_and_ranges_make_the_map() {
    let mut m = Mini::new();
    m.system(X64, 2);
    m.modules(&[MiniModule { base: 0x40_0000, size: 0x3000, name: "a.exe", timestamp: 1, version: [0; 4], pdb: "" }]);
    m.memory64(vec![(0x40_1000, vec![1; 0x1000]), (0x90_0000, vec![2; 0x800])]);
    let d = open(m.finish());
    let map: Vec<_> = d.map.iter().map(|e| (e.start, e.end, e.kind, e.presence, e.module)).collect();
    let (image, unknown) = (MapType::Image, MapType::Unknown);
    assert_eq!(
        map,
        [
            (0x40_0000, 0x40_1000, image, Presence::MappedOnly, Some(0)),
            (0x40_1000, 0x40_2000, image, Presence::Dumped, Some(0)),
            (0x40_2000, 0x40_3000, image, Presence::MappedOnly, Some(0)),
            (0x90_0000, 0x90_0800, unknown, Presence::Dumped, None),
        ]
    );
}

#[test]
fn keeps_what_is_there_of_a_cut_memory_list() {
    let whole = everything();
    let d = open(whole[..whole.len() - 0x1800].to_vec());
    assert_eq!(d.problems.len(), 1);
    let p = &d.problems[0];
    assert_eq!(p.place, "Memory64List");
    assert!(p.what.contains("2 of 5 ranges reach past the end of the file; 0x1800 bytes are missing"), "{}", p.what);
    assert_eq!(d.space.u8(0x10_27FF), Some(0x22));
    assert_eq!(d.space.u8(0x10_2800), None);
    assert_eq!(dumped(&d), d.space.readable_bytes());
}

#[test]
fn overlaps_go_to_the_64_bit_list_and_are_recorded() {
    let mut m = Mini::new();
    m.system(X64, 2);
    m.memory32(&[(0x1000, vec![1; 0x2000])]);
    m.memory64(vec![(0x2000, vec![2; 0x1000]), (0x2800, vec![3; 0x1000])]);
    let d = open(m.finish());
    let at = |a| d.space.u8(a).unwrap();
    assert_eq!((at(0x1FFF), at(0x2000), at(0x2FFF), at(0x3000), at(0x37FF)), (1, 2, 2, 3, 3));
    assert!(d.problems.iter().any(|p| p.what.contains("0x1800 bytes are given twice")), "{:?}", d.problems);
}

#[test]
fn survives_lies_in_the_lists() {
    for kind in [3u32, 4, 5, 6, 9, 12, 14, 15, 16, 17, 24] {
        for (count, size) in [(u32::MAX, 64u32), (1, 4), (0x1000, 16), (0, 0)] {
            let mut m = Mini::new();
            m.system(X64, 2);
            let mut body = fields().u32(count).u32(count).u64(u64::from(count)).u64(u64::MAX).zeros(256).0;
            body.truncate(size as usize);
            m.stream(kind, &body);
            m.raw_stream(kind ^ 1, u32::MAX, 16);
            let _ = try_open(m.finish());
        }
    }
    let mut m = Mini::new();
    m.system(X64, 2);
    let list = fields().u64(3).u64(64).u64(u64::MAX - 8).u64(64).u64(0x1000).u64(u64::MAX).u64(0x5000).u64(16);
    m.stream(9, &list.0);
    let d = open(m.finish());
    assert!(d.problems.iter().any(|p| p.what.contains("impossible size") || p.what.contains("past the end")));
}

#[test]
fn opens_files_larger_than_4_gib() {
    const BIG: u64 = (4 << 30) + 0x10_0000;
    let mut m = Mini::new();
    m.system(X64, 2);
    m.memory64(vec![(0x10_0000, vec![0; 8]), (0x9_0000_0000, vec![7; 8])]);
    let mut bytes = m.finish();
    // The first range claims more than 4 GiB; the file has a hole for it and the second range's bytes behind.
    let at = bytes.windows(8).position(|w| w == 0x10_0000_u64.to_le_bytes()).unwrap();
    bytes[at + 8..at + 16].copy_from_slice(&BIG.to_le_bytes());
    let base = bytes.len() as u64 - 16;
    bytes.truncate(base as usize);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(SeekFrom::Start(base + BIG)).unwrap();
    file.write_all(&[7; 8]).unwrap();
    let d = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
    assert_eq!(d.problems, []);
    assert_eq!(d.space.readable_bytes(), BIG + 8);
    assert_eq!(d.space.u64(0x9_0000_0000), Some(0x0707_0707_0707_0707));
    assert_eq!(d.space.slice(0x10_0000 + (4 << 30), 8), Some(&[0u8; 8][..]));
}

#[test]
fn refuses_what_it_cannot_read_with_a_reason() {
    let platform = |id| {
        let mut m = Mini::new();
        m.system(X64, id);
        try_open(m.finish()).map(|d| d.os)
    };
    assert_eq!(platform(2).unwrap(), Os::Windows);
    assert_eq!(platform(0x8201).unwrap(), Os::Linux);
    assert!(platform(0x8101).unwrap_err().to_string().contains("macOS"));
    let mut m = Mini::new();
    m.system(3, 2);
    assert!(try_open(m.finish()).unwrap_err().to_string().contains("processor that is not read"));
    let no_system = try_open(Mini::new().finish()).unwrap_err().to_string();
    assert!(no_system.contains("without readable system information"), "{no_system}");
}

#[test]
fn the_command_line_is_read_from_the_environment_block() {
    for (arch, wide, offsets) in [(X64, true, [0x60, 0x20, 0x70]), (X86, false, [0x30, 0x10, 0x40])] {
        let mut page = vec![0; 0x1000];
        let mut put = |at: usize, v: u64| {
            let n = if wide { 8 } else { 4 };
            page[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
        };
        let text: Vec<u8> = "shop.exe --port 80 ".encode_utf16().flat_map(u16::to_le_bytes).collect();
        put(offsets[0], 0x5400);
        put(0x400 + offsets[1], 0x5800);
        put(0x800 + offsets[2], text.len() as u64);
        put(0x800 + offsets[2] + if wide { 8 } else { 4 }, 0x5C00);
        page[0xC00..0xC00 + text.len()].copy_from_slice(&text);
        let mut m = Mini::new();
        m.system(arch, 2);
        m.threads(&[MiniThread { id: 1, teb: 0x5000, ..MiniThread::default() }]);
        m.memory64(vec![(0x5000, page)]);
        assert_eq!(open(m.finish()).process.command_line.as_deref(), Some("shop.exe --port 80"));
    }
}

#[test]
fn a_32_bit_process_in_a_64_bit_dump_is_said() {
    let mut m = Mini::new();
    m.system(X64, 2);
    let name = r"C:\Windows\System32\wow64.dll";
    m.modules(&[MiniModule { base: 0x40_0000, size: 0x3000, name, timestamp: 1, version: [0; 4], pdb: "" }]);
    let d = open(m.finish());
    assert!(d.problems.iter().any(|p| p.what.contains("the process is 32-bit")));
}

#[test]
fn a_file_cut_anywhere_opens_or_says_why() {
    let whole = everything();
    for len in (1..whole.len()).step_by(7) {
        match try_open(whole[..len].to_vec()) {
            Ok(d) => assert_eq!(dumped(&d), d.space.readable_bytes(), "cut at {len}"),
            Err(e) => assert!(e.to_string().starts_with("test.dmp: is "), "cut at {len}: {e}"),
        }
    }
}
