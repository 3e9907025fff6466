//! `stackgroups`: the managed stacks of all threads, each different one once.

use std::collections::BTreeMap;

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::commands::threads::threadstacks::{ThreadStack, stacks};
use crate::graph::pack::checksum;
use crate::session::Session;

/// `stackgroups`, what most threads have first. Stacks are the same where their methods are, whatever the instructions:
/// so their hash is the same in every dump of the program.
pub fn rows(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let (all, partial) = stacks(session)?;
    let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for stack in &all {
        groups.entry(methods(stack)).or_default().push(stack.thread.managed_id.into());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|g| std::cmp::Reverse(g.1.len()));
    for (frames, threads) in &groups {
        table.row(&[
            Field::Hex(checksum(frames.as_bytes())),
            Field::Num(threads.len() as u64),
            Field::Numbers(threads),
            Field::Num(frames.lines().count() as u64),
            Field::Text(frames),
        ])?;
    }
    Ok(partial)
}

/// The methods of a stack, the newest first, a line each. One that has no name is told by none: where its code lies
/// differs from process to process.
fn methods(stack: &ThreadStack<'_>) -> String {
    let names: Vec<&str> = stack.frames.iter().map(|p| if p.named { &*p.name } else { "?" }).collect();
    names.join("\n")
}
