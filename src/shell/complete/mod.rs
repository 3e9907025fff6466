//! Completion at the prompt. What is offered derives from what commands declare and from what is known of the open dump;
//! nothing is walked for it.

mod hint;
mod line;
mod offer;

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use self::line::{SCRIPTS, atom_start, segment, word_start};
use super::command::{Arg, Command, Kind, Offers, Suggest, Suggestion};
use super::parse::{COMMON, unfinished};
use super::pipes;
use super::state::Shell;
use super::style;
use crate::session::Session;

/// What the line editor asks while a line is typed.
pub struct Prompt {
    commands: &'static [&'static Command],
    recent: Arc<Mutex<Vec<u64>>>,
    session: Option<Arc<Session>>,
    /// Index of the current thread.
    thread: usize,
    aliases: Vec<String>,
    /// Columns of the terminal.
    columns: usize,
    files: FilenameCompleter,
    /// Why nothing was offered, for the line and place it was asked at.
    said: RefCell<Option<(String, usize, String)>>,
}

impl Helper for Prompt {}

impl Validator for Prompt {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let open = unfinished(ctx.input(), self.commands);
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Prompt {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Found { from, mut pairs, whole, why } = self.candidates(line, pos, ctx)?;
        if pairs.is_empty()
            && let Some(why) = why
        {
            // What replaces nothing by nothing has the line drawn again, now with the sentence behind it.
            *self.said.borrow_mut() = Some((line.to_owned(), pos, why));
            return Ok((pos, vec![Pair { display: String::new(), replacement: String::new() }]));
        }
        // The only one there is is done with: the next word can follow.
        if whole
            && !line[pos..].starts_with(' ')
            && let [only] = &mut pairs[..]
        {
            only.replacement.push(' ');
        }
        Ok((from, pairs))
    }
}

/// What could stand where something is typed.
struct Found {
    /// Where it starts.
    from: usize,
    pairs: Vec<Pair>,
    /// Each is a whole word; a path or an expression may go on.
    whole: bool,
    /// Why there is none.
    why: Option<String>,
}

impl Prompt {
    /// Completion over the commands of a shell, the addresses printed and what is known of the open dump, on a terminal
    /// of so many columns.
    pub fn new(shell: &Shell, columns: usize) -> Self {
        Self {
            commands: shell.commands,
            recent: shell.recent.clone(),
            session: shell.session.clone(),
            thread: shell.settings.thread,
            aliases: shell.settings.aliases.iter().map(|a| a.0.clone()).collect(),
            columns,
            files: FilenameCompleter::new(),
            said: RefCell::new(None),
        }
    }

    fn candidates(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<Found> {
        let before = &line[..pos];
        let segment = segment(before);
        let lead = pos - segment.len();
        if let Some(form) = SCRIPTS.into_iter().find(|f| segment.starts_with(f)) {
            let path = segment[form.len()..].trim_start();
            // The form may touch the name: what the file completer sees is the name alone.
            let (from, pairs) = self.files.complete(path, path.len(), ctx)?;
            return Ok(Found { from: pos - path.len() + from, pairs, whole: false, why: None });
        }
        if let Some(typed) = segment.strip_prefix('~').filter(|t| !t.contains([' ', '['])) {
            return Ok(Found { from: lead + 1, pairs: self.threads(typed), whole: false, why: self.no_dump() });
        }
        let Some(space) = segment.find(' ') else {
            let why = Some("no command begins so; .help lists all".to_owned());
            return Ok(Found { from: lead, pairs: self.names(segment), whole: true, why });
        };
        let Some(command) = self.command(&segment[..space]) else {
            let why = Some("no such command; .help lists all".to_owned());
            return Ok(Found { from: pos, pairs: Vec::new(), whole: true, why });
        };
        if let Some((replaced, names)) = pipes::complete::candidates(segment, &command.returns) {
            let pairs = offer::matching(names.iter().map(String::as_str), "");
            let why = Some("no pipe and no column begins so; .help pipes explains them".to_owned());
            return Ok(Found { from: pos - replaced, pairs, whole: true, why });
        }
        let word_at = lead + word_start(segment);
        let word = &before[word_at..];
        if let Some((option, value)) = word.strip_prefix(['-', '/']).and_then(|w| w.split_once(':'))
            && let Some(arg) = option_of(command, option)
        {
            return self.of_argument(arg, line, pos - value.len(), pos, ctx);
        }
        let awaited = self.argument(command, &segment[space..word_at - lead]);
        if word.starts_with('-') && !matches!(awaited, Some(Arg { positional: false, .. })) {
            let why = Some("no option begins so".to_owned());
            return Ok(Found { from: word_at, pairs: offer::options(command, word), whole: true, why });
        }
        match awaited {
            Some(arg) => self.of_argument(arg, line, word_at, pos, ctx),
            None => Ok(Found { from: pos, pairs: Vec::new(), whole: true, why: Some("no further argument".into()) }),
        }
    }

    /// The command a word names.
    fn command(&self, typed: &str) -> Option<&'static Command> {
        let bare = typed.trim_start_matches(['!', '.']);
        let name = bare.rsplit_once('.').map_or(bare, |n| n.1).to_lowercase();
        let named = |c: &&&'static Command| c.name == name || c.aliases.contains(&name.as_str());
        let fits = |c: &&&'static Command| offer::fits(offer::mark(typed), c);
        self.commands.iter().filter(named).max_by_key(|c| fits(c)).copied()
    }

    /// What the word behind `done` stands for: the value of the option before it, or the next positional argument.
    fn argument(&self, command: &'static Command, done: &str) -> Option<&'static Arg> {
        let words: Vec<&str> = done.split_whitespace().collect();
        let option = words.last().and_then(|w| w.strip_prefix(['-', '/'])).and_then(|n| option_of(command, n));
        if let Some(a) = option.filter(|a| a.kind != Kind::Flag) {
            return Some(a);
        }
        let positional: Vec<&'static Arg> = command.args.iter().filter(|a| a.positional).collect();
        let given = hint::given(command, &words).1;
        positional.get(given).or(positional.last().filter(|a| a.many || a.kind.is_raw())).copied()
    }

    fn of_argument(
        &self,
        arg: &Arg,
        line: &str,
        word_at: usize,
        pos: usize,
        ctx: &Context<'_>,
    ) -> rustyline::Result<Found> {
        let word = &line[word_at..pos];
        let atom_at = word_at + atom_start(word);
        let atom = &line[atom_at..pos];
        let found = |from, pairs, whole, why: String| Ok(Found { from, pairs, whole, why: Some(why) });
        let files = || {
            let (from, pairs) = self.files.complete(line, pos, ctx)?;
            Ok(Found { from, pairs, whole: false, why: Some(format!("no such file; here stands {}", arg.help)) })
        };
        match arg.offers {
            Offers::Words(words) => {
                return found(word_at, offer::matching(words.iter().copied(), word), true, arg.help.to_owned());
            }
            Offers::List(words) => {
                let from = word.rfind(',').map_or(word_at, |i| word_at + i + 1);
                return found(
                    from,
                    offer::matching(words.iter().copied(), &line[from..pos]),
                    false,
                    arg.help.to_owned(),
                );
            }
            Offers::Modules => return found(word_at, self.modules(word), true, "no module begins so".into()),
            Offers::Aliases => {
                let all = offer::matching(self.aliases.iter().map(String::as_str), word);
                return found(word_at, all, true, "no alias begins so; `as` makes one".into());
            }
            Offers::Registers if !atom.starts_with('@') => {
                return found(atom_at, self.registers(atom), false, "no register begins so".into());
            }
            Offers::Files => return files(),
            Offers::Asked(suggest) => return Ok(self.asked(suggest, &line[..pos], &line[pos..])),
            Offers::Registers | Offers::ByKind => {}
        }
        let expression = matches!(arg.kind, Kind::Address | Kind::Object | Kind::MethodTable) || arg.kind.is_raw();
        if expression && atom.starts_with('@') {
            return found(atom_at, self.registers(atom), false, "no register begins so".into());
        }
        let inside = atom_at > word_at;
        match arg.kind {
            Kind::Address | Kind::Object | Kind::MethodTable => {
                let kind = if inside { Kind::Address } else { arg.kind };
                let mut pairs = self.addresses(atom, kind);
                pairs.extend(self.module_names(atom));
                found(atom_at, pairs, !inside, self.no_address(arg.kind))
            }
            Kind::TypeName => found(word_at, self.types_or_addresses(word), true, self.no_type()),
            Kind::CommandName => found(word_at, self.names(word), true, "no command begins so".into()),
            Kind::OneOf(words) => {
                found(word_at, offer::matching(words.iter().copied(), word), true, arg.help.to_owned())
            }
            Kind::File => files(),
            // Free text is part of an expression where it looks like one.
            Kind::Rest | Kind::LineFor(_) if atom.len() > 2 => {
                let mut pairs = self.addresses(atom, Kind::Address);
                pairs.extend(self.module_names(atom));
                found(atom_at, pairs, false, arg.help.into())
            }
            _ => found(pos, Vec::new(), false, arg.help.to_owned()),
        }
    }

    /// What the command itself offers.
    fn asked(&self, suggest: Suggest, before: &str, after: &str) -> Found {
        let typed = segment(before).split_once(' ').map_or("", |t| t.1);
        let start = before.len() - typed.len();
        let suggestion = self.session.as_deref().map(|s| suggest(s, typed, after));
        match suggestion {
            None => Found { from: before.len(), pairs: Vec::new(), whole: false, why: self.no_dump() },
            Some(Suggestion::Type(at)) => {
                let from = start + at;
                let pairs = self.types_or_addresses(&before[from..]);
                Found { from, pairs, whole: true, why: Some(self.no_type()) }
            }
            Some(Suggestion::Words(at, words)) => {
                let from = start + at;
                let pairs =
                    offer::matching(words.iter().map(String::as_str).filter(|w| offer::is_word(w)), &before[from..]);
                Found { from, pairs, whole: false, why: Some("nothing that is known begins so".to_owned()) }
            }
        }
    }
}

/// The option of that name, one every command has among them.
fn option_of(command: &'static Command, name: &str) -> Option<&'static Arg> {
    let is = |a: &&Arg| a.is_option(name);
    command.args.iter().find(is).or_else(|| COMMON.iter().find(is))
}

impl rustyline::highlight::Highlighter for Prompt {
    fn highlight_hint<'h>(&self, hint: &'h str) -> std::borrow::Cow<'h, str> {
        match style::paint() {
            Some(paint) => paint.faint(hint).into(),
            None => hint.into(),
        }
    }
}
