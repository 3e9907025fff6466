//! `u`, `ub`, `uf`: machine code as text.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

use super::listing::{CODE, Listing, Place};
use crate::clr::code::disasm::{Flow, Instruction, LONGEST, Machine, Source};
use crate::commands::memory::range::Words;
use crate::commands::memory::{tick, value};
use crate::session::Session;
use crate::session::code::Called;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

const RANGE: &[Arg] = &[Arg::pos("RANGE", Kind::Rest, "ADDR, ADDR L COUNT, or ADDR END; without it, on from the last")];

/// Instructions shown when no length is given.
const DEFAULT: u64 = 8;
/// Most instructions of one function.
const MOST: usize = 1 << 16;
/// Most bytes of one range.
const MOST_BYTES: u64 = 64 << 20;
/// How far from its start a function without recorded bounds is followed, in bytes.
const FAR: u64 = 1 << 20;

/// `u`.
pub const U: Command = Command {
    name: "u",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "disassemble code",
    help: "Eight instructions, or L COUNT, from ADDR on, with what they call and load: managed methods (through stubs and \
           cells too), native modules, strings, types, static fields. Without ADDR it goes on where it ended, and begins at \
           the current thread's instruction. Code the dump lacks comes from the image's file of the same identity (-i, \
           .exepath). !u shows a whole method as SOS does.",
    args: RANGE,
    examples: &[Example { line: "u $CODE", what: "eight instructions" }, Example { line: "u @$ip L3", what: "three" }],
    needs: Needs::Dump,
    returns: RETURNS,
    run: forward,
};

/// `ub`.
pub const UB: Command = Command {
    name: "ub",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "disassemble the code in front of an address",
    help: "The eight instructions, or L COUNT, that end at ADDR: what ran before. They are counted from the start of \
           the function where that is known; elsewhere from a place in front from which instructions lead to ADDR.",
    args: RANGE,
    examples: &[Example { line: "ub @$ip L4", what: "the four before the current instruction" }],
    needs: Needs::Dump,
    returns: RETURNS,
    run: backward,
};

/// `uf`.
pub const UF: Command = Command {
    name: "uf",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "disassemble a whole function",
    help: "The function ADDR is in. A managed method is shown from its start to its end, handlers included, by the tables of \
           the runtime, a native function by the unwind data of its image. Where there are none, code is shown from ADDR on, \
           wherever its jumps lead, until it returns.",
    args: &[Arg::pos("ADDR", Kind::Rest, "address in the function; the current instruction without")],
    examples: &[Example { line: "uf $CODE", what: "a whole method" }],
    needs: Needs::Dump,
    returns: RETURNS,
    run: function,
};

/// What `u` and its kin return.
const RETURNS: Returns =
    Returns::facts(&[Fact::new("missing", "first address whose code is not in the dump", Type::Address)])
        .and(&[&FUNCTIONS, &CODE]);

/// Where it begins, and how far it goes: instructions, or bytes.
struct Wanted {
    start: u64,
    count: Option<u64>,
    bytes: Option<u64>,
}

fn wanted(ctx: &Ctx<'_>, args: &Args) -> Result<Wanted> {
    let typed = args.text("RANGE").or_else(|| args.text("ADDR")).unwrap_or("");
    let mut words = Words::new(typed.split_whitespace());
    let Some(first) = words.expression() else {
        let start = match ctx.settings.code {
            Some((thread, at)) if thread == ctx.settings.thread => at,
            _ => value(ctx, "@$ip")?,
        };
        return Ok(Wanted { start, count: None, bytes: None });
    };
    let mut wanted = Wanted { start: value(ctx, &first)?, count: None, bytes: None };
    let Some(next) = words.peek() else { return Ok(wanted) };
    if let Some(rest) = next.strip_prefix(['L', 'l']) {
        words.take();
        let rest = rest.trim_start_matches('?');
        let number = if rest.is_empty() { words.expression() } else { Some(rest.to_owned()) };
        let number = number.ok_or_else(|| anyhow!("a count is needed behind L"))?;
        wanted.count = Some(value(ctx, &number)?);
    } else {
        let end = value(ctx, &words.expression().unwrap_or_default())?;
        let bytes = end.checked_sub(wanted.start).and_then(|n| n.checked_add(1));
        wanted.bytes = Some(bytes.ok_or_else(|| anyhow!("the range ends at {end:x}, before it starts"))?);
    }
    if !words.rest().is_empty() {
        bail!("unexpected `{}` after the range", words.rest().join(" "));
    }
    Ok(wanted)
}

/// The machine of the dump, or why its code cannot be read.
pub fn machine(session: &Session) -> Result<Machine> {
    let arch = session.dump().arch;
    session.machine().ok_or_else(|| anyhow!("code of {} is not disassembled", arch.name()))
}

/// Says what the code at `address` belongs to, as a debugger does in front of it.
fn headline(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let name = match session.place_of_code(address) {
        Some(Called::Method { name, offset: 0, .. }) => name,
        Some(Called::Method { name, offset, .. }) => format!("{name}+0x{offset:x}"),
        Some(Called::Native(name)) => name,
        _ => return Ok(()),
    };
    let line = format!("{name}:");
    Ok(out.row_as(&FUNCTIONS, &[Cell::Addr(address), Cell::text(name)], line)?)
}

/// What stands in front of code; text has a line of its own.
const FUNCTIONS: Table = Table::new(
    "functions",
    &[
        Col::data("address", Type::Address).titled("first address shown"),
        Col::data("name", Type::Text).titled("the method or symbol it belongs to, and how far behind its start it is"),
    ],
);

/// Why bytes of code are missing.
fn missing(session: &Session, address: u64) -> Outcome {
    let of = session.dump().module_at(address).map_or("it", |m| m.file_name());
    Outcome::Partial(format!(
        "code at {address:x} is not in the dump; give the folder of {of} with -i FOLDER or .exepath"
    ))
}

fn no_code(session: &Session, out: &mut Out, address: u64) -> Result<Outcome> {
    let at = tick(address, session.dump().arch.pointer_size());
    out.fact("missing", Cell::Addr(address), format!("{at} ??              ???"))?;
    Ok(missing(session, address))
}

/// Prints instructions that follow one another.
fn print(
    session: &Session,
    out: &mut Out,
    machine: Machine,
    code: &[Instruction],
    bytes: &dyn Fn(&Instruction) -> Vec<u8>,
) -> Result<()> {
    let mut listing = Listing::new(session, machine, code);
    for (n, i) in code.iter().enumerate() {
        session.watch.cancel.check()?;
        listing.row(out, i, &bytes(i), code.get(n + 1), Place::default())?;
    }
    Ok(())
}

/// The bytes of an instruction out of those from `start` on.
fn part(bytes: &[u8], start: u64, i: &Instruction) -> Vec<u8> {
    let at = i.address.wrapping_sub(start) as usize;
    bytes.get(at..at + usize::from(i.length)).unwrap_or(&[]).to_vec()
}

fn forward(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let machine = machine(session)?;
    let Wanted { start, count, bytes } = wanted(ctx, args)?;
    let count = if bytes.is_some() { u64::MAX } else { count.unwrap_or(DEFAULT) };
    let most = bytes.unwrap_or_else(|| count.saturating_mul(LONGEST as u64)).min(MOST_BYTES);
    let all = session.code_bytes(start, most as usize);
    if all.is_empty() {
        return no_code(session, ctx.out, start);
    }
    let code: Vec<Instruction> = machine.instructions(&all, start).take(count as usize).collect();
    headline(session, ctx.out, start)?;
    print(session, ctx.out, machine, &code, &|i| part(&all, start, i))?;
    let next = code.last().map_or(start, Instruction::next);
    ctx.settings.code = Some((ctx.settings.thread, next));
    let wanted = bytes.map_or(code.len() as u64 >= count, |n| next.wrapping_sub(start) >= n);
    Ok(if wanted { Outcome::Complete } else { missing(session, next) })
}

fn backward(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let machine = machine(session)?;
    let Wanted { start: end, count, bytes } = wanted(ctx, args)?;
    if bytes.is_some() {
        bail!("ub takes ADDR, or ADDR L COUNT");
    }
    let count = count.unwrap_or(DEFAULT).min(MOST as u64) as usize;
    let Some((from, all)) = before(session, machine, end, count) else {
        return no_code(session, ctx.out, end.saturating_sub(machine.step()));
    };
    let code: Vec<Instruction> = machine.instructions(&all, from).collect();
    let shown = code.get(code.len().saturating_sub(count)..).unwrap_or(&[]);
    if let Some(first) = shown.first() {
        headline(session, ctx.out, first.address)?;
    }
    print(session, ctx.out, machine, shown, &|i| part(&all, from, i))?;
    Ok(Outcome::Complete)
}

/// A place in front of `end` from which instructions lead to it, and the bytes between: `count` of them, or all of the
/// method.
fn before(session: &Session, machine: Machine, end: u64, count: usize) -> Option<(u64, Vec<u8>)> {
    let of_function = || {
        let last = end.checked_sub(1)?;
        let managed = session.clr().ok().and_then(|c| c.code().at(last));
        let start = match managed {
            Some(at) => at.function.map_or(at.start, |f| f.start),
            None => session.native().function_at(last)?.0,
        };
        (end.checked_sub(start)? < MOST_BYTES && start < end).then_some(start)
    };
    let whole = |from: u64| {
        let bytes = session.code_bytes(from, usize::try_from(end - from).ok()?);
        (bytes.len() as u64 == end - from).then_some((from, bytes))
    };
    if let Some(found) = of_function().and_then(whole) {
        return Some(found);
    }
    // The farther away they begin, the surer instructions fall into step.
    let farthest = (count as u64 + 16).saturating_mul(LONGEST as u64).min(MOST_BYTES);
    let mut distance = if machine.step() == 4 { count as u64 * 4 } else { farthest };
    while distance > 0 {
        if let Some((from, bytes)) = end.checked_sub(distance).and_then(whole) {
            let steps: Vec<Instruction> = machine.instructions(&bytes, from).collect();
            let fits = steps.last().is_some_and(|i| i.next() == end && i.text != "???");
            if fits && (steps.len() >= count || distance < farthest / 2) {
                return Some((from, bytes));
            }
        }
        distance -= machine.step();
    }
    None
}

fn function(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let machine = machine(session)?;
    let start = wanted(ctx, args)?.start;
    if let Some((begin, length)) = bounds(session, start)? {
        let all = session.code_bytes(begin, length as usize);
        if all.is_empty() {
            return no_code(session, ctx.out, begin);
        }
        let code: Vec<Instruction> = machine.instructions(&all, begin).collect();
        headline(session, ctx.out, begin)?;
        print(session, ctx.out, machine, &code, &|i| part(&all, begin, i))?;
        let whole = all.len() as u64 == length;
        return Ok(if whole { Outcome::Complete } else { missing(session, begin + all.len() as u64) });
    }
    let (code, lacking) = reached(session, machine, start)?;
    if code.is_empty() {
        return no_code(session, ctx.out, start);
    }
    headline(session, ctx.out, start)?;
    let bytes: BTreeMap<u64, Vec<u8>> =
        code.iter().map(|i| (i.address, session.code_bytes(i.address, usize::from(i.length)))).collect();
    print(session, ctx.out, machine, &code, &|i| bytes.get(&i.address).cloned().unwrap_or_default())?;
    Ok(match lacking {
        Some(why) => Outcome::Partial(why),
        None => Outcome::Complete,
    })
}

/// Where the function around `address` begins, and its bytes, where tables tell; of a managed method an error when they do
/// not.
fn bounds(session: &Session, address: u64) -> Result<Option<(u64, u64)>> {
    let managed = session.clr().ok().and_then(|c| c.code().at(address)).filter(|a| a.main.is_some());
    if let Some(at) = managed {
        let of_main = || at.main.and_then(|m| m.end?.checked_sub(m.start));
        let length = at.length.map(u64::from).or_else(of_main);
        let length = length.ok_or_else(|| anyhow!("how long the method is does not stand in the dump"))?;
        return Ok(Some((at.start, length.min(MOST_BYTES))));
    }
    let native = session.native().function_at(address);
    let sane = |&(begin, end): &(u64, u64)| (begin..end).contains(&address) && end - begin <= MOST_BYTES;
    Ok(native.filter(sane).map(|(begin, end)| (begin, end - begin)))
}

/// Instructions that are reached from `start` by running on and jumping, by address; and why some are not.
fn reached(session: &Session, machine: Machine, start: u64) -> Result<(Vec<Instruction>, Option<String>)> {
    let mut found: BTreeMap<u64, Instruction> = BTreeMap::new();
    let (mut open, mut lacking) = (vec![start], None);
    while let Some(mut at) = open.pop() {
        session.watch.cancel.check()?;
        while !found.contains_key(&at) {
            if found.len() >= MOST {
                return Ok((
                    found.into_values().collect(),
                    Some(format!("only the first {MOST} instructions are shown")),
                ));
            }
            let Some(i) = machine.decode(&session.code_bytes(at, LONGEST), at) else {
                lacking = Some(format!("code at {at:x} is not in the dump"));
                break;
            };
            let (next, flow, target) = (i.next(), i.flow, i.target);
            found.insert(at, i);
            if let (Flow::Jump | Flow::Branch, Some(Source::Value(to))) = (flow, target)
                && to.abs_diff(start) < FAR
            {
                open.push(to);
            }
            if matches!(flow, Flow::Jump | Flow::End) {
                break;
            }
            at = next;
        }
    }
    Ok((found.into_values().collect(), lacking))
}
