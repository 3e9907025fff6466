//! Locks of .NET 9 and later, and the names of threads.

use super::{ask, fact, has};

#[test]
fn held_locks_say_who_holds_them_and_who_waits() {
    let answer = &ask("locks", &["!syncblk"])[0];
    let row = |object: &str| {
        let address = format!("{:0>16}", fact("locks", &format!("address:{object}")));
        let found = answer.lines().find(|l| l.starts_with(&address)).map(|l| l.split_whitespace().collect::<Vec<_>>());
        found.unwrap_or_else(|| panic!("no lock {object}: {answer}"))
    };
    // Count, waiters, managed id, name of the owner.
    for (object, owner, name, count, waiters) in [
        ("A.Gate", "tid:A", "transfer A to B", "1", "1"),
        ("B.Gate", "tid:B", "transfer B to A", "1", "1"),
        ("Deep", "tid:Deep", "deep", "3", "0"),
    ] {
        let row = row(object);
        assert_eq!((row[1], row[2], row[4].to_owned()), (count, waiters, fact("locks", owner)), "{row:?}");
        assert_eq!(row[6..].join(" "), name);
    }
    assert!(!answer.contains(&fact("locks", "address:Free")), "{answer}");
    has(answer, &["Deadlock: 2 threads wait for one another"]);
    has(answer, &["\"transfer A to B\"", "waits for", "held by thread 5 \"transfer B to A\""]);
    // The monitor of the crowd: its owner and 20 who wait.
    has(answer, &[&fact("locks", "address:Crowd"), " 41 "]);
}

#[test]
fn a_lock_says_it_of_itself() {
    let answers = ask("locks", &["!do $A.Gate", "!do $Deep", "!do $Free"]);
    has(&answers[0], &["_owningThreadId"]);
    has(&answers[0], &["Lock: owner 4 (OSID ", "Count 1, Waiters 1"]);
    has(&answers[1], &["Lock: owner 6 (OSID ", "Count 3, Waiters 0"]);
    assert!(!answers[2].contains("Lock: "), "{}", answers[2]);
}

#[test]
fn threads_have_their_names() {
    let answers = ask("locks", &["!threads", "~"]);
    let (managed, native) = (&answers[0], &answers[1]);
    for name in ["transfer A to B", "deep", "crowd owner", "waiter 3", "waiter 19", "sync waiter 4", "writer"] {
        let quoted = format!("\"{name}\"");
        let row = managed.lines().find(|l| l.ends_with(&quoted)).unwrap_or_else(|| panic!("{name}: {managed}"));
        let os_id = row.split_whitespace().nth(2).unwrap();
        has(native, &[&format!(".{os_id} "), &quoted]);
    }
}
