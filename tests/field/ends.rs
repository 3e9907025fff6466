//! A process that ends itself while its pool has fallen behind: what it said, what waits, what many threads hold alike, and
//! which of two holders is named.

use super::{ask, has};

#[test]
fn what_the_process_said_when_it_ended_itself() {
    let answers = ask("ends", &["!pe", ".lastevent", "vertarget"]);
    has(&answers[0], &["Exception type:   System.ExecutionEngineException"]);
    has(&answers[0], &["InnerException:   System.InvalidOperationException, "]);
    has(&answers[0], &["Environment.FailFast was called: out of disk space: 2 left"]);
    for answer in &answers[1..] {
        has(answer, &["managed exception", "Environment.FailFast \"out of disk space: 2 left\""]);
    }
    // Nobody else ended itself.
    let other = &ask("errors", &["~11s; !pe"])[0];
    assert!(!other.contains("FailFast"), "{other}");
}

#[test]
fn all_that_waits_for_the_pool_is_counted() {
    let answer = &ask("ends", &["!threadpoolqueue"])[0];
    has(answer, &["12000 Work P.Slow"]);
    has(answer, &[" 3000 Work P.Fast"]);
    has(answer, &["15,000 work items"]);
    assert!(!answer.contains("partial"));
    assert_eq!(answer.lines().filter(|l| l.starts_with("0x") && l.ends_with(" Work | P.Fast")).count(), 3000);
}

#[test]
fn what_many_threads_hold_alike_is_shown_once() {
    let answer = &ask("ends", &["!gcroot $Shared"])[0];
    has(answer, &["P.Hold(Shared)"]);
    assert_eq!(answer.matches("P.Hold(Shared)").count(), 1, "{answer}");
    has(answer, &["20 threads: "]);
    has(answer, &["Found 40 unique roots."]);
}

#[test]
fn a_timer_is_named_as_holder_where_nothing_else_is_as_near() {
    let answers = ask("ends", &["!gcroot $Ticket -nostacks", "!gcroot -type Ticket -nostacks"]);
    has(&answers[0], &["Link (static variable: P.chain)"]);
    has(&answers[1], &["static variable P.chain"]);
    for answer in &answers {
        assert!(!answer.contains("TimerQueue"), "{answer}");
    }
    // The chain is gone one step farther: the timer itself has no other holder but the queue.
    let timer = &ask("ends", &["!gcroot -type System.Threading.TimerQueueTimer -nostacks"])[0];
    has(timer, &["TimerQueue"]);
}
