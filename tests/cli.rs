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

#[path = "support/make_minidump.rs"]
mod make_minidump;

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
        ("!watsonbuckets", 1, "has no meaning here"),
        ("? 1/0", 1, "division by zero"),
        ("!gcwhere 10", 0, ""),
    ] {
        let (status, out, err) = on(LEAK, &["-c", line]);
        assert_eq!(status, code, "{line}: {out}{err}");
        assert!(err.contains(part), "{line}: {err}");
    }
}

#[test]
fn a_failing_command_ends_nothing_but_in_strict_runs() {
    let lines = ["-c", ".echo one; !nope; .echo two", "-c", ".echo three"];
    let (status, out, _) = on(LEAK, &lines);
    assert_eq!((status, out.as_str()), (1, "one\ntwo\nthree\n"));
    let (status, out, _) = on(LEAK, &[["--strict"].as_slice(), &lines].concat());
    assert_eq!((status, out.as_str()), (1, "one\n"));
    // What cannot be evaluated ends its line.
    let (status, out, _) = on(LEAK, &["-c", ".echo one; ? poi(10); .echo two", "-c", ".echo three"]);
    assert_eq!((status, out.as_str()), (1, "one\nthree\n"));
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
        ["linux-x64-10.0-wks-heap.core.zst", "linux-x64-9.0-svr-heap.core.zst", "linux-x64-3.1-wks-heap.core.zst"]
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
        if (stem.contains("-2.1-") || stem.contains("-3.1-")) && stem.ends_with("heap") {
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

/// What a line of the script language prints; it must end well.
fn prints(line: &str) -> String {
    let (status, out, err) = on(LEAK, &["-c", line]);
    assert_eq!((status, err.as_str()), (0, ""), "{line}: {out}");
    out
}

#[test]
fn loops_and_conditions_run() {
    for (line, want) in [
        ("r $t0=0; .while (@$t0 < 3) {r $t0=@$t0+1; .printf \"%d \", @$t0}", "1 2 3 "),
        (".for (r $t1=0; @$t1<5; r $t1=@$t1+1) {.if (@$t1==1) {.continue}; .if (@$t1==3) {.break}; .echo @}", "@\n@\n"),
        (".do {.echo once} (0)", "once\n"),
        (".if (1 == 2) {.echo a} .elsif (2 == 2) {.echo b; .echo c} .else {.echo d}", "b\nc\n"),
        (".if (0) {.echo a}; .echo b", "b\n"),
        ("j (1 > 2) '.echo a; .echo b' ; '.echo c; .echo d'", "c\nd\n"),
        (".block {.block {.echo deep}}", "deep\n"),
        (".catch {.echo a; .leave; .echo b}; .echo c", "a\nc\n"),
        (".foreach /pS 1 /ps 2 (v {.echo 0 1 2 3 4 5 6}) {.printf \"${v}\"}", "14"),
        (".foreach /s (v \"x y\") {.echo <${v}> v}", "<x> x\n<y> y\n"),
        (".foreach (a {.echo 1 2}) {.foreach (b {.echo 3 4}) {.echo a b}}", "1 3\n1 4\n2 3\n2 4\n"),
        ("aS twice 2; .block {? twice * 3}", "Evaluate expression: 6 = 00000000`00000006\n"),
        ("as /c word .echo one\n.echo [${word}]", "[one]\n"),
        ("aS x 1; ad x; al", "No aliases\n"),
        ("r $.u3=fine\n.block {.echo all-$u3}", "all-fine\n"),
        (".printf \"%04x|%-4d|%c|%p|%%|%i\\n\", 1f, 0n12, 41, 10, -1", "001f|12  |A|0000000000000010|%|-1\n"),
    ] {
        // Aliases are known from the next line on.
        let mut args = vec![];
        for part in line.split('\n') {
            args.extend(["-c", part]);
        }
        let (status, out, err) = on(LEAK, &args);
        assert_eq!((status, err.as_str()), (0, ""), "{line}: {out}");
        assert_eq!(out, want, "{line}");
    }
}

#[test]
fn foreach_goes_through_what_commands_print() {
    let out = prints(".foreach (o {!dumpheap -mt 7fdcb3504d70 -short | top 3}) {!dumpobj -nofields o}");
    assert_eq!(out.matches("Name:        Zoo.Session").count(), 3, "{out}");
    // What fails for one does not keep the rest from theirs, nor what stands behind the loop.
    let (status, out, err) = on(LEAK, &["-c", ".foreach (o {.echo 10 20}) {!dumpobj o}; .echo after"]);
    assert_eq!((status, out.as_str()), (1, "after\n"));
    assert_eq!(err.matches("is not in the dump").count(), 2, "{err}");
    let (status, _, err) = on(LEAK, &["-c", ".foreach (o {.echo 10 20}) {!nope o}"]);
    assert_eq!((status, err.matches("no command !nope").count()), (1, 2), "{err}");
    // A failed inner command gives no words.
    assert_eq!(on(LEAK, &["-c", ".foreach (o {!nope}) {.echo o}"]).1, "");
}

#[test]
fn mistakes_in_blocks_point_at_their_place() {
    for (line, part) in [
        (".if (1) {.echo a", "this { is not closed"),
        (".if 1 {.echo a}", "expected a condition in parentheses"),
        (".if (1) {.echo a} b", "expected `;` or the end of the line"),
        (".if (nothing) {.echo a}", "in the condition `nothing`"),
        (".while (1)", "expected commands in braces"),
        (".for (1;2) {}", "expected (FIRST; CONDITION; STEP)"),
        (".foreach (a) {}", "expected (NAME {COMMANDS})"),
        (".foreach /x (a {b}) {}", "expected /pS N"),
        (".break", "stands in no loop"),
        (".leave", "stands in no .catch"),
        (".printf hello", "expected a format in quotes"),
        (".printf \"%d\"", "no value for %d"),
        (".printf \"%q\", 1", "no field %q"),
        ("r rax = 1", "cannot be set"),
        ("r $t20 = 1", "cannot be set"),
        ("as", "expected a name"),
        ("ad no-such", "no alias no-such"),
        ("as /f a no-such-file", "cannot read no-such-file"),
        (".foreach /f (v \"no-such-file\") {.echo v}", "cannot read no-such-file"),
    ] {
        let (status, out, err) = on(LEAK, &["-c", line]);
        assert_eq!(status, 1, "{line}: {out}");
        assert!(err.contains(part), "{line}: {err}");
    }
    let deep = format!("{}{}", ".block {".repeat(200), "}".repeat(200));
    assert!(on(LEAK, &["-c", &deep]).2.contains("more than 64 deep"));
}

#[test]
fn scripts_have_blocks_over_lines() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("blocks.txt");
    let text = "$$ counts what it is given\nr $t0 = 0\n.foreach (w {.echo ${$arg1}})\n{\n    * one more\n    r $t0 = @$t0 + 1\n}\n\n\
                .if (${/d:$arg2})\n{\n    .echo two\n}\n.else\n{\n    .printf \"%d words\\n\", @$t0; $$ said\n}\n";
    fs::write(&script, text).unwrap();
    assert_eq!(prints(&format!("$$>a<{} \"a b c\"", script.display())), "3 words\n");
    assert_eq!(prints(&format!("$$>a<{} a b", script.display())), "two\n");
    // Arguments that are missing stay as they are written; what fails is said with its line, and the next one runs.
    fs::write(&script, ".echo ${$arg1}\n\n!nope\n.echo end\n").unwrap();
    let (status, out, err) = on(LEAK, &["-c", &format!("$$><{}", script.display())]);
    assert_eq!((status, out.as_str()), (1, "${$arg1}\nend\n"));
    assert!(err.contains("blocks.txt, line 3"), "{err}");
}

#[cfg(unix)]
#[test]
fn programs_take_what_commands_print() {
    let out = prints(".shell -ci \"!dumpheap -stat\" grep -c Zoo.Session");
    assert!(out.trim().parse::<u32>().unwrap() > 3, "{out}");
    let (status, _, err) = on(LEAK, &["-c", ".shell exit 3"]);
    assert_eq!(status, 1);
    assert!(err.contains('3'), "{err}");
}

#[test]
fn options_of_output_work_behind_any_arguments() {
    let (_, out, _) = on(LEAK, &["-c", "lm m *clr* -json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["tables"][0]["rows"].as_array().unwrap().len(), 2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bytes.txt");
    assert_eq!(prints(&format!("db @$csp L10 -o {}", file.display())), "");
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
}

#[test]
fn commands_run_with_each_thread() {
    let one_by_one = prints("~0s; r @$ip; ~1s; r @$ip");
    assert!(prints("~*e r @$ip").starts_with(&one_by_one));
    assert!(prints("~*r @$ip").starts_with(&one_by_one));
    // The stack of each is below its row.
    let (rows, stacks) = (prints("~"), prints("~*k 1"));
    assert!(rows.lines().all(|row| stacks.contains(row)), "{stacks}");
    assert!(!prints("~*e k 1").contains("Suspend: "));
    // The rest of the line belongs to each thread.
    assert_eq!(prints("~*e .echo a; .echo b").matches("a\nb\n").count(), prints("~").lines().count());
    let id = prints("~1").split(['.', ' ']).filter(|w| !w.is_empty()).nth(3).unwrap().to_owned();
    assert_eq!(prints(&format!("~~[{id}]s; r @$ip")), prints("~1s; r @$ip"));
}

/// A dump built in the test, as a file of its own.
fn built(bytes: &[u8]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("built.dmp");
    fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

fn answers(dump: &str, line: &str) -> String {
    let out = clrscope(&[dump, "-c", line]);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert_eq!(out.status.code(), Some(0), "{line}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn what_a_minidump_records_is_shown() {
    let (_dir, dump) = built(&make_minidump::everything());
    let handles = answers(&dump, "!handle 0 f");
    assert!(handles.contains("44 Event                \\BaseNamedObjects\\ready"), "{handles}");
    assert!(handles.contains("2 Handles\n"), "{handles}");
    assert_eq!(answers(&dump, "!handle 0 0 file").matches("File").count(), 2);
    let times = answers(&dump, "!runaway 7");
    assert!(times.contains("1:65       0 days 0:00:01.000"), "{times}");
    assert!(times.contains("0 days 0:00:02.000") && times.contains("Elapsed Time"), "{times}");
    let event = answers(&dump, ".lastevent; .exr -1; ~#");
    assert!(event.contains("1092.64: exception e0434352 (CLR exception) at 7ff800001500"), "{event}");
    assert!(event.contains("Parameter[2]: 0000000000001f00") && event.contains("coreclr+0x1500"), "{event}");
    assert!(event.contains("Id: 1092.64"), "{event}");
    assert!(answers(&dump, "lm").contains("gone.dll"));
    let thread = answers(&dump, "~1");
    assert!(thread.contains("\"worker \u{2603}\"") && thread.contains("Start: coreclr+0x2000"), "{thread}");
    let teb = answers(&dump, "!teb");
    assert!(teb.contains("StackBase:                00000000`00021000"), "{teb}");
    assert!(answers(&dump, "r").contains("rip=00007ff800001500"));
    let banner = {
        let out = clrscope(&[&dump]);
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    for part in
        ["full memory", "process 4242", "Windows 10.0.19045", "2023-11-14", "take a heap or full dump", "2 threads"]
    {
        assert!(banner.contains(part), "{part}: {banner}");
    }
    assert!(banner.contains("exception e0434352 (CLR exception) at 7ff800001500 on thread 0 (64)"), "{banner}");
}

#[test]
fn processors_of_32_bits_and_arm_are_shown_their_way() {
    use make_minidump::{ARM64, Mini, MiniThread, X86, context_arm64, context_x86};
    let with = |arch, context| {
        let mut m = Mini::new();
        m.system(arch, 2);
        m.threads(&[MiniThread { id: 7, context, ..MiniThread::default() }]);
        m.memory32(&[(0x2_0000, vec![0x41; 0x1000])]);
        built(&m.finish())
    };
    let (_a, x86) = with(X86, context_x86(0x401_000, 0x2_0400));
    let all = answers(&x86, "r; dd @$csp L2; dps @esp L1; .effmach");
    assert!(all.contains("eax=000000ea") && all.contains("eip=00401000"), "{all}");
    assert!(all.contains("00020400  41414141 41414141") && all.contains("x86"), "{all}");
    let (_b, arm) = with(ARM64, context_arm64(0x7FF8_1000, 0x2_0400));
    let all = answers(&arm, "r; dq @$csp L1; ? @x3");
    assert!(all.contains(" x3=0000000000000103") && all.contains(" pc=000000007ff81000"), "{all}");
    assert!(all.contains("00000000`00020400  41414141`41414141"), "{all}");
}

#[test]
fn the_environment_of_the_process_is_shown() {
    let (_, linux, _) = on(LEAK, &["-c", "!peb | find DOTNET_"]);
    assert!(linux.contains("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1"), "{linux}");
    let (_, windows, _) = on("win-x64-10.0-wks-full.dmp.zst", &["-c", "!peb"]);
    let (_, heap, _) = on("win-x64-10.0-wks-full.dmp.zst", &["-c", "!address -f:Heap -o:1"]);
    assert!(
        windows.contains("ProcessHeap:              00000000`002c0000") && heap.starts_with("0x2c0000\n"),
        "{heap}"
    );
    for part in [
        "ImageBaseAddress:         00000001`40000000",
        "CurrentDirectory:         'C:\\app\\'",
        "SystemRoot=C:\\windows",
    ] {
        assert!(windows.contains(part), "{part}: {windows}");
    }
}

/// The rows of a table of `!address -summary`, added up: bytes, dumped, mapped only, unknown.
fn sums(table: &Value) -> [u64; 4] {
    let column = |i: usize| table["rows"].as_array().unwrap().iter().map(|r| r[i].as_u64().unwrap()).sum();
    [2, 5, 6, 7].map(column)
}

#[test]
fn the_summary_of_the_memory_adds_up_to_the_byte() {
    let (_dir, small) = built(&make_minidump::everything());
    let dumps = [
        data(LEAK).to_str().unwrap().to_owned(),
        data("linux-x64-3.1-wks-heap.core.zst").to_str().unwrap().to_owned(),
        data("win-x64-3.1-wks-full.dmp.zst").to_str().unwrap().to_owned(),
        small,
    ];
    for dump in dumps {
        let out = clrscope(&[&dump, "--json", "-c", "!address -summary; !vadump; !vmmap; !address"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let all: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let tables: Vec<[u64; 4]> = (0..4).map(|i| sums(&all[0]["tables"][i])).collect();
        // The map of the dump, read another way.
        let mut total = [0; 4];
        let mut committed = 0;
        for r in all[3]["tables"][0]["rows"].as_array().unwrap() {
            let size = r[3].as_u64().unwrap();
            total[0] += size;
            let content = r[8].as_str().unwrap();
            total[1 + ["dumped", "mapped", "unknown"].iter().position(|c| *c == content).unwrap_or(2)] += size;
            committed += if r[5] == "MEM_COMMIT" { size } else { 0 };
        }
        assert_eq!((tables[0], tables[2]), (total, total), "{dump}");
        assert_eq!(tables[3][0], committed, "{dump}");
        let regions: u64 = all[2]["tables"][0]["rows"].as_array().unwrap().iter().map(|r| r[2].as_u64().unwrap()).sum();
        assert_eq!(regions, total[0], "{dump}");
        let busy: u64 = all[1]["tables"][0]["rows"].as_array().unwrap().iter().map(|r| r[1].as_u64().unwrap()).sum();
        assert_eq!(tables[1][0], busy, "{dump}");
    }
}

#[test]
fn commands_run_for_each_region() {
    let stacks = prints("!address -f:Stack -o:1").lines().count();
    let out = prints("!address -f:Stack -c:\".echo %1 %7\"");
    assert_eq!(out.lines().filter(|l| l.ends_with(" Stack")).count(), stacks, "{out}");
}

#[test]
fn names_of_other_shells_are_known() {
    // As dotnet-dump has them.
    assert!(prints("help").contains("!dumpheap"));
    assert_eq!(prints("sos dumpheap -stat"), prints("!dumpheap -stat"));
    assert_eq!(prints("!ext gcheapstat"), prints("!gcheapstat"));
    for name in ["!cs", "!avrf", "||"] {
        let (status, _, err) = on(LEAK, &["-c", name]);
        assert_eq!(status, 1, "{name}");
        assert!(["not here: ", "not built yet", "no command"].iter().any(|w| err.contains(w)), "{name}: {err}");
    }
    for (name, why) in [("g", "stands still"), ("bp clr", "nothing to stop at"), ("eb 10 0", "cannot be changed")] {
        let (status, _, err) = on(LEAK, &["-c", name]);
        assert_eq!(status, 1, "{name}");
        assert!(err.contains(why), "{name}: {err}");
    }
    assert!(on(LEAK, &["-c", ".if (1) {.echo a}; .else {.echo b}"]).2.contains("stands behind the } of .if"));
    assert!(on(LEAK, &["-c", ".loadby sos mscorwks"]).1.contains("mscorwks is not in this dump: it has libcoreclr.so"));
}

#[test]
fn a_log_holds_what_was_typed_said_and_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("hunt.log");
    let open = format!(".logopen {}", log.display());
    on(LEAK, &["-c", &open, "-c", ".echo one", "-c", "!nope", "-c", ".logclose", "-c", ".echo never"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("0:000> .echo one\none\n0:000> !nope\nno command !nope"), "{text}");
    assert!(!text.contains("never"), "{text}");
    let append = format!(".logappend {}", log.display());
    on(LEAK, &["-c", &append, "-c", ".echo two"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("\none\n") && text.ends_with("\ntwo\n"), "{text}");
}

#[test]
fn mistakes_on_the_command_line_are_one_line() {
    let dump = data(LEAK);
    let dump = dump.to_str().unwrap();
    for (args, code, part) in [
        (&[dump, "extra"][..], 2, "unexpected argument \"extra\"; see clrscope --help"),
        (&[dump, "--bogus"], 2, "invalid option '--bogus'"),
        (&[dump, "-c"], 2, "missing argument"),
        (&["-c", "q"], 2, "no dump given"),
        (&[dump, "-s", "no-such-script"], 1, "cannot read the script no-such-script"),
        (&[dump, "-i", "no-such-folder", "-c", "q"], 0, "note: -i no-such-folder: there is no such folder"),
        (&[dump, "-c", ".opendump ."], 1, "is a folder; name the dump file inside it"),
        (&[dump, "-c", ".logopen no-such-folder/x"], 1, "cannot open the log no-such-folder"),
        (&[dump, "-c", "!eeheap -gc -o no-such-folder/x"], 1, "cannot write no-such-folder"),
    ] {
        let out = clrscope(args);
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(part) && err.trim_end().lines().count() == 1, "{args:?}: {err}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
}

/// Readers that go before all is written.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let dump = data(LEAK);
    let run = |args: &str| {
        let line = format!("'{}' '{}' {args}; echo status $? >&3", env!("CARGO_BIN_EXE_clrscope"), dump.display());
        let whole = format!("{{ {{ {line}; }} 2>&1 | true; }} 3>&1");
        let out = Command::new("bash")
            .args(["-c", &whole])
            .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    assert_eq!(run("-c '!dumpheap'"), "status 0");
    assert_eq!(run("-c '!nope'"), "status 1");
    assert_eq!(run("</dev/null"), "status 0");
    assert_eq!(run("--bogus"), "status 2");
}

#[test]
fn manual_and_completion_have_every_option_and_command() {
    let generated = |what: &str| {
        let out = clrscope(&["--generate", what]);
        assert_eq!(out.status.code(), Some(0), "{what}");
        String::from_utf8(out.stdout).unwrap()
    };
    let help = String::from_utf8(clrscope(&["--help"]).stdout).unwrap();
    let options: Vec<&str> = help
        .lines()
        .filter_map(|l| l.trim_start().strip_prefix('-'))
        .filter_map(|l| l.split([' ', ',']).find(|w| w.starts_with('-') && w.len() > 2))
        .map(|w| w.trim_start_matches('-'))
        .collect();
    assert!(options.contains(&"generate") && options.contains(&"safe"), "{options:?}");
    let texts: Vec<String> = ["man", "bash", "zsh", "fish", "powershell"].map(generated).into();
    for text in &texts {
        let plain = text.replace("\\-", "-");
        let missing: Vec<_> = options.iter().filter(|o| !plain.contains(**o)).collect();
        assert!(missing.is_empty(), "{missing:?} in {text}");
    }
    for command in clrscope::commands::ALL {
        assert!(
            texts[0].replace("\\-", "-").contains(command.summary.trim_end())
                || command.summary.contains(['\'', '^', '~'])
        );
    }
    let wrong = clrscope(&["--generate", "tcsh"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("man, bash, zsh, fish, powershell"));
    // The renderer of `man` has nothing to say of it.
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("clrscope.1");
    fs::write(&page, &texts[0]).unwrap();
    if let Ok(out) = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output() {
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[cfg(unix)]
#[test]
fn bash_completes_the_programs_arguments() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("clrscope.bash"), clrscope(&["--generate", "bash"]).stdout).unwrap();
    fs::write(dir.path().join("some.core"), "").unwrap();
    let offered = |words: &[&str]| {
        let ask =
            "source clrscope.bash; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _clrscope; echo \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        let out =
            bash.current_dir(dir.path()).args(["--norc", "-c", ask, "bash", "clrscope"]).args(words).output().ok()?;
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        Some(String::from_utf8(out.stdout).unwrap().trim_end().to_owned())
    };
    for (words, all) in [
        (&["--gen"][..], "--generate"),
        (&["--generate", "pow"], "powershell"),
        (&["rep"], "report"),
        (&["report", "some.core", "--with"], "--with-values"),
        (&["some.core", "--with"], ""),
        (&["so"], "some.core"),
        (&["-c", "x"], ""),
    ] {
        let Some(got) = offered(words) else {
            eprintln!("skipped: there is no bash");
            return;
        };
        assert_eq!(got, all, "{words:?}");
    }
}
