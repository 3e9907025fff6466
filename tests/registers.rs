//! Registers that lie in memory or beside an exception: `.ecxr`, `.cxr`, `.exr`, on records that systems wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;

use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn asked(name: &str, commands: &[&str]) -> Vec<Vec<String>> {
    ask::ask(&data(name), &commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
}

/// The register of that name among lines that `r` prints.
fn register(lines: &[String], name: &str) -> u64 {
    let words = lines.iter().flat_map(|l| l.split_whitespace());
    let text = words.filter_map(|w| w.split_once('=')).find(|(n, _)| *n == name);
    u64::from_str_radix(text.unwrap_or_else(|| panic!("no {name} in {lines:?}")).1, 16).unwrap()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(&text.replace('`', ""), 16).unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Stack pointers of the frames that `k` or `!clrstack` prints.
fn frames(lines: &[String], column: usize) -> Vec<u64> {
    let number = |l: &String| {
        let word = l.split_whitespace().nth(column)?.replace('`', "");
        (word.len() == 16).then(|| u64::from_str_radix(&word, 16).ok()).flatten()
    };
    lines.iter().filter_map(number).collect()
}

#[test]
fn what_a_signal_interrupted_is_found_behind_its_handler() {
    // The handler runs on a stack of its own, notes what it was given, and aborts (`testdata/native/signal.c`).
    let name = "native/linux-x64-signal.core.zst";
    let found = asked(name, &["s -a 0 L?7fffffffffff CLRSCOPE-SIGNAL"]);
    let at: Vec<u64> = found[0].iter().filter_map(|l| l.split_whitespace().next()).map(hex).collect();
    let words = |at: u64| asked(name, &[&format!("dq {:x} L5", at + 16)]).remove(0);
    let noted: Vec<Vec<u64>> =
        at.iter().map(|&a| words(a).iter().flat_map(|l| l.split_whitespace().skip(1).map(hex)).collect()).collect();
    // One copy of the mark is of the file, before it ran.
    let noted = noted.into_iter().find(|w| w.len() == 5 && w[0] != 0).expect("what the handler noted");
    let [record, info, rip, rsp, rbp] = noted[..] else { panic!("{noted:x?}") };
    let all = asked(
        name,
        &[".ecxr", "k", "r", ".cxr", "r", &format!(".cxr {record:x}"), "k", &format!(".cxr {:x}", info + 1)],
    );
    for lines in [&all[0], &all[2], &all[5]] {
        assert_eq!(
            [register(lines, "rip"), register(lines, "rsp"), register(lines, "rbp")],
            [rip, rsp, rbp],
            "{lines:?}"
        );
    }
    // Both ways the stack is that of the code, not of the handler.
    assert_eq!(frames(&all[1], 1), frames(&all[6], 1));
    assert_eq!(frames(&all[1], 1).first(), Some(&rsp));
    assert!(frames(&all[1], 1).len() > 3, "{:?}", all[1]);
    // Without a record the thread's own registers are back: it stands in abort.
    assert!(all[3].iter().any(|l| l.contains("Resetting default scope")));
    assert_ne!(register(&all[4], "rip"), rip);
    // What is no record is refused.
    assert!(all[7].iter().all(|l| !l.contains("rip=")), "{:?}", all[7]);
}

/// Thread, code, address and the two words at `ip` and `sp` of the `CONTEXT` of a minidump's exception stream, read by hand
/// (Windows SDK `minidumpapiset.h`: `MINIDUMP_DIRECTORY`, `MINIDUMP_EXCEPTION_STREAM`).
fn stream(name: &str, (ip, sp): (usize, usize), pointer: usize) -> (u32, u32, u64, [u64; 2]) {
    let bytes = std::fs::read(data(name)).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let word = |at: usize| match pointer {
        8 => u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()),
        _ => u64::from(u32_at(at)),
    };
    let (count, first) = (u32_at(8) as usize, u32_at(12) as usize);
    let entry = (0..count).map(|i| first + 12 * i).find(|&e| u32_at(e) == 6).expect("an exception stream");
    let at = u32_at(entry + 8) as usize;
    let record = at + 8;
    let address = u64::from_le_bytes(bytes[record + 16..record + 24].try_into().unwrap());
    let context = u32_at(at + 8 + 152 + 4) as usize;
    (u32_at(at), u32_at(record), address, [word(context + ip), word(context + sp)])
}

#[test]
fn the_context_of_a_minidumps_exception_is_the_one_recorded_with_it() {
    const X64: (usize, usize) = (0xF8, 0x98);
    const X86: (usize, usize) = (0xB8, 0xC4);
    for (name, places, names, pointer) in
        [("native/win-x64-parameter.dmp", X64, ["rip", "rsp"], 8), ("native/win-x86-fault.dmp", X86, ["eip", "esp"], 4)]
    {
        let (thread, code, address, wanted) = stream(name, places, pointer);
        let all = asked(name, &[".exr -1", ".ecxr", "r", "k", "? @$tid", ".cxr", "r"]);
        let said = |start: &str| {
            let line =
                all[0].iter().find(|l| l.trim_start().starts_with(start)).unwrap_or_else(|| panic!("{:?}", all[0]));
            hex(line.split_whitespace().nth(1).unwrap())
        };
        assert_eq!((said("ExceptionAddress:"), said("ExceptionCode:")), (address, u64::from(code)), "{name}");
        for lines in &all[1..3] {
            assert_eq!(names.map(|n| register(lines, n)), wanted, "{name}: {lines:?}");
        }
        let first = all[3].iter().find(|l| l.starts_with("00 ")).unwrap_or_else(|| panic!("{:?}", all[3]));
        assert_eq!(hex(first.split_whitespace().nth(1).unwrap()), wanted[1], "{name}: {first}");
        assert!(all[4].iter().any(|l| l.contains(&format!("{thread:x}"))), "{name}: thread {thread:x}: {:?}", all[4]);
        // The thread itself stood elsewhere when the dump was written.
        assert!(all[5].iter().any(|l| l.contains("Resetting default scope")), "{name}");
    }
}

#[test]
fn a_context_of_the_runtime_leads_to_the_code_that_threw() {
    let name = "linux-x64-10.0-crash-heap.core.zst";
    let own = asked(name, &["!clrstack"]).remove(0);
    let frame = own.iter().position(|l| l.contains("[SoftwareExceptionFrame:")).expect("an exception in flight");
    let at = hex(own[frame].split_whitespace().next().unwrap());
    // dotnet/runtime release/10.0 `src/coreclr/vm/frames.h`: the frame keeps the CONTEXT of who threw.
    let commands: Vec<String> = (0x18..0x200).step_by(8).map(|o| format!(".cxr {:x}", at + o)).collect();
    let tried = ask::ask(&data(name), &commands);
    let thrower: u64 = hex(own[frame + 1].split_whitespace().nth(1).unwrap());
    let found = tried.iter().position(|l| l.iter().any(|w| w.starts_with("rip=")) && register(l, "rip") == thrower);
    let record = at + 0x18 + 8 * found.expect("its CONTEXT") as u64;
    let all = asked(name, &[&format!(".cxr {record:x}"), "!clrstack", "k", ".cxr 0", "!clrstack"]);
    assert_eq!(frames(&all[1], 0), frames(&own[frame + 1..], 0));
    assert_eq!(frames(&all[2], 1).first(), frames(&all[1], 0).first());
    assert_eq!(all[4], own);
}

#[test]
fn a_dump_of_a_running_process_has_no_exception() {
    let all = asked("linux-x64-10.0-wks-heap.core.zst", &[".ecxr", ".exr -1", ".cxr 10", ".exr 10"]);
    assert!(all[0].iter().any(|l| l.contains("the dump records no exception")), "{:?}", all[0]);
    assert!(all[1].iter().any(|l| l.contains("the dump records no exception")), "{:?}", all[1]);
    // What is not in the dump is no record.
    assert!(all[2..4].iter().flatten().all(|l| !l.contains("rip=") && !l.contains("ExceptionCode")), "{all:?}");
}
