//! Any line at the prompt ends: no panic, no command that "hit a bug", whatever blocks, quotes and pipes are mixed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/make_minidump.rs"]
mod make_minidump;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clrscope::commands;
use clrscope::dump::OpenOptions;
use clrscope::shell::Format;
use clrscope::shell::run::{Ended, Shell};
use clrscope::watch::Watch;
use proptest::prelude::*;

/// Takes everything, counts its bytes.
struct Nowhere(Arc<AtomicUsize>);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shell(dump: &Path) -> Shell {
    let written = Arc::new(AtomicUsize::new(0));
    let mut shell = Shell {
        commands: commands::ALL,
        settings: Default::default(),
        session: None,
        format: Format::Text,
        watch: Watch::default(),
        open: OpenOptions { no_images: true, ..OpenOptions::default() },
        recent: Arc::default(),
        sink: Box::new(move || Box::new(Nowhere(written.clone()))),
        depth: 0,
        last: String::new(),
        state: Default::default(),
    };
    shell.state.errors = Some(Arc::default());
    shell.open(dump).unwrap();
    shell
}

/// Pieces of lines. Nothing here loops for ever, writes a file or runs a program.
const PIECES: &[&str] = &[
    "!dumpheap -stat ",
    ".foreach (v {",
    ".foreach /pS 1 /ps 2 (v {",
    "}) {",
    "} ",
    "{",
    "(",
    ") ",
    ".if (",
    ".else {",
    ".elsif (",
    ".for (r $t1=0; @$t1<3; r $t1=@$t1+1) {",
    ".block {",
    ".catch {",
    ".break",
    ".continue",
    ".leave",
    "; ",
    "\n",
    "\"",
    "'",
    "| top 3 ",
    "| find a ",
    "| where ",
    "count > 1 kb ",
    "not (",
    "size ~ \"a\" ",
    "| sort -size,address ",
    "| group ",
    "size sum size ",
    "| cols address ",
    "| last 2 ",
    "| count ",
    "lm ",
    ".printf \"%d %x %ma %msu %p %y\\n\", ",
    "@$t0, ",
    "as x ",
    "aS /x y ",
    "as /c z ",
    "ad *",
    "al",
    "${x}",
    "${/d:x}",
    "x ",
    "v ",
    "? ",
    "?? ",
    "r $t0=",
    "r ",
    "r $.u1=",
    "$u1",
    "@$csp ",
    "poi(",
    "1+2 ",
    "~*e ",
    "~0s",
    "~. ",
    "~~[64] ",
    "db @$csp L10 ",
    "dps 20000 ",
    "du ",
    "s -b 20000 L100 ab ",
    "s -u 20000 L8 \"a",
    "$$ ",
    "* ",
    "$$>< ",
    "-json ",
    "-csv ",
    ".echo ",
    "!address ",
    "-summary ",
    "-f:Stack ",
    "-c:\".echo %1\" ",
    "!handle ",
    "!teb ",
    "!peb ",
    "!runaway 7 ",
    ".lastevent ",
    ".exr -1 ",
    ".formats ",
    "j 1 ",
    "lm m * ",
    "0x",
    "`",
    "\u{2603} ",
    "\t",
    "sos ",
    "!ext.",
    "/",
    "!maddress ",
    "!vmstat ",
    "vertarget ",
    ".help ",
    "!nope ",
    "== ",
    "<< ",
    "&& ",
    "$scmp(\"a\",\"b\") ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_line_ends(picks in proptest::collection::vec(0..PIECES.len(), 1..14)) {
        let line: String = picks.iter().map(|i| PIECES[*i]).collect();
        thread_local! {
            static SHELL: std::cell::RefCell<Option<(Shell, tempfile::TempDir)>> = const { std::cell::RefCell::new(None) };
        }
        SHELL.with_borrow_mut(|slot| {
            let (shell, _dir) = slot.get_or_insert_with(|| {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("built.dmp");
                std::fs::write(&path, make_minidump::everything()).unwrap();
                (shell(&path), dir)
            });
            // A command that panics is caught by the shell: here it must not be.
            let panics = Arc::new(AtomicUsize::new(0));
            let counted = panics.clone();
            std::panic::set_hook(Box::new(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            let ended = shell.line(&line);
            let errors = std::mem::take(&mut *shell.state.errors.as_ref().unwrap().lock().unwrap());
            assert!(errors.iter().all(|e| !e.contains("hit a bug")), "{line:?}: {errors:?}");
            assert!(ended != Ended::Failed || !errors.is_empty(), "{line:?} failed without a word");
            let _ = std::panic::take_hook();
            assert_eq!(panics.load(Ordering::Relaxed), 0, "{line:?}");
            assert!(!matches!(ended, Ended::Left(_)), "{line:?} leaves a loop it is not in");
            assert_eq!((shell.state.nesting, shell.state.loops, shell.state.catches), (0, 0, 0), "{line:?}");
            assert!(shell.state.taken.is_none());
        });
    }
}
