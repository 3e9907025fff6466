//! `asyncframes`: for every task that waits, the methods that are suspended for it, innermost first.

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::session::Session;
use crate::session::tasks::{Awaited, Kind, Node, Tasks};

/// Rows of tasks that others wait for: a chain of `n` state machines has `n * n / 2` of them.
const MOST_INNER: usize = 1 << 20;
/// Deepest chain written; a deeper one says so.
const MOST_FRAMES: usize = 1 << 16;

/// What a node continues: the one that is awaited by it.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    None,
    One(u32),
    /// All or any of several.
    Many,
}

/// `asyncframes`.
pub fn rows(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let tasks = Tasks::read(session, false)?;
    let mut before = vec![Before::None; tasks.nodes.len()];
    for (i, n) in tasks.nodes.iter().enumerate() {
        for &next in &n.next {
            if let Some(b) = before.get_mut(next as usize) {
                *b = if *b == Before::None { Before::One(i as u32) } else { Before::Many };
            }
        }
    }
    let (mut inner, mut left_out, mut too_long) = (0usize, 0usize, 0u64);
    for (i, n) in tasks.nodes.iter().enumerate() {
        session.watch.cancel.check()?;
        // A task of its own: the box of a state machine, or what a chain of methods completes.
        let own = match n.kind {
            Kind::Machine(_) => true,
            Kind::Task => matches!(before.get(i), Some(Before::One(p)) if is_chain(&tasks, *p)),
            Kind::Suspended(_) | Kind::Running { .. } | Kind::Blocking(_) => false,
        };
        if !own {
            continue;
        }
        if !n.next.is_empty() && inner > MOST_INNER {
            left_out += 1;
            continue;
        }
        let chain = chain(&tasks, &before, i as u32);
        too_long += u64::from(chain.len() >= MOST_FRAMES);
        inner += if n.next.is_empty() { 0 } else { chain.len() };
        write(session, table, &tasks, n.address, &chain)?;
    }
    let cut = (left_out > 0).then(|| format!("{left_out} tasks that others wait for have no rows of their own"));
    let short = (too_long > 0).then(|| format!("{too_long} chains are longer than {MOST_FRAMES} methods and cut"));
    let reasons: Vec<String> = tasks.partial.into_iter().chain(cut).chain(short).collect();
    Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
}

fn is_chain(tasks: &Tasks, i: u32) -> bool {
    let kind = tasks.nodes.get(i as usize).map(|n| n.kind);
    matches!(kind, Some(Kind::Suspended(_) | Kind::Running { .. }))
}

/// The nodes from what is awaited to node `i`.
fn chain(tasks: &Tasks, before: &[Before], i: u32) -> Vec<u32> {
    let mut chain = vec![i];
    let mut at = i;
    while let Some(Before::One(p)) = before.get(at as usize) {
        if chain.len() >= MOST_FRAMES || *p == i || tasks.nodes.get(*p as usize).is_none() {
            break;
        }
        chain.push(*p);
        at = *p;
    }
    chain.reverse();
    chain
}

fn write(session: &Session, table: &mut Table, tasks: &Tasks, task: u64, chain: &[u32]) -> Result<()> {
    let awaited = chain.first().map_or_else(String::new, |&first| awaited(session, tasks, first));
    let methods = chain.iter().filter_map(|&i| tasks.nodes.get(i as usize)).filter(|n| n.is_method());
    for (depth, n) in methods.enumerate() {
        let (mut il, mut line) = (Field::None, String::new());
        if let Kind::Suspended(c) = n.kind
            && let Some(m) = session.suspended_method(&c)
        {
            il = Field::maybe(m.il_offset, |o| Field::Int(o.into()));
            line = m.line.as_ref().map_or_else(String::new, |(file, line)| format!("{file}:{line}"));
        }
        let state = match n.kind {
            Kind::Running { .. } => "running".to_owned(),
            _ => n.state().map_or_else(String::new, |s| s.to_string()),
        };
        table.row(&[
            Field::Hex(task),
            Field::Num(depth as u64),
            Field::Text(&method(n)),
            il,
            Field::Text(&line),
            Field::Text(&state),
            Field::Text(if depth == 0 { &awaited } else { "" }),
        ])?;
    }
    Ok(())
}

/// What the innermost method awaits: address and type, or words.
fn awaited(session: &Session, tasks: &Tasks, first: u32) -> String {
    let Some(n) = tasks.nodes.get(first as usize) else { return String::new() };
    if !n.is_method() {
        return format!("{:x} {}", n.address, n.name);
    }
    match (tasks.awaited_by(session, first), session.clr()) {
        (Some(Awaited::Object(address, mt)), Ok(clr)) => format!("{address:x} {}", clr.type_name(mt)),
        (Some(Awaited::Words(words)), _) => words.to_owned(),
        _ => String::new(),
    }
}

/// The method of a node: of a state machine the one that it was made for.
fn method(n: &Node) -> String {
    match n.kind {
        Kind::Machine(_) => machine_method(&n.name).unwrap_or_else(|| n.name.to_string()),
        _ => n.name.to_string(),
    }
}

/// `Zoo.Zoo.Outer` for the state machine `Zoo.Zoo+<Outer>d__43`: the compiler puts the method's name in angle brackets and
/// the machine into the method's class.
fn machine_method(name: &str) -> Option<String> {
    let end = name.rfind(">d")?;
    let start = name.get(..end)?.rfind("+<")?;
    // Of a lambda the name has brackets of its own: `+<<Main>b__0_0>d`.
    let start = if name.get(..start)?.ends_with('+') { start - 1 } else { start };
    Some(format!("{}.{}", name.get(..start)?, name.get(start + 2..end)?))
}

#[cfg(test)]
mod tests {
    use super::machine_method;

    #[test]
    fn state_machines_name_their_method() {
        let of = |name| machine_method(name).unwrap_or_default();
        assert_eq!(of("Zoo.Zoo+<Outer>d__43"), "Zoo.Zoo.Outer");
        assert_eq!(of("A.B+C<System.Int32>+<Run>d__1<System.String>"), "A.B+C<System.Int32>.Run");
        assert_eq!(of("P+<>c+<<Main>b__0_0>d"), "P+<>c.<Main>b__0_0");
        assert_eq!(of("P+<<Main>g__Local|0_1>d"), "P.<Main>g__Local|0_1");
        assert_eq!(machine_method("System.String"), None);
    }
}
