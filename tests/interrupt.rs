//! Ctrl-C in every phase of the graph: the phase ends at once, and asked again it answers in full.
//!
//! Made graphs are large enough to be hit in the middle. With `CLRSCOPE_BIG=FILE` the phases of a session on that dump are hit
//! too, and on an idle machine each must stop within a tenth of a second: `CLRSCOPE_STOP_MS=100` holds them to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::graph::adjacency::Chunk;
use clrscope::graph::paths::{self, Holders, WaysTo};
use clrscope::graph::{Adjacency, DominatorTree};
use clrscope::session::Session;
use clrscope::session::saved::IndexMode;
use clrscope::watch::Watch;

/// Nodes of the made graph.
const NODES: u32 = 1_500_000;

/// How long a stop may take. Tests run on busy machines.
fn soon() -> Duration {
    let given = std::env::var("CLRSCOPE_STOP_MS").ok().and_then(|t| t.parse().ok());
    Duration::from_millis(given.unwrap_or(3000))
}

/// Stops `work` after `from`, after half of that and so on, until it was under way. Returns whether it was.
fn stops<T, E>(name: &str, watch: &Watch, from: Duration, mut work: impl FnMut() -> Result<T, E>) -> bool {
    let mut delay = from;
    for _ in 0..14 {
        watch.cancel.clear();
        let (said, heard) = mpsc::channel();
        let cancel = watch.cancel.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(delay);
            cancel.set();
            let _ = said.send(Instant::now());
        });
        let result = work();
        let ended = Instant::now();
        stopper.join().unwrap();
        let took = ended.saturating_duration_since(heard.recv().unwrap());
        watch.cancel.clear();
        if result.is_err() {
            eprintln!("{name}: stopped after {delay:?}, within {took:?}");
            assert!(took < soon(), "{name}: {took:?}");
            return true;
        }
        delay /= 2;
    }
    eprintln!("{name}: too fast to be stopped");
    false
}

fn made() -> Adjacency {
    let mut state = 42u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut chunk = Chunk { first: 0, degrees: vec![3; NODES as usize], targets: Vec::new() };
    chunk.targets = (0..3 * NODES).map(|_| random() % NODES).collect();
    Adjacency::build(NODES, vec![chunk], &[], &Watch::default()).unwrap()
}

#[test]
fn every_search_of_a_large_graph_stops() {
    let (forward, w) = (made(), Watch::default());
    let reverse = forward.reversed(&w).unwrap();
    let roots: Vec<u32> = (0..NODES).step_by(1000).collect();
    let from = Duration::from_millis(40);
    let ways = WaysTo::new(&reverse, 7, &[], &w).unwrap();
    let (degrees, targets) = (forward.degrees(), forward.targets().to_vec());
    let holders = Holders::build(&forward, std::slice::from_ref(&roots), &[], &w).unwrap();
    let tree = DominatorTree::build(&forward, &reverse, &roots, &w).unwrap();
    let hit = [
        stops("turning around", &w, from, || forward.reversed(&w)),
        stops("dominators", &w, 8 * from, || DominatorTree::build(&forward, &reverse, &roots, &w)),
        stops("holders", &w, from, || Holders::build(&forward, std::slice::from_ref(&roots), &[], &w)),
        stops("ways to a node", &w, from, || WaysTo::new(&reverse, 7, &[], &w)),
        stops("further ways", &w, 4 * from, || ways.all_from(&forward, &reverse, 1, &w, |_| true)),
        stops("what is reached", &w, from, || paths::reachable(&forward, roots.iter().copied(), &w)),
        stops("what one reaches", &w, from, || paths::closure(&forward, 1, &w)),
    ];
    assert!(hit.iter().all(|h| *h));
    // Reading back ends early too; nothing is wrong then, and asked again it answers.
    stops("references read back", &w, from, || Adjacency::from_parts(&degrees, targets.clone(), &w).ok_or(()));
    stops("holders read back", &w, from, || Holders::from_parts(holders.parts().to_vec(), &w).ok_or(()));
    let (nodes, parents) = tree.parts();
    let again = || DominatorTree::from_parts(nodes.to_vec(), parents.to_vec(), NODES, &w);
    stops("dominators read back", &w, from, || again().ok_or(()));
    assert_eq!(forward.reversed(&w).unwrap(), reverse);
    assert_eq!(again().as_ref(), Some(&tree));
}

#[test]
fn a_session_is_usable_after_a_stop_in_every_phase() {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-10.0-leak-heap.core.zst");
    let big = std::env::var_os("CLRSCOPE_BIG").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("a.index");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), ..OpenOptions::default() };
    let open = || {
        let dump = Dump::open(big.as_deref().unwrap_or(&small), &options, &Watch::default()).unwrap();
        Session::new(dump, Watch::default()).with_index(IndexMode::File(index.clone()), &options)
    };
    // The first time everything is computed, the second time read.
    let mut sums = Vec::new();
    for _ in 0..2 {
        let s = open();
        s.clr().unwrap();
        let w = &s.watch;
        let from = Duration::from_millis(if big.is_some() { 250 } else { 2 });
        let mut hit = 0;
        let mut phase = |name: &str, work: &dyn Fn() -> anyhow::Result<()>| {
            hit += usize::from(stops(name, w, from, work));
            work().unwrap();
        };
        phase("statistics", &|| s.stat().map(drop));
        phase("ids", &|| s.index().map(drop));
        phase("references", &|| s.graph().map(drop));
        phase("turning references around", &|| s.reverse().map(drop));
        phase("roots", &|| s.roots().map(drop));
        phase("marking", &|| s.live().map(drop));
        phase("dominators", &|| s.dominators().map(drop));
        phase("retained by type", &|| s.retained_by_type().map(drop));
        phase("holders", &|| s.holders().map(drop));
        phase("held", &|| s.held(|t| t.is_string).map(drop));
        phase("names of statics", &|| s.static_slots().map(drop));
        phase("saving the index", &|| s.save_index(true).map(drop));
        let live = s.live().unwrap().count() as u32;
        assert_eq!(s.dominators().unwrap().tree.reached(), live);
        let retained: u64 = s.retained_by_type().unwrap().iter().map(|g| g.retained).sum();
        sums.push((s.index().unwrap().ids.len(), s.reverse().unwrap().edges(), live, retained));
        assert!(big.is_none() || hit >= 4, "only {hit} phases were stopped");
    }
    assert_eq!(sums[0], sums[1]);
    assert!(index.is_file());
}
