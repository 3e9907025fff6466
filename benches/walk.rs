//! How close the heap statistics come to the physical limit: a bare walk over the same mapped objects.
//!
//! `cargo bench --bench walk` uses a dump of `testdata/`; `CLRSCOPE_BIG=FILE cargo bench --bench walk` a big one. Prints
//! ns per object of both and their ratio, on one thread each and with all processors; the median of several rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/timing.rs"]
mod timing;

use std::hint::black_box;
use std::path::{Path, PathBuf};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::heap::stat::HeapStat;
use clrscope::heap::{Segment, Walker};
use clrscope::session::Session;
use clrscope::watch::Watch;
use rayon::prelude::*;
use timing::median;

const ROUNDS: usize = 9;

/// MethodTable and size of each object and nothing else: where a type's size comes from a flat table.
fn bare(walker: &Walker<'_>, sizes: &[(u64, u64, u64)], s: &Segment) -> (u64, u64) {
    let space = walker.clr.space();
    let mask = sizes.len() - 1;
    let (mut at, mut objects, mut bytes) = (s.start, 0, 0);
    let Some(run) = space.run(at) else { return (0, 0) };
    while at < s.end {
        if let Some(c) = walker.heap.contexts.iter().find(|c| c.0 == at) {
            at = c.1 + 24;
            continue;
        }
        let offset = (at - s.start) as usize;
        let Some(head) = run.get(offset..offset + 12) else { break };
        let mt = u64::from_le_bytes(head[..8].try_into().unwrap()) & !7;
        let count = u64::from(u32::from_le_bytes(head[8..].try_into().unwrap()));
        let mut b = slot(mt) & mask;
        while sizes[b].0 != mt {
            if sizes[b].0 == 0 {
                return (objects, bytes);
            }
            b = (b + 1) & mask;
        }
        let size = (sizes[b].1 + count * sizes[b].2).max(24);
        objects += 1;
        bytes += size;
        at += (size + 7) & !7;
    }
    (objects, bytes)
}

fn slot(mt: u64) -> usize {
    ((mt >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}

fn main() {
    let path = std::env::var_os("CLRSCOPE_BIG").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-10.0-leak-heap.core.zst"),
        PathBuf::from,
    );
    let dump = Dump::open(&path, &OpenOptions::default(), &Watch::default()).expect("the dump opens");
    let session = Session::new(dump, Watch::default());
    let walker = session.walker().expect("the heap is readable");
    let stat = HeapStat::collect(&walker).unwrap();
    let objects = stat.types.total().count;
    let mut sizes = vec![(0, 0, 0); (walker.types.len() * 4).next_power_of_two()];
    for t in walker.types.all() {
        let mut b = slot(t.mt.address) & (sizes.len() - 1);
        while sizes[b].0 != 0 {
            b = (b + 1) & (sizes.len() - 1);
        }
        let component = if t.mt.has_component_size() { u64::from(t.mt.component_size()) } else { 0 };
        sizes[b] = (t.mt.address, u64::from(t.mt.base_size), component);
    }
    let per = |seconds: f64| seconds * 1e9 / objects as f64;
    let all = |walker: &Walker<'_>| {
        walker.heap.segments.par_iter().with_max_len(1).map(|s| bare(walker, &sizes, s)).collect::<Vec<_>>()
    };
    let walked: u64 = all(&walker).iter().map(|r| r.0).sum();
    println!("{}: {objects} objects ({walked} by the bare walk)", path.display());
    for threads in [1, rayon::current_num_threads()] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let limit = pool.install(|| median(ROUNDS, || drop(black_box(all(&walker)))));
        let ours = pool.install(|| median(ROUNDS, || drop(black_box(HeapStat::collect(&walker).unwrap()))));
        println!(
            "{threads} threads: bare walk {:.2} ns/object, statistics {:.2} ns/object, ratio {:.2}",
            per(limit),
            per(ours),
            ours / limit
        );
    }
}
