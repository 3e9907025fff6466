//! `!dumparray`: the elements of an array.

use anyhow::{Result, bail};

use super::dumpobj::{element_type, element_word, look_up, own_size};
use super::fieldtable::{self, Of};
use crate::clr::Clr;
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits};

/// `!dumparray ADDR`.
pub const DUMPARRAY: Command = Command {
    name: "dumparray",
    prefix: Prefix::Bang,
    aliases: &["da"],
    group: Group::Objects,
    summary: "list the elements of an array",
    help: "Prints the array's type and shape, then a line an element: its index (one for each dimension) and its \
           address, null for an empty reference. -details shows each element as !dumpobj or !dumpvc would. -start and \
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
    returns: Returns::NOTHING,
    run,
};

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
    let elements = Elements { session, clr, handle: mt.per_inst, data, size: u64::from(mt.component_size()) };
    for i in start..end {
        if i % 1024 == 0 {
            session.watch.cancel.check()?;
        }
        let label = index(i, &dimensions);
        if !elements.show(ctx.out, i, &label, args.has("details"), !args.has("nofields"))? {
            return Ok(Outcome::Partial(format!("elements from {label} on are not in the dump")));
        }
    }
    Ok(Outcome::Complete)
}

fn head(clr: &Clr, session: &Session, out: &mut Out, o: &Found<'_>, count: u64) -> Result<()> {
    let mt = &o.ty.mt;
    out.line(format!("Name:        {}", clr.type_name_long(mt.address)))?;
    out.line(format!("MethodTable: {:0w$x}", mt.address, w = digits()))?;
    if let Some(class) = clr.mts().eeclass(clr.space(), mt) {
        out.line(format!("EEClass:     {class:0w$x}", w = digits()))?;
    }
    out.line(format!("Size:        {}(0x{:x}) bytes", o.size, o.size))?;
    let word = element_word(session, mt.per_inst);
    out.line(format!("Array:       Rank {}, Number of elements {count}, Type {word}", mt.rank(clr.ptr_size())))?;
    out.line(format!("Element Methodtable: {:0w$x}", mt.per_inst, w = digits()))?;
    Ok(())
}

/// `[i][j]` of element `i` counted across all dimensions, the last one running fastest.
fn index(i: u64, dimensions: &[(u32, i32)]) -> String {
    let mut rest = i;
    let mut parts = Vec::with_capacity(dimensions.len());
    for &(length, low) in dimensions.iter().rev() {
        let length = u64::from(length.max(1));
        parts.push(format!("[{}]", i128::from(rest % length) + i128::from(low)));
        rest /= length;
    }
    parts.reverse();
    parts.concat()
}

struct Elements<'a> {
    session: &'a Session,
    clr: &'a Clr,
    handle: u64,
    data: u64,
    size: u64,
}

impl Elements<'_> {
    /// Prints element `i`; false when it is not in the dump.
    fn show(&self, out: &mut Out, i: u64, label: &str, details: bool, fields: bool) -> Result<bool> {
        let place = i.checked_mul(self.size).and_then(|o| self.data.checked_add(o));
        let Some(address) = place.filter(|&a| self.session.dump().space.readable(a)) else { return Ok(false) };
        let reference = element_type(self.session, self.handle).is_some_and(|e| e.is_reference());
        if !reference {
            out.line(format!("{label} {address:0w$x}", w = digits()))?;
            if details {
                self.value(out, address, fields)?;
            }
            return Ok(true);
        }
        let Some(target) = self.clr.space().ptr(address) else { return Ok(false) };
        if target == 0 {
            out.line(format!("{label} null"))?;
            return Ok(true);
        }
        out.line(format!("{label} {target:0w$x}", w = digits()))?;
        if details {
            self.object(out, target, fields)?;
        }
        Ok(true)
    }

    fn value(&self, out: &mut Out, address: u64, fields: bool) -> Result<()> {
        let Some(mt) = self.clr.valid_method_table(self.handle) else { return Ok(()) };
        self.name(out, mt.address, u64::from(mt.base_size), self.clr.mts().eeclass(self.clr.space(), &mt))?;
        self.file(out, mt.address)?;
        self.fields(out, mt.address, &Of::Value(address), fields)
    }

    fn object(&self, out: &mut Out, address: u64, fields: bool) -> Result<()> {
        let Ok(o) = look_up(self.session, address) else {
            out.line("    <not a valid object>")?;
            return Ok(());
        };
        let mt = &o.ty.mt;
        self.name(out, mt.address, own_size(self.clr, &o), None)?;
        if mt.is_array() {
            let count = self.clr.component_count(address).unwrap_or(0);
            let (rank, word) = (mt.rank(self.clr.ptr_size()), element_word(self.session, mt.per_inst));
            out.line(format!("    Array:       Rank {rank}, Number of elements {count}, Type {word}"))?;
        } else {
            self.file(out, mt.address)?;
        }
        if o.ty.is_string
            && let Some((_, text)) = self.clr.string_at(address, 1 << 16)
        {
            out.line(format!("    String:      {}", text.escape_debug()))?;
        }
        self.fields(out, mt.address, &Of::Object(address.saturating_add(self.clr.header())), fields)
    }

    fn name(&self, out: &mut Out, mt: u64, size: u64, class: Option<u64>) -> Result<()> {
        out.line(format!("    Name:        {}", self.clr.type_name_long(mt)))?;
        out.line(format!("    MethodTable: {mt:0w$x}", w = digits()))?;
        if let Some(class) = class {
            out.line(format!("    EEClass:     {class:0w$x}", w = digits()))?;
        }
        out.line(format!("    Size:        {size}(0x{size:x}) bytes"))?;
        Ok(())
    }

    fn file(&self, out: &mut Out, mt: u64) -> Result<()> {
        let module = self.clr.method_table(mt).and_then(|m| self.clr.defining_module(&m));
        let name = module.map(|m| self.clr.module(m).display_name(self.clr)).unwrap_or_default();
        out.line(format!("    File:        {name}"))?;
        Ok(())
    }

    fn fields(&self, out: &mut Out, mt: u64, of: &Of, wanted: bool) -> Result<()> {
        if !wanted {
            return Ok(());
        }
        fieldtable::print_nested(self.session, out, mt, of)
    }
}

#[cfg(test)]
mod tests {
    use super::index;

    #[test]
    fn indices_run_last_dimension_first_and_keep_lower_bounds() {
        assert_eq!(index(7, &[(3, 0), (4, 0), (5, 0)]), "[0][1][2]");
        assert_eq!(index(1, &[(2, 10), (2, -1)]), "[10][0]");
        assert_eq!(index(5, &[(9, 0)]), "[5]");
    }
}
