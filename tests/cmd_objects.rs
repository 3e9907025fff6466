//! Commands on types, modules, threads and exceptions, run on a real dump.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "test code")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use clrscope::commands::ALL;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::shell::args::Value;
use clrscope::shell::command::Settings;
use clrscope::shell::opening::Opening;
use clrscope::shell::{Args, Ctx, Format, Kind, Out};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The sample dump, opened once for all tests; `None` when it is not in the checkout.
fn sample() -> Option<&'static Session> {
    static SESSION: OnceLock<Option<Session>> = OnceLock::new();
    let open = || {
        let path: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join("linux-x64-10.0-crash-heap.core.zst");
        let dump = path.exists().then(|| Dump::open(&path, &OpenOptions::default(), &Default::default()));
        dump.map(|d| Session::new(d.expect("a readable dump"), Default::default()))
    };
    SESSION.get_or_init(open).as_ref()
}

/// Runs a command with arguments given by declared name; the text printed, or the error.
fn run(session: &Session, name: &str, given: &[(&'static str, Value)]) -> String {
    let command = ALL.iter().find(|c| c.name == name || c.aliases.contains(&name)).expect("a command");
    let mut args = Args::default();
    for (n, v) in given {
        assert!(command.args.iter().any(|a| a.name == *n && (matches!(a.kind, Kind::Flag) == (*v == Value::Flag))));
        args.push(n, v.clone());
    }
    let sink = Sink::default();
    let mut out = Out::new(Box::new(sink.clone()), Format::Text);
    let mut settings = Settings::default();
    let opening = Opening::default();
    let mut ctx = Ctx {
        session: Some(session),
        opening: &opening,
        out: &mut out,
        settings: &mut settings,
        commands: ALL,
        request: None,
    };
    if let Err(e) = (command.run)(&mut ctx, &args) {
        return format!("error: {e:#}");
    }
    drop(out);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn text(s: &str) -> Value {
    Value::Text(s.into())
}

/// The value behind `label` in a listing.
fn value(listing: &str, label: &str) -> u64 {
    let line = listing.lines().find(|l| l.starts_with(label)).expect("the line");
    u64::from_str_radix(line.trim_start_matches(label).trim(), 16).expect("a number")
}

#[test]
fn names_lead_to_types_methods_and_back() {
    let Some(s) = sample() else { return };
    let found = run(s, "name2ee", &[("MODULE", text("zoo.dll")), ("ITEM", text("Zoo.Session"))]);
    let mt = value(&found, "MethodTable:");
    let by_bang = run(s, "name2ee", &[("MODULE", text("zoo!Zoo.Session"))]);
    assert_eq!(found, by_bang);
    let shown = run(s, "dumpmt", &[("MT", Value::Number(mt)), ("md", Value::Flag)]);
    assert!(shown.contains("Name:                Zoo.Session\n"), "{shown}");
    assert!(shown.contains("Number of Methods:   8\n"), "{shown}");
    assert!(shown.contains("Zoo.Session.add_Closed(System.EventHandler)"), "{shown}");
    let class = value(&shown, "EEClass:");
    assert_eq!(
        run(s, "dumpclass", &[("CLASS", Value::Number(class))]),
        run(s, "dumpclass", &[("CLASS", Value::Number(mt))])
    );
    let main = run(s, "name2ee", &[("MODULE", text("zoo.dll")), ("ITEM", text("Zoo.Zoo.Main"))]);
    assert!(main.contains("Name:        Zoo.Zoo.Main(System.String[])"), "{main}");
    let nothing = run(s, "name2ee", &[("MODULE", text("nope.dll")), ("ITEM", text("X"))]);
    assert!(nothing.starts_with("error: no module is called nope.dll"), "{nothing}");
}

#[test]
fn addresses_of_nothing_are_refused_with_a_way_on() {
    let Some(s) = sample() else { return };
    for (command, arg) in [
        ("dumpmt", "MT"),
        ("dumpclass", "CLASS"),
        ("dumpmodule", "ADDR"),
        ("dumpassembly", "ADDR"),
        ("dumparray", "ADDR"),
        ("dumpdelegate", "ADDR"),
        ("printexception", "ADDR"),
    ] {
        for bad in [1, 0x1000, 0x7fff_ffff_ffff, u64::MAX, u64::MAX - 7] {
            let said = run(s, command, &[(arg, Value::Number(bad))]);
            assert!(said.starts_with("error: "), "{command} {bad:x}: {said}");
        }
    }
}

#[test]
fn exceptions_show_message_trace_and_inner() {
    let Some(s) = sample() else { return };
    let list = run(s, "dumpexceptions", &[]);
    assert!(list.contains("Message: order 3 failed"), "{list}");
    assert!(list.contains("StackFrame: Zoo.Zoo.Level(Int32)"), "{list}");
    let line = list.lines().find(|l| l.ends_with("Zoo.OrderException")).unwrap();
    let address = u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap();
    let shown = run(s, "printexception", &[("ADDR", Value::Number(address)), ("nested", Value::Flag)]);
    assert_eq!(shown.matches("Exception object: ").count(), 2, "{shown}");
    assert!(shown.contains("System.Private.CoreLib.dll!System.Threading.Thread.StartCallback()+0x"), "{shown}");
    let threads = run(s, "clrthreads", &[]);
    assert!(threads.contains(&format!("Zoo.OrderException {address:016x}")), "{threads}");
}

#[test]
fn states_are_put_into_words() {
    let Some(s) = sample() else { return };
    let words = run(s, "threadstate", &[("STATE", Value::Number(0x0202_1220))]);
    assert_eq!(
        words.lines().map(str::trim).collect::<Vec<_>>(),
        ["Legal to Join", "Background", "CLR Owns", "Fully initialized", "Interruptible"]
    );
}
