//! Instructions in a listing, each with what it refers to.

use std::borrow::Cow;

use anyhow::Result;
use rustc_hash::FxHashSet;

use crate::clr::code::disasm::{Flow, Instruction, Machine, Registers, Source};
use crate::clr::image::metadata::debug::SourceLine;
use crate::session::Session;
use crate::session::code::{Called, Meaning};
use crate::shell::{Cell, Col, Out, Table, Type, digits};

/// Longest string shown behind an instruction.
const SHOWN: usize = 64;

/// Instructions.
pub const CODE: Table = Table::new(
    "instructions",
    &[
        Col::data("address", Type::Address).titled("where it is"),
        Col::data("offset", Type::Hex).titled("bytes from the start of the method"),
        Col::data("bytes", Type::Text).titled("its bytes; of arm64 its word"),
        Col::data("instruction", Type::Text).titled("name and operands"),
        Col::data("target", Type::Address).titled("where a call or jump leads, as far as it can be told"),
        Col::data("kind", Type::Text).titled(
            "what it refers to: method, helper, stub, native, method_table, string, object, method_desc, static, code",
        ),
        Col::data("refers_to", Type::Content).titled("name of what it refers to; the text of a string"),
        Col::data("il_offset", Type::Hex).titled("IL offset it belongs to"),
        Col::data("source_file", Type::Path).titled("source file it belongs to"),
        Col::data("source_line", Type::Number).titled("line in it"),
        Col::data("asked", Type::Bool).titled("it is the instruction at the address asked for"),
    ],
);

/// Where an instruction stands, for the line of text.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Its offset in the method, where that is known.
    pub offset: Option<u64>,
    /// Whether the offset is shown.
    pub show_offset: bool,
    /// Whether it is the one asked for.
    pub asked: bool,
    /// IL offset it belongs to.
    pub il: Option<u32>,
    /// Source line it belongs to.
    pub line: Option<SourceLine>,
}

/// A listing of instructions that follow one another.
pub struct Listing<'s> {
    session: &'s Session,
    machine: Machine,
    registers: Registers,
    /// Places that are jumped to: nothing is known of registers there.
    joins: FxHashSet<u64>,
    /// First address and the one behind the last: jumps inside need no name.
    range: (u64, u64),
}

impl<'s> Listing<'s> {
    /// A listing of `code`.
    pub fn new(session: &'s Session, machine: Machine, code: &[Instruction]) -> Self {
        let jumps = code.iter().filter(|i| matches!(i.flow, Flow::Jump | Flow::Branch));
        let joins = jumps.filter_map(|i| match i.target {
            Some(Source::Value(to)) => Some(to),
            _ => None,
        });
        let joins = joins.collect();
        let end = code.iter().map(Instruction::next).max().unwrap_or(0);
        let range = (code.iter().map(|i| i.address).min().unwrap_or(0), end);
        Self { session, machine, registers: Registers::default(), joins, range }
    }

    /// Prints an instruction. `next` is the one behind it: a number that is put together from several is told once.
    pub fn row(
        &mut self,
        out: &mut Out,
        i: &Instruction,
        bytes: &[u8],
        next: Option<&Instruction>,
        place: Place,
    ) -> Result<()> {
        if self.joins.contains(&i.address) {
            self.registers.forget();
        }
        let said = self.refers(i, next);
        let read = |at: u64| self.session.dump().space.ptr(at);
        self.registers.step(&self.machine, i, &read);
        let pointer = self.session.dump().arch.pointer_size();
        let shown = self.machine.bytes_text(bytes);
        let width = self.machine.bytes_width();
        let note = said.as_ref().and_then(|s| s.text.as_deref()).map_or(String::new(), |t| format!(" ({t})"));
        let mark = if place.asked { ">>> " } else { "" };
        let offset = match place.offset {
            Some(offset) if place.show_offset => format!("{offset:04x} "),
            _ => String::new(),
        };
        let at = crate::commands::memory::tick(i.address, pointer);
        let line = format!("{mark}{offset}{at} {shown:width$} {}{note}", i.text);
        let (target, kind, name) = said.map_or((None, None, None), |s| (s.target, s.kind, s.name));
        let cells = [
            Cell::Addr(i.address),
            place.offset.map_or(Cell::None, Cell::Hex),
            Cell::text(shown),
            Cell::text(&*i.text),
            target.map_or(Cell::None, Cell::Addr),
            Cell::maybe(kind),
            Cell::maybe(name),
            place.il.map_or(Cell::None, |il| Cell::Hex(il.into())),
            Cell::maybe(place.line.as_ref().map(|l| l.document.as_str())),
            place.line.as_ref().map_or(Cell::None, |l| Cell::Num(l.line.into())),
            Cell::Bool(place.asked),
        ];
        Ok(out.row_as(&CODE, &cells, line)?)
    }

    fn refers(&self, i: &Instruction, next: Option<&Instruction>) -> Option<Said> {
        if let Some(target) = i.target {
            let (to, called) = self.session.destination(target, &self.registers)?;
            let inside = i.flow != Flow::Call && to.is_some_and(|to| (self.range.0..self.range.1).contains(&to));
            let Some(called) = called.filter(|_| !inside) else {
                return Some(Said { target: to, ..Said::default() });
            };
            return Some(of_called(to, &called));
        }
        // A number in parts is whole only behind the last of them.
        let goes_on =
            |n: &Instruction| matches!((n.sets, i.sets), (Some((a, Some(Source::Insert(..)))), Some((b, _))) if a == b);
        if next.is_some_and(goes_on) {
            return None;
        }
        let set = i.sets.and_then(|(_, source)| source);
        of_meaning(self.meaning(set.or(i.mentions)?)?)
    }

    fn meaning(&self, source: Source) -> Option<Meaning> {
        let direct = matches!(source, Source::Memory(_));
        // What is copied was told before.
        if matches!(source, Source::Register(_, 0)) {
            return None;
        }
        match self.registers.place(source)? {
            Source::Value(v) => self.session.meaning(v),
            Source::Memory(at) if direct => self.session.cell_meaning(at),
            // Fields of an object that is known tell nothing.
            Source::Memory(at) => {
                let in_heap = self.session.heap().ok().and_then(|h| h.segment_at(at)).is_some();
                if in_heap { None } else { self.session.cell_meaning(at) }
            }
            _ => None,
        }
    }
}

/// What is said of an instruction.
#[derive(Debug, Default)]
struct Said {
    target: Option<u64>,
    kind: Option<&'static str>,
    name: Option<String>,
    /// As text has it.
    text: Option<String>,
}

fn of_called(target: Option<u64>, called: &Called) -> Said {
    let text = called.text(digits());
    let kind = match called {
        Called::Method { .. } => "method",
        Called::Helper(_) => "helper",
        Called::For(_) => "stub",
        Called::Native(_) => "native",
    };
    Said { target, kind: Some(kind), name: Some(text.clone()), text: Some(text) }
}

fn of_meaning(meaning: Meaning) -> Option<Said> {
    let said = |kind: &'static str, name: String, text: String| {
        Some(Said { target: None, kind: Some(kind), name: Some(name), text: Some(text) })
    };
    match meaning {
        Meaning::MethodTable(name) => said("method_table", name.to_string(), format!("MT: {name}")),
        Meaning::Text(text) => {
            let shown: Cow<'_, str> = match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("\"{}...\"", text.get(..end).unwrap_or(&text)).into(),
                None => format!("\"{text}\"").into(),
            };
            let shown = shown.into_owned();
            said("string", text, shown)
        }
        Meaning::Object(name) => said("object", name.to_string(), format!("Object: {name}")),
        Meaning::MethodDesc(name) => said("method_desc", name.clone(), format!("MD: {name}")),
        Meaning::Static(name) => said("static", name.to_string(), format!("static: {name}")),
        Meaning::Code(called) => {
            let mut said = of_called(None, &called);
            said.kind = Some("code");
            Some(said)
        }
    }
}
