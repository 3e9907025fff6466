//! `!ehinfo`: what a method tries and what handles it.

use anyhow::Result;

use super::dumpmd;
use super::gcinfo::code_at;
use crate::clr::Clr;
use crate::clr::code::clauses::{Caught, Clause, ClauseKind};
use crate::clr::code::lookup::{CodeAt, CodeKind};
use crate::clr::image::metadata::sig::SigNames;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!ehinfo ADDR`.
pub const EHINFO: Command = Command {
    name: "ehinfo",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "exception clauses of compiled code: what is tried, what handles",
    help: "Takes an address in compiled code or a MethodDesc. Each clause has the code it tries and the code that handles, as \
           addresses and as offsets in the method: TYPED catches the type named (... for everything), FILTER asks code \
           whether it does, FINALLY runs on every way out, FAULT when an exception leaves. Clauses are asked in this \
           order. A (duplicate) is a copy for handlers nested in what it tries.",
    args: &[Arg::pos("ADDR", Kind::Address, "address in code, or MethodDesc").required()],
    examples: &[Example { line: "!ehinfo $CODE", what: "the method an address is in" }],
    needs: Needs::CoreClr,
    returns: Returns::tables(&[&CLAUSES]).with(&[&dumpmd::METHOD]),
    run: ehinfo,
};

const CLAUSES: Table = Table::new(
    "clauses",
    &[
        Col::right("Clause", "clause", 6).of(Type::Number),
        Col::left("Kind", "kind", 8).of(Type::Text),
        Col::left("Type", "type", 20).of(Type::TypeName),
        Col::data("note", Type::Text).titled("(duplicate) or (cloned finally)"),
        Col::right("Try", "try_start", 16).of(Type::Address),
        Col::right("To", "try_end", 16).of(Type::Address),
        Col::data("try_from", Type::Hex).titled("offset of the first"),
        Col::data("try_to", Type::Hex).titled("offset of the second"),
        Col::right("Handler", "handler_start", 16).of(Type::Address),
        Col::right("To", "handler_end", 16).of(Type::Address),
        Col::data("handler_from", Type::Hex).titled("offset of the first"),
        Col::data("handler_to", Type::Hex).titled("offset of the second"),
        Col::right("Filter", "filter", 16).of(Type::Address),
        Col::data("filter_at", Type::Hex).titled("its offset"),
    ],
);

fn ehinfo(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let at = code_at(clr, args.number("ADDR").unwrap_or(0))?;
    let out = &mut *ctx.out;
    if let Some(md) = at.method.and_then(|m| clr.method_desc(m)) {
        dumpmd::method_desc(out, &md)?;
        dumpmd::show(clr, out, &md, Some((at.start, at.kind != CodeKind::Jit)))?;
        out.note("")?;
    }
    let clauses = clr.code().clauses(&at);
    for (i, c) in clauses.items.iter().enumerate() {
        clause(clr, out, &at, (i as u64, c))?;
    }
    if clauses.items.is_empty() && clauses.partial.is_none() {
        out.note("No EH info available")?;
    }
    Ok(match clauses.partial {
        None => Outcome::Complete,
        Some(why) => Outcome::Partial(why),
    })
}

/// An address with a grave accent between its halves.
fn tick(clr: &Clr, address: u64) -> String {
    if clr.ptr_size() == 8 { format!("{:08x}`{:08x}", address >> 32, address as u32) } else { format!("{address:08x}") }
}

/// The type a clause catches, as SOS names it.
pub fn caught(clr: &Clr, at: &CodeAt, kind: ClauseKind) -> Option<String> {
    let ClauseKind::Catch(of) = kind else { return None };
    Some(match of {
        Caught::Type(handle) => clr.type_name(handle).to_string(),
        Caught::Token(token) if token & 0x00FF_FFFF == 0 => "...".into(),
        Caught::Token(token) => {
            let module = clr.module(at.module);
            let named = module.metadata(clr).map(|m| SigNames::token(&**m, token));
            named.unwrap_or_else(|| format!("{token:08x}"))
        }
    })
}

/// What SOS calls a kind of clause.
pub fn kind(kind: ClauseKind) -> &'static str {
    match kind {
        ClauseKind::Catch(_) => "TYPED",
        ClauseKind::Filter(_) => "FILTER",
        ClauseKind::Finally => "FINALLY",
        ClauseKind::Fault => "FAULT",
    }
}

fn clause(clr: &Clr, out: &mut Out, at: &CodeAt, (index, c): (u64, &Clause)) -> Result<()> {
    let kind = kind(c.kind);
    let note = match c.duplicate {
        true if c.is_cloned_finally() => "(cloned finally)",
        true => "(duplicate)",
        false => "",
    };
    let place = |offset: u32| at.start.saturating_add(offset.into());
    let filter = if let ClauseKind::Filter(offset) = c.kind { Some(offset) } else { None };
    let catches = caught(clr, at, c.kind);
    let text = |t: &str| if t.is_empty() { Cell::None } else { Cell::text(t.to_owned()) };
    let cells = [
        Cell::Num(index),
        Cell::text(kind),
        text(catches.as_deref().unwrap_or("")),
        text(note),
        Cell::Addr(place(c.tried.start)),
        Cell::Addr(place(c.tried.end)),
        Cell::Hex(c.tried.start.into()),
        Cell::Hex(c.tried.end.into()),
        Cell::Addr(place(c.handler.start)),
        Cell::Addr(place(c.handler.end)),
        Cell::Hex(c.handler.start.into()),
        Cell::Hex(c.handler.end.into()),
        filter.map_or(Cell::None, |f| Cell::Addr(place(f))),
        filter.map_or(Cell::None, |f| Cell::Hex(f.into())),
    ];
    let catches = catches.map_or_else(String::new, |t| format!("catch({t}) "));
    out.row_as(&CLAUSES, &cells, format!("EHHandler {index}: {kind} {catches}{note}"))?;
    let range = |r: &std::ops::Range<u32>| {
        format!("[{}, {}] [{:x}, {:x}]", tick(clr, place(r.start)), tick(clr, place(r.end)), r.start, r.end)
    };
    out.note(format!("Clause:  {}", range(&c.tried)))?;
    out.note(format!("Handler: {}", range(&c.handler)))?;
    if let Some(offset) = filter {
        out.note(format!("Filter: [{}] [{offset:x}]", tick(clr, place(offset))))?;
    }
    Ok(out.note("")?)
}
