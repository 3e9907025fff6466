//! `!parallelstacks`, `!uniqstack`, `!findstack`: the managed stacks of all threads together.

use anyhow::{Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};

use super::forest::{Forest, NOTHING, Node};
use super::joined::Joined;
use super::threadstacks::{ThreadStack, stacks};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!parallelstacks`.
pub const PARALLELSTACKS: Command = Command {
    name: "parallelstacks",
    prefix: Prefix::Bang,
    aliases: &["pstacks"],
    group: Group::Threads,
    summary: "merge the managed stacks of all threads from their common bottom",
    help: "A block for each method that stacks begin with, at the bottom. In front of each method stands how many threads \
           are in it; where stacks part, branches are moved to the right, the smallest first. ~~~~ lists the ids of the \
           operating system of the threads that stand in the method below it, the first four without -allthreads.\n\n\
           An async method that was resumed is called by the code that resumes it, not by what awaits it. Threads that stand \
           in such methods are shown once more behind the others, with the methods that await theirs below: state machines \
           and methods of runtime-async (.NET 11). With -async the chains of suspended methods are merged with them, from \
           what they wait for to the outermost method. What several await stands in each of their chains.",
    args: &[
        Arg::flag("async", "suspended async methods too"),
        Arg::flag("allthreads", "ids of all threads, not of the first four").or(&["all", "a"]),
        Arg::flag("r", "accepted; there is one runtime").or(&["runtime"]),
    ],
    examples: &[
        Example { line: "!pstacks", what: "the stacks of all threads as trees" },
        Example { line: "!pstacks -async", what: "with the async methods that wait" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("threads", "threads with managed frames", Type::Count),
        Fact::new("roots", "methods that stacks begin with", Type::Count),
        Fact::new("async_threads", "threads in resumed async methods that something awaits", Type::Count),
        Fact::new("async_suspended", "chains of suspended methods", Type::Count),
    ])
    .and(&[&NODES, &STANDING]),
    run: parallel,
};

/// `!uniqstack`.
pub const UNIQSTACK: Command = Command {
    name: "uniqstack",
    prefix: Prefix::Bang,
    aliases: &["us"],
    group: Group::Threads,
    summary: "show each managed stack once, with the threads that have it",
    help: "Threads whose frames are the same methods at the same instructions are listed together, the most frequent stack \
           last.",
    args: &[],
    examples: &[Example { line: "!uniqstack", what: "each stack once" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("threads", "threads with managed frames", Type::Count),
        Fact::new("stacks", "different stacks", Type::Count),
    ])
    .and(&[&STACKS, &MEMBERS, &FRAMES]),
    run: unique,
};

/// `!findstack`.
pub const FINDSTACK: Command = Command {
    name: "findstack",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "list the threads in whose managed stack a text occurs",
    help: "TEXT is part of a method's full name, whatever its case. Each frame that holds it is listed.",
    args: &[Arg::pos("TEXT", Kind::Text, "part of a method's name").required()],
    examples: &[Example { line: "!findstack Thread", what: "threads with a method whose name contains Thread" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("threads", "threads in which it was found", Type::Count)]).and(&[&FOUND]),
    run: find,
};

const NODES: Table = Table::new(
    "nodes",
    &[
        Col::data("node", Type::Count).titled("number of the row"),
        Col::data("below", Type::Count).titled("the node it is called from; nothing for the bottom of a stack"),
        Col::data("depth", Type::Count).titled("how many branchings lie below it"),
        Col::data("threads", Type::Count).titled("threads whose stack goes through it"),
        Col::data("method", Type::Text).titled("the method"),
        Col::data("suspended", Type::Count).titled("chains of suspended methods that go through it"),
        Col::data("joined", Type::Bool)
            .titled("below async methods stand those that await them, not those that resumed them"),
    ],
);

/// Which threads stand in which node: their newest frame.
const STANDING: Table = Table::new(
    "standing",
    &[
        Col::data("node", Type::Count).titled("the node"),
        Col::data("os_id", Type::Hex).titled("operating system id of a thread whose newest frame it is"),
    ],
)
.under("nodes", "node");

const STACKS: Table = Table::new(
    "stacks",
    &[
        Col::data("stack", Type::Count).titled("number of the row"),
        Col::data("threads", Type::Count).titled("threads that have it"),
    ],
);

const MEMBERS: Table = Table::new(
    "threads",
    &[
        Col::data("stack", Type::Count).titled("the stack it has"),
        Col::data("os_id", Type::Hex).titled("operating system id of a thread"),
    ],
)
.under("stacks", "stack");

const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("stack", Type::Count).titled("the stack it is of"),
        Col::right("IP", "ip", 16).of(Type::Address),
        Col::left("Call Site", "call_site", 0),
    ],
)
.under("stacks", "stack");

const FOUND: Table = Table::new(
    "frames",
    &[
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::right("Frame", "frame", 5).of(Type::Count),
        Col::right("Child SP", "sp", 16).of(Type::Address),
        Col::left("Call Site", "call_site", 0),
    ],
);

/// Ids listed of the threads of one place.
const FEW: usize = 4;
/// Columns a branch is moved to the right by.
const STEP: usize = 5;
/// Deepest branch that is moved: lines of a tree must not grow with it.
const INDENTED: usize = 200;
const RULE: &str = "________________________________________________";
const RUN: &str = "Threads in resumed async methods, below them what awaits those:";
const RUN_OR_WAIT: &str = "Threads in resumed async methods and suspended ones, below them what awaits those:";

fn parallel(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (stacks, mut partial) = stacks(session)?;
    let mut forest = Forest::default();
    for stack in &stacks {
        let below = forest.stack(NOTHING, stack.frames.iter().rev().map(|p| (p.start, &p.name)));
        forest.stands(below, stack.thread.os_id);
    }
    let shown = forest.finish();
    let ids = args.has("allthreads");
    print(ctx.out, &forest, &shown, false, ids)?;
    ctx.out.note("")?;
    let counts = [("threads", Cell::Num(stacks.len() as u64)), ("roots", Cell::Num(shown.len() as u64))];
    ctx.out.facts(&counts, format!("==> {} threads with {} roots", stacks.len(), shown.len()))?;
    let joined = Joined::read(session, &stacks, args.has("async"))?;
    if let Some(mut joined) = joined {
        let roots = joined.forest.finish();
        partial = partial.or(joined.partial);
        if !roots.is_empty() {
            ctx.out.note("")?;
            ctx.out.note(if args.has("async") { RUN_OR_WAIT } else { RUN })?;
            print(ctx.out, &joined.forest, &roots, true, ids)?;
            let counts = [("async_threads", joined.threads), ("async_suspended", joined.suspended)];
            let counts = counts.map(|(key, n)| (key, Cell::Num(n)));
            let suspended = if args.has("async") { format!(", {} suspended", joined.suspended) } else { String::new() };
            ctx.out.facts(&counts, format!("==> {} threads{suspended}", joined.threads))?;
        }
    }
    ctx.out.note("")?;
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// Prints the trees over `roots`.
fn print(out: &mut Out, forest: &Forest, roots: &[usize], joined: bool, ids: bool) -> Result<()> {
    for &root in roots {
        out.note("")?;
        out.note(RULE)?;
        tree(out, forest, root, joined, ids)?;
        out.note("")?;
    }
    Ok(())
}

/// Prints the tree over `root`: first what is above a method, then the method. A stack may be deep: nothing recurses.
fn tree(out: &mut Out, forest: &Forest, root: usize, joined: bool, all: bool) -> Result<()> {
    /// A node to enter, or whose branches are done; its depth, the row of what it is called from and its own.
    enum Step {
        Enter(usize, usize, Option<u64>),
        Leave(usize, usize, Option<u64>, u64),
    }
    let nodes = &forest.nodes;
    let mut rows = out.count(&NODES);
    let mut todo = vec![Step::Enter(root, 0, None)];
    while let Some(step) = todo.pop() {
        match step {
            Step::Enter(i, depth, below) => {
                let Some(n) = nodes.get(i) else { continue };
                rows += 1;
                standing(out, n, depth, rows, all)?;
                todo.push(Step::Leave(i, depth, below, rows));
                let branch = |a: usize| nodes.get(a).is_some_and(|x| x.stacks() != n.stacks());
                todo.extend(n.above.iter().rev().map(|&a| Step::Enter(a, depth + usize::from(branch(a)), Some(rows))));
            }
            Step::Leave(i, depth, below, row) => {
                let Some(n) = nodes.get(i) else { continue };
                let name = short(&n.name);
                let cells = [
                    Cell::Num(row),
                    below.map_or(Cell::None, Cell::Num),
                    Cell::Num(depth as u64),
                    Cell::Num(n.threads as u64),
                    Cell::shown(name.clone(), Cell::text(&*n.name)),
                    Cell::Num(n.suspended as u64),
                    Cell::Bool(joined),
                ];
                let text = format!("{:w$}{:>5} {name}", "", n.stacks(), w = STEP * depth.min(INDENTED));
                out.row_as(&NODES, &cells, text)?;
            }
        }
    }
    Ok(())
}

fn standing(out: &mut Out, n: &Node, depth: usize, row: u64, all: bool) -> Result<()> {
    if n.standing.is_empty() && n.waiting == 0 {
        return Ok(());
    }
    let shown = n.standing.iter().take(if all { usize::MAX } else { FEW });
    let ids: Vec<String> = shown.map(|id| format!("{id:x}")).collect();
    let more = if ids.len() < n.standing.len() { ",..." } else { "" };
    let mut who = format!("{}{more}", ids.join(","));
    if n.waiting > 0 {
        let comma = if who.is_empty() { "" } else { ", " };
        who.push_str(&format!("{comma}{} suspended", n.waiting));
    }
    out.note(format!("{:w$} ~~~~ {who}", "", w = STEP * depth.min(INDENTED)))?;
    for id in &n.standing {
        out.data_row(&STANDING, &[Cell::Num(row), Cell::Hex(*id)])?;
    }
    Ok(())
}

/// A method with the last names of its parameters and type arguments: `A.B<C>.M(Int32)` for
/// ``A.B`1[[N.C, Assembly]].M(System.Int32)``.
fn short(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    // Lists of type arguments begun, whether the parameters have begun, where the name that is being written begins.
    let (mut depth, mut params, mut last) = (0usize, false, 0usize);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if rest.starts_with("[[") {
            out.push('<');
            (depth, last, length) = (depth + 1, out.len(), 2);
        } else if depth > 0 && rest.starts_with("],[") {
            out.push_str(", ");
            (last, length) = (out.len(), 3);
        } else if depth > 0 && rest.starts_with("]]") {
            out.push('>');
            (depth, length) = (depth - 1, 2);
        } else if depth > 0 && rest.starts_with(", ") {
            // The assembly of a type argument.
            length = rest.find(']').unwrap_or(rest.len());
        } else if c == '`' {
            // The number of type arguments.
            length += rest.chars().skip(1).take_while(char::is_ascii_digit).count();
        } else if depth == 0 && !params {
            params = c == '(';
            out.push(c);
            last = out.len();
        } else if c == '.' {
            out.truncate(last);
        } else {
            out.push(c);
            if matches!(c, ',' | ' ' | '<') {
                last = out.len();
            }
        }
        rest = rest.get(length..).unwrap_or("");
    }
    out
}

fn unique(ctx: &mut Ctx<'_>, _: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (stacks, partial) = stacks(session)?;
    let mut groups: Vec<(Vec<u64>, Vec<&ThreadStack<'_>>)> = Vec::new();
    let mut known: FxHashMap<Vec<u64>, usize> = FxHashMap::default();
    for stack in &stacks {
        let key: Vec<u64> = stack.frames.iter().map(|f| f.ip).collect();
        let next = groups.len();
        let i = *known.entry(key.clone()).or_insert(next);
        match groups.get_mut(i) {
            Some(g) => g.1.push(stack),
            None => groups.push((key, vec![stack])),
        }
    }
    groups.sort_by_key(|g| g.1.len());
    for (_, members) in &groups {
        let Some(first) = members.first() else { continue };
        let number = ctx.out.count(&STACKS) + 1;
        let ids: Vec<String> = members.iter().map(|m| format!("{:x}", m.thread.os_id)).collect();
        let plural = if members.len() == 1 { "thread" } else { "threads" };
        let text = format!("{} {plural}: {}", members.len(), ids.join(","));
        ctx.out.row_as(&STACKS, &[Cell::Num(number), Cell::Num(members.len() as u64)], text)?;
        for m in members {
            ctx.out.data_row(&MEMBERS, &[Cell::Num(number), Cell::Hex(m.thread.os_id)])?;
        }
        for f in &first.frames {
            let cells = [Cell::Num(number), Cell::Addr(f.ip), Cell::text(&*f.name)];
            ctx.out.row_as(&FRAMES, &cells, format!("    {:0w$x} {}", f.ip, f.name, w = crate::shell::digits()))?;
        }
        ctx.out.note("")?;
    }
    let counts = [("threads", Cell::Num(stacks.len() as u64)), ("stacks", Cell::Num(groups.len() as u64))];
    ctx.out.facts(&counts, format!("{} threads with {} stacks", stacks.len(), groups.len()))?;
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

fn find(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let text = args.text("TEXT").unwrap_or_default().to_lowercase();
    if text.is_empty() {
        bail!("give part of a method's name: !findstack TEXT");
    }
    let (stacks, partial) = stacks(session)?;
    let mut threads = FxHashSet::default();
    ctx.out.open(&FOUND)?;
    for stack in &stacks {
        let number = super::clrthreads::number_cell(session, stack.thread.os_id);
        let hits = stack.frames.iter().enumerate().filter(|(_, f)| f.name.to_lowercase().contains(&text));
        for (i, f) in hits {
            threads.insert(stack.thread.os_id);
            ctx.out.row(&[
                number.clone(),
                Cell::Hex(stack.thread.os_id),
                Cell::Num(i as u64),
                Cell::Addr(f.sp),
                Cell::text(&*f.name),
            ])?;
        }
    }
    let count = threads.len();
    ctx.out.fact("threads", Cell::Num(count as u64), format!("{count} threads"))?;
    Ok(partial.map_or(if count == 0 { Outcome::Empty } else { Outcome::Complete }, Outcome::Partial))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn names_are_cut_to_what_tells_them_apart() {
        assert_eq!(short("System.Threading.Thread.Sleep(Int32)"), "System.Threading.Thread.Sleep(Int32)");
        assert_eq!(short("Zoo.Zoo.Main(System.String[])"), "Zoo.Zoo.Main(String[])");
        assert_eq!(
            short("A.W.E(System.Object, Boolean ByRef, Microsoft.Win32.SafeHandles.SafeWaitHandle)"),
            "A.W.E(Object, Boolean ByRef, SafeWaitHandle)"
        );
        assert_eq!(
            short(
                "G.Gen`1[[System.__Canon, System.Private.CoreLib]].Stat[[System.Double, System.Private.CoreLib],[N.C, M]](System.__Canon, Double)"
            ),
            "G.Gen<__Canon>.Stat<Double, C>(__Canon, Double)"
        );
        assert_eq!(
            short("T.R`1[[System.Threading.Tasks.VoidTaskResult, System.Private.CoreLib]].DispatchContinuations()"),
            "T.R<VoidTaskResult>.DispatchContinuations()"
        );
        assert_eq!(
            short("A.B+<>c.<Run>b__0_1(System.Collections.Generic.List`1<System.__Canon>)"),
            "A.B+<>c.<Run>b__0_1(List<__Canon>)"
        );
    }
}
