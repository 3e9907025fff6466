#![allow(clippy::unwrap_used, clippy::panic)]
use super::make_metadata::{Builder, Cell::*, Form};
use super::*;
use crate::clr::image::metadata::sig::TypeSig;
use proptest::prelude::*;

/// `<Module>`, ``A.B.Map`2``, its nested `Entry`, the enum `A.Colour`, and `Deep`, nested in `Entry`.
fn module(form: Form) -> Vec<u8> {
    let mut b = Builder::new(form);
    b.row(0x00, &[W(0), S("small.dll"), G(1), G(0), G(0)]);
    b.row(0x01, &[W(1 << 2 | 2), S("Object"), S("System")]); // AssemblyRef 1
    b.row(0x01, &[W(1 << 2 | 3), S("Inner"), S("")]); // nested in TypeRef 1
    b.row(0x02, &[D(0), S("<Module>"), S(""), W(0), W(1), W(1)]);
    b.row(0x02, &[D(1), S("Map`2"), S("A.B"), W(1 << 2 | 1), W(1), W(1)]);
    b.row(0x02, &[D(2), S("Entry"), S(""), W(1 << 2 | 1), W(3), W(2)]);
    b.row(0x02, &[D(0x101), S("Colour"), S("A"), W(1 << 2 | 1), W(3), W(3)]);
    b.row(0x02, &[D(2), S("Deep"), S(""), W(0), W(5), W(3)]);
    if form.uncompressed {
        // The lists of TypeDef go through these: fields in reverse, methods crosswise.
        [4, 3, 2, 1].iter().for_each(|&rid| b.row(0x03, &[W(rid)]));
        [2, 1].iter().for_each(|&rid| b.row(0x05, &[W(rid)]));
    }
    b.row(0x04, &[W(1), S("first"), B(&[6, 8])]);
    b.row(0x04, &[W(0x11), S("second"), B(&[6, 0x1D, 0x13, 0])]);
    b.row(0x04, &[W(0x8056), S("Red"), B(&[6, 0x11, 4 << 2])]);
    b.row(0x04, &[W(0x8056), S("Blue"), B(&[6, 0x11, 4 << 2])]);
    b.row(0x06, &[D(0x2050), W(0), W(6), S("Add"), B(&[0x20, 2, 1, 0x13, 0, 0x10, 0x0E]), W(1)]);
    b.row(0x06, &[D(0), W(0), W(6), S("Get"), B(&[0x30, 1, 1, 0x1E, 0, 0x1D, 0x1C]), W(3)]);
    b.row(0x08, &[W(0), W(1), S("key")]);
    b.row(0x08, &[W(0), W(2), S("value")]);
    b.row(0x09, &[W(2), W(1 << 2 | 1)]);
    b.row(0x0B, &[W(8), W(3 << 2), B(&[0xFF, 0xFF, 0xFF, 0xFF])]);
    b.row(0x0B, &[W(8), W(4 << 2), B(&[7, 0, 0, 0])]);
    b.row(0x0F, &[W(4), D(24), W(3)]);
    b.row(0x1B, &[B(&[0x15, 0x12, 2 << 2, 2, 0x08, 0x0E])]);
    b.row(0x1D, &[D(0x3000), W(2)]);
    b.row(0x20, &[D(0x8004), W(1), W(2), W(3), W(4), D(0), B(&[]), S("small"), S("")]);
    b.row(0x23, &[W(8), W(0), W(0), W(0), D(0), B(&[9, 8, 7]), S("System.Runtime"), S(""), B(&[])]);
    b.row(0x27, &[D(0), D(0), S("Gone"), S("A"), W(1 << 2 | 1)]);
    // One nested in it.
    b.row(0x27, &[D(0), D(0), S("Inner"), S(""), W(1 << 2 | 2)]);
    b.row(0x27, &[D(0), D(0), S("Inner"), S(""), W(1 << 2 | 1)]);
    b.row(0x29, &[W(3), W(2)]);
    b.row(0x29, &[W(5), W(3)]);
    b.row(0x2A, &[W(0), W(0), W(2 << 1), S("TKey")]);
    b.row(0x2A, &[W(1), W(0), W(2 << 1), S("TValue")]);
    b.row(0x2A, &[W(0), W(0), W(2 << 1 | 1), S("T")]);
    b.finish("v4.0.30319")
}

fn forms() -> impl Iterator<Item = Form> {
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .map(|(uncompressed, wide)| Form { uncompressed, wide })
}

fn each(check: impl Fn(&Metadata, Form)) {
    for form in forms() {
        check(&Metadata::parse(module(form)).unwrap(), form);
    }
}

#[test]
fn names_nest_and_are_found_again() {
    each(|m, _| {
        assert_eq!(m.typedef_count(), 5);
        let names: Vec<_> = (1..=5).map(|r| m.full_name(r)).collect();
        assert_eq!(names, ["<Module>", "A.B.Map`2", "A.B.Map`2+Entry", "A.Colour", "A.B.Map`2+Entry+Deep"]);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(m.typedef_by_name(name), Some(i as u32 + 1));
        }
        assert_eq!(m.typedef_by_name("Entry"), None);
        assert_eq!(m.full_name(6), "");
        assert_eq!((m.enclosing(3), m.enclosing(2), m.enclosing(99)), (Some(2), None, None));
        assert_eq!(m.nesting(5), [2, 3, 5]);
    });
}

#[test]
fn fields_and_methods_belong_to_their_types() {
    each(|m, form| {
        let fields: Vec<Vec<u32>> = (1..=5).map(|r| m.fields_of(r).collect()).collect();
        let methods: Vec<Vec<u32>> = (1..=5).map(|r| m.methods_of(r).collect()).collect();
        if form.uncompressed {
            assert_eq!(fields, [vec![], vec![4, 3], vec![], vec![2, 1], vec![]]);
            assert_eq!(methods, [vec![], vec![2], vec![1], vec![], vec![]]);
        } else {
            assert_eq!(fields, [vec![], vec![1, 2], vec![], vec![3, 4], vec![]]);
            assert_eq!(methods, [vec![], vec![1], vec![2], vec![], vec![]]);
        }
        for rid in 1..=5 {
            assert!(m.fields_of(rid).all(|f| m.field_owner(f) == Some(rid)));
            assert!(m.methods_of(rid).all(|f| m.method_owner(f) == Some(rid)));
        }
        assert_eq!((m.field_owner(0), m.field_owner(5), m.method_owner(3)), (None, None, None));
        let f = m.field(2).unwrap();
        assert!(f.is_static() && !f.is_literal());
        assert_eq!(f.name, "second");
        assert_eq!(sig::field(f.signature), Some(TypeSig::SzArray(Box::new(TypeSig::Var(0)))));
        assert_eq!(m.params(1), [(1, "key"), (2, "value")]);
        assert_eq!(m.params(2), []);
    });
}

#[test]
fn constants_layouts_and_other_rows() {
    each(|m, form| {
        if !form.uncompressed {
            assert_eq!(m.enum_members(4), [("Red", -1), ("Blue", 7)]);
        }
        assert_eq!(m.constant(4), Some((8, &[7, 0, 0, 0][..])));
        assert_eq!(m.constant(1), None);
        assert_eq!(m.field_rva(2), Some(0x3000));
        assert_eq!(m.class_layout(3), Some((4, 24)));
        assert_eq!(m.interfaces(2).collect::<Vec<_>>(), [0x0100_0001]);
        assert_eq!(m.generic_params(token(table::TYPE_DEF, 2)), ["TKey", "TValue"]);
        assert_eq!(m.generic_params(token(table::METHOD_DEF, 2)), ["T"]);
        assert_eq!(m.typeref_full_name(2), "System.Object+Inner");
        assert_eq!(m.typeref_scope(2), Some(0x2300_0001));
        assert_eq!(m.typedef(2).unwrap().extends, Some(0x0100_0001));
        assert_eq!(m.typedef(5).unwrap().extends, None);
        assert_eq!(m.exported_type(1).unwrap().implementation, Some(0x2300_0001));
        assert_eq!((m.forwarded_to("A.Gone"), m.forwarded_to("Inner")), (Some(0x2300_0001), Some(0x2300_0001)));
        assert_eq!((m.forwarded_to("Gone"), m.forwarded_to("A.Map`2"), m.forwarded_to("")), (None, None, None));
        let a = m.assembly().unwrap();
        assert_eq!((a.name, a.version), ("small", [1, 2, 3, 4]));
        let r = m.assemblyref(1).unwrap();
        assert_eq!((r.name, r.version, r.public_key_or_token), ("System.Runtime", [8, 0, 0, 0], &[9, 8, 7][..]));
        assert_eq!(m.module_name(), Some("small.dll"));
        assert_eq!(m.mvid().unwrap()[..3], [1, 2, 3]);
    });
}

#[test]
fn signatures_print_as_the_runtime_prints_them() {
    each(|m, _| {
        let params = |rid| sig::method(m.method(rid).unwrap().signature).unwrap().print_params(m);
        assert_eq!(params(1), "(!0, System.String ByRef)");
        assert_eq!(params(2), "(System.Object[])");
        let mut out = String::new();
        sig::type_spec(m.typespec(1).unwrap()).unwrap().print(&mut out, m);
        assert_eq!(out, "A.B.Map`2<Int32,System.String>");
    });
    let text = |blob: &[u8]| {
        let m = Metadata::parse(module(Form::default())).unwrap();
        sig::type_spec(blob).map(|s| {
            let mut out = String::new();
            s.print(&mut out, &m);
            out
        })
    };
    assert_eq!(text(&[0x14, 0x0E, 3, 0, 0]).unwrap(), "System.String[,,]");
    assert_eq!(text(&[0x14, 0x0E, 1, 1, 5, 1, 2]).unwrap(), "System.String[*]");
    assert_eq!(text(&[0x0F, 0x20, 5, 0x01]).unwrap(), "Void*");
    assert_eq!(text(&[0x1B, 0, 2, 0x01, 0x08, 0x1C]).unwrap(), "Void (Int32, System.Object)");
    assert_eq!(text(&[0x21, 0x88, 0x77, 0, 0, 0, 0, 0, 0]).unwrap(), "0x7788");
    for broken in [&[0x14, 0x0E, 3, 9, 1][..], &[0x15, 0x12], &[0x17], &[], &[0x15, 0x12, 8, 0xDF, 0xFF, 0xFF, 0xFF, 8]]
    {
        assert_eq!(text(broken), None, "{broken:x?}");
    }
    assert_eq!(text(&[0x1D; 5000]), None);
}

#[test]
fn numbers_are_compressed_as_the_standard_shows() {
    // The examples of ECMA-335 II.23.2.
    for (bytes, value) in [
        (&[0x03][..], 0x03),
        (&[0x7F], 0x7F),
        (&[0x80, 0x80], 0x80),
        (&[0xAE, 0x57], 0x2E57),
        (&[0xBF, 0xFF], 0x3FFF),
        (&[0xC0, 0x00, 0x40, 0x00], 0x4000),
        (&[0xDF, 0xFF, 0xFF, 0xFF], 0x1FFF_FFFF),
    ] {
        assert_eq!(sig::compressed(&mut &*bytes), Some(value));
    }
    assert_eq!(sig::compressed(&mut &[0xFF][..]), None);
    assert_eq!(sig::compressed(&mut &[0xC0, 0][..]), None);
}

#[test]
fn a_cycle_of_enclosing_types_ends() {
    let mut b = Builder::new(Form::default());
    for name in ["A", "B"] {
        b.row(0x02, &[D(2), S(name), S(""), W(0), W(1), W(1)]);
    }
    b.row(0x29, &[W(1), W(2)]);
    b.row(0x29, &[W(2), W(1)]);
    let m = Metadata::parse(b.finish("v4.0.30319")).unwrap();
    assert!(m.full_name(1).len() < 1000);
    assert_eq!(m.typedef_by_name("A"), None);
}

#[test]
fn types_that_are_made_of_themselves_end() {
    let mut b = Builder::new(Form::default());
    // Each names both, twice.
    let spec = |row: u8| row << 2 | 2;
    b.row(0x1B, &[B(&[0x15, 0x12, spec(2), 2, 0x12, spec(1), 0x12, spec(2)])]);
    b.row(0x1B, &[B(&[0x15, 0x12, spec(1), 2, 0x12, spec(2), 0x12, spec(1)])]);
    let m = Metadata::parse(b.finish("v4.0.30319")).unwrap();
    for row in 1..=2 {
        assert!(crate::clr::il::names::of_token(&m, token(table::TYPE_SPEC, row)).len() < 0x8000);
    }
}

#[test]
fn long_names_and_bad_text_are_cut() {
    let mut b = Builder::new(Form::default());
    b.row(0x02, &[D(0), S(&"x".repeat(5000)), S(""), W(0), W(1), W(1)]);
    let m = Metadata::parse(b.finish("v4.0.30319")).unwrap();
    assert_eq!(m.full_name(1).len(), MAX_NAME);
    let mut bytes = module(Form::default());
    let at = bytes.windows(6).position(|w| w == b"Colour").unwrap();
    *bytes.get_mut(at + 3).unwrap() = 0xFF;
    assert_eq!(Metadata::parse(bytes).unwrap().full_name(4), "A.Col");
}

#[test]
fn what_is_not_metadata_says_why() {
    let good = module(Form::default());
    assert_eq!(Metadata::parse(vec![]).unwrap_err(), MetadataError::NotMetadata);
    assert_eq!(Metadata::parse(b"MZ......".to_vec()).unwrap_err(), MetadataError::NotMetadata);
    for len in 4..good.len() {
        // Every shorter prefix is either refused or, where only heaps are cut, answers without panic.
        if let Ok(m) = Metadata::parse(good[..len].to_vec()) {
            exercise(&m);
        }
    }
    let mut huge = good;
    let rows = huge.windows(4).position(|w| w == [2, 0, 0, 1]).unwrap() + 20;
    huge[rows..rows + 4].copy_from_slice(&0x00FF_FFFFu32.to_le_bytes());
    assert!(matches!(Metadata::parse(huge), Err(MetadataError::Truncated(_))));
}

/// Asks everything there is to ask.
fn exercise(m: &Metadata) {
    for rid in (0..=m.typedef_count().min(50) + 1).chain([0x00FF_FFFF, u32::MAX]) {
        let name = m.full_name(rid);
        m.typedef_by_name(&name);
        m.typedef(rid);
        for f in m.fields_of(rid).take(100) {
            let _ = (m.field_owner(f), m.constant(f), m.field_rva(f));
        }
        for f in m.methods_of(rid).take(100) {
            let _ = (m.method_owner(f), m.params(f));
        }
        let _ = (m.generic_params(rid), m.generic_params(token(table::TYPE_DEF, rid)), m.class_layout(rid));
        let _ = (m.enum_members(rid), m.interfaces(rid).count(), m.typeref_full_name(rid), m.typeref_scope(rid));
        let _ = (m.memberref(rid), m.exported_type(rid), m.moduleref(rid), m.assemblyref(rid));
        for blob in [m.field(rid).map(|f| f.signature), m.typespec(rid), m.method(rid).map(|f| f.signature)] {
            signatures(blob.unwrap_or(&[]), m);
        }
    }
    let _ = (m.assembly(), m.mvid(), m.module_name());
}

fn signatures(blob: &[u8], m: &Metadata) {
    let mut out = String::new();
    let types = [sig::field(blob), sig::type_spec(blob)];
    types.iter().flatten().for_each(|t| t.print(&mut out, m));
    if let Some(method) = sig::method(blob) {
        out += &method.print_params(m);
    }
}

proptest! {
    #[test]
    fn damaged_modules_never_panic(
        uncompressed: bool, wide: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)
    ) {
        let mut bytes = module(Form { uncompressed, wide });
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(m) = Metadata::parse(bytes) {
            exercise(&m);
        }
    }

    #[test]
    fn random_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"BSJB\x01\0\x01\0\0\0\0\0\x04\0\0\0v4\0\0".to_vec();
        bytes.extend(tail);
        if let Ok(m) = Metadata::parse(bytes) {
            exercise(&m);
        }
    }

    #[test]
    fn random_signatures_never_panic(blob in prop::collection::vec(any::<u8>(), 0..80)) {
        signatures(&blob, &Metadata::parse(module(Form::default())).unwrap());
    }
}
