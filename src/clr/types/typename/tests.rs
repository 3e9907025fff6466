#![allow(clippy::unwrap_used)]
use super::*;

const CORE: &str = "System.Private.CoreLib";

fn core(name: &str) -> TypeName {
    TypeName::plain(name, CORE)
}

fn zoo(name: &str) -> TypeName {
    TypeName::plain(name, "zoo")
}

fn generic(name: &str, assembly: &str, args: Vec<TypeName>) -> TypeName {
    TypeName::Named(Named { name: name.into(), args, assembly: assembly.into() })
}

fn sz(of: TypeName) -> TypeName {
    TypeName::SzArray(Box::new(of))
}

fn md(of: TypeName, rank: u32) -> TypeName {
    TypeName::MdArray(Box::new(of), rank)
}

/// Trees with both spellings.
fn cases() -> Vec<(TypeName, &'static str, &'static str)> {
    let string = || core("System.String");
    let int = || core("System.Int32");
    let object = || core("System.Object");
    let char_array_pool =
        || generic("System.Buffers.SharedArrayPool`1+ThreadLocalArray", CORE, vec![core("System.Char")]);
    let pair = generic(
        "System.Collections.Generic.KeyValuePair`2",
        CORE,
        vec![core("System.Guid"), generic("System.Nullable`1", CORE, vec![zoo("Zoo.Colour")])],
    );
    let tuple = generic("System.ValueTuple`2", CORE, vec![int(), string()]);
    let list = generic("System.Collections.Generic.List`1", CORE, vec![pair]);
    let wide = generic("System.Collections.Generic.Dictionary`2+Entry", CORE, vec![tuple, list]);
    let builder = "System.Runtime.CompilerServices.AsyncTaskMethodBuilder`1+AsyncStateMachineBox`1";
    vec![
        (string(), "System.String", "System.String"),
        (zoo("Zoo.Zoo+<>c__DisplayClass30_0"), "Zoo.Zoo+<>c__DisplayClass30_0", "Zoo.Zoo+<>c__DisplayClass30_0"),
        (zoo("Program+<<Main>$>d__0"), "Program+<<Main>$>d__0", "Program+<<Main>$>d__0"),
        (zoo("<>c"), "<>c", "<>c"),
        (
            zoo("Zoo.Bag+<Zoo-IBag<System-Int32>-Take>d__12"),
            "Zoo.Bag+<Zoo-IBag<System-Int32>-Take>d__12",
            "Zoo.Bag+<Zoo-IBag<System-Int32>-Take>d__12",
        ),
        (zoo("Zoo.Local+<Main>g__Fill|3_0"), "Zoo.Local+<Main>g__Fill|3_0", "Zoo.Local+<Main>g__Fill|3_0"),
        (sz(sz(int())), "System.Int32[][]", "System.Int32[][]"),
        (md(int(), 3), "System.Int32[,,]", "System.Int32[,,]"),
        (md(string(), 1), "System.String[*]", "System.String[*]"),
        (sz(md(int(), 2)), "System.Int32[,][]", "System.Int32[,][]"),
        (TypeName::Pointer(Box::new(core("System.Char"))), "System.Char*", "System.Char*"),
        (TypeName::ByRef(Box::new(sz(int()))), "System.Int32[]&", "System.Int32[]&"),
        (
            generic("System.Collections.Generic.List`1", CORE, vec![object()]),
            "System.Collections.Generic.List<System.Object>",
            "System.Collections.Generic.List`1[[System.Object, System.Private.CoreLib]]",
        ),
        (
            generic("System.Collections.Generic.Dictionary`2", CORE, vec![string(), zoo("Zoo.Session")]),
            "System.Collections.Generic.Dictionary<System.String, Zoo.Session>",
            "System.Collections.Generic.Dictionary`2[[System.String, System.Private.CoreLib],[Zoo.Session, zoo]]",
        ),
        (
            sz(char_array_pool()),
            "System.Buffers.SharedArrayPool<System.Char>+ThreadLocalArray[]",
            "System.Buffers.SharedArrayPool`1+ThreadLocalArray[[System.Char, System.Private.CoreLib]][]",
        ),
        (
            generic("Zoo.Node`1+Inner`1", "zoo", vec![int(), string()]),
            "Zoo.Node<System.Int32>+Inner<System.String>",
            "Zoo.Node`1+Inner`1[[System.Int32, System.Private.CoreLib],[System.String, System.Private.CoreLib]]",
        ),
        (
            generic(builder, CORE, vec![int(), zoo("Zoo.Zoo+<Wait>d__35")]),
            "System.Runtime.CompilerServices.AsyncTaskMethodBuilder<System.Int32>\
             +AsyncStateMachineBox<Zoo.Zoo+<Wait>d__35>",
            "System.Runtime.CompilerServices.AsyncTaskMethodBuilder`1+AsyncStateMachineBox`1\
             [[System.Int32, System.Private.CoreLib],[Zoo.Zoo+<Wait>d__35, zoo]]",
        ),
        (
            generic("System.Func`2", CORE, vec![int(), sz(int())]),
            "System.Func<System.Int32, System.Int32[]>",
            "System.Func`2[[System.Int32, System.Private.CoreLib],[System.Int32[], System.Private.CoreLib]]",
        ),
        (
            generic("System.Buffers.SharedArrayPool`1+<>c", CORE, vec![core("System.Boolean")]),
            "System.Buffers.SharedArrayPool<System.Boolean>+<>c",
            "System.Buffers.SharedArrayPool`1+<>c[[System.Boolean, System.Private.CoreLib]]",
        ),
        (
            generic(
                "System.Runtime.CompilerServices.ConditionalWeakTable`2+Container",
                CORE,
                vec![sz(char_array_pool()), object()],
            ),
            "System.Runtime.CompilerServices.ConditionalWeakTable<\
             System.Buffers.SharedArrayPool<System.Char>+ThreadLocalArray[], System.Object>+Container",
            "System.Runtime.CompilerServices.ConditionalWeakTable`2+Container[[\
             System.Buffers.SharedArrayPool`1+ThreadLocalArray[[System.Char, System.Private.CoreLib]][], \
             System.Private.CoreLib],[System.Object, System.Private.CoreLib]]",
        ),
        (
            sz(wide),
            "System.Collections.Generic.Dictionary<System.ValueTuple<System.Int32, System.String>, \
             System.Collections.Generic.List<System.Collections.Generic.KeyValuePair<System.Guid, \
             System.Nullable<Zoo.Colour>>>>+Entry[]",
            "System.Collections.Generic.Dictionary`2+Entry[[System.ValueTuple`2[[System.Int32, \
             System.Private.CoreLib],[System.String, System.Private.CoreLib]], System.Private.CoreLib],\
             [System.Collections.Generic.List`1[[System.Collections.Generic.KeyValuePair`2[[System.Guid, \
             System.Private.CoreLib],[System.Nullable`1[[Zoo.Colour, zoo]], System.Private.CoreLib]], \
             System.Private.CoreLib]], System.Private.CoreLib]][]",
        ),
    ]
}

#[test]
fn spells_both_ways() {
    for (name, display, reflection) in cases() {
        assert_eq!(name.display(), display);
        assert_eq!(name.reflection(), reflection);
    }
}

#[test]
fn spells_parameters_as_the_runtime_does() {
    let canon = || core("System.__Canon");
    let tuple = generic("System.ValueTuple`2", CORE, vec![core("System.Int32"), canon()]);
    assert_eq!(tuple.in_signature(), "System.ValueTuple`2<Int32,System.__Canon>");
    let tables = generic("System.Collections.Concurrent.ConcurrentDictionary`2+Tables", CORE, vec![tuple, canon()]);
    assert_eq!(sz(tables).in_signature(), "Tables<System.ValueTuple`2<Int32,System.__Canon>,System.__Canon>[]");
    assert_eq!(TypeName::ByRef(Box::new(core("System.Boolean"))).in_signature(), "Boolean ByRef");
    assert_eq!(core("System.Object").in_signature(), "System.Object");
}

#[test]
fn reads_both_spellings_back() {
    for (name, display, reflection) in cases() {
        assert_eq!(TypeName::parse(display).unwrap().display(), display);
        let back = TypeName::parse(reflection).unwrap();
        assert_eq!(back.reflection(), reflection);
        assert_eq!(back.display(), display);
        assert!(matches(reflection, display), "{reflection}");
        assert!(matches(&display.replace(", ", ","), &name.reflection()), "{display}");
        assert!(matches(&format!("  {} ", display.replace(", ", " ,  ")), display), "{display}");
    }
}

#[test]
fn tells_different_types_apart() {
    let all = cases();
    for (i, (_, display, _)) in all.iter().enumerate() {
        for (j, (_, other, reflection)) in all.iter().enumerate() {
            assert_eq!(matches(display, other), i == j);
            assert_eq!(matches(display, reflection), i == j);
        }
    }
}

#[test]
fn open_types_and_parameters() {
    let open = |args| generic("System.Collections.Generic.Dictionary`2", CORE, args);
    assert_eq!(open(vec![]).display(), "System.Collections.Generic.Dictionary`2");
    let named = open(vec![TypeName::Param("TKey".into()), TypeName::Var { number: 1, method: false }]);
    assert_eq!(named.display(), "System.Collections.Generic.Dictionary<TKey, !1>");
    assert_eq!(named.reflection(), "System.Collections.Generic.Dictionary`2[TKey,!1]");
    assert_eq!(TypeName::parse(&named.reflection()).unwrap().display(), named.display());
}

#[test]
fn arguments_no_backtick_accounts_for_are_kept() {
    assert_eq!(generic("Odd+Inner", "a", vec![core("A"), core("B")]).display(), "Odd+Inner<A, B>");
    assert_eq!(generic("Few`3", "a", vec![core("A")]).display(), "Few<A>");
    assert_eq!(zoo("Not`AnArity`").display(), "Not`AnArity`");
}

#[test]
fn what_has_no_name_says_so() {
    let missing = TypeName::Missing { module: "zoo".into(), token: 0x0200_0007 };
    assert_eq!(sz(missing.clone()).display(), "zoo!0x02000007[]");
    assert_eq!(
        generic("System.Collections.Generic.List`1", CORE, vec![missing]).reflection(),
        "System.Collections.Generic.List`1[zoo!0x02000007]"
    );
    assert_eq!(TypeName::Free.display(), "Free");
    assert_eq!(TypeName::FnPtr.reflection(), "(fnptr)");
}

#[test]
fn versions_and_blanks_do_not_matter() {
    let full = "System.Collections.Generic.List`1[[ System.String, mscorlib, Version=4.0.0.0, Culture=neutral ]] []";
    assert_eq!(canonical(full), "System.Collections.Generic.List<System.String>[]");
    assert_eq!(canonical("List`1[System.String]"), "List<System.String>");
    assert_eq!(canonical("System.Byte[ ]"), "System.Byte[]");
}

#[test]
fn what_is_no_name_stays_as_typed() {
    for text in ["List<", "A[[B", "A]", "a,b", "A<B>C", "", "<", "A<,>", "+", "A+", "A[,", "A<B", "[]"] {
        assert_eq!(TypeName::parse(text), None, "{text}");
        assert_eq!(canonical(text), text);
    }
    assert_eq!(TypeName::parse(&"A<".repeat(5000)), None);
    assert_eq!(TypeName::parse(&format!("A{}", "[]".repeat(5000))), None);
}

#[test]
fn deep_trees_are_cut_when_printed() {
    let mut name = core("A");
    for _ in 0..200 {
        name = generic("L`1", CORE, vec![name]);
    }
    assert!(name.display().contains("..."));
    assert!(name.reflection().len() < 0x8000);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[A-B`12+<>,\\[\\]*& .]{0,40}") {
        if let Some(name) = TypeName::parse(&text) {
            let display = name.display();
            // The canonical spelling is its own canonical spelling.
            proptest::prop_assert_eq!(canonical(&display).into_owned(), display.clone());
            name.reflection();
        }
        canonical(&text);
    }
}
