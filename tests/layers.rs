//! A layer may use only the layers before it: the rule of `docs/architecture.md`, read off the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Layers with the places their sources lie in and what each may use.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("watch", "src/watch", &[]),
    ("dump", "src/dump", &["watch"]),
    ("native", "src/native", &["watch", "dump"]),
    ("clr", "src/clr", &["watch", "dump", "native"]),
    ("aot", "src/aot", &["watch", "dump", "native", "clr"]),
    ("graph", "src/graph", &["watch"]),
    ("heap", "src/heap", &["watch", "dump", "native", "clr", "graph"]),
    ("session", "src/session", &["watch", "dump", "native", "clr", "aot", "heap", "graph"]),
    ("live", "src/live", &["watch"]),
    ("shell", "src/shell", &["watch", "dump", "session"]),
    ("commands", "commands", &["watch", "dump", "native", "clr", "heap", "graph", "session", "live", "shell"]),
    ("api", "src/api", &["watch", "dump", "native", "clr", "heap", "graph", "session", "commands"]),
    ("program", "src/program", &["live", "shell", "commands"]),
    ("serve", "src/serve", &["watch", "dump", "session", "shell", "commands"]),
];

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let alone = root.with_extension("rs");
    if alone.is_file() {
        files.push(alone);
    }
    let Ok(entries) = fs::read_dir(root) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files.dedup();
    files
}

/// The code of a line: what stands before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap()
}

/// Names that follow `crate::` in the code of `text`.
fn used(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for part in code(line).split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((number + 1, name));
        }
    }
    found
}

#[test]
fn layers_use_only_what_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for (name, place, may) in LAYERS {
        let files = sources(&root.join(place));
        assert!(!files.is_empty(), "layer {name} has no sources at {place}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for (line, other) in used(&text) {
                let is_layer = LAYERS.iter().any(|(l, ..)| *l == other);
                if is_layer && other != *name && !may.contains(&other.as_str()) {
                    wrong.push(format!("{}:{line}: {name} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_memory_is_mapped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["src", "commands"] {
        for file in sources(&root.join(dir)) {
            let text = fs::read_to_string(&file).unwrap();
            let uses = text.lines().any(|l| code(l).contains("unsafe {") || code(l).contains("unsafe fn"));
            assert!(!uses || file.ends_with("src/dump/map.rs"), "{} uses unsafe", file.display());
        }
    }
}

#[test]
fn no_source_file_is_longer_than_the_house_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["src", "commands", "tests"] {
        for file in sources(&root.join(dir)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 800, "{} has {lines} lines", file.display());
        }
    }
}
