//! Stacks of threads and of suspended async methods as trees.

use anyhow::Result;

use super::tree::{BOTTOM, Tree};
use crate::commands::threads::forest::{Forest, NOTHING, Node};
use crate::commands::threads::joined::Joined;
use crate::commands::threads::threadstacks::stacks;
use crate::session::Session;

/// The managed stacks of all threads; each thread weighs one.
pub fn threads(session: &Session) -> Result<(Tree, Option<String>)> {
    let (all, partial) = stacks(session)?;
    let mut forest = Forest::default();
    for stack in &all {
        let below = forest.stack(NOTHING, stack.frames.iter().rev().map(|p| (p.start, &p.name)));
        forest.stands(below, stack.thread.os_id);
    }
    Ok((tree("threads", forest, |n| n.standing.len()), partial))
}

/// Chains of suspended methods, from the outermost to what they wait for; each chain weighs one.
pub fn suspended(session: &Session) -> Result<(Tree, Option<String>)> {
    let (all, partial) = stacks(session)?;
    let joined = Joined::read(session, &all, true)?;
    let (forest, why) = joined.map_or_else(Default::default, |j| (j.forest, j.partial));
    Ok((tree("async", forest, |n| n.waiting), partial.or(why)))
}

fn tree(name: &'static str, mut forest: Forest, weight: impl Fn(&Node) -> usize) -> Tree {
    let roots = forest.finish();
    let mut tree = Tree::new(name, "none");
    let mut todo: Vec<(usize, u32)> = roots.into_iter().rev().map(|r| (r, BOTTOM)).collect();
    while let Some((at, below)) = todo.pop() {
        let Some(node) = forest.nodes.get(at) else { continue };
        let frame = tree.frame(&node.name);
        let number = tree.add(below, frame, weight(node) as u64);
        todo.extend(node.above.iter().rev().map(|&a| (a, number)));
    }
    tree
}
