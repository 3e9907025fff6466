//! `!gcroot`: what keeps an object alive, one chain for each root that reaches it. `!pathto`: a way from one object to
//! another.

use std::sync::Arc;

use anyhow::{Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};

use super::rootnames::{self, FrameName, Headings};
use crate::clr::Clr;
use crate::commands::graph::held;
use crate::heap::roots::{Root, RootKind};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits, narrow_digits,
};

/// `!gcroot ADDR`, `!gcroot -type T`.
pub const GCROOT: Command = Command {
    name: "gcroot",
    prefix: Prefix::Bang,
    aliases: &["mroot"],
    group: Group::Heap,
    summary: "what keeps an object, or all objects of a type, alive",
    help: "With an address: prints a shortest chain of references from every root that reaches the object: handles, thread \
           statics, the finalizer queue, thread stacks and registers. Objects held by a static field are named by it; links \
           made by a dependent handle are marked. -all adds further chains of each root, the shortest first, until every \
           reference that takes part was shown; as there may be very many, no more than 100 chains unless -limit says so.\n\n\
           With -type or -mt: all objects of that type, merged by the root and the types and fields over which they are \
           held, those with most bytes first, each with one example. Every object counts once, for a shortest way; what only \
           a stack holds comes after everything else. A step marked * repeats: lists and trees. So one command tells \
           whether there is one leak or several.\n\n\
           Roots on stacks stand under their thread and frame: the register or stack slot that holds the reference there, as \
           the runtime's own tables say. Where a stack cannot be walked, and with -conservative everywhere, a value in a \
           stack slot counts when it lies inside a live object. Such roots are labelled; some may be stale. What many \
           threads hold in the same method is shown for the first of them. -nostacks leaves stacks out. Sync blocks and \
           weak handles hold nothing; !refs lists those of an object.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object"),
        Arg::opt(
            "type",
            Kind::TypeName,
            "all objects whose type's name contains this (exactly this, when one has the name)",
        ),
        Arg::opt("mt", Kind::MethodTable, "all objects of this MethodTable"),
        Arg::flag("nostacks", "leave stacks and registers out"),
        Arg::flag("conservative", "take every word of a stack for a reference that can be one"),
        Arg::flag("all", "further chains of each root"),
        Arg::opt(
            "limit",
            Kind::Count,
            "stop after so many chains, or paths of a type (20 without this option; 0 for all)",
        ),
    ],
    examples: &[
        Example { line: "!gcroot $OBJECT", what: "who holds it" },
        Example { line: "!gcroot $OBJECT -all -limit 5", what: "the first five ways to it" },
        Example { line: "!gcroot -type System.String -limit 3", what: "what holds all objects of a type" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("roots", "roots found", Type::Count),
        Fact::new("chains", "chains shown", Type::Count),
        Fact::new("native_block", "the native block asked about", Type::Address),
        Fact::new("native_owner", "the object that holds it", Type::Address),
        Fact::new("native_field", "its type and the field that does", Type::Text),
        Fact::new("native_steps", "native blocks from there to the one asked about", Type::Count),
    ])
    .and(&[&ROOTS, &CHAIN])
    .with(&[&held::RETURNS]),
    run: gcroot,
};

/// `!pathto SOURCE TARGET`.
pub const PATHTO: Command = Command {
    name: "pathto",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "a shortest chain of references from one object to another",
    help: "Prints a shortest way from SOURCE to TARGET along references, or that there is none.",
    args: &[
        Arg::pos("SOURCE", Kind::Object, "where to start").required(),
        Arg::pos("TARGET", Kind::Object, "where to arrive").required(),
    ],
    examples: &[Example { line: "!pathto $OBJECT $TARGET", what: "how one reaches the other" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&PATH]),
    run: pathto,
};

/// Roots that reach an object.
pub const ROOTS: Table = Table::new(
    "roots",
    &[
        Col::data("root", Type::Count).titled("number of the root"),
        Col::data("target", Type::Address).titled("object that is kept alive"),
        Col::data("kind", Type::Text).titled("what the root is"),
        Col::data("slot", Type::Address).titled("where the reference stands; nothing for a register"),
        Col::data("register", Type::Text).titled("the register"),
        Col::data("thread", Type::Hex).titled("operating system id of the thread"),
        Col::data("variable", Type::Text).titled("the thread static variable"),
        Col::data("conservative", Type::Bool).titled("a value on a stack that may be stale"),
        Col::data("place", Type::Text).titled("register and distance by which the frame knows the slot"),
        Col::data("frame_sp", Type::Address).titled("stack pointer of the frame"),
        Col::data("frame_ip", Type::Address).titled("instruction pointer of the frame"),
        Col::data("frame", Type::Text).titled("method of the frame"),
        Col::data("interior", Type::Bool).titled("it points into the object, not at its start"),
        Col::data("pinned", Type::Bool).titled("the object must not move"),
        Col::data("object", Type::Address).titled("the object it refers to"),
    ],
);

const STEP: Col = Col::data("step", Type::Count).titled("number in the chain");
const OBJECT: Col = Col::data("object", Type::Address).titled("the object");
const TYPE: Col = Col::data("type", Type::TypeName).titled("its type, or the suspended method it stands for");
const LINK: Col = Col::data("link", Type::Text).titled("what makes the reference, where it is no field");
const VARIABLE: Col = Col::data("variable", Type::Text).titled("the static variable that is the reference");

/// The objects from a root to the one asked for.
pub const CHAIN: Table = Table::new(
    "chain",
    &[
        Col::data("root", Type::Count).titled("number of the root"),
        Col::data("chain", Type::Count).titled("number of the chain"),
        STEP,
        OBJECT,
        TYPE,
        LINK,
        VARIABLE,
    ],
)
.under("roots", "root");

/// The objects from one to another.
const PATH: Table = Table::new("chain", &[STEP, OBJECT, TYPE, LINK, VARIABLE]);

/// Refuses what is no object.
fn check_object(session: &Session, address: u64) -> Result<()> {
    if session.is_object(address)? {
        return Ok(());
    }
    super::super::objects::dumpobj::look_up(session, address)?;
    bail!("no object starts at {address:x}; try !listnearobj {address:x}")
}

/// Chains shown with `-all` unless `-limit` says otherwise.
const CHAINS: u64 = 100;

fn gcroot(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (ty, mt) = (args.text("type"), args.number("mt"));
    let Some(address) = args.number("ADDR") else {
        if ty.is_none() && mt.is_none() {
            bail!("an address, -type or -mt");
        }
        return held::run(ctx, args);
    };
    if ty.is_some() || mt.is_some() {
        bail!("either an address, or -type or -mt");
    }
    let all = args.has("all");
    let limit = match args.number("limit") {
        None if all => CHAINS,
        None | Some(0) => u64::MAX,
        Some(n) => n,
    };
    let address = match session.is_object(address)? {
        true => address,
        false => owner_of(ctx, address)?.unwrap_or(address),
    };
    let session = ctx.session()?;
    let (nostacks, scanned) = (args.has("nostacks"), args.has("conservative"));
    let (count, chains) = roots_of(session, ctx.out, address, &Wanted { all, limit, nostacks, scanned })?;
    let facts = [("roots", Cell::Num(count)), ("chains", Cell::Num(chains))];
    match all {
        true => ctx.out.facts(&facts, format!("Found {count} unique roots, {chains} chains."))?,
        false => ctx.out.facts(&facts, format!("Found {count} unique roots."))?,
    }
    let roots = if scanned { session.scanned_roots()? } else { session.roots()? };
    Ok(match &roots.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The object that holds the native block at `address`, if there is such a block; says which and how.
fn owner_of(ctx: &mut Ctx<'_>, address: u64) -> Result<Option<u64>> {
    let session = ctx.session()?;
    if session.native_heaps()?.blocks.holding(address).is_none() {
        return Ok(None);
    }
    let Some((hold, way)) = session.native_holder(address)? else {
        bail!(
            "{address:x} lies in a native block that no object was found to hold; !heap -x {address:x} lists what points to it"
        )
    };
    let clr = session.clr()?;
    let field = session.types().by_id(hold.ty).map_or_else(String::new, |ty| {
        format!("{}.{}", clr.type_name(ty.mt.address), session.slot_name(clr, &ty, hold.offset))
    });
    let between = match way.len() {
        0 | 1 => String::new(),
        n => format!(", through {} native blocks", n - 1),
    };
    let line = format!("{address:x} lies in a native block, held by {field} of {:x}{between}:", hold.object);
    let facts = [
        ("native_block", Cell::Addr(way.last().copied().unwrap_or(address))),
        ("native_owner", Cell::Addr(hold.object)),
        ("native_field", Cell::text(field)),
        ("native_steps", Cell::Num(way.len().saturating_sub(1) as u64)),
    ];
    ctx.out.facts(&facts, line)?;
    Ok(Some(hold.object))
}

/// Which chains are shown.
struct Wanted {
    /// Every chain of each root, not a shortest one.
    all: bool,
    /// As many chains at most.
    limit: u64,
    /// None of the stacks'.
    nostacks: bool,
    /// Stacks are scanned, not walked.
    scanned: bool,
}

/// Threads whose frames are shown one by one that hold an object in the same method; more are shown together.
const THREADS_SHOWN: usize = 8;
/// Of those together as many are named.
const IDS_SHOWN: usize = 16;

/// Roots of frames by method and object: what many threads hold alike.
#[derive(Default)]
struct Alike {
    threads: FxHashMap<(String, u64), Vec<u64>>,
    shown: FxHashSet<(String, u64)>,
}

impl Alike {
    fn key(frame: &FrameName, root: &Root) -> (String, u64) {
        (frame.name.clone(), root.object)
    }

    fn add(&mut self, frame: &FrameName, root: &Root) {
        let RootKind::Frame { os_id, .. } = root.kind else { return };
        let threads = self.threads.entry(Self::key(frame, root)).or_default();
        if threads.last() != Some(&os_id) {
            threads.push(os_id);
        }
    }

    /// Whether the root is left out because that of another thread stands for it; if it is the one that does, the line that
    /// says for whom.
    fn place(&mut self, frame: Option<&FrameName>, root: &Root) -> (bool, Option<String>) {
        let Some(frame) = frame else { return (false, None) };
        let key = Self::key(frame, root);
        let Some(threads) = self.threads.get(&key).filter(|t| t.len() > THREADS_SHOWN) else { return (false, None) };
        if !self.shown.insert(key) {
            return (true, None);
        }
        let ids: Vec<String> = threads.iter().take(IDS_SHOWN).map(|t| format!("{t:x}")).collect();
        let more = if threads.len() > IDS_SHOWN { " ..." } else { "" };
        (false, Some(format!("{} threads: {}{more}", threads.len(), ids.join(" "))))
    }
}

/// Prints what keeps the object at `address` alive: a shortest chain from each root.
pub fn print_roots(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let wanted = Wanted { all: false, limit: u64::MAX, nostacks: false, scanned: false };
    let (count, _) = roots_of(session, out, address, &wanted)?;
    Ok(out.note(format!("Found {count} unique roots."))?)
}

/// Prints the chains; gives the number of roots and of chains.
fn roots_of(session: &Session, out: &mut Out, address: u64, wanted: &Wanted) -> Result<(u64, u64)> {
    if !wanted.all {
        session.expect_ways()?;
    }
    check_object(session, address)?;
    let (mut headings, mut alike) = (Headings::default(), Alike::default());
    let (mut count, mut chains) = (0u64, 0u64);
    let roots = if wanted.scanned { session.scanned_roots()? } else { session.roots()? };
    let roots = roots.items.iter().filter(|r| !(wanted.nostacks && r.is_stack()));
    let ways = match wanted.all {
        true => session.all_ways_to(address)?,
        false => session.ways_to(address, roots.clone().map(|r| r.object))?,
    };
    let roots: Vec<&Root> = roots.filter(|r| ways.reaches(r.object)).collect();
    let frames: Vec<Option<FrameName>> = roots.iter().map(|r| rootnames::frame(session, r)).collect();
    for (root, frame) in roots.iter().zip(&frames) {
        frame.iter().for_each(|f| alike.add(f, root));
    }
    for (root, frame) in roots.into_iter().zip(&frames) {
        session.watch.cancel.check()?;
        if chains >= wanted.limit {
            out.note(format!("Stopped after {chains} chains; -limit 0 shows all."))?;
            break;
        }
        count += 1;
        let number = out.count(&ROOTS) + 1;
        let (left_out, others) = alike.place(frame.as_ref(), root);
        if left_out && !wanted.all {
            out.data_row(&ROOTS, &cells(root, frame.as_ref(), number, address))?;
            continue;
        }
        for line in headings.before(root, frame.as_ref()) {
            out.note(line)?;
        }
        if let Some(others) = others {
            out.note(format!("      {others}"))?;
        }
        out.row_as(&ROOTS, &cells(root, frame.as_ref(), number, address), source(root))?;
        if !wanted.all {
            chains += 1;
            chain(session, out, Some((number, 1)), &ways.path(root.object))?;
            out.note("")?;
            continue;
        }
        let mut of_root = 0;
        session.further_ways(&ways, root.object, |path| {
            chains += 1;
            of_root += 1;
            chain(session, out, Some((number, of_root)), path)?;
            out.note("")?;
            Ok(chains < wanted.limit)
        })?;
    }
    Ok((count, chains))
}

/// A row of [`ROOTS`].
pub fn cells<'a>(root: &'a Root, frame: Option<&'a FrameName>, number: u64, target: u64) -> [Cell<'a>; 15] {
    let (kind, thread) = match &root.kind {
        RootKind::Handle(kind) => (kind.words(), None),
        RootKind::Finalizer => ("finalizer root", None),
        RootKind::Frame { os_id, .. } if root.slot == 0 => ("register", Some(*os_id)),
        RootKind::Frame { os_id, .. } => ("stack slot", Some(*os_id)),
        RootKind::Stack { os_id, .. } => ("stack slot", Some(*os_id)),
        RootKind::Register { os_id, .. } => ("register", Some(*os_id)),
        RootKind::ThreadStatic { os_id, .. } => ("thread static variable", Some(*os_id)),
    };
    let variable = if let RootKind::ThreadStatic { name, .. } = &root.kind { Some(&**name) } else { None };
    let name = match root.kind {
        RootKind::Register { name, .. } => Some(name),
        RootKind::Frame { register, .. } if root.slot == 0 => register,
        _ => None,
    };
    let place = rootnames::place(root);
    [
        Cell::Num(number),
        Cell::Addr(target),
        Cell::text(kind),
        if name.is_some() { Cell::None } else { Cell::Addr(root.slot) },
        Cell::maybe(name),
        thread.map_or(Cell::None, Cell::Hex),
        Cell::maybe(variable),
        Cell::Bool(root.is_conservative()),
        if place.is_empty() { Cell::None } else { Cell::text(place) },
        frame.map_or(Cell::None, |f| Cell::Addr(f.sp)),
        frame.map_or(Cell::None, |f| Cell::Addr(f.ip)),
        Cell::maybe(frame.map(|f| &*f.name)),
        Cell::Bool(root.interior),
        Cell::Bool(matches!(root.kind, RootKind::Frame { pinned: true, .. })),
        Cell::Addr(root.object),
    ]
}

/// The line that names the root itself.
pub fn source(root: &Root) -> String {
    let inside = if root.interior { " (interior)" } else { "" };
    match &root.kind {
        RootKind::Handle(kind) => format!("    {:0w$x} ({})", root.slot, kind.words(), w = digits()),
        RootKind::Finalizer => format!("    {:0w$x} (finalizer root)", root.slot, w = digits()),
        RootKind::Frame { .. } => rootnames::in_frame(root),
        RootKind::Stack { .. } => format!("    {:0w$x} (stack slot){inside}", root.slot, w = digits()),
        RootKind::Register { name, .. } => format!("    {name} (register){inside}"),
        RootKind::ThreadStatic { name, .. } => {
            format!("    {:0w$x} (thread static variable: {name})", root.slot, w = digits())
        }
    }
}

/// Prints a chain, as rows of [`CHAIN`] when it belongs to a root and has a number there, else of [`PATH`].
fn chain(session: &Session, out: &mut Out, of: Option<(u64, u64)>, path: &[u64]) -> Result<()> {
    let mut before = None;
    for (step, &address) in path.iter().enumerate() {
        let name = session.object_name(address);
        let (link, variable) = match before {
            Some(from) => link(session, from, address)?,
            None => (None, None),
        };
        let said = match (link, &variable) {
            (Some(link), Some(variable)) => format!(" ({link}: {variable})"),
            (Some(link), None) => format!(" ({link})"),
            _ => String::new(),
        };
        let line = format!(
            "          -> {address:<16} {name}{said}",
            address = format!("{address:0w$x}", w = narrow_digits())
        );
        let (root, number) = of.unwrap_or_default();
        let cells = [
            Cell::Num(root),
            Cell::Num(number),
            Cell::Num(step as u64),
            Cell::Addr(address),
            Cell::text(&*name),
            Cell::maybe(link),
            Cell::maybe(variable),
        ];
        match of {
            Some(_) => out.row_as(&CHAIN, &cells, line)?,
            None => out.row_as(&PATH, &cells[2..], line)?,
        }
        before = Some(address);
    }
    Ok(())
}

/// What makes the reference from one object to the next, where it is no field: the words for it, and the variable.
fn link(session: &Session, from: u64, to: u64) -> Result<(Option<&'static str>, Option<String>)> {
    let clr = session.clr()?;
    if let Some(field) = static_between(session, clr, from, to) {
        return Ok((Some("static variable"), Some(field)));
    }
    if let Some(field) = slot_between(session.thread_static_slots()?, session, clr, from, to) {
        return Ok((Some("thread static variable"), Some(field)));
    }
    Ok((session.links()?.is_dependent(from, to).then_some("dependent handle"), None))
}

/// Name of the static field when `from` is an `Object[]` that stores statics and one of its slots refers to `to`.
pub fn static_between(session: &Session, clr: &Clr, from: u64, to: u64) -> Option<String> {
    slot_between(session.static_slots().ok()?, session, clr, from, to)
}

/// As [`static_between`], for the slots of a list.
fn slot_between(slots: &[(u64, Arc<str>)], session: &Session, clr: &Clr, from: u64, to: u64) -> Option<String> {
    let walker = session.walker().ok()?;
    let o = walker.object_at(from)?;
    // Compiled ahead of time, each class has an object of its own for them.
    if !(o.ty.mt.is_sz_array() || clr.ahead().is_some()) || !o.ty.mt.contains_pointers() {
        return None;
    }
    // Statics arrays are few and small; the slots in question are those that hold the reference.
    let first = slots.partition_point(|s| s.0 < from);
    let inside = slots.get(first..)?.iter().take_while(|s| s.0 < from + o.size);
    inside.into_iter().find(|s| clr.space().ptr(s.0) == Some(to)).map(|s| s.1.to_string())
}

fn pathto(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (a, b) = (args.number("SOURCE").unwrap_or(0), args.number("TARGET").unwrap_or(0));
    check_object(session, a)?;
    check_object(session, b)?;
    let path = session.way_between(a, b)?;
    if path.is_empty() {
        ctx.out.note(format!("Could not find a path from {a:x} to {b:x}"))?;
        return Ok(Outcome::Empty);
    }
    chain(session, ctx.out, None, &path)?;
    Ok(Outcome::Complete)
}
