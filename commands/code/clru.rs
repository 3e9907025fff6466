//! `!u`: the machine code of a managed method.

use std::collections::VecDeque;

use anyhow::{Result, anyhow, bail};

use super::dumpil::{INSTRUCTIONS, show as show_il};
use super::listing::{CODE, Listing, Place};
use super::unassemble::machine;
use crate::clr::Clr;
use crate::clr::code::clauses::ClauseKind;
use crate::clr::code::debuginfo::DebugInfo;
use crate::clr::code::disasm::Instruction;
use crate::clr::code::gcinfo::{GcInfo, Transition};
use crate::clr::code::lookup::{CodeAt, CodeKind};
use crate::clr::il::names;
use crate::clr::il::text::{Line, lines};
use crate::clr::image::metadata::debug::SourceLine;
use crate::commands::objects::gcinfo::GCINFO;
use crate::commands::objects::{ehinfo, gcinfo};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!u METHOD`.
pub const CLRU: Command = Command {
    name: "u",
    prefix: Prefix::Bang,
    aliases: &["clru", "mu", "muf"],
    group: Group::Objects,
    summary: "disassemble a managed method",
    help: "ADDR is a MethodDesc, or an address in compiled code, which is marked >>> in the listing. Behind an instruction \
           stands what it calls (managed methods by name, through stubs and cells too; native code by module and offset) or \
           loads: strings, MethodTables, objects, static fields. Lines of the source stand in front of their code where a \
           portable PDB is at hand. -il shows the IL in front of the code made of it. Code the dump lacks comes from the \
           image's file of the same identity (-i, .exepath).",
    args: &[
        Arg::pos("ADDR", Kind::Address, "MethodDesc, or address in code").required(),
        Arg::flag("n", "without lines of the source"),
        Arg::flag("o", "with the offset of each instruction in the method"),
        Arg::flag("il", "with the IL"),
        Arg::flag("gcinfo", "with what is live where, as !gcinfo shows it"),
        Arg::flag("ehinfo", "with where exception clauses and handlers begin and end"),
        Arg::flag("map", "first which IL which code was made of"),
    ],
    examples: &[
        Example { line: "!u $CODE", what: "the method an address is in" },
        Example { line: "!u -o -il -map $CODE", what: "with offsets, IL and what belongs together" },
        Example { line: "!u -gcinfo -ehinfo $CODE", what: "with live references and exception clauses" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("name", "type, name and parameters of the method", Type::Text),
        Fact::new("method_desc", "its MethodDesc", Type::Address),
        Fact::new("jitted", "the JIT made the code; else it is precompiled", Type::Bool),
        Fact::new("code", "where the code begins", Type::Address),
        Fact::new("size", "bytes of code, handlers included", Type::Bytes),
    ])
    .with(&[&GCINFO.returns])
    .and(&[&MAP, &EDGES, &CODE, &IL]),
    run: clru,
};

/// Which IL which code was made of.
const MAP: Table = Table::new(
    "map",
    &[
        Col::data("il_offset", Type::Hex).titled("IL offset"),
        Col::data("start", Type::Address).titled("where code of it begins"),
        Col::data("end", Type::Address).titled("where it ends"),
    ],
);

/// IL between the instructions: the table of `!dumpil` under another name.
pub const IL: Table = Table { name: "il", ..INSTRUCTIONS };

fn clru(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let machine = machine(session)?;
    let address = args.number("ADDR").unwrap_or(0);
    let at = code_of(clr, address)?;
    let Some(length) = at.length else { bail!("how long the code at {:x} is does not stand in the dump", at.start) };
    let kind = if at.kind == CodeKind::Jit { "Normal JIT generated code" } else { "preJIT generated code" };
    ctx.out.fact("jitted", Cell::Bool(at.kind == CodeKind::Jit), kind)?;
    if let Some(md) = at.method {
        ctx.out.datum("method_desc", &Cell::Addr(md));
    }
    let name = clr.code().name(&at).unwrap_or_else(|| "method not known".into());
    ctx.out.fact("name", Cell::text(&name), &name)?;
    let info = clr.code().debug_info(&at);
    if args.has("map") {
        map(ctx.out, &at, length, info.as_ref())?;
    }
    let facts = [("code", Cell::Addr(at.start)), ("size", Cell::Num(length.into()))];
    ctx.out.facts(&facts, format!("Begin {:0w$X}, size {length:x}", at.start, w = digits()))?;
    let bytes = session.code_bytes(at.start, length as usize);
    let code: Vec<Instruction> = machine.instructions(&bytes, at.start).collect();
    let mut source = Sources { clr, at: &at, info: info.as_ref(), last: None };
    let mut il = if args.has("il") { Il::of(clr, &at) } else { Il::default() };
    let mut listing = Listing::new(session, machine, &code);
    let mut live = if args.has("gcinfo") { Liveness::of(ctx.out, clr, &at)? } else { Liveness::default() };
    let edges = if args.has("ehinfo") { edges(clr, &at) } else { Vec::new() };
    for (n, i) in code.iter().enumerate() {
        session.watch.cancel.check()?;
        let offset = i.address - at.start;
        let (il_offset, line) = source.at(offset as u32);
        if !args.has("n")
            && let Some(new) = source.changed(line.as_ref())
        {
            ctx.out.note(new)?;
        }
        il.show(ctx.out, offset as u32, info.as_ref())?;
        live.through(ctx.out, offset as u32)?;
        edges.iter().filter(|e| e.0 == offset as u32).try_for_each(|e| e.1.print(ctx.out, e.0))?;
        let part = bytes.get(offset as usize..offset as usize + usize::from(i.length)).unwrap_or(&[]);
        let place = Place {
            offset: Some(offset),
            show_offset: args.has("o"),
            asked: i.address == address,
            il: il_offset,
            line,
        };
        listing.row(ctx.out, i, part, code.get(n + 1), place)?;
    }
    if bytes.len() < length as usize {
        let module = clr.module(at.module);
        let why = module.image_file(clr).err().unwrap_or("its file ends before");
        return Ok(Outcome::Partial(format!(
            "{} of {length} bytes of the code are not at hand: {why}",
            length as usize - bytes.len()
        )));
    }
    // A handler may end where the code does.
    live.through(ctx.out, u32::MAX)?;
    edges.iter().filter(|e| e.0 == length).try_for_each(|e| e.1.print(ctx.out, e.0))?;
    Ok(match il.missing.or(live.missing) {
        Some(why) => Outcome::Partial(why),
        None => Outcome::Complete,
    })
}

/// The code an address stands for: of a method, or around it.
fn code_of(clr: &Clr, address: u64) -> Result<CodeAt> {
    let compiled = |at: &CodeAt| !matches!(at.kind, CodeKind::Stub(_));
    if let Some(md) = clr.valid_method_desc(address).or_else(|| clr.method_of_stub(address)) {
        let start = clr
            .code()
            .entry_of(&md)
            .ok_or_else(|| anyhow!("Not jitted yet: no code of {} is known", clr.method_name(&md)))?;
        return clr.code().at(start).filter(compiled).ok_or_else(|| anyhow!("no method begins at {start:x}"));
    }
    let found = clr.code().at(address).filter(compiled);
    found.ok_or_else(|| anyhow!("Unmanaged code: {address:x} is in no method that is known; u disassembles any code"))
}

fn map(out: &mut Out, at: &CodeAt, length: u32, info: Option<&DebugInfo>) -> Result<()> {
    let Some(info) = info else {
        out.note("Failed to get IL address map, proceeding without IL map")?;
        return Ok(());
    };
    for (n, b) in info.bounds.iter().enumerate() {
        let end = info.bounds.get(n + 1).map_or(length, |next| next.native);
        let (start, end) = (at.start + u64::from(b.native), at.start + u64::from(end));
        // The marks of prolog, epilog and no IL are negative.
        let line = format!("{:08x} {start:0w$X} {end:0w$X}", b.il as u32, w = digits());
        out.row_as(&MAP, &[Cell::Hex(u64::from(b.il as u32)), Cell::Addr(start), Cell::Addr(end)], line)?;
    }
    Ok(())
}

/// Source lines along the code.
struct Sources<'a> {
    clr: &'a Clr,
    at: &'a CodeAt,
    info: Option<&'a DebugInfo>,
    /// The line said last.
    last: Option<(String, u32)>,
}

impl Sources<'_> {
    /// IL offset and source line of the instruction at `offset`.
    fn at(&self, offset: u32) -> (Option<u32>, Option<SourceLine>) {
        let il = self.info.and_then(|i| i.il_of_instruction(offset)).and_then(|il| u32::try_from(il).ok());
        (il, il.and_then(|il| self.clr.code().line(self.at, il)))
    }

    /// What is said where the line is another than that before.
    fn changed(&mut self, line: Option<&SourceLine>) -> Option<String> {
        let line = line?;
        let key = (line.document.to_string(), line.line);
        if self.last.as_ref() == Some(&key) {
            return None;
        }
        let text = format!("\n{} @ {}:", key.0, key.1);
        self.last = Some(key);
        Some(text)
    }
}

/// IL along the code: lines that were not yet shown, each with its offset.
#[derive(Default)]
struct Il {
    lines: Vec<(u32, Line)>,
    missing: Option<String>,
}

impl Il {
    fn of(clr: &Clr, at: &CodeAt) -> Self {
        let missing = |why: &str| Il { lines: Vec::new(), missing: Some(format!("no IL: {why}")) };
        let Some(token) = at.token else { return missing("the method has no metadata") };
        let module = clr.module(at.module);
        let Some(metadata) = module.metadata(clr) else { return missing("the metadata of its module is not at hand") };
        let found = match clr.il_of_row(&module, metadata, token & 0x00FF_FFFF) {
            Ok(found) => found,
            Err(why) => return missing(&why),
        };
        let name = |token| names::of_token(metadata, token);
        let class = |token| names::plain_type(metadata, token);
        let mut all = Vec::new();
        let mut next = 0;
        for line in lines(&found.body, &name, &class) {
            let offset = match &line {
                Line::Instruction { instruction, .. } => {
                    next = instruction.next;
                    instruction.offset
                }
                Line::Block(_) => next,
            };
            all.push((offset, line));
        }
        Il { lines: all, missing: None }
    }

    /// Shows the IL of the stretch of code that begins at `offset`.
    fn show(&mut self, out: &mut Out, offset: u32, info: Option<&DebugInfo>) -> Result<()> {
        let Some(info) = info.filter(|_| !self.lines.is_empty()) else { return Ok(()) };
        let here = info.bounds.iter().filter(|b| b.native == offset).filter_map(|b| u32::try_from(b.il).ok());
        for start in here.collect::<Vec<_>>() {
            // Up to the next place that has code of its own.
            let ends = info.bounds.iter().filter_map(|b| u32::try_from(b.il).ok()).filter(|&il| il > start);
            let end = ends.min().unwrap_or(u32::MAX);
            let (shown, left): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.lines).into_iter().partition(|(at, _)| (start..end).contains(at));
            self.lines = left;
            let shown: Vec<Line> = shown.into_iter().map(|(_, line)| line).collect();
            show_il(out, &IL, &shown)?;
        }
        Ok(())
    }
}

/// What is live along the code.
#[derive(Default)]
struct Liveness {
    info: Option<GcInfo>,
    changes: VecDeque<Transition>,
    /// Whether a safe point was shown.
    points: bool,
    missing: Option<String>,
}

impl Liveness {
    /// Reads it, and prints what holds for the whole method.
    fn of(out: &mut Out, clr: &Clr, at: &CodeAt) -> Result<Self> {
        let Some(info) = clr.code().gc_info(at) else {
            return Ok(Self {
                missing: Some("the GC information is not at hand, or of another format".into()),
                ..Self::default()
            });
        };
        gcinfo::header(out, clr.dump.arch, &info)?;
        gcinfo::untracked(out, &info)?;
        let changes = info.transitions();
        let missing = changes.is_none().then(|| "what is live where is not whole in the dump, or damaged".to_owned());
        Ok(Self { changes: changes.unwrap_or_default().into(), info: Some(info), points: false, missing })
    }

    /// Prints what changes up to the instruction at `offset`.
    fn through(&mut self, out: &mut Out, offset: u32) -> Result<()> {
        let Some(info) = &self.info else { return Ok(()) };
        let mut here = Vec::new();
        while self.changes.front().is_some_and(|t| t.offset <= offset) {
            here.extend(self.changes.pop_front());
        }
        gcinfo::changed(out, info, &here, &mut self.points)
    }
}

/// Where clauses and handlers begin and end.
const EDGES: Table = Table::new(
    "clauses",
    &[
        Col::data("offset", Type::Hex).titled("offset in the method"),
        Col::data("clause", Type::Number).titled("number of the clause"),
        Col::data("kind", Type::Text).titled("its kind"),
        Col::data("edge", Type::Text).titled("what begins or ends there"),
        Col::data("type", Type::TypeName).titled("the type it catches"),
    ],
);

/// Something of a clause that begins or ends.
struct Mark {
    clause: u64,
    kind: &'static str,
    edge: &'static str,
    catches: Option<String>,
}

impl Mark {
    fn print(&self, out: &mut Out, offset: u32) -> Result<()> {
        let catches = self.catches.as_ref().map_or_else(String::new, |t| format!(" catch({t}) "));
        let line = if self.kind == CLONED {
            format!("EHHandler {}: {CLONED} {}", self.clause, self.edge)
        } else {
            format!("EHHandler {}: {} {}{catches}", self.clause, self.kind, self.edge)
        };
        let cells = [
            Cell::Hex(offset.into()),
            Cell::Num(self.clause),
            Cell::text(self.kind),
            Cell::text(self.edge),
            Cell::maybe(self.catches.as_deref()),
        ];
        Ok(out.row_as(&EDGES, &cells, line)?)
    }
}

/// The kind of a finally block that stands where nothing was thrown.
const CLONED: &str = "CLONED FINALLY";

/// Where clauses and handlers begin and end, in the order in which they are said: at one place those end first that are
/// nested deepest, and those begin first that are not.
fn edges(clr: &Clr, at: &CodeAt) -> Vec<(u32, Mark)> {
    let clauses = clr.code().clauses(at).items;
    let (mut begins, mut ends, mut inner) = (Vec::new(), Vec::new(), Vec::new());
    for (n, c) in clauses.iter().enumerate() {
        let mark = |edge, catches: Option<String>| Mark { clause: n as u64, kind: ehinfo::kind(c.kind), edge, catches };
        if c.is_cloned_finally() {
            let mark = |edge| Mark { clause: n as u64, kind: CLONED, edge, catches: None };
            inner.push((c.handler.end, mark("END")));
            begins.push((c.handler.start, mark("BEGIN")));
        }
        if c.duplicate {
            continue;
        }
        let catches = ehinfo::caught(clr, at, c.kind);
        ends.push((c.tried.end, mark("CLAUSE END", None)));
        ends.push((c.handler.end, mark("HANDLER END", None)));
        // These are turned round below.
        if let ClauseKind::Filter(filter) = c.kind {
            begins.push((filter, mark("FILTER BEGIN", None)));
        }
        begins.push((c.handler.start, mark("HANDLER BEGIN", catches.clone())));
        begins.push((c.tried.start, mark("CLAUSE BEGIN", catches)));
    }
    inner.extend(ends);
    inner.extend(begins.into_iter().rev());
    inner
}
