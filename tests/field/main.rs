//! Situations users reported, each a small program with the answer that is right: `testdata/field/*.cs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/ask.rs"]
mod ask;

mod ends;
mod errors;
mod generics;
mod locks;
mod memory;
mod statics;
mod tasks;
mod values;

use std::path::{Path, PathBuf};

/// The dump of a program.
pub fn dump(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/linux-x64-10.0-{program}-heap.core.zst"))
}

/// What the program wrote of itself.
pub fn fact(program: &str, name: &str) -> String {
    let path = dump(program).to_str().unwrap().replace(".core.zst", ".facts.tsv");
    let facts = std::fs::read_to_string(path).unwrap();
    let found = facts.lines().filter_map(|l| l.split_once('\t')).find(|f| f.0 == name);
    found.unwrap_or_else(|| panic!("{program} has no fact {name}")).1.to_owned()
}

/// What `commands` print on the dump of `program`; `$NAME` stands for the address of that object.
pub fn ask(program: &str, commands: &[&str]) -> Vec<String> {
    let filled: Vec<String> = commands.iter().map(|c| fill(program, c)).collect();
    ask::ask(&dump(program), &filled).into_iter().map(|lines| lines.join("\n")).collect()
}

fn fill(program: &str, command: &str) -> String {
    let mut parts = command.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c))).unwrap_or(part.len());
        filled += &fact(program, &format!("address:{}", &part[..end]));
        filled += &part[end..];
    }
    filled
}

/// Asserts that some line of `text` holds all of `parts`.
pub fn has(text: &str, parts: &[&str]) {
    assert!(text.lines().any(|l| parts.iter().all(|p| l.contains(p))), "no line has {parts:?}:\n{text}");
}
