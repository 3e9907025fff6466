//! Every example of every command's help, run on a Linux and a Windows dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::Path;

use captured::{Captured, open};
use clrscope::commands;
use clrscope::shell::run::{Ended, Shell};

struct Runner {
    shell: Shell,
    out: Captured,
}

impl Runner {
    fn on(dump: &str) -> Self {
        let (shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        Self { shell, out }
    }

    fn run(&mut self, line: &str) -> (Ended, String) {
        self.out.0.lock().unwrap().clear();
        let ended = self.shell.line(line);
        (ended, String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap())
    }

    /// Address of an object of the first of these types that has one.
    fn object(&mut self, types: &[&str]) -> u64 {
        let found = types.iter().find_map(|t| {
            let (_, out) = self.run(&format!("!dumpheap -short {t}"));
            u64::from_str_radix(out.lines().next()?.trim(), 16).ok()
        });
        found.unwrap_or_else(|| panic!("no object of {types:?}"))
    }

    /// What stands for the placeholders of the examples.
    fn values(&mut self) -> Vec<(&'static str, u64)> {
        let exception = self.object(&["System.OutOfMemoryException"]);
        let array = self.object(&["System.String[]"]);
        let list = self.object(&["System.Collections.Generic.List<System.Object>"]);
        let dictionary =
            self.object(&["System.Collections.Concurrent.ConcurrentDictionary<System.Int32, Zoo.Session>"]);
        let delegate = self.object(&["System.EventHandler", "System.Threading.ThreadStart"]);
        let boxed = self.object(&["System.Int32"]);
        let session = self.shell.session.clone().unwrap();
        let mt = |at: u64| session.walker().unwrap().object_at(at).unwrap().ty.mt.address;
        let assembly = &session.clr().unwrap().assemblies().items[0];
        let clr = session.clr().unwrap();
        let methods = clr.methods(&session.walker().unwrap().object_at(exception).unwrap().ty.mt).items;
        // The program's own methods were compiled, not precompiled.
        let zoo =
            clr.assemblies().items.iter().find(|a| clr.module(a.module).path.ends_with("zoo.dll")).unwrap().module;
        let compiled = clr.loaded_types(zoo).items.into_iter().filter_map(|(_, mt)| clr.method_table(mt));
        let code = compiled.flat_map(|mt| clr.methods(&mt).items).find_map(|m| clr.native_code(&m)).unwrap();
        let pointer = u64::from(session.clr().unwrap().ptr_size());
        let mut values = vec![
            ("$VALUETYPE", mt(boxed)),
            ("$VALUE", boxed + pointer),
            ("$EXCEPTION", exception),
            ("$DELEGATE", delegate),
            ("$METHOD", methods[0].address),
            ("$CODE", code + 1),
            ("$LIST", list),
            ("$CONCURRENTDICTIONARY", dictionary),
            ("$ASSEMBLY", assembly.assembly),
            ("$OBJECT", array),
            ("$TARGET", exception),
            ("$MODULE", assembly.module),
            ("$ARRAY", array),
            ("$MT", mt(exception)),
        ];
        // Not every dump has one.
        let (_, queues) = self.run("!dumpheap -short System.Collections.Concurrent.ConcurrentQueue<System.Object>");
        let queue = queues.lines().next().and_then(|a| u64::from_str_radix(a.trim(), 16).ok());
        values.extend(queue.map(|a| ("$CONCURRENTQUEUE", a)));
        // The longer names first: none may replace the beginning of another.
        values.sort_by_key(|v| std::cmp::Reverse(v.0.len()));
        values
    }
}

/// Leaves the shell or needs a second dump.
fn skipped(line: &str) -> bool {
    line.starts_with('q') || line.starts_with(".opendump")
}

fn examples_run_on(dump: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner::on(dump);
    let values = runner.values();
    let path = runner.shell.session.as_ref().unwrap().dump().path.clone();
    let mut failed = Vec::new();
    for command in commands::ALL {
        for example in command.examples.iter().filter(|e| !skipped(e.line)) {
            let mut line = example.line.replace("/tmp/model", &folder.path().join("model").display().to_string());
            line = line.replace("hunt.log", &folder.path().join("hunt.log").display().to_string());
            // A dump compared with itself is an example as good as any.
            line = line.replace("older.core.zst", &path.display().to_string());
            for (name, value) in &values {
                line = line.replace(name, &format!("{value:x}"));
            }
            if line.contains("$CONCURRENTQUEUE") && dump.starts_with("linux") {
                continue;
            }
            assert!(!line.contains('$') || line.contains("@$"), "a placeholder is not known: {line}");
            let (ended, out) = runner.run(&line);
            if ended != Ended::Well {
                failed.push(format!("{}: {line}: {ended:?}: {}", command.name, out.lines().next().unwrap_or("")));
            }
        }
    }
    assert!(failed.is_empty(), "{dump}:\n{}", failed.join("\n"));
}

#[test]
fn on_a_linux_dump() {
    examples_run_on("linux-x64-10.0-leak-heap.core.zst");
}

#[test]
fn on_a_windows_dump() {
    examples_run_on("win-x64-10.0-wks-full.dmp.zst");
}
