//! The runtime's contract descriptor: its own description of its layouts, when the dump holds it.
//!
//! Format: dotnet/runtime `docs/design/datacontracts/contract-descriptor.md` and `data_descriptor.md` (9.0 to 11.0): magic,
//! flags, length and address of a JSON text, number and address of the pointers that indirect globals refer to. From
//! 11.0 on the text names sub-descriptors: variables that hold the address of a further descriptor, as the collector in
//! use has one of its own. What they say is one description.

mod names;
mod text;

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::exports;
use super::scan::{Span, words_equal};
use super::verdict::{Check, Verdict};
use super::{Layout, Source};
use crate::dump::Dump;

const MAGIC: [u8; 8] = *b"DNCCDAC\0";
/// The export that names the descriptor, where an image has exports.
const EXPORT: &str = "DotNetRuntimeContractDescriptor";
/// Longest text accepted; real ones are 3 to 20 KB.
const MAX_TEXT: u32 = 1 << 20;
const MAX_POINTERS: u32 = 10_000;
/// Newest version of the text whose shape is known: 0 in 9.0 and 10.0, 1 in previews of 11.0, 2 since.
const NEWEST_VERSION: u64 = 2;
/// How deep sub-descriptors may nest, and how many there may be: real ones are one level deep and two.
const MAX_DEPTH: usize = 4;
const MAX_PARTS: usize = 32;
/// Most places with the magic that are looked at.
const MAX_PLACES: usize = 64;

/// A descriptor found, its sub-descriptors merged.
#[derive(Debug, Clone, Default)]
pub struct Descriptor {
    /// Where it lies.
    pub address: u64,
    /// Version of its text.
    pub version: u64,
    /// Sub-descriptors read, by name and place.
    pub parts: Vec<(String, u64)>,
    /// What was not read or not believed, with the reason.
    pub notes: Vec<String>,
    types: usize,
    layout: Layout,
    /// Fields of older runtimes that what it says stands in for.
    gone: Vec<(&'static str, &'static str)>,
}

/// What an image holds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The descriptor of the runtime.
    pub main: Option<Descriptor>,
    /// That of the collector in use, where the runtime's is not in the dump.
    pub collector: Option<Descriptor>,
    /// Where one is of which part is not in the dump, with what is missing.
    pub absent: Option<String>,
    /// Places that look like one and were refused, with the reason.
    pub refused: Vec<String>,
}

/// Why a descriptor is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Part of it is not in the dump.
    Absent(String),
    /// It is not one, or not one to be believed.
    Wrong(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Absent(what) => write!(f, "{what} not in the dump"),
            Refusal::Wrong(why) => f.write_str(why),
        }
    }
}

impl Found {
    /// The description to use: the runtime's, or what there is of the collector.
    pub fn used(&self) -> Option<&Descriptor> {
        self.main.as_ref().or(self.collector.as_ref())
    }

    /// Notes why the one at `at` is not read.
    fn unread(&mut self, at: u64, why: &Refusal) {
        let text = format!("at {at:x}: {why}");
        match why {
            Refusal::Absent(_) => drop(self.absent.get_or_insert(text)),
            Refusal::Wrong(_) => self.refused.push(text),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let mut text = match (&self.main, &self.collector) {
            (Some(d), _) => d.describe(),
            (None, Some(d)) => format!("the collector's alone, {}", d.describe()),
            (None, None) => match &self.absent {
                Some(what) => what.clone(),
                None if self.refused.is_empty() => "not in the dump".into(),
                None => "none that can be used".into(),
            },
        };
        for why in &self.refused {
            text.push_str(&format!("; refused one {why}"));
        }
        text
    }
}

impl Descriptor {
    /// Number of types it describes.
    pub fn types(&self) -> usize {
        self.types
    }

    /// What it says, alone.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Puts what it says over `layout`: its fields (what only follows one moves with it), variables and constants.
    pub fn over(&self, layout: &mut Layout) {
        for (ty, field) in &self.gone {
            layout.drop_field(ty, field);
        }
        layout.overlay(&self.layout);
    }

    /// Whether it stands in for the field `name` (`Type.Field`) of older runtimes.
    pub fn replaces(&self, name: &str) -> bool {
        self.gone.iter().any(|(ty, field)| name.split_once('.') == Some((ty, field)))
    }

    /// Whether it stands in for any field of older runtimes.
    pub fn replaces_any(&self) -> bool {
        !self.gone.is_empty()
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let mut text = format!("at {:x}, version {}, {} types", self.address, self.version, self.types);
        for (name, at) in &self.parts {
            text.push_str(&format!(", with {name} at {at:x}"));
        }
        for note in &self.notes {
            text.push_str(&format!("; {note}"));
        }
        text
    }
}

/// Finds the descriptor of the runtime in its image: by the export that names it, else by its magic. An image of 11.0
/// holds those of both collectors too; the runtime's own is the one that describes MethodTables.
pub fn find(dump: &Dump, image: Span) -> Found {
    let mut found = Found::default();
    let exported = exports::find(dump, image, EXPORT);
    let low = u64::from(u32::from_le_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]));
    let magic = |a: &u64| dump.space.u64(*a) == Some(u64::from_le_bytes(MAGIC));
    let places: Vec<u64> = match exported.filter(magic) {
        Some(at) => vec![at],
        None => words_equal(&dump.space, image, 4, low).into_iter().filter(magic).take(MAX_PLACES).collect(),
    };
    for at in places {
        match read(dump, at) {
            Ok(d) if !d.layout.describes("MethodTable") => {}
            Ok(d) => {
                let larger = found.main.as_ref().is_none_or(|m: &Descriptor| d.types > m.types);
                if larger {
                    found.main = Some(d);
                }
            }
            Err(why) => found.unread(at, &why),
        }
    }
    if let Some(at) = exported.filter(|a| !magic(a)) {
        let why = match dump.space.readable(at) {
            true => Refusal::Wrong("what its export leads to does not begin with `DNCCDAC`".into()),
            false => Refusal::Absent("what its export leads to is".into()),
        };
        found.unread(at, &why);
    }
    found
}

/// Reads the collector's descriptor at `place`, which its own variables lead to, where the runtime's does not describe the
/// collector.
pub fn collector(dump: &Dump, found: &mut Found, place: Option<u64>) {
    let Some(at) = place.filter(|_| found.main.as_ref().is_none_or(|m| m.parts.is_empty())) else { return };
    match (read(dump, at), &mut found.main) {
        (Ok(d), Some(main)) => {
            main.layout.absorb(&d.layout);
            main.types += d.types;
            main.parts.push(("the collector's own".into(), at));
        }
        (Ok(d), None) => found.collector = Some(d),
        (Err(why), _) => found.unread(at, &why),
    }
}

/// Reads the descriptor at `address` with its sub-descriptors. The error says what is wrong with it.
pub fn read(dump: &Dump, address: u64) -> Result<Descriptor, Refusal> {
    let mut reading = Reading { dump, seen: FxHashSet::default(), descriptor: Descriptor::default() };
    reading.descriptor.address = address;
    reading.descriptor.version = reading.part(address, 0)?;
    let mut descriptor = reading.descriptor;
    descriptor.gone = names::translate(&mut descriptor.layout, u64::from(dump.space.ptr_size()));
    Ok(descriptor)
}

/// One descriptor and what it leads to.
struct Reading<'a> {
    dump: &'a Dump,
    seen: FxHashSet<u64>,
    descriptor: Descriptor,
}

impl Reading<'_> {
    /// Reads the descriptor at `address`, then its sub-descriptors; gives its version.
    fn part(&mut self, address: u64, depth: usize) -> Result<u64, Refusal> {
        let wrong = Refusal::Wrong;
        if !self.seen.insert(address) {
            return Err(wrong("it leads back to itself".into()));
        }
        if depth > MAX_DEPTH || self.seen.len() > MAX_PARTS {
            return Err(wrong("sub-descriptors nest too deep or are too many".into()));
        }
        let (json, pointers) = self.text(address)?;
        let version = text::version(&json).map_err(wrong)?;
        if version > NEWEST_VERSION {
            let note = format!("version {version} is newer than any known: read as version {NEWEST_VERSION}");
            self.descriptor.notes.push(note);
        }
        if let Some(base) = text::baseline(&json) {
            self.descriptor.notes.push(format!("what its baseline `{base}` says is not known"));
        }
        let json = text::bounded(json, pointers.len(), &mut self.descriptor.notes).map_err(wrong)?;
        let mut own = Layout::default();
        let source = Source::Descriptor(address);
        own.merge(&json, &source, &|n| pointers.get(usize::try_from(n).ok()?).copied());
        let types = json.get("types").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        self.descriptor.types += types;
        for twice in self.descriptor.layout.absorb(&own) {
            self.descriptor.notes.push(format!("{twice} is said twice, and not alike: the first counts"));
        }
        for (name, cell) in text::sub_descriptors(&json, &pointers) {
            self.sub(&name, cell, depth);
        }
        Ok(version)
    }

    /// A sub-descriptor: `cell` is the variable that holds its address, null before the collector has started.
    fn sub(&mut self, name: &str, cell: Option<u64>, depth: usize) {
        let place = cell.filter(|&c| c != 0).and_then(|c| self.dump.space.ptr(c));
        let Some(at) = place.filter(|&a| a != 0) else {
            self.descriptor.notes.push(format!("sub-descriptor {name} is null or not in the dump"));
            return;
        };
        match self.part(at, depth + 1) {
            Ok(_) => self.descriptor.parts.push((name.to_owned(), at)),
            Err(why) => self.descriptor.notes.push(format!("sub-descriptor {name} at {at:x} was refused: {why}")),
        }
    }

    /// The header at `address`: the JSON it leads to, and its pointers.
    fn text(&self, address: u64) -> Result<(Value, Vec<u64>), Refusal> {
        let (space, ptr) = (&self.dump.space, u64::from(self.dump.space.ptr_size()));
        let at = |offset: u64| address.checked_add(offset);
        let wrong = Refusal::Wrong;
        let short = || Refusal::Absent("its header is".into());
        let magic = space.bytes(address, MAGIC.len()).ok_or_else(short)?;
        if magic.iter().rev().eq(MAGIC.iter()) {
            return Err(wrong("it is that of a big-endian machine".into()));
        }
        if magic != MAGIC {
            return Err(wrong("it does not begin with `DNCCDAC`".into()));
        }
        let word = |offset| at(offset).and_then(|a| space.u32(a)).ok_or_else(short);
        let pointer = |offset| at(offset).and_then(|a| space.ptr(a)).ok_or_else(short);
        let (flags, length) = (word(8)?, word(12)?);
        let (text, count, pointers) = (pointer(16)?, word(16 + ptr)?, pointer(16 + ptr + 8)?);
        // Bit 0 is always set; bit 1 says that pointers have four bytes.
        if flags & 1 == 0 || (flags & 2 != 0) != (ptr == 4) {
            return Err(wrong(format!("its flags {flags:#x} do not fit pointers of {ptr} bytes")));
        }
        if length > MAX_TEXT {
            return Err(wrong(format!("its text would be {length} bytes long")));
        }
        if count > MAX_POINTERS {
            return Err(wrong(format!("it would have {count} pointers")));
        }
        let bytes =
            space.bytes(text, length as usize).ok_or_else(|| Refusal::Absent(format!("its text at {text:x} is")))?;
        let json = text::parse(&bytes).map_err(wrong)?;
        let data = || (0..u64::from(count)).map(|i| space.ptr_at(pointers, i * ptr)).collect::<Option<Vec<u64>>>();
        let data = data().ok_or_else(|| Refusal::Absent(format!("its pointers at {pointers:x} are")))?;
        Ok((json, data))
    }
}

/// Compares what both know: a disagreement is a failed check of the table's value.
pub fn witness(table: &Layout, descriptor: &Descriptor) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, theirs, _) in descriptor.layout.facts() {
        let ours = match name.split_once('.') {
            Some((_, "!")) => None,
            Some((ty, field)) => table.field(ty, field),
            None => None,
        };
        let Some(ours) = ours.filter(|o| o.value != theirs) else { continue };
        checks.push(Check {
            name: "the contract descriptor agrees",
            fields: vec![name],
            source: ours.source.clone(),
            expected: theirs.to_string(),
            found: ours.value.to_string(),
            verdict: Verdict::Failed,
        });
    }
    checks
}

/// Facts only the descriptor has, or that the table lost, are taken from it. Returns how many.
pub fn fill(layout: &mut Layout, descriptor: &Descriptor) -> usize {
    layout.absorb(&descriptor.layout);
    let source = Source::Descriptor(descriptor.address);
    layout.facts().iter().filter(|f| *f.2 == source).count()
}
