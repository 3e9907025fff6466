//! Async methods joined with what awaits them, in `!parallelstacks`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;

use std::path::Path;

fn asked(name: &str, commands: &[&str]) -> Vec<Vec<String>> {
    let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    ask::ask(&dump, &commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
}

/// The rows of each tree behind the heading, without blanks at their ends.
fn trees(lines: &[String]) -> Vec<Vec<&str>> {
    let begin = lines.iter().position(|l| l.starts_with("Threads in resumed async methods"));
    let rows = begin.map_or(&[][..], |b| &lines[b + 1..]);
    let trees = rows.split(|l| l.starts_with("____")).skip(1);
    trees.map(|t| t.iter().map(|l| l.trim()).take_while(|l| !l.is_empty()).collect()).collect()
}

#[test]
fn suspended_chains_are_merged_from_their_outermost_method() {
    let name = "linux-x64-10.0-async-heap.core.zst";
    let all = asked(name, &["!pstacks -async", "!dumpasync -coalesce", "!pstacks"]);
    let found = trees(&all[0]);
    assert!(found.len() > 2, "{:?}", all[0]);
    // Every tree ends in its bottom, through which all of it goes, and says what stands where.
    for tree in &found {
        let through: u64 = tree.last().unwrap().split(' ').next().unwrap().parse().unwrap();
        let counts = |l: &&str| l.strip_prefix("~~~~ ").map(str::to_owned);
        let standing: u64 = tree.iter().filter_map(counts).map(|who| number(&who)).sum();
        assert_eq!(standing, through, "{tree:?}");
    }
    // Each method that waits by -coalesce is in some tree.
    let methods = all[1].iter().filter(|l| l.contains(">d__"));
    let names: Vec<&str> = methods.filter_map(|l| l.split_whitespace().last()).collect();
    assert!(!names.is_empty(), "{:?}", all[1]);
    let text = found.concat().join("\n");
    for n in names {
        let plain = n.split('<').next().unwrap().to_owned() + "<" + n.split('<').nth(1).unwrap();
        assert!(text.contains(&plain), "{plain} is in none of\n{text}");
    }
    // What is not async stays as it is.
    let plain = |lines: &[String]| lines.iter().take_while(|l| !l.starts_with("==>")).cloned().collect::<Vec<_>>();
    assert_eq!(plain(&all[0]), plain(&all[2]));
}

/// Threads and chains that a line lists.
fn number(who: &str) -> u64 {
    who.split(", ")
        .map(|part| part.strip_suffix(" suspended").map_or(part.split(',').count() as u64, |n| n.parse().unwrap()))
        .sum()
}

#[test]
fn a_thread_in_a_resumed_method_is_joined_with_what_awaits_it() {
    // `testdata/eleven.cs`: methods of runtime-async that run and wait.
    let all = asked("linux-x64-11.0-eleven-heap.core.zst", &["!pstacks -async", "!pstacks", "!dumpasync"]);
    let found = trees(&all[0]);
    assert!(found.iter().any(|t| t.len() > 2), "{:?}", all[0]);
    // A method that runs on a thread by !dumpasync stands in the tree of that thread.
    let running: Vec<&String> = all[2].iter().filter(|l| l.contains("running on thread")).collect();
    let threads =
        found.iter().filter(|t| t.iter().any(|l| l.starts_with("~~~~ ") && !l.ends_with(" suspended"))).count();
    assert!(threads >= usize::from(!running.is_empty()), "{running:?}: {:?}", all[0]);
    // Without -async only what is awaited is joined.
    assert!(trees(&all[1]).len() <= found.len());
    assert!(trees(&all[1]).iter().flatten().all(|l| !l.contains("suspended")), "{:?}", all[1]);
}
