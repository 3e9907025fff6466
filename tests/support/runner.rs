//! Runs the examples of the commands' help, their placeholders filled.

use std::path::Path;

use clrscope::commands;
use clrscope::shell::Command;
use clrscope::shell::state::{Ended, Shell};

use super::captured::{Captured, open};

pub struct Runner {
    pub shell: Shell,
    pub out: Captured,
}

impl Runner {
    pub fn on(dump: &str) -> Self {
        let (shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        Self { shell, out }
    }

    pub fn run(&mut self, line: &str) -> (Ended, String) {
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
        let own = compiled.flat_map(|mt| clr.methods(&mt).items).find_map(|m| Some((m.address, clr.native_code(&m)?)));
        let (own, code) = own.unwrap();
        let pointer = u64::from(session.clr().unwrap().ptr_size());
        let mut values = vec![
            ("$VALUETYPE", mt(boxed)),
            ("$VALUE", boxed + pointer),
            ("$EXCEPTION", exception),
            ("$DELEGATE", delegate),
            ("$OWNMETHOD", own),
            ("$METHOD", methods[0].address),
            ("$SIGNATURE", signature(clr, assembly.module)),
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

/// Where the signature of a method lies in the metadata of `module` in memory.
fn signature(clr: &clrscope::clr::Clr, module: u64) -> u64 {
    let module = clr.module(module);
    let (start, size) = module.metadata_range(clr).unwrap();
    let bytes = clr.space().bytes(start, size as usize).unwrap();
    let metadata = module.metadata(clr).unwrap();
    let long = (1..200).filter_map(|r| metadata.method(r)).find(|m| m.signature.len() > 8).unwrap().signature;
    start + bytes.windows(long.len()).position(|w| w == long).unwrap() as u64
}

/// Leaves the shell, needs a second dump or a process that runs.
fn skipped(line: &str) -> bool {
    line.starts_with('q') || [".opendump", ".collect", ".ps"].iter().any(|c| line.starts_with(c))
}

/// An example with its placeholders filled, and whose it is.
pub struct Filled {
    pub command: &'static Command,
    pub line: String,
}

impl Runner {
    /// All examples that can run here; what they write goes into `folder`.
    pub fn examples(&mut self, dump: &str, folder: &Path) -> Vec<Filled> {
        let values = self.values();
        let path = self.shell.session.as_ref().unwrap().dump().path.clone();
        let mut all = Vec::new();
        for command in commands::ALL {
            for example in command.examples.iter().filter(|e| !skipped(e.line)) {
                let mut line = example.line.replace("/tmp/model", &folder.join("model").display().to_string());
                line = line.replace("/tmp/fleet", &folder.join("fleet").display().to_string());
                line = line.replace("hunt.log", &folder.join("hunt.log").display().to_string());
                line = line.replace("saved.dll", &folder.join("saved.dll").display().to_string());
                line = line.replace("report.html", &folder.join("report.html").display().to_string());
                for name in ["heap.heapsnapshot", "all.speedscope.json"] {
                    line = line.replace(name, &folder.join(name).display().to_string());
                }
                line = line.replace("stack.bin", &folder.join("stack.bin").display().to_string());
                // A dump compared with itself is an example as good as any.
                line = line.replace("older.core.zst", &path.display().to_string());
                for (name, value) in &values {
                    line = line.replace(name, &format!("{value:x}"));
                }
                if line.contains("$CONCURRENTQUEUE") && dump.starts_with("linux") {
                    continue;
                }
                let unfilled = line.split('$').skip(1).any(|w| w.starts_with(|c: char| c.is_ascii_uppercase()));
                assert!(!unfilled, "a placeholder is not known: {line}");
                all.push(Filled { command, line });
            }
        }
        all
    }
}
