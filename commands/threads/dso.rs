//! `!dumpstackobjects`: objects the stack of a thread points at.

use anyhow::{Result, bail};
use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::dump::Thread;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!dso`.
pub const DSO: Command = Command {
    name: "dumpstackobjects",
    prefix: Prefix::Bang,
    aliases: &["dso", "mdso"],
    group: Group::Threads,
    summary: "list the objects the current thread's stack and registers point at",
    help: "Every word between the stack pointer and the end of the stack that is the address of an object is listed, so \
           values left over from calls that have returned are among them: an object listed here is not proved to be \
           alive. -gc lists only what the frames of the stack hold, as the collector sees it (!clrstack -gc has it by \
           frame). -all does it for all managed threads; TOP and BOTTOM give the range of addresses to scan.",
    args: &[
        Arg::pos("TOP", Kind::Address, "lowest address to scan"),
        Arg::pos("BOTTOM", Kind::Address, "end of the range"),
        Arg::flag("all", "all managed threads"),
        Arg::flag("gc", "only what the frames hold"),
        Arg::flag("verify", "accepted; objects are always checked"),
    ],
    examples: &[Example { line: "!dso", what: "objects on the current thread's stack" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&THREADS, &OBJECTS]),
    run,
};

const THREADS: Table = Table::new(
    "threads",
    &[
        Col::data("os_id", Type::Hex).titled("operating system id of the thread"),
        Col::data("number", Type::Number).titled("its number in the dump"),
    ],
);

const OBJECTS: Table = Table::new(
    "objects",
    &[
        Col::data("os_id", Type::Hex).titled("whose stack or register it is"),
        Col::right("SP/REG", "slot", 16).of(Type::Address),
        Col::data("register", Type::Text).titled("the register, where it is one"),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::left("Name", "type", 0).of(Type::TypeName),
        Col::data("root", Type::Bool).titled("a frame of the stack holds it there"),
    ],
)
.under("threads", "os_id");

/// Longest stack scanned in bytes; what is left out is said.
const MAX_STACK: u64 = 1 << 30;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let threads = &session.dump().threads;
    if args.has("all") {
        let mut outcome = Outcome::Complete;
        for t in &session.clr()?.threads().items {
            let Some(index) = session.dump().thread_number(t.os_id) else { continue };
            if let Some(thread) = threads.get(index)
                && let Outcome::Partial(why) = one(session, ctx.out, (thread, index), None, args.has("gc"))?
            {
                outcome = Outcome::Partial(why);
            }
        }
        return Ok(outcome);
    }
    let index = ctx.settings.thread;
    let Some(thread) = threads.get(index) else { bail!("the dump has no thread {index}") };
    let range = match (args.number("TOP"), args.number("BOTTOM")) {
        (Some(top), Some(bottom)) if top < bottom => Some((top, bottom)),
        (None, None) => None,
        _ => bail!("give both ends of the range, the lower one first: !dso TOP BOTTOM"),
    };
    one(session, ctx.out, (thread, index), range, args.has("gc"))
}

/// What the frames of a thread hold.
#[derive(Default)]
struct Held {
    slots: FxHashSet<u64>,
    /// Registers of the thread itself, where it stands in managed code.
    registers: FxHashSet<&'static str>,
}

impl Held {
    fn of(clr: &Clr, os_id: u64) -> Self {
        let mut held = Self::default();
        let Some(thread) = clr.threads().items.iter().find(|t| t.os_id == os_id && os_id != 0) else { return held };
        let leaf = clr.stack(thread).frames.first().is_some_and(|f| f.leaf);
        for slot in clr.live_slots(thread).slots {
            match (slot.register, slot.address) {
                (Some(name), 0) if leaf && slot.frame == 0 => drop(held.registers.insert(name)),
                (_, at) => drop(held.slots.insert(at)),
            }
        }
        held
    }
}

/// Prints one thread. `only_held`: only what its frames hold.
fn one(
    session: &Session,
    out: &mut Out,
    (thread, index): (&Thread, usize),
    range: Option<(u64, u64)>,
    only_held: bool,
) -> Result<Outcome> {
    let whose = [Cell::Hex(thread.os_id), Cell::Num(index as u64)];
    out.row_as(&THREADS, &whose, format!("OS Thread Id: 0x{:x} ({index})", thread.os_id))?;
    out.open(&OBJECTS)?;
    let walker = session.walker()?;
    let clr = session.clr()?;
    let aligned = |v: u64| v != 0 && v.is_multiple_of(clr.header());
    let held = Held::of(clr, thread.os_id);
    let mut row = |slot: Cell<'_>, register: Cell<'_>, value: u64, root: bool| -> Result<()> {
        let found = walker.object_at(value).filter(|o| aligned(value) && !o.ty.is_free && (root || !only_held));
        if let Some(o) = found {
            let name = clr.type_name(o.ty.mt.address);
            let (of, name) = (Cell::Hex(thread.os_id), Cell::text(&*name));
            out.row(&[of, slot, register, Cell::Addr(value), name, Cell::Bool(root)])?;
        }
        Ok(())
    };
    let registers = thread.registers.as_ref();
    if range.is_none() {
        for (name, value) in registers.iter().flat_map(|r| &r.general) {
            row(Cell::shown(*name, Cell::None), Cell::text(*name), *value, held.registers.contains(name))?;
        }
    }
    let own = registers.zip(thread.stack).map(|(r, (low, high))| (r.sp.max(low), high));
    let Some((start, end)) = range.or(own) else {
        return Ok(Outcome::Partial(format!("where the stack of thread {index} lies is not known")));
    };
    let (whole, end) = (end, end.min(start.saturating_add(MAX_STACK)));
    for (at, value) in clr.space().words(start, end) {
        row(Cell::Hex(at), Cell::None, value, held.slots.contains(&at))?;
        session.watch.cancel.check()?;
    }
    if end < whole {
        return Ok(Outcome::Partial(format!("only the first {} MB of the stack are scanned", MAX_STACK >> 20)));
    }
    Ok(Outcome::Complete)
}
