//! `!vprot`, `!vadump`: regions as the operating system describes them.

use anyhow::{Result, bail};

use super::{protect, tick};
use crate::dump::{Dump, MapEntry};
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!vprot ADDR`.
pub const VPROT: Command = Command {
    name: "vprot",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "show state, protection and type of the region that holds an address",
    help: "Prints the region as the dump's memory map has it: !address ADDR says also what it is used for.",
    args: &[Arg::pos("ADDR", Kind::Address, "an address in the region").required()],
    examples: &[Example { line: "!vprot @$csp", what: "the region of the stack pointer" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: vprot,
};

/// `!vadump`.
pub const VADUMP: Command = Command {
    name: "vadump",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "list all regions with state, protection and type",
    help: "Prints every region of the dump's memory map, free ranges left out; with -v its allocation too.",
    args: &[Arg::flag("v", "with allocation base and protection")],
    examples: &[Example { line: "!vadump", what: "all regions" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: vadump,
};

const COLUMNS: &[Col] = &[
    Col::left("", "base", 0),
    Col::left("", "allocation_base", 0),
    Col::left("", "allocation_protect", 0),
    Col::left("", "size", 0),
    Col::left("", "state", 0),
    Col::left("", "protect", 0),
    Col::left("", "type", 0),
];

fn row(e: &MapEntry) -> [Cell<'static>; 7] {
    [
        Cell::Addr(e.start),
        Cell::Addr(e.allocation_base),
        Cell::text(protect::name(e.allocation_protect)),
        Cell::Num(e.end - e.start),
        Cell::text(protect::state(e.state).1),
        Cell::text(protect::of(e)),
        Cell::text(protect::kind(e.kind).1),
    ]
}

fn vprot(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let Some(address) = args.number("ADDR") else { bail!("an address is needed") };
    let Some(e) = dump.map_at(address) else {
        let shown = tick(address, dump.arch.pointer_size());
        ctx.out.line(format!("{shown} lies in no region the dump describes"))?;
        return Ok(Outcome::Empty);
    };
    if ctx.out.format() != Format::Text {
        ctx.out.table("region", COLUMNS, false)?;
        ctx.out.row(&row(e))?;
        return Ok(Outcome::Complete);
    }
    // The system answers for the page asked and what follows it.
    let base = (address & !(dump.process.page_size.max(1) - 1)).max(e.start);
    for line in block(dump, e, base, true, 19) {
        ctx.out.line(line)?;
    }
    Ok(Outcome::Complete)
}

fn vadump(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    let text = ctx.out.format() == Format::Text;
    ctx.out.table("regions", COLUMNS, false)?;
    for e in dump.map.iter().filter(|e| e.state != crate::dump::MapState::Free) {
        session.watch.cancel.check()?;
        if !text {
            ctx.out.row(&row(e))?;
            continue;
        }
        for line in block(dump, e, e.start, args.has("v"), if args.has("v") { 19 } else { 13 }) {
            ctx.out.line(line)?;
        }
        ctx.out.line("")?;
    }
    Ok(if dump.map.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// The labelled lines of one region from `base` on; labels are padded to `width`.
fn block(dump: &Dump, e: &MapEntry, base: u64, allocation: bool, width: usize) -> Vec<String> {
    let digits = usize::from(dump.arch.pointer_size()) * 2;
    let pointer = |name: &str, v: u64| format!("{name:width$}{v:0digits$x}");
    let named = |name: &str, n: u32, text: &str| format!("{name:width$}{n:08x}  {text}");
    let (state, kind) = (protect::state(e.state), protect::kind(e.kind));
    let mut lines = vec![pointer("BaseAddress:", base)];
    if allocation {
        lines.push(pointer("AllocationBase:", e.allocation_base));
        lines.push(named("AllocationProtect:", e.allocation_protect, &protect::name(e.allocation_protect)));
    }
    lines.push(pointer("RegionSize:", e.end - base));
    lines.push(named("State:", state.0, state.1));
    lines.push(named("Protect:", e.protect, &protect::of(e)));
    lines.push(named("Type:", kind.0, kind.1));
    lines
}
