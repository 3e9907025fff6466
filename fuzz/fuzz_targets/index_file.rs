//! Any bytes taken for an index file: its head, its sections and the arrays in them end without a panic, and what is accepted
//! is in range.
#![no_main]

use clrscope::graph::container::Container;
use clrscope::graph::pack::{Coding, checksum, unpack};
use clrscope::graph::paths::Holders;
use clrscope::graph::{Adjacency, DominatorTree};
use clrscope::watch::Watch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let watch = Watch::default();
    let go = watch.cancel.clone();
    if let Some(container) = Container::read(data, [0, 0]) {
        for number in 0..20 {
            if let Some((_, bytes)) = container.section(data, number, &go) {
                let _ = checksum(bytes);
            }
        }
    }
    // The same bytes as arrays, past the checksums that would stop them.
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let count = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let (left, right) = rest.split_at(rest.len() * usize::from(head[2]) / 256);
    for coding in [Coding::Plain, Coding::Delta, Coding::Near] {
        let _ = unpack::<u64>(rest, count, coding, &go);
        let one: Option<Vec<u32>> = unpack(left, count, coding, &go);
        let other: Option<Vec<u32>> = unpack(right, count, Coding::Plain, &go);
        if let (Some(one), Some(other)) = (one, other) {
            if let Some(edges) = Adjacency::from_parts(&one, other.clone(), &watch) {
                assert!((0..edges.nodes()).all(|n| edges.of(n).iter().all(|&t| t < edges.nodes())));
            }
            if let Some(tree) = DominatorTree::from_parts(one.clone(), other, count as u32, &watch) {
                assert!((1..=tree.reached()).all(|p| tree.parent(p).is_some_and(|q| q < p)));
                assert!((0..=tree.reached()).all(|p| tree.children(p).count() <= one.len()));
            }
            if let Some(holders) = Holders::from_parts(one, &watch) {
                for node in 0..holders.nodes() {
                    let way = std::iter::successors(Some(node), |&n| holders.above(n));
                    assert!(way.take(count + 1).count() <= count);
                }
            }
        }
    }
});
