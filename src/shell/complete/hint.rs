//! What is shown, faint, behind what is typed: the rest of an earlier line, the type at an address, the arguments that may
//! follow, why there was nothing to complete.

use rustyline::Context;
use rustyline::hint::{Hint, Hinter, HistoryHinter};

use super::line::{atom_start, segment, word_start};
use super::{Prompt, option_of};
use crate::shell::command::{Arg, Command, Kind};
use crate::shell::expr::number;
use crate::shell::fit;
use crate::shell::parse::{placeholder, unfinished};
use crate::shell::pipes;
use crate::shell::quote::clean;

/// Least columns a hint is worth.
const LEAST: usize = 8;

/// What is shown, and what the right arrow takes over of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    shown: String,
    taken: Option<String>,
}

impl Hint for Tip {
    fn display(&self) -> &str {
        &self.shown
    }

    fn completion(&self) -> Option<&str> {
        self.taken.as_deref()
    }
}

impl Hinter for Prompt {
    type Hint = Tip;

    fn hint(&self, line: &str, pos: usize, ctx: &Context<'_>) -> Option<Tip> {
        if pos < line.len() {
            return None;
        }
        let last = line.rsplit('\n').next().unwrap_or(line);
        // The prompt is shorter than this.
        let room = self.columns.saturating_sub(fit::columns(last) + 10);
        if room < LEAST {
            return None;
        }
        let shown = |text: &str| fit::head(&clean(text), room).into_owned();
        let tip = |text: String| Some(Tip { shown: shown(&text), taken: None });
        if let Some((at, place, why)) = &*self.said.borrow()
            && at == line
            && *place == pos
        {
            return tip(format!("  ({why})"));
        }
        if line.trim().is_empty() {
            return None;
        }
        if let Some(rest) = HistoryHinter::new().hint(line, pos, ctx) {
            let first = rest.lines().next().unwrap_or("");
            let more = if first.len() < rest.len() { " ..." } else { "" };
            return Some(Tip { shown: shown(&format!("{first}{more}")), taken: Some(rest) });
        }
        if last.trim().is_empty() && unfinished(line, self.commands) {
            return tip("(what is open goes on here; Ctrl-C drops it)".to_owned());
        }
        self.type_of(line).or_else(|| self.arguments(line)).and_then(tip)
    }
}

impl Prompt {
    /// The type of the object, or of the MethodTable, whose address was typed.
    fn type_of(&self, line: &str) -> Option<String> {
        let segment = segment(line);
        let word = &segment[word_start(segment)..];
        let address = number(&word[atom_start(word)..]).filter(|a| *a > 0xFFFF)?;
        Some(format!("  {}", self.session.as_ref()?.known_type_at(address)?))
    }

    /// The arguments that may follow.
    fn arguments(&self, line: &str) -> Option<String> {
        let segment = segment(line);
        let (name, args) = segment.split_at(segment.find(' ').unwrap_or(segment.len()));
        let command = self.command(name)?;
        if let Some(tip) = pipes::complete::tip(segment) {
            return tip;
        }
        let words: Vec<&str> = args.split_whitespace().collect();
        // The value of an option is being typed.
        if words.last().is_some_and(|w| w.starts_with(['-', '/']) && w.contains(':')) && !segment.ends_with(' ') {
            return None;
        }
        let rest = awaited(command, &words);
        let blank = if segment.ends_with(' ') { "" } else { " " };
        (!rest.is_empty()).then(|| format!("{blank}{}", rest.join(" ")))
    }
}

/// Options given, and how many positional arguments.
pub fn given(command: &'static Command, words: &[&str]) -> (Vec<&'static Arg>, usize) {
    let (mut options, mut positional) = (Vec::new(), 0);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, inline) = match word.strip_prefix(['-', '/']).map(|w| w.split_once(':').unwrap_or((w, ""))) {
            Some((name, value)) => (name, !value.is_empty()),
            None => {
                positional += 1;
                continue;
            }
        };
        let Some(arg) = option_of(command, name) else { continue };
        options.push(arg);
        if arg.kind != Kind::Flag && !inline {
            words.next();
        }
    }
    (options, positional)
}

/// Placeholders of the arguments that may follow `words`.
fn awaited(command: &'static Command, words: &[&str]) -> Vec<String> {
    if let Some(arg) = words.last().and_then(|w| w.strip_prefix(['-', '/'])).and_then(|n| option_of(command, n))
        && arg.kind != Kind::Flag
    {
        let whole = placeholder(arg);
        return vec![whole.split_once(' ').map_or(whole.clone(), |p| p.1.to_owned())];
    }
    let (options, mut positional) = given(command, words);
    let mut rest = Vec::new();
    for arg in command.args {
        if arg.positional && positional > 0 && !arg.many {
            positional -= 1;
            continue;
        }
        if arg.kind.is_raw() && !words.is_empty() || options.iter().any(|o| std::ptr::eq(*o, arg)) && !arg.many {
            continue;
        }
        let text = placeholder(arg);
        rest.push(if arg.required || arg.kind == Kind::Blocks { text } else { format!("[{text}]") });
    }
    rest
}
