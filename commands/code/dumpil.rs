//! `!dumpil`: the IL of a method.

use anyhow::{Result, anyhow, bail};

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::clr::il::body::Body;
use crate::clr::il::text::{Line, lines};
use crate::clr::il::{Value, instructions, names, text};
use crate::clr::image::metadata::Metadata;
use crate::session::Session;
use crate::session::dynamic::DynamicCode;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!dumpil METHOD`.
pub const DUMPIL: Command = Command {
    name: "dumpil",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show the IL of a method",
    help: "ADDR is a MethodDesc (!dumpmt -md, !name2ee and !clrstack show them), an address in compiled code, or a \
           DynamicMethod or DynamicResolver object; with -i the address of the IL itself, header first. Tokens are named \
           from the module's metadata, those of dynamic methods from the objects of their resolver. Blocks of exception \
           clauses are shown around the instructions. IL that the dump lacks comes from the image's file of the same \
           identity (-i of the command line, .exepath).",
    args: &[
        Arg::pos("ADDR", Kind::Address, "MethodDesc, code address, DynamicMethod, or with -i the IL").required(),
        Arg::flag("i", "ADDR is where the IL lies"),
    ],
    examples: &[Example { line: "!dumpil $OWNMETHOD", what: "the IL of a method" }],
    needs: Needs::CoreClr,
    returns: Returns::facts(&[
        Fact::new("method_desc", "the MethodDesc", Type::Address),
        Fact::new("name", "type, name and parameters of the method", Type::Text),
        Fact::new("il", "where the IL lies, header first", Type::Address),
        Fact::new("metadata_start", "where the metadata of its module is in the process", Type::Address),
        Fact::new("file", "file of the image, where the IL came from there", Type::Path),
        Fact::new("size", "bytes of IL", Type::Bytes),
        Fact::new("max_stack", "most values on the evaluation stack", Type::Count),
        Fact::new("locals_token", "token of the signature of its local variables", Type::Hex),
        Fact::new("resolver", "the resolver of a dynamic method", Type::Address),
        Fact::new("tokens", "array of what the tokens of a dynamic method name", Type::Address),
    ])
    .and(&[&INSTRUCTIONS, &LOCALS]),
    run: dumpil,
};

/// Instructions of IL.
pub const INSTRUCTIONS: Table = Table::new(
    "instructions",
    &[
        Col::data("il_offset", Type::Hex).titled("IL offset"),
        Col::data("opcode", Type::Text).titled("name of the instruction"),
        Col::data("operand", Type::Content).titled("what it works on"),
        Col::data("token", Type::Hex).titled("the metadata token in it"),
    ],
);

/// Local variables.
const LOCALS: Table = Table::new(
    "locals",
    &[
        Col::data("slot", Type::Number).titled("number of the variable"),
        Col::data("type", Type::Text).titled("its type as ILDASM spells it"),
    ],
);

fn dumpil(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = args.number("ADDR").unwrap_or(0);
    if args.has("i") {
        return direct(session, ctx.out, address);
    }
    if let Some(found) = session.dynamic_code(address) {
        return dynamic(session, ctx.out, &found.map_err(|why| anyhow!(why))?);
    }
    let of_code = || clr.code().at(address).and_then(|at| clr.method_desc(at.method?));
    let md = clr.valid_method_desc(address).or_else(|| clr.method_of_stub(address)).or_else(of_code);
    let Some(md) = md else {
        bail!("{address:x} is neither a MethodDesc nor in the code of a method nor a DynamicMethod")
    };
    method(session, ctx.out, &md)
}

fn method(session: &Session, out: &mut Out, md: &MethodDesc) -> Result<Outcome> {
    let clr = session.clr()?;
    out.datum("method_desc", &Cell::Addr(md.address));
    out.datum("name", &Cell::text(clr.method_name(md)));
    if md.is_dynamic() {
        if let Some(found) = clr.managed_resolver(md).and_then(|r| session.dynamic_code(r)) {
            return dynamic(session, out, &found.map_err(|why| anyhow!(why))?);
        }
        out.note("This method has no IL body (e.g. IL stubs generated for P/Invoke or Reverse P/Invoke marshaling).")?;
        return Ok(Outcome::Empty);
    }
    let module = clr.method_table(md.owner).and_then(|mt| clr.defining_module(&mt)).map(|m| clr.module(m));
    let module = module.ok_or_else(|| anyhow!("the module of the method is not in the dump"))?;
    let metadata = module.metadata(clr).ok_or_else(|| anyhow!("the metadata of its module is not at hand"))?;
    let found = clr.il_of_row(&module, metadata, md.rid).map_err(|why| anyhow!(why))?;
    let w = digits();
    let (at, start) = (found.address.unwrap_or(0), module.metadata_range(clr).map_or(0, |r| r.0));
    let facts = [("il", known(found.address)), ("metadata_start", known(Some(start).filter(|&s| s != 0)))];
    out.facts(&facts, format!("ilAddr is {at:0w$X} pImport is {start:0w$X}"))?;
    if let Some(file) = &found.file {
        out.fact("file", Cell::text(file), format!("The IL is not in the dump; it comes from {file}"))?;
    }
    out.facts(&[], format!("ilAddr = {at:0w$X}"))?;
    body(out, &found.body, Some(metadata))
}

fn known(at: Option<u64>) -> Cell<'static> {
    at.map_or(Cell::None, Cell::Addr)
}

/// The IL at an address; its tokens have names where it lies in the image of a module.
fn direct(session: &Session, out: &mut Out, address: u64) -> Result<Outcome> {
    let clr = session.clr()?;
    let body_at = clr.il_at(address).map_err(|why| anyhow!("{address:x}: {why}"))?;
    out.fact("il", Cell::Addr(address), format!("ilAddr = {address:0w$X}", w = digits()))?;
    let metadata = module_around(clr, address);
    body(out, &body_at, metadata.as_deref())
}

/// Metadata of the module in whose image `address` lies.
fn module_around(clr: &Clr, address: u64) -> Option<std::sync::Arc<Metadata>> {
    let modules = clr.assemblies().items.iter().map(|a| clr.module(a.module));
    let mut around = modules.filter(|m| m.image_base != 0 && address.wrapping_sub(m.image_base) < m.size);
    around.find_map(|m| m.metadata(clr).cloned())
}

fn body(out: &mut Out, body: &Body, metadata: Option<&Metadata>) -> Result<Outcome> {
    out.datum("size", &Cell::Num(body.code.len() as u64));
    out.datum("max_stack", &Cell::Num(u64::from(body.max_stack)));
    if body.locals != 0 {
        out.datum("locals_token", &Cell::Hex(u64::from(body.locals)));
    }
    if let Some(m) = metadata.filter(|_| out.wants_data()) {
        let blob = m.standalone_sig(body.locals & 0x00FF_FFFF);
        for (slot, ty) in blob.and_then(|b| names::locals(m, b)).unwrap_or_default().into_iter().enumerate() {
            out.data_row(&LOCALS, &[Cell::Num(slot as u64), Cell::text(ty)])?;
        }
        out.done(&LOCALS)?;
    }
    let name = |token| metadata.map_or_else(|| format!("TOKEN {token:x}"), |m| names::of_token(m, token));
    let class = |token| metadata.map_or_else(|| format!("{token:x}"), |m| names::plain_type(m, token));
    let listing = lines(body, &name, &class);
    show(out, &INSTRUCTIONS, &listing)?;
    let end = listing.iter().rev().find_map(|l| match l {
        Line::Instruction { instruction, .. } => Some(instruction.next as usize),
        Line::Block(_) => None,
    });
    Ok(match (end == Some(body.code.len()) || body.code.is_empty(), body.partial) {
        (false, _) => Outcome::Partial("the code ends inside an instruction".into()),
        (_, Some(why)) => Outcome::Partial(why.into()),
        _ => Outcome::Complete,
    })
}

/// Prints lines of IL; the instructions are rows of `table`.
pub fn show(out: &mut Out, table: &Table, lines: &[Line]) -> Result<()> {
    for line in lines {
        match line {
            Line::Block(text) => out.note(text)?,
            Line::Instruction { instruction: i, operand, .. } => {
                let token = match i.value {
                    Value::Token(t) => Cell::Hex(t.into()),
                    _ => Cell::None,
                };
                let operand = Some(operand).filter(|o| !o.is_empty());
                let cells = [Cell::Hex(i.offset.into()), Cell::text(i.name), Cell::maybe(operand), token];
                out.row_as(table, &cells, line.text())?;
            }
        }
    }
    Ok(())
}

fn dynamic(session: &Session, out: &mut Out, found: &DynamicCode<'_>) -> Result<Outcome> {
    out.datum("resolver", &Cell::Addr(found.resolver));
    out.datum("size", &Cell::Num(found.code.len() as u64));
    let table = found.tokens.map_or(0, |t| t.address());
    out.note("This is dynamic IL. Exception info is not reported at this time.")?;
    out.note("If a token is unresolved, run \"!dumpobj <addr>\" on the addr given")?;
    out.note("in parenthesis. You can also look at the token table yourself, by")?;
    out.fact("tokens", Cell::Addr(table), format!("running \"!dumparray {table:0w$x}\".\n", w = digits()))?;
    let name = |token| found.name(session, token);
    let listing: Vec<Line> = instructions(&found.code)
        .map(|instruction| {
            let operand = text::operand(&instruction.value, &name);
            Line::Instruction { indent: 0, instruction, operand }
        })
        .collect();
    show(out, &INSTRUCTIONS, &listing)?;
    Ok(Outcome::Complete)
}
