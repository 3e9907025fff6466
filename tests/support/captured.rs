//! A shell in the test's own process, whose output is kept.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clrscope::commands;
use clrscope::dump::OpenOptions;
use clrscope::shell::Format;
use clrscope::shell::state::Shell;
use clrscope::watch::Watch;

#[derive(Clone, Default)]
pub struct Captured(pub Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A shell on the dump at `path`, and what it prints.
pub fn open(path: &Path) -> (Shell, Captured) {
    let out = Captured::default();
    let sink = out.clone();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let mut shell = Shell {
        commands: commands::ALL,
        settings: Default::default(),
        session: None,
        format: Format::Text,
        watch: Watch::default(),
        open: OpenOptions { cache_dir: Some(cache), ..OpenOptions::default() },
        recent: Arc::default(),
        sink: Box::new(move || Box::new(sink.clone())),
        depth: 0,
        last: String::new(),
        state: Default::default(),
    };
    shell.open(path).unwrap();
    (shell, out)
}
