//! Statics and thread statics of closed generic classes have their names wherever a root is named.

use super::{ask, has};

#[test]
fn chains_name_the_static_field() {
    let fields = [
        ("Map", "Dictionary<System.String, Item> (static variable: Cache<Item>.Map)"),
        ("OuterStatic", "List<System.Object> (static variable: Outer<System.Int32>.OuterStatic)"),
        ("S", "(static variable: Outer<System.String>+Mid+Inner<System.Int32, Small[]>.S)"),
        ("One", "Item (static variable: Cache<Item>.One)"),
        // Structs are in a box, which the static field refers to.
        ("LastHeld", "Small (static variable: Cache<Item>.Last)"),
        ("SmallHeld", "Small (static variable: Cache<Small>.One)"),
    ];
    let commands: Vec<String> = fields.iter().map(|f| format!("!gcroot -nostacks ${}", f.0)).collect();
    let answers = ask("generics", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    for ((_, words), answer) in fields.iter().zip(&answers) {
        has(answer, &[words]);
        assert!(answer.contains("Found 1 unique roots."), "{answer}");
    }
}

#[test]
fn paths_of_a_type_begin_at_the_static_field() {
    let answer = &ask("generics", &["!gcroot -type Item -nostacks"])[0];
    for (count, name) in [
        (20, "static variable Cache<Item>.Map"),
        (20, "static variable Counter<Item>.All"),
        (20, "static variable IHasStatic.Shared"),
        (20, "static variable Outer<System.Int32>.OuterStatic"),
        (1, "static variable Cache<Item>.Last"),
        (1, "static variable Cache<Item>.One"),
        (1, "static variable Cache<Small>.One"),
        (1, "static variable Made.Proxy<Item>.All"),
        (30, "thread static variable Cache<Item>.Recent"),
        (3, "thread static variable Cache<Item>.TLast"),
    ] {
        let row =
            answer.lines().find(|l| l.ends_with(&format!(" {name}"))).unwrap_or_else(|| panic!("{name}: {answer}"));
        assert_eq!(row.split_whitespace().nth(1), Some(count.to_string().as_str()), "{row}");
    }
    assert!(!answer.contains("strong handle"), "{answer}");
}

#[test]
fn refs_and_leaks_name_it_too() {
    let answers = ask("generics", &["!refs $Map", "!leaks"]);
    has(&answers[0], &["(static variable Cache<Item>.Map)", "System.Object[]"]);
    for owner in ["Cache<Item>.Map, ", "Counter<Item>.All, ", "Outer<System.Int32>.OuterStatic, "] {
        has(&answers[1], &[" object ", owner]);
    }
    has(&answers[1], &["thread static Cache<Item>.Recent"]);
}

#[test]
fn the_table_of_statics_has_a_row_for_each_closed_type() {
    let folder = tempfile::tempdir().unwrap();
    let export = format!(".export {} -tables statics,threadstatics", folder.path().display());
    ask("generics", &[&export]);
    let table = std::fs::read_to_string(folder.path().join("statics.tsv")).unwrap();
    let value = |ty: &str, field: &str| {
        let row = table.lines().map(|l| l.split('\t').collect::<Vec<_>>()).find(|r| r[0] == ty && r[1] == field);
        row.unwrap_or_else(|| panic!("no row {ty} {field}"))[4].to_owned()
    };
    assert_eq!(value("Cache<Item>", "Hits"), "42");
    assert_eq!(value("Cache<System.Int32>", "Hits"), "43");
    assert_eq!(value("Cache<System.Int32>", "One"), "99");
    assert_eq!(value("Static<System.Int32>", "next"), "2");
    assert_eq!(value("Cache<Item>", "Map"), super::fact("generics", "address:Map"));
    // The open type is as it was, and one that stands for others is no type of the program.
    assert_eq!(value("Cache<T1>", "Hits"), "");
    assert!(!table.contains("__Canon"));
    let threads = std::fs::read_to_string(folder.path().join("threadstatics.tsv")).unwrap();
    assert_eq!(threads.lines().filter(|l| l.contains("\tCache<Item>\tRecent\t")).count(), 3);
}

#[test]
fn assemblies_made_at_run_time_have_names() {
    let answers = ask("generics", &["!clrmodules", "!dumpdomain"]);
    for name in ["Proxies", "Unloadable"] {
        has(&answers[0], &[&format!("(Dynamic) {name}")]);
        has(&answers[1], &["(Dynamic) [] ", name]);
    }
    has(&answers[0], &["Assemblies made at run time: 2"]);
    has(&answers[1], &["Assemblies made at run time: 2"]);
}
