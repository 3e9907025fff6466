//! Completion at the prompt: commands, options, file names, type names and addresses.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::command::{Command, Kind, Prefix};
use super::pipes;
use crate::session::Session;

/// Addresses offered at most. Names are all offered: a cut list would complete to what its rest does not share.
const MOST_ADDRESSES: usize = 96;

/// What the line editor asks while a line is typed.
pub struct Prompt {
    commands: &'static [&'static Command],
    recent: Arc<Mutex<Vec<u64>>>,
    session: Option<Arc<Session>>,
    files: FilenameCompleter,
}

impl Helper for Prompt {}
impl Highlighter for Prompt {}
impl Validator for Prompt {}
impl Hinter for Prompt {
    type Hint = String;
}

impl Completer for Prompt {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (from, mut found, whole) = self.candidates(line, pos, ctx)?;
        // The only one there is is done with: the next word can follow.
        if whole
            && !line[pos..].starts_with(' ')
            && let [only] = &mut found[..]
        {
            only.replacement.push(' ');
        }
        Ok((from, found))
    }
}

impl Prompt {
    /// Where the word being typed starts, what could stand there, and whether each is a whole word (a path may go on).
    fn candidates(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>, bool)> {
        let before = &line[..pos];
        let segment = segment(before);
        let lead = pos - segment.len();
        if let Some(form) = SCRIPTS.into_iter().find(|f| segment.starts_with(f)) {
            let path = segment[form.len()..].trim_start();
            // The form may touch the name: what the file completer sees is the name alone.
            let at = pos - path.len();
            let (from, found) = self.files.complete(path, path.len(), ctx)?;
            return Ok((at + from, found, false));
        }
        let Some(space) = segment.find(' ') else { return Ok((lead, self.names(segment), true)) };
        let name = segment[..space].trim_start_matches(['!', '.']).to_lowercase();
        let name = name.rsplit_once('.').map_or(name.as_str(), |n| n.1);
        let Some(command) = self.commands.iter().find(|c| c.name == name || c.aliases.contains(&name)) else {
            return Ok((pos, Vec::new(), true));
        };
        if let Some((replaced, names)) = pipes::complete::candidates(segment, &command.returns) {
            return Ok((pos - replaced, matching(names.iter().map(String::as_str), ""), true));
        }
        let word_at = lead + word_start(segment);
        let word = &before[word_at..];
        if word.starts_with('-') {
            return Ok((word_at, options(command, word), true));
        }
        let found = match self.kind_at(command, &segment[space..], word) {
            Some(k @ (Kind::Address | Kind::Object | Kind::MethodTable)) => self.addresses(word, k),
            Some(Kind::TypeName) => self.types_or_addresses(word),
            Some(Kind::CommandName) => self.names(word),
            Some(Kind::OneOf(words)) => matching(words.iter().copied(), word),
            Some(Kind::File | Kind::Rest | Kind::Line) => {
                let (from, found) = self.files.complete(line, pos, ctx)?;
                return Ok((from, found, false));
            }
            _ => return Ok((pos, Vec::new(), true)),
        };
        Ok((word_at, found, true))
    }
}

fn matching<'w>(words: impl Iterator<Item = &'w str>, prefix: &str) -> Vec<Pair> {
    let lower = prefix.to_lowercase();
    words
        .filter(|w| w.to_lowercase().starts_with(&lower))
        .map(|w| Pair { display: w.to_owned(), replacement: w.to_owned() })
        .collect()
}

fn options(command: &Command, word: &str) -> Vec<Pair> {
    let all: Vec<String> = command.args.iter().filter(|a| !a.positional).map(|a| format!("-{}", a.name)).collect();
    matching(all.iter().map(String::as_str), word)
}

/// Script forms, the longer of two that begin alike first.
const SCRIPTS: [&str; 5] = ["$$>a<", "$$><", "$$<", "$><", "$<"];

/// The command being typed: behind the last `;` or `{` outside quotes, and behind a choice of threads.
fn segment(before: &str) -> &str {
    let (mut start, mut quoted) = (0, false);
    for (i, c) in before.char_indices() {
        match c {
            '"' => quoted = !quoted,
            // In `${` stands no command.
            '{' if !quoted && before[..i].ends_with('$') => {}
            ';' | '{' if !quoted => start = i + 1,
            _ => {}
        }
    }
    let text = before[start..].trim_start();
    match text.strip_prefix('~').and_then(super::parse::each) {
        Some((_, line)) => before[before.len() - line.len()..].trim_start(),
        None => text,
    }
}

/// Where the last word starts; a quoted one starts at its quote.
fn word_start(text: &str) -> usize {
    let quote = text.rfind('"').filter(|_| text.matches('"').count() % 2 == 1);
    quote.unwrap_or_else(|| text.rfind(' ').map_or(text.len(), |i| i + 1))
}

impl Prompt {
    /// Completion over these commands, the addresses printed and what is known of the open dump.
    pub fn new(
        commands: &'static [&'static Command],
        recent: Arc<Mutex<Vec<u64>>>,
        session: Option<Arc<Session>>,
    ) -> Self {
        Self { commands, recent, session, files: FilenameCompleter::new() }
    }

    fn names(&self, typed: &str) -> Vec<Pair> {
        let bare = typed.trim_start_matches(['!', '.']);
        let mark = &typed[..typed.len() - bare.len()];
        let fits = |c: &&&Command| match (mark, c.prefix) {
            ("!", p) => p != Prefix::Dot,
            (".", p) => p == Prefix::Dot,
            (_, p) => p != Prefix::Dot,
        };
        let names = self.commands.iter().filter(fits).map(|c| format!("{mark}{}", c.name));
        let all: Vec<String> = names.collect();
        matching(all.iter().map(String::as_str), typed)
    }

    /// What the word being typed stands for: the value of the option before it, or the next positional argument.
    fn kind_at(&self, command: &Command, args: &str, word: &str) -> Option<Kind> {
        let done = &args[..args.len() - word.len()];
        let words: Vec<&str> = done.split_whitespace().collect();
        let option = words.last().and_then(|w| w.strip_prefix('-')).and_then(|n| {
            command.args.iter().find(|a| !a.positional && a.name.eq_ignore_ascii_case(n) && a.kind != Kind::Flag)
        });
        if let Some(a) = option {
            return Some(a.kind);
        }
        let given = words.iter().filter(|w| !w.starts_with('-')).count();
        let positional: Vec<_> = command.args.iter().filter(|a| a.positional).collect();
        positional.get(given).or(positional.last()).map(|a| a.kind)
    }

    /// Addresses just printed first, newest first, then those of objects (or of MethodTables).
    fn addresses(&self, word: &str, kind: Kind) -> Vec<Pair> {
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
        let mut seen = self.printed(wanted, kind);
        for text in known.iter().map(|a| format!("{a:x}")) {
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        seen.into_iter().map(|t| Pair { display: t.clone(), replacement: t }).collect()
    }

    /// Addresses just printed that begin so, newest first. Listings print MethodTables beside objects: each is offered
    /// only where it is wanted.
    fn printed(&self, wanted: &str, kind: Kind) -> Vec<String> {
        let tables = self.session.as_ref().map(|s| s.method_tables_by_prefix(wanted, usize::MAX)).unwrap_or_default();
        let fits = |a: &u64| match kind {
            Kind::Object => tables.binary_search(a).is_err(),
            Kind::MethodTable => tables.binary_search(a).is_ok(),
            _ => true,
        };
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = recent.iter().rev().filter(|a| fits(a)).map(|a| format!("{a:x}"));
        let mut all: Vec<String> = texts.filter(|t| t.starts_with(wanted)).collect();
        let ends = [all.iter().min().cloned(), all.iter().max().cloned()];
        let mut met = HashSet::new();
        all.retain(|t| met.insert(t.clone()));
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
    fn types_or_addresses(&self, word: &str) -> Vec<Pair> {
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
        // What they share is completed: quotes on some only would leave nothing shared.
        let quoted = word.starts_with('"') || found.iter().all(|n| n.contains(' '));
        let spelled = |n: &str| if quoted { format!("\"{n}\"") } else { n.to_owned() };
        found.into_iter().map(|t| Pair { display: t.to_string(), replacement: spelled(t) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_being_typed() {
        for (line, want) in [
            ("!a; .b c", ".b c"),
            (".foreach (o {!dumph", "!dumph"),
            (".foreach (o {!a}) { !do ${o", "!do ${o"),
            ("~*e !dso", "!dso"),
            ("~1s", "~1s"),
            (".echo \"a;b", ".echo \"a;b"),
        ] {
            assert_eq!(segment(line), want, "{line}");
        }
    }

    #[test]
    fn a_quoted_word_starts_at_its_quote() {
        assert_eq!(word_start("!dumpheap -type Sys"), 16);
        assert_eq!(word_start("!dumpheap \"A<B, C"), 10);
        assert_eq!(word_start("!dumpheap \"A<B, C>\" x"), 20);
        assert_eq!(word_start("!dumpheap "), 10);
    }
}
