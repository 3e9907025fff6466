//! Linux cores built byte by byte: every note, every architecture, every oddity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/make_core.rs"]
mod make_core;

use std::path::Path;

use clrscope::dump::images::FoundBy;
use clrscope::dump::map::FileMap;
use clrscope::dump::{Arch, CoreWriter, Dump, DumpKind, MapType, OpenError, OpenOptions, Os, Presence};
use make_core::*;

fn try_open(bytes: Vec<u8>) -> Result<Dump, OpenError> {
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    Dump::from_map(Path::new("test.core"), FileMap::owned(bytes), &options)
}

fn open(c: &Core) -> Dump {
    try_open(c.finish()).unwrap()
}

fn writer(d: &Dump) -> CoreWriter {
    match d.kind {
        DumpKind::ElfCore { writer } => writer,
        _ => panic!("not a core"),
    }
}

fn check_map(d: &Dump) {
    let dumped: u64 = d.map.iter().filter(|e| e.presence == Presence::Dumped).map(|e| e.end - e.start).sum();
    assert_eq!(dumped, d.space.readable_bytes());
    assert!(d.map.windows(2).all(|w| w[0].end <= w[1].start));
    assert!(d.map.iter().all(|e| e.start < e.end));
}

fn register(d: &Dump, thread: usize, name: &str) -> u64 {
    d.threads[thread].registers.as_ref().unwrap().general.iter().find(|r| r.0 == name).unwrap().1
}

#[test]
fn reads_process_threads_and_writer() {
    let d = open(&everything());
    assert_eq!(d.problems, []);
    assert_eq!((d.os, d.arch, writer(&d)), (Os::Linux, Arch::X64, CoreWriter::CreateDump));
    assert_eq!((d.process.pid, d.process.name.as_deref()), (Some(500), Some("shop")));
    assert_eq!(d.process.command_line.as_deref(), Some("shop --port 80"));
    assert_eq!((d.process.page_size, d.auxv[0]), (0x1000, (3, 0x40_0040)));
    assert!(d.exception.is_none());
    assert_eq!((d.threads[0].os_id, d.threads[1].os_id), (500, 501));
    assert_eq!((register(&d, 0, "rip"), register(&d, 1, "rsp")), (0x40_1010, 0x7F20_0000_0F00));
    assert_eq!(d.threads[1].registers.as_ref().unwrap().tp, Some(0x7F20_0000_16C0));
    check_map(&d);
}

#[test]
fn a_stack_ends_at_its_thread_not_at_its_mapping() {
    let d = open(&everything());
    assert_eq!(d.threads[0].stack, Some((0x7FFC_0000_0000, 0x7FFC_0000_1000)));
    // A heap follows the second thread's stack in the same mapping.
    assert_eq!(d.threads[1].stack, Some((0x7F20_0000_0000, 0x7F20_0000_16C0)));
    // Two stacks in one mapping do not share bytes.
    let mut c = everything();
    c.thread(502, 0, &[(RSP, 0x7F20_0000_2F00), (FS_BASE, 0x7F20_0000_36C0)]);
    assert_eq!(open(&c).threads[2].stack, Some((0x7F20_0000_16C0, 0x7F20_0000_36C0)));
}

#[test]
fn modules_come_from_mapped_files_with_their_headers() {
    let d = open(&everything());
    let list: Vec<_> = d.modules.iter().map(|m| (m.base, m.size, m.path.as_str(), m.build_id.clone())).collect();
    assert_eq!(
        list,
        [
            (0x40_0000, 0x5000, "/app/shop", Some(vec![1; 20])),
            (0x7F00_0000_0000, 0x3000, "/usr/lib/libcoreclr.so", Some(vec![2; 20])),
        ]
    );
    let missing = d.map_at(0x7F00_0000_1000).unwrap();
    assert_eq!((missing.presence, missing.kind, missing.module), (Presence::MappedOnly, MapType::Image, Some(1)));
    assert_eq!(missing.file.as_deref(), Some("/usr/lib/libcoreclr.so"));
    assert_eq!(d.map_at(0x40_4000).unwrap().module, Some(0), "bss belongs to its module");
    let untouched = d.map_at(0x7F10_0000_2000).unwrap();
    assert_eq!((untouched.presence, untouched.kind, untouched.protect), (Presence::MappedOnly, MapType::Private, 4));
    assert_eq!(d.space.u8(0x7F10_0000_1000), None, "memory beyond filesz is unknown, not zero");
}

#[test]
fn a_single_file_program_is_based_at_its_elf_header() {
    let mut c = Core::new(X64);
    let program = image(&[9; 20], 0, 0x3000);
    // The bundle's assemblies are mapped from the same file, below the program and at other offsets.
    c.files(&[
        (0x10_0000, 0x10_2000, 0x5_0000, "/app/single"),
        (0x20_0000, 0x20_1000, 0x8_0000, "/app/single"),
        (0x40_0000, 0x40_3000, 0, "/app/single"),
    ]);
    c.thread(1, 0, &[]);
    c.partial(0x10_0000, 0x2000, 4, Vec::new());
    c.load(0x40_0000, 4, program);
    let d = open(&c);
    assert_eq!((d.modules.len(), d.modules[0].base, d.modules[0].size), (1, 0x40_0000, 0x3000));
    let assembly = d.map_at(0x10_0000).unwrap();
    assert_eq!((assembly.kind, assembly.module), (MapType::Mapped, None));
    check_map(&d);
}

#[test]
fn assemblies_are_modules_flat_or_mapped() {
    let mut c = Core::new(X64);
    let (flat, mapped, gone) = ("/app/Flat.dll", "/app/Mapped.dll", "/app/Gone.dll");
    c.files(&[
        (0x10_0000, 0x10_3000, 0, flat),
        (0x20_0000, 0x20_1000, 0, mapped),
        // The first section begins with the headers' page of the file again: the same module.
        (0x21_0000, 0x21_2000, 0, mapped),
        (0x22_0000, 0x22_1000, 0x2000, mapped),
        (0x30_0000, 0x30_2000, 0, gone),
        (0x50_0000, 0x50_1000, 0, "/usr/share/locale-archive"),
    ]);
    c.thread(1, 0, &[]);
    c.load(0x10_0000, 4, pe(0x11, 0x8000));
    c.load(0x20_0000, 4, pe(0x22, 0x2_1000));
    c.load(0x21_0000, 5, pe(0x22, 0x2_1000));
    c.load(0x50_0000, 4, vec![0xDE; 0x1000]);
    let d = open(&c);
    let list: Vec<_> = d.modules.iter().map(|m| (m.base, m.size, m.path.as_str(), m.timestamp)).collect();
    assert_eq!(
        list,
        [
            (0x10_0000, 0x3000, flat, Some(0x11)),
            (0x20_0000, 0x2_1000, mapped, Some(0x22)),
            (0x30_0000, 0x2000, gone, None),
        ]
    );
    assert_eq!(d.map_at(0x50_0000).unwrap().kind, MapType::Mapped);
    check_map(&d);
}

#[test]
fn without_file_notes_images_are_found_in_memory() {
    let mut c = Core::new(X64);
    let mut program = image(&[7; 20], 0, 0x3000);
    // PT_DYNAMIC: DT_DEBUG points at r_debug; its list names the library.
    put(&mut program, 0x2000, 21, 8);
    put(&mut program, 0x2008, 0x40_2200, 8);
    put(&mut program, 0x2208, 0x40_2300, 8);
    for (at, v) in [(0x2300, 0), (0x2318, 0x40_2400), (0x2400, 0x7F00_0000_0000u64), (0x2408, 0x40_2500)] {
        put(&mut program, at, v, 8);
    }
    // The list runs in a circle: it must end all the same.
    put(&mut program, 0x2418, 0x40_2300, 8);
    program[0x2500..0x2500 + 11].copy_from_slice(b"/lib/one.so");
    c.thread(44, 11, &[(RSP, 0x40_2800)]);
    c.process(44, "qprog", "qprog x");
    c.auxv(&[(3, 0x40_0040)]);
    c.load(0x40_0000, 7, program);
    c.load(0x7F00_0000_0000, 5, image(&[8; 20], 0, 0x3000));
    c.load(0x7F80_0000_0000, 5, image(&[6; 20], 0, 0x3000));
    let d = open(&c);
    let list: Vec<_> = d.modules.iter().map(|m| (m.base, m.path.as_str())).collect();
    let last = (0x7F80_0000_0000, "[image at 7f8000000000]");
    assert_eq!(list, [(0x40_0000, "qprog"), (0x7F00_0000_0000, "/lib/one.so"), last]);
    assert_eq!(writer(&d), CoreWriter::Unknown);
    assert_eq!(d.exception.as_ref().map(|e| (e.thread_id, e.code)), Some((44, 11)));
}

#[test]
fn the_whole_command_line_is_read_from_the_stack() {
    for machine in [X64, X86] {
        let step = if machine == X64 { 8 } else { 4 };
        let mut stack = vec![0; 0x1000];
        let strings =
            [(0xE00, "dotnet"), (0xE10, "shop.dll"), (0xE20, ""), (0xE30, "--verbose"), (0xF00, "HOME=/root")];
        for (at, text) in strings {
            stack[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let auxv = [(33, 0x7000), (6, 0x1000), (25, 0x5_0D00)];
        // argc, arguments, zero, environment, zero, auxiliary vector.
        let mut words = vec![4, 0x5_0E00, 0x5_0E10, 0x5_0E20, 0x5_0E30, 0, 0x5_0F00, 0];
        words.extend(auxv.iter().flat_map(|a| [a.0, a.1]));
        for (i, v) in words.into_iter().enumerate() {
            put(&mut stack, 0x800 + i * step, v, step);
        }
        let mut c = Core::new(machine);
        c.process(1, "dotnet", "dotnet shop.d").thread(1, 0, &[]).auxv(&auxv);
        c.load(0x5_0000, 6, stack.clone());
        assert_eq!(open(&c).process.command_line.as_deref(), Some("dotnet shop.dll  --verbose"));
        // Without the count right below it cannot be trusted: what the note says is left.
        put(&mut stack, 0x800, 77, step);
        c.segments.clear();
        c.load(0x5_0000, 6, stack);
        assert_eq!(open(&c).process.command_line.as_deref(), Some("dotnet shop.d"));
    }
}

#[test]
fn reads_arm64_x86_and_arm() {
    let mut c = Core::new(ARM64);
    c.thread(9, 0, &[]);
    c.thread(10, 0, &[(0, 0xA0), (28, 0xA28), (29, 0xF0), (30, 0x1E), (31, 0x5_0800), (32, 0x1234)]);
    c.note("LINUX", 0x401, &[0x5_1680u64.to_le_bytes(), [0; 8]].concat());
    c.load(0x5_0000, 6, vec![1; 0x3000]);
    let d = open(&c);
    let r = d.threads[1].registers.as_ref().unwrap();
    assert_eq!((d.arch, r.ip, r.sp, r.fp, r.tp), (Arch::Arm64, 0x1234, 0x5_0800, 0xF0, Some(0x5_1680)));
    assert_eq!((register(&d, 1, "x28"), register(&d, 1, "lr")), (0xA28, 0x1E));
    assert_eq!(d.threads[1].stack, Some((0x5_0000, 0x5_1680)));

    let mut c = Core::new(X86);
    c.thread(11, 6, &[(0, 0xEB), (5, 0xEF), (6, 0xEA), (12, 0x804_8000), (15, 0x5_0800)]);
    c.process(11, "old", "old");
    c.siginfo(6, 0, 0);
    c.files(&[(0x5_0000, 0x5_1000, 0x2000, "/tmp/data")]);
    c.load(0x5_0000, 6, vec![1; 0x1000]);
    let d = open(&c);
    let r = d.threads[0].registers.as_ref().unwrap();
    assert_eq!((d.arch, d.space.ptr_size(), r.ip, r.sp, r.fp), (Arch::X86, 4, 0x804_8000, 0x5_0800, 0xEF));
    assert_eq!((register(&d, 0, "eax"), register(&d, 0, "ebx"), d.process.pid), (0xEA, 0xEB, Some(11)));
    assert_eq!(writer(&d), CoreWriter::Kernel);

    let mut c = Core::new(ARM);
    c.thread(12, 0, &[(11, 0xFB), (13, 0x5_0800), (15, 0x8000)]);
    c.load(0x5_0000, 6, vec![1; 0x1000]);
    let d = open(&c);
    let r = d.threads[0].registers.as_ref().unwrap();
    assert_eq!((d.arch, r.ip, r.sp, r.fp), (Arch::Arm, 0x8000, 0x5_0800, 0xFB));
}

#[test]
fn tells_writers_and_events_apart() {
    let mut kernel = Core::new(X64);
    kernel.thread(7, 11, &[]).process(7, "a", "a").siginfo(11, 1, 0xBAD).auxv(&[(6, 4096)]);
    kernel.files(&[(0x1000, 0x2000, 0, "/x")]).load(0x1000, 4, vec![0; 0x1000]);
    let d = open(&kernel);
    let e = d.exception.as_ref().unwrap();
    assert_eq!((writer(&d), e.thread_id, e.code, e.flags, e.address), (CoreWriter::Kernel, 7, 11, 1, 0xBAD));

    let mut gcore = Core::new(X64);
    gcore.process(7, "a", "a").thread(7, 0, &[]).siginfo(19, 0x80, 0).thread(8, 0, &[]).siginfo(19, 0x80, 0);
    gcore.load(0x1000, 4, vec![0; 0x1000]).notes_at_end = true;
    let d = open(&gcore);
    assert_eq!((writer(&d), d.exception.is_none(), d.threads.len()), (CoreWriter::Gcore, true, 2));

    // Old createdump stamps SIGABRT on every thread of a process that never crashed.
    let mut old = everything();
    old.notes.clear();
    old.process(500, "a", "").auxv(&[]).thread(500, 6, &[]).thread(501, 6, &[]);
    let d = open(&old);
    assert_eq!((writer(&d), d.exception.is_none()), (CoreWriter::CreateDump, true));

    let mut new = everything();
    new.thread(502, 0, &[]).siginfo(6, 0, 0);
    assert_eq!(open(&new).exception.map(|e| (e.thread_id, e.code)), Some((502, 6)));
}

#[test]
fn alignment_of_one_and_notes_at_the_end_are_fine() {
    let mut c = everything();
    c.align = 1;
    c.notes_at_end = true;
    c.segments[7].3.truncate(0xFFF);
    let d = open(&c);
    assert_eq!(d.problems, []);
    assert_eq!((d.threads.len(), d.modules.len()), (2, 2));
    assert_eq!((d.space.u8(0x7F20_0000_0FFE), d.space.u8(0x7F20_0000_0FFF)), (Some(0x66), None));
    check_map(&d);
}

#[test]
fn missing_notes_are_missing_facts() {
    let mut c = everything();
    c.notes.clear();
    let d = open(&c);
    assert_eq!((d.threads.len(), d.process.pid, d.process.page_size), (0, None, 0x1000));
    assert!(d.problems.iter().any(|p| p.what.contains("no thread is recorded")));
    // Both images still begin pieces of memory.
    assert_eq!(d.modules.len(), 2);
    check_map(&d);
}

#[test]
fn more_segments_than_a_header_can_count() {
    let mut c = Core::new(X64);
    c.thread(1, 0, &[]);
    c.align = 1;
    for i in 0..70_000u64 {
        c.load(0x10_0000 + i * 0x2000, 6, vec![(i % 251) as u8; 2]);
    }
    let bytes = c.finish();
    let d = try_open(bytes.clone()).unwrap();
    assert_eq!((d.space.pieces().len(), d.map.len(), d.problems.len()), (70_000, 70_000, 0));
    assert_eq!(d.space.u8(0x10_0000 + 69_999 * 0x2000), Some((69_999 % 251) as u8));
    // Cut off, the count is lost: the program headers end where the notes begin.
    let d = try_open(bytes[..bytes.len() - 80].to_vec()).unwrap();
    assert!(d.space.pieces().len() >= 69_990, "{}", d.space.pieces().len());
    assert!(d.problems.iter().any(|p| p.place == "section header 0"), "{:?}", d.problems);
}

#[test]
fn damaged_headers_and_notes_are_recorded() {
    let whole = everything().finish();
    let d = try_open(whole[..whole.len() - 0x1800].to_vec()).unwrap();
    assert_eq!(d.problems[0].place, "memory segments");
    assert!(d.problems[0].what.contains("0x1800 bytes are missing"), "{}", d.problems[0].what);
    check_map(&d);

    let mut c = everything();
    c.notes.truncate(c.notes.len() - 40);
    let d = open(&c);
    assert_eq!(d.threads.len(), 1);
    assert!(d.problems.iter().any(|p| p.what.contains("cut off")), "{:?}", d.problems);

    let mut c = everything();
    c.note("CORE", 1, &[0; 20]);
    assert!(open(&c).problems.iter().any(|p| p.what.contains("too short")));

    let mut c = everything();
    c.load(0x40_0800, 6, vec![0xEE; 0x1000]);
    let d = open(&c);
    assert!(d.problems.iter().any(|p| p.what.contains("given twice")), "{:?}", d.problems);
    assert_eq!(d.space.u8(0x40_1000), Some(0x90));
    check_map(&d);
}

#[test]
fn segments_at_the_ends_of_the_address_space() {
    let mut c = Core::new(X64);
    c.thread(1, 0, &[(RSP, u64::MAX - 8)]);
    c.load(0, 4, vec![1; 0x1000]);
    c.load(0xFFFF_FFFF_FF60_0000, 5, vec![2; 0x1000]);
    c.load(u64::MAX - 0xF, 6, vec![3; 0x1000]);
    c.partial(u64::MAX - 0xFFF, u64::MAX, 6, Vec::new());
    let d = open(&c);
    assert_eq!((d.space.u8(0), d.space.u8(0xFFFF_FFFF_FF60_0FFF)), (Some(1), Some(2)));
    check_map(&d);
}

#[test]
fn read_only_pages_come_from_a_file_with_the_same_build_id() {
    let folder = tempfile::tempdir().unwrap();
    let core = folder.path().join("a.core");
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(&core, everything().finish()).unwrap();
    let options = OpenOptions { image_paths: vec![images.clone()], ..OpenOptions::default() };
    let open = || Dump::open(&core, &options, &clrscope::watch::Watch::default()).unwrap();

    // Another build of the same name is refused, and said.
    let library = images.join("libcoreclr.so");
    std::fs::write(&library, image(&[3; 20], 0xEE, 0x3000)).unwrap();
    let d = open();
    assert_eq!(d.space.u8(0x7F00_0000_1000), None);
    let refused = d.images.refused();
    assert_eq!((refused.len(), &refused[0].path), (1, &library));
    let why = format!("build id {} expected, {} found", "02".repeat(20), "03".repeat(20));
    assert_eq!(refused[0].why, why);

    let mut right = image(&[2; 20], 0xC3, 0x3000);
    right[0x800] = 0x99;
    right[0x2800] = 0x99;
    std::fs::write(&library, right).unwrap();
    let d = open();
    assert_eq!(d.images.used(), [(library, FoundBy::Identity)]);
    assert_eq!(d.space.u8(0x7F00_0000_1000), Some(0xC3));
    // What the dump holds wins, and a file never stands in for writable memory.
    assert_eq!((d.space.u8(0x7F00_0000_0800), d.space.u8(0x7F00_0000_2800)), (Some(0), Some(0)));
    assert_eq!(d.map_at(0x7F00_0000_1000).unwrap().presence, Presence::MappedOnly);
}

#[test]
fn a_file_cut_anywhere_opens_or_says_why() {
    let whole = everything().finish();
    for len in (1..whole.len()).step_by(61).chain(1..0x600) {
        match try_open(whole[..len].to_vec()) {
            Ok(d) => check_map(&d),
            Err(e) => assert!(e.to_string().starts_with("test.core: is "), "cut at {len}: {e}"),
        }
    }
}

/// The kernel gives the main thread the times of the whole process, and writes the thread that crashed first.
#[test]
fn times_of_threads_are_told_apart() {
    let mut c = Core::new(X64);
    c.process(0x2222, "shop", "shop").thread(0x1111, 11, &[]).thread(0x2222, 0, &[]).load(0x1000, 6, vec![1; 0x1000]);
    let mut bytes = c.finish();
    // `pr_utime` of the two notes, found by the thread ids at offset 32 of their contents: seconds at 48.
    for (tid, seconds) in [(0x1111u32, 3u64), (0x2222, 7)] {
        let at = bytes.windows(4).rposition(|w| w == tid.to_le_bytes()).unwrap() - 32;
        bytes[at + 48..at + 56].copy_from_slice(&seconds.to_le_bytes());
    }
    let d = Dump::from_map(Path::new("t.core"), FileMap::owned(bytes), &OpenOptions::default()).unwrap();
    let user: Vec<u64> = d.threads.iter().map(|t| t.info.unwrap().user_time / 10_000_000).collect();
    assert_eq!((user, d.process.cpu_seconds), (vec![3, 4], Some((7, 0))));
}
