//! Text of a dump that would steer a terminal, run a command or a formula: planted in types, methods, strings, paths,
//! thread names, environment and messages, and looked for in every way in which text leaves the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/make_minidump.rs"]
mod make_minidump;
#[path = "support/runner.rs"]
mod runner;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clrscope::commands::ALL;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::shell::opaque::hide;
use clrscope::shell::parse::spelled;
use clrscope::shell::screen::Window;
use clrscope::shell::{Format, Kind, banner};
use clrscope::watch::Watch;
use runner::Runner;

/// What is put in place of a text of the same length; each begins with a mark of its own, by which it is found again.
struct Plant {
    mark: &'static str,
    /// Bytes of UTF-8, or of UTF-16 where `wide`.
    from: &'static str,
    to: &'static str,
    wide: bool,
}

const fn narrow(mark: &'static str, from: &'static str, to: &'static str) -> Plant {
    Plant { mark, from, to, wide: false }
}

const fn wide(mark: &'static str, from: &'static str, to: &'static str) -> Plant {
    Plant { mark, from, to, wide: true }
}

fn bytes(text: &str, wide: bool) -> Vec<u8> {
    if wide { text.encode_utf16().flat_map(u16::to_le_bytes).collect() } else { text.as_bytes().to_vec() }
}

/// A copy of a dump of `testdata/` with the texts planted, each at least once.
fn planted(dump: &str, plants: &[Plant], folder: &Path) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), ..OpenOptions::default() };
    let unpacked = Dump::open(&path, &options, &Watch::default()).unwrap().unpacked.unwrap();
    let mut all = fs::read(unpacked).unwrap();
    for p in plants {
        let (from, to) = (bytes(p.from, p.wide), bytes(p.to, p.wide));
        assert_eq!(from.len(), to.len(), "{}", p.mark);
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(n) = find(&all[at..], &from) {
            places.push(at + n);
            at += n + from.len();
        }
        assert!(!places.is_empty(), "{} is not in {dump}", p.from);
        places.iter().for_each(|&n| all[n..n + to.len()].copy_from_slice(&to));
    }
    let copy = folder.join(dump.trim_end_matches(".zst"));
    fs::write(&copy, all).unwrap();
    copy
}

fn find(all: &[u8], what: &[u8]) -> Option<usize> {
    let first = what[0];
    let mut at = 0;
    while let Some(n) = all[at..].iter().position(|&b| b == first) {
        if all[at + n..].starts_with(what) {
            return Some(at + n);
        }
        at += n + 1;
    }
    None
}

/// What acts on a terminal or on the order of what is shown, written down here anew.
fn steers(c: char) -> bool {
    let n = u32::from(c);
    (n < 0x20 && c != '\n' && c != '\t')
        || (0x7F..=0x9F).contains(&n)
        || (0x202A..=0x202E).contains(&n)
        || (0x2066..=0x2069).contains(&n)
        || n == 0x2028
        || n == 0x2029
}

/// What was printed, and what is wrong with it.
#[derive(Default)]
struct Seen {
    all: String,
    wrong: Vec<String>,
}

impl Seen {
    fn text(&mut self, what: &str, text: &str) {
        if let Some(line) = text.lines().find(|l| l.contains(steers)).or(text.contains(steers).then_some("a line end"))
        {
            self.wrong.push(format!("{what}: {line:?}"));
        }
        self.all.push_str(text);
        self.all.push('\n');
    }

    fn json(&mut self, what: &str, text: &str) {
        for line in text.lines() {
            if let Err(e) = serde_json::from_str::<serde_json::Value>(line) {
                self.wrong.push(format!("{what}: no JSON: {e}: {line:.200}"));
            }
        }
        self.text(what, text);
    }

    fn csv(&mut self, what: &str, text: &str) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        for record in reader.records() {
            match record {
                Ok(r) => {
                    for field in r.iter().filter(|f| f.starts_with(['=', '+', '@', '\t', '\r'])) {
                        self.wrong.push(format!("{what}: a formula: {field:?}"));
                    }
                }
                Err(e) => self.wrong.push(format!("{what}: no CSV: {e}")),
            }
        }
        self.text(what, text);
    }

    fn line(&mut self, runner: &mut Runner, line: &str) {
        for (format, name) in [(Format::Text, "text"), (Format::Json, "JSON"), (Format::Csv, "CSV")] {
            runner.shell.format = format;
            let what = format!("{line:.120} as {name}");
            let out = runner.run(line).1;
            match format {
                Format::Text => self.text(&what, &out),
                Format::Json => self.json(&what, &out),
                Format::Csv => self.csv(&what, &out),
            }
            let errors = std::mem::take(&mut *runner.shell.state.errors.as_ref().unwrap().lock().unwrap());
            errors.iter().for_each(|e| self.text(&format!("{what}, its error"), e));
        }
        runner.shell.format = Format::Text;
    }

    fn banner(&mut self, runner: &Runner) {
        let session = runner.shell.session.clone().unwrap();
        // `say` prints them so.
        let lines = banner::lines(&session, 0).join("\n");
        self.text("the banner", &clrscope::shell::quote::clean_lines(&lines));
    }

    fn files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(&path);
            } else {
                let bytes = fs::read(&path).unwrap();
                // The image of a module, and memory, are what a dump holds, byte for byte, and no text.
                if bytes.starts_with(b"MZ") || path.extension().is_some_and(|e| e == "bin") {
                    continue;
                }
                // Strings in the TSV of a fleet are kept as they are, as in that of one dump.
                let of_strings = path.iter().any(|part| part == "strings");
                if of_strings && path.extension().is_some_and(|e| e == "tsv") {
                    continue;
                }
                let text = String::from_utf8(bytes).unwrap();
                self.text(&format!("the file {}", path.file_name().unwrap().display()), &text);
            }
        }
    }

    /// Every text arrived somewhere, and nothing was wrong.
    fn judge(self, plants: &[Plant]) {
        let unseen: Vec<&str> = plants.iter().map(|p| p.mark).filter(|m| !self.all.contains(m)).collect();
        assert!(unseen.is_empty(), "planted and never seen: {unseen:?}");
        let n = self.wrong.len();
        assert!(n == 0, "{n} outputs:\n{}", self.wrong[..n.min(20)].join("\n"));
    }
}

fn open(dump: &Path) -> Runner {
    let mut runner = Runner::on(dump.to_str().unwrap());
    runner.shell.state.errors = Some(Arc::default());
    runner
}

/// Address of the first string that is shown with `text` in it.
fn string(runner: &mut Runner, text: &str) -> u64 {
    let out = runner.run(&format!("!strings | find {text} | top 1")).1;
    u64::from_str_radix(out.lines().last().unwrap().split_whitespace().next().unwrap(), 16).unwrap()
}

/// Commands that take an address, asked about each of `addresses`; and all commands asked about a text of the dump.
fn asked(addresses: &[u64]) -> Vec<String> {
    let mut lines = Vec::new();
    for c in
        ALL.iter().filter(|c| !matches!(c.name, "q" | "opendump" | "shell" | "export" | "writemem" | "ps" | "collect"))
    {
        let first = c.args.iter().find(|a| a.positional);
        if first.is_some_and(|a| matches!(a.kind, Kind::Address | Kind::Object | Kind::MethodTable)) {
            lines.extend(addresses.iter().map(|a| format!("{} {a:x}", spelled(c))));
        }
        if first.is_some_and(|a| !a.kind.is_raw() && !a.outside) {
            lines.push(format!("{} ${{s}}", spelled(c)));
        }
    }
    lines
}

const LEAK: &str = "linux-x64-10.0-leak-heap.core.zst";
const OF_LEAK: &[Plant] = &[
    narrow("QX1", "\0Subscriber\0", "\0QX1\x1b[m\u{202e};\0"),
    narrow("QX2", "\0ThreadOwned\0", "\0=QX2\u{9b}\u{2028}\r\n\0"),
    wide("QX3", "/api/orders/", "=QX3\x1b[31m\u{9b}\u{2028}\u{202e}"),
    wide("QX4", "session/", "\"QX4\";|\n"),
    narrow("QX5", "GLOBALIZATION", "QX5\x1b]0;ab\x07\u{9b}\r"),
    narrow("Q6/", "/srv/app/", "/s\x1b[1mQ6/"),
    wide("Q6/", "/srv/app/", "/s\x1b[1mQ6/"),
];

#[test]
fn of_a_heap() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let dump = planted(LEAK, OF_LEAK, folder.path());
    let mut runner = open(&dump);
    let mut seen = Seen::default();
    seen.banner(&runner);
    runner.run(&format!(".logopen {}", out.join("log").display()));
    for example in runner.examples(LEAK, &out) {
        // What is written is looked at below.
        match example.command.name {
            "export" | "logopen" | "logappend" | "logclose" => drop(runner.run(&example.line)),
            // What a program prints is no answer.
            "shell" => {
                let text = runner.run(&example.line).1;
                seen.text(&example.line, &text);
            }
            _ => seen.line(&mut runner, &example.line),
        }
    }
    let session = runner.shell.session.clone().unwrap();
    let clr = session.clr().unwrap();
    let walker = session.walker().unwrap();
    session.stat().unwrap();
    let mut addresses = Vec::new();
    for t in session.types().all() {
        let name = clr.type_name(t.mt.address);
        if OF_LEAK.iter().any(|p| name.contains(p.mark)) && addresses.len() < 12 {
            let found = runner.run(&format!("!dumpheap -short -mt {:x}", t.mt.address)).1;
            addresses.extend(found.lines().take(1).filter_map(|l| u64::from_str_radix(l.trim(), 16).ok()));
            addresses.push(t.mt.address);
        }
    }
    addresses.push(string(&mut runner, "QX3"));
    let module = clr.assemblies().items.iter().find(|a| clr.module(a.module).path.ends_with("zoo.dll")).unwrap();
    addresses.extend([module.module, module.assembly]);
    assert!(walker.object_at(addresses[0]).is_some() && addresses.len() > 6, "{addresses:x?}");
    let evil = "a\x1b]0;QX\x07\u{9b}\u{202e}\u{2028};.shell x";
    runner.shell.settings.aliases.push(("s".into(), hide(evil)));
    let lines = asked(&addresses);
    assert!(lines.len() > 200, "{}", lines.len());
    for line in lines {
        seen.line(&mut runner, &line);
    }
    for line in ["as t ${s}; al", ".echo ${s}", ".printf \"%s %ma\\n\", 1, 1; .printf \"${s}\\n\"", "${s}", "ad ${s}"] {
        seen.line(&mut runner, line);
    }
    // What fits a window is laid out anew.
    runner.shell.settings.window = Some(Window { columns: || 60 });
    for line in
        ["!dumpheap -stat", "!strings | top 50", "lm", "!peb", "!clrmodules", "!gcroot -type Zoo.QX1* -nostacks"]
    {
        let text = runner.run(line).1;
        seen.text(&format!("{line} in a window"), &text);
    }
    runner.shell.settings.window = None;
    // Whole models: CSV and JSON keep the data, escaped. TSV does so with names; what strings hold it keeps as it is, for
    // who compares it.
    for style in ["csv", "jsonl", "tsv"] {
        runner.run(&format!(".export {} -format {style}", out.join(style).display()));
        for entry in fs::read_dir(out.join(style)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = format!("{} of {style}", path.file_name().unwrap().display());
            match style {
                "csv" => seen.csv(&name, &text),
                "jsonl" => seen.json(&name, &text),
                _ if name.starts_with("strings") => {}
                _ => seen.text(&name, &text),
            }
        }
        fs::remove_dir_all(out.join(style)).unwrap();
    }
    seen.line(&mut runner, &format!("!strings -o {}", out.join("strings").display()));
    seen.files(&out);
    assert!(out.join("model").is_dir() && out.join("log").is_file());
    seen.judge(OF_LEAK);
}

#[test]
fn of_exceptions() {
    const PLANTS: &[Plant] = &[
        wide("QX7", "order 3 failed", "QX7\x1b]0;x\x07\u{85}\u{202e}\u{2066}\r\n"),
        wide("QX6", "bottom of it", "@QX6\0\u{9c}\u{2029}\u{2069}\x7f=1+"),
        narrow("QX8", "\0OrderException\0", "\0QX8\x1b[7m\u{202e}\u{85}\r\n\0"),
        narrow("Q9", "\0Level\0", "\0Q9\x1b[\x07\0"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let dump = planted("linux-x64-10.0-crash-heap.core.zst", PLANTS, folder.path());
    let mut runner = open(&dump);
    let mut seen = Seen::default();
    seen.banner(&runner);
    for line in [
        "!pe",
        "!pe -nested",
        "!dumpexceptions",
        "!threads",
        "~*e !pe",
        "!analyze",
        "!dumpasync",
        ".lastevent",
        "!dso",
        "!dumpheap -stat",
        "!strings | find Q",
        "!name2ee zoo.dll",
        "!leaks",
        "!dumpheap -type Exception",
    ] {
        seen.line(&mut runner, line);
    }
    let objects = runner.run("!dumpheap -short -type QX8").1;
    let address = u64::from_str_radix(objects.lines().next().unwrap().trim(), 16).unwrap();
    let session = runner.shell.session.clone().unwrap();
    let mt = session.walker().unwrap().object_at(address).unwrap().ty.mt.address;
    for line in asked(&[address, mt]) {
        seen.line(&mut runner, &line);
    }
    seen.judge(PLANTS);
}

#[test]
fn of_the_records_of_a_minidump() {
    use make_minidump::{Mini, MiniModule, MiniThread, X64};
    const EVIL: &str = "\x1b]0;a\x07\x1b[31m\u{9b}m\u{202e}\u{2028}\u{2066}\r\n;.shell x";
    const MARKS: &[Plant] = &[narrow("M1", "", ""), narrow("M2", "", ""), narrow("M3", "", ""), narrow("M4", "", "")];
    let named = |mark: &str| format!("{mark}{EVIL}");
    let (module, gone) = (format!("C:\\{EVIL}\\{}.dll", named("M1")), named("M2"));
    let mut m = Mini::new();
    m.system(X64, 2);
    m.misc(1, 2, 3, 4);
    let (base, size) = (0x1_4000_0000, 0x2000);
    let pdb = named("a.pdb");
    m.modules(&[MiniModule { base, size, name: &module, timestamp: 5, version: [1, 2, 3, 4], pdb: &pdb }]);
    m.unloaded(&[(0x7FF9_0000_0000, 0x1000, &gone)]);
    let context = make_minidump::context_x64(base, 0x2_0800);
    m.threads(&[MiniThread { id: 100, teb: 0x5000, stack_start: 0x2_0800, context, ..MiniThread::default() }]);
    m.thread_names(&[(100, &named("M3"))]);
    m.handles(&[(0x44, &named("M4"), &named("named"))]);
    let wide: Vec<u8> = bytes(&format!("{EVIL}\0"), true);
    m.memory64(vec![(0x2_0000, [EVIL.as_bytes(), &[0; 0x100]].concat()), (0x3_0000, wide), (base, vec![0x4D; 0x1000])]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.dmp");
    fs::write(&path, m.finish()).unwrap();
    let mut runner = open(&path);
    let mut seen = Seen::default();
    seen.banner(&runner);
    for line in [
        "lm",
        "lmv",
        "lm1m",
        "lmu",
        "~",
        "~*",
        "!handle",
        "!handle 44 f",
        "!address",
        "!address -summary",
        "vertarget",
        "|",
        "!peb",
        "!teb",
        "r",
        "!runtimes",
        "!eeversion",
        "da 20000",
        "du 30000",
        "db 20000 L40",
        "dc 20000 L10",
        "dW 30000 L20",
        "as /ma n 20000",
        "as /mu w 30000",
        "al",
        ".echo ${n} ${w}",
        "${n}",
        ".foreach (x {da 20000}) { .echo x; x }",
        ".printf \"%ma %mu\\n\", 20000, 30000",
        "s -a 20000 L100 shell",
        "!address 20000",
        "ln 140000010",
    ] {
        seen.line(&mut runner, line);
    }
    for line in asked(&[0x2_0000, base]) {
        seen.line(&mut runner, &line);
    }
    seen.judge(MARKS);
}

#[test]
fn strings_that_differ_look_different() {
    let folder = tempfile::tempdir().unwrap();
    let plants = [wide("", "session/", "a\0b.c\0d.")];
    let mut runner = open(&planted(LEAK, &plants, folder.path()));
    let address = string(&mut runner, "\"a\\0b.c\"");
    let shown = runner.run(&format!("!do {address:x} -nofields")).1;
    let errors = runner.shell.state.errors.as_ref().unwrap().lock().unwrap();
    assert!(shown.contains("String:      a\\0b.c\\0d."), "{shown} {errors:?}");
}
