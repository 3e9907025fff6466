//! Dynamic methods have names; everything inside an exception, and what was still being handled, is said.

use super::{ask, fact, has};

#[test]
fn a_dynamic_method_has_a_name_wherever_a_method_is_shown() {
    let shown = &ask("errors", &["!pe $Dyn"])[0];
    let frame = shown.lines().find(|l| l.contains("DynamicClass.made up(Int32)")).unwrap_or_else(|| panic!("{shown}"));
    let ip = frame.split_whitespace().nth(1).unwrap().to_owned();
    let by_ip = &ask("errors", &[&format!("!ip2md {ip}")])[0];
    has(by_ip, &["Method Name:", "DynamicClass.made up(Int32)"]);
    let md = by_ip.lines().find_map(|l| l.strip_prefix("MethodDesc:")).unwrap().trim().to_owned();
    let method = &ask("errors", &[&format!("!dumpmd {md}")])[0];
    has(method, &["Method Name:", "DynamicClass.made up(Int32)"]);
    let code = method.lines().find_map(|l| l.strip_prefix("Current CodeAddr:")).unwrap().trim();
    let (code, ip) = (u64::from_str_radix(code, 16).unwrap(), u64::from_str_radix(&ip, 16).unwrap());
    assert!(ip > code && ip - code < 0x1000, "{method}");
}

#[test]
fn an_aggregate_shows_all_that_is_inside() {
    let answers = ask("errors", &["!pe $Agg", "!pe -nested $Agg"]);
    // The line of SOS, and then all of them.
    has(&answers[0], &["InnerException:   System.ArgumentException, Use printexception "]);
    for inner in
        [" System.ArgumentException: one", " AppError: two", " System.AggregateException: One or more errors occurred."]
    {
        assert!(answers[0].lines().any(|l| l.ends_with(inner)), "{inner}: {}", answers[0]);
    }
    assert_eq!(answers[0].matches("Exception object:").count(), 1);
    let messages: Vec<&str> = answers[1].lines().filter_map(|l| l.strip_prefix("Message:          ")).collect();
    let expected = [
        "One or more errors occurred.",
        "one",
        "two",
        "two inner",
        "Attempted to divide by zero.",
        "One or more errors occurred.",
        "three a",
        "three b",
    ];
    assert_eq!(messages, expected);
    assert_eq!(answers[1].matches("Nested exception ---").count(), expected.len() - 1);
}

#[test]
fn what_is_still_being_handled_is_said() {
    let answers = ask("errors", &["!threads", "~11s; !pe", "~11s; !pe -nested", "!pe $Re"]);
    let (threads, plain, nested) = (&answers[0], &answers[1], &answers[2]);
    for n in 0..3 {
        let name = format!("\"thrower {n}\"");
        has(threads, &["System.FormatException ", " (nested exceptions) ", &name]);
    }
    assert_eq!(threads.matches("(nested exceptions)").count(), 3);
    has(plain, &["Message:          second in catch"]);
    has(plain, &["There are nested exceptions on this thread. Run with -nested for details"]);
    let messages: Vec<&str> = nested.lines().filter_map(|l| l.strip_prefix("Message:          ")).collect();
    assert_eq!(messages, ["second in catch", "in flight 0", "Value cannot be null."], "{nested}");
    // An exception that is asked for by its address is no thread's.
    assert!(!answers[3].contains("nested exceptions"), "{}", answers[3]);
}

#[test]
fn exceptions_are_counted_by_type_and_message() {
    let answer = &ask("errors", &["!dumpexceptions -stat"])[0];
    let rows: Vec<Vec<&str>> = answer.lines().map(|l| l.split_whitespace().collect()).collect();
    let count = |words: &str| {
        let row = rows.iter().find(|r| r.len() > 2 && r[2..].join(" ") == words);
        row.unwrap_or_else(|| panic!("no row {words}: {answer}"))[0].parse::<u32>().unwrap()
    };
    let slow = [0, 1, 2].map(|n| count(&format!("System.TimeoutException slow {n}")));
    assert_eq!(slow, [67, 67, 66]);
    assert_eq!(count("AppError in flight 1"), 1);
    assert_eq!(fact("errors", "address:Agg").len(), 12);
}
