//! Classes and their members as a PDB of native code describes them: the records of its stream of types.
//!
//! Format: microsoft/microsoft-pdb `PDB/dbi/tpi.h` (`HDR`: where records begin, the number of the first, their bytes) and
//! `include/cvinfo.h` (`LEAF_ENUM_e`, `lfClass`, `lfMember`, `lfPointer`, `TYPE_ENUM_e`). A record names those before it
//! alone, so that no chain of them runs in a circle.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::members::{Member, MemberType};
use crate::dump::bytes;

/// Numbers below stand for a type themselves.
const FIRST_RECORD: u32 = 0x1000;
/// Types of a member that stand for another, followed to the last.
const MAX_STEPS: usize = 16;
/// A class that is described elsewhere.
const FORWARD_REFERENCE: u16 = 0x80;

/// Kinds of records and of their entries.
mod leaf {
    pub const MODIFIER: u16 = 0x1001;
    pub const POINTER: u16 = 0x1002;
    pub const FIELD_LIST: u16 = 0x1203;
    pub const BASE: u16 = 0x1400;
    pub const INDEX: u16 = 0x1404;
    pub const VIRTUAL_TABLE: u16 = 0x1409;
    pub const ENUMERATOR: u16 = 0x1502;
    pub const CLASS: u16 = 0x1504;
    pub const STRUCT: u16 = 0x1505;
    pub const ENUM: u16 = 0x1507;
    pub const MEMBER: u16 = 0x150D;
    pub const STATIC_MEMBER: u16 = 0x150E;
    pub const METHODS: u16 = 0x150F;
    pub const NESTED: u16 = 0x1510;
    pub const METHOD: u16 = 0x1511;
    /// From here on bytes between entries are padding.
    pub const PADDING: u8 = 0xF0;
}

/// Members of each class that the stream of types describes, by the name of the class; of one whose list of members is
/// not understood, none.
pub fn classes(stream: &[u8]) -> FxHashMap<Arc<str>, Vec<Member>> {
    let mut found: FxHashMap<Arc<str>, Vec<Member>> = FxHashMap::default();
    let Some(records) = Records::new(stream) else { return found };
    let mut reader = Reader { left: stream.len() / 4, records, names: FxHashMap::default() };
    for number in 0..reader.records.places.len() {
        let Some((kind, body)) = reader.records.record(number) else { break };
        let Some(class) = Some(body).filter(|_| matches!(kind, leaf::CLASS | leaf::STRUCT)).and_then(Class::read)
        else {
            continue;
        };
        if class.properties & FORWARD_REFERENCE != 0 {
            continue;
        }
        let name = text(class.name);
        if let Some(members) = reader.members(class.list, number) {
            let known = found.entry(name).or_default();
            if known.len() < members.len() {
                *known = members;
            }
        }
    }
    found
}

/// The records of the stream, by number.
struct Records<'a> {
    bytes: &'a [u8],
    /// Where each begins.
    places: Vec<u32>,
    /// The number by which others name the first.
    first: u32,
}

impl<'a> Records<'a> {
    fn new(stream: &'a [u8]) -> Option<Self> {
        let (start, size) = (bytes::u32(stream, 4)?, bytes::u32(stream, 16)?);
        let first = bytes::u32(stream, 8).filter(|&f| f >= FIRST_RECORD)?;
        let all = stream.get(usize::try_from(start).ok()?..)?;
        let all = all.get(..usize::try_from(size).ok()?).unwrap_or(all);
        let (mut places, mut at) = (Vec::new(), 0u64);
        // A damaged stream is read as far as it goes.
        while let Some(length) = bytes::u16(all, at).filter(|&l| l >= 2) {
            let end = at + 2 + u64::from(length);
            if end > all.len() as u64 {
                break;
            }
            places.push(u32::try_from(at).ok()?);
            at = end;
        }
        Some(Self { bytes: all, places, first })
    }

    /// Kind and content of a record.
    fn record(&self, number: usize) -> Option<(u16, &'a [u8])> {
        let at = u64::from(*self.places.get(number)?);
        let length = u64::from(bytes::u16(self.bytes, at)?);
        Some((bytes::u16(self.bytes, at + 2)?, bytes::slice(self.bytes, at + 4, length.checked_sub(2)?)?))
    }

    /// The place of the record that others name so.
    fn number(&self, index: u32) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }
}

/// Reads what follows, one after the other.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A number in its shortest form: itself, or its kind and then so many bytes.
    fn number(&mut self) -> Option<u64> {
        const FIRST_KIND: u16 = 0x8000;
        let kind = self.u16()?;
        let size = match kind {
            0..FIRST_KIND => return Some(u64::from(kind)),
            0x8000 => 1,
            0x8001 | 0x8002 => 2,
            0x8003 | 0x8004 => 4,
            0x8009 | 0x800A => 8,
            _ => return None,
        };
        Some(bytes::little_endian(self.take(size)?))
    }

    /// Text up to a zero.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|&b| b == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    fn skip_padding(&mut self) {
        while let Some(&byte) = self.0.first().filter(|&&b| b >= leaf::PADDING) {
            let length = usize::from(byte & 15).max(1).min(self.0.len());
            self.take(length);
        }
    }
}

fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// A class as its record has it.
struct Class<'a> {
    properties: u16,
    /// Number of the list of its members.
    list: u32,
    name: &'a [u8],
}

impl<'a> Class<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut at = Cursor(body);
        let (_members, properties, list) = (at.u16()?, at.u16()?, at.u32()?);
        // What it derives from, the shape of its table of virtual methods, its bytes.
        let (_, _, _) = (at.u32()?, at.u32()?, at.number()?);
        Some(Self { properties, list, name: at.text()? })
    }
}

/// An entry of a list of members.
enum Entry<'a> {
    /// A member: type, offset, name.
    Member(u32, u64, &'a [u8]),
    /// The list goes on there.
    More(u32),
    Other,
}

fn entry<'a>(at: &mut Cursor<'a>) -> Option<Entry<'a>> {
    let (kind, attributes) = (at.u16()?, at.u16()?);
    Some(match kind {
        leaf::MEMBER => Entry::Member(at.u32()?, at.number()?, at.text()?),
        leaf::INDEX => Entry::More(at.u32()?),
        leaf::BASE => {
            let (_, _) = (at.u32()?, at.number()?);
            Entry::Other
        }
        leaf::VIRTUAL_TABLE => {
            at.u32()?;
            Entry::Other
        }
        leaf::ENUMERATOR => {
            let (_, _) = (at.number()?, at.text()?);
            Entry::Other
        }
        leaf::STATIC_MEMBER | leaf::METHODS | leaf::NESTED => {
            let (_, _) = (at.u32()?, at.text()?);
            Entry::Other
        }
        leaf::METHOD => {
            at.u32()?;
            // One that a class introduces has its place in the table of virtual methods.
            if matches!(attributes >> 2 & 7, 4 | 6) {
                at.u32()?;
            }
            at.text()?;
            Entry::Other
        }
        _ => return None,
    })
}

struct Reader<'a> {
    records: Records<'a>,
    /// Names of classes that members are of, by record.
    names: FxHashMap<usize, Arc<str>>,
    /// Entries that may still be read: each takes some bytes of the stream, and few lists are those of several classes.
    left: usize,
}

impl Reader<'_> {
    /// Members that the list names which belongs to the class at `class`.
    fn members(&mut self, list: u32, class: usize) -> Option<Vec<Member>> {
        let mut members = Vec::new();
        let (mut list, mut before) = (self.records.number(list)?, class);
        loop {
            let (kind, body) = self.records.record(list).filter(|_| list < before)?;
            let mut at = Cursor(Some(body).filter(|_| kind == leaf::FIELD_LIST)?);
            let mut more = None;
            while !at.0.is_empty() {
                self.left = self.left.checked_sub(1)?;
                match entry(&mut at)? {
                    Entry::Member(ty, offset, name) => {
                        members.push(Member { name: text(name), offset, ty: self.member_type(ty) });
                    }
                    Entry::More(index) => more = Some(self.records.number(index)?),
                    Entry::Other => {}
                }
                at.skip_padding();
            }
            let Some(next) = more else { return Some(members) };
            (before, list) = (list, next);
        }
    }

    fn member_type(&mut self, mut index: u32) -> MemberType {
        for _ in 0..MAX_STEPS {
            if index < FIRST_RECORD {
                return primitive(index);
            }
            let Some((number, (kind, body))) =
                self.records.number(index).and_then(|n| Some((n, self.records.record(n)?)))
            else {
                break;
            };
            let next = match kind {
                leaf::POINTER => return self.pointer(body),
                leaf::STRUCT => return self.class(number, body).map_or(MemberType::Other, MemberType::Class),
                leaf::ENUM => bytes::u32(body, 4),
                leaf::MODIFIER => bytes::u32(body, 0),
                _ => None,
            };
            let Some(next) = next else { break };
            index = next;
        }
        MemberType::Other
    }

    /// A pointer; what C++ calls a reference to a class is one to an object.
    fn pointer(&mut self, body: &[u8]) -> MemberType {
        const REFERENCE: u32 = 1;
        let mut at = Cursor(body);
        let (Some(to), Some(attributes)) = (at.u32(), at.u32()) else { return MemberType::Other };
        let mut class = || {
            let number = self.records.number(to).filter(|_| attributes >> 5 & 7 == REFERENCE)?;
            let (_, body) = self.records.record(number).filter(|r| r.0 == leaf::CLASS)?;
            self.class(number, body)
        };
        class().map_or(MemberType::Pointer, MemberType::Reference)
    }

    fn class(&mut self, number: usize, body: &[u8]) -> Option<Arc<str>> {
        if let Some(known) = self.names.get(&number) {
            return Some(known.clone());
        }
        let name = text(Class::read(body)?.name);
        self.names.insert(number, name.clone());
        Some(name)
    }
}

/// A type that its number stands for: in the lowest byte what it is, above it whether a pointer to it is meant.
fn primitive(index: u32) -> MemberType {
    if index >> 8 & 7 != 0 {
        return MemberType::Pointer;
    }
    let number = |encoding: gimli::DwAte, size| MemberType::Number(encoding.0, size, Arc::from(""));
    let (signed, unsigned) = (gimli::DW_ATE_signed, gimli::DW_ATE_unsigned);
    match index & 0xFF {
        0x30 => number(gimli::DW_ATE_boolean, 1),
        0x71 | 0x7A => number(gimli::DW_ATE_UTF, 2),
        0x10 | 0x68 | 0x70 => number(signed, 1),
        0x20 | 0x69 => number(unsigned, 1),
        0x11 | 0x72 => number(signed, 2),
        0x21 | 0x73 => number(unsigned, 2),
        0x12 | 0x74 => number(signed, 4),
        0x22 | 0x75 => number(unsigned, 4),
        0x13 | 0x76 => number(signed, 8),
        0x23 | 0x77 => number(unsigned, 8),
        0x40 => number(gimli::DW_ATE_float, 4),
        0x41 => number(gimli::DW_ATE_float, 8),
        _ => MemberType::Other,
    }
}
