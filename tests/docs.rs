//! `docs/commands.md` is generated from the declarations and must not go stale.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::path::Path;

use clrscope::commands::ALL;
use clrscope::commands::session::help::reference;
use clrscope::shell::Prefix;

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

#[test]
fn names_not_built_point_at_commands_that_are() {
    for (name, near) in clrscope::shell::known::NOT_BUILT {
        assert!(
            ALL.iter().any(|c| c.name == *near || c.aliases.contains(near)),
            "{name} points at {near}, which does not exist"
        );
    }
}

#[test]
fn names_without_a_meaning_are_no_commands() {
    let mut seen = HashSet::new();
    for (names, why) in clrscope::shell::known::NO_MEANING {
        for name in *names {
            assert!(
                !ALL.iter().any(|c| c.is_called(name)),
                "{name} is a command; it is said to have no meaning: {why}"
            );
            assert!(seen.insert(name), "{name} is listed twice");
            assert!(
                !clrscope::shell::known::NOT_BUILT.iter().any(|n| n.0 == *name),
                "{name} is listed as not built too"
            );
        }
    }
}
