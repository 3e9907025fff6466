//! Machine code and IL of methods: rows as they were checked by hand, and each held against the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clrscope::clr::Clr;
use clrscope::clr::code::disasm::{Flow, Instruction, Registers};
use clrscope::clr::code::lookup::{CodeAt, CodeKind};
use clrscope::clr::il::{Value, instructions};
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::session::code::Called;
use clrscope::watch::Watch;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn open(name: &str) -> Session {
    let options = OpenOptions {
        cache_dir: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps")),
        no_images: true,
        ..OpenOptions::default()
    };
    Session::new(Dump::open(&data(name), &options, &Watch::default()).unwrap(), Watch::default())
}

/// Dump, command, rows that are in the answer in that order.
const ROWS: &[(&str, &str, &[&str])] = &[
    (
        "linux-x64-10.0-leak-heap.core.zst",
        "!u -o 7fdcb3271bde",
        &[
            "Normal JIT generated code",
            "Zoo.Zoo.Main(System.String[])",
            "Begin 00007FDCB3271860, size 5b3",
            "0000 00007fdc`b3271860 55              push    rbp",
            "0001 00007fdc`b3271861 4881ec30010000  sub     rsp,130h",
            "0274 00007fdc`b3271ad4 ff151662fbff    call    qword ptr [00007fdc`b3227cf0] (Zoo.Zoo.Fact(System.String, System.Object), mdToken: 000000000600001e)",
            "02e8 00007fdc`b3271b48 48be180840a2dc7f0000 mov     rsi,7FDCA2400818h (\"big\")",
            ">>> 037e 00007fdc`b3271bde ff155461fbff    call    qword ptr [00007fdc`b3227d38] (Zoo.Zoo.Animals(Int32), mdToken: 0000000006000023)",
            "047d 00007fdc`b3271cdd 48bfe87423b3dc7f0000 mov     rdi,7FDCB32374E8h (MT: System.Int32)",
        ],
    ),
    (
        "linux-x64-10.0-leak-heap.core.zst",
        "!u -il 7fdcb3271bde",
        &["IL_0005: ldstr \"zoo\"", "IL_000a: br.s IL_000f", "IL_0020: call int32 System.Int32::Parse(string)"],
    ),
    (
        "linux-x64-10.0-leak-heap.core.zst",
        "!dumpil 7fdcb32618d8",
        &[
            "ilAddr = 00007FDCB298BF24",
            "IL_0002: ldstr \"millisecondsTimeout\"",
            "IL_0007: call void System.ArgumentOutOfRangeException::ThrowIfLessThan<int32>(!!0,!!0,string)",
            "IL_0012: ret",
        ],
    ),
    (
        "linux-x64-10.0-leak-heap.core.zst",
        "u 7fdcb3271bde L2",
        &[
            "Zoo.Zoo.Main(System.String[])+0x37e:",
            "00007fdc`b3271bde ff155461fbff    call    qword ptr [00007fdc`b3227d38] (Zoo.Zoo.Animals(Int32), mdToken: 0000000006000023)",
            "00007fdc`b3271be4 90              nop",
        ],
    ),
    (
        "linux-x64-10.0-leak-heap.core.zst",
        "ub 7fdcb3271bde L2",
        &[
            "Zoo.Zoo.Main(System.String[])+0x379:",
            "00007fdc`b3271bd9 eb73            jmp     00007fdc`b3271c4e (Zoo.Zoo.Main(System.String[])+0x3ee)",
            "00007fdc`b3271bdb 8b7dec          mov     edi,[rbp-14h]",
        ],
    ),
    (
        // A method of the core library, reached through a stub that counts calls.
        "linux-x64-10.0-crash-heap.core.zst",
        "!u 7f8c79ea1b04",
        &[
            ">>> 00007f8c`79ea1b04 ff151662fbff    call    qword ptr [00007f8c`79e57d20] (System.String.op_Equality(System.String, System.String), mdToken: 0000000006000889)",
        ],
    ),
    (
        "linux-x64-8.0-wks-heap.core.zst",
        "!u 7fbc7e211cab",
        &[
            "Begin 00007FBC7E211920, size 5c0",
            "00007fbc`7e211b57 48bf08cb147ebc7f0000 mov     rdi,7FBC7E14CB08h (MT: System.Boolean)",
            ">>> 00007fbc`7e211cab ff15e7540900    call    qword ptr [00007fbc`7e2a7198] (Zoo.Zoo.Animals(Int32), mdToken: 0000000006000023)",
        ],
    ),
];

#[test]
fn rows_checked_by_hand() {
    let mut dumps: Vec<&str> = ROWS.iter().map(|r| r.0).collect();
    dumps.dedup();
    for dump in dumps {
        let of: Vec<_> = ROWS.iter().filter(|r| r.0 == dump).collect();
        let commands: Vec<String> = of.iter().map(|r| r.1.to_owned()).collect();
        for ((_, command, rows), answer) in of.iter().zip(ask::ask(&data(dump), &commands)) {
            let mut lines = answer.iter();
            for row in *rows {
                assert!(
                    lines.any(|l| l.trim_end() == *row),
                    "{dump}: {command}: no row\n{row}\nin\n{}",
                    answer.join("\n")
                );
            }
        }
    }
}

/// Compiled methods of the program's own assembly whose code is all in the dump.
fn compiled(session: &Session) -> Vec<(CodeAt, Vec<u8>)> {
    let clr = session.clr().unwrap();
    let own = |path: &str| path.ends_with("zoo.dll") || path.ends_with("small.dll");
    let modules: Vec<u64> =
        clr.assemblies().items.iter().map(|a| a.module).filter(|&m| own(&clr.module(m).path)).collect();
    let mut all = Vec::new();
    for start in clr.code().starts() {
        let Some(at) = clr.code().at(start).filter(|a| a.kind == CodeKind::Jit && modules.contains(&a.module)) else {
            continue;
        };
        let Some(length) = at.length else { continue };
        let bytes = session.code_bytes(at.start, length as usize);
        if bytes.len() == length as usize {
            all.push((at, bytes));
        }
    }
    all
}

/// Names of the methods of its own module that the IL of a method calls.
fn called_by_il(clr: &Clr, at: &CodeAt) -> BTreeSet<String> {
    const METHOD_DEF: u32 = 6;
    let module = clr.module(at.module);
    let (Some(metadata), Some(token)) = (module.metadata(clr), at.token) else { return BTreeSet::new() };
    let Ok(il) = clr.il_of_row(&module, metadata, token & 0x00FF_FFFF) else { return BTreeSet::new() };
    let calls = instructions(&il.body.code).filter(|i| i.name == "call").filter_map(|i| match i.value {
        Value::Token(t) if t >> 24 == METHOD_DEF => clr.method_name_of_row(at.module, t & 0x00FF_FFFF),
        _ => None,
    });
    calls.collect()
}

/// Decodes whole methods: every byte is part of an instruction. What their IL calls by name, their code calls by name.
fn hold_against_il(dump: &str, least: (usize, usize, usize)) {
    let session = open(dump);
    let clr = session.clr().unwrap();
    let machine = session.machine().unwrap();
    let (mut methods, mut wanted, mut named) = (0, 0, 0);
    for (at, bytes) in compiled(&session) {
        let code: Vec<Instruction> = machine.instructions(&bytes, at.start).collect();
        let name = clr.code().name(&at).unwrap_or_default();
        assert!(code.iter().all(|i| i.text != "???"), "{dump}: {name}");
        assert_eq!(code.last().unwrap().next(), at.start + bytes.len() as u64, "{dump}: {name}");
        let mut registers = Registers::default();
        let mut called = BTreeSet::new();
        for i in &code {
            let to = i.target.filter(|_| i.flow == Flow::Call).and_then(|t| session.destination(t, &registers));
            if let Some((_, Some(Called::Method { name, .. }))) = to {
                called.insert(name);
            }
            registers.step(&machine, i, &|a| clr.space().ptr(a));
        }
        let il = called_by_il(clr, &at);
        (methods, wanted, named) = (methods + 1, wanted + il.len(), named + il.intersection(&called).count());
    }
    println!("{dump}: {methods} methods, {named} of {wanted} calls named");
    assert!(methods >= least.0 && wanted >= least.1 && named >= least.2, "{dump}: {methods} {wanted} {named}");
}

/// Fewest methods, calls of their IL, and calls named: what was found when each was looked at.
#[test]
fn code_calls_what_its_il_calls() {
    for (dump, least) in [
        ("linux-x64-10.0-leak-heap.core.zst", (16, 13, 13)),
        ("linux-x64-10.0-wks-heap.core.zst", (42, 32, 32)),
        ("linux-x64-9.0-svr-heap.core.zst", (42, 32, 32)),
        ("linux-x64-8.0-wks-heap.core.zst", (42, 32, 32)),
        ("win-x64-10.0-wks-full.dmp.zst", (42, 32, 32)),
        ("win-x64-3.1-wks-full.dmp.zst", (42, 32, 32)),
        // One is inlined: the program was built with optimization.
        ("win-x86-3.1-small.dmp.zst", (19, 15, 14)),
    ] {
        hold_against_il(dump, least);
    }
}
