//! `!dumpmt`: a MethodTable.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::clr::types::methodtable::MethodTable;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!dumpmt MT`.
pub const DUMPMT: Command = Command {
    name: "dumpmt",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a type by its MethodTable: name, module, sizes, methods",
    help: "Prints what the runtime keeps of a type: parent, module, token, size of an instance and of a component. -md \
           lists its methods by slot, the inherited virtual ones first. In the JIT column, PreJIT is precompiled code, \
           JIT compiled code, NONE code that was not seen: a method that was never compiled, or precompiled code that \
           only a stub leads to.",
    args: &[
        Arg::pos("MT", Kind::MethodTable, "MethodTable, or an object of the type").required(),
        Arg::flag("md", "list the methods"),
        Arg::flag("all", "list the methods and the MethodTable's counts and flags"),
    ],
    examples: &[Example { line: "!dumpmt -md $MT", what: "a type with its methods" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

/// The MethodTable at `address`, or that of the object there.
pub fn look_up(session: &Session, address: u64) -> Result<MethodTable> {
    let clr = session.clr()?;
    if let Some(mt) = clr.valid_type(address) {
        return Ok(mt);
    }
    if let Ok(walker) = session.walker()
        && let Some(o) = walker.object_at(address)
    {
        return Ok(o.ty.mt);
    }
    // The address may be an EEClass: it says which MethodTable it belongs to.
    let back = clr.layout().pointer(clr.space(), address, "EEClass", "MethodTable");
    let owner = back.and_then(|mt| clr.valid_type(mt));
    if let Some(mt) = owner.filter(|m| clr.mts().eeclass(clr.space(), m) == Some(address)) {
        return Ok(mt);
    }
    bail!("{address:x} is not a MethodTable; !name2ee finds one by name, !dumpobj shows that of an object")
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let mt = look_up(session, args.number("MT").unwrap_or(0))?;
    head(clr, ctx.out, &mt)?;
    if args.has("all") {
        flags(clr, ctx.out, &mt)?;
    }
    if args.has("md") || args.has("all") {
        return methods(clr, ctx.out, &mt);
    }
    Ok(Outcome::Complete)
}

fn head(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<()> {
    out.line(format!("Parent:              {:0w$x}", mt.parent, w = digits()))?;
    let canonical = clr.mts().canonical(mt);
    if canonical != mt.address {
        out.line(format!("Canonical:           {canonical:0w$x}", w = digits()))?;
    }
    if let Some(class) = clr.mts().eeclass(clr.space(), mt) {
        out.line(format!("EEClass:             {class:0w$X}", w = digits()))?;
    }
    let module = clr.defining_module(mt);
    out.line(format!("Module:              {:0w$X}", module.unwrap_or(0), w = digits()))?;
    out.line(format!("Name:                {}", clr.type_name_long(mt.address)))?;
    out.line(format!("mdToken:             {:0w$X}", 0x0200_0000 | u64::from(clr.type_rid(mt)), w = digits()))?;
    let file = module.map(|m| clr.module(m).display_name(clr)).unwrap_or_default();
    out.line(format!("File:                {file}"))?;
    if let Some(a) = clr.loader_allocator_of_type(mt) {
        out.line(format!("LoaderAllocator:     {:016X}", a.object))?;
    }
    out.line(format!("BaseSize:            0x{:x}", mt.base_size))?;
    if mt.has_component_size() {
        out.line(format!("ComponentSize:       0x{:x}", mt.component_size()))?;
    }
    out.line(format!("Has GC Pointers:     {}", mt.contains_pointers()))?;
    let count = usize::from(mt.virtuals) + others(clr, mt).0.len();
    out.line(format!("Number of Methods:   {count}"))?;
    out.line(format!("Number of IFaces in IFaceMap: {}", mt.interfaces))?;
    Ok(())
}

fn flags(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<()> {
    let yes = |b: bool| if b { "true" } else { "false" };
    out.line(format!("Flags:               {:08x} {:x}", mt.flags, mt.flags2))?;
    out.line(format!("Virtual slots:       {}", mt.virtuals))?;
    out.line(format!("Has finalizer:       {}", yes(mt.has_finalizer())))?;
    out.line(format!("Is value type:       {}", yes(mt.is_value_type())))?;
    out.line(format!("Is interface:        {}", yes(mt.is_interface())))?;
    out.line(format!("Is generic:          {}", yes(mt.is_generic())))?;
    out.line(format!("Collectible:         {}", yes(clr.mts().is_collectible(mt))))?;
    Ok(())
}

/// Own methods that are not in the vtable, by slot; and why the list is not complete.
fn others(clr: &Clr, mt: &MethodTable) -> (Vec<MethodDesc>, Option<String>) {
    let methods = clr.methods(mt);
    let mut own: Vec<MethodDesc> = methods.items.into_iter().filter(|m| m.slot >= mt.virtuals).collect();
    own.sort_by_key(|m| m.slot);
    (own, methods.partial)
}

/// The method behind each vtable slot: declared by the nearest class up the hierarchy.
fn virtuals(clr: &Clr, mt: &MethodTable) -> Vec<Option<MethodDesc>> {
    /// Deepest class hierarchy followed.
    const MAX_PARENTS: usize = 64;
    let mut slots = vec![None; usize::from(mt.virtuals)];
    let mut at = Some(*mt);
    for _ in 0..MAX_PARENTS {
        let Some(class) = at else { break };
        for m in clr.methods(&class).items {
            if let Some(slot) = slots.get_mut(usize::from(m.slot)).filter(|s| s.is_none() && m.slot < class.virtuals) {
                *slot = Some(m);
            }
        }
        at = clr.method_table(class.parent);
    }
    slots
}

fn methods(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<Outcome> {
    const COLUMNS: &[Col] = &[
        Col::right("Entry", "entry", 16),
        Col::right("MethodDesc", "methodDesc", 16),
        Col::right("JIT", "jit", 6),
        Col::left("Slot", "slot", 16),
        Col::left("Name", "name", 0),
    ];
    out.line("--------------------------------------")?;
    out.line("MethodDesc Table")?;
    out.table("methods", COLUMNS, true)?;
    let mut row = |entry: u64, m: Option<&MethodDesc>, slot: u16| {
        out.row(&[
            Cell::text(format!("{entry:0w$X}", w = digits())),
            Cell::text(format!("{:0w$X}", m.map_or(0, |m| m.address), w = digits())),
            Cell::text(m.map_or("NONE", |m| jit(clr, m, entry))),
            Cell::text(format!("{slot:0w$X}", w = digits())),
            Cell::text(m.map_or_else(|| "<not in the dump>".into(), |m| clr.method_name(m))),
        ])
    };
    for (i, m) in virtuals(clr, mt).iter().enumerate() {
        let slot = i as u16;
        row(clr.vtable_slot(mt, slot).unwrap_or(0), m.as_ref(), slot)?;
    }
    let (own, partial) = others(clr, mt);
    for m in &own {
        row(clr.own_slot(m).or_else(|| clr.native_code(m)).unwrap_or(0), Some(m), m.slot)?;
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// What is known of a method's code: `FCALL`, `PreJIT` inside an image, `JIT` outside, `NONE`.
fn jit(clr: &Clr, m: &MethodDesc, entry: u64) -> &'static str {
    if m.is_fcall() {
        return "FCALL";
    }
    let module = clr.method_table(m.owner).and_then(|mt| clr.defining_module(&mt)).map(|m| clr.module(m));
    let in_image =
        |code: u64| module.as_ref().is_some_and(|m| m.image_base != 0 && code.wrapping_sub(m.image_base) < m.size);
    match clr.native_code(m) {
        Some(code) if in_image(code) => "PreJIT",
        Some(_) => "JIT",
        None if in_image(entry) => "PreJIT",
        None => "NONE",
    }
}
