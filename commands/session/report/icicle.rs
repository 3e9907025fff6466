//! Live objects along the paths from their roots: what each owner holds, field by field, cut down to what a page can show.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value as Json;

use super::chart::{self, Kind, Row};
use crate::session::Session;
use crate::session::held::HeldNode;

/// Parts of a page.
const MOST_PARTS: usize = 1_500;
/// Parts directly below one: what is smaller is added up.
const MOST_BELOW: usize = 80;
/// What is less than one part of so many of the live bytes is not opened.
const SMALLEST: u64 = 4_000;

const NONE: u32 = u32::MAX;

struct Paths {
    nodes: Vec<HeldNode>,
    /// Instances and bytes of each node with everything below it.
    sums: Vec<(u64, u64)>,
    /// First child of each node, and of the heap; the next one with the same parent.
    first: Vec<u32>,
    next: Vec<u32>,
    top: u32,
}

impl Paths {
    fn new(nodes: Vec<HeldNode>) -> Self {
        let mut sums: Vec<(u64, u64)> = nodes.iter().map(|n| (n.count, n.bytes)).collect();
        let (mut first, mut next, mut top) = (vec![NONE; nodes.len()], vec![NONE; nodes.len()], NONE);
        // Every node comes behind its parent.
        for (i, node) in nodes.iter().enumerate().rev() {
            let (count, bytes) = sums.get(i).copied().unwrap_or_default();
            let head = match node.parent.map(|p| p as usize).filter(|&p| p < i) {
                Some(p) => {
                    if let Some(above) = sums.get_mut(p) {
                        *above = (above.0.saturating_add(count), above.1.saturating_add(bytes));
                    }
                    first.get_mut(p)
                }
                None => Some(&mut top),
            };
            if let (Some(head), Some(next)) = (head, next.get_mut(i)) {
                *next = std::mem::replace(head, i as u32);
            }
        }
        Self { nodes, sums, first, next, top }
    }

    /// What hangs directly below a node, or the heap, the biggest first.
    fn below(&self, node: Option<u32>) -> Vec<u32> {
        let first = node.map_or(Some(self.top), |n| self.first.get(n as usize).copied());
        let next = |n: &u32| self.next.get(*n as usize).copied().filter(|&n| n != NONE);
        let mut all: Vec<u32> = std::iter::successors(first.filter(|&n| n != NONE), next).collect();
        all.sort_by_key(|&n| (Reverse(self.sum(n).1), n));
        all
    }

    fn sum(&self, node: u32) -> (u64, u64) {
        self.sums.get(node as usize).copied().unwrap_or_default()
    }
}

/// The chart, made once.
pub fn chart(session: &Session) -> Result<Arc<Json>> {
    session.once("icicle", || build(session))
}

/// The chart: a row for each part, behind the one above it.
fn build(session: &Session) -> Result<Json> {
    let tree = session.held_tree(|t| !t.is_free)?;
    let paths = Paths::new(tree.nodes);
    let (mut objects, mut live) = (0u64, 0u64);
    for n in &paths.nodes {
        (objects, live) = (objects + n.count, live.saturating_add(n.bytes));
    }
    let mut rows = vec![Row { kind: Kind::Heap, count: objects, objects, bytes: live, ..Row::default() }];
    let mut wanted = BinaryHeap::from([(live, 0usize, None)]);
    while let Some((bytes, at, node)) = wanted.pop() {
        session.watch.cancel.check()?;
        let room = MOST_PARTS.saturating_sub(rows.len());
        if room < 2 || bytes < live / SMALLEST {
            break;
        }
        let below = paths.below(node);
        let (shown, rest) = below.split_at(below.len().min(MOST_BELOW).min(room - 1));
        for &n in shown {
            wanted.push((paths.sum(n).1, rows.len(), Some(n)));
            rows.extend(row(session, &paths, at, n));
        }
        let others = rest.iter().map(|&n| paths.sum(n)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        if !rest.is_empty() {
            let (count, (objects, bytes)) = (rest.len() as u64, others);
            rows.push(Row { parent: Some(at), kind: Kind::Others, count, objects, bytes, ..Row::default() });
        }
    }
    Ok(chart::json("icicle", live, &rows))
}

fn row(session: &Session, paths: &Paths, parent: usize, node: u32) -> Option<Row> {
    let n = paths.nodes.get(node as usize)?;
    let (objects, bytes) = paths.sum(node);
    let kind = if n.count == 1 { Kind::Object } else { Kind::Group };
    let ty = session.group_name(n.ty).to_string();
    let name = n.slot.to_string();
    Some(Row { parent: Some(parent), kind, address: n.example, ty, name, count: n.count, objects, bytes })
}
