//! `!dumpasync`: what waits for what: state machines of async methods and the tasks they wait for.

mod fields;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::commands::heap::gcroot;
use crate::commands::objects::dumpdelegate::called;
use crate::session::Session;
use crate::session::tasks::{Awaited, Kind as What, Node, Tasks};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

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
           Methods of runtime-async (.NET 11) have no state machine: their lines have the continuation that keeps their \
           variables, and the method by the code it continues at. What is awaited is said above a stack where it is no \
           task; a method that runs again says on which thread (managed id).\n\n\
           Completed objects are left out without -completed, stacks of tasks alone without -tasks. -stats counts by \
           method; -coalesce merges stacks that look the same, with counts; -fields lists what each method keeps; -roots \
           shows what keeps each stack alive. -address, -mt and -type keep the stacks that hold such an object.",
    args: &[
        Arg::opt("address", Kind::Object, "only stacks that hold this object").or(&["addr"]),
        Arg::opt("methodtable", Kind::MethodTable, "only stacks that hold an object of this MethodTable").or(&["mt"]),
        Arg::opt("type", Kind::TypeName, "only stacks that hold a type whose name contains this"),
        Arg::flag("tasks", "stacks without any state machine too").or(&["t"]),
        Arg::flag("completed", "completed objects too").or(&["c"]),
        Arg::flag("fields", "list the fields of each state machine").or(&["f"]),
        Arg::flag("stats", "count by method instead").or(&["stat", "summary"]),
        Arg::flag("coalesce", "merge stacks that look the same"),
        Arg::flag("roots", "show the roots of the last object of each stack").or(&["r"]),
    ],
    examples: &[
        Example { line: "!dumpasync -stats", what: "which async methods wait, how often" },
        Example { line: "!dumpasync -coalesce", what: "what they wait for" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

/// Deepest chain printed.
const MAX_DEPTH: usize = 4096;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let graph = Tasks::read(session, args.has("completed"))?;
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
            let show = Show { fields: args.has("fields"), roots: args.has("roots") };
            stacks(session, ctx.out, &graph, &roots, &show)?;
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
    fn keeps(&self, graph: &Tasks, root: u32) -> bool {
        let (mut seen, mut work) = (FxHashSet::default(), vec![root]);
        let (mut matched, mut machine) = (false, self.tasks);
        while let Some(i) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| seen.insert(i)) else { continue };
            matched |= self.matches(n);
            machine |= n.is_method();
            if matched && machine {
                return true;
            }
            work.extend(&n.next);
        }
        false
    }
}

/// What tells nodes that look the same: the type, of a method of runtime-async its name, and the await it stands at.
type Look = (u64, Option<Arc<str>>, Option<i64>);

fn look(n: &Node) -> Look {
    match n.kind {
        // A method has a MethodTable for each layout of what it keeps, and methods share them.
        What::Suspended(_) | What::Running { .. } => (0, Some(n.name.clone()), n.state()),
        What::Task | What::Machine(_) => (n.mt, None, n.state()),
    }
}

/// The method or type a line shows, with the method a task runs.
fn label(session: &Session, n: &Node) -> String {
    /// The method its action leads to is that of the loop that runs it.
    const RUNTIME_ASYNC: &str = "System.Runtime.CompilerServices.AsyncHelpers+RuntimeAsyncTask<";
    let task = n.kind == What::Task && !n.name.starts_with(RUNTIME_ASYNC);
    let action =
        task.then(|| session.value(n.address).and_then(|t| t.pointer(&["m_action"])).filter(|&a| a != 0)).flatten();
    let method = action.and_then(|a| {
        let clr = session.clr().ok()?;
        called(clr, clr.invoked(&clr.delegate(a)?).items.first()?).1
    });
    method.map_or_else(|| format!("{}{}", n.name, place(session, n)), |m| format!("{} {{{m}}}", n.name))
}

/// Where a suspended method stands, when its source line is known.
fn place(session: &Session, n: &Node) -> String {
    let What::Suspended(c) = n.kind else { return String::new() };
    let line = session.suspended_method(&c).and_then(|m| m.line.clone());
    line.map_or_else(String::new, |(file, line)| format!(" [{file} @ {line}]"))
}

/// Counts by method; true when there was nothing.
fn stats(out: &mut Out, graph: &Tasks, chosen: &Chosen<'_>) -> Result<bool> {
    const COLUMNS: &[Col] =
        &[Col::left("MT", "method_table", 16), Col::left("Count", "count", 8), Col::left("Type", "type", 0)];
    let mut counts: FxHashMap<Look, (u64, &Node)> = FxHashMap::default();
    for n in graph.nodes.iter().filter(|n| (chosen.tasks || n.is_method()) && chosen.matches(n)) {
        let (mt, name, _) = look(n);
        counts.entry((mt, name, None)).or_insert((0, n)).0 += 1;
    }
    let mut rows: Vec<_> = counts.into_values().collect();
    rows.sort_by_key(|(count, n)| (std::cmp::Reverse(*count), n.mt, n.name.clone()));
    out.table("state_machines", COLUMNS, true)?;
    for (count, n) in &rows {
        out.row(&[Cell::AddrPad(n.mt, 16), Cell::Sep(*count), Cell::text(n.name.to_string())])?;
    }
    Ok(rows.is_empty())
}

/// What is shown of each stack.
struct Show {
    fields: bool,
    roots: bool,
}

fn stacks(session: &Session, out: &mut Out, graph: &Tasks, roots: &[u32], show: &Show) -> Result<()> {
    let clr = session.clr()?;
    for (number, &root) in roots.iter().enumerate() {
        session.watch.cancel.check()?;
        out.line(format!("STACK {}", number + 1))?;
        if let Some(text) = graph.awaited_by(session, root).map(|a| awaiting(clr, &a)) {
            out.line(format!("<< Awaiting: {text} >>"))?;
        }
        let (mut work, mut on_path) = (vec![(root, 0usize)], FxHashSet::default());
        let mut last = None;
        while let Some((i, depth)) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| on_path.insert(i) && depth < MAX_DEPTH) else {
                continue;
            };
            let indent = " ".repeat(2 * depth);
            let (state, label, w) = (n.state_text(), label(session, n), digits());
            out.line(format!("{indent}{:0w$x} {:0w$x} ({state}) {label}", n.address, n.mt))?;
            if show.fields && n.is_method() {
                fields::list(session, out, n, &indent)?;
            }
            last = Some(n);
            work.extend(n.next.iter().rev().map(|&c| (c, depth + 1)));
        }
        if let Some(n) = last.filter(|_| show.roots) {
            gcroot::print_roots(session, out, n.address)?;
        }
        out.line("")?;
    }
    Ok(())
}

fn awaiting(clr: &Clr, awaited: &Awaited) -> String {
    match awaited {
        Awaited::Object(address, mt) => format!("{address:0w$x} {mt:0w$x} {}", clr.type_name(*mt), w = digits()),
        Awaited::Words(words) => (*words).to_owned(),
    }
}

/// Nodes that look the same, merged level by level.
#[derive(Default)]
struct Merged {
    count: u64,
    below: BTreeMap<Look, Merged>,
    /// MethodTable of the first of them.
    mt: u64,
    label: String,
}

fn coalesced(session: &Session, out: &mut Out, graph: &Tasks, roots: &[u32]) -> Result<()> {
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
            path.push(look(n));
            let mut at = &mut top;
            for key in &path {
                at = at.below.entry(key.clone()).or_default();
            }
            at.count += 1;
            if at.label.is_empty() {
                at.label = label(session, n);
                at.mt = n.mt;
            }
            work.extend(n.next.iter().map(|&c| (c, path.clone())));
        }
    }
    let mut stacks: Vec<_> = top.below.iter().collect();
    stacks.sort_by(|(a, m), (b, n)| n.count.cmp(&m.count).then_with(|| a.cmp(b)));
    for (number, (key, merged)) in stacks.into_iter().enumerate() {
        out.line(format!("STACKS {}", number + 1))?;
        let mut work = vec![(key, merged, 0usize)];
        while let Some(((_, _, state), m, depth)) = work.pop() {
            let state = state.map_or_else(String::new, |s| format!(" ({s})"));
            out.line(format!("{}[{}] {:0w$x}{state} {}", " ".repeat(2 * depth), m.count, m.mt, m.label, w = digits()))?;
            let mut below: Vec<_> = m.below.iter().collect();
            below.sort_by(|(a, m), (b, n)| m.count.cmp(&n.count).then_with(|| b.cmp(a)));
            work.extend(below.into_iter().map(|(k, m)| (k, m, depth + 1)));
        }
        out.line("")?;
    }
    Ok(())
}

/// Deepest chain merged: its paths are kept whole.
const MAX_MERGED: usize = 256;
