//! What waits for what: async iterators, and threads that block on tasks.

use super::{ask, has};

#[test]
fn who_awaits_an_async_iterator_stands_below_it() {
    let merged = &ask("async", &["!dumpasync -coalesce"])[0];
    let lines: Vec<&str> = merged.lines().collect();
    let at = lines.iter().position(|l| l.ends_with("P+<Numbers>d__4")).unwrap_or_else(|| panic!("{merged}"));
    assert!(lines[at].trim_start().starts_with("[5] "), "{}", lines[at]);
    assert!(lines[at + 1].ends_with("P+<Consume>d__5") && lines[at + 1].trim_start().starts_with("[5] "), "{merged}");
    let indent = |l: &str| l.len() - l.trim_start().len();
    assert_eq!(indent(lines[at + 1]), indent(lines[at]) + 2);
    assert_eq!(merged.matches("P+<Consume>d__5").count(), 1);
}

#[test]
fn a_thread_that_blocks_on_a_task_ends_its_stack() {
    let answers = ask("async", &["!dumpasync", "!dumpasync -coalesce", "!threads"]);
    let lines: Vec<&str> = answers[0].lines().collect();
    let ends: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].contains("Task+SetOnInvokeMres")).collect();
    assert_eq!(ends.len(), 4, "{}", answers[0]);
    let mut threads = Vec::new();
    for i in ends {
        assert!(lines[i - 1].contains("P+<Level>d__13"), "{}", lines[i - 1]);
        let thread = lines[i].split_once("(blocks thread ").unwrap_or_else(|| panic!("{}", lines[i])).1;
        threads.push(thread.split_once(')').unwrap().0.to_owned());
    }
    // Workers of the pool, each with one of them.
    threads.sort();
    threads.dedup();
    assert_eq!(threads.len(), 4, "{threads:?}");
    for id in threads {
        let row = answers[2]
            .lines()
            .skip_while(|l| !l.contains("ThreadOBJ"))
            .find(|l| l.split_whitespace().nth(1) == Some(id.as_str()))
            .unwrap();
        assert!(row.contains("(Threadpool Worker)"), "{row}");
    }
    has(&answers[1], &["[4] ", "Task+SetOnInvokeMres"]);
}
