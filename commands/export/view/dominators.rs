//! The dominator tree as stacks: types from what the roots hold to what is held, weighed by bytes.

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::tree::{BOTTOM, Tree};
use crate::session::Session;

/// Types above each other at most: what lies deeper counts as the one it hangs below.
const MOST_DEPTH: u32 = 200;
/// Groups of objects of one type below the same others at most: what would be another counts as the one it hangs below.
const MOST_GROUPS: usize = 1 << 20;
/// Groups that weigh less than one part in so many of all count as what they hang below.
const SMALL: u64 = 100_000;

struct Group {
    below: u32,
    ty: u32,
    depth: u32,
    own: u64,
    all: u64,
}

/// The tree. Objects of one type below the same types are one frame; one that hangs below its own type is part of it.
pub fn tree(session: &Session) -> Result<(Tree, Option<String>)> {
    let (clr, retained) = (session.clr()?, session.dominators()?);
    let types = session.live_types()?;
    let mut groups: Vec<Group> = Vec::new();
    let mut known: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    // Positions are a preorder: the groups an object hangs below are those whose subtree is not yet over.
    let mut open: Vec<(u32, u32)> = Vec::new();
    let (mut deep, mut many) = (0u64, 0u64);
    for position in 1..=retained.tree.reached() {
        if position.is_multiple_of(1 << 16) {
            session.watch.cancel.check()?;
        }
        while open.last().is_some_and(|o| position >= o.0) {
            open.pop();
        }
        let below = open.last().map_or(BOTTOM, |o| o.1);
        let (ty, own) = (types.get(position as usize).copied().unwrap_or(u32::MAX), retained.weights.own(position));
        let above = groups.get(below as usize).map(|g| (g.ty, g.depth));
        let next = groups.len() as u32;
        let group = match (above, known.get(&(below, ty))) {
            (Some((same, _)), _) if same == ty => below,
            (_, Some(&g)) => g,
            (Some((_, depth)), None) if depth >= MOST_DEPTH => {
                deep += 1;
                below
            }
            (Some(_), None) if groups.len() >= MOST_GROUPS => {
                many += 1;
                below
            }
            (above, None) => {
                known.insert((below, ty), next);
                groups.push(Group { below, ty, depth: above.map_or(0, |a| a.1 + 1), own: 0, all: 0 });
                next
            }
        };
        if let Some(g) = groups.get_mut(group as usize) {
            g.own = g.own.saturating_add(own);
        }
        let end = retained.tree.subtree(position).end;
        if end > position + 1 {
            open.push((end, group));
        }
    }
    drop(known);
    let mut tree = Tree::new("dominators", "bytes");
    let names: Vec<_> = session.types().all().iter().map(|t| clr.type_name(t.mt.address)).collect();
    fold(&mut groups, &mut tree, |ty| names.get(ty as usize).map_or("?", |n| &**n));
    let why = |n: u64, what: &str| (n > 0).then(|| format!("{n} objects {what} count as what they hang below"));
    let partial = why(deep, "too deep in the tree").or_else(|| why(many, "beyond a million groups"));
    Ok((tree, partial.or(session.roots()?.partial.clone())))
}

/// Makes nodes of the groups that weigh enough.
fn fold<'n>(groups: &mut [Group], tree: &mut Tree, name: impl Fn(u32) -> &'n str) {
    // Every group comes behind the one below it.
    for i in (0..groups.len()).rev() {
        let Some(g) = groups.get_mut(i) else { continue };
        g.all = g.all.saturating_add(g.own);
        let (below, all) = (g.below, g.all);
        if let Some(b) = groups.get_mut(below as usize) {
            b.all = b.all.saturating_add(all);
        }
    }
    let total: u64 = groups.iter().filter(|g| g.below == BOTTOM).map(|g| g.all).sum();
    let least = total / SMALL;
    let mut nodes: Vec<u32> = Vec::with_capacity(groups.len());
    for g in groups.iter() {
        let below = nodes.get(g.below as usize).copied().unwrap_or(BOTTOM);
        let small = g.all < least && below != BOTTOM;
        let node = match small {
            true => below,
            false => {
                let frame = tree.frame(name(g.ty));
                tree.add(below, frame, 0)
            }
        };
        if let Some(n) = tree.nodes.get_mut(node as usize) {
            n.own = n.own.saturating_add(g.own);
        }
        nodes.push(node);
    }
}
