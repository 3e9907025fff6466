//! `!dumpmt`: a MethodTable.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::clr::types::methodtable::MethodTable;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
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
    returns: Returns::facts(&[
        Fact::new("method_table", "the MethodTable", Type::Address),
        Fact::new("parent", "MethodTable of the base class; 0 without one", Type::Address),
        Fact::new("canonical", "MethodTable that shares its code; itself for most types", Type::Address),
        Fact::new("ee_class", "its EEClass", Type::Address),
        Fact::new("module", "Module that defines it", Type::Address),
        Fact::new("name", "its name", Type::TypeName),
        Fact::new("token", "its TypeDef token", Type::Hex),
        Fact::new("file", "path of its module, or its name where there is no file", Type::Path),
        Fact::new("loader_allocator", "LoaderAllocator object that keeps a collectible type alive", Type::Address),
        Fact::new("base_size", "bytes of an instance without components", Type::Bytes),
        Fact::new("component_size", "bytes of a component of an array or string", Type::Bytes),
        Fact::new("contains_pointers", "its instances refer to objects", Type::Bool),
        Fact::new("methods", "its methods, the inherited virtual ones included", Type::Count),
        Fact::new("interfaces", "interfaces it implements", Type::Count),
        Fact::new("flags", "flags of the MethodTable, the first word", Type::Hex),
        Fact::new("flags2", "flags of the MethodTable, the second word", Type::Hex),
        Fact::new("virtual_slots", "slots of its vtable", Type::Count),
        Fact::new("has_finalizer", "it has a finalizer", Type::Bool),
        Fact::new("value_type", "it is a value type", Type::Bool),
        Fact::new("interface", "it is an interface", Type::Bool),
        Fact::new("generic", "it is an instantiation of a generic type, or one", Type::Bool),
        Fact::new("collectible", "it can be unloaded", Type::Bool),
    ])
    .and(&[&METHODS]),
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
    if clr.ahead().is_some() && (args.has("md") || args.has("all")) {
        ctx.out.note("A NativeAOT program has no MethodDescs: its methods are known by their code alone.")?;
        return Ok(Outcome::Complete);
    }
    if args.has("md") || args.has("all") {
        return methods(clr, ctx.out, &mt);
    }
    Ok(Outcome::Complete)
}

fn head(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<()> {
    let w = digits();
    out.datum("method_table", &Cell::Addr(mt.address));
    out.fact("parent", Cell::Addr(mt.parent), format!("Parent:              {:0w$x}", mt.parent))?;
    let canonical = clr.mts().canonical(mt);
    if canonical != mt.address {
        out.fact("canonical", Cell::Addr(canonical), format!("Canonical:           {canonical:0w$x}"))?;
    } else {
        out.datum("canonical", &Cell::Addr(canonical));
    }
    if let Some(class) = clr.mts().eeclass(clr.space(), mt) {
        out.fact("ee_class", Cell::Addr(class), format!("EEClass:             {class:0w$X}"))?;
    }
    let module = clr.defining_module(mt);
    let line = format!("Module:              {:0w$X}", module.unwrap_or(0));
    out.fact("module", module.map_or(Cell::None, Cell::Addr), line)?;
    let name = clr.type_name_long(mt.address);
    out.fact("name", Cell::text(&*name), format!("Name:                {name}"))?;
    let token = 0x0200_0000 | u64::from(clr.type_rid(mt));
    match clr.ahead() {
        // There is no row to point at.
        Some(_) => out.datum("token", &Cell::None),
        None => out.fact("token", Cell::Hex(token), format!("mdToken:             {token:0w$X}"))?,
    }
    let file = module.map(|m| clr.module(m).display_name(clr));
    let line = format!("File:                {}", file.as_deref().unwrap_or_default());
    out.fact("file", Cell::maybe(file), line)?;
    if let Some(a) = clr.loader_allocator_of_type(mt) {
        out.fact("loader_allocator", Cell::Addr(a.object), format!("LoaderAllocator:     {:016X}", a.object))?;
    }
    let base = u64::from(mt.base_size);
    out.fact("base_size", Cell::Num(base), format!("BaseSize:            0x{base:x}"))?;
    if mt.has_component_size() {
        let size = u64::from(mt.component_size());
        out.fact("component_size", Cell::Num(size), format!("ComponentSize:       0x{size:x}"))?;
    }
    let pointers = mt.contains_pointers();
    out.fact("contains_pointers", Cell::Bool(pointers), format!("Has GC Pointers:     {pointers}"))?;
    let count = usize::from(mt.virtuals) + others(clr, mt).0.len();
    out.fact("methods", Cell::Num(count as u64), format!("Number of Methods:   {count}"))?;
    let interfaces = u64::from(mt.interfaces);
    out.fact("interfaces", Cell::Num(interfaces), format!("Number of IFaces in IFaceMap: {interfaces}"))?;
    Ok(())
}

fn flags(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<()> {
    let words = [("flags", Cell::Hex(mt.flags.into())), ("flags2", Cell::Hex(mt.flags2.into()))];
    out.facts(&words, format!("Flags:               {:08x} {:x}", mt.flags, mt.flags2))?;
    let slots = u64::from(mt.virtuals);
    out.fact("virtual_slots", Cell::Num(slots), format!("Virtual slots:       {slots}"))?;
    for (key, title, holds) in [
        ("has_finalizer", "Has finalizer:", mt.has_finalizer()),
        ("value_type", "Is value type:", mt.is_value_type()),
        ("interface", "Is interface:", mt.is_interface()),
        ("generic", "Is generic:", mt.is_generic()),
        ("collectible", "Collectible:", clr.mts().is_collectible(mt)),
    ] {
        out.fact(key, Cell::Bool(holds), format!("{title:<20} {holds}"))?;
    }
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
    let mut slots = vec![None; usize::from(mt.virtuals)];
    // Slots of classes the chain does not reach are listed as not known.
    for class in clr.class_chain(mt.address) {
        for m in clr.methods(&class).items {
            if let Some(slot) = slots.get_mut(usize::from(m.slot)).filter(|s| s.is_none() && m.slot < class.virtuals) {
                *slot = Some(m);
            }
        }
    }
    slots
}

/// Methods by slot.
const METHODS: Table = Table::new(
    "methods",
    &[
        Col::right("Entry", "entry", 16).of(Type::Address),
        Col::right("MethodDesc", "method_desc", 16).of(Type::Address),
        Col::right("JIT", "jit", 6),
        Col::left("Slot", "slot", 16).of(Type::Number),
        Col::left("Name", "name", 0),
    ],
);

fn methods(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<Outcome> {
    out.note("--------------------------------------")?;
    out.note("MethodDesc Table")?;
    out.open(&METHODS)?;
    // What is not set and what is not known stands as zeros in text.
    let place = |at: Option<u64>| match at.filter(|&a| a != 0) {
        Some(at) => Cell::AddrUpper(at, 16),
        None => Cell::shown(format!("{:0w$X}", 0, w = digits()), Cell::None),
    };
    let mut row = |entry: Option<u64>, m: Option<&MethodDesc>, slot: u16| {
        out.row(&[
            place(entry),
            place(m.map(|m| m.address)),
            Cell::text(m.map_or("NONE", |m| jit(clr, m, entry.unwrap_or(0)))),
            Cell::As(format!("{slot:0w$X}", w = digits()).into(), slot.into()),
            m.map_or_else(|| Cell::shown("<not in the dump>", Cell::None), |m| Cell::text(clr.method_name(m))),
        ])
    };
    for (i, m) in virtuals(clr, mt).iter().enumerate() {
        let slot = i as u16;
        row(clr.vtable_slot(mt, slot), m.as_ref(), slot)?;
    }
    let (own, partial) = others(clr, mt);
    for m in &own {
        row(clr.own_slot(m).or_else(|| clr.native_code(m)), Some(m), m.slot)?;
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
