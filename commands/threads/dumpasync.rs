//! `!dumpasync`: what waits for what: state machines of async methods and the tasks they wait for.

mod graph;

use std::collections::BTreeMap;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use self::graph::{Graph, Node};
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, digits};

/// `!dumpasync`.
pub const DUMPASYNC: Command = Command {
    name: "dumpasync",
    prefix: Prefix::Bang,
    aliases: &["async"],
    group: Group::Threads,
    summary: "list async methods that wait, as stacks of what continues what",
    help: "Each stack begins with what is waited for, the method that continues when it completes comes below it, and so \
           on. A line has the object's address, its MethodTable, in parentheses the number of the await a state machine \
           stands at (empty for a task, -1 before the first, -2 at its end), and the method or the task's type.\n\n\
           Completed objects are left out without -completed, stacks of tasks alone without -tasks. -stats counts the \
           state machines by method; -coalesce merges stacks that look the same, with counts; -fields lists what each state \
           machine holds. -address, -mt and -type keep the stacks that hold such an object.",
    args: &[
        Arg::opt("address", Kind::Object, "only stacks that hold this object").or(&["addr"]),
        Arg::opt("methodtable", Kind::MethodTable, "only stacks that hold an object of this MethodTable").or(&["mt"]),
        Arg::opt("type", Kind::TypeName, "only stacks that hold a type whose name contains this"),
        Arg::flag("tasks", "stacks without any state machine too").or(&["t"]),
        Arg::flag("completed", "completed objects too").or(&["c"]),
        Arg::flag("fields", "list the fields of each state machine").or(&["f"]),
        Arg::flag("stats", "count by method instead").or(&["stat", "summary"]),
        Arg::flag("coalesce", "merge stacks that look the same"),
    ],
    examples: &[
        Example { line: "!dumpasync -stats", what: "which async methods wait, how often" },
        Example { line: "!dumpasync -coalesce", what: "what they wait for" },
    ],
    needs: Needs::Clr,
    run,
};

/// Deepest chain printed.
const MAX_DEPTH: usize = 4096;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let graph = Graph::read(session, args.has("completed"))?;
    let chosen = Chosen {
        address: args.number("address"),
        mt: args.number("methodtable"),
        name: args.text("type"),
        tasks: args.has("tasks"),
    };
    let empty = if args.has("stats") {
        stats(ctx.out, &graph, &chosen)?
    } else {
        let roots: Vec<u32> = graph.roots().into_iter().filter(|&r| chosen.keeps(&graph, r)).collect();
        if args.has("coalesce") {
            coalesced(session, ctx.out, &graph, &roots)?;
        } else {
            stacks(session, ctx.out, &graph, &roots, args.has("fields"))?;
        }
        roots.is_empty()
    };
    if let Some(why) = graph.partial {
        return Ok(Outcome::Partial(why));
    }
    Ok(if empty { Outcome::Empty } else { Outcome::Complete })
}

/// Which objects and stacks the user asked for.
struct Chosen<'a> {
    address: Option<u64>,
    mt: Option<u64>,
    name: Option<&'a str>,
    tasks: bool,
}

impl Chosen<'_> {
    fn matches(&self, n: &Node) -> bool {
        self.address.is_none_or(|a| a == n.address)
            && self.mt.is_none_or(|m| m == n.mt)
            && self.name.is_none_or(|t| n.name.contains(t))
    }

    /// Whether the stack from `root` on is shown.
    fn keeps(&self, graph: &Graph, root: u32) -> bool {
        let (mut seen, mut work) = (FxHashSet::default(), vec![root]);
        let (mut matched, mut machine) = (false, self.tasks);
        while let Some(i) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| seen.insert(i)) else { continue };
            matched |= self.matches(n);
            machine |= n.state.is_some();
            if matched && machine {
                return true;
            }
            work.extend(&n.next);
        }
        false
    }
}

/// Counts by MethodTable; true when there was nothing.
fn stats(out: &mut Out, graph: &Graph, chosen: &Chosen<'_>) -> Result<bool> {
    const COLUMNS: &[Col] =
        &[Col::left("MT", "method_table", 16), Col::left("Count", "count", 8), Col::left("Type", "type", 0)];
    let mut counts: FxHashMap<u64, (u64, &Node)> = FxHashMap::default();
    for n in graph.nodes.iter().filter(|n| (chosen.tasks || n.state.is_some()) && chosen.matches(n)) {
        counts.entry(n.mt).or_insert((0, n)).0 += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(mt, (n, _))| (std::cmp::Reverse(*n), *mt));
    out.table("state_machines", COLUMNS, true)?;
    for (mt, (count, n)) in &rows {
        out.row(&[Cell::AddrPad(*mt, 16), Cell::Sep(*count), Cell::text(n.name.to_string())])?;
    }
    Ok(rows.is_empty())
}

fn stacks(session: &Session, out: &mut Out, graph: &Graph, roots: &[u32], fields: bool) -> Result<()> {
    let clr = session.clr()?;
    for (number, &root) in roots.iter().enumerate() {
        session.watch.cancel.check()?;
        out.line(format!("STACK {}", number + 1))?;
        let Some(first) = graph.nodes.get(root as usize) else { continue };
        if let Some((address, mt)) = first.state.and_then(|_| graph::awaited(session, first)) {
            out.line(format!("<< Awaiting: {address:0w$x} {mt:0w$x} {} >>", clr.type_name(mt), w = digits()))?;
        }
        let (mut work, mut on_path) = (vec![(root, 0usize)], FxHashSet::default());
        while let Some((i, depth)) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| on_path.insert(i) && depth < MAX_DEPTH) else {
                continue;
            };
            let indent = " ".repeat(2 * depth);
            out.line(format!(
                "{indent}{:0w$x} {:0w$x} ({}) {}",
                n.address,
                n.mt,
                n.state_text(),
                n.label(session),
                w = digits()
            ))?;
            if fields && n.state.is_some() {
                graph::fields(session, out, n, &indent)?;
            }
            work.extend(n.next.iter().rev().map(|&c| (c, depth + 1)));
        }
        out.line("")?;
    }
    Ok(())
}

/// Nodes that look the same, merged level by level.
#[derive(Default)]
struct Merged {
    count: u64,
    below: BTreeMap<(u64, Option<i64>), Merged>,
    label: String,
}

fn coalesced(session: &Session, out: &mut Out, graph: &Graph, roots: &[u32]) -> Result<()> {
    let mut top = Merged::default();
    for &root in roots {
        session.watch.cancel.check()?;
        // The path to a node is what looks the same; each stack is merged into the tree from its root on.
        let mut seen = FxHashSet::default();
        let mut work = vec![(root, Vec::new())];
        while let Some((i, mut path)) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| seen.insert(i) && path.len() < MAX_MERGED) else {
                continue;
            };
            path.push((n.mt, n.state));
            let mut at = &mut top;
            for key in &path {
                at = at.below.entry(*key).or_default();
            }
            at.count += 1;
            if at.label.is_empty() {
                at.label = n.label(session);
            }
            work.extend(n.next.iter().map(|&c| (c, path.clone())));
        }
    }
    let mut stacks: Vec<_> = top.below.iter().collect();
    stacks.sort_by_key(|(key, m)| (std::cmp::Reverse(m.count), **key));
    for (number, (key, merged)) in stacks.into_iter().enumerate() {
        out.line(format!("STACKS {}", number + 1))?;
        let mut work = vec![(key, merged, 0usize)];
        while let Some(((mt, state), m, depth)) = work.pop() {
            let state = state.map_or_else(String::new, |s| format!(" ({s})"));
            out.line(format!("{}[{}] {mt:0w$x}{state} {}", " ".repeat(2 * depth), m.count, m.label, w = digits()))?;
            let mut below: Vec<_> = m.below.iter().collect();
            below.sort_by_key(|(key, m)| (m.count, std::cmp::Reverse(**key)));
            work.extend(below.into_iter().map(|(k, m)| (k, m, depth + 1)));
        }
        out.line("")?;
    }
    Ok(())
}

/// Deepest chain merged: its paths are kept whole.
const MAX_MERGED: usize = 256;
