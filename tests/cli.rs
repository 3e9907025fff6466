//! The real binary on real dumps: exit codes, mistakes, formats, scripts, bad files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn clrscope(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .args(args)
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const LEAK: &str = "linux-x64-10.0-leak-heap.core.zst";

fn on(dump: &str, args: &[&str]) -> (i32, String, String) {
    let path = data(dump);
    let mut all = vec![path.to_str().unwrap()];
    all.extend_from_slice(args);
    let out = clrscope(&all);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn what_is_no_dump_is_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, bytes: &[u8]| {
        let p = dir.path().join(name);
        fs::write(&p, bytes).unwrap();
        p
    };
    let files = [
        make("empty", b""),
        make("text", b"hello, this is not a dump at all, just some text\n"),
        make("kernel", b"PAGEDU64 and then some of a kernel dump"),
        make("cut", b"MDMP\x93\xa7\x00\x00"),
        make("elf", b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        dir.path().join("missing"),
        dir.path().to_owned(),
    ];
    for f in files {
        let out = clrscope(&[f.to_str().unwrap(), "-c", "q"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{}: {said}", f.display());
        assert_eq!(said.trim_end().lines().count(), 1, "{}: {said}", f.display());
        assert!(out.stdout.is_empty());
    }
}

#[test]
fn mistakes_say_what_to_do() {
    for (line, code, part) in [
        ("!dumpheep -stat", 1, "did you mean !dumpheap"),
        ("!dumpheap -stat -bogus", 1, "no option -bogus"),
        ("!dumpheap -min many", 1, "decimal unless"),
        ("!dumpobj", 1, "ADDR is missing"),
        ("!dumpobj 10", 1, "is not in the dump"),
        ("!dumpobj zzz", 1, "no number, register or module"),
        ("!gcroot 12345", 1, "is not in the dump"),
        ("!dumpheap -gen gen7", 1, "gen0, gen1"),
        ("!dumpheap \"open", 1, "quote is not closed"),
        ("!dumpheap No.Such.Type", 1, "no type on the heap"),
        ("$$><no-such-script", 1, "cannot read the script"),
        ("!clrstack", 1, "not built yet"),
        ("? 1/0", 1, "division by zero"),
        ("!gcwhere 10", 0, ""),
    ] {
        let (status, out, err) = on(LEAK, &["-c", line]);
        assert_eq!(status, code, "{line}: {out}{err}");
        assert!(err.contains(part), "{line}: {err}");
    }
}

#[test]
fn a_failing_command_ends_its_line_and_later_ones_still_run() {
    let (status, out, _) = on(LEAK, &["-c", ".echo one; !nope; .echo two", "-c", ".echo three"]);
    assert_eq!(status, 1);
    assert_eq!(out, "one\nthree\n");
}

#[test]
fn names_are_forgiving() {
    let (_, want, _) = on(LEAK, &["-c", "!dumpheap -stat"]);
    for line in ["dumpheap -stat", "!DumpHeap -STAT", "!sos.dumpheap --stat", "!dumpheap /stat"] {
        assert_eq!(on(LEAK, &["-c", line]).1, want, "{line}");
    }
    let (_, out, _) = on(LEAK, &["-c", "!do 0x00007fd0`d91190c8; !do 7fd0d91190c8"]);
    let (a, b) = out.split_at(out.len() / 2);
    assert_eq!(a, b);
}

#[test]
fn json_and_csv_carry_the_table() {
    let (status, out, _) = on(LEAK, &["--json", "-c", "!dumpheap -stat; !gcwhere 10"]);
    assert_eq!(status, 0);
    let objects: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["outcome"], "complete");
    let table = &objects[0]["tables"][0];
    assert_eq!(table["columns"][3], "class_name");
    let total: u64 = table["rows"].as_array().unwrap().iter().map(|r| r[1].as_u64().unwrap()).sum();
    assert_eq!(total, 17_886);
    assert_eq!(objects[1]["outcome"], "empty");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stat.csv");
    let line = format!("!dumpheap -stat -csv -o {}", file.display());
    assert_eq!(on(LEAK, &["-c", &line]).0, 0);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().next(), Some("method_table,count,total_size,class_name"));
    assert_eq!(text.lines().count(), table["rows"].as_array().unwrap().len() + 1);
}

#[test]
fn pipes_filter_rows() {
    let (_, out, _) = on(LEAK, &["-c", "!dumpheap -stat | find zoo.session | top 2"]);
    assert_eq!(out.lines().filter(|l| l.contains("Zoo.Session")).count(), 2, "{out}");
}

#[test]
fn scripts_replay_what_the_command_line_does() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("hunt.txt");
    fs::write(&script, "* a hunt\n.echo ${$arg1}\n!dumpheap -stat -type ${$arg1}; $$ done\n").unwrap();
    let call = format!("$$>a<{} Zoo.Session", script.display());
    let (status, out, err) = on(LEAK, &["-c", &call]);
    assert_eq!((status, err.as_str()), (0, ""));
    let (_, want, _) = on(LEAK, &["-c", ".echo Zoo.Session; !dumpheap -stat -type Zoo.Session"]);
    assert_eq!(out, want);
    let plain = dir.path().join("plain.txt");
    fs::write(&plain, "!dumpheap -stat\n!eeheap -gc\n").unwrap();
    let (_, by_option, _) = on(LEAK, &["-s", plain.to_str().unwrap()]);
    let (_, by_line, _) = on(LEAK, &["-c", "!dumpheap -stat; !eeheap -gc"]);
    assert_eq!(by_option, by_line);
    let looping = dir.path().join("loop.txt");
    fs::write(&looping, format!("$$><{}\n", looping.display())).unwrap();
    let (status, _, err) = on(LEAK, &["-s", looping.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(err.contains("does it run itself"), "{err}");
}

#[test]
fn commands_may_be_piped_in() {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(data(LEAK))
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b".echo first\n\n? 10+10\nq\n.echo never\n").unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.ends_with("first\nEvaluate expression: 32 = 00000000`00000020\n"), "{text}");
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn a_leak_is_rooted_by_the_static_that_holds_it() {
    let (status, out, err) = on(LEAK, &["-c", "!gcroot -nostacks 7fd0d91190c8"]);
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("(static variable: Zoo.Zoo.Cache)"), "{out}");
    assert!(out.contains("-> 7fd0d91190c8     Zoo.Session"), "{out}");
}

#[test]
fn dumps_that_crash_other_readers_answer() {
    const CRASH: &str = "linux-x64-10.0-crash-heap.core.zst";
    let (status, out, err) = on(CRASH, &["-c", "!dumpheap -stat -live"]);
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("Total "), "{out}");
    let (_, first, _) = on(CRASH, &["-c", "!dumpheap -type Exception -short | top 1"]);
    let (status, out, err) = on(CRASH, &["-c", &format!("!gcroot {}", first.trim())]);
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("unique roots"), "{out}");
}

#[test]
fn every_reference_hits_an_object() {
    for dump in
        ["linux-x64-10.0-wks-heap.core.zst", "linux-x64-8.0-svr-heap.core.zst", "linux-x64-3.1-wks-heap.core.zst"]
    {
        let (status, out, err) = on(dump, &["-c", "!verifyheap"]);
        assert_eq!(status, 0, "{dump}: {err}");
        assert!(out.contains("No heap corruption detected."), "{dump}: {out}");
    }
}

/// The facts the program wrote of itself: addresses of known objects, numbers of instances.
#[test]
fn the_facts_hold() {
    let mut checked = 0;
    for entry in fs::read_dir(data("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".facts.tsv") else { continue };
        // Without metadata there are no names to ask for.
        if stem.contains("-3.1-") && stem.ends_with("heap") {
            continue;
        }
        let dump = if stem.starts_with("win") { format!("{stem}.dmp.zst") } else { format!("{stem}.core.zst") };
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some((key, value)) = line.split_once('\t') else { continue };
            if let Some(ty) = key.strip_prefix("count:").filter(|t| t.contains('.')) {
                let (_, out, err) = on(&dump, &["--json", "-c", &format!("!dumpheap {ty} -stat")]);
                let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{dump} {ty}: {out}{err}"));
                let count = json["tables"][0]["rows"][0][1].as_u64().unwrap();
                let wanted: u64 = value.parse().unwrap();
                // The program counts what it made; one more of the type may hang off the list's head.
                assert!(count >= wanted && count <= wanted + 2, "{dump}: {ty} {count}, the program made {wanted}");
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no facts were checked");
}
