//! Any line typed: the grammar, words, arguments and expressions end without a panic, and errors point into the line.
#![no_main]

use clrscope::commands;
use clrscope::shell::expr::{Scope, Values, evaluate, number};
use clrscope::shell::grammar::{Reach, parse, words};
use clrscope::shell::{alias, control};
use clrscope::shell::parse::arguments;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let values = Values { user: [1; 20], ..Values::default() };
    let scope = Scope { dump: None, thread: 0, values: &values, context: None };
    let _ = (evaluate(line, &scope), number(line), words(line, 0));
    let names = [("a".to_owned(), "$$".to_owned()), ("$u1".to_owned(), "{".to_owned())];
    let _ = alias::expand(line, &names);
    let _ = (control::conditional(line), control::foreach(line), control::for_loop(line), control::judge(line));
    let reach = |name: &str, _: &str| match name {
        "shell" => Reach::Line,
        "if" | "foreach" | "for" | "while" => Reach::Blocks,
        _ => Reach::Command,
    };
    let calls = match parse(line, &reach) {
        Ok(calls) => calls,
        Err(e) => {
            let _ = e.caret(line);
            return;
        }
    };
    for call in calls {
        assert!(line.is_char_boundary(call.column) && line.is_char_boundary(call.raw_column));
        for command in commands::ALL.iter().filter(|c| c.name == call.name || c.aliases.contains(&call.name.as_str())) {
            if let Err(e) = arguments(command, &call, &scope) {
                let _ = e.caret(line);
            }
        }
    }
});
