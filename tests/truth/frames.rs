//! The comparison of stacks, where the truth has them frame by frame (dumps held against the runtime's own library): stack
//! pointer, instruction pointer and MethodDesc of every managed frame, address and name of every explicit one, and each root
//! on the heap by its slot.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::compare::{Outcome, is_own_library, segments};
use crate::tables::{Table, load};

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or(0)
}

/// The cells of `row` in those columns.
fn cells<'t>(table: &Table, row: &'t [String], names: &[&str]) -> Vec<&'t str> {
    names.iter().map(|n| table.column(n).and_then(|c| row.get(c)).map_or("", String::as_str)).collect()
}

/// Managed frames of each thread, the newest first.
fn managed(table: &Table, kind: &str) -> BTreeMap<String, Vec<[u64; 3]>> {
    let mut out: BTreeMap<String, Vec<[u64; 3]>> = BTreeMap::new();
    for row in &table.rows {
        let [os_id, own, sp, ip, method] = cells(table, row, &["os_id", "kind", "sp", "ip", "method_desc"])[..] else {
            continue;
        };
        if own == kind {
            out.entry(os_id.to_owned()).or_default().push([hex(sp), hex(ip), hex(method)]);
        }
    }
    out
}

/// Both tables of the dump `name`, where the truth has them. Those of other readers hold frames that are none.
pub fn compare(name: &str, truth: &Path, ours: &Path) -> Vec<Outcome> {
    let expected = load(&truth.join("frames.tsv")).filter(|_| is_own_library(name));
    let Some(expected) = expected else { return Vec::new() };
    let found = load(&ours.join("frames.tsv")).unwrap_or_default();
    vec![frames(&expected, &found), roots(truth, ours)]
}

fn frames(expected: &Table, found: &Table) -> Outcome {
    let (want, have) = (managed(expected, "ManagedMethod"), managed(found, "managed"));
    let mut wrong = Vec::new();
    for (thread, frames) in &want {
        let own = have.get(thread).map_or(&[][..], Vec::as_slice);
        if own != frames {
            let lost = frames.iter().find(|f| !own.contains(f));
            wrong.push(format!("   thread {thread}: {} frames, ours {}, lost {lost:x?}", frames.len(), own.len()));
        }
    }
    let explicit = |table: &Table, kind: &str, name: &str| -> HashSet<(String, u64, String)> {
        let rows = table.rows.iter().map(|r| cells(table, r, &["os_id", "kind", "sp", name]));
        let own = rows.filter(|c| c[1] == kind);
        own.map(|c| (c[0].to_owned(), hex(c[2]), c[3].split(':').next().unwrap_or("").to_owned())).collect()
    };
    let own = explicit(found, "explicit", "frame");
    let lost = explicit(expected, "Runtime", "text").into_iter().filter(|f| !own.contains(f));
    wrong.extend(lost.map(|f| format!("   explicit frame {f:x?} is lost")));
    let wrong = (!wrong.is_empty()).then(|| format!("frames:\n{}", wrong.join("\n")));
    Outcome { table: "frames", rows: want.values().map(Vec::len).sum(), unnamed: 0, wrong }
}

/// Roots by thread, slot (0 for a register) and object.
fn slots(table: &Table, precise: bool) -> HashSet<(String, u64, u64)> {
    let rows = table.rows.iter().map(|r| cells(table, r, &["os_id", "address", "object", "precise"]));
    let told = rows.filter(|c| !precise || c[3] == "True");
    told.map(|c| (c[0].to_owned(), hex(c[1]), hex(c[2]))).collect()
}

fn roots(truth: &Path, ours: &Path) -> Outcome {
    let heap = segments(truth);
    let on_heap = |o: u64| heap.iter().any(|&(start, end)| (start..end).contains(&o));
    let load = |folder: &Path| load(&folder.join("stackroots.tsv")).unwrap_or_default();
    let mut want = slots(&load(truth), false);
    want.retain(|r| on_heap(r.2));
    let have = slots(&load(ours), true);
    let lost: Vec<String> = want.difference(&have).map(|r| format!("   {r:x?} is lost")).collect();
    let wrong = (!lost.is_empty()).then(|| format!("precise roots:\n{}", lost.join("\n")));
    Outcome { table: "precise roots", rows: want.len(), unnamed: 0, wrong }
}
