//! Questions about single objects, and about what is alive, are answered without the graph of the heap: the answers are
//! those of the graph, on the dumps of `testdata/` (with `CLRSCOPE_DUMPS` set to a folder, on those of that folder instead).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use captured::{Captured, open};
use clrscope::graph::mark::Marked;
use clrscope::graph::paths::{WaysTo, closure, reachable};
use clrscope::graph::rounds::Rounds;
use clrscope::heap::links::Links;
use clrscope::heap::ordered::{AHEAD, Make};
use clrscope::heap::reader::Reader;
use clrscope::heap::summary::{Summary, View};
use clrscope::heap::{Object, Segment};
use clrscope::session::Session;
use clrscope::shell::state::Shell;
use clrscope::watch::{Interrupted, Watch};

/// Objects asked about in each dump.
const SAMPLES: u32 = 24;

fn dumps() -> Vec<PathBuf> {
    let folder = std::env::var_os("CLRSCOPE_DUMPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"), PathBuf::from);
    let is_dump = |p: &PathBuf| {
        let name = p.to_string_lossy().into_owned();
        [".core", ".core.zst", ".dmp", ".dmp.zst"].iter().any(|e| name.ends_with(e))
    };
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).filter(is_dump).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn session(shell: &Shell) -> &Arc<Session> {
    shell.session.as_ref().unwrap()
}

/// Ids spread over the heap, and some of what the roots hold.
fn samples(s: &Session) -> Vec<u32> {
    let ids = &s.index().unwrap().ids;
    let roots = &s.roots().unwrap().items;
    let held = roots.iter().filter_map(|r| ids.id_of(r.object)).step_by(roots.len() / 6 + 1);
    let step = (ids.len() / SAMPLES).max(1) as usize;
    let mut all: Vec<u32> = (0..ids.len()).step_by(step).map(|i| i + (i * 7) % step as u32).chain(held).collect();
    all.retain(|&i| i < ids.len());
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn searches_find_what_the_graph_holds() {
    let mut asked = 0;
    for path in dumps() {
        let (shell, _) = open(&path);
        let s = session(&shell);
        if s.roots().is_err() || s.heap().unwrap().in_gc {
            continue;
        }
        let name = path.display();
        let (walker, links, watch) = (s.walker().unwrap(), Links::new(s.clr().unwrap()), Watch::default());
        let (index, summary) = Summary::with_index(&walker, &links).unwrap();
        let again = Summary::build(&walker, &index, &links).unwrap();
        let (graph, reverse, ids) = (s.graph().unwrap(), s.reverse().unwrap(), &s.index().unwrap().ids);
        assert_eq!(index.ids.bits(), ids.bits(), "{name}");
        assert_eq!(index.report, s.index().unwrap().report, "{name}");
        let late: Vec<u32> = s.late_holders().into_iter().filter_map(|a| ids.id_of(a)).collect();
        let roots: Vec<u64> = s.roots().unwrap().items.iter().map(|r| r.object).collect();
        let address = |id: u32| ids.address_of(id).unwrap();
        let some = samples(s);
        let wanted = roots.iter().copied().chain(some.iter().map(|&i| address(i))).collect();
        for &id in &some {
            let target = address(id);
            let whole = WaysTo::new(reverse, id, &late, &watch).unwrap();
            for summary in [&summary, &again] {
                let view = View { walker, index: &index, links: &links, summary };
                let mut left = u64::MAX;
                let near =
                    Rounds::search(target, &wanted, &s.late_holders(), |sought| view.referrers(sought, &mut left))
                        .unwrap()
                        .unwrap();
                for &from in &wanted {
                    let way = ids.id_of(from).map(|id| whole.path(id)).unwrap_or_default();
                    assert_eq!(near.path(from), way.into_iter().map(address).collect::<Vec<_>>(), "{name}");
                }
            }
            let sources: Vec<u32> = some.iter().copied().filter(|&i| i % 3 == id % 3).collect();
            let marked =
                Marked::from_sources(ids, sources.iter().map(|&i| address(i)), || Reader::new(walker, &links), &watch);
            let reached = reachable(&graph.forward, sources, &watch).unwrap();
            let marked = marked.unwrap();
            assert!((0..ids.len()).all(|i| reached[i as usize] == marked.has(ids, address(i))), "{name}");
            asked += 1;
        }
        // Nothing may be read: the graph has to answer.
        let view = View { walker, index: &index, links: &links, summary: &summary };
        let none = Rounds::search(address(some[0]), &wanted, &[], |sought| view.referrers(sought, &mut 0));
        assert!(none.is_ok_and(|r: Option<Rounds>| r.is_none()), "{name}");
    }
    assert!(asked > 100, "{asked}");
}

#[test]
fn closures_are_those_of_the_graph_in_the_same_order() {
    for path in dumps() {
        let (shell, _) = open(&path);
        let whole = session(&shell);
        if whole.roots().is_err() {
            continue;
        }
        let (ids, graph, watch) = (&whole.index().unwrap().ids, whole.graph().unwrap(), Watch::default());
        let some = samples(whole);
        // By segments, by the index, and first by the one and then by the other.
        for indexed in [Some(false), Some(true), None] {
            let (shell, _) = open(&path);
            let near = session(&shell);
            if indexed == Some(true) {
                near.index().unwrap();
            }
            for &id in &some {
                let address = ids.address_of(id).unwrap();
                let found = near.closure_of(address).unwrap();
                let wanted = closure(&graph.forward, id, &watch).unwrap();
                assert_eq!(found, wanted.iter().map(|&i| ids.address_of(i).unwrap()).collect::<Vec<_>>());
                assert!(near.is_object(address).unwrap() && !near.is_object(address + 1).unwrap());
            }
            if indexed.is_none() {
                near.index().unwrap();
            }
        }
    }
}

fn ask(shell: &mut Shell, out: &Captured, line: &str) -> String {
    out.0.lock().unwrap().clear();
    shell.line(line);
    String::from_utf8(std::mem::take(&mut out.0.lock().unwrap())).unwrap()
}

#[test]
fn every_command_says_the_same_with_the_graph_and_without() {
    let (mut near_answers, mut graphs) = (0, 0);
    for path in dumps() {
        let (mut whole, whole_out) = open(&path);
        let s = session(&whole).clone();
        if s.roots().is_err() || s.reverse().is_err() {
            continue;
        }
        let ids = &s.index().unwrap().ids;
        let some: Vec<u64> = samples(&s).iter().step_by(3).filter_map(|&i| ids.address_of(i)).collect();
        let mut lines: Vec<String> =
            ["!dumpheap -stat -live", "!dumpheap -stat -dead", "!gcheapstat -iu", "!finalizequeue -allready -stat"]
                .map(str::to_owned)
                .into();
        for (i, a) in some.iter().enumerate() {
            let b = some[(i + 1) % some.len()];
            lines.push(format!("!gcroot {a:x}"));
            lines.push(format!("!gcroot {a:x} -nostacks -limit 2"));
            lines.push(format!("!objsize {a:x}"));
            lines.push(format!("!pathto {a:x} {b:x}"));
            let reached = s.closure_of(*a).unwrap();
            lines.push(format!("!pathto {a:x} {:x}", reached[reached.len() / 2]));
            lines.push(format!("!pathto {a:x} {:x}", reached[reached.len() - 1]));
            lines.push(format!("!refs {a:x} -limit 30"));
            lines.push(format!("!refs {a:x} -out -limit 30"));
            lines.push(format!("!gcroot {:x}", a + 1));
        }
        let (mut near, mut near_out) = open(&path);
        for line in &lines {
            // After so many questions the graph pays: the next is asked in a new session.
            if session(&near).has_reverse() {
                (near, near_out) = open(&path);
                graphs += 1;
            }
            let (a, b) = (ask(&mut near, &near_out, line), ask(&mut whole, &whole_out, line));
            assert_eq!(a, b, "{} {line}", path.display());
            near_answers += usize::from(!session(&near).has_reverse() && line.starts_with("!gcroot"));
        }
    }
    assert!(near_answers > 3 * graphs && near_answers > 100, "{near_answers} {graphs}");
}

#[test]
fn a_search_can_be_stopped() {
    let (shell, _) = open(&dumps()[0]);
    let s = session(&shell);
    let target = s.roots().unwrap().items[0].object;
    let ways = s.ways_to(target, std::iter::once(target + 8)).map(|w| w.reaches(target + 8));
    assert!(!ways.unwrap());
    s.watch.cancel.set();
    let stopped = s.marked_from([target]).err().or(s.referrers(target).err()).expect("stopped");
    assert!(stopped.is::<Interrupted>());
}

/// Counts the objects of a segment; how many segments were counted.
struct Counting(AtomicUsize);

impl Make for Counting {
    type State = u64;
    type Block = u64;

    fn begin(&self) -> u64 {
        0
    }

    fn visit(&self, seen: &mut u64, _: &Segment, _: Object<'_>) {
        *seen += 1;
    }

    fn take(&self, seen: &mut u64, last: bool) -> Option<u64> {
        last.then(|| {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::mem::take(seen)
        })
    }
}

#[test]
fn a_listing_walks_few_segments_ahead_of_what_is_taken() {
    let (shell, _) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-10.0-wks-heap.core.zst"));
    let s = session(&shell);
    let walker = s.walker().unwrap();
    let smallest = |s: &&Segment| s.end - s.start;
    let segment = walker.heap.segments.iter().filter(|s| s.end > s.start).min_by_key(smallest).unwrap();
    let segments = vec![*segment; 200];
    let ahead = AHEAD * rayon::current_num_threads();
    let (counting, mut taken) = (Counting(AtomicUsize::new(0)), Vec::new());
    let take = |objects: u64| {
        // Who waits sees how far the workers go without it.
        std::thread::sleep(std::time::Duration::from_millis(if taken.is_empty() { 200 } else { 0 }));
        assert!(counting.0.load(Ordering::SeqCst) <= taken.len() + ahead);
        taken.push(objects);
        Ok(())
    };
    walker.ordered(&segments, (0, u64::MAX), &counting, take).unwrap();
    assert_eq!(taken.len(), segments.len());
    assert!(taken[0] > 0 && taken.iter().all(|n| *n == taken[0]));
}
