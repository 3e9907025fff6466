//! A PDB as a linker writes it of a program for Windows: identity, records of types, public symbols and the sections of the
//! image, as streams in pages.
#![allow(clippy::unwrap_used, dead_code)]

/// Bytes of a page.
const PAGE: usize = 4096;
/// Where the only section begins.
const SECTION: u64 = 0x1000;

const CLASS: u16 = 0x1504;
const STRUCT: u16 = 0x1505;

/// A type that members refer to: a number of its own below 0x1000, else that of a record.
pub type Index = u32;

/// Numbers of types that have no record.
pub const INT: Index = 0x74;
pub const LONG: Index = 0x76;
pub const DOUBLE: Index = 0x41;

/// The file being made.
#[derive(Default)]
pub struct Pdb {
    types: Vec<u8>,
    count: u32,
    symbols: Vec<u8>,
}

fn text(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

fn number(value: u64) -> Vec<u8> {
    match u16::try_from(value) {
        Ok(small @ 0..0x8000) => small.to_le_bytes().to_vec(),
        _ => [&0x8004u16.to_le_bytes()[..], &(value as u32).to_le_bytes()].concat(),
    }
}

/// Up to a multiple of four.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    while !bytes.len().is_multiple_of(4) {
        bytes.push(0xF0 + (4 - bytes.len() % 4) as u8);
    }
    bytes
}

impl Pdb {
    fn record(&mut self, kind: u16, body: &[u8]) -> Index {
        // The length counts what follows it.
        let bytes = padded([&[0, 0][..], &kind.to_le_bytes(), body].concat());
        self.types.extend((bytes.len() as u16 - 2).to_le_bytes());
        self.types.extend(&bytes[2..]);
        self.count += 1;
        0x1000 + self.count - 1
    }

    fn named(&mut self, kind: u16, name: &str, (members, properties, list): (usize, u16, Index), size: u64) -> Index {
        let head = [(members as u16).to_le_bytes(), properties.to_le_bytes()].concat();
        self.record(kind, &[&head[..], &list.to_le_bytes(), &[0; 8], &number(size), &text(name)].concat())
    }

    /// A class whose members are described elsewhere or nowhere.
    pub fn declared(&mut self, name: &str) -> Index {
        self.named(CLASS, name, (0, 0x80, 0), 0)
    }

    /// A reference to an object of a class, or another pointer.
    pub fn pointer(&mut self, to: Index, reference: bool) -> Index {
        let attributes: u32 = if reference { 0x2C } else { 0x0C };
        self.record(0x1002, &[to.to_le_bytes(), attributes.to_le_bytes()].concat())
    }

    /// An enumeration made of another type.
    pub fn enumeration(&mut self, name: &str, of: Index) -> Index {
        let entry =
            [&0x1502u16.to_le_bytes()[..], &[0, 0], &0x8003u16.to_le_bytes(), &[0xFF; 4], &text("Least")].concat();
        let list = self.record(0x1203, &padded(entry));
        self.record(0x1507, &[&[1, 0, 0, 0][..], &of.to_le_bytes(), &list.to_le_bytes(), &text(name)].concat())
    }

    /// A class with members: name, type, offset, `None` of a static one. The list of members is split in two.
    pub fn class(&mut self, name: &str, size: u64, base: Index, members: &[(&str, Index, Option<u64>)]) -> Index {
        let inherits = [&0x1400u16.to_le_bytes()[..], &[0, 0], &base.to_le_bytes(), &[0, 0]].concat();
        let list = self.lists(padded(inherits), members);
        self.named(CLASS, name, (members.len() + 1, 0, list), size)
    }

    /// The same of a struct, which derives from nothing.
    pub fn structure(&mut self, name: &str, size: u64, members: &[(&str, Index, Option<u64>)]) -> Index {
        let list = self.lists(Vec::new(), members);
        self.named(STRUCT, name, (members.len(), 0, list), size)
    }

    fn lists(&mut self, mut entries: Vec<u8>, members: &[(&str, Index, Option<u64>)]) -> Index {
        for (i, (name, ty, offset)) in members.iter().enumerate() {
            if i == members.len() / 2 && i > 0 {
                // The next list begins with the one before.
                let before = self.record(0x1203, &entries);
                entries = [&0x1404u16.to_le_bytes()[..], &[0, 0], &before.to_le_bytes()].concat();
            }
            let kind: u16 = if offset.is_some() { 0x150D } else { 0x150E };
            let place = offset.map_or(Vec::new(), number);
            entries.extend(padded([&kind.to_le_bytes()[..], &[0, 0], &ty.to_le_bytes(), &place, &text(name)].concat()));
        }
        self.record(0x1203, &entries)
    }

    /// A public symbol of data.
    pub fn symbol(&mut self, name: &str, rva: u64) {
        let offset = (rva - SECTION) as u32;
        let mut body = [&0x110Eu16.to_le_bytes()[..], &[0; 4], &offset.to_le_bytes(), &[1, 0], &text(name)].concat();
        while !(body.len() + 2).is_multiple_of(4) {
            body.push(0);
        }
        self.symbols.extend((body.len() as u16).to_le_bytes());
        self.symbols.extend(body);
    }

    /// The bytes of the file, which was linked so often.
    pub fn finish(self, guid: [u8; 16], age: u32) -> Vec<u8> {
        let words = |all: &[u32]| -> Vec<u8> { all.iter().flat_map(|w| w.to_le_bytes()).collect() };
        let info = [&words(&[20_000_404, 0, age])[..], &guid, &words(&[0; 5])].concat();
        let head = words(&[20_040_203, 56, 0x1000, 0x1000 + self.count, self.types.len() as u32]);
        let types = [&head[..], &[0xFF; 4], &[0; 32], &self.types].concat();
        // Version, age; numbers of streams, the fifth of symbols; sizes of parts of this one, of which the last is there:
        // numbers of streams again, the sixth of section headers.
        let head =
            [&words(&[u32::MAX, 19_990_903, age])[..], &[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0, 5, 0, 0, 0]].concat();
        let sizes = [&words(&[0, 0, 0, 0, 0, 0, 22, 0])[..], &[0, 0, 0x64, 0x86, 0, 0, 0, 0]].concat();
        let streams = [0xFFFFu16, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 6, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF];
        let streams: Vec<u8> = streams.iter().flat_map(|s| s.to_le_bytes()).collect();
        let modules = [head, sizes, streams].concat();
        let section = [&b".data\0\0\0"[..], &words(&[0x1000_0000, SECTION as u32]), &[0; 24]].concat();
        pages(&[Vec::new(), info, types, modules, Vec::new(), self.symbols, section])
    }
}

/// Streams as a file of pages: its head, two pages nobody reads, the streams, their directory and where that lies.
fn pages(streams: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0u8; 3 * PAGE];
    let mut add = |bytes: &[u8]| -> Vec<u32> {
        let first = (file.len() / PAGE) as u32;
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(PAGE), 0);
        (first..(file.len() / PAGE) as u32).collect()
    };
    let places: Vec<u32> = streams.iter().flat_map(|s| add(s)).collect();
    let mut directory = vec![streams.len() as u32];
    directory.extend(streams.iter().map(|s| s.len() as u32));
    directory.extend(places);
    let directory: Vec<u8> = directory.iter().flat_map(|w| w.to_le_bytes()).collect();
    let list: Vec<u8> = add(&directory).iter().flat_map(|w| w.to_le_bytes()).collect();
    let map = add(&list);
    let head = [PAGE as u32, 1, (file.len() / PAGE) as u32, directory.len() as u32, 0, map[0]];
    file[..32].copy_from_slice(b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    for (i, word) in head.iter().enumerate() {
        file[32 + 4 * i..36 + 4 * i].copy_from_slice(&word.to_le_bytes());
    }
    file
}
