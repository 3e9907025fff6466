//! `!vprot`, `!vadump`: regions as the operating system describes them.

use anyhow::{Result, bail};

use super::{protect, tick};
use crate::dump::{Dump, MapEntry};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

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
    returns: Returns::facts(&[Fact::new("address", "the address asked for", Type::Address)]).and(&[&REGIONS]),
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
    returns: Returns::tables(&[&REGIONS]),
    run: vadump,
};

/// Regions; text has lines of each.
const REGIONS: Table = Table::new(
    "regions",
    &[
        Col::data("base", Type::Address).titled("where it begins; with an address, the page of that"),
        Col::data("size", Type::Bytes).titled("bytes from there to its end"),
        Col::data("allocation_base", Type::Address).titled("where the allocation begins that it is a part of"),
        Col::data("allocation_protect", Type::Text).titled("protection of the allocation when it was made"),
        Col::data("allocation_protect_bits", Type::Hex).titled("the same as bits"),
        Col::data("state", Type::Text).titled("MEM_COMMIT, MEM_RESERVE or MEM_FREE"),
        Col::data("state_bits", Type::Hex).titled("the same as bits"),
        Col::data("protect", Type::Text).titled("protection"),
        Col::data("protect_bits", Type::Hex).titled("the same as bits"),
        Col::data("type", Type::Text).titled("MEM_PRIVATE, MEM_MAPPED or MEM_IMAGE"),
        Col::data("type_bits", Type::Hex).titled("the same as bits"),
    ],
);

/// A region from `base` on.
fn row(e: &MapEntry, base: u64) -> [Cell<'static>; 11] {
    let (state, kind) = (protect::state(e.state), protect::kind(e.kind));
    let bits = |n: u32| Cell::Hex(u64::from(n));
    [
        Cell::Addr(base),
        Cell::Num(e.end.saturating_sub(base)),
        Cell::Addr(e.allocation_base),
        protect::cell(protect::name(e.allocation_protect)),
        bits(e.allocation_protect),
        Cell::text(state.1),
        bits(state.0),
        protect::cell(protect::of(e)),
        bits(e.protect),
        protect::kind_cell(e.kind),
        bits(kind.0),
    ]
}

fn vprot(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let Some(address) = args.number("ADDR") else { bail!("an address is needed") };
    let Some(e) = dump.map_at(address) else {
        let shown = tick(address, dump.arch.pointer_size());
        ctx.out.datum("address", &Cell::Addr(address));
        ctx.out.note(format!("{shown} lies in no region the dump describes"))?;
        return Ok(Outcome::Empty);
    };
    ctx.out.datum("address", &Cell::Addr(address));
    // The system answers for the page asked and what follows it.
    let base = (address & !(dump.process.page_size.max(1) - 1)).max(e.start);
    ctx.out.data_row(&REGIONS, &row(e, base))?;
    for line in block(dump, e, base, true, 19) {
        ctx.out.facts(&[], line)?;
    }
    Ok(Outcome::Complete)
}

fn vadump(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    for e in dump.map.iter().filter(|e| e.state != crate::dump::MapState::Free) {
        session.watch.cancel.check()?;
        ctx.out.data_row(&REGIONS, &row(e, e.start))?;
        for line in block(dump, e, e.start, args.has("v"), if args.has("v") { 19 } else { 13 }) {
            ctx.out.facts(&[], line)?;
        }
        ctx.out.note("")?;
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
