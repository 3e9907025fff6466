//! `docs/commands.md` is generated from the declarations and must not go stale.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::path::Path;

use clrscope::commands::ALL;
use clrscope::commands::session::help::reference;
use clrscope::shell::{Prefix, known};

#[test]
fn the_command_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let wanted = reference(ALL);
    if std::env::var_os("CLRSCOPE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/commands.md is stale: run CLRSCOPE_BLESS=1 cargo test --test docs");
}

#[test]
fn names_are_unique_and_declarations_complete() {
    let mut seen = HashSet::new();
    for c in ALL {
        for name in std::iter::once(c.name).chain(c.aliases.iter().copied()) {
            assert!(seen.insert((c.prefix as u8, name)), "{name} is declared twice");
            let lower = name.to_lowercase();
            assert!(
                name == lower || c.prefix == Prefix::Plain && ALL.iter().any(|c| c.is_exactly(&lower)),
                "{name}: names are lower case, but where another command has the same in lower case"
            );
        }
        assert!(!c.help.is_empty(), "{} has no help", c.name);
        assert!(!c.summary.ends_with('.'), "{}: summaries have no full stop", c.name);
        let mut positional = c.args.iter().filter(|a| a.positional).skip_while(|a| a.required);
        assert!(positional.all(|a| !a.required), "{}: a required argument follows an optional one", c.name);
    }
}

/// The names between backticks that a line of an answer begins with.
fn named(answer: &str) -> Vec<String> {
    let lines = answer.split('`').skip(1).step_by(2);
    lines.map(|l| l.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn names_that_are_not_here_are_answered_by_commands_that_are() {
    let mut seen = HashSet::new();
    for (names, answer) in known::INSTEAD {
        for name in *names {
            assert!(!ALL.iter().any(|c| c.is_called(name)), "{name} is a command, and answered by: {answer}");
            assert!(seen.insert(name), "{name} is listed twice");
        }
        assert_eq!(answer.matches('`').count() % 2, 0, "{answer}");
        for first in named(answer) {
            // Threads, scripts, and pipes with their own names.
            if first.starts_with(['~', '|']) || first.starts_with("$$>a<") {
                continue;
            }
            let (prefix, name) = match (first.strip_prefix('!'), first.strip_prefix('.')) {
                (Some(name), _) => (Some(Prefix::Bang), name),
                (_, Some(name)) => (Some(Prefix::Dot), name),
                _ => (None, &first[..]),
            };
            let is = |c: &&clrscope::shell::Command| c.is_called(name) && prefix.is_none_or(|p| c.prefix == p);
            let joined = prefix.is_none() && ALL.iter().any(|c| c.joined().is_some() && name.starts_with(c.name));
            assert!(joined || ALL.iter().copied().any(|c| is(&c)), "no command {first}: {answer}");
        }
    }
}

/// What SOS knows works here, or it is said in one line why not.
#[test]
fn every_name_of_sos_is_answered() {
    let mut seen = HashSet::new();
    for name in known::SOS {
        assert!(seen.insert(name), "{name} is listed twice");
        let works = ALL.iter().any(|c| c.is_called(name)) || known::BANG_ALONE.iter().any(|n| n.0 == *name);
        let instead = known::INSTEAD.iter().filter(|(names, _)| names.contains(name)).count();
        let none = known::NO_MEANING.iter().filter(|(names, _)| names.contains(name)).count();
        if *name != "t" {
            assert_eq!(
                usize::from(works) + instead + none,
                1,
                "{name}: works {works}, {instead} answers, {none} reasons"
            );
        }
    }
    assert!(seen.len() >= 157, "{}", seen.len());
    for (name, command) in known::BANG_ALONE {
        assert!(!ALL.iter().any(|c| c.is_called(name)), "{name} is a command without `!` too");
        assert!(ALL.iter().any(|c| c.prefix == Prefix::Bang && c.name == *command), "{name} stands for no command");
    }
}

#[test]
fn names_without_a_meaning_are_no_commands() {
    let mut seen = HashSet::new();
    for (names, why) in known::NO_MEANING {
        for name in *names {
            assert!(
                !ALL.iter().any(|c| c.is_called(name)),
                "{name} is a command; it is said to have no meaning: {why}"
            );
            assert!(seen.insert(name), "{name} is listed twice");
            assert!(!known::INSTEAD.iter().any(|n| n.0.contains(name)), "{name} is answered otherwise too");
        }
    }
}
