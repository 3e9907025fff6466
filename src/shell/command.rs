//! What a command declares. Parsing, help, completion and the reference in `docs/` all derive from this.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::args::Args;
use super::control::Control;
use super::expr::{Scope, Values};
use super::opening::Opening;
use super::out::Out;
use super::returns::Returns;
use super::screen::Window;
use crate::dump::{Dump, Registers};
use crate::session::mixed::Chosen;
use crate::session::saved::IndexMode;
use crate::session::{Provider, Session};

/// How a command is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// `!name`, the `!` optional where no native command has the name.
    Bang,
    /// `.name`.
    Dot,
    /// `name`, a native debugger command.
    Plain,
}

/// Chapter of the help; commands are listed under it in the table's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Heap and memory.
    Heap,
    /// Objects, types, modules.
    Objects,
    /// Threads, locks, exceptions.
    Threads,
    /// Runtime and its heaps.
    Runtime,
    /// Process memory and native state.
    Memory,
    /// The language of scripts.
    Scripts,
    /// Session, symbols, output.
    Session,
}

/// What must be there before a command runs; checked once, by the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, not even a dump.
    Nothing,
    /// An open dump.
    Dump,
    /// A .NET runtime in the dump.
    Clr,
    /// CoreCLR: what the command shows a program compiled ahead of time does not have.
    CoreClr,
}

/// What kind of value an argument takes: decides parsing and completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Present or absent.
    Flag,
    /// Hexadecimal address or expression (`0x`, backticks, leading zeros, `@rsp`, `poi(...)`).
    Address,
    /// As `Address`, and completed with addresses of live objects.
    Object,
    /// As `Address`, and completed with MethodTables in use.
    MethodTable,
    /// Decimal number, `0x` for hexadecimal.
    Count,
    /// A type name in either spelling, completed from the type table.
    TypeName,
    /// Free text, one word or quoted.
    Text,
    /// A file or folder path.
    File,
    /// A command name (for help).
    CommandName,
    /// One of the listed words, case-insensitive.
    OneOf(&'static [&'static str]),
    /// Everything to the end of the command, as typed.
    Rest,
    /// As `Rest`, but to the end of the line, `;` included; to the next `;` when the name is typed with a capital at its
    /// end (`aS`).
    Line,
    /// As `Line`, but to the next `;` when one of these words comes first.
    LineBut(&'static [&'static str]),
    /// As `Rest`, but to the end of the line when it begins with one of these.
    LineFor(&'static [&'static str]),
    /// As `Rest`; in parentheses and braces `;` ends nothing.
    Blocks,
    /// As `Rest`: which threads, and behind it a command that runs to the end of the line.
    Each,
}

impl Kind {
    /// Whether the argument is taken as typed.
    pub fn is_raw(self) -> bool {
        matches!(self, Kind::Rest | Kind::Line | Kind::LineBut(_) | Kind::LineFor(_) | Kind::Blocks | Kind::Each)
    }
}

/// What a command offers for its argument: asked with what is typed of it, and with the rest of the line.
pub type Suggest = fn(&Session, &str, &str) -> Suggestion;

/// What may stand at the end of what is typed, and from which place of it on.
#[derive(Debug)]
pub enum Suggestion {
    /// The name of a type.
    Type(usize),
    /// One of these.
    Words(usize, Vec<String>),
}

/// What completion offers for an argument, where its kind does not say enough.
#[derive(Debug, Clone, Copy)]
pub enum Offers {
    /// What the kind says.
    ByKind,
    /// These words; others may be given too.
    Words(&'static [&'static str]),
    /// As `Words`, several joined by commas.
    List(&'static [&'static str]),
    /// Modules of the process and of the runtime.
    Modules,
    /// Registers, with and without `@`.
    Registers,
    /// Files and folders, where the kind is text.
    Files,
    /// Aliases.
    Aliases,
    /// What the command says.
    Asked(Suggest),
}

/// One argument of a command. Options are written `-name`, `--name` or `/name`, case-insensitive.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// Option name without dash, or placeholder of a positional argument in capitals.
    pub name: &'static str,
    /// Other spellings of an option.
    pub aliases: &'static [&'static str],
    /// Value kind.
    pub kind: Kind,
    /// Positional arguments are matched in order of declaration.
    pub positional: bool,
    /// Missing is an error.
    pub required: bool,
    /// May be given more than once.
    pub many: bool,
    /// Makes the command read or write a file beside the dump, or run a program: `--safe` refuses it.
    pub outside: bool,
    /// It may follow the name of its command without a blank, where this holds of what follows (`lmvm`, `s-d`).
    pub joined: Option<fn(&str) -> bool>,
    /// What completion offers.
    pub offers: Offers,
    /// Help line.
    pub help: &'static str,
}

impl Arg {
    const fn new(name: &'static str, kind: Kind, positional: bool, help: &'static str) -> Self {
        let (outside, offers) = (matches!(kind, Kind::File), Offers::ByKind);
        Self { name, aliases: &[], kind, positional, required: false, many: false, outside, joined: None, offers, help }
    }

    /// An option without a value.
    pub const fn flag(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Flag, false, help)
    }

    /// An option with a value.
    pub const fn opt(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(name, kind, false, help)
    }

    /// A positional argument; `name` is its placeholder, e.g. `ADDR`.
    pub const fn pos(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(name, kind, true, help)
    }

    /// Whether it is the option of that name, whatever its case.
    pub fn is_option(&self, name: &str) -> bool {
        !self.positional && is_called(self.name, self.aliases, name)
    }

    /// Makes it required.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Lets it occur more than once.
    pub const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// Says that it makes the command reach outside the dump, as every path does.
    pub const fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// Lets it follow the name of its command without a blank, where `fits` holds of what follows there.
    pub const fn joined(mut self, fits: fn(&str) -> bool) -> Self {
        self.joined = Some(fits);
        self
    }

    const fn offers(mut self, offers: Offers) -> Self {
        self.offers = offers;
        self
    }

    /// Has completion offer these words; others may be given too.
    pub const fn words(self, words: &'static [&'static str]) -> Self {
        self.offers(Offers::Words(words))
    }

    /// As [`Arg::words`], for several joined by commas.
    pub const fn list(self, words: &'static [&'static str]) -> Self {
        self.offers(Offers::List(words))
    }

    /// Has completion offer modules.
    pub const fn completes_modules(self) -> Self {
        self.offers(Offers::Modules)
    }

    /// Has completion offer registers.
    pub const fn completes_registers(self) -> Self {
        self.offers(Offers::Registers)
    }

    /// Has completion offer files and folders.
    pub const fn completes_files(self) -> Self {
        self.offers(Offers::Files)
    }

    /// Has completion offer aliases.
    pub const fn completes_aliases(self) -> Self {
        self.offers(Offers::Aliases)
    }

    /// Has completion ask the command.
    pub const fn completes(self, suggest: Suggest) -> Self {
        self.offers(Offers::Asked(suggest))
    }

    /// Adds other spellings.
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// An example in the help; also run as a test on a sample dump. `$NAME` in `line` is a placeholder the test fills.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The line as typed.
    pub line: &'static str,
    /// What it shows.
    pub what: &'static str,
}

/// How complete an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for.
    Complete,
    /// Some is missing; the reason is printed as `partial: ...`.
    Partial(String),
    /// Nothing matched.
    Empty,
}

/// One command: the only place where its name, arguments, help and code stand.
pub struct Command {
    /// Name, lower case, without prefix.
    pub name: &'static str,
    /// How it is typed.
    pub prefix: Prefix,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Help chapter.
    pub group: Group,
    /// One line for the list.
    pub summary: &'static str,
    /// Paragraphs for `.help NAME`.
    pub help: &'static str,
    /// Arguments in order.
    pub args: &'static [Arg],
    /// Examples.
    pub examples: &'static [Example],
    /// Preconditions.
    pub needs: Needs,
    /// What it returns: facts and tables.
    pub returns: Returns,
    /// Does it. Prints through `ctx.out` only.
    pub run: fn(&mut Ctx<'_>, &Args) -> Result<Outcome>,
}

impl Command {
    /// One of which only the name, the chapter and the summary are declared: it takes nothing, needs no dump and does nothing.
    pub const fn bare(name: &'static str, prefix: Prefix, group: Group, summary: &'static str) -> Self {
        Self {
            name,
            prefix,
            aliases: &[],
            group,
            summary,
            help: "",
            args: &[],
            examples: &[],
            needs: Needs::Nothing,
            returns: Returns::NOTHING,
            run: |_, _| Ok(Outcome::Complete),
        }
    }

    /// Whether it is the command of that name, whatever its case; a name with capitals is meant as it stands, since another
    /// command has it without (`dd`, `dD`).
    pub fn is_called(&self, name: &str) -> bool {
        is_called(self.name, self.aliases, name)
    }

    /// Whether one of its names is just this.
    pub fn is_exactly(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Which text may follow its name without a blank.
    pub fn joined(&self) -> Option<fn(&str) -> bool> {
        self.args.iter().find_map(|a| a.joined)
    }
}

fn is_called(own: &str, aliases: &[&str], name: &str) -> bool {
    let same = |known: &str| match known.bytes().any(|b| b.is_ascii_uppercase()) {
        true => known == name,
        false => known.eq_ignore_ascii_case(name),
    };
    // A line asks all names of all commands: most differ in length.
    let is = |known: &str| known.len() == name.len() && same(known);
    is(own) || aliases.iter().any(|a| is(a))
}

/// What a command asks the shell to do after it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Leave the shell.
    Quit,
    /// Open another dump (or the same one again with the current image paths).
    Open(PathBuf),
    /// Open the current dump again because image paths changed.
    Reopen,
    /// Start copying output to the end of this file.
    LogOpen(PathBuf),
    /// Stop copying output.
    LogClose,
    /// Clear the screen.
    ClearScreen,
    /// Make another thread current (index into `Dump::threads`).
    Thread(usize),
    /// Run a line with each of these threads current, then go back.
    Each {
        /// Indices into `Dump::threads`.
        threads: Vec<usize>,
        /// What to run.
        line: String,
        /// Whether the row of the thread comes before each answer.
        heads: bool,
    },
    /// Run these lines, one after another.
    Lines(Vec<String>),
    /// Run blocks: a condition, a loop.
    Control(Control),
    /// Run a line and make what it prints the text of an alias.
    Capture {
        /// The alias.
        name: String,
        /// What to run.
        line: String,
    },
    /// Run a program of the operating system; what `line` prints, if there is one, is its input.
    Program {
        /// The program with its arguments, as a shell takes it.
        program: String,
        /// What to run first.
        line: Option<String>,
    },
}

/// Settings that outlive one command and one dump.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Folders of `-i` and `.exepath`.
    pub image_paths: Vec<PathBuf>,
    /// The symbol path as set by `.sympath`, local cache folders of it are searched for images.
    pub symbol_path: String,
    /// Where the index of a dump is kept.
    pub index: IndexMode,
    /// Index of the current thread in `Dump::threads`.
    pub thread: usize,
    /// Registers that stand for those of the current thread (`.cxr`, `.ecxr`, `.frame /c`).
    pub context: Option<Chosen>,
    /// Layout providers that are not asked (`--provider`).
    pub providers_off: Vec<Provider>,
    /// The terminal that output goes to, if it does.
    pub window: Option<Window>,
    /// The open log file.
    pub log: Option<PathBuf>,
    /// Where the last memory display ended: the command used (`db`, `dps`, ...) and the address that follows. A display
    /// without an address goes on there.
    pub display: Option<(&'static str, u64)>,
    /// Hits that `s -[s]` keeps, for `s -[r]`; sorted.
    pub found: Vec<u64>,
    /// Where the last disassembly ended, and with which thread current: the next without an address goes on there.
    pub code: Option<(usize, u64)>,
    /// What expressions remember: `$t0` to `$t19`, the radix and others.
    pub values: Values,
    /// Aliases by name, in the order they were made.
    pub aliases: Vec<(String, String)>,
    /// The first failure ends what runs (`--strict`).
    pub strict: bool,
    /// Nothing outside the dump is read, written or run, whatever a command says (`--safe`).
    pub safe: bool,
    /// Texts of the process and paths do not leave whole (`--redact`).
    pub redact: bool,
}

impl Settings {
    /// What names in expressions stand for now, in `dump`.
    pub fn scope<'a>(&'a self, dump: Option<&'a Dump>) -> Scope<'a> {
        Scope { dump, thread: self.thread, values: &self.values, context: self.context.as_ref().map(|c| &c.registers) }
    }

    /// The registers that commands work with: those chosen, else those of the current thread.
    pub fn registers<'a>(&'a self, dump: &'a Dump) -> Option<&'a Registers> {
        let own = || dump.threads.get(self.thread)?.registers.as_ref();
        self.context.as_ref().map(|c| &c.registers).or_else(own)
    }

    /// Chooses registers in place of the thread's, or none.
    pub fn choose(&mut self, context: Option<Chosen>) {
        self.context = context;
        self.code = None;
    }

    /// An error where `--safe` forbids `what`, which reads, writes or runs something outside the dump.
    pub fn may(&self, what: &str) -> Result<()> {
        if self.safe {
            return Err(anyhow!(
                "{what}: switched off by --safe, which lets nothing be read, written or run but the dump"
            ));
        }
        Ok(())
    }
}

/// What a running command sees.
pub struct Ctx<'a> {
    /// The open dump, if any.
    pub session: Option<&'a Session>,
    /// How others are opened.
    pub opening: &'a Opening,
    /// Where output goes.
    pub out: &'a mut Out,
    /// Settings; changes last.
    pub settings: &'a mut Settings,
    /// All commands, for help.
    pub commands: &'static [&'static Command],
    /// What to do after the command.
    pub request: Option<Request>,
}

impl<'a> Ctx<'a> {
    /// The open dump's session; an error that says what to do when there is none.
    pub fn session(&self) -> Result<&'a Session> {
        self.session.ok_or_else(|| anyhow!("no dump is open; open one with .opendump FILE"))
    }
}
