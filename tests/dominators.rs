//! What objects retain in real dumps, held against leaving one object out and looking at what the roots still reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use clrscope::graph::Adjacency;
use clrscope::session::Session;

#[path = "support/every.rs"]
mod every;
use every::sessions;

/// Objects looked at per dump.
const SAMPLES: u32 = 200;

fn roots(s: &Session) -> Vec<u32> {
    let ids = &s.index().unwrap().ids;
    s.roots().unwrap().items.iter().filter_map(|r| ids.id_of(r.object)).collect()
}

/// What the roots reach without passing through `without`.
fn reach(forward: &Adjacency, roots: &[u32], without: Option<u32>) -> Vec<bool> {
    let mut seen = vec![false; forward.nodes() as usize];
    let mut stack = roots.to_vec();
    while let Some(v) = stack.pop() {
        if Some(v) != without && !std::mem::replace(&mut seen[v as usize], true) {
            stack.extend(forward.of(v));
        }
    }
    seen
}

/// Sizes by id, each object read on its own.
fn sizes(s: &Session) -> Vec<u64> {
    let (walker, ids) = (s.walker().unwrap(), &s.index().unwrap().ids);
    (0..ids.len()).map(|id| walker.object_at(ids.address_of(id).unwrap()).unwrap().size).collect()
}

#[test]
fn an_object_retains_what_nothing_reaches_without_it() {
    for (path, s) in sessions() {
        let Ok(retained) = s.dominators() else {
            assert!(s.heap().is_err(), "{}", path.display());
            continue;
        };
        let (roots, sizes, forward) = (roots(&s), sizes(&s), &s.graph().unwrap().forward);
        let live = reach(forward, &roots, None);
        let tree = &retained.tree;
        // Among other dumps there are mini dumps, and such as were taken inside a collection: they hold next to nothing.
        let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
        assert!(any || tree.reached() > 200, "{}: {} objects", path.display(), tree.reached());
        let (ids, marked) = (&s.index().unwrap().ids, s.live().unwrap());
        assert!((0..ids.len()).all(|id| live[id as usize] == marked.has(ids.address_of(id).unwrap())));
        for id in 0..forward.nodes() {
            assert_eq!(tree.position(id).is_some(), live[id as usize], "{}", path.display());
        }
        // The biggest retainers, and others spread over the heap.
        let mut by_bytes: Vec<u32> = (1..=tree.reached()).collect();
        by_bytes.sort_by_key(|&p| std::cmp::Reverse(retained.bytes(p)));
        if tree.reached() == 0 {
            continue;
        }
        let spread = (1..=tree.reached()).step_by((tree.reached() / SAMPLES).max(1) as usize);
        for p in by_bytes.iter().copied().take(SAMPLES as usize / 2).chain(spread) {
            let node = tree.node(p).unwrap();
            let left = reach(forward, &roots, Some(node));
            let gone: Vec<usize> = (0..live.len()).filter(|&i| live[i] && !left[i]).collect();
            assert_eq!(gone.len() as u64, retained.objects(p), "{} {node}", path.display());
            assert_eq!(gone.iter().map(|&i| sizes[i]).sum::<u64>(), retained.bytes(p), "{} {node}", path.display());
            assert_eq!(sizes[node as usize], retained.weights.own(p));
        }
    }
}

#[test]
fn a_type_retains_the_objects_below_its_topmost_instances() {
    for (path, s) in sessions() {
        let Ok(retained) = s.dominators() else { continue };
        let tree = &retained.tree;
        let (walker, ids, sizes) = (s.walker().unwrap(), &s.index().unwrap().ids, sizes(&s));
        let type_at = |p: u32| walker.object_at(ids.address_of(tree.node(p).unwrap()).unwrap()).unwrap().ty.id;
        let by_type = s.retained_by_type().unwrap();
        let mut naive = vec![(0u64, 0u64, 0u64); by_type.len()];
        for p in 1..=tree.reached() {
            // Every object counts once for each type among itself and what dominates it.
            let mut types: Vec<u32> = tree.chain(p).map(type_at).collect();
            let (own, bytes) = (types[0] as usize, sizes[tree.node(p).unwrap() as usize]);
            naive[own].0 += 1;
            naive[own].1 += bytes;
            types.sort_unstable();
            types.dedup();
            types.iter().for_each(|&t| naive[t as usize].2 += bytes);
        }
        for (found, wanted) in by_type.iter().zip(&naive) {
            assert_eq!((found.count, found.own, found.retained), *wanted, "{}", path.display());
        }
    }
}

/// What the real binary prints for a line on the dump of a leak.
fn printed(line: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(dir.join("linux-x64-10.0-leak-heap.core.zst"))
        .args(["-c", line])
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_leak_is_the_first_row_and_named() {
    let top = printed("!dominators -top 1");
    let row = top.lines().find(|l| l.ends_with("(static variable: Zoo.Zoo.Cache)")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    let (address, retained) = (words[0], words[2]);
    assert_eq!(top.lines().position(|l| l == row), Some(1), "{top}");
    let one = printed(&format!("!retained {address}"));
    assert!(one.contains(&format!("Retained: {retained} bytes in {} objects", words[3])), "{one}");
    assert!(
        one.lines().any(|l| l.split_whitespace().eq(words.iter().copied())),
        "the object stands first in its own chain: {one}"
    );
    assert!(one.contains("is held by a root; !gcroot"), "{one}");
    // Its only child is the array of its entries, and what that retains is all but the dictionary's own bytes.
    let below = printed(&format!("!dominators {address} -top 1"));
    assert!(below.contains("Dictionary<System.String, Zoo.Session>+Entry[]"), "{below}");
}

#[test]
fn retained_bytes_stand_in_every_table_that_has_them() {
    let types = printed("!retained -top 3");
    let heap = printed("!dumpheap -stat -sort retained -top 3");
    for row in types.lines().skip(1).take(3) {
        let words: Vec<&str> = row.split_whitespace().collect();
        let same = heap.lines().find(|l| l.trim_start().starts_with(words[0])).unwrap();
        assert_eq!(same.split_whitespace().nth(3), Some(words[3]), "{types}{heap}");
    }
    let all = types.lines().last().unwrap();
    for by in ["-assembly", "-namespace"] {
        let groups = printed(&format!("!retained {by}"));
        assert_eq!(groups.lines().last(), Some(all));
        let count: u64 = groups
            .lines()
            .skip(1)
            .filter(|l| !l.starts_with("Total"))
            .map(|l| l.split_whitespace().next().unwrap().replace(',', "").parse::<u64>().unwrap())
            .sum();
        assert!(all.starts_with("Total ") && all.replace(',', "").contains(&format!(" {count} objects")), "{groups}");
    }
}
