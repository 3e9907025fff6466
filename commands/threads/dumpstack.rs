//! `!dumpstack`, `!eestack`: every word of a stack that is a return address, whether a frame of now has it or one of before.

use anyhow::{Result, bail};

use crate::dump::{Arch, Thread};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// Most words of a stack looked at: 64 MB.
const MOST_WORDS: u64 = 1 << 23;

const THREADS: Table = Table::new(
    "threads",
    &[
        Col::data("os_id", Type::Hex).titled("operating system id of the thread"),
        Col::data("number", Type::Number).titled("its number in the dump"),
        Col::data("current", Type::Text).titled("the function it stands in"),
        Col::data("missing", Type::Count).titled("words of the stack that are not in the dump"),
    ],
);

const RETURNS: Table = Table::new(
    "returns",
    &[
        Col::data("os_id", Type::Hex).titled("whose stack it is"),
        Col::right("Child-SP", "sp", 16).of(Type::Address),
        Col::right("RetAddr", "return_address", 16).of(Type::Address),
        Col::left("Caller", "caller", 0),
        Col::data("callee", Type::Text).titled("what was called, where the call names it"),
        Col::data("managed", Type::Bool).titled("the caller is a method"),
    ],
)
.under("threads", "os_id");

const HELP: &str = "Looks at each word of the stack between the stack pointer and its end: one that is an address in code \
                    right behind a call is shown with its place, the function that made the call, and what it called where \
                    the instruction names it. Return addresses that older calls left behind are among them; k and !clrstack \
                    show the frames of now. -EE shows methods alone.";

const EE: Arg = Arg::flag("ee", "methods alone");

/// `!dumpstack`.
pub const DUMPSTACK: Command = Command {
    name: "dumpstack",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "return addresses on the stack of the current thread",
    help: HELP,
    args: &[
        EE,
        Arg::flag("n", "accepted: lines are not shown"),
        Arg::pos("TOP", Kind::Address, "where to begin, else the stack pointer"),
        Arg::pos("BOTTOM", Kind::Address, "where to end, else the end of the stack"),
    ],
    examples: &[Example { line: "!dumpstack -ee", what: "methods that were called on this thread" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&THREADS, &RETURNS]),
    run: |ctx, args| {
        let session = ctx.session()?;
        let index = ctx.settings.thread;
        let Some(thread) = session.dump().threads.get(index) else { bail!("the dump has no thread {index}") };
        let Some((sp, end)) = range(thread) else { bail!("the dump has no registers of this thread") };
        let (top, bottom) = (args.number("TOP").unwrap_or(sp), args.number("BOTTOM").unwrap_or(end));
        let missing = one(session, ctx.out, (index, thread), (top, bottom), args.has("ee"))?;
        Ok(outcome(missing))
    },
};

/// `!eestack`.
pub const EESTACK: Command = Command {
    name: "eestack",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "!dumpstack of every thread",
    help: "Runs !dumpstack for every thread of the process; -EE shows methods alone, -short only threads that are of interest: \
           those that hold a lock, and those in managed code (preemptive collection disabled).",
    args: &[EE, Arg::flag("short", "only threads that hold a lock or run managed code")],
    examples: &[Example { line: "!eestack -ee -short", what: "methods on the threads of interest" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("threads", "threads shown", Type::Count)]).and(&[&THREADS, &RETURNS]),
    run: eestack,
};

fn eestack(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (mut missing, mut shown) = (0, 0u64);
    let of_interest = if args.has("short") { Some(interesting(session)?) } else { None };
    for (index, thread) in session.dump().threads.iter().enumerate() {
        session.watch.cancel.check()?;
        let wanted = of_interest.as_ref().is_none_or(|ids| ids.contains(&thread.os_id));
        let Some(range) = range(thread).filter(|_| wanted) else { continue };
        shown += 1;
        ctx.out.note("---------------------------------------------")?;
        ctx.out.facts(&[], format!("Thread {index:>3}"))?;
        missing += one(session, ctx.out, (index, thread), range, args.has("ee"))?;
    }
    ctx.out.datum("threads", &Cell::Num(shown));
    Ok(if shown == 0 { Outcome::Empty } else { outcome(missing) })
}

fn outcome(missing: u64) -> Outcome {
    match missing {
        0 => Outcome::Complete,
        n => Outcome::Partial(format!(
            "{n} words of the stacks are not in the dump, or lie behind the first {MOST_WORDS} of one"
        )),
    }
}

/// Threads that hold a lock or are in cooperative mode.
fn interesting(session: &Session) -> Result<Vec<u64>> {
    let clr = session.clr()?;
    let threads = &clr.threads().items;
    let owners: Vec<u64> = clr.sync_blocks().items.iter().map(|b| b.monitor.owner).filter(|&o| o != 0).collect();
    let wanted = threads.iter().filter(|t| !t.preemptive || owners.contains(&t.address));
    Ok(wanted.map(|t| t.os_id).collect())
}

fn range(thread: &Thread) -> Option<(u64, u64)> {
    let sp = thread.registers.as_ref()?.sp;
    Some((sp, thread.stack.map_or(sp, |s| s.1)))
}

fn one(
    session: &Session,
    out: &mut Out,
    (index, thread): (usize, &Thread),
    (top, bottom): (u64, u64),
    managed_only: bool,
) -> Result<u64> {
    let dump = session.dump();
    let step = u64::from(dump.arch.pointer_size());
    let ip = thread.registers.as_ref().map_or(0, |r| r.ip);
    let current = name(session, ip, false).map_or_else(|| format!("{ip:x}"), |n| n.0);
    let all = bottom.saturating_sub(top) / step;
    let words = all.min(MOST_WORDS).min(u64::MAX.saturating_sub(top) / step);
    let missing = (0..words).filter(|i| !dump.space.readable(top + i * step)).count() as u64 + (all - words);
    let cells = [Cell::Hex(thread.os_id), Cell::Num(index as u64), Cell::text(&*current), Cell::Num(missing)];
    let lines = [
        format!("OS Thread Id: 0x{:x} ({index})", thread.os_id),
        format!("Current frame: {current}"),
        format!("{:<w$} {:<w$} Caller, Callee", "Child-SP", "RetAddr", w = digits()),
    ];
    out.row_as(&THREADS, &cells, lines.join("\n"))?;
    for i in 0..words {
        if i % 4096 == 0 {
            session.watch.cancel.check()?;
        }
        let at = top + i * step;
        let Some(word) = dump.space.ptr(at) else { continue };
        let Some(callee) = called(session, word) else { continue };
        let Some((caller, managed)) = name(session, word, true).filter(|n| n.1 || !managed_only) else { continue };
        let callee = callee.and_then(|c| name(session, c, false)).map(|n| n.0);
        let line = match &callee {
            Some(callee) => format!("{at:0w$X} {word:0w$x} {caller}, calling {callee}", w = digits()),
            None => format!("{at:0w$X} {word:0w$x} {caller}", w = digits()),
        };
        let cells = [
            Cell::Hex(thread.os_id),
            Cell::Addr(at),
            Cell::Addr(word),
            Cell::text(&*caller),
            Cell::maybe(callee),
            Cell::Bool(managed),
        ];
        out.row_as(&RETURNS, &cells, line)?;
    }
    Ok(missing)
}

/// What an address is called, and whether it is in a method. `returns`: the call before it decides.
fn name(session: &Session, address: u64, returns: bool) -> Option<(String, bool)> {
    if let Some((name, offset)) = session.method_at(address) {
        let far = if offset == 0 { String::new() } else { format!("+0x{offset:x}") };
        return Some((format!("{name}{far}"), true));
    }
    let native = session.native();
    let place = if returns { native.place_of_return(address) } else { native.place(address) };
    place.map(|p| (p.to_string(), false))
}

/// If the code before `address` is a call: its target, where the instruction names it.
fn called(session: &Session, address: u64) -> Option<Option<u64>> {
    let dump = session.dump();
    let code = || session.native().is_code(address) || session.clr().is_ok_and(|c| c.code().is_managed(address));
    match dump.arch {
        Arch::X64 | Arch::X86 => {
            let before = dump.space.bytes(address.checked_sub(7)?, 7).filter(|_| code())?;
            let [_, _, op, a, b, c, d] = *before.as_slice() else { return None };
            if op == 0xE8 {
                let far = i64::from(i32::from_le_bytes([a, b, c, d]));
                let target = address.wrapping_add_signed(far);
                return Some(Some(if dump.arch == Arch::X86 { target & 0xFFFF_FFFF } else { target }));
            }
            // FF /2, with the lengths its forms have: register, memory, with displacement of one or four bytes, with SIB.
            let call = before.windows(2).enumerate().any(|(i, w)| {
                let [op, mode] = *w else { return false };
                let size = match (mode >> 6, mode & 7) {
                    (0, 5) => 6,
                    (0, 4) => 3,
                    (1, 4) => 4,
                    (2, 4) => 7,
                    (1, _) => 3,
                    (2, _) => 6,
                    _ => 2,
                };
                op == 0xFF && mode & 0x38 == 0x10 && i + size == 7
            });
            call.then_some(None)
        }
        Arch::Arm64 => {
            let before = address.checked_sub(4).filter(|_| address.is_multiple_of(4))?;
            let word = dump.space.u32(before).filter(|_| code())?;
            if word >> 26 == 0b10_0101 {
                let far = i64::from((word << 6) as i32 >> 4);
                return Some(Some(before.wrapping_add_signed(far)));
            }
            (word & 0xFFFF_FC1F == 0xD63F_0000).then_some(None)
        }
        Arch::Arm => None,
    }
}
