//! What can be offered: names of commands and options, types, addresses with their types, modules, registers, threads.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use rustyline::completion::Pair;

use super::Prompt;
use crate::session::Session;
use crate::shell::command::{Command, Kind, Prefix};
use crate::shell::expr;
use crate::shell::fit;
use crate::shell::parse::{COMMON, spelled};
use crate::shell::quote::{acts, clean};

/// Addresses offered at most. Names are all offered: a cut list would complete to what its rest does not share.
const MOST_ADDRESSES: usize = 96;

fn pair(display: String, replacement: String) -> Pair {
    Pair { display, replacement }
}

fn word(text: &str) -> Pair {
    pair(text.to_owned(), text.to_owned())
}

/// Whether a name of the dump is one word of a line and nothing else: one that ends an argument, begins an option or a
/// command, or acts on the terminal is not offered, as Enter behind it would run what the dump says.
pub fn is_word(name: &str) -> bool {
    let begins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '<' | '[' | '(' | '@');
    let ends = |c: char| acts(c) || matches!(c, ';' | '"' | '\'' | '|');
    // The arguments of a generic type stand behind a comma and a blank.
    let blanks = name.match_indices(' ').all(|(i, _)| name[..i].ends_with(',') && name[i + 1..].starts_with(begins));
    name.starts_with(begins) && blanks && !name.contains(ends) && !name.contains("${") && !name.contains("$$")
}

/// Those of `words` that begin with `prefix`, whatever their case.
pub fn matching<'w>(words: impl Iterator<Item = &'w str>, prefix: &str) -> Vec<Pair> {
    let lower = prefix.to_lowercase();
    words.filter(|w| w.to_lowercase().starts_with(&lower)).map(word).collect()
}

/// The options of a command that begin so, those every command has behind its own.
pub fn options(command: &Command, word: &str) -> Vec<Pair> {
    let own = command.args.iter().filter(|a| !a.positional);
    let common = COMMON.iter().filter(|c| !command.args.iter().any(|a| a.name == c.name));
    let all: Vec<String> = own.chain(common).map(|a| format!("-{}", a.name)).collect();
    matching(all.iter().map(String::as_str), word)
}

/// What stands before the name of a command: `!`, `.`, or an extension as in `!sos.`.
pub fn mark(typed: &str) -> &str {
    match typed.strip_prefix('!') {
        Some(rest) => &typed[..typed.len() - rest.rsplit('.').next().unwrap_or("").len()],
        None => &typed[..usize::from(typed.starts_with('.'))],
    }
}

/// Whether a command can be typed with this mark.
pub fn fits(mark: &str, command: &Command) -> bool {
    match mark {
        "!" => command.prefix != Prefix::Dot,
        "" => command.prefix != Prefix::Dot,
        "." => command.prefix == Prefix::Dot,
        _ => command.prefix == Prefix::Bang,
    }
}

impl Prompt {
    /// Commands by each of their names.
    pub fn names(&self, typed: &str) -> Vec<Pair> {
        let mark = mark(typed);
        let lower = typed.to_lowercase();
        let mut found = Vec::new();
        for c in self.commands.iter().filter(|c| fits(mark, c)) {
            for name in std::iter::once(&c.name).chain(c.aliases) {
                let replacement = format!("{mark}{name}");
                if !replacement.to_lowercase().starts_with(&lower) {
                    continue;
                }
                let also = if *name == c.name { String::new() } else { format!(" = {}", spelled(c)) };
                found.push(pair(format!("{replacement}{also}"), replacement));
            }
        }
        found.sort_by(|a, b| a.replacement.cmp(&b.replacement));
        found.dedup_by(|a, b| a.replacement == b.replacement);
        found
    }

    /// A sentence when no dump is open.
    pub fn no_dump(&self) -> Option<String> {
        Some(if self.session.is_none() { "no dump is open" } else { "no such thread" }.to_owned())
    }

    /// Threads by number, with their id and name.
    pub fn threads(&self, typed: &str) -> Vec<Pair> {
        let Some(session) = &self.session else { return Vec::new() };
        let numbered = session.dump().threads.iter().enumerate().map(|(i, t)| (i.to_string(), t));
        let fitting = numbered.filter(|(n, _)| n.starts_with(typed));
        let shown = |n: &str, t: &crate::dump::Thread| {
            let name = t.name.as_deref().map(clean).unwrap_or_default();
            format!("{n}  {:x} {name}", t.os_id).trim_end().to_owned()
        };
        fitting.map(|(n, t)| pair(shown(&n, t), n)).collect()
    }

    /// Registers of the current thread and pseudo registers; behind `@` or `$` alone the latter.
    pub fn registers(&self, typed: &str) -> Vec<Pair> {
        let bare = typed.strip_prefix('@').unwrap_or(typed);
        let at = &typed[..typed.len() - bare.len()];
        let thread = self.session.as_ref().and_then(|s| s.dump().threads.get(self.thread));
        let general = thread.and_then(|t| t.registers.as_ref()).map(|r| r.general.as_slice()).unwrap_or_default();
        let pseudo = expr::pseudo::PSEUDO.iter().map(|p| format!("${}", p.name));
        let user = (0..expr::USER).map(|n| format!("$t{n}"));
        let mut all: Vec<String> = general.iter().map(|r| r.0.to_owned()).collect();
        all.extend(pseudo.chain(user).filter(|_| !at.is_empty() || bare.starts_with('$')));
        let lower = bare.to_lowercase();
        all.iter().filter(|n| n.starts_with(&lower)).map(|n| word(&format!("{at}{n}"))).collect()
    }

    /// Modules of the process and of the runtime, as their files are called.
    pub fn modules(&self, typed: &str) -> Vec<Pair> {
        let Some(session) = &self.session else { return Vec::new() };
        let mut names: Vec<String> = session.dump().modules.iter().map(|m| m.file_name().to_owned()).collect();
        names.extend(session.known_module_names());
        names.retain(|n| is_word(n));
        names.sort_unstable();
        names.dedup();
        matching(names.iter().map(String::as_str), typed)
    }

    /// Names of modules as expressions have them.
    pub fn module_names(&self, typed: &str) -> Vec<Pair> {
        let Some(session) = self.session.as_ref().filter(|_| !typed.is_empty()) else { return Vec::new() };
        let mut names: Vec<String> = session.dump().modules.iter().map(|m| m.stem().to_owned()).collect();
        names.retain(|n| is_word(n));
        names.sort_unstable();
        names.dedup();
        matching(names.iter().map(String::as_str), typed)
    }

    /// Addresses just printed first, newest first, then those of objects (or of MethodTables), with their types.
    pub fn addresses(&self, word: &str, kind: Kind) -> Vec<Pair> {
        let typed = word.strip_prefix("0x").unwrap_or(word).replace('`', "").to_lowercase();
        let wanted = typed.trim_start_matches('0');
        if !wanted.chars().all(|c| c.is_ascii_hexdigit()) {
            return Vec::new();
        }
        let session = self.session.as_deref();
        let known = session.map_or(Vec::new(), |s| match kind {
            Kind::MethodTable => s.method_tables_by_prefix(wanted, MOST_ADDRESSES),
            _ => s.objects_by_prefix(wanted, MOST_ADDRESSES),
        });
        let mut all = self.printed(wanted, kind);
        let mut met: HashSet<u64> = all.iter().copied().collect();
        all.extend(known.into_iter().filter(|a| met.insert(*a)));
        let room = self.columns.saturating_sub(22).max(16);
        let shown = |a: u64| match session.and_then(|s| s.known_type_at(a)) {
            Some(name) => format!("{a:x}  {}", fit::type_name(&clean(&name), room)),
            None => format!("{a:x}"),
        };
        all.into_iter().map(|a| pair(shown(a), format!("{a:x}"))).collect()
    }

    /// Addresses just printed that begin so, newest first. Listings print MethodTables beside objects: each is offered
    /// only where it is wanted.
    fn printed(&self, wanted: &str, kind: Kind) -> Vec<u64> {
        let tables = self.session.as_ref().map(|s| s.method_tables_by_prefix(wanted, usize::MAX)).unwrap_or_default();
        let fits = |a: &u64| match kind {
            Kind::Object => tables.binary_search(a).is_err(),
            Kind::MethodTable => tables.binary_search(a).is_ok(),
            _ => true,
        };
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = |a: &u64| format!("{a:x}").starts_with(wanted);
        let mut all: Vec<u64> = recent.iter().rev().copied().filter(|a| fits(a) && begins(a)).collect();
        let text = |a: &u64| format!("{a:x}");
        let ends = [all.iter().min_by_key(|a| text(a)).copied(), all.iter().max_by_key(|a| text(a)).copied()];
        let mut met = HashSet::new();
        all.retain(|a| met.insert(*a));
        all.truncate(MOST_ADDRESSES);
        // A cut list completes to no more than the whole one does when it has the first and the last.
        for end in ends.into_iter().flatten() {
            if !all.contains(&end) {
                all.push(end);
            }
        }
        all
    }

    /// Type names; addresses where none fits, as `!dumpheap` takes either.
    pub fn types_or_addresses(&self, word: &str) -> Vec<Pair> {
        let names = self.type_names(word);
        if names.is_empty() { self.addresses(word, Kind::Object) } else { names }
    }

    fn type_names(&self, word: &str) -> Vec<Pair> {
        let bare = word.trim_start_matches('"');
        let types = self.session.as_ref().map(|s| s.known_type_names()).unwrap_or_default();
        let mut found: Vec<&Arc<str>> = types.iter().filter(|t| t.starts_with(bare)).collect();
        if found.is_empty() {
            let lower = bare.to_lowercase();
            found = types.iter().filter(|t| t.to_lowercase().contains(&lower)).collect();
        }
        found.retain(|t| is_word(t));
        // What they share is completed: quotes on some only would leave nothing shared.
        let quoted = word.starts_with('"') || found.iter().all(|n| n.contains(' '));
        let spelled = |n: &str| if quoted { format!("\"{n}\"") } else { n.to_owned() };
        found.into_iter().map(|t| pair(t.to_string(), spelled(t))).collect()
    }

    /// Why there is no address to offer.
    pub fn no_address(&self, kind: Kind) -> String {
        match (self.session.as_deref(), kind) {
            (None, _) => "no dump is open".into(),
            (Some(s), Kind::Object) if !s.knows_objects() => {
                "no object is known yet: a listing such as !dumpheap makes them known".into()
            }
            (Some(s), Kind::MethodTable) if s.types().all().is_empty() => {
                "no MethodTable is known yet: !dumpheap -stat makes them known".into()
            }
            (_, Kind::Object) => "no object's address begins so".into(),
            (_, Kind::MethodTable) => "no MethodTable's address begins so".into(),
            _ => "an address or an expression; none that is known begins so".into(),
        }
    }

    /// Why there is no type to offer.
    pub fn no_type(&self) -> String {
        match self.session.as_deref().map(Session::known_type_names) {
            None => "no dump is open".into(),
            Some(names) if names.is_empty() => "no type is known yet: !dumpheap -stat makes them known".into(),
            Some(_) => "no type's name contains this".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_word;

    #[test]
    fn names_that_would_run_are_not_offered() {
        for name in [
            "System.String",
            "<>c__DisplayClass1_0",
            "A<System.Int32, <>c[], B+C>",
            "<Main>$",
            "[vdso]",
            "(null)",
            "libstdc++.so.6",
            "Ä1",
        ] {
            assert!(is_word(name), "{name}");
        }
        for name in [
            "A;.shell x",
            "A -o /tmp/x",
            "A, -o:/tmp/x",
            "A, /o",
            "-o",
            ".shell x",
            "!do",
            "A|find",
            "A\"",
            "A\u{1b}[m",
            "A\u{202e}",
            "A\n.shell",
            "${evil}",
            "$$>a<x",
            "*",
            "",
        ] {
            assert!(!is_word(name), "{name}");
        }
    }
}
