//! `!gcinfo`: where compiled code keeps references, as its GC information says.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::gcinfo::{Base, GcInfo, Generics, Header, Place, Slot, Transition, register_name};
use crate::clr::code::lookup::{CodeAt, CodeKind};
use crate::dump::Arch;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!gcinfo ADDR`.
pub const GCINFO: Command = Command {
    name: "gcinfo",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "where compiled code keeps references: registers and stack slots, by offset",
    help: "Takes an address in compiled code or a MethodDesc. Slots that are live throughout come first (Untracked). A call \
           after which references are live is a safe point, named by its return address; code that can be interrupted \
           anywhere has ranges, in which + is what becomes live and - what no longer is. Offsets count from the start of \
           the method, in hexadecimal. The format is read for x64 and arm64.",
    args: &[
        Arg::pos("ADDR", Kind::Address, "address in code, or MethodDesc").required(),
        Arg::flag("legacy", "accepted; there is one reader"),
    ],
    examples: &[Example { line: "!gcinfo $CODE", what: "the method an address is in" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("entry_point", "where the code of the method begins", Type::Address),
        Fact::new("ready_to_run", "the code is precompiled", Type::Bool),
        Fact::new("gc_info", "address of the GC information", Type::Address),
        Fact::new("version", "version of its format", Type::Number),
        Fact::new("prolog_size", "bytes of the prolog, where they are recorded", Type::Bytes),
        Fact::new("gs_cookie", "place of the cookie that guards the stack", Type::Text),
        Fact::new("gs_cookie_valid_from", "offset from which it is there", Type::Hex),
        Fact::new("gs_cookie_valid_to", "offset from which it is not", Type::Hex),
        Fact::new("psp_sym", "slot that keeps the stack pointer of the main body", Type::Text),
        Fact::new("generic_context", "slot of the generic context", Type::Text),
        Fact::new("generic_context_kind", "what it holds", Type::Text),
        Fact::new("varargs", "the method takes a variable number of arguments", Type::Bool),
        Fact::new("frame_pointer", "its frame register", Type::Text),
        Fact::new("report_only_leaf", "a funclet speaks for the main body too", Type::Bool),
        Fact::new("tail_calls", "it has explicit tail calls", Type::Bool),
        Fact::new("parameter_area", "bytes in which arguments are passed on", Type::Bytes),
        Fact::new("return_kind", "what it returns", Type::Text),
        Fact::new("code_size", "bytes of code, funclets included", Type::Bytes),
    ])
    .and(&[&CHANGES]),
    run: gcinfo,
};

/// What becomes live and no longer is.
pub const CHANGES: Table = Table::new(
    "changes",
    &[
        Col::right("Offset", "offset", 8).of(Type::Hex),
        Col::left("Change", "change", 17).of(Type::Text),
        Col::left("Slot", "slot", 12).of(Type::Text),
        Col::left("Interior", "interior", 8).of(Type::Bool),
        Col::left("Pinned", "pinned", 6).of(Type::Bool),
    ],
);

/// The code at an address, or of a MethodDesc.
pub fn code_at(clr: &Clr, address: u64) -> Result<CodeAt> {
    let code = clr.code();
    if let Some(md) = clr.valid_method_desc(address) {
        let entry = code.entry_of(&md).and_then(|e| code.at(e));
        return match entry.filter(|a| !matches!(a.kind, CodeKind::Stub(_))) {
            Some(at) => Ok(at),
            None => bail!("no code of {} is in the dump", clr.method_name(&md)),
        };
    }
    match code.at(address) {
        Some(at) if matches!(at.kind, CodeKind::Stub(_)) => bail!("{address:x} is in a stub of the runtime"),
        Some(at) => Ok(at),
        None => bail!("{address:x} is neither in compiled code that is known nor a MethodDesc"),
    }
}

fn gcinfo(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let at = code_at(clr, args.number("ADDR").unwrap_or(0))?;
    let (out, w) = (&mut *ctx.out, digits());
    out.fact("entry_point", Cell::Addr(at.start), format!("entry point {:0w$X}", at.start))?;
    let precompiled = at.kind != CodeKind::Jit;
    let kind = if precompiled { "preJIT generated code" } else { "Normal JIT generated code" };
    out.fact("ready_to_run", Cell::Bool(precompiled), kind)?;
    if !matches!(clr.dump.arch, Arch::X64 | Arch::Arm64) {
        bail!("GC information is read for x64 and arm64 alone")
    }
    let Some(address) = at.gc_info else { bail!("where its GC information lies is not known") };
    out.fact("gc_info", Cell::Addr(address), format!("GC info {address:0w$X}"))?;
    let Some(info) = clr.code().gc_info(&at) else {
        return Ok(Outcome::Partial(format!("the GC information at {address:x} is not whole in the dump, or damaged")));
    };
    out.datum("version", &Cell::Num(info.encoding.version.into()));
    out.note("Pointer table:")?;
    header(out, clr.dump.arch, &info)?;
    let Some(changes) = info.transitions() else {
        return Ok(Outcome::Partial("what is live where is not whole in the dump, or damaged".into()));
    };
    print(out, &info, &changes)?;
    Ok(Outcome::Complete)
}

/// A distance in hexadecimal with its sign.
fn signed(distance: i32) -> String {
    let sign = if distance < 0 { '-' } else { '+' };
    format!("{sign}{:x}", distance.unsigned_abs())
}

/// Prints what holds for the whole method.
pub fn header(out: &mut Out, arch: Arch, info: &GcInfo) -> Result<()> {
    let h = &info.header;
    if h.generics.is_some() || h.cookie.is_none() {
        out.fact("prolog_size", Cell::Num(h.prolog.into()), format!("Prolog size: {}", h.prolog))?;
    }
    let slot = |out: &mut Out, key: &'static str, title: &str, text: Option<&String>| -> Result<()> {
        let cell = text.map_or(Cell::None, |t| Cell::text(t.clone()));
        Ok(out.fact(key, cell, format!("{title}: {}", text.map_or("<none>", String::as_str)))?)
    };
    let caller = |distance: i32| format!("caller.sp{}", signed(distance));
    slot(out, "gs_cookie", "GS cookie", h.cookie.as_ref().map(|c| caller(c.0)).as_ref())?;
    if let Some((_, valid)) = &h.cookie {
        let facts = [
            ("gs_cookie_valid_from", Cell::Hex(valid.start.into())),
            ("gs_cookie_valid_to", Cell::Hex(valid.end.into())),
        ];
        out.facts(&facts, format!("GS cookie valid range: [{:x};{:x})", valid.start, valid.end))?;
    }
    // On x64 it is where the stack pointer was before anything was allocated, on arm64 the caller's; SOS says both.
    let initial = |d: i32| if arch == Arch::X64 { format!("initial.sp{}", signed(d)) } else { caller(d) };
    slot(out, "psp_sym", "PSPSym", h.psp_sym.map(initial).as_ref())?;
    // Since 10.0 it is counted from the frame register, which SOS does not say.
    let base = |d: i32| match h.frame_register {
        Some(r) if info.encoding.version >= 4 => format!("{}{}", register_name(arch, r), signed(d)),
        _ => caller(d),
    };
    let context = h.generics.map(|g| base(g.0));
    slot(out, "generic_context", "Generics inst context", context.as_ref())?;
    out.note(format!("PSP slot: {}", h.psp_sym.map_or("<none>".into(), caller)))?;
    match (h.generics, context) {
        (Some((_, kind)), Some(at)) => {
            let kind = match kind {
                Generics::MethodDesc => "GENERIC_PARAM_CONTEXT_METHODDESC",
                Generics::MethodTable => "GENERIC_PARAM_CONTEXT_METHODHANDLE",
                Generics::This => "GENERIC_PARAM_CONTEXT_THIS",
            };
            out.fact("generic_context_kind", Cell::text(kind), format!("GenericInst slot: {at} ({kind})"))?;
        }
        _ => out.note("GenericInst slot: <none>")?,
    }
    out.fact("varargs", Cell::Bool(h.varargs), format!("Varargs: {}", u8::from(h.varargs)))?;
    let frame = h.frame_register.map(|r| register_name(arch, r));
    let cell = frame.map_or(Cell::None, Cell::text);
    out.fact("frame_pointer", cell, format!("Frame pointer: {}", frame.unwrap_or("<none>")))?;
    let (key, title) = match arch {
        Arch::Arm64 => ("tail_calls", "Has tailcalls"),
        _ => ("report_only_leaf", "Wants Report Only Leaf"),
    };
    out.fact(key, Cell::Bool(h.leaf_only), format!("{title}: {}", u8::from(h.leaf_only)))?;
    let area = Cell::Num(h.outgoing.into());
    out.fact("parameter_area", area, format!("Size of parameter area: {:x}", h.outgoing))?;
    if let Some(kind) = h.return_kind {
        let kind = return_kind(kind);
        out.fact("return_kind", Cell::text(kind), format!("Return Kind: {kind}"))?;
    }
    Ok(out.fact("code_size", Cell::Num(h.length.into()), format!("Code size: {:x}", h.length))?)
}

/// `ReturnKind` as SOS spells it.
fn return_kind(kind: u32) -> &'static str {
    match kind {
        0 => "Scalar",
        1 => "Object",
        2 => "ByRef",
        3 => "UNSET",
        4 => "{Scalar, Object}",
        8 => "{Scalar, ByRef}",
        5 => "{Object, Object}",
        9 => "{Object, ByRef}",
        6 => "{ByRef, Object}",
        10 => "{ByRef, ByRef}",
        _ => "<Illegal>",
    }
}

/// Name of a slot: `rbp-8`.
pub fn place(arch: Arch, header: &Header, place: Place) -> String {
    let (base, distance) = match place {
        Place::Register(number) => return register_name(arch, number).to_owned(),
        Place::Stack(base, distance) => (base, distance),
    };
    let base = match base {
        Base::CallerSp => "caller.sp",
        Base::Sp => "sp",
        Base::Frame => header.frame_register.map_or("???", |r| register_name(arch, r)),
    };
    format!("{base}{}", signed(distance))
}

/// Lines of what changes, and a row for each.
struct Lines<'a> {
    out: &'a mut Out,
    info: &'a GcInfo,
    /// A line that is not ended yet.
    line: String,
}

impl Lines<'_> {
    fn slot(&mut self, offset: u64, change: &'static str, sign: char, slot: &Slot) -> Result<()> {
        let text = place(self.info.encoding.arch, &self.info.header, slot.place);
        self.line.push_str(&format!(" {sign}{text}"));
        for (is, word) in [(slot.pinned, "(pinned)"), (slot.interior, "(interior)")] {
            self.line.push_str(if is { word } else { "" });
        }
        let cells = [
            Cell::Hex(offset),
            Cell::text(change),
            Cell::text(text),
            Cell::Bool(slot.interior),
            Cell::Bool(slot.pinned),
        ];
        Ok(self.out.data_row(&CHANGES, &cells)?)
    }

    fn mark(&mut self, offset: u64, change: &'static str) -> Result<()> {
        let cells = [Cell::Hex(offset), Cell::text(change), Cell::None, Cell::None, Cell::None];
        Ok(self.out.data_row(&CHANGES, &cells)?)
    }

    fn end(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() { Ok(self.out.note(line)?) } else { Ok(()) }
    }
}

/// Prints as SOS does: slots in reverse of their order; of safe points only what is live there, through 9.0 under the offset
/// by which it is stored, one less than the return address.
fn print(out: &mut Out, info: &GcInfo, changes: &[Transition]) -> Result<()> {
    untracked(out, info)?;
    changed(out, info, changes, &mut false)
}

/// Prints the slots that are live throughout.
pub fn untracked(out: &mut Out, info: &GcInfo) -> Result<()> {
    let mut l = Lines { out, info, line: String::new() };
    for slot in info.untracked().iter().rev() {
        if l.line.is_empty() {
            l.line.push_str("Untracked:");
        }
        l.slot(0, "untracked", '+', slot)?;
    }
    l.end()
}

/// Prints changes; `points` keeps whether one was a safe point.
pub fn changed(out: &mut Out, info: &GcInfo, changes: &[Transition], points: &mut bool) -> Result<()> {
    let bias = info.encoding.safe_point_bias();
    let mut l = Lines { out, info, line: String::new() };
    for t in changes {
        let offset = u64::from(t.offset);
        if let Some(now) = t.interruptible {
            let what = if now { "interruptible" } else { "not interruptible" };
            l.mark(offset, what)?;
            l.out.note(format!("{offset:08x} {what}"))?;
        }
        if t.safe_point {
            *points = true;
            l.mark(offset, "safe point")?;
            l.line = format!("{offset:08x} is a safepoint: ");
            if bias != 0 && !t.born.is_empty() {
                l.end()?;
            }
        }
        if t.dead.is_empty() && t.born.is_empty() || *points && t.born.is_empty() {
            l.end()?;
            continue;
        }
        if l.line.is_empty() {
            l.line = format!("{:08x}", t.offset - if t.safe_point { bias } else { 0 });
        }
        if !*points {
            for slot in info.slots_of(&t.dead).rev() {
                l.slot(offset, "dead", '-', slot)?;
            }
        }
        for slot in info.slots_of(&t.born).rev() {
            l.slot(offset, "live", '+', slot)?;
        }
        l.end()?;
    }
    Ok(())
}
