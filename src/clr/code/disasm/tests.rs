#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Flow, LONGEST, Machine, Registers, Source};
use crate::dump::{Arch, Os};

fn machine(arch: Arch) -> Machine {
    Machine::new(arch, Os::Linux).unwrap()
}

fn texts(arch: Arch, bytes: &[u8], at: u64) -> Vec<String> {
    machine(arch).instructions(bytes, at).map(|i| i.text).collect()
}

fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[test]
fn x64_is_spelled_as_debuggers_do() {
    let at = 0x7FF9_3C2D_0480;
    let bytes = [
        0x55, 0x48, 0x83, 0xEC, 0x30, 0x48, 0x8D, 0x6C, 0x24, 0x30, 0x48, 0xB9, 0xD0, 0x2F, 0x5C, 0x3D, 0x51, 1, 0, 0,
        0xE8, 0xA9, 0xFD, 0xFF, 0xFF, 0xFF, 0x15, 0x10, 0, 0, 0, 0x74, 0x02, 0x48, 0x8B, 0x05, 0xF0, 0xFF, 0xFF, 0xFF,
        0xC3,
    ];
    assert_eq!(
        texts(Arch::X64, &bytes, at),
        [
            "push    rbp",
            "sub     rsp,30h",
            "lea     rbp,[rsp+30h]",
            "mov     rcx,1513D5C2FD0h",
            "call    00007ff9`3c2d0242",
            "call    qword ptr [00007ff9`3c2d04af]",
            "je      00007ff9`3c2d04a3",
            "mov     rax,[00007ff9`3c2d0498]",
            "ret",
        ]
    );
    assert_eq!(texts(Arch::X64, &[0x06, 0x90], 0), ["???", "nop"]);
}

#[test]
fn x86_is_32_bits() {
    let bytes = [0xB9, 0x34, 0x12, 0x40, 0x00, 0xE8, 0xFB, 0xFF, 0xFF, 0xFF, 0xFF, 0x15, 0, 0, 0x40, 0];
    let all: Vec<_> = machine(Arch::X86).instructions(&bytes, 0x40_1000).collect();
    let text: Vec<&str> = all.iter().map(|i| &*i.text).collect();
    assert_eq!(text, ["mov     ecx,401234h", "call    00401005", "call    dword ptr ds:[400000h]"]);
    assert_eq!(
        (all[0].sets, all[1].target),
        (Some((1, Some(Source::Value(0x40_1234)))), Some(Source::Value(0x40_1005)))
    );
    assert_eq!(all[2].target, Some(Source::Memory(0x40_0000)));
}

#[test]
fn registers_are_followed_to_a_call() {
    let m = machine(Arch::X64);
    let none = |_: u64| None;
    // mov rax,imm; mov rdi,rax; call [rax]; call [rdi+8]
    let bytes = [
        0x48, 0xB8, 0, 0x10, 0, 0, 1, 0, 0, 0, 0x48, 0x8B, 0xF8, 0x48, 0x89, 0xC3, 0xFF, 0x10, 0xFF, 0x57, 8, 0xFF,
        0x53, 8,
    ];
    let mut r = Registers::default();
    let mut targets = Vec::new();
    for i in m.instructions(&bytes, 0x1000) {
        targets.extend(i.target.map(|t| r.place(t)));
        r.step(&m, &i, &none);
    }
    // A call changes rdi but not rbx.
    let cell = 0x1_0000_1000;
    assert_eq!(targets, [Some(Source::Memory(cell)), None, Some(Source::Memory(cell + 8))]);
}

#[test]
fn a_register_written_otherwise_is_forgotten() {
    let m = machine(Arch::X64);
    // mov rax,imm; mul rcx; call rax
    let bytes = [0x48, 0xB8, 0, 0x10, 0, 0, 1, 0, 0, 0, 0x48, 0xF7, 0xE1, 0xFF, 0xD0];
    let mut r = Registers::default();
    for i in m.instructions(&bytes, 0) {
        if let Some(t) = i.target {
            assert_eq!((i.flow, r.place(t)), (Flow::Call, None));
        }
        r.step(&m, &i, &|_| None);
    }
}

#[test]
fn arm64_calls_loads_and_pages() {
    let at = 0xFFFF_1234_5678;
    let code = words(&[
        0xA9BE_7BFD, // stp x29,x30,[sp,#-32]!
        0x9400_0004, // bl +16
        0xB400_0040, // cbz x0,+8
        0xD284_6800, // movz x0,#0x2340
        0xF2A0_0020, // movk x0,#1,lsl #16
        0xF940_0801, // ldr x1,[x0,#16]
        0xD63F_0020, // blr x1
        0x9000_0013, // adrp x19,.
        0x5800_0042, // ldr x2,+8
        0xD65F_03C0, // ret
    ]);
    let m = machine(Arch::Arm64);
    let all: Vec<_> = m.instructions(&code, at).collect();
    let text: Vec<&str> = all.iter().map(|i| &*i.text).collect();
    assert_eq!(text[0], "stp         x29, x30, [sp, #-0x20]!");
    assert_eq!(text[1], "bl          0000ffff`1234568c");
    assert_eq!(text[2], "cbz         x0, 0000ffff`12345688");
    assert_eq!(text[7], "adrp        x19, 0000ffff`12345000");
    assert_eq!(text[8], "ldr         x2, 0000ffff`123456a0");
    assert_eq!(text[9], "ret");
    assert_eq!(all[1].target, Some(Source::Value(0xFFFF_1234_568C)));
    assert_eq!(all[9].flow, Flow::End);
    let mut r = Registers::default();
    for i in &all[3..7] {
        if i.flow == Flow::Call {
            assert_eq!(r.place(i.target.unwrap()), Some(Source::Value(0x77)));
        }
        r.step(&m, i, &|a| (a == 0x1_2350).then_some(0x77));
    }
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200), at: u64) {
        for arch in [Arch::X64, Arch::X86, Arch::Arm64] {
            let m = machine(arch);
            let mut r = Registers::default();
            let mut total = 0;
            for i in m.instructions(&bytes, at) {
                prop_assert!(i.length > 0 && usize::from(i.length) <= LONGEST && !i.text.is_empty());
                total += usize::from(i.length);
                r.step(&m, &i, &|a| Some(a ^ at));
            }
            prop_assert_eq!(total, bytes.len());
        }
    }
}
