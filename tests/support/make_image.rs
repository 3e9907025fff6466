//! Builds managed images as they lie in memory: headers and metadata of types, their fields and type parameters.
#![allow(dead_code)]

use super::make_metadata::{Builder, Cell::*, Form};
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

/// Metadata of the assembly `name` with `types`, the first of which has row 2. Every field is an int32.
fn metadata(name: &str, types: &[Type<'_>]) -> Vec<u8> {
    let mut b = Builder::new(Form::default());
    b.row(0x00, &[W(0), S(&format!("{name}.dll")), G(1), G(0), G(0)]);
    let all = std::iter::once(&Type { space: "", name: "<Module>", fields: &[], params: 0 }).chain(types);
    let mut first = 1;
    for (row, t) in (1u16..).zip(all) {
        b.row(0x02, &[D(1), S(t.name), S(t.space), W(0), W(first), W(1)]);
        t.fields.iter().for_each(|field| b.row(0x04, &[W(1), S(field), B(&[6, 8])]));
        first += t.fields.len() as u16;
        (0..t.params).for_each(|number| b.row(0x2A, &[W(number), W(0), W(row << 1), S("T")]));
    }
    b.row(0x20, &[D(0x8004), W(2), W(0), W(0), W(0), D(0), G(0), S(name), G(0)]);
    b.finish("v2.0.50727")
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
