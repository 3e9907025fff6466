//! Native metadata: what the compiler keeps of types, methods and fields in the image, for reflection and stack traces.
//!
//! Source: dotnet/runtime `src/coreclr/tools/Common/Internal/Metadata/NativeFormat` (records and their fields in order as the
//! generator's `SchemaDef.cs` has them); the kinds used here have the same numbers from 8.0 to 11.0. A record is its fields
//! one after another; a handle of a fixed kind is the offset of its record, any other has its kind in its low bits.

use crate::clr::layout::Layout;
use crate::clr::types::typename::{Named, TypeName};

use super::format::{Blob, Reader};

/// The first word of the blob.
const SIGNATURE: [u8; 4] = 0xDEAD_DFFDu32.to_le_bytes();
/// Deepest nesting of namespaces and types followed.
const MAX_DEPTH: usize = 64;
/// Types of one signature: real ones have a few dozen at most.
const MAX_NODES: usize = 1 << 12;
/// More type arguments than any type has.
const MAX_ARGUMENTS: u32 = 256;

/// Kinds of records.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the schema")]
    pub const ARRAY: u8 = 0x01;
    pub const BY_REFERENCE: u8 = 0x02;
    pub const FIELD: u8 = 0x23;
    pub const FUNCTION_POINTER: u8 = 0x25;
    pub const METHOD: u8 = 0x28;
    pub const METHOD_TYPE_VARIABLE: u8 = 0x2C;
    pub const MODIFIED: u8 = 0x2D;
    pub const NAMESPACE_DEFINITION: u8 = 0x2F;
    pub const NAMESPACE_REFERENCE: u8 = 0x30;
    pub const POINTER: u8 = 0x32;
    pub const SZ_ARRAY: u8 = 0x37;
    pub const SCOPE_DEFINITION: u8 = 0x38;
    pub const TYPE_DEFINITION: u8 = 0x3A;
    pub const TYPE_INSTANTIATION: u8 = 0x3C;
    pub const TYPE_REFERENCE: u8 = 0x3D;
    pub const TYPE_SPECIFICATION: u8 = 0x3E;
    pub const TYPE_VARIABLE: u8 = 0x3F;
}

/// A record: its kind and where it begins; offset 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Handle {
    /// Its kind.
    pub kind: u8,
    /// Offset in the blob.
    pub offset: u32,
}

/// Full name of a type and the simple name of its assembly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FullName {
    /// Namespace, `+` between nesting levels, backticks kept.
    pub name: String,
    /// Simple name of the assembly; empty when it is not told.
    pub assembly: String,
}

/// Whether the blob begins as metadata does.
pub fn is_metadata(blob: &Blob) -> bool {
    blob.bytes.starts_with(&SIGNATURE)
}

/// The native metadata of a module.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    blob: Blob,
    token_bits: u32,
    handle_bits: u32,
}

impl Metadata {
    /// Wraps the blob; `None` where it does not begin as one.
    pub fn new(blob: Blob, layout: &Layout) -> Option<Self> {
        let bits = |name| layout.constant(name).ok().and_then(|v| u32::try_from(v).ok());
        let (token_bits, handle_bits) = (bits("MetadataTokenBits")?, bits("MetadataHandleBits")?);
        let sane = (20..=28).contains(&token_bits) && (4..=8).contains(&handle_bits);
        (sane && blob.bytes.starts_with(&SIGNATURE)).then_some(Self { blob, token_bits, handle_bits })
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.blob.bytes.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.blob.bytes.is_empty()
    }

    /// A reader at a record.
    pub fn record(&self, offset: u32) -> Reader<'_> {
        self.blob.at(offset as usize)
    }

    /// The handle that a token in a map stands for.
    pub fn of_token(&self, token: u32) -> Handle {
        Handle { kind: (token >> self.token_bits) as u8, offset: token & ((1 << self.token_bits) - 1) }
    }

    /// The next handle of any kind.
    pub fn handle(&self, r: &mut Reader<'_>) -> Option<Handle> {
        let raw = r.unsigned()?;
        Some(Handle { kind: (raw & ((1 << self.handle_bits) - 1)) as u8, offset: raw >> self.handle_bits })
    }

    /// The text record at `offset`.
    pub fn text(&self, offset: u32) -> Option<&str> {
        if offset == 0 { Some("") } else { self.blob.text(offset as usize) }
    }

    /// Name and assembly of a type definition or reference.
    pub fn full_name(&self, of: Handle) -> Option<FullName> {
        let mut levels = Vec::new();
        let mut at = of;
        for _ in 0..MAX_DEPTH {
            match at.kind {
                kind::TYPE_DEFINITION => {
                    let mut r = self.record(at.offset);
                    // Flags, base type.
                    r.unsigned()?;
                    self.handle(&mut r)?;
                    let namespace = r.unsigned()?;
                    levels.push(self.text(r.unsigned()?)?);
                    // Size, packing.
                    r.unsigned()?;
                    r.unsigned()?;
                    let enclosing = r.unsigned()?;
                    if enclosing == 0 {
                        return Some(
                            self.spelled(&levels, Handle { kind: kind::NAMESPACE_DEFINITION, offset: namespace }),
                        );
                    }
                    at = Handle { kind: kind::TYPE_DEFINITION, offset: enclosing };
                }
                kind::TYPE_REFERENCE => {
                    let mut r = self.record(at.offset);
                    let parent = self.handle(&mut r)?;
                    levels.push(self.text(r.unsigned()?)?);
                    if parent.kind != kind::TYPE_REFERENCE {
                        return Some(self.spelled(&levels, parent));
                    }
                    at = parent;
                }
                _ => return None,
            }
        }
        None
    }

    /// Nesting levels, the innermost first, below a namespace.
    fn spelled(&self, levels: &[&str], namespace: Handle) -> FullName {
        let (mut parts, mut at, mut assembly) = (Vec::new(), namespace, "");
        for _ in 0..MAX_DEPTH {
            match at.kind {
                kind::NAMESPACE_DEFINITION | kind::NAMESPACE_REFERENCE => {
                    let mut r = self.record(at.offset);
                    let next = || Some((self.handle(&mut r)?, self.text(r.unsigned()?)?));
                    let mut next = next;
                    let Some((parent, name)) = next() else { break };
                    if !name.is_empty() {
                        parts.push(name);
                    }
                    at = parent;
                }
                kind::SCOPE_DEFINITION => {
                    let mut r = self.record(at.offset);
                    // Flags, then the name.
                    assembly = r.unsigned().and_then(|_| self.text(r.unsigned()?)).unwrap_or_default();
                    break;
                }
                _ => break,
            }
        }
        parts.reverse();
        let mut name = parts.join(".");
        for (i, level) in levels.iter().rev().enumerate() {
            if i > 0 {
                name.push('+');
            } else if !name.is_empty() {
                name.push('.');
            }
            name.push_str(level);
        }
        FullName { name, assembly: assembly.to_owned() }
    }

    /// The type that a handle of a signature stands for, as a tree.
    pub fn tree(&self, of: Handle) -> TypeName {
        let mut left = MAX_NODES;
        self.node(of, 0, &mut left).unwrap_or(TypeName::Unknown)
    }

    fn node(&self, of: Handle, depth: usize, left: &mut usize) -> Option<TypeName> {
        *left = left.checked_sub(1).filter(|_| depth <= MAX_DEPTH)?;
        let mut r = self.record(of.offset);
        let mut inner = |r: &mut Reader<'_>| Some(Box::new(self.node(self.handle(r)?, depth + 1, left)?));
        Some(match of.kind {
            kind::TYPE_DEFINITION | kind::TYPE_REFERENCE => {
                let full = self.full_name(of)?;
                TypeName::plain(full.name, full.assembly)
            }
            kind::TYPE_SPECIFICATION => *inner(&mut r)?,
            kind::SZ_ARRAY => TypeName::SzArray(inner(&mut r)?),
            kind::ARRAY => {
                let element = inner(&mut r)?;
                TypeName::MdArray(element, r.unsigned()?)
            }
            kind::POINTER => TypeName::Pointer(inner(&mut r)?),
            kind::BY_REFERENCE => TypeName::ByRef(inner(&mut r)?),
            kind::FUNCTION_POINTER => TypeName::FnPtr,
            kind::TYPE_VARIABLE => TypeName::Var { number: r.unsigned()?, method: false },
            kind::METHOD_TYPE_VARIABLE => TypeName::Var { number: r.unsigned()?, method: true },
            kind::MODIFIED => {
                // Whether it is optional, the modifier.
                r.byte()?;
                self.handle(&mut r)?;
                *inner(&mut r)?
            }
            kind::TYPE_INSTANTIATION => {
                let (definition, arguments) = self.instantiation(of.offset)?;
                let args = arguments.into_iter().map(|a| self.node(a, depth + 1, left)).collect::<Option<_>>()?;
                match self.node(definition, depth + 1, left)? {
                    TypeName::Named(open) => TypeName::Named(Named { args, ..open }),
                    other => other,
                }
            }
            _ => return None,
        })
    }

    /// Types of the parameters of the method signature at `offset`, `most` of them at most.
    pub fn parameters(&self, offset: u32, most: u32) -> Option<Vec<TypeName>> {
        let mut r = self.record(offset);
        // Calling convention, number of type parameters, what is returned.
        r.unsigned()?;
        r.unsigned()?;
        self.handle(&mut r)?;
        let count = r.unsigned()?.min(most);
        Some((0..count).map_while(|_| self.handle(&mut r)).map(|h| self.tree(h)).collect())
    }

    /// The definition of an instantiation and its arguments.
    pub fn instantiation(&self, offset: u32) -> Option<(Handle, Vec<Handle>)> {
        let mut r = self.record(offset);
        let definition = self.handle(&mut r)?;
        let count = r.unsigned()?.min(MAX_ARGUMENTS);
        let arguments = (0..count).map_while(|_| self.handle(&mut r)).collect();
        Some((definition, arguments))
    }
}
