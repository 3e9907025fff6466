//! Every example of every command's help, run on a Linux and a Windows dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/runner.rs"]
mod runner;

use clrscope::shell::state::Ended;
use runner::Runner;

fn examples_run_on(dump: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner::on(dump);
    let mut failed = Vec::new();
    for example in runner.examples(dump, folder.path()) {
        let (ended, out) = runner.run(&example.line);
        if ended != Ended::Well {
            let first = out.lines().next().unwrap_or("").to_owned();
            failed.push(format!("{}: {}: {ended:?}: {first}", example.command.name, example.line));
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
