//! Builds managed images as they lie in memory: headers and metadata of types, their fields and type parameters.
#![allow(dead_code)]

use super::make_minidump::{Fields, fields};

/// A type: namespace, name, fields, type parameters.
pub struct Type<'a> {
    pub space: &'a str,
    pub name: &'a str,
    pub fields: &'a [&'a str],
    pub params: u16,
}

/// Where the metadata lies.
const METADATA: u32 = 0x1100;

struct Heap(Vec<u8>);

impl Heap {
    fn add(&mut self, text: &str) -> u16 {
        if text.is_empty() {
            return 0;
        }
        let at = self.0.len() as u16;
        self.0.extend(text.as_bytes());
        self.0.push(0);
        at
    }
}

/// Metadata of the assembly `name` with `types`, the first of which has row 2.
fn metadata(name: &str, types: &[Type<'_>]) -> Vec<u8> {
    let mut strings = Heap(vec![0]);
    let mut rows = fields();
    let file = strings.add(&format!("{name}.dll"));
    rows = rows.u16(0).u16(file).u16(1).u16(0).u16(0);
    let all = std::iter::once(&Type { space: "", name: "<Module>", fields: &[], params: 0 }).chain(types);
    let (mut first, mut list, mut params) = (1u16, fields(), fields());
    let (mut n_fields, mut n_params) = (0u32, 0u32);
    for (i, t) in all.enumerate() {
        let (name, space) = (strings.add(t.name), strings.add(t.space));
        rows = rows.u32(1).u16(name).u16(space).u16(0).u16(first).u16(1);
        for field in t.fields {
            list = list.u16(1).u16(strings.add(field)).u16(1);
            n_fields += 1;
            first += 1;
        }
        for number in 0..t.params {
            params = params.u16(number).u16(0).u16((i as u16 + 1) << 1).u16(strings.add("T"));
            n_params += 1;
        }
    }
    let assembly = fields().u32(0x8004).u16(2).u16(0).u16(0).u16(0).u32(0).u16(0).u16(strings.add(name)).u16(0);
    // Tables: Module, TypeDef, Field, Assembly, GenericParam, where they have rows.
    let counts = [(0x00, 1), (0x02, types.len() as u32 + 1), (0x04, n_fields), (0x20, 1), (0x2A, n_params)];
    let valid = counts.iter().filter(|c| c.1 > 0).fold(0u64, |v, c| v | 1 << c.0);
    let mut tables = fields().u32(0).u8(2).u8(0).u8(0).u8(1).u64(valid).u64(0);
    for (_, n) in counts.iter().filter(|c| c.1 > 0) {
        tables = tables.u32(*n);
    }
    let tables = tables.bytes(&rows.0).bytes(&list.0).bytes(&assembly.0).bytes(&params.0);
    let pad = |mut b: Vec<u8>| {
        b.resize(b.len().next_multiple_of(4), 0);
        b
    };
    // The one signature: a field of type int32.
    let streams: [(&[u8], Vec<u8>); 4] = [
        (b"#~\0\0", pad(tables.0)),
        (b"#Strings\0\0\0\0", pad(strings.0)),
        (b"#GUID\0\0\0", vec![7; 16]),
        (b"#Blob\0\0\0", vec![0, 2, 6, 8]),
    ];
    let mut out = b"BSJB\x01\0\x01\0\0\0\0\0\x0C\0\0\0v2.0.50727\0\0".to_vec();
    out.extend([0, 0, 4, 0]);
    let mut at = out.len() + streams.iter().map(|(n, _)| 8 + n.len()).sum::<usize>();
    for (n, bytes) in &streams {
        out.extend((at as u32).to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(*n);
        at += bytes.len();
    }
    streams.iter().for_each(|(_, bytes)| out.extend(bytes));
    out
}

/// The image in memory, of `size` bytes, for pointers of `ptr` bytes.
pub fn image(name: &str, types: &[Type<'_>], ptr: u64, size: u32) -> Vec<u8> {
    let data = metadata(name, types);
    let wide = ptr == 8;
    let optional: u16 = if wide { 0xF0 } else { 0xE0 };
    let mut out = fields().bytes(b"MZ").zeros(0x3A).u32(0x80).zeros(0x40);
    out = out
        .bytes(b"PE\0\0")
        .u16(if wide { 0x8664 } else { 0x14C })
        .u16(1)
        .u32(0x4A5B6C7D)
        .zeros(8)
        .u16(optional)
        .u16(0x2000);
    let header = out.0.len();
    out = out.u16(if wide { 0x20B } else { 0x10B }).zeros(usize::from(optional) - 2);
    let put = |out: &mut Fields, at: usize, v: u32| out.0[at..at + 4].copy_from_slice(&v.to_le_bytes());
    put(&mut out, header + 56, size);
    put(&mut out, header + 60, 0x200);
    let directories = header + if wide { 112 } else { 96 };
    put(&mut out, directories - 4, 16);
    put(&mut out, directories + 14 * 8, 0x1000);
    put(&mut out, directories + 14 * 8 + 4, 72);
    out = out
        .bytes(b".text\0\0\0")
        .u32(size - 0x1000)
        .u32(0x1000)
        .u32(size - 0x1000)
        .u32(0x200)
        .zeros(12)
        .u32(0x6000_0020);
    let mut bytes = out.0;
    bytes.resize(0x1000, 0);
    let cli = fields().u32(72).u16(2).u16(5).u32(METADATA).u32(data.len() as u32).u32(1).zeros(52);
    bytes.extend(cli.0);
    bytes.resize(METADATA as usize, 0);
    bytes.extend(data);
    assert!(bytes.len() <= size as usize);
    bytes.resize(size as usize, 0);
    bytes
}
