//! A dump of a program that holds what it knows of itself (`testdata/web/web.cs`): memory that is wasted, objects of well-known
//! libraries, handles nobody can free, requests of HTTP that it serves and that it sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use captured::{Captured, open};
use clrscope::commands::graph::leaks::{Limits, Suspect, find};
use clrscope::shell::Format;
use clrscope::shell::state::Shell;
use serde_json::Value as Json;

const DUMP: &str = "web/linux-x64-10.0-web-heap.core.zst";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// What the program wrote of itself.
fn facts() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(data("web/linux-x64-10.0-web-heap.facts.tsv")).unwrap();
    text.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn number(facts: &BTreeMap<String, String>, key: &str) -> u64 {
    facts[key].parse().unwrap()
}

fn suspects(shell: &Shell) -> Vec<Suspect> {
    let limits = Limits { share: 0.5, ..Limits::default() };
    find(shell.session.as_ref().unwrap(), &limits).unwrap().suspects.clone()
}

/// The suspect of a kind, the only one.
fn only<'a>(all: &'a [Suspect], kind: &str) -> &'a Suspect {
    let mut found = all.iter().filter(|s| s.kind == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}: {all:#?}"));
    assert!(found.next().is_none(), "{all:#?}");
    first
}

fn says(s: &Suspect, fact: &str) {
    assert!(s.facts.iter().any(|f| f.text.contains(fact)), "{fact}: {s:#?}");
}

/// An item of the evidence of a suspect: what, type, count, bytes.
fn item<'a>(s: &'a Suspect, what: &str, ty: &str) -> &'a clrscope::commands::graph::leaks::evidence::Item {
    let all = s.facts.iter().flat_map(|f| &f.items);
    let mut found = all.filter(|i| i.what.contains(what) && i.ty.as_deref().is_some_and(|t| t.contains(ty)));
    found.next().unwrap_or_else(|| panic!("{what} {ty}: {s:#?}"))
}

#[test]
fn room_that_collections_do_not_use_is_measured() {
    let (shell, _) = open(&data(DUMP));
    let (all, facts) = (suspects(&shell), facts());
    let n = number(&facts, "count:n");
    let s = only(&all, "capacity");
    // Lists made for 64 that hold 3, builders, streams, queues; a dictionary that was emptied; one made for 10,000.
    let lists = item(s, "mostly empty", "List<System.Int32>");
    assert_eq!((lists.count, lists.bytes), (Some(n), Some(n * 61 * 4)));
    let builders = ["System.Text.StringBuilder", "System.IO.MemoryStream", "Queue<System.Int64>"];
    let of_builders: u64 = builders.iter().map(|t| item(s, "mostly empty", t).bytes.unwrap()).sum();
    assert_eq!(n * 61 * 4 + of_builders, number(&facts, "bytes:spare"));
    assert!(builders.iter().all(|t| item(s, "mostly empty", t).count == Some(n / 50)), "{s:#?}");
    // An entry of the dictionary has 24 bytes, and a bucket of four.
    let emptied = item(s, "mostly empty", "Dictionary<System.Int32, System.Int64>");
    assert_eq!((emptied.count, emptied.bytes), (Some(1), Some((number(&facts, "count:emptied") - 3) * 28)));
    let few = item(s, "mostly empty", "ConcurrentDictionary<System.Int32, System.String>");
    assert!(few.count == Some(1) && few.bytes.unwrap() >= 9_990 * 8, "{few:?}");
    assert_eq!(item(s, "what holds", "Web.Customer").count, Some(n));
    // Their arrays are not told again as sparse ones.
    assert!(!all.iter().any(|s| s.kind == "sparse" && s.element.contains("Int32[]")), "{all:#?}");
}

#[test]
fn boxes_and_copies_are_counted() {
    let (shell, _) = open(&data(DUMP));
    let (all, n) = (suspects(&shell), number(&facts(), "count:n"));
    let boxed = only(&all, "boxed");
    let of = |ty: &str| item(boxed, "boxes of values", ty).count.unwrap();
    assert_eq!((of("System.Double"), of("Web.Point")), (3 * n, n / 2));
    assert_eq!(item(boxed, "boxes of values", "Web.Point").bytes, Some(n / 2 * 32));
    says(boxed, "1,800 of the System.Double are held by Web.Setting");
    assert_eq!(boxed.bytes, boxed.facts[0].items.iter().map(|i| i.bytes.unwrap()).sum::<u64>());

    let copies = only(&all, "copies");
    // Of 30 icons six differ, one more is the program's own; twelve streams hold the same byte. Arrays of zeros do not count.
    let first = &copies.facts[0].items[0];
    assert_eq!((first.count, first.bytes), (Some(25), Some(24 * 6024)));
    assert_eq!(copies.facts[1].items[0].count, Some(12));
    assert_eq!(item(copies, "what holds copies", "Web.Row").count, Some(23));
}

#[test]
fn objects_of_libraries_are_told_by_what_they_mean() {
    let (shell, _) = open(&data(DUMP));
    let (all, facts) = (suspects(&shell), facts());
    let n = number(&facts, "count:n");
    let weak = only(&all, "weak");
    assert_eq!(weak.count, number(&facts, "count:dead"));
    says(weak, &format!("{} beside them have their target", n / 10));
    assert!(weak.owner.contains("Web.Program.cache, System.Collections.Generic.Dictionary"), "{weak:#?}");
    let clients = only(&all, "clients");
    assert_eq!((clients.count, clients.element.as_str()), (n / 25, "System.Net.Http.HttpClient"));
    says(clients, "held by Web.Api");
    // One more sent the requests; those of the last loop nothing holds.
    says(clients, &format!("{} live clients in all; 7 further ones nothing holds", n / 25 + 1));
    let registered = only(&all, "registrations");
    assert_eq!(registered.count, n - n / 4);
    assert!(registered.owner.starts_with("Web.Program.stopping, "), "{registered:#?}");
    says(registered, &format!("called on: {} Web.Job", n - n / 4));
    let tracker = only(&all, "tracker");
    assert_eq!(tracker.count, number(&facts, "count:tracked"));
    assert_eq!(tracker.owner, "Web.Program.shop, Web.Shop");
    for kind in ["delegates", "linked"] {
        assert!(!all.iter().any(|s| s.kind == kind && s.owner.contains("stopping")), "told twice: {all:#?}");
    }
    // Nothing of this is told where there is less than was asked for.
    let many = Limits { share: 0.5, min_count: 100_000, few: 100_000, ..Limits::default() };
    let none = find(shell.session.as_ref().unwrap(), &many).unwrap();
    let kinds = ["weak", "clients", "registrations", "tracker", "boxed"];
    assert!(!none.suspects.iter().any(|s| kinds.contains(&s.kind)), "{:#?}", none.suspects);
}

/// The answer to a line, as JSON.
fn answer(shell: &mut Shell, out: &Captured, line: &str) -> Json {
    out.0.lock().unwrap().clear();
    shell.format = Format::Json;
    shell.line(line);
    serde_json::from_slice(&out.0.lock().unwrap()).unwrap()
}

/// Rows of a table as objects.
fn rows(answer: &Json, table: &str) -> Vec<BTreeMap<String, Json>> {
    let tables = answer["tables"].as_array().unwrap();
    let Some(t) = tables.iter().find(|t| t["name"] == table) else { return Vec::new() };
    let keys: Vec<&str> = t["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let row = |r: &Json| keys.iter().zip(r.as_array().unwrap()).map(|(k, c)| ((*k).to_owned(), c.clone())).collect();
    t["rows"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn handles_that_stand_nowhere_are_those_that_were_forgotten() {
    let (mut shell, out) = open(&data(DUMP));
    // The program keeps them with every second bit turned over.
    let mask = 0x5555_5555_5555_5555u64;
    let forgotten: BTreeSet<u64> = facts()
        .iter()
        .filter(|(k, _)| k.starts_with("forgotten:"))
        .map(|(_, v)| (u64::from_str_radix(v, 16).unwrap() ^ mask) & !1)
        .collect();
    let found = answer(&mut shell, &out, "!gchandleleaks -all");
    let address = |c: &Json| u64::from_str_radix(c.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let leaked: BTreeSet<u64> = rows(&found, "handles").iter().map(|r| address(&r["handle"])).collect();
    assert_eq!((leaked.len(), &leaked), (40, &forgotten));
    assert_eq!(found["facts"]["not_found"], 40);
    // One byte array more each: 100 to 139 bytes and 24 around them.
    assert_eq!(found["facts"]["bytes"], (100..140).map(|n| n + 24).sum::<u64>());
    // A handle that pins is kept with its lowest bit set.
    let kept = rows(&found, "found");
    let pin =
        kept.iter().find(|r| r["kind"] == "Pinned" && r["type"] == "System.Byte[]").expect("the pin that is kept");
    assert!(pin["places"].as_u64().unwrap() >= 1 && address(&pin["place"]) != 0, "{pin:?}");
    let strong = answer(&mut shell, &out, "!gchandleleaks -type Strong");
    assert_eq!(strong["facts"]["not_found"], 20);
}

#[test]
fn requests_that_are_served_have_their_state_age_and_place() {
    let (mut shell, out) = open(&data(DUMP));
    let all = answer(&mut shell, &out, "!dumprequests");
    let requests = rows(&all, "requests");
    let of =
        |path: &str| requests.iter().find(|r| r["path"] == path).unwrap_or_else(|| panic!("{path}: {requests:#?}"));
    let expect = |r: &BTreeMap<String, Json>, wanted: &[(&str, Json)]| {
        wanted.iter().for_each(|(k, v)| assert_eq!(&r[*k], v, "{k}: {r:#?}"));
    };
    let orders = of("/orders");
    expect(
        orders,
        &[
            ("method", "GET".into()),
            ("query", "?token=secret".into()),
            ("url", "/orders?token=secret".into()),
            ("host", "shop.test".into()),
            ("protocol", "HTTP/1.1".into()),
            ("state", "AppStarted".into()),
            ("status", Json::Null),
            ("age", 4321.into()),
            ("thread", Json::Null),
            ("request_id", "C0:1".into()),
        ],
    );
    // It waits two methods below the server's own.
    assert!(orders["waits_in"].as_str().unwrap().contains("<Query>"), "{orders:#?}");
    let frames = rows(&all, "frames");
    let below = frames.iter().filter(|f| f["address"] == orders["address"]);
    let names: Vec<&str> = below.map(|f| f["type"].as_str().unwrap()).collect();
    let expected = ["<Query>", "<Handle>", "<ProcessRequests>"];
    assert!(names.len() == 3 && names.iter().zip(expected).all(|(n, e)| n.contains(e)), "{names:?}");

    let pay = of("/pay");
    let wanted =
        [("method", "POST".into()), ("status", 503.into()), ("protocol", "HTTP/2".into()), ("host", "pay.test".into())];
    expect(pay, &wanted);
    let thread = pay["thread"].as_str().expect("the thread that is at it");
    let threads = answer(&mut shell, &out, "!clrthreads");
    let named = rows(&threads, "threads").into_iter().find(|t| t.values().any(|v| v == "pays")).expect("its thread");
    assert!(named.values().any(|v| v.as_str() == Some(thread)), "{thread}: {named:#?}");

    expect(of("/half"), &[("method", "PURGE".into()), ("state", "ParsingHeaders".into()), ("status", Json::Null)]);
    let old = of("/old.aspx");
    expect(old, &[("method", "HEAD".into()), ("query", "?id=7".into()), ("status", 302.into())]);
    assert!(old["thread"].is_string(), "{old:#?}");
    // The connection that waits for a request, and the context that was given back, are none.
    assert_eq!((requests.len(), &all["facts"]["requests"], &all["facts"]["idle"]), (4, &4.into(), &1.into()));
    assert_eq!(rows(&answer(&mut shell, &out, "!dumprequests -all"), "requests").len(), 5);
}

#[test]
fn requests_that_were_sent_have_their_answer_and_who_waits() {
    let (mut shell, out) = open(&data(DUMP));
    let all = rows(&answer(&mut shell, &out, "!dumphttp"), "requests");
    assert_eq!(all.len(), 4, "{all:#?}");
    let answered = all.iter().find(|r| r["uri"].as_str().unwrap().ends_with("/answered")).unwrap();
    assert_eq!((answered["method"].as_str(), answered["status"].as_u64()), (Some("PUT"), Some(404)));
    let pending = rows(&answer(&mut shell, &out, "!dumphttp -pending"), "requests");
    assert_eq!(pending.len(), 3);
    for r in &pending {
        assert!(r["uri"].as_str().unwrap().contains("/slow/") && r["status"].is_null(), "{r:#?}");
        assert!(r["waits_in"].as_str().unwrap().starts_with("System.Net.Http.HttpConnection+<"), "{r:#?}");
        assert!(r["connection"].is_string() && r["async"].is_string(), "{r:#?}");
    }
    let stacks = answer(&mut shell, &out, "!dumphttp -pending -stacks");
    let outermost = rows(&stacks, "frames").iter().filter(|f| f["type"].as_str().unwrap().contains("<Ask>")).count();
    assert_eq!(outermost, 3);
    for (line, count) in [("-completed", 1), ("-uri slow/1", 1), ("-statuscode 404", 1), ("-statuscode 200", 0)] {
        assert_eq!(rows(&answer(&mut shell, &out, &format!("!dumphttp {line}")), "requests").len(), count, "{line}");
    }
    let stats = rows(&answer(&mut shell, &out, "!dumphttp -stats"), "hosts");
    assert_eq!((stats.len(), stats[0]["count"].as_u64(), stats[0]["method"].as_str()), (2, Some(3), Some("GET")));
    assert!(stats[0]["host"].as_str().unwrap().starts_with("127.0.0.1:"), "{stats:?}");
}

#[test]
fn texts_of_requests_stay_in() {
    let (mut shell, out) = open(&data(DUMP));
    shell.settings.redact = true;
    for line in ["!dumprequests", "!dumphttp", "!dumphttp -stats"] {
        let said = answer(&mut shell, &out, line).to_string();
        assert!(!["secret", "/orders", "127.0.0.1", "shop.test"].iter().any(|s| said.contains(s)), "{line}: {said}");
    }
}
