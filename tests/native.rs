//! Native frames and symbols of real dumps, and of damaged tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clrscope::dump::{Dump, OpenOptions};
use clrscope::native::unwind::MOST_FRAMES;
use clrscope::native::{Context, End, Native, Stepped};

fn native(name: &str) -> Native {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    // The dump alone: what files this machine has must not matter.
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    Native::new(Arc::new(Dump::open(&path, &options, &Default::default()).unwrap()))
}

fn walks(native: &Native) -> Vec<(Vec<Stepped>, End)> {
    let dump = native.dump();
    let registers = dump.threads.iter().filter_map(|t| t.registers.as_ref());
    registers.map(|r| native.walk(Context::of_thread(dump.arch, r), MOST_FRAMES)).collect()
}

/// Whether the bytes before a return address are those of a call, by the x64 encodings; `None` where they are not at hand.
fn follows_call(dump: &Dump, ip: u64) -> Option<bool> {
    let b = dump.space.bytes(ip - 7, 7)?;
    let direct = b[2] == 0xE8;
    // `call r/m`: FF /2 with the lengths its addressing forms have.
    let indirect = (0..=5).any(|i| b[i] == 0xFF && b[i + 1] & 0x38 == 0x10);
    Some(direct || indirect)
}

const CORES: &[&str] = &[
    "linux-x64-3.1-wks-heap.core.zst",
    "linux-x64-8.0-wks-heap.core.zst",
    "linux-x64-9.0-svr-heap.core.zst",
    "linux-x64-10.0-wks-heap.core.zst",
    "linux-x64-11.0-eleven-heap.core.zst",
];

#[test]
fn frames_of_linux_threads_stand_behind_calls() {
    for name in CORES {
        let native = native(name);
        let (mut described, mut checked) = (0, 0);
        for (frames, end) in walks(&native) {
            assert!(!matches!(end, End::Limit), "{name}: {end}");
            assert!(frames.windows(2).all(|w| w[0].context.sp() < w[1].context.sp()), "{name}: the stack falls");
            for f in frames.iter().filter(|f| !f.exact && !f.guessed) {
                described += 1;
                if let Some(call) = follows_call(native.dump(), f.context.ip) {
                    checked += 1;
                    assert!(call, "{name}: {:x} is behind no call", f.context.ip);
                }
            }
        }
        assert!(described > 20 && checked > 5, "{name}: {described} frames, {checked} checked");
    }
}

#[test]
fn threads_made_by_the_system_end_where_it_made_them() {
    for name in CORES {
        let native = native(name);
        let walks = walks(&native);
        let bottom = walks.iter().filter(|w| w.1 == End::Bottom).count();
        // The others end in managed code, which is in no module.
        assert!(
            bottom >= 2,
            "{name}: {bottom} of {}: {:?}",
            walks.len(),
            walks.iter().map(|w| &w.1).collect::<Vec<_>>()
        );
    }
}

#[test]
fn names_of_the_vdso_come_from_its_memory() {
    let native = native("linux-x64-10.0-wks-heap.core.zst");
    let at = native.dump().modules.iter().position(|m| m.path == "[vdso]").unwrap();
    let opened = native.image(at).unwrap();
    let names: Vec<_> = native.matching(opened, |n| n.contains("clock_gettime")).collect();
    let symbol = names.iter().find(|s| s.name == "__vdso_clock_gettime").expect("its name");
    assert!(symbol.code && symbol.size > 0);
    let inside = native.place(symbol.address + 2).unwrap();
    assert!(inside.to_string().ends_with("clock_gettime+0x2"), "{inside}");
    // Behind its end no name is given.
    let behind = native.place(symbol.address + symbol.size + 0x100).unwrap();
    assert_ne!(behind.name, inside.name);
}

#[test]
fn exports_name_addresses_of_windows_images() {
    let native = native("win-x64-10.0-wks-full.dmp.zst");
    let coreclr = native.dump().modules.iter().position(|m| m.file_name().eq_ignore_ascii_case("coreclr.dll")).unwrap();
    let opened = native.image(coreclr).unwrap();
    let symbol = native.matching(opened, |n| n == "coreclr_initialize").next().expect("an export");
    let place = native.place(symbol.address + 1).unwrap();
    assert_eq!(place.to_string(), "coreclr!coreclr_initialize+0x1");
    let (begin, end) = native.function_at(symbol.address).expect("its entry in .pdata");
    assert_eq!(begin, symbol.address);
    // The next function has another name or none.
    let next = native.place(end + 0x20).unwrap();
    assert_ne!(next.name.as_deref(), Some("coreclr_initialize"), "{next}");
}

#[test]
fn a_stack_that_nothing_describes_says_so() {
    let native = native("win-x64-10.0-wks-full.dmp.zst");
    let ends: Vec<End> = walks(&native).into_iter().map(|w| w.1).collect();
    assert!(ends.iter().any(|e| matches!(e, End::NoUnwindData { module, .. } if module == "ntdll")), "{ends:?}");
    let said = ends.iter().find(|e| matches!(e, End::NoUnwindData { .. })).unwrap().to_string();
    assert!(said.contains("ntdll+0x") && said.contains("-i"), "{said}");
}

mod damaged {
    use clrscope::dump::Arch;
    use clrscope::dump::map::FileMap;
    use clrscope::dump::space::{AddressSpace, SpaceBuilder};
    use clrscope::native::cfi::Cfi;
    use clrscope::native::image::{Format, Image, Pe, Section};
    use clrscope::native::table::Table;
    use clrscope::native::{Context, End, Stepped, codeview, demangle, minidebug, pdb, unwindinfo, xdata};
    use proptest::prelude::*;

    const BASE: u64 = 0x40_0000;
    const STACK: u64 = 0x80_0000;

    fn space(image: &[u8], stack: &[u64]) -> AddressSpace {
        let mut builder = SpaceBuilder::new(8);
        let words = stack.iter().flat_map(|w| w.to_le_bytes()).collect();
        for (at, bytes) in [(BASE, image.to_vec()), (STACK, words)] {
            let (len, source) = (bytes.len() as u64, builder.source(FileMap::owned(bytes)));
            builder.add(at, source, 0, len);
        }
        builder.build().0
    }

    fn image(size: u64) -> Image {
        let format = Format::Pe(Pe::default());
        Image { index: 0, base: BASE, size, name: "a".into(), format, file: None }
    }

    fn full(arch: Arch, ip: u64) -> Context {
        let mut context = Context::new(arch, ip, STACK);
        (0..32).for_each(|n| context.set(n, STACK + 8 * n as u64));
        context.set_sp(STACK);
        context
    }

    fn step(
        arch: Arch,
        bytes: &[u8],
        stack: &[u64],
        table: (u32, u32),
        from: &Context,
        exact: bool,
    ) -> Option<Result<Stepped, End>> {
        let (space, image) = (space(bytes, stack), image(bytes.len() as u64));
        let read = |a: u64| space.u64(a);
        let code = xdata::Code { space: &space, image: &image, table, read: &read };
        let lookup = if exact { from.ip } else { from.ip - 1 };
        match arch {
            Arch::X64 => unwindinfo::step(&code, from, lookup, exact),
            _ => xdata::step(&code, from, lookup, exact),
        }
    }

    /// An image whose one function lies at 0x100..0x140, with an entry at 0 and its information at 0x20.
    fn x64(info: &[u8], code: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xCC; 0x140];
        for (i, word) in [0x100u32, 0x140, 0x20].iter().enumerate() {
            bytes[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[0x20..0x20 + info.len()].copy_from_slice(info);
        bytes[0x100..0x100 + code.len()].copy_from_slice(code);
        bytes
    }

    /// `push rbp; push rbx; sub rsp, 0x28; ... ; add rsp, 0x28; pop rbx; pop rbp; ret`
    const PROLOGUE: [u8; 6] = [0x55, 0x53, 0x48, 0x83, 0xEC, 0x28];
    const EPILOGUE: [u8; 7] = [0x48, 0x83, 0xC4, 0x28, 0x5B, 0x5D, 0xC3];
    /// Its codes: allocated 0x28 at 6, pushed rbx at 2, rbp at 1.
    const INFO: [u8; 10] = [1, 6, 3, 0, 6, 0x42, 2, 0x30, 1, 0x50];

    #[test]
    fn every_instruction_of_a_function_leads_to_the_same_caller() {
        let mut code = PROLOGUE.to_vec();
        code.extend([0x90; 10]);
        code.extend(EPILOGUE);
        let bytes = x64(&INFO, &code);
        // What is on the stack in the body: locals, rbx, rbp, return address.
        let stack = [0, 0, 0, 0, 0, 0xB, 0xB9, 0x1234, 0];
        // Offset of the instruction, the stack pointer above that of the body, whether rbp and rbx were restored.
        let places = [
            (0, 7, true, true),
            (1, 6, false, true),
            (2, 5, false, false),
            (6, 0, false, false),
            (15, 0, false, false),
            (16, 0, false, false),
            (20, 5, false, false),
            (21, 6, false, true),
            (22, 7, true, true),
        ];
        for (offset, words, rbp, rbx) in places {
            let mut from = full(Arch::X64, BASE + 0x100 + offset);
            from.set_sp(STACK + words * 8);
            if rbp {
                from.set(5, 0xB9);
            }
            if rbx {
                from.set(3, 0xB);
            }
            let to = step(Arch::X64, &bytes, &stack, (0, 12), &from, true).unwrap().unwrap();
            let c = to.context;
            assert_eq!((c.ip, c.sp(), c.get(5), c.get(3)), (0x1234, STACK + 64, Some(0xB9), Some(0xB)), "at {offset}");
            assert_eq!(c.get(0), None, "rax does not survive a call");
            assert_eq!(c.get(12), from.get(12));
        }
    }

    #[test]
    fn a_frame_register_gives_the_stack_pointer() {
        // push rbp; sub rsp, 0x20; lea rbp, [rsp+0x10]: rsp may be anything after.
        let bytes = x64(&[1, 0xA, 3, 0x15, 0xA, 3, 5, 0x32, 1, 0x50, 0, 0], &[0x90; 64]);
        let stack = [0, 0, 0, 0, 0, 0, 0xB9, 0x1234];
        let mut from = full(Arch::X64, BASE + 0x120);
        from.set(5, STACK + 0x20);
        let c = step(Arch::X64, &bytes, &stack, (0, 12), &from, false).unwrap().unwrap().context;
        assert_eq!((c.ip, c.sp(), c.get(5)), (0x1234, STACK + 64, Some(0xB9)));
    }

    #[test]
    fn a_chain_that_leads_to_itself_ends() {
        // Chained to the entry it stands in.
        let mut info = vec![1 | 4 << 3, 0, 0, 0];
        info.extend([0x100u32, 0x140, 0x20].iter().flat_map(|w| w.to_le_bytes()));
        let bytes = x64(&info, &[0x90; 64]);
        let end = step(Arch::X64, &bytes, &[0x1234], (0, 12), &full(Arch::X64, BASE + 0x120), false).unwrap();
        assert_eq!(end, Err(End::Stuck));
    }

    #[test]
    fn arm64_records_and_packed_data_lead_to_the_caller() {
        // stp x19, x20, [sp, -32]!; stp fp, lr, [sp, 16]; the codes in reverse: save_fplr 16, save_r19r20_x 32, end.
        let mut record = vec![0; 0x140];
        record[0..4].copy_from_slice(&0x100u32.to_le_bytes());
        record[4..8].copy_from_slice(&0x20u32.to_le_bytes());
        record[0x20..0x24].copy_from_slice(&(16u32 | 1 << 27).to_le_bytes());
        record[0x24..0x28].copy_from_slice(&[0x42, 0x24, 0xE4, 0xE3]);
        let stack = [0x19, 0x20, 0x29, 0x1234, 0];
        let c = step(Arch::Arm64, &record, &stack, (0, 8), &full(Arch::Arm64, BASE + 0x120), false).unwrap().unwrap();
        let c = c.context;
        let values = (c.ip, c.sp(), c.get(19), c.get(20), c.get(29));
        assert_eq!(values, (0x1234, STACK + 32, Some(0x19), Some(0x20), Some(0x29)));
        // Packed: 16 words, two integer registers, fp and lr chained, 48 bytes: fp and lr at the bottom, then the pair.
        let packed = 1u32 | 16 << 2 | 2 << 16 | 3 << 21 | 3 << 23;
        record[4..8].copy_from_slice(&packed.to_le_bytes());
        let stack = [0x29, 0x1234, 0, 0, 0x19, 0x20, 0];
        let mut from = full(Arch::Arm64, BASE + 0x120);
        from.set_fp(Some(STACK));
        let c = step(Arch::Arm64, &record, &stack, (0, 8), &from, false).unwrap().unwrap().context;
        let values = (c.ip, c.sp(), c.get(19), c.get(20), c.get(29));
        assert_eq!(values, (0x1234, STACK + 48, Some(0x19), Some(0x20), Some(0x29)));
    }

    /// The count of rows in a header of frames is multiplied by the reader: one that does not fit is no table.
    #[test]
    fn a_header_with_more_rows_than_it_holds_is_left_out() {
        let memory = space(&[0; 64], &[1, 2, 3]);
        let read = |a: u64| memory.u64(a);
        let frames = || Section::whole(BASE + 40, vec![0; 32]);
        // Version, encoding of the pointer to the frames, of the count, of the table; with 4 and with 8 bytes a number.
        for [pointer, count, table] in [[0x1B, 3, 0x3B], [0x32, 0, 3], [4, 4, 4], [0x1B, 4, 0x3C], [0x1B, 2, 0x3B]] {
            let mut bytes = vec![1, pointer, count, table];
            bytes.extend([0x42; 36]);
            let header = Section::whole(BASE, bytes);
            let cfi = Cfi::of_sections(Arch::X64, Some(header), frames());
            assert!(cfi.step(&full(Arch::X64, BASE + 8), BASE + 8, &read).is_none());
            assert!(cfi.function(BASE + 8).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_as_call_frame_information(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0u64..512) {
            let memory = space(&bytes, &[1, 2, 3]);
            let (head, rest) = bytes.split_at(bytes.len().min(40));
            let read = |a: u64| memory.u64(a);
            for arch in [Arch::X64, Arch::Arm64, Arch::X86] {
                let header = Section::whole(BASE, head.to_vec());
                let (whole, frames) = (Section::whole(BASE, bytes.clone()), Section::whole(BASE + 40, rest.to_vec()));
                for cfi in [Cfi::of_sections(arch, None, whole), Cfi::of_sections(arch, Some(header), frames)] {
                    let _ = (cfi.step(&full(arch, BASE + at), BASE + at, &read), cfi.function(BASE + at));
                }
            }
        }

        #[test]
        fn any_bytes_as_unwind_information(bytes in proptest::collection::vec(any::<u8>(), 0..0x140), at in 0u64..0x180, exact: bool) {
            let mut framed = x64(&[], &[]);
            let n = bytes.len().min(0x120);
            framed[0x20..0x20 + n].copy_from_slice(&bytes[..n]);
            for arch in [Arch::X64, Arch::Arm64] {
                let from = full(arch, BASE + 1 + at);
                let _ = step(arch, &bytes, &[7; 40], (0, 96), &from, exact);
                let _ = step(arch, &framed, &[7; 40], (0, 12), &from, exact);
            }
        }

        #[test]
        fn any_bytes_as_files_of_symbols(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut xz = b"\xFD7zXZ\0\0\x04\xE6\xD6\xB4\x46".to_vec();
            xz.extend(&bytes);
            let mut msf = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec();
            msf.extend(&bytes);
            let _ = (minidebug::unpack(&bytes), minidebug::unpack(&xz));
            // Records of types behind their head, the first of them a class.
            let head = [20_040_203u32, 56, 0x1000, 0x1010, bytes.len() as u32];
            let mut types: Vec<u8> = head.iter().flat_map(|w| w.to_le_bytes()).collect();
            types.resize(56, 0);
            types.extend(&bytes);
            prop_assert!(codeview::classes(&types).len() <= bytes.len());
            for file in [bytes, msf].map(FileMap::owned) {
                let _ = (pdb::identity(&file), pdb::add(&file, &mut Table::default()), pdb::classes(&file));
            }
        }

        #[test]
        fn any_text_as_a_decorated_name(text in "[_Z?@A-Za-z0-9$]{0,80}") {
            for prefix in ["_Z", "_ZN", "?", "??$", ""] {
                let plain = demangle::plain(&format!("{prefix}{text}"));
                prop_assert!(plain.len() <= 4096 + 100);
            }
        }
    }
}
