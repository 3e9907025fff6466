//! `!dumpasync`: what waits for what: state machines of async methods and the tasks they wait for.

mod fields;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::commands::heap::gcroot;
use crate::commands::objects::dumpdelegate::Method;
use crate::commands::objects::fieldtable::known;
use crate::session::Session;
use crate::session::tasks::{Awaited, Kind as What, Node, Tasks};
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
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
           task; a method that runs again says on which thread (managed id), and what a thread blocks at until a task \
           completes, which thread that is where its stack tells.\n\n\
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
    returns: Returns::facts(&[
        Fact::new("tasks_left_out", "tasks without a method that -stats did not count", Type::Count),
        Fact::new("completed_left_out", "completed objects that -stats did not count", Type::Count),
    ])
    .and(&[
        &STATE_MACHINES,
        &STACKS,
        &FRAMES,
        &fields::FIELDS,
        &KEPT_ALIVE,
        &gcroot::ROOTS,
        &gcroot::CHAIN,
        &GROUPS,
        &MERGED,
    ]),
    run,
};

const STATE: Col = Col::data("state", Type::Number).titled("number of the await the method stands at");
const DEPTH: Col = Col::data("depth", Type::Count).titled("how far below the top of the stack");
const MT: Col = Col::data("method_table", Type::Address).titled("MethodTable of the object");
const TYPE: Col =
    Col::data("type", Type::TypeName).titled("type of the state machine or task, or the method of runtime-async");
const METHOD: Col = Col::data("method", Type::Text).titled("method the task runs");
const FILE: Col = Col::data("source_file", Type::Path).titled("source file of the await, where it is known");
const LINE: Col = Col::data("source_line", Type::Number).titled("line in it");
const KIND: Col =
    Col::data("kind", Type::Text).titled("task, state machine, suspended method, running method or blocked thread");

/// With -stats. The most frequent come first.
const STATE_MACHINES: Table = Table::new(
    "state_machines",
    &[
        Col::left("MT", "method_table", 16).of(Type::Address),
        Col::left("Count", "count", 8).of(Type::Count),
        Col::left("Type", "type", 0).of(Type::TypeName),
        KIND,
    ],
);

const STACKS: Table = Table::new(
    "stacks",
    &[
        Col::data("stack", Type::Count).titled("number of the stack"),
        Col::data("awaits", Type::Address).titled("object its top waits for, where that is no task"),
        Col::data("awaits_method_table", Type::Address).titled("MethodTable of that object"),
        Col::data("awaits_type", Type::TypeName).titled("its type"),
        Col::data("awaits_text", Type::Text).titled("what is awaited, where it is no object"),
    ],
);

/// The lines of the stacks, each behind the one it continues.
const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("stack", Type::Count).titled("number of the stack"),
        Col::data("frame", Type::Count).titled("number of the row"),
        Col::data("continues", Type::Count).titled("the frame it waits for; nothing for the top of a stack"),
        DEPTH,
        Col::data("object", Type::Address).titled("the object; of a running method its place on the stack"),
        MT,
        KIND,
        STATE,
        Col::data("thread", Type::Number).titled("managed id of the thread a running method is on, or that blocks"),
        Col::data("state_flags", Type::Hex).titled("m_stateFlags of the task"),
        Col::data("flags_text", Type::Text).titled("what is set in them, with bars between"),
        TYPE,
        METHOD,
        FILE,
        LINE,
    ],
)
.under("stacks", "stack");

/// With -roots: the last object of each stack, the target of its roots.
const KEPT_ALIVE: Table = Table::new(
    "kept_alive",
    &[
        Col::data("stack", Type::Count).titled("number of the stack"),
        Col::data("target", Type::Address).titled("its last object, target of the roots"),
        Col::data("roots", Type::Count).titled("roots that reach it"),
    ],
)
.under("stacks", "stack");

/// With -coalesce: stacks that begin alike.
const GROUPS: Table = Table::new(
    "groups",
    &[
        Col::data("group", Type::Count).titled("number of the group"),
        Col::data("count", Type::Count).titled("stacks in it"),
    ],
);

/// The lines of the groups, each behind the one it continues.
const MERGED: Table = Table::new(
    "merged",
    &[
        Col::data("group", Type::Count).titled("number of the group"),
        Col::data("frame", Type::Count).titled("number of the row"),
        Col::data("continues", Type::Count).titled("the frame it waits for; nothing for the top of a group"),
        DEPTH,
        Col::data("count", Type::Count).titled("objects that look like this"),
        MT,
        KIND,
        STATE,
        TYPE,
        METHOD,
        FILE,
        LINE,
    ],
)
.under("groups", "group");

/// Deepest line that is indented as it is deep: the lines of a long chain must not grow with it. Deeper ones say how deep they
/// are.
const INDENTED: usize = 200;

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
        What::Task | What::Machine(_) | What::Blocking(_) => (n.mt, None, n.state()),
    }
}

/// What a line shows of a node behind its numbers.
#[derive(Default)]
struct Label {
    /// Type, or method of runtime-async.
    name: Arc<str>,
    /// Method a task runs: in words, and its name.
    method: Option<(String, Option<String>)>,
    /// Where a suspended method stands, when its source line is known.
    line: Option<(Arc<str>, u32)>,
    kind: &'static str,
}

impl Label {
    fn of(session: &Session, n: &Node) -> Self {
        /// The method its action leads to is that of the loop that runs it.
        const RUNTIME_ASYNC: &str = "System.Runtime.CompilerServices.AsyncHelpers+RuntimeAsyncTask<";
        let task = n.kind == What::Task && !n.name.starts_with(RUNTIME_ASYNC);
        let action =
            task.then(|| session.value(n.address).and_then(|t| t.pointer(&["m_action"])).filter(|&a| a != 0)).flatten();
        let method = action.and_then(|a| {
            let clr = session.clr().ok()?;
            let invoked = clr.invoked(&clr.delegate(a)?);
            let d = invoked.items.first()?;
            let method = Some(Method::of(clr, d)).filter(|m| *m != Method::Unknown)?;
            Some((method.words(d), method.name().map(str::to_owned)))
        });
        let line = match n.kind {
            What::Suspended(c) => session.suspended_method(&c).and_then(|m| m.line.clone()),
            _ => None,
        };
        Self { name: n.name.clone(), method, line, kind: kind(n) }
    }

    /// As a line shows it.
    fn text(&self) -> String {
        match (&self.method, &self.line) {
            (Some((method, _)), _) => format!("{} {{{method}}}", self.name),
            (None, Some((file, line))) => format!("{} [{file} @ {line}]", self.name),
            (None, None) => self.name.to_string(),
        }
    }

    /// Cells of [`TYPE`], [`METHOD`], [`FILE`] and [`LINE`].
    fn cells(&self) -> [Cell<'_>; 4] {
        let line = self.line.as_ref();
        [
            Cell::text(&*self.name),
            Cell::maybe(self.method.as_ref().and_then(|m| m.1.as_deref())),
            Cell::maybe(line.map(|l| &*l.0)),
            line.map_or(Cell::None, |l| Cell::Num(l.1.into())),
        ]
    }
}

fn kind(n: &Node) -> &'static str {
    match n.kind {
        What::Task => "task",
        What::Machine(_) => "state machine",
        What::Suspended(_) => "suspended method",
        What::Running { .. } => "running method",
        What::Blocking(_) => "blocked thread",
    }
}

/// Counts by method; true when there was nothing.
fn stats(out: &mut Out, graph: &Tasks, chosen: &Chosen<'_>) -> Result<bool> {
    let mut counts: FxHashMap<Look, (u64, &Node)> = FxHashMap::default();
    for n in graph.nodes.iter().filter(|n| (chosen.tasks || n.is_method()) && chosen.matches(n)) {
        let (mt, name, _) = look(n);
        counts.entry((mt, name, None)).or_insert((0, n)).0 += 1;
    }
    let mut rows: Vec<_> = counts.into_values().collect();
    rows.sort_by_key(|(count, n)| (std::cmp::Reverse(*count), n.mt, n.name.clone()));
    out.open(&STATE_MACHINES)?;
    for (count, n) in &rows {
        out.row(&[known(n.mt), Cell::Sep(*count), Cell::text(&*n.name), Cell::text(kind(n))])?;
    }
    let tasks = graph.nodes.iter().filter(|n| !chosen.tasks && !n.is_method() && chosen.matches(n)).count() as u64;
    for (key, count, what) in [
        ("tasks_left_out", tasks, "tasks without an async method are not counted; -tasks counts them"),
        ("completed_left_out", graph.completed, "completed objects are not counted; -completed counts them"),
    ] {
        if count > 0 {
            out.fact(key, Cell::Num(count), format!("{} {what}", thousands(count)))?;
        }
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
        let stack = number as u64 + 1;
        head(clr, out, stack, graph.awaited_by(session, root))?;
        let (mut work, mut on_path) = (vec![(root, 0usize, None)], FxHashSet::default());
        let mut last = None;
        while let Some((i, depth, above)) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| on_path.insert(i)) else {
                continue;
            };
            let number = frame(session, out, n, (stack, above, depth))?;
            if show.fields && n.is_method() {
                fields::list(session, out, n, number, &indent(depth))?;
            }
            last = Some(n);
            work.extend(n.next.iter().rev().map(|&c| (c, depth + 1, Some(number))));
        }
        if let Some(n) = last.filter(|_| show.roots) {
            let before = out.count(&gcroot::ROOTS);
            gcroot::print_roots(session, out, n.address)?;
            let found = out.count(&gcroot::ROOTS) - before;
            out.data_row(&KEPT_ALIVE, &[Cell::Num(stack), Cell::Addr(n.address), Cell::Num(found)])?;
        }
        out.note("")?;
    }
    Ok(())
}

fn indent(depth: usize) -> String {
    let mut indent = " ".repeat(2 * depth.min(INDENTED));
    if depth > INDENTED {
        indent.push_str(&format!("({depth}) "));
    }
    indent
}

/// The lines above a stack.
fn head(clr: &Clr, out: &mut Out, stack: u64, awaited: Option<Awaited>) -> Result<()> {
    let mut cells = [Cell::Num(stack), Cell::None, Cell::None, Cell::None, Cell::None];
    let mut line = format!("STACK {stack}");
    match awaited {
        None => {}
        Some(Awaited::Object(address, mt)) => {
            let name = clr.type_name(mt);
            line += &format!("\n<< Awaiting: {address:0w$x} {mt:0w$x} {name} >>", w = digits());
            (cells[1], cells[2]) = (Cell::Addr(address), Cell::Addr(mt));
            cells[3] = Cell::text(name.to_string());
        }
        Some(Awaited::Words(words)) => {
            line += &format!("\n<< Awaiting: {words} >>");
            cells[4] = Cell::text(words);
        }
    }
    Ok(out.row_as(&STACKS, &cells, line)?)
}

/// Prints the line of a node in a stack, below the frame `above`, and gives the number of its row.
fn frame(session: &Session, out: &mut Out, n: &Node, at: (u64, Option<u64>, usize)) -> Result<u64> {
    let (stack, above, depth) = at;
    let (label, w, number) = (Label::of(session, n), digits(), out.count(&FRAMES) + 1);
    let (indent, state, text) = (indent(depth), n.state_text(), label.text());
    let line = format!("{indent}{:0w$x} {:0w$x} ({state}) {text}", n.address, n.mt);
    let thread = match n.kind {
        What::Running { thread, .. } => Some(thread),
        What::Blocking(thread) => thread,
        _ => None,
    };
    // The state of a task is what its flags say.
    let of_task = n.kind == What::Task;
    let [name, method, file, source_line] = label.cells();
    let cells = [
        Cell::Num(stack),
        Cell::Num(number),
        above.map_or(Cell::None, Cell::Num),
        Cell::Num(depth as u64),
        Cell::Addr(n.address),
        known(n.mt),
        Cell::text(label.kind),
        n.state().map_or(Cell::None, Cell::Int),
        thread.map_or(Cell::None, |t| Cell::Num(t.into())),
        if n.flags == 0 { Cell::None } else { Cell::Hex(n.flags as u32 as u64) },
        Cell::maybe(Some(state.trim()).filter(|s| of_task && !s.is_empty())),
        name,
        method,
        file,
        source_line,
    ];
    out.row_as(&FRAMES, &cells, line)?;
    Ok(number)
}

/// Nodes that look the same, merged level by level; those below by their numbers.
#[derive(Default)]
struct Merged {
    count: u64,
    below: BTreeMap<Look, usize>,
    /// MethodTable of the first of them.
    mt: u64,
    label: Label,
}

fn coalesced(session: &Session, out: &mut Out, graph: &Tasks, roots: &[u32]) -> Result<()> {
    let mut all = vec![Merged::default()];
    for &root in roots {
        session.watch.cancel.check()?;
        // Each stack is merged into the tree from its root on.
        let mut seen = FxHashSet::default();
        let mut work = vec![(root, 0)];
        while let Some((i, above)) = work.pop() {
            let Some(n) = graph.nodes.get(i as usize).filter(|_| seen.insert(i)) else { continue };
            let new = all.len();
            let Some(merged) = all.get_mut(above).map(|m| *m.below.entry(look(n)).or_insert(new)) else { continue };
            if merged == new {
                all.push(Merged { mt: n.mt, label: Label::of(session, n), ..Merged::default() });
            }
            if let Some(m) = all.get_mut(merged) {
                m.count += 1;
            }
            work.extend(n.next.iter().map(|&c| (c, merged)));
        }
    }
    let below = |m: &Merged| -> Vec<(Look, &Merged)> {
        m.below.iter().filter_map(|(look, &i)| Some((look.clone(), all.get(i)?))).collect()
    };
    let mut stacks = all.first().map(below).unwrap_or_default();
    stacks.sort_by(|(a, m), (b, n)| n.count.cmp(&m.count).then_with(|| a.cmp(b)));
    for (number, (key, merged)) in stacks.into_iter().enumerate() {
        let group = number as u64 + 1;
        out.row_as(&GROUPS, &[Cell::Num(group), Cell::Num(merged.count)], format!("STACKS {group}"))?;
        let mut work = vec![(key, merged, 0usize, None)];
        while let Some(((_, _, state), m, depth, above)) = work.pop() {
            let frame = out.count(&MERGED) + 1;
            let [name, method, file, source_line] = m.label.cells();
            let cells = [
                Cell::Num(group),
                Cell::Num(frame),
                above.map_or(Cell::None, Cell::Num),
                Cell::Num(depth as u64),
                Cell::Num(m.count),
                known(m.mt),
                Cell::text(m.label.kind),
                state.map_or(Cell::None, Cell::Int),
                name,
                method,
                file,
                source_line,
            ];
            let state = state.map_or_else(String::new, |s| format!(" ({s})"));
            let (indent, text) = (indent(depth), m.label.text());
            let line = format!("{indent}[{}] {:0w$x}{state} {text}", m.count, m.mt, w = digits());
            out.row_as(&MERGED, &cells, line)?;
            let mut below = below(m);
            below.sort_by(|(a, m), (b, n)| m.count.cmp(&n.count).then_with(|| b.cmp(a)));
            work.extend(below.into_iter().map(|(k, m)| (k, m, depth + 1, Some(frame))));
        }
        out.note("")?;
    }
    Ok(())
}
