//! `!dumparray`: the elements of an array.

use anyhow::{Result, bail};

use super::decoded;
use super::dumpobj::{look_up, own_size};
use super::fieldtable::{self, Of};
use super::head::{self, Head, element_type, element_word};
use crate::clr::Clr;
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!dumparray ADDR`.
pub const DUMPARRAY: Command = Command {
    name: "dumparray",
    prefix: Prefix::Bang,
    aliases: &["da"],
    group: Group::Objects,
    summary: "list the elements of an array",
    help: "Prints the array's type and shape, then a line an element: its index (one for each dimension) and its \
           address, null for an empty reference; behind it what a number, date, enum, ... says. -details shows each element as !dumpobj or !dumpvc would. -start and \
           -length take decimal numbers and count elements across all dimensions.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the array").required(),
        Arg::opt("start", Kind::Count, "first element shown"),
        Arg::opt("length", Kind::Count, "number of elements shown"),
        Arg::flag("details", "show each element"),
        Arg::flag("nofields", "with -details: leave the fields out"),
    ],
    examples: &[Example { line: "!dumparray -length 5 -details $ARRAY", what: "the first five elements with fields" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new(
        "element_method_table",
        "MethodTable, or handle, of the type of the elements",
        Type::Address,
    )])
    .and(&[&ELEMENTS, &DETAILED])
    .with(&[&head::RETURNS, &head::ARRAY_RETURNS, &fieldtable::NESTED_RETURNS]),
    run,
};

const INDEX: Col = Col::data("index", Type::Count).titled("number of the element across all dimensions, from 0");
const INDICES: Col = Col::data("indices", Type::Text).titled("its index in each dimension, with commas between");
const ADDRESS: Col = Col::data("address", Type::Address).titled("where the element stands");
const REFERENCE: Col = Col::data("reference", Type::Address).titled("the object, where the element is a reference");

const DECODED: Col = Col::data("decoded", Type::Content).titled("what it says in words");

const ELEMENTS: Table = Table::new("elements", &[INDEX, INDICES, ADDRESS, REFERENCE, DECODED]);

/// As [`ELEMENTS`], with -details.
const DETAILED: Table = Table::new(
    "elements",
    &[
        INDEX,
        INDICES,
        ADDRESS,
        REFERENCE,
        DECODED,
        Col::data("type", Type::TypeName).titled("type of the object or value"),
        Col::data("method_table", Type::Address).titled("MethodTable of that type"),
        Col::data("ee_class", Type::Address).titled("EEClass of that type, where it is a struct"),
        Col::data("size", Type::Bytes).titled("size of the object or value"),
        Col::data("file", Type::Path).titled("file of the module that defines the type; nothing for arrays"),
        Col::data("string", Type::Content).titled("text of a string"),
        Col::data("rank", Type::Count).titled("dimensions of an array"),
        Col::data("elements", Type::Count).titled("elements of an array"),
        Col::data("element_kind", Type::Text).titled("what the elements of an array are, as in the fact of that name"),
    ],
);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let o = look_up(session, args.number("ADDR").unwrap_or(0))?;
    let mt = &o.ty.mt;
    if !mt.is_array() {
        bail!("{:x} ({}) is not an array; use !dumpobj {:x}", o.address, clr.type_name(mt.address), o.address);
    }
    let rank = mt.rank(clr.ptr_size());
    let Some((dimensions, data)) = clr.array_shape(o.address, mt.is_sz_array(), rank) else {
        return Ok(Outcome::Partial("the head of the array is not in the dump".into()));
    };
    let count = u64::from(clr.component_count(o.address).unwrap_or(0));
    head(clr, session, ctx.out, &o, count)?;
    let start = args.number("start").unwrap_or(0);
    if start > 0 && start >= count {
        bail!("the array has {count} elements, -start {start} is behind its end");
    }
    let end = args.number("length").map_or(count, |n| start.saturating_add(n).min(count));
    let shown = Shown { details: args.has("details"), fields: !args.has("nofields") };
    let elements = Elements { session, clr, handle: mt.per_inst, data, size: u64::from(mt.component_size()), shown };
    for i in start..end {
        if i % 1024 == 0 {
            session.watch.cancel.check()?;
        }
        if !elements.show(ctx.out, i, &dimensions)? {
            let label = label(i, &dimensions);
            return Ok(Outcome::Partial(format!("elements from {label} on are not in the dump")));
        }
    }
    Ok(Outcome::Complete)
}

fn head(clr: &Clr, session: &Session, out: &mut Out, o: &Found<'_>, count: u64) -> Result<()> {
    let mt = &o.ty.mt;
    let class = clr.mts().eeclass(clr.space(), mt);
    Head { address: o.address, mt: mt.address, class, size: o.size }.print(clr, out)?;
    head::array(session, out, mt, count)?;
    let line = format!("Element Methodtable: {:0w$x}", mt.per_inst, w = digits());
    out.fact("element_method_table", Cell::Addr(mt.per_inst), line)?;
    Ok(())
}

/// `[i][j]` of element `i` counted across all dimensions, the last one running fastest.
fn label(i: u64, dimensions: &[(u32, i32)]) -> String {
    indices(i, dimensions).iter().map(|n| format!("[{n}]")).collect()
}

fn indices(i: u64, dimensions: &[(u32, i32)]) -> Vec<i128> {
    let mut rest = i;
    let mut parts = Vec::with_capacity(dimensions.len());
    for &(length, low) in dimensions.iter().rev() {
        let length = u64::from(length.max(1));
        parts.push(i128::from(rest % length) + i128::from(low));
        rest /= length;
    }
    parts.reverse();
    parts
}

/// What is shown of each element.
struct Shown {
    details: bool,
    fields: bool,
}

struct Elements<'a> {
    session: &'a Session,
    clr: &'a Clr,
    handle: u64,
    data: u64,
    size: u64,
    shown: Shown,
}

/// What -details says of an object or value, behind what [`ELEMENTS`] has: cells and lines.
struct Details {
    cells: [Cell<'static>; 9],
    lines: String,
    /// MethodTable and place of the fields.
    fields: Option<(u64, Of)>,
}

impl Details {
    fn nothing() -> Self {
        Self { cells: [const { Cell::None }; 9], lines: String::new(), fields: None }
    }

    fn add(&mut self, line: String) {
        self.lines.push('\n');
        self.lines.push_str(line.trim_end_matches(' '));
    }
}

impl Elements<'_> {
    /// Prints element `i`; false when it is not in the dump.
    fn show(&self, out: &mut Out, i: u64, dimensions: &[(u32, i32)]) -> Result<bool> {
        let place = i.checked_mul(self.size).and_then(|o| self.data.checked_add(o));
        let Some(address) = place.filter(|&a| self.session.dump().space.readable(a)) else { return Ok(false) };
        let is_reference = element_type(self.session, self.handle).is_some_and(|e| e.is_reference());
        let reference = if is_reference { self.clr.space().ptr(address) } else { None };
        if is_reference && reference.is_none() {
            return Ok(false);
        }
        let label = label(i, dimensions);
        let said = match reference {
            Some(0) => None,
            Some(object) => decoded::of_object(self.session, object),
            None => decoded::of_value(self.session, self.handle, address, 0),
        };
        let words = said.as_ref().map_or_else(String::new, |s| format!(" = {s}"));
        let line = match reference {
            Some(0) => format!("{label} null"),
            _ => format!("{label} {:0w$x}{words}", reference.unwrap_or(address), w = digits()),
        };
        let numbers = if out.wants_data() { Some(joined(&indices(i, dimensions))) } else { None };
        let reference_cell = reference.map_or(Cell::None, Cell::Addr);
        let element = [Cell::Num(i), Cell::maybe(numbers), Cell::Addr(address), reference_cell, Cell::maybe(said)];
        if !self.shown.details {
            out.row_as(&ELEMENTS, &element, line)?;
            return Ok(true);
        }
        let details = match reference {
            Some(0) => Details::nothing(),
            Some(object) => self.object(out, object),
            None => self.value(address),
        };
        let cells: Vec<Cell<'_>> = element.into_iter().chain(details.cells).collect();
        out.row_as(&DETAILED, &cells, line + &details.lines)?;
        if let Some((mt, of)) = details.fields.filter(|_| self.shown.fields) {
            fieldtable::print_nested(self.session, out, mt, &of, i)?;
        }
        Ok(true)
    }

    fn value(&self, address: u64) -> Details {
        let Some(mt) = self.clr.valid_method_table(self.handle) else { return Details::nothing() };
        let mut details = self.name(mt.address, u64::from(mt.base_size), self.clr.mts().eeclass(self.clr.space(), &mt));
        self.file(&mut details, mt.address);
        details.fields = Some((mt.address, Of::Value(address)));
        details
    }

    fn object(&self, out: &Out, address: u64) -> Details {
        let Ok(o) = look_up(self.session, address) else {
            return Details { lines: "\n    <not a valid object>".into(), ..Details::nothing() };
        };
        let mt = &o.ty.mt;
        let mut details = self.name(mt.address, own_size(self.clr, &o), None);
        if mt.is_array() {
            let count = self.clr.component_count(address).unwrap_or(0);
            let (rank, word) = (mt.rank(self.clr.ptr_size()), element_word(self.session, mt.per_inst));
            details.add(format!("    Array:       Rank {rank}, Number of elements {count}, Type {word}"));
            details.cells[6] = Cell::Num(rank.into());
            details.cells[7] = Cell::Num(count.into());
            details.cells[8] = Cell::text(word);
        } else {
            self.file(&mut details, mt.address);
        }
        if o.ty.is_string
            && let Some((_, text)) = self.clr.string_at(address, 1 << 16)
        {
            details.add(format!("    String:      {}", text.escape_debug()));
            let whole = out.wants_data().then(|| self.clr.string_units(address, usize::MAX)).flatten();
            details.cells[5] = whole.map_or(Cell::None, |(_, units)| Cell::Units(units.into()));
        }
        details.fields = Some((mt.address, Of::Object(address.saturating_add(self.clr.header()))));
        details
    }

    fn name(&self, mt: u64, size: u64, class: Option<u64>) -> Details {
        let mut details = Details::nothing();
        let name = self.clr.type_name_long(mt);
        details.add(format!("    Name:        {name}"));
        details.add(format!("    MethodTable: {mt:0w$x}", w = digits()));
        if let Some(class) = class {
            details.add(format!("    EEClass:     {class:0w$x}", w = digits()));
        }
        details.add(format!("    Size:        {size}(0x{size:x}) bytes"));
        details.cells[0] = Cell::text(name.to_string());
        details.cells[1] = Cell::Addr(mt);
        details.cells[2] = class.map_or(Cell::None, Cell::Addr);
        details.cells[3] = Cell::Num(size);
        details
    }

    fn file(&self, details: &mut Details, mt: u64) {
        let module = self.clr.method_table(mt).and_then(|m| self.clr.defining_module(&m));
        let name = module.map(|m| self.clr.module(m).display_name(self.clr));
        details.add(format!("    File:        {}", name.as_deref().unwrap_or_default()));
        details.cells[4] = Cell::maybe(name);
    }
}

/// Numbers with commas between.
fn joined(numbers: &[i128]) -> String {
    numbers.iter().map(i128::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn indices_run_last_dimension_first_and_keep_lower_bounds() {
        assert_eq!(label(7, &[(3, 0), (4, 0), (5, 0)]), "[0][1][2]");
        assert_eq!(label(1, &[(2, 10), (2, -1)]), "[10][0]");
        assert_eq!(label(5, &[(9, 0)]), "[5]");
    }
}
