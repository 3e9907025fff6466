//! What statics of classes are worth whose initializer has not run, failed, or runs.

use super::{ask, fact, has};

/// `!dumpclass` of the class `name`.
fn class(name: &str) -> String {
    let found = &ask("statics", &[&format!("!name2ee statics.dll {name}")])[0];
    let mt = found.lines().find_map(|l| l.strip_prefix("MethodTable:")).unwrap_or_else(|| panic!("{found}"));
    ask("statics", &[&format!("!dumpclass {}", mt.trim())]).remove(0)
}

const MARK: &str = "(not initialized)";

#[test]
fn values_nobody_stored_are_marked() {
    let never = &ask("statics", &["!do $never"])[0];
    for field in ["Port", "Host", "Id", "Rate"] {
        has(never, &["static", &format!(" {field} {MARK}")]);
    }
    let mine = never.lines().find(|l| l.contains(" Mine")).unwrap();
    assert!(mine.ends_with(" 0 Mine"), "{mine}");
    let explicit = class("ExplicitNotRun");
    has(&explicit, &[&format!(" Limit {MARK}")]);
    has(&explicit, &[&format!(" Data {MARK}")]);
}

#[test]
fn a_failed_initializer_is_said_with_its_exception() {
    let failed = class("Failed");
    has(&failed, &[" 12 Before"]);
    has(&failed, &["The initializer of Failed failed", &fact("statics", "address:typeInit")]);
    assert!(!failed.contains(MARK), "{failed}");
}

#[test]
fn a_running_initializer_is_said_with_its_thread() {
    let running = class("Running");
    has(&running, &[" 1 Stage"]);
    has(&running, &["The initializer of Running runs on thread ", "\"initializer\""]);
    assert!(!running.contains(MARK), "{running}");
}

#[test]
fn what_was_initialized_has_no_mark() {
    let touched = &ask("statics", &["!do $touched"])[0];
    for row in [" 9091 Port", " 0 Zero", " 1 Flag"] {
        assert!(touched.lines().any(|l| l.ends_with(row)), "{row}: {touched}");
    }
    assert!(!touched.contains(MARK) && !touched.contains("initializer"), "{touched}");
    // Those of threads.
    has(touched, &[":    3"]);
    has(touched, &[":    4"]);
}
