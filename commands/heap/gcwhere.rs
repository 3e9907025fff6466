//! `!gcwhere`: heap, segment and generation of an address. `!listnearobj`: the objects around it.

use anyhow::Result;

use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!gcwhere ADDR`.
pub const GCWHERE: Command = Command {
    name: "gcwhere",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "heap, segment and generation of an address",
    help: "Says in which heap, segment and generation ADDR lies, with the segment's allocated, committed and reserved \
           ranges.",
    args: &[Arg::pos("ADDR", Kind::Object, "any address").required()],
    examples: &[Example { line: "!gcwhere $OBJECT", what: "how old is it" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&WHERE]),
    run: gcwhere,
};

/// Where an address lies. Text shows the ranges with both ends in one column.
const WHERE: Table = Table::new(
    "where",
    &[
        Col::left("Address", "address", 16).of(Type::Address),
        Col::left("Heap", "heap", 6).of(Type::Count),
        Col::left("Segment", "segment", 16).of(Type::Address),
        Col::left("Generation", "generation", 10),
        Col::left("Allocated", "allocated_start", 25).of(Type::Address),
        Col::data("allocated_end", Type::Address).titled("end of what is allocated"),
        Col::left("Committed", "committed_start", 25).of(Type::Address),
        Col::data("committed_end", Type::Address).titled("end of what is committed"),
        Col::left("Reserved", "reserved_start", 25).of(Type::Address),
        Col::data("reserved_end", Type::Address).titled("end of what is reserved only"),
    ],
);

/// `!listnearobj ADDR`.
pub const LISTNEAROBJ: Command = Command {
    name: "listnearobj",
    prefix: Prefix::Bang,
    aliases: &["lno"],
    group: Group::Heap,
    summary: "the objects before, at and behind an address",
    help: "For an address inside an object or gap: the object before it, the one it is in, the one behind, and whether the \
           three are consistent with each other.",
    args: &[Arg::pos("ADDR", Kind::Address, "any address in the GC heap").required()],
    examples: &[Example { line: "!lno $OBJECT", what: "its neighbours" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("consistent", "each object ends where the next begins", Type::Bool)])
        .and(&[&NEAR]),
    run: near,
};

/// The objects around an address.
const NEAR: Table = Table::new(
    "near",
    &[
        Col::left("", "which", 8).titled("before, current or next"),
        Col::right("", "address", 17).of(Type::Address),
        Col::left("", "size", 34).of(Type::Bytes),
        Col::left("", "type", 0).of(Type::TypeName),
    ],
);

fn gcwhere(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let address = args.number("ADDR").unwrap_or(0);
    let heap = ctx.session()?.heap()?;
    let inside = |s: &&crate::heap::Segment| (s.base()..s.reserved.max(s.end)).contains(&address);
    let Some(s) = heap.segment_at(address).or_else(|| heap.segments.iter().find(inside)) else {
        ctx.out.note(format!("Address {address:x} not found in the managed heap."))?;
        return Ok(Outcome::Empty);
    };
    let range = |a: u64, b: u64| Cell::shown(format!("{a:x}-{b:x}"), Cell::Addr(a));
    ctx.out.open(&WHERE)?;
    ctx.out.row(&[
        Cell::Addr(address),
        Cell::Num(u64::from(s.heap)),
        Cell::Addr(s.record),
        Cell::text(s.generation(address).short()),
        range(s.start, s.end),
        Cell::Addr(s.end),
        range(s.base(), s.committed),
        Cell::Addr(s.committed),
        range(s.committed, s.reserved),
        Cell::Addr(s.reserved),
    ])?;
    Ok(Outcome::Complete)
}

fn near(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let walker = session.walker()?;
    let Some(segment) = walker.heap.segment_at(address) else {
        ctx.out.note(format!("Address {address:x} not found in the managed heap."))?;
        return Ok(Outcome::Empty);
    };
    let ids = &session.index()?.ids;
    let inside = |a: &u64| (segment.start..segment.end).contains(a);
    let current = ids.start_before(address).filter(inside);
    let before = current.and_then(|c| c.checked_sub(1)).and_then(|a| ids.start_before(a)).filter(inside);
    let next = ids.start_after(current.map_or(address, |c| c + 1)).filter(inside);
    ctx.out.open_bare(&NEAR)?;
    for (shown, which, at) in [("Before:", "before", before), ("Current:", "current", current), ("Next:", "next", next)]
    {
        let Some(o) = at.and_then(|a| walker.object_at(a)) else { continue };
        let name = session.object_name(o.address);
        let size = Cell::As(format!("{} (0x{:x})", thousands(o.size), o.size).into(), o.size);
        let which = Cell::shown(shown, Cell::text(which));
        ctx.out.row(&[which, Cell::Addr(o.address), size, Cell::text(&*name)])?;
    }
    let sound = consistent(session, [before, current, next])?;
    let line = format!("Heap local consistency {}.", if sound { "confirmed" } else { "not confirmed" });
    ctx.out.fact("consistent", Cell::Bool(sound), line)?;
    Ok(Outcome::Complete)
}

/// Whether each object ends where the next begins, allocation contexts in between allowed.
fn consistent(session: &Session, around: [Option<u64>; 3]) -> Result<bool> {
    let walker = session.walker()?;
    let starts: Vec<u64> = around.into_iter().flatten().collect();
    Ok(starts.windows(2).all(|w| {
        let Some(o) = walker.object_at(w[0]) else { return false };
        let end = w[0] + o.size.next_multiple_of(8);
        let ptr = u64::from(walker.clr.ptr_size());
        end == w[1] || walker.heap.contexts.iter().any(|c| c.0 == end && c.1 + 3 * ptr == w[1])
    }))
}
