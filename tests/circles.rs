//! No two files import each other, and no longer circle either: what both need lies below both.
//!
//! A file and those of its own folder (`session.rs` and `session/lookup.rs`) count as one: the head names its parts, and
//! the parts may name what they are parts of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module: the names that lead to it from the crate's root.
type Module = Vec<String>;

/// All modules with their text; `#[path]` says where one lies that is elsewhere than its name says.
fn modules(root: &Path, at: &Module, file: &Path, found: &mut BTreeMap<Module, (PathBuf, String)>) {
    let text = code(&fs::read_to_string(file).unwrap());
    let is_head = file.file_name().is_some_and(|n| n == "mod.rs" || n == "lib.rs");
    let folder = file.parent().unwrap();
    let parts = if is_head { folder.to_owned() } else { folder.join(file.file_stem().unwrap()) };
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(named) = line.strip_prefix("#[path = \"").and_then(|l| l.strip_suffix("\"]")) {
            path = Some(folder.join(named));
            continue;
        }
        let Some(name) = line.strip_suffix(';').and_then(|l| l.rsplit_once("mod ")).map(|l| l.1) else { continue };
        if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let places = [path.take(), Some(parts.join(format!("{name}.rs"))), Some(parts.join(name).join("mod.rs"))];
        let Some(place) = places.into_iter().flatten().find(|p| p.is_file()) else {
            panic!("{}: no file for `{name}`", file.display());
        };
        let mut part = at.clone();
        part.push(name.to_owned());
        modules(root, &part, &place, found);
    }
    let shown = file.strip_prefix(root).unwrap_or(file).to_owned();
    found.insert(at.clone(), (shown, text));
}

/// Text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// `a::{b, c::{d, e}}` as its single paths.
fn paths(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |r| r.0);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 { parts.push(String::new()) } else { parts.last_mut().unwrap().push(c) }
    }
    let parts = parts.iter().map(|p| p.trim()).filter(|p| !p.is_empty());
    parts.flat_map(paths).map(|p| format!("{}{p}", head.trim())).collect()
}

/// All paths in `text`: those of `use`, and those that begin with `crate`, `super` or `self`.
fn named(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), String::new());
    for (i, statement) in text.split(';').enumerate() {
        let at = statement.rfind("use ").filter(|&u| {
            let before = statement[..u].trim_end();
            i == 0 && before.is_empty() || before.is_empty() || before.ends_with(['\n', ']', '}', '{', ')', 'b'])
        });
        match at {
            Some(u) if !statement[u..].contains('=') => found.extend(paths(&statement[u + 4..])),
            _ => rest.push_str(statement),
        }
    }
    for (start, root) in ["crate::", "super::", "self::"].iter().flat_map(|r| rest.match_indices(r)) {
        let whole = rest[..start].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        let path: String = rest[start..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        if whole && path.len() > root.len() {
            found.push(path);
        }
    }
    found
}

/// The module that `path` leads to from `at`.
fn leads_to(all: &BTreeMap<Module, (PathBuf, String)>, at: &Module, path: &str) -> Option<Module> {
    let mut words = path.split("::").map(|w| w.trim().to_owned()).collect::<Vec<_>>();
    let mut place = at.clone();
    match words.first()?.as_str() {
        "crate" => {
            words.remove(0);
            place.clear();
        }
        "super" | "self" => {
            while matches!(words.first().map(String::as_str), Some("super" | "self")) {
                if words.remove(0) == "super" {
                    place.pop()?;
                }
            }
        }
        first => {
            let mut part = at.clone();
            part.push(first.to_owned());
            all.get(&part)?;
        }
    }
    place.extend(words);
    while !all.contains_key(&place) {
        place.pop()?;
    }
    Some(place)
}

/// Who imports whom, heads and their parts aside.
fn arrows(all: &BTreeMap<Module, (PathBuf, String)>) -> BTreeMap<&Module, BTreeSet<Module>> {
    let of_one_folder = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let used = |(at, (_, text)): (&Module, &(PathBuf, String))| {
        let led = named(text).into_iter().filter_map(|p| leads_to(all, at, &p));
        led.filter(|m| !of_one_folder(at, m)).collect()
    };
    all.iter().map(|m| (m.0, used(m))).collect()
}

/// A circle that `from` is in, if there is one.
fn circle<'a>(arrows: &'a BTreeMap<&'a Module, BTreeSet<Module>>, from: &'a Module) -> Option<Vec<&'a Module>> {
    let mut reached: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut ahead = vec![from];
    while let Some(m) = ahead.pop() {
        for next in arrows.get(m)? {
            if next == from {
                let mut way = vec![m];
                while let Some(before) = reached.get(way.last().unwrap()).filter(|_| *way.last().unwrap() != from) {
                    way.push(before);
                }
                way.reverse();
                return Some(way);
            }
            if !reached.contains_key(next) {
                reached.insert(next, m);
                ahead.push(next);
            }
        }
    }
    None
}

fn load() -> BTreeMap<Module, (PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeMap::new();
    modules(root, &Vec::new(), &root.join("src/lib.rs"), &mut all);
    all
}

#[test]
fn no_files_import_each_other() {
    let all = load();
    let arrows = arrows(&all);
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(all.len() > 150 && count > 500, "only {} files and {count} imports were read", all.len());
    let mut circles = BTreeSet::new();
    for m in all.keys() {
        if let Some(way) = circle(&arrows, m) {
            let mut files: Vec<String> = way.iter().map(|m| all[*m].0.display().to_string()).collect();
            files.sort();
            circles.insert(files.join(" <-> "));
        }
    }
    assert!(circles.is_empty(), "these import each other: move what both need below both\n{circles:#?}");
}

#[test]
fn circles_are_seen() {
    let file = |name: &str, text: &str| (vec![name.to_owned()], (PathBuf::from(name), text.to_owned()));
    let tree = |c: &str| -> BTreeMap<_, _> {
        let a = file("a", "use super::b::{self, X};\npub fn f() {}\n");
        [(Vec::new(), Default::default()), a, file("b", "fn g() { crate::c::h() }\n"), file("c", c)].into()
    };
    let none = tree("fn h() {}");
    assert!(circle(&arrows(&none), &vec!["a".into()]).is_none());
    for back in ["use crate::{\n    a::f,\n};\n", "fn h() -> super::a::T { }", "fn h() { let x = 1; super::a::f(x); }"]
    {
        let closed = tree(back);
        let found = arrows(&closed);
        let from = vec!["a".to_owned()];
        assert_eq!(circle(&found, &from).map(|w| w.len()), Some(3), "{back}");
    }
}
