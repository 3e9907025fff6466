//! What the collector recorded when the heap was full.

use super::{ask, has};

#[test]
fn the_record_of_a_full_heap_is_shown_with_its_limit() {
    let answer = &ask("oom", &["!analyzeoom"])[0];
    // SOS on this dump: the sentence.
    assert!(answer.starts_with("Didn't have enough memory to commit"), "{answer}");
    has(answer, &["Limit: DOTNET_GCHeapHardLimit = 20971520"]);
    has(answer, &["Heap 0 after GC "]);
}

#[test]
fn a_heap_that_was_never_full_has_none() {
    let answer = &ask("locks", &["!analyzeoom"])[0];
    assert_eq!(answer, "There was no managed OOM due to allocations on the GC heap");
}
