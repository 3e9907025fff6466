//! `.gcdump`: the graph of objects as PerfView, Visual Studio and dotnet-gcdump keep it.
//!
//! The form (microsoft/perfview at f3ec1b38, `src/FastSerialization/FastSerialization.cs`, `src/MemoryGraph/graph.cs`,
//! `src/MemoryGraph/MemoryGraph.cs`, `src/HeapDump/GCHeapDump.cs`): objects begin and end with a tag, the first thing of one is
//! its type; numbers are little-endian; texts have their number of UTF-16 units in front of them; nodes are numbers in a form
//! of 7 bits a byte, the highest first, and stand in one piece whose offsets come before it.

use std::io::{self, Write};

use anyhow::{Result, bail};

use super::picture::{FIRST_KIND, Picture};
use crate::heap::{Object, TypeInfo};

/// Tags of `FastSerialization.Tags`.
mod tag {
    pub const NULL: u8 = 1;
    pub const BEGIN: u8 = 4;
    pub const END: u8 = 6;
    pub const BYTE: u8 = 8;
    pub const SKIP: u8 = 12;
    pub const STRING: u8 = 13;
}

/// The type of the file's object: name, version, oldest version that can read it.
const DUMP: (&str, i32, i32) = ("GCHeapDump", 10, 8);
/// The type of the graph in it.
const GRAPH: (&str, i32, i32) = ("Graphs.MemoryGraph", 1, 0);
/// Moments count from the year 1 in units of 100 nanoseconds.
const YEAR_1970: u64 = 62_135_596_800;

/// Writes and counts.
struct Counted<'o, W: Write> {
    out: &'o mut W,
    at: u64,
}

impl<W: Write> Counted<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn byte(&mut self, value: u8) -> io::Result<()> {
        self.bytes(&[value])
    }

    fn int(&mut self, value: i32) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    fn long(&mut self, value: u64) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    /// A text: the number of its UTF-16 units, and each of them as UTF-8 has it.
    fn text(&mut self, text: &str) -> io::Result<()> {
        // A reader reads as many characters as it was told: one beyond 16 bits would be two for it.
        let units: Vec<u16> = text.encode_utf16().collect();
        self.int(units.len() as i32)?;
        for u in units {
            let c = char::from_u32(u.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
            self.bytes(c.encode_utf8(&mut [0; 4]).as_bytes())?;
        }
        Ok(())
    }

    /// No text.
    fn none(&mut self) -> io::Result<()> {
        self.int(-1)
    }

    /// The start of an object of this type.
    fn begin(&mut self, (name, version, oldest): (&str, i32, i32)) -> io::Result<()> {
        self.bytes(&[tag::BEGIN, tag::BEGIN, tag::NULL])?;
        self.int(version)?;
        self.int(oldest)?;
        self.text(name)?;
        self.byte(tag::END)
    }
}

/// Appends a number as nodes hold it.
fn push_number(bytes: &mut Vec<u8>, value: i32) {
    // As many groups of 7 bits as keep the sign.
    let groups = (1..5).find(|n| value << (32 - 7 * n) >> (32 - 7 * n) == value).unwrap_or(5);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        bytes.push((value >> (7 * group)) as u8 & 0x7F | more);
    }
}

/// Numbers of types: those of the nodes that are no objects, then those of objects.
struct Types {
    /// Name, bytes of each object or -1, module.
    all: Vec<(String, i32, Option<String>)>,
    first: u32,
}

fn size(bytes: u64) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// Bytes of all objects of a type, where they are the same.
fn fixed(ty: &TypeInfo, ptr: u64) -> Option<i32> {
    (!ty.mt.has_component_size()).then(|| size(u64::from(ty.mt.base_size).max(3 * ptr)))
}

impl Types {
    fn of(picture: &Picture<'_>) -> Self {
        let clr = picture.clr;
        let plain = |name: &str| (name.to_owned(), 0, None);
        let mut all = vec![plain("UNDEFINED"), plain("[.NET Roots]"), plain("[left out]")];
        all.extend(picture.kinds.iter().map(|k| plain(&format!("[{}]", k.0.trim_matches(['(', ')'])))));
        let first = all.len() as u32;
        for t in picture.session.types().all() {
            let module = clr.defining_module(&t.mt).map(|m| clr.module(m).path.to_string()).filter(|m| !m.is_empty());
            all.push((clr.type_name(t.mt.address).to_string(), fixed(&t, clr.header()).unwrap_or(-1), module));
        }
        Self { all, first }
    }
}

/// The roots as a node, what is left out as one, and the kinds of roots behind them.
const ROOTS: i32 = 1;
const LEFT_OUT: i32 = 2;
const KIND: i32 = 3;

/// Appends the node of an object.
fn object(picture: &Picture<'_>, types: &Types, id: u32, o: &Object<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    let ty = (types.first + o.ty.id) as i32;
    let own = size(o.size);
    let same = fixed(o.ty, picture.clr.header()) == Some(own);
    push_number(bytes, ty << 1 | i32::from(!same));
    if !same {
        push_number(bytes, own);
    }
    push_number(bytes, picture.degree(id) as i32);
    let number = picture.number_of(id).unwrap_or(0) as i32;
    picture.edges(id, o, |_, to| {
        push_number(bytes, to as i32 - number);
        Ok(())
    })
}

/// Calls `each` with the bytes of every node in order, before them those of a node that stands for none: it is in no list.
fn nodes(picture: &Picture<'_>, types: &Types, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut bytes = Vec::new();
    let kinds = picture.kinds.len() as i32;
    push_number(&mut bytes, 0);
    push_number(&mut bytes, 0);
    each(&bytes)?;
    bytes.clear();
    push_number(&mut bytes, ROOTS << 1);
    push_number(&mut bytes, kinds);
    (0..kinds).for_each(|i| push_number(&mut bytes, FIRST_KIND as i32 + i - 1));
    each(&bytes)?;
    for i in 0..picture.kinds.len() {
        bytes.clear();
        push_number(&mut bytes, (KIND + i as i32) << 1);
        let held = picture.held(i);
        push_number(&mut bytes, held.len() as i32);
        held.iter().for_each(|&to| push_number(&mut bytes, to as i32 - FIRST_KIND as i32 - i as i32));
        each(&bytes)?;
    }
    picture.each(|id, o| {
        bytes.clear();
        object(picture, types, id, o, &mut bytes)?;
        each(&bytes)
    })?;
    for rest in picture.rests() {
        bytes.clear();
        push_number(&mut bytes, LEFT_OUT << 1 | 1);
        push_number(&mut bytes, size(rest.bytes));
        push_number(&mut bytes, 0);
        each(&bytes)?;
    }
    Ok(())
}

/// Writes the file; how many references it holds.
pub fn write(picture: &Picture<'_>, out: &mut impl Write) -> Result<u64> {
    let types = Types::of(picture);
    let (mut length, mut total, mut references) = (0u64, 0u64, 0u64);
    nodes(picture, &types, |bytes| {
        length += bytes.len() as u64;
        Ok(())
    })?;
    picture.each(|id, o| {
        total += o.size;
        references += u64::from(picture.degree(id));
        Ok(())
    })?;
    total += picture.rests().map(|r| r.bytes).sum::<u64>();
    // Readers count the bytes of nodes, and nodes, in 31 bits.
    if length > i32::MAX as u64 || picture.nodes() > i32::MAX as u64 {
        bail!("a .gcdump holds no more than 2 GB of nodes: leave objects out with -most");
    }
    let mut to = Counted { out, at: 0 };
    to.text("!FastSerialization.1")?;
    to.begin(DUMP)?;
    to.begin(GRAPH)?;
    graph(picture, &types, &mut to, (length, total))?;
    to.byte(tag::END)?;
    about(picture, &mut to)?;
    // What may be skipped: no interoperation with COM, then the tool.
    to.byte(tag::SKIP)?;
    to.int(0)?;
    to.byte(tag::NULL)?;
    let skipped = to.at;
    to.byte(tag::STRING)?;
    to.text(concat!("clrscope ", env!("CARGO_PKG_VERSION")))?;
    to.byte(tag::END)?;
    to.byte(tag::END)?;
    // Places that were referred to before they were known, and where that list is.
    let list = to.at;
    to.int(1)?;
    to.int(skipped as u32 as i32)?;
    let trailer = to.at;
    to.int(list as u32 as i32)?;
    to.int(trailer as u32 as i32)?;
    if to.at > u64::from(u32::MAX) {
        bail!("a .gcdump is no larger than 4 GB: leave objects out with -most");
    }
    Ok(references)
}

fn graph<W: Write>(
    picture: &Picture<'_>,
    types: &Types,
    to: &mut Counted<'_, W>,
    (length, total): (u64, u64),
) -> Result<()> {
    // The roots are the first node: numbers are one less than in the picture.
    to.long(total)?;
    to.int(0)?;
    to.int(types.all.len() as i32)?;
    for (name, size, module) in &types.all {
        to.text(name)?;
        to.int(*size)?;
        match module {
            Some(module) => to.text(module)?,
            None => to.none()?,
        }
    }
    let count = picture.nodes() as i32 - 1;
    to.int(count)?;
    let mut at = 0u32;
    nodes(picture, types, |bytes| {
        if at > 0 {
            to.int(at as i32)?;
        }
        at += bytes.len() as u32;
        Ok(())
    })?;
    to.int(length as i32)?;
    nodes(picture, types, |bytes| Ok(to.bytes(bytes)?))?;
    to.int(count)?;
    for _ in 0..u64::from(FIRST_KIND) + picture.kinds.len() as u64 - 1 {
        to.long(0)?;
    }
    picture.each(|_, o| Ok(to.long(o.address)?))?;
    for _ in picture.rests() {
        to.long(0)?;
    }
    to.byte(tag::BYTE)?;
    to.byte(u8::from(picture.clr.ptr_size() == 8))?;
    Ok(())
}

/// What is said of the process.
fn about<W: Write>(picture: &Picture<'_>, to: &mut Counted<'_, W>) -> Result<()> {
    let about = picture.session.about();
    to.byte(u8::from(picture.clr.ptr_size() == 8))?;
    // Nothing is a sample.
    to.bytes(&1f32.to_le_bytes())?;
    to.bytes(&1f32.to_le_bytes())?;
    to.bytes(&[tag::NULL, tag::NULL])?;
    to.none()?;
    let seconds = about.time.or(about.file_time).unwrap_or(0);
    to.long(seconds.saturating_add(YEAR_1970).saturating_mul(10_000_000))?;
    to.none()?;
    match about.process {
        Some(name) => to.text(&name)?,
        None => to.none()?,
    }
    to.int(about.pid.and_then(|p| i32::try_from(p).ok()).unwrap_or(0))?;
    to.long(0)?;
    to.long(0)?;
    to.int(0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::push_number;

    /// As readers do.
    fn read(bytes: &[u8]) -> i32 {
        let mut value = i32::from(bytes[0]) << 25 >> 25;
        for b in &bytes[1..] {
            value = (value << 7) + i32::from(b & 0x7F);
        }
        value
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_read_back(value: i32, shift in 0u32..32) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            push_number(&mut bytes, value);
            assert!(bytes.len() <= 5 && bytes.iter().rev().skip(1).all(|b| b & 0x80 != 0) && bytes.last().is_some_and(|b| b & 0x80 == 0));
            assert_eq!(read(&bytes), value);
        }
    }
}
