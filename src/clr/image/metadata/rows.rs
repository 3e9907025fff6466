//! Rows as the rest of the program wants them.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::tables::{
    CUSTOM_ATTRIBUTE_TYPE, HAS_CONSTANT, HAS_CUSTOM_ATTRIBUTE, IMPLEMENTATION, MEMBER_REF_PARENT, METHOD_DEF_OR_REF,
    RESOLUTION_SCOPE, TYPE_DEF_OR_REF, TYPE_OR_METHOD_DEF, table,
};
use super::{Metadata, Token, sig, token};

/// Most fields or methods of one type: the runtime numbers them with 16 bits. Keeps lists that overlap because they
/// are damaged from costing the square of the table.
const MAX_MEMBERS: u32 = 0x1_0000;

/// A row of TypeDef.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeDef<'a> {
    /// `TypeAttributes`.
    pub flags: u32,
    /// Name without namespace, with its backtick.
    pub name: &'a str,
    /// Namespace, empty for nested types.
    pub namespace: &'a str,
    /// Base class: TypeDef, TypeRef or TypeSpec token.
    pub extends: Option<Token>,
}

/// A row of Field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// `FieldAttributes`.
    pub flags: u16,
    /// Name.
    pub name: &'a str,
    /// Signature blob for [`super::sig::field`].
    pub signature: &'a [u8],
}

impl Field<'_> {
    /// Static, literals included.
    pub fn is_static(&self) -> bool {
        self.flags & 0x10 != 0
    }

    /// A compile-time constant without storage.
    pub fn is_literal(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

/// A row of MethodDef.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method<'a> {
    /// `MethodAttributes`.
    pub flags: u16,
    /// `MethodImplAttributes`.
    pub impl_flags: u16,
    /// RVA of the IL body, 0 for none.
    pub rva: u32,
    /// Name.
    pub name: &'a str,
    /// Signature blob for [`super::sig::method`].
    pub signature: &'a [u8],
}

/// A row of TypeRef.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeRef<'a> {
    /// Where it is defined: Module, ModuleRef, AssemblyRef, or the enclosing TypeRef.
    pub scope: Option<Token>,
    /// Name without namespace.
    pub name: &'a str,
    /// Namespace.
    pub namespace: &'a str,
}

/// A row of MemberRef.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRef<'a> {
    /// Owner.
    pub parent: Option<Token>,
    /// Name.
    pub name: &'a str,
    /// Field or method signature blob.
    pub signature: &'a [u8],
}

/// A row of ExportedType (a type forwarded elsewhere, or of another file of the assembly).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportedType<'a> {
    /// Name without namespace.
    pub name: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// File, AssemblyRef or enclosing ExportedType.
    pub implementation: Option<Token>,
}

/// Identity of this assembly or of a referenced one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblyName<'a> {
    /// Simple name.
    pub name: &'a str,
    /// Culture, empty for neutral.
    pub culture: &'a str,
    /// Major, minor, build, revision.
    pub version: [u16; 4],
    /// `AssemblyFlags`.
    pub flags: u32,
    /// Full public key, or (references mostly) its 8-byte token; empty for none.
    pub public_key_or_token: &'a [u8],
}

impl Metadata {
    /// Number of types defined here, the pseudo-class `<Module>` (row 1) included.
    pub fn typedef_count(&self) -> u32 {
        self.rows(table::TYPE_DEF)
    }

    /// The type of TypeDef row `rid`.
    pub fn typedef(&self, rid: u32) -> Option<TypeDef<'_>> {
        let t = table::TYPE_DEF;
        Some(TypeDef {
            flags: self.cell(t, rid, 0)?,
            name: self.name_cell(t, rid, 1)?,
            namespace: self.name_cell(t, rid, 2)?,
            extends: TYPE_DEF_OR_REF.decode(self.cell(t, rid, 3)?),
        })
    }

    /// The table the field lists of TypeDef run over: the pointer table where there is one.
    fn field_list(&self) -> u8 {
        if self.rows(table::FIELD_PTR) > 0 { table::FIELD_PTR } else { table::FIELD }
    }

    fn method_list(&self) -> u8 {
        if self.rows(table::METHOD_PTR) > 0 { table::METHOD_PTR } else { table::METHOD_DEF }
    }

    /// A list column of TypeDef: up to the next row's start, cut to the table it points to.
    fn list(&self, rid: u32, column: usize, target: u8) -> Range<u32> {
        let end = self.rows(target) + 1;
        let at = |rid| self.cell(table::TYPE_DEF, rid, column).map(|p| p.clamp(1, end));
        let first = at(rid).unwrap_or(end);
        let last = at(rid.saturating_add(1)).unwrap_or(end);
        first..last.clamp(first, first.saturating_add(MAX_MEMBERS))
    }

    /// Field rows of a type, in order.
    pub fn fields_of(&self, typedef: u32) -> impl Iterator<Item = u32> + '_ {
        let positions = self.list(typedef, 4, self.field_list());
        let through = self.rows(table::FIELD_PTR) > 0;
        positions.filter_map(move |p| if through { self.cell(table::FIELD_PTR, p, 0) } else { Some(p) })
    }

    /// MethodDef rows of a type, in order.
    pub fn methods_of(&self, typedef: u32) -> impl Iterator<Item = u32> + '_ {
        let positions = self.list(typedef, 5, self.method_list());
        let through = self.rows(table::METHOD_PTR) > 0;
        positions.filter_map(move |p| if through { self.cell(table::METHOD_PTR, p, 0) } else { Some(p) })
    }

    /// The TypeDef row whose list (`column`) holds `position`.
    fn list_owner(&self, column: usize, position: u32) -> Option<u32> {
        let starts_after = |rid| self.cell(table::TYPE_DEF, rid, column).is_none_or(|first| first > position);
        let (mut low, mut high) = (1, self.typedef_count() + 1);
        while low < high {
            let mid = low + (high - low) / 2;
            if starts_after(mid) { high = mid } else { low = mid + 1 }
        }
        (low > 1).then_some(low - 1)
    }

    /// Position of every row in its pointer table, 0 where none points to it.
    fn inverse(&self, pointers: u8, target: u8) -> Vec<u32> {
        let mut positions = vec![0; self.rows(target) as usize + 1];
        for p in 1..=self.rows(pointers) {
            if let Some(slot) = self.cell(pointers, p, 0).and_then(|rid| positions.get_mut(rid as usize)) {
                *slot = p;
            }
        }
        positions
    }

    /// The TypeDef row a field belongs to.
    pub fn field_owner(&self, field: u32) -> Option<u32> {
        if field == 0 || field > self.rows(table::FIELD) {
            return None;
        }
        let through = self.rows(table::FIELD_PTR) > 0;
        let positions = || self.inverse(table::FIELD_PTR, table::FIELD);
        let position = if through {
            *self.field_positions.get_or_init(positions).get(field as usize).filter(|&&p| p != 0)?
        } else {
            field
        };
        self.list_owner(4, position)
    }

    /// The TypeDef row a method belongs to.
    pub fn method_owner(&self, method: u32) -> Option<u32> {
        if method == 0 || method > self.rows(table::METHOD_DEF) {
            return None;
        }
        let through = self.rows(table::METHOD_PTR) > 0;
        let positions = || self.inverse(table::METHOD_PTR, table::METHOD_DEF);
        let position = if through {
            *self.method_positions.get_or_init(positions).get(method as usize).filter(|&&p| p != 0)?
        } else {
            method
        };
        self.list_owner(5, position)
    }

    /// The type a TypeDef row is nested in.
    pub fn enclosing(&self, typedef: u32) -> Option<u32> {
        self.enclosing.get(typedef as usize).copied().filter(|&o| o != 0)
    }

    /// Field row `rid`.
    pub fn field(&self, rid: u32) -> Option<Field<'_>> {
        let t = table::FIELD;
        Some(Field {
            flags: self.cell(t, rid, 0)? as u16,
            name: self.name_cell(t, rid, 1)?,
            signature: self.blob_cell(t, rid, 2)?,
        })
    }

    /// MethodDef row `rid`.
    pub fn method(&self, rid: u32) -> Option<Method<'_>> {
        let t = table::METHOD_DEF;
        Some(Method {
            rva: self.cell(t, rid, 0)?,
            impl_flags: self.cell(t, rid, 1)? as u16,
            flags: self.cell(t, rid, 2)? as u16,
            name: self.name_cell(t, rid, 3)?,
            signature: self.blob_cell(t, rid, 4)?,
        })
    }

    /// Parameters of a method: sequence number (0 is the return value) and name, as far as they are recorded.
    pub fn params(&self, method: u32) -> Vec<(u16, &str)> {
        let through = self.rows(table::PARAM_PTR) > 0;
        let end = self.rows(if through { table::PARAM_PTR } else { table::PARAM }) + 1;
        let at = |rid| self.cell(table::METHOD_DEF, rid, 5).map(|p| p.clamp(1, end));
        let Some(first) = at(method) else { return Vec::new() };
        let last = at(method.saturating_add(1)).unwrap_or(end);
        (first..last)
            .take(0x1_0000) // a sequence number has 16 bits
            .filter_map(|p| if through { self.cell(table::PARAM_PTR, p, 0) } else { Some(p) })
            .filter_map(|p| Some((self.cell(table::PARAM, p, 1)? as u16, self.name_cell(table::PARAM, p, 2)?)))
            .collect()
    }

    /// TypeRef row `rid`.
    pub fn typeref(&self, rid: u32) -> Option<TypeRef<'_>> {
        let t = table::TYPE_REF;
        Some(TypeRef {
            scope: RESOLUTION_SCOPE.decode(self.cell(t, rid, 0)?),
            name: self.name_cell(t, rid, 1)?,
            namespace: self.name_cell(t, rid, 2)?,
        })
    }

    /// MemberRef row `rid`.
    pub fn memberref(&self, rid: u32) -> Option<MemberRef<'_>> {
        let t = table::MEMBER_REF;
        Some(MemberRef {
            parent: MEMBER_REF_PARENT.decode(self.cell(t, rid, 0)?),
            name: self.name_cell(t, rid, 1)?,
            signature: self.blob_cell(t, rid, 2)?,
        })
    }

    /// Signature blob of TypeSpec row `rid`, for [`super::sig::type_spec`].
    pub fn typespec(&self, rid: u32) -> Option<&[u8]> {
        self.blob_cell(table::TYPE_SPEC, rid, 0)
    }

    /// The method (MethodDef or MemberRef token) and the blob of arguments of MethodSpec row `rid`.
    pub fn methodspec(&self, rid: u32) -> Option<(Token, &[u8])> {
        let t = table::METHOD_SPEC;
        Some((METHOD_DEF_OR_REF.decode(self.cell(t, rid, 0)?)?, self.blob_cell(t, rid, 1)?))
    }

    /// Signature blob of StandAloneSig row `rid`, for [`super::sig::locals`].
    pub fn standalone_sig(&self, rid: u32) -> Option<&[u8]> {
        self.blob_cell(table::STAND_ALONE_SIG, rid, 0)
    }

    /// ExportedType row `rid`.
    pub fn exported_type(&self, rid: u32) -> Option<ExportedType<'_>> {
        let t = table::EXPORTED_TYPE;
        Some(ExportedType {
            name: self.name_cell(t, rid, 2)?,
            namespace: self.name_cell(t, rid, 3)?,
            implementation: IMPLEMENTATION.decode(self.cell(t, rid, 4)?),
        })
    }

    /// Name of ModuleRef row `rid`.
    pub fn moduleref(&self, rid: u32) -> Option<&str> {
        self.name_cell(table::MODULE_REF, rid, 0)
    }

    /// Position of GenericParam row `rid` among the parameters of its owner, from 0.
    pub fn generic_param_number(&self, rid: u32) -> Option<u32> {
        self.cell(table::GENERIC_PARAM, rid, 0)
    }

    /// Generic parameters of a TypeDef or MethodDef token: names in order of their number.
    pub fn generic_params(&self, owner: Token) -> Vec<&str> {
        let Some(key) = TYPE_OR_METHOD_DEF.encode(owner) else { return Vec::new() };
        let t = table::GENERIC_PARAM;
        let mut found: Vec<_> = self
            .tables
            .matching(self.bytes(), t, 2, key)
            .take(0x1_0000) // a parameter number has 16 bits
            .filter_map(|row| Some((self.cell(t, row, 0)?, self.name_cell(t, row, 3)?)))
            .collect();
        found.sort_by_key(|&(number, _)| number);
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Interfaces a type declares: TypeDef, TypeRef or TypeSpec tokens.
    pub fn interfaces(&self, typedef: u32) -> impl Iterator<Item = Token> + '_ {
        let t = table::INTERFACE_IMPL;
        self.tables
            .matching(self.bytes(), t, 0, typedef)
            .filter_map(move |row| TYPE_DEF_OR_REF.decode(self.cell(t, row, 1)?))
    }

    /// Constant of a literal field: element type (as in signatures) and little-endian bytes.
    pub fn constant(&self, field: u32) -> Option<(u8, &[u8])> {
        let key = HAS_CONSTANT.encode(token(table::FIELD, field))?;
        let t = table::CONSTANT;
        let row = if self.tables.sorted(t) {
            self.tables.matching(self.bytes(), t, 1, key).next()?
        } else {
            *self.constants.get_or_init(|| self.index_constants()).get(&key)?
        };
        Some((self.cell(t, row, 0)? as u8, self.blob_cell(t, row, 2)?))
    }

    /// Rows by parent, for a table that is not sorted: a scan for each member of an enum would be quadratic.
    fn index_constants(&self) -> FxHashMap<u32, u32> {
        let t = table::CONSTANT;
        (1..=self.rows(t)).rev().filter_map(|row| Some((self.cell(t, row, 1)?, row))).collect()
    }

    /// Members of an enum in declaration order, values widened (sign-extended where their type is signed).
    pub fn enum_members(&self, typedef: u32) -> Vec<(&str, i64)> {
        self.fields_of(typedef)
            .filter_map(|rid| {
                let field = self.field(rid).filter(|f| f.is_literal())?;
                let (kind, bytes) = self.constant(rid)?;
                Some((field.name, sig::integer(kind, bytes)?))
            })
            .collect()
    }

    /// Value of the custom attribute of class `name` that the type `typedef` has: a blob as ECMA-335 II.23.3 lays it out.
    /// Looks through the table of attributes.
    pub fn attribute(&self, typedef: u32, name: &str) -> Option<&[u8]> {
        let t = table::CUSTOM_ATTRIBUTE;
        let key = HAS_CUSTOM_ATTRIBUTE.encode(token(table::TYPE_DEF, typedef))?;
        let is_named = |row: u32| {
            let constructor = CUSTOM_ATTRIBUTE_TYPE.decode(self.cell(t, row, 1)?)?;
            let (kind, rid) = ((constructor >> 24) as u8, constructor & 0x00FF_FFFF);
            let class = match kind {
                table::MEMBER_REF => self.memberref(rid)?.parent?,
                _ => token(table::TYPE_DEF, self.method_owner(rid)?),
            };
            let (kind, rid) = ((class >> 24) as u8, class & 0x00FF_FFFF);
            Some(match kind {
                table::TYPE_REF => self.typeref_full_name(rid) == name,
                table::TYPE_DEF => self.full_name(rid) == name,
                _ => false,
            })
        };
        let mut rows = (1..=self.rows(t)).filter(|&row| self.cell(t, row, 0) == Some(key));
        self.blob_cell(t, rows.find(|&row| is_named(row) == Some(true))?, 2)
    }

    /// RVA of a field's initial data (static arrays, mapped statics).
    pub fn field_rva(&self, field: u32) -> Option<u32> {
        let t = table::FIELD_RVA;
        let row = self.tables.matching(self.bytes(), t, 1, field).next()?;
        self.cell(t, row, 0)
    }

    /// Explicit packing and size of a type, in bytes.
    pub fn class_layout(&self, typedef: u32) -> Option<(u16, u32)> {
        let t = table::CLASS_LAYOUT;
        let row = self.tables.matching(self.bytes(), t, 2, typedef).next()?;
        Some((self.cell(t, row, 0)? as u16, self.cell(t, row, 1)?))
    }

    /// Identity of the assembly this module carries the manifest of.
    pub fn assembly(&self) -> Option<AssemblyName<'_>> {
        let t = table::ASSEMBLY;
        let v = |column| Some(self.cell(t, 1, column)? as u16);
        Some(AssemblyName {
            version: [v(1)?, v(2)?, v(3)?, v(4)?],
            flags: self.cell(t, 1, 5)?,
            public_key_or_token: self.blob_cell(t, 1, 6)?,
            name: self.name_cell(t, 1, 7)?,
            culture: self.name_cell(t, 1, 8)?,
        })
    }

    /// AssemblyRef row `rid`.
    pub fn assemblyref(&self, rid: u32) -> Option<AssemblyName<'_>> {
        let t = table::ASSEMBLY_REF;
        let v = |column| Some(self.cell(t, rid, column)? as u16);
        Some(AssemblyName {
            version: [v(0)?, v(1)?, v(2)?, v(3)?],
            flags: self.cell(t, rid, 4)?,
            public_key_or_token: self.blob_cell(t, rid, 5)?,
            name: self.name_cell(t, rid, 6)?,
            culture: self.name_cell(t, rid, 7)?,
        })
    }

    /// File name of the module as compiled, e.g. `zoo.dll`.
    pub fn module_name(&self) -> Option<&str> {
        self.name_cell(table::MODULE, 1, 1)
    }

    /// Module version id, the identity of a build, as stored (first three groups little-endian).
    pub fn mvid(&self) -> Option<[u8; 16]> {
        self.guid(self.cell(table::MODULE, 1, 2)?)
    }
}
