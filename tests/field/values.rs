//! What values say in words, and what is in collections.

use super::{ask, has};

/// Rows of `!dumpcollection`, without the name and the count.
fn items(names: &[&str]) -> Vec<Vec<String>> {
    let commands: Vec<String> = names.iter().map(|n| format!("!dumpcollection ${n}")).collect();
    let answers = ask("collections", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    let rows = |answer: &String| {
        let lines = answer.lines().skip_while(|l| l.split_whitespace().next() != Some("Index")).skip(1);
        let plain = |l: &str| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
        let rows: Vec<String> = lines.take_while(|l| !l.ends_with(" items")).map(plain).collect();
        assert!(!answer.contains("is not a collection") && !answer.contains("partial"), "{answer}");
        has(answer, &[&format!("{} items", rows.len())]);
        rows
    };
    answers.iter().map(rows).collect()
}

fn check(expected: &[(&str, &[&str])]) {
    let names: Vec<&str> = expected.iter().map(|e| e.0).collect();
    for ((name, rows), found) in expected.iter().zip(items(&names)) {
        assert_eq!(found, *rows, "{name}");
    }
}

#[test]
fn values_of_the_library_are_spelled_out() {
    check(&[
        ("dict-dt", &["2024-05-06 07:08:09 UTC 01:30:00"]),
        ("dict-enum", &["B (2) 12.50"]),
        ("hashset", &["deadbeef-0102-0304-0506-0708090a0b0c"]),
        ("sorteddict", &["\"t\" 2024-05-06 07:08:09 UTC"]),
        ("dates", &["2024-05-06 07:08:09 UTC"]),
        ("dict-type", &["Ent \"ent\""]),
        ("dict-tuple", &["(3, \"three\") True"]),
        ("mylist", &["0.1", "1E+300", "NaN"]),
        ("arraylist", &["1", "\"s\"", "null", "2024-05-06 07:08:09 UTC"]),
        (
            "dict-obj",
            &[
                "\"i\" 5",
                "\"d\" 2024-05-06 07:08:09 UTC",
                "\"m\" 1.5",
                "\"b\" True",
                "\"s\" \"str\"",
                "\"n\" null",
                "\"g\" deadbeef-0102-0304-0506-0708090a0b0c",
                "\"k\" A (1)",
                "\"x\" 2.5",
            ],
        ),
    ]);
    let guids = &items(&["dict-guid-ent"])[0];
    assert!(guids[0].starts_with("deadbeef-0102-0304-0506-0708090a0b0c dumpobj "), "{guids:?}");
}

#[test]
fn collections_that_do_not_change_have_their_items() {
    check(&[
        ("imm-dict", &["1 \"i1\"", "2 \"i2\"", "3 \"i3\""]),
        ("imm-list", &["\"x\"", "\"y\""]),
        ("imm-set", &["8", "9"]),
        ("imm-sorted", &["\"q\" 1"]),
        ("imm-queue", &["1", "2"]),
        ("imm-stack", &["2", "1"]),
    ]);
    let found = items(&["frozen-dict", "frozen-set", "frozen-int"]);
    let sorted = |rows: &[String]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&found[0]), ["\"fa\" 1", "\"fb\" 2"]);
    assert_eq!(sorted(&found[1]), ["\"s1\"", "\"s2\""]);
    let mut expected: Vec<String> = (0..20).map(|x| format!("{} \"f{x}\"", x * 7)).collect();
    expected.sort();
    assert_eq!(sorted(&found[2]), expected);
}

#[test]
fn special_collections_have_their_items() {
    check(&[
        ("ordered", &["\"o\" 1"]),
        ("oldordered", &["\"a\" 1"]),
        ("nvc", &["\"k\" \"v1\"", "\"k\" \"v2\""]),
        ("bitarray", &["True", "False", "True"]),
        ("expando", &["\"First\" 1", "\"Second\" \"2\""]),
        ("lookup", &["2 \"aa\"", "2 \"cc\"", "1 \"b\""]),
        ("channel", &["1", "2"]),
        ("uchannel", &["\"u\""]),
        ("keycoll", &["1", "2"]),
        ("segment", &["2"]),
    ]);
    let weak = &items(&["cwt"])[0];
    assert!(weak.len() == 1 && weak[0].ends_with("\"attached\""), "{weak:?}");
    // Those that were read before.
    check(&[
        ("cdict", &["7 \"seven\""]),
        ("linked", &["\"l1\"", "\"l2\""]),
        ("queue", &["3", "4", "5"]),
        ("hybrid", &["\"a\" 1"]),
        ("listdict", &["\"a\" 1"]),
        ("observable", &["\"ob\""]),
        ("rodict", &["\"r\" 1"]),
    ]);
}

#[test]
fn a_channel_has_its_messages() {
    let answers = ask("async", &["!dumpcollection $Bounded -length 2", "!dumpcollection $Unbounded -length 2"]);
    has(&answers[0], &["1,000 items"]);
    // The program has put 300 into each; one is with the reader.
    has(&answers[1], &["299 items"]);
    has(&answers[1], &["dumpobj "]);
}

#[test]
fn fields_arrays_and_structs_say_it_too() {
    let answers = ask("statics", &["!do $touched", "!do $never"]);
    let touched = &answers[0];
    has(touched, &["9091 Port"]);
    has(touched, &[" When = 2024-01-01 00:00:00"]);
    has(touched, &[" Money = 12.5"]);
    has(touched, &[" Maybe = 7"]);
    let when = touched.lines().find(|l| l.contains(" When")).unwrap();
    let words: Vec<&str> = when.split_whitespace().collect();
    let (mt, boxed) = (words[0], u64::from_str_radix(words[6], 16).unwrap());
    let one = ask("statics", &[&format!("!dumpvc {mt} {:x}", boxed + 8), &format!("!do {boxed:x}")]);
    has(&one[0], &["Decoded:     2024-01-01 00:00:00"]);
    has(&one[1], &["Decoded:     2024-01-01 00:00:00"]);
    let dates = &ask("collections", &["!do $dates"])[0];
    let items = dates.lines().find(|l| l.ends_with(" _items")).unwrap().split_whitespace().nth(6).unwrap().to_owned();
    has(&ask("collections", &[&format!("!da {items}")])[0], &["[0] ", " = 2024-05-06 07:08:09 UTC"]);
}

/// The type column is cut in text alone.
#[test]
fn types_are_whole_in_data() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(super::dump("collections"))
        .env("CLRSCOPE_CACHE", std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .args(["--json", "-c", &super::fill("collections", "!do $dict-obj")])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        text.contains("System.Collections.Generic.IEqualityComparer") && !text.contains("\"type\":\"..."),
        "{text}"
    );
}
