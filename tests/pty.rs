//! The real binary on a pseudo-terminal: prompt, completion, history, and Ctrl-C in every long phase.
//!
//! Phases that a small dump goes through too fast are interrupted on a big one: `CLRSCOPE_BIG=FILE cargo test --test pty`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rexpect::process::WaitStatus;
use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};
use tempfile::TempDir;

/// A stop takes less than a tenth of a second on an idle machine; tests run on busy ones.
const SOON: Duration = Duration::from_secs(5);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn leak() -> PathBuf {
    data("linux-x64-10.0-leak-heap.core.zst")
}

fn big() -> Option<PathBuf> {
    let path = std::env::var_os("CLRSCOPE_BIG");
    if path.is_none() {
        eprintln!("skipped: CLRSCOPE_BIG names no big dump");
    }
    path.map(PathBuf::from)
}

fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps")
}

/// The program on a terminal of its own, and the home folder it keeps its history in.
struct Terminal {
    pty: PtySession,
    home: TempDir,
}

impl Terminal {
    fn start(dump: &Path, cache: &Path, home: TempDir) -> Self {
        Self::with(dump, cache, home, &["--no-pager"])
    }

    fn with(dump: &Path, cache: &Path, home: TempDir, options: &[&str]) -> Self {
        Self::sized(dump, cache, home, options, 100)
    }

    fn sized(dump: &Path, cache: &Path, home: TempDir, options: &[&str], columns: usize) -> Self {
        // A terminal of a size people have: a new one has none.
        let mut command = Command::new("sh");
        let run = format!("stty rows 20 cols {columns} && exec \"$0\" \"$@\"");
        command.args(["-c", &run, env!("CARGO_BIN_EXE_clrscope")]);
        command.arg(dump).args(options).env("HOME", home.path()).env("CLRSCOPE_CACHE", cache);
        command.env("TERM", "xterm").env("NO_COLOR", "1").env_remove("XDG_STATE_HOME").env_remove("CLRSCOPE_HISTORY");
        let options = Options::new().timeout_ms(Some(60_000)).strip_ansi_escape_codes(true);
        let mut pty = spawn_with_options(command, options).unwrap();
        pty.process_mut().set_kill_timeout(Some(1000));
        Self { pty, home }
    }

    /// At the prompt on the small dump.
    fn ready() -> Self {
        Self::on(&leak())
    }

    fn on(dump: &Path) -> Self {
        let mut t = Self::start(dump, &unpacked(), tempfile::tempdir().unwrap());
        t.see(".help lists the commands");
        t.prompt();
        t
    }

    fn keys(&mut self, keys: &str) {
        self.pty.send(keys).unwrap();
        self.pty.flush().unwrap();
    }

    fn control(&mut self, c: char) {
        self.pty.send_control(c).unwrap();
    }

    /// Waits for `text`; returns what came before it.
    fn see(&mut self, text: &str) -> String {
        self.pty.exp_string(text).unwrap_or_else(|e| panic!("waiting for {text:?}: {:.2000}", e.to_string()))
    }

    fn prompt(&mut self) -> String {
        self.see("0:000> ")
    }

    /// Runs a line; returns everything shown until it ended, its echo included.
    fn run(&mut self, line: &str) -> String {
        self.keys(&format!("{line}\r.echo that-was-it\r"));
        // Only the output begins a line with it.
        let out = self.see("\nthat-was-it");
        self.prompt();
        out
    }

    /// Runs `line`, presses Ctrl-C after `delay`, and says how long the prompt took and whether it was interrupted.
    fn interrupt(&mut self, line: &str, delay: Duration) -> (Duration, bool) {
        self.keys(&format!("{line}\r"));
        sleep(delay);
        let asked = Instant::now();
        self.control('c');
        // A Ctrl-C that comes too late gives a fresh prompt: either way the next line runs.
        let mut out = self.prompt();
        let took = asked.elapsed();
        sleep(Duration::from_millis(100));
        self.keys(".echo that-was-it\r");
        out.push_str(&self.see("\nthat-was-it"));
        self.prompt();
        (took, out.contains("interrupted"))
    }

    /// Interrupts `line` after `from`, after half of that and so on, until one hits it while it runs.
    fn interrupts(&mut self, line: &str, from: Duration) {
        let mut delay = from;
        for _ in 0..12 {
            let (took, hit) = self.interrupt(line, delay);
            assert!(took < SOON, "{line}: {took:?} after {delay:?}");
            if hit {
                eprintln!("{line}: interrupted after {delay:?}, prompt within {took:?}");
                assert!(self.run("? 2+3").contains("= 00000000`00000005"));
                return;
            }
            delay /= 2;
        }
        panic!("{line} was never interrupted");
    }

    fn exit_code(&self) -> i32 {
        let until = Instant::now() + SOON;
        loop {
            match self.pty.process().status() {
                Some(WaitStatus::Exited(_, code)) => return code,
                Some(WaitStatus::StillAlive) => {
                    assert!(Instant::now() < until, "still running");
                    sleep(Duration::from_millis(10));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn runs_commands_repeats_the_last_and_leaves_with_ctrl_d() {
    let mut t = Terminal::ready();
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
    t.keys("? 4*4\r");
    t.see("= 00000000`00000010");
    t.prompt();
    t.keys("\r");
    t.see("= 00000000`00000010");
    t.prompt();
    t.control('d');
    t.pty.exp_eof().unwrap();
    assert_eq!(t.exit_code(), 0);
}

#[test]
fn leaves_well_after_a_failed_command() {
    let mut t = Terminal::ready();
    assert!(t.run("!dumpobj 10").contains("is not in the dump"));
    t.keys("q\r");
    t.pty.exp_eof().unwrap();
    assert_eq!(t.exit_code(), 0);
}

#[test]
fn tab_completes_commands_options_types_and_addresses() {
    let mut t = Terminal::ready();
    t.keys("!dumphe\t");
    t.see("!dumpheap");
    t.keys(" -stri\t");
    t.see("-strings");
    t.keys("\r");
    t.see("objects");
    t.prompt();
    // Known once the heap was listed.
    t.keys("!dumpheap -type System.OutOfMem\t");
    t.see("System.OutOfMemoryException");
    t.keys("\r");
    t.prompt();
    let out = t.run("!dumpheap -type System.OutOfMemoryException");
    let row =
        out.lines().find(|l| l.trim().len() > 30 && l.trim().starts_with("7f")).unwrap_or_else(|| panic!("{out}"));
    let address = row.split_whitespace().next().unwrap();
    assert!(address.len() >= 11, "{row}");
    let (typed, rest) = address.split_at(address.len() - 1);
    t.keys(&format!("!dumpobj {typed}\t"));
    t.see(&format!("!dumpobj {typed}"));
    t.see(rest);
    t.keys("\r");
    t.see("System.OutOfMemoryException");
    t.prompt();
}

#[test]
fn tab_completes_addresses_of_objects_not_printed_yet() {
    let mut t = Terminal::ready();
    let mut batch = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    batch.arg(leak()).args(["-c", "!dumpheap -short -type System.OutOfMemoryException"]);
    let out = batch.env("CLRSCOPE_CACHE", unpacked()).output().unwrap();
    let address = String::from_utf8(out.stdout).unwrap().lines().next().unwrap().trim().to_owned();
    let line = format!("!dumpobj {}\t\r", &address[..address.len() - 1]);
    t.keys(&line);
    t.see("0:000> ");
    assert!(!t.run("").contains("System.OutOfMemoryException"), "nothing is walked for completion");
    t.run(&format!("!gcroot {address}"));
    t.keys(&line);
    t.see("System.OutOfMemoryException");
}

#[test]
fn ctrl_c_drops_a_half_typed_line() {
    let mut t = Terminal::ready();
    t.keys("!dumpheap -st");
    t.see("!dumpheap -st");
    t.control('c');
    t.prompt();
    let out = t.run("? 2+3");
    assert!(out.contains("= 00000000`00000005") && !out.contains("Statistics"), "{out}");
}

#[test]
fn history_is_kept_across_runs() {
    let mut t = Terminal::ready();
    t.run("? 41+1");
    t.keys("? 0x77\r");
    t.see("= 00000000`00000077");
    t.prompt();
    // Ended without leave: what was typed is kept all the same.
    t.pty.process_mut().signal(rexpect::process::Signal::SIGKILL).unwrap();
    let home = std::mem::replace(&mut t.home, tempfile::tempdir().unwrap());
    drop(t);
    let mut t = Terminal::start(&leak(), &unpacked(), home);
    t.prompt();
    t.keys("\x1b[A");
    t.see("? 0x77");
    t.keys("\r");
    t.see("= 00000000`00000077");
}

#[test]
fn a_damaged_history_keeps_no_dump_from_opening() {
    let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let whole = [b"#V2\n".as_slice(), &[b'a'; 300_000], b"\n\xff\xfe\n\\", &[0; 64], b"\n? 1"].concat();
    for bytes in [Some(noise), Some(whole), Some(Vec::new()), None] {
        let home = tempfile::tempdir().unwrap();
        let history = home.path().join(".local/state/clrscope/history");
        std::fs::create_dir_all(history.parent().unwrap()).unwrap();
        match bytes {
            Some(bytes) => std::fs::write(&history, bytes).unwrap(),
            // A folder where the file should be.
            None => std::fs::create_dir(&history).unwrap(),
        }
        let mut t = Terminal::start(&leak(), &unpacked(), home);
        t.see(".help lists the commands");
        t.prompt();
        assert!(t.run("? 2+3").contains("= 00000000`00000005"));
    }
}

#[test]
fn looking_for_the_runtime_is_interrupted() {
    let dump = data("linux-x64-3.1-wks-heap.core.zst");
    let options = ["--no-pager", "--provider", "structure"];
    for delay in [1600, 800, 400, 200, 100, 50].map(Duration::from_millis) {
        let mut t = Terminal::with(&dump, &unpacked(), tempfile::tempdir().unwrap(), &options);
        sleep(delay);
        let asked = Instant::now();
        t.control('c');
        let banner = t.see("0:000> ");
        let took = asked.elapsed();
        assert!(took < SOON, "{took:?} after {delay:?}");
        if banner.contains("interrupted") {
            eprintln!("interrupted after {delay:?}, prompt within {took:?}");
            // What was not found is looked for again.
            assert!(t.run("!eeversion").contains("Workstation mode"));
            return;
        }
    }
    panic!("it was never interrupted");
}

#[test]
fn unpacking_is_interrupted() {
    let cache = tempfile::tempdir().unwrap();
    let dump = data("win-x64-10.0-wks-full.dmp.zst");
    for _ in 0..30 {
        let mut t = Terminal::start(&dump, cache.path(), tempfile::tempdir().unwrap());
        // The partial file is the sign that unpacking has begun.
        let until = Instant::now() + SOON;
        while std::fs::read_dir(cache.path()).unwrap().count() == 0 {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(1));
        }
        t.control('c');
        let asked = Instant::now();
        let out = t.pty.exp_any(vec![
            rexpect::ReadUntil::String("interrupted while opening".into()),
            rexpect::ReadUntil::String("0:000> ".into()),
        ]);
        if out.unwrap().1.starts_with("interrupted") {
            assert!(asked.elapsed() < SOON);
            t.pty.exp_eof().unwrap();
            assert_eq!(t.exit_code(), 2);
            let left: Vec<_> = std::fs::read_dir(cache.path()).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
            return;
        }
        // It was faster: again, from an empty cache.
        drop(t);
        for e in std::fs::read_dir(cache.path()).unwrap() {
            std::fs::remove_file(e.unwrap().path()).unwrap();
        }
    }
    panic!("unpacking was never interrupted");
}

#[test]
fn opening_another_dump_is_interrupted_and_the_first_stays_open() {
    let cache = tempfile::tempdir().unwrap();
    let mut t = Terminal::start(&leak(), cache.path(), tempfile::tempdir().unwrap());
    t.prompt();
    t.interrupts(&format!(".opendump {}", data("win-x64-10.0-wks-full.dmp.zst").display()), Duration::from_millis(100));
    assert!(t.run("vertarget").contains("Linux"));
}

#[test]
fn walking_is_interrupted() {
    let Some(big) = big() else { return };
    let mut t = Terminal::on(&big);
    t.interrupts("!dumpheap -stat", Duration::from_millis(100));
    t.interrupts("!dumpheap", Duration::from_millis(100));
}

#[test]
fn finding_roots_is_interrupted_in_each_of_its_phases() {
    let Some(big) = big() else { return };
    let mut t = Terminal::on(&big);
    let out = t.run("!dumpheap -short -type System.OutOfMemoryException");
    let address = out.lines().find(|l| l.len() > 10 && l.chars().all(|c| c.is_ascii_hexdigit())).unwrap().to_owned();
    for delay in [50, 200, 600, 1200] {
        t.interrupts(&format!("!gcroot {address}"), Duration::from_millis(delay));
    }
}

#[test]
fn exporting_is_interrupted() {
    let Some(big) = big() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut t = Terminal::on(&big);
    for delay in [50, 500, 1500] {
        t.interrupts(&format!(".export {}", folder.path().display()), Duration::from_millis(delay));
    }
}

#[test]
fn loops_are_interrupted() {
    let mut t = Terminal::ready();
    for line in [
        ".while (1) {r $t0 = @$t0 + 1}",
        ".for (;;) {.catch {!dumpobj 10}}",
        ".do {.foreach (o {!dumpheap -short}) {!dumpobj o}} (1)",
        ".shell sleep 60",
    ] {
        t.interrupts(line, Duration::from_millis(300));
    }
}

#[test]
fn tab_completes_in_blocks_and_script_names() {
    let mut t = Terminal::ready();
    t.keys(".foreach (o {!dumphe\t");
    t.see("{!dumpheap");
    t.control('c');
    t.prompt();
    let script = t.home.path().join("hunt-the-leak.txt");
    std::fs::write(&script, ".echo found-it\n").unwrap();
    t.keys(&format!("$$><{}\t\r", t.home.path().join("hunt-the").display()));
    t.see("\nfound-it");
    t.prompt();
}

#[test]
fn tab_completes_pipes_and_columns() {
    let mut t = Terminal::ready();
    t.keys("!dumpheap -stat | whe\t");
    t.see("| where ");
    t.keys("total_s\t");
    t.see("total_size ");
    t.keys("> 1mb | cols class\t| so\t-cla\t\r");
    t.see("| cols class_name | sort -class_name");
    t.see("Class Name");
    t.see("System.Byte[]");
    t.prompt();
}

#[test]
fn tab_completes_types_and_fields_of_a_question() {
    let mut t = Terminal::ready();
    t.run("!dumpheap -stat -top 1");
    t.keys("!select from Zoo.Sess\t");
    t.see("from Zoo.Session");
    t.keys(" wh\t");
    t.see("where");
    t.keys(" Us\t");
    t.see("where User");
    t.keys(".Le\t");
    t.see("User.Length");
    t.keys(" > 10 select Us\t, @addr\t\r");
    t.see("select User, @address");
    t.prompt();
}

#[test]
fn output_longer_than_the_window_is_paged() {
    let mut t = Terminal::with(&leak(), &unpacked(), tempfile::tempdir().unwrap(), &[]);
    t.prompt();
    t.keys(".echo short\r");
    assert!(!t.prompt().contains("more"));
    t.keys("!dumpheap\r");
    let first = t.see("-- more --");
    assert!((15..25).contains(&first.lines().count()), "{first}");
    t.keys(" ");
    t.see("-- more --");
    // Stopping is no failure, and the next command prints as ever.
    t.keys("q");
    assert!(!t.prompt().contains("interrupted"));
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
}

#[test]
fn an_unfinished_line_keeps_the_prompt_apart() {
    let mut t = Terminal::ready();
    t.keys(".printf \"unfinished\"\r");
    t.see("\nunfinished");
    assert!(t.prompt().contains('\n'));
}

#[test]
fn tab_keeps_an_alias_and_lists_the_others() {
    let mut t = Terminal::ready();
    t.keys("!do\t\t");
    t.see("!do = !dumpobj");
    t.see("!dominators");
    // The line stays as it is: its command runs.
    t.keys("\x15!sos.dumphe\t");
    t.see("!sos.dumpheap");
}

#[test]
fn tab_completes_registers_modules_values_and_threads() {
    let mut t = Terminal::ready();
    for (typed, seen) in [
        ("? @$ptr\t", "@$ptrsize"),
        ("? poi(@rs\t\t", "@rsp"),
        ("r rb\t\t", "rbx"),
        ("lmvm libcoreclr\t", "libcoreclr.so"),
        ("? libcorec\t", "libcoreclr"),
        ("!gchandles -type Async\t", "AsyncPinned"),
        ("!dumpheap -gen l\t", "loh"),
        ("!address -f:Stack,MEM_PR\t", "Stack,MEM_PRIVATE"),
        ("~\t\t", "8  216d"),
        ("!dumpheap -wi\t", "-wide"),
    ] {
        // Ctrl-U empties the line.
        t.keys(&format!("\x15{typed}"));
        t.see(seen);
    }
}

#[test]
fn tab_says_why_there_is_nothing() {
    let mut t = Terminal::ready();
    t.keys("!gcroot 7f\t");
    t.see("no object is known yet");
    t.control('c');
    t.prompt();
    // Where they are known, types stand beside them.
    let out = t.run("!dumpheap -short -type Zoo.Session");
    let address = "7fd0d91e6078";
    assert!(out.contains(address), "{out}");
    t.keys(&format!("!gcroot {}\t\t", &address[..address.len() - 3]));
    t.see(&format!("{address}  Zoo.Session"));
    t.keys(&format!("\x15!gcroot {address}"));
    t.see(&format!("!gcroot {address}  Zoo.Session"));
}

#[test]
fn hints_come_from_declarations_and_from_history_first() {
    let mut t = Terminal::ready();
    t.keys("!gcroot");
    t.see("[-type TYPE]");
    t.control('c');
    t.prompt();
    t.run("? 0x1234");
    t.keys("? 0x");
    t.see("1234");
    // The right arrow takes it over.
    t.keys("\x1b[C\r");
    t.see("= 00000000`00001234");
    t.prompt();
}

#[test]
fn what_is_open_goes_on_on_the_next_line() {
    let mut t = Terminal::ready();
    t.keys(".if (0) {\r");
    t.see("goes on here");
    t.keys(".echo unguarded\r}\r");
    let out = t.prompt();
    assert!(!out.contains("\nunguarded"), "{out}");
    t.keys(".if (1)\r{ .echo gua\"\"rded\r}\r.echo \"two\rlines\"\r");
    t.see("\ngua\"\"rded");
    t.see("\n\"two");
    t.prompt();
    // What is open can be dropped.
    t.keys(".if (1) {\r");
    t.control('c');
    t.prompt();
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
}

/// What a line prints, row by row. The terminal's text comes byte by byte, and the progress line is drawn over.
fn rows(t: &mut Terminal, line: &str) -> Vec<String> {
    let bytes: Vec<u8> = t.run(line).chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    let text = String::from_utf8_lossy(&bytes);
    let shown = text.lines().map(|l| l.trim_end().rsplit('\r').next().unwrap().to_owned());
    shown.filter(|l| !l.contains("0:000>")).collect()
}

#[test]
fn tables_fit_the_window() {
    for columns in [80, 100, 160] {
        let home = tempfile::tempdir().unwrap();
        let mut t = Terminal::sized(&leak(), &unpacked(), home, &["--no-pager"], columns);
        t.prompt();
        for line in ["!retained -top 20", "!leaks", "!dumpheap -stat", "!address -summary", "!gchandles"] {
            let rows = rows(&mut t, line);
            assert!(rows.len() > 3, "{rows:?}");
            for row in rows {
                assert!(row.chars().count() <= columns, "{line}: {row}");
            }
        }
        let leaks = rows(&mut t, "!leaks").join("\n");
        // No number of the evidence is lost, and paths begin a line at each arrow.
        assert!(leaks.contains("7fd0d916e178") && leaks.contains("2,492,710"), "{leaks}");
        assert!(leaks.contains("\n               -> _entries"), "{leaks}");
    }
}

#[test]
fn wide_rows_files_and_logs_are_whole() {
    let mut t = Terminal::ready();
    let fitted = rows(&mut t, "!retained -top 20").join("\n");
    assert!(fitted.contains('…') && fitted.contains("2,711,967"), "{fitted}");
    let wide = rows(&mut t, "!retained -top 20 -wide");
    assert!(wide.iter().all(|l| !l.contains('…')) && wide.iter().any(|l| l.len() > 100), "{wide:?}");
    let file = t.home.path().join("out.txt");
    t.run(&format!("!retained -top 20 -o {}", file.display()));
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains('…') && text.lines().any(|l| l.len() > 100), "{text}");
    let log = t.home.path().join("log.txt");
    t.run(&format!(".logopen {}", log.display()));
    t.run("!retained -top 20");
    t.run(".logclose");
    let logged = std::fs::read_to_string(log).unwrap();
    assert!(logged.contains(text.trim_end()), "{logged}");
}

#[test]
fn colours_say_what_a_value_is() {
    let mut command = Command::new("sh");
    command.args(["-c", "stty rows 20 cols 100 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_clrscope")]);
    command.arg(leak()).args(["-c", "!dumpheap -stat -type Zoo.Session"]).env("CLRSCOPE_CACHE", unpacked());
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let options = Options::new().timeout_ms(Some(60_000));
    let mut pty = spawn_with_options(command, options).unwrap();
    let out = pty.exp_eof().unwrap();
    assert!(out.contains("\u{1b}[1m"), "titles: {out:?}");
    assert!(out.contains("\u{1b}[38;5;31m7f"), "addresses: {out:?}");
    assert!(!out.contains('\u{1e}') && !out.contains('\u{1f}') && !out.contains('\u{1d}'), "{out:?}");
}

#[test]
fn the_pager_goes_back_and_searches() {
    let mut t = Terminal::with(&leak(), &unpacked(), tempfile::tempdir().unwrap(), &[]);
    t.prompt();
    t.keys("!dumpheap\r");
    let first = t.see("-- more --");
    let row = |text: &str| {
        let found = text.lines().filter_map(|l| l.split_whitespace().next()).find(|w| w.starts_with("7f"));
        found.map(str::to_owned)
    };
    let top = row(&first).unwrap_or_else(|| panic!("{first}"));
    t.see("stop) ");
    t.keys("\r");
    let line = t.see("-- more --");
    assert_eq!(line.lines().filter(|l| l.contains("7f")).count(), 1, "{line}");
    t.see("stop) ");
    t.keys("g");
    assert_eq!(row(&t.see("-- more --")), Some(top.clone()));
    t.see("stop) ");
    t.keys("G");
    assert!(t.see("-- end --").contains("Total 17,886 objects"));
    t.see("done) ");
    t.keys("b");
    t.see("-- more --");
    t.see("stop) ");
    t.keys("g");
    t.see("-- more --");
    t.see("stop) ");
    t.keys("/outofmem\r");
    assert!(t.see("-- more --").contains("OutOfMemory"));
    t.see("stop) ");
    t.keys("/no such text\r");
    t.see("-- not found --");
    t.see("stop) ");
    t.keys("q");
    t.prompt();
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
    // Ctrl-C is an answer too.
    t.keys("!dumpheap\r");
    t.see("stop) ");
    t.control('c');
    t.prompt();
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
}

#[test]
fn the_pager_of_the_user_gets_what_is_longer_than_the_window() {
    let home = tempfile::tempdir().unwrap();
    let into = home.path().join("paged.txt");
    let mut command = Command::new("sh");
    command.args(["-c", "stty rows 20 cols 100 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_clrscope")]);
    command.arg(leak()).arg("--pager").env("HOME", home.path()).env("CLRSCOPE_CACHE", unpacked());
    command.env("PAGER", format!("cat > {}", into.display())).env("TERM", "xterm").env("NO_COLOR", "1");
    command.env_remove("XDG_STATE_HOME").env_remove("CLRSCOPE_HISTORY");
    let options = Options::new().timeout_ms(Some(60_000)).strip_ansi_escape_codes(true);
    let mut t = Terminal { pty: spawn_with_options(command, options).unwrap(), home };
    t.prompt();
    assert!(t.run("? 2+3").contains("= 00000000`00000005"));
    assert!(!into.exists());
    t.run("!dumpheap");
    let text = std::fs::read_to_string(into).unwrap();
    assert!(text.contains("Total 17,886 objects") && text.lines().count() > 17_886, "{}", text.len());
}
