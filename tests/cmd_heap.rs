//! Heap commands held against each other and against what the program said of itself, on real dumps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;

use std::path::Path;

/// Dumps of the zoo: 3.1, 8, 9 and 10, segments and regions, both kinds of GC, Linux and Windows.
const ZOOS: &[&str] = &[
    "linux-x64-8.0-wks-heap.core.zst",
    "linux-x64-9.0-svr-heap.core.zst",
    "linux-x64-10.0-clrgc-heap.core.zst",
    "linux-x64-10.0-wks-heap.core.zst",
    "win-x64-3.1-wks-full.dmp.zst",
    "win-x64-10.0-wks-full.dmp.zst",
];

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// What each command prints, asked in one run; errors are among the lines.
fn run(dump: &str, commands: &[&str]) -> Vec<Vec<String>> {
    let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
    ask::ask(&data(dump), &commands)
}

/// The number behind `label` in the lines, e.g. `Total 1,234 objects`.
fn number(lines: &[String], label: &str) -> u64 {
    let line =
        lines.iter().find(|l| l.trim_start().starts_with(label)).unwrap_or_else(|| panic!("{label} in {lines:?}"));
    let rest = line.trim_start().strip_prefix(label).unwrap().trim_start();
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().unwrap_or_else(|_| panic!("a number in {line}"))
}

/// Addresses of known objects by the name the program gave them.
fn fact(dump: &str, name: &str) -> String {
    let stem = dump.split(".core").next().unwrap().split(".dmp").next().unwrap();
    let text = std::fs::read_to_string(data(&format!("{stem}.facts.tsv"))).unwrap();
    let line = text.lines().find(|l| l.split('\t').next() == Some(name)).unwrap_or_else(|| panic!("{name} of {dump}"));
    line.split('\t').nth(1).unwrap().to_owned()
}

/// Sessions in the zoo's dictionary; as many again are in a list.
fn scale(dump: &str) -> u64 {
    fact(dump, "count:Zoo.Session").parse::<u64>().unwrap() / 2
}

#[test]
fn generations_sizes_and_statistics_count_the_same_objects() {
    for dump in ZOOS {
        let generations = ["gen0", "gen1", "gen2", "loh", "poh", "foh"];
        let mut commands = vec!["!dumpheap -stat".to_owned(), "!sizestats".to_owned()];
        commands.extend(generations.map(|g| format!("!dumpgen {g}")));
        commands.extend(generations.map(|g| format!("!dumpheap -stat -gen {g}")));
        let asked: Vec<&str> = commands.iter().map(String::as_str).collect();
        let out = run(dump, &asked);
        let all = number(&out[0], "Total");
        let by_generation: Vec<u64> = out[2..8].iter().map(|b| number(b, "Total")).collect();
        assert_eq!(by_generation.iter().sum::<u64>(), all, "{dump}: {by_generation:?}");
        for (i, g) in generations.iter().enumerate() {
            assert_eq!(number(&out[8 + i], "Total"), by_generation[i], "{dump}: {g}");
        }
        let counted: u64 = out[1]
            .iter()
            .filter_map(|l| {
                let words: Vec<u64> = l.split_whitespace().filter_map(|w| w.replace(',', "").parse().ok()).collect();
                (words.len() == 4).then(|| words[1])
            })
            .sum();
        assert_eq!(counted, all, "{dump}: sizestats");
    }
}

#[test]
fn the_finalizer_queue_is_its_two_halves() {
    for dump in ZOOS {
        let out = run(dump, &["!finalizequeue -stat", "!finq -stat", "!frq -stat", "!finalizequeue -ready -stat"]);
        let [all, registered, ready, other] = [0, 1, 2, 3].map(|i| number(&out[i], "Total"));
        assert_eq!(all, registered + ready, "{dump}");
        assert_eq!(ready, other, "{dump}");
        assert!(registered > 20 && ready > 20, "{dump}: {registered} registered, {ready} ready");
    }
}

#[test]
fn strings_are_found_by_their_text() {
    for dump in ZOOS {
        let out = run(
            dump,
            &[
                "!dumpheap System.String -stat",
                "!strings -stat",
                "!strings session/ -short",
                "!strings SESSION/7 -stat",
            ],
        );
        assert_eq!(number(&out[0], "Total"), number(&out[1], "Total"), "{dump}");
        assert!(out[2].len() as u64 >= scale(dump), "{dump}: {} strings", out[2].len());
        assert!(out[3].iter().any(|l| l.ends_with("session/7")), "{dump}: {:?}", out[3]);
    }
}

#[test]
fn collections_hold_what_the_program_put_there() {
    for dump in ZOOS {
        let (cache, concurrent) = (fact(dump, "address:Cache"), fact(dump, "address:Concurrent"));
        let out = run(
            dump,
            &[
                &format!("!dumpcollection {cache}"),
                &format!("!dumpcollection {concurrent}"),
                &format!("!dcd {concurrent}"),
            ],
        );
        let pairs: Vec<&String> = out[0].iter().filter(|l| l.contains("\"session/")).collect();
        assert_eq!(pairs.len() as u64, scale(dump), "{dump}: {:?}", out[0].first());
        assert!(pairs.iter().all(|l| l.contains(" dumpobj ")), "{dump}");
        assert!(out[0].iter().any(|l| l.replace(',', "") == format!("{} items", scale(dump))), "{dump}");
        let keys = |block: &[String]| {
            let mut keys: Vec<u64> = block
                .iter()
                .filter_map(|l| {
                    let words: Vec<&str> = l.split_whitespace().collect();
                    match words[..] {
                        ["Key:", k] | [_, k, "dumpobj", _] => k.parse().ok(),
                        _ => None,
                    }
                })
                .collect();
            keys.sort_unstable();
            keys
        };
        let wanted: Vec<u64> = (0..scale(dump)).step_by(10).collect();
        assert_eq!(keys(&out[1]), wanted, "{dump}");
        assert_eq!(keys(&out[2]), wanted, "{dump}");
    }
}

#[test]
fn both_spellings_of_a_name_are_one_type() {
    const SHORT: &str = "System.Collections.Generic.Dictionary<System.String, Zoo.Session>";
    const LONG: &str =
        "System.Collections.Generic.Dictionary`2[[System.String, System.Private.CoreLib],[Zoo.Session, zoo]]";
    for dump in ZOOS {
        let out = run(
            dump,
            &[
                &format!("!dumpheap {SHORT} -short"),
                &format!("!dumpheap {LONG} -short"),
                &format!("!name2ee *!{SHORT}"),
                &format!("!name2ee * {LONG}"),
                "!dumpheap -type Dictionary<System.String,Zoo.Session> -stat",
                &format!("!dumpheap -type {SHORT} -stat"),
                "!name2ee System.Priv*!System.String",
                "!name2ee * Zoo.Zoo+<Wait>d__35",
            ],
        );
        assert_eq!(
            out[0],
            [fact(dump, "address:Cache").trim_start_matches("0x").to_owned()].map(|a| format!("{a:0>12}")),
            "{dump}"
        );
        assert_eq!(out[0], out[1], "{dump}");
        let table = |i: usize| out[i].iter().find(|l| l.starts_with("MethodTable:")).cloned();
        assert!(table(2).is_some(), "{dump}: {:?}", out[2]);
        assert_eq!(table(2), table(3), "{dump}");
        assert_eq!(number(&out[4], "Total"), number(&out[5], "Total"), "{dump}");
        assert!(number(&out[4], "Total") >= 2, "{dump}: the dictionary and its entries");
        assert!(table(6).is_some(), "{dump}: {:?}", out[6]);
        assert!(out[7].iter().any(|l| l.starts_with("Name:") && l.contains("d__35")), "{dump}: {:?}", out[7]);
    }
}

#[test]
fn what_waits_is_found_on_every_runtime() {
    for dump in ZOOS {
        let out = run(
            dump,
            &["!dumpasync -stats", "!dumpasync -coalesce", "!timerinfo", "!dumpasync -completed -tasks -stats"],
        );
        // The zoo has 25 methods waiting for a delay each, which has a timer.
        let machine = out[0].iter().find(|l| l.contains("Zoo.Zoo+<Wait>d__35"));
        assert!(machine.is_some_and(|l| l.split_whitespace().nth(1) == Some("25")), "{dump}: {:?}", out[0]);
        assert!(out[1].iter().any(|l| l.starts_with("[25]") && l.ends_with("DelayPromise")), "{dump}: {:?}", out[1]);
        let delays = out[2].iter().filter(|l| l.starts_with("(L)") && l.contains("DelayPromise)")).count();
        assert_eq!(delays, 25, "{dump}");
        assert!(out[3].len() >= out[0].len(), "{dump}");
    }
}
