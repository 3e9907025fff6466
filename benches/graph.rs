//! What the graph costs, phase by phase: ns, ns of all processors together, and private bytes per object.
//!
//! `cargo bench --bench graph` uses made graphs of `CLRSCOPE_NODES` nodes (4 million), one with 97 % of the references near
//! and one with 20 % of them anywhere, or one with `CLRSCOPE_FAR` of a thousand anywhere;
//! `CLRSCOPE_BIG=FILE cargo bench --bench graph` the heap of a dump, and then the same from an index file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::graph::adjacency::Chunk;
use clrscope::graph::{Adjacency, DominatorTree, Weights};
use clrscope::session::Session;
use clrscope::session::saved::IndexMode;
use clrscope::watch::Watch;

/// Private memory of this process in bytes; 0 where the system does not tell.
fn private() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0u64) * 1024
}

/// Seconds of processor time this process has used; 0 where the system does not tell.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets: user and system time are fields 14 and 15, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Prints what each phase takes and the most private memory seen during it.
struct Meter {
    objects: f64,
    base: u64,
    peak: Arc<AtomicU64>,
}

impl Meter {
    fn new(objects: u64) -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let seen = peak.clone();
        std::thread::spawn(move || {
            loop {
                seen.fetch_max(private(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { objects: objects as f64, base: private(), peak }
    }

    fn phase<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        self.peak.store(0, Ordering::Relaxed);
        let (start, used) = (Instant::now(), processor());
        let result = work();
        let used = (processor() - used) * 1e9 / self.objects;
        let time = start.elapsed().as_secs_f64() * 1e9 / self.objects;
        let per = |bytes: u64| bytes.saturating_sub(self.base) as f64 / self.objects;
        let now = private();
        let peak = self.peak.load(Ordering::Relaxed).max(now);
        println!(
            "{name:<24} {time:8.1} ns/object, {used:8.1} of processors, peak {:6.1} B/object, after it {:6.1}",
            per(peak),
            per(now)
        );
        result
    }
}

fn on_dump(path: PathBuf) {
    let folder = std::env::temp_dir().join(format!("clrscope-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let place = folder.join("graph.index");
    let open = || {
        let dump = Dump::open(&path, &OpenOptions::default(), &Watch::default()).expect("the dump opens");
        Session::new(dump, Watch::default()).with_index(IndexMode::File(place.clone()), &OpenOptions::default())
    };
    let s = open();
    let objects = s.stat().unwrap().types.total().count;
    println!("{}: {objects} objects", path.display());
    let m = Meter::new(objects);
    m.phase("ids", || s.index().map(drop).unwrap());
    m.phase("forward", || s.graph().map(drop).unwrap());
    m.phase("reverse", || s.reverse().map(drop).unwrap());
    println!("  edges per object: {:.2}", s.graph().unwrap().forward.edges() as f64 / objects as f64);
    m.phase("  reverse again, alone", || s.graph().unwrap().forward.reversed(&Watch::default()).map(drop).unwrap());
    m.phase("roots", || s.roots().map(drop).unwrap());
    m.phase("dominators, retained", || s.dominators().map(drop).unwrap());
    m.phase("retained by type", || s.retained_by_type().map(drop).unwrap());
    m.phase("holders", || s.holders().map(drop).unwrap());
    m.phase("saving the index", || s.save_index(true).unwrap().unwrap());
    drop(s);
    println!("  index: {:.1} B/object", std::fs::metadata(&place).unwrap().len() as f64 / objects as f64);
    let m = Meter::new(objects);
    let s = open();
    m.phase("opened again: retained", || s.retained_by_type().map(drop).unwrap());
    m.phase("opened again: graph", || s.reverse().map(drop).unwrap());
    m.phase("opened again: dominators", || s.dominators().map(drop).unwrap());
    m.phase("opened again: holders", || s.holders().map(drop).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A step of a linear congruential generator, the upper half of it.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 32
}

/// Three references a node, `far` per thousand of them to any node, the others up to 48 nodes away.
fn made(n: u32, far: u64) -> Adjacency {
    let mut state = 42;
    let mut chunk = Chunk { first: 0, degrees: vec![3; n as usize], targets: Vec::with_capacity(3 * n as usize) };
    for v in 0..n {
        for _ in 0..3 {
            let anywhere = random(&mut state) % 1000 < far;
            let r = random(&mut state);
            let to = if anywhere { r } else { u64::from(v) + u64::from(n) - 48 + r % 97 } % u64::from(n);
            chunk.targets.push(to as u32);
        }
    }
    Adjacency::build(n, vec![chunk], &[], &Watch::default()).unwrap()
}

fn on_made(n: u32, far: u64) {
    println!("{n} nodes, {} % of the references to any node", far as f64 / 10.0);
    let w = Watch::default();
    let m = Meter::new(u64::from(n));
    let forward = m.phase("making it", || made(n, far));
    let reverse = m.phase("reverse", || forward.reversed(&w).unwrap());
    let roots: Vec<u32> = (0..n).step_by(1000).collect();
    let tree = m.phase("dominators", || DominatorTree::build(&forward, &reverse, &roots, &w).unwrap());
    let own = (0..=tree.reached()).map(|_| 24).collect();
    let weights = m.phase("retained", || Weights::new(own));
    println!("  reached {} retained {}", tree.reached(), weights.of(tree.subtree(0)));
}

fn main() {
    match std::env::var_os("CLRSCOPE_BIG") {
        Some(path) => on_dump(path.into()),
        None => {
            let n = std::env::var("CLRSCOPE_NODES").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000_000);
            let far = std::env::var("CLRSCOPE_FAR").ok().and_then(|f| f.parse().ok());
            for far in far.map_or_else(|| vec![30, 200], |f| vec![f]) {
                on_made(n, far);
            }
        }
    }
}
