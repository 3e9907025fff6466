//! The clrscope program: arguments, terminal, exit codes.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clrscope::dump::{OpenError, OpenOptions};
use clrscope::program::{completion, manual, options};
use clrscope::session::Provider;
use clrscope::session::saved::IndexMode;
use clrscope::shell::pager::{Pager, Paging};
use clrscope::shell::screen::Window;
use clrscope::shell::state::{Ended, Shell};
use clrscope::shell::terminal::{columns, say, show_progress, tell, tell_error};
use clrscope::shell::{Format, banner, opaque, repl, script, style};
use clrscope::watch::Watch;
use lexopt::prelude::*;

/// Something to run before the prompt.
enum Task {
    Commands(String),
    Script(String),
}

struct Arguments {
    dump: Option<PathBuf>,
    tasks: Vec<Task>,
    stay: bool,
    pager: Paging,
    images: Vec<PathBuf>,
    symbols: String,
    providers_off: Vec<Provider>,
    format: Format,
    cache: Option<PathBuf>,
    index: IndexMode,
    safe: bool,
    strict: bool,
    report: Option<Report>,
    many: Option<Many>,
}

/// What `clrscope export` or `clrscope triage` was told: a command over many dumps, none of which is opened first.
struct Many {
    verb: &'static str,
    folder: Option<String>,
    dumps: Vec<String>,
    options: String,
}

impl Many {
    fn new(verb: &'static str) -> Self {
        Self { verb, folder: None, dumps: Vec::new(), options: String::new() }
    }

    /// The line that does it; an error without what it needs.
    fn line(&self) -> Result<String, lexopt::Error> {
        let dumps: String = self.dumps.iter().map(|d| format!(" {}", quoted(d))).collect();
        match (self.verb, &self.folder) {
            _ if dumps.is_empty() => Err(format!("{} takes dumps", self.verb).into()),
            (EXPORT, Some(to)) => Ok(format!(".exportall {}{dumps}{}", quoted(to), self.options)),
            (EXPORT, None) => Err("export takes the folder to write to: --out FLEET".into()),
            _ => Ok(format!(".triage{dumps}")),
        }
    }
}

const EXPORT: &str = "export";
const TRIAGE: &str = "triage";

/// A word of a line, whatever it holds.
fn quoted(s: &str) -> String {
    format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What `clrscope report` was told.
#[derive(Default)]
struct Report {
    older: Option<String>,
    file: Option<String>,
    values: bool,
}

impl Report {
    /// The line that writes it.
    fn line(&self) -> String {
        let mut line = format!(".report {}", quoted(self.file.as_deref().unwrap_or("report.html")));
        if let Some(older) = &self.older {
            line += &format!(" -diff {}", quoted(older));
        }
        if self.values {
            line += " -with-values";
        }
        line
    }
}

impl Arguments {
    fn new() -> Self {
        Self {
            dump: None,
            tasks: Vec::new(),
            stay: false,
            pager: Paging::Own,
            images: Vec::new(),
            // What the debuggers of Windows have it from.
            symbols: std::env::var("_NT_SYMBOL_PATH").unwrap_or_default(),
            providers_off: Vec::new(),
            format: Format::Text,
            cache: None,
            index: IndexMode::default(),
            safe: false,
            strict: false,
            report: None,
            many: None,
        }
    }

    /// The verb that was given first.
    fn verb(&self) -> Option<&'static options::Verb> {
        let name = self.report.as_ref().map(|_| "report").or(self.many.as_ref().map(|m| m.verb));
        options::verb(name?)
    }

    /// Takes the option called `long`; `Some` is what to print instead of going on.
    fn option(&mut self, long: &str, value: Option<OsString>) -> Result<Option<String>, lexopt::Error> {
        let path = || PathBuf::from(value.clone().unwrap_or_default());
        let text = || value.clone().unwrap_or_default().string();
        match (long, &mut self.report) {
            ("command", _) => self.tasks.push(Task::Commands(text()?)),
            ("script", _) => self.tasks.push(Task::Script(text()?)),
            ("images", _) => self.images.push(path()),
            ("sympath", _) => self.symbols = text()?,
            ("provider", _) => {
                self.providers_off.extend(Provider::switched_off(&text()?).map_err(lexopt::Error::from)?);
            }
            ("stay", _) => self.stay = true,
            ("no-pager", _) => self.pager = Paging::Off,
            ("pager", _) => match std::env::var("PAGER") {
                Ok(program) if !program.trim().is_empty() => self.pager = Paging::Program(program),
                _ => return Err("--pager takes the program from PAGER, which is not set".into()),
            },
            ("json", _) => self.format = Format::Json,
            ("csv", _) => self.format = Format::Csv,
            ("no-color", _) => style::disable(),
            ("cache", _) => self.cache = Some(path()),
            ("safe", _) => self.safe = true,
            ("strict", _) => self.strict = true,
            ("index", _) => self.index = IndexMode::parse(&text()?),
            ("generate", _) => return generated(&text()?).map(Some),
            ("version", _) => return Ok(Some(concat!("clrscope ", env!("CARGO_PKG_VERSION")).to_owned())),
            ("help", _) => return Ok(Some(options::help())),
            ("out", Some(report)) => report.file = Some(text()?),
            ("with-values", Some(report)) => report.values = true,
            _ => match (long, &mut self.many) {
                ("out", Some(many)) => many.folder = Some(text()?),
                ("format" | "tables" | "id", Some(many)) => many.options += &format!(" -{long} {}", quoted(&text()?)),
                _ => return Err(format!("--{long} is not taken here").into()),
            },
        }
        Ok(None)
    }

    /// Takes what is no option: a verb first, then the dump.
    fn word(&mut self, word: OsString) -> Result<(), lexopt::Error> {
        if let Some(many) = &mut self.many {
            many.dumps.push(word.string()?);
            return Ok(());
        }
        match (&self.dump, &mut self.report) {
            (None, None) if word == EXPORT => self.many = Some(Many::new(EXPORT)),
            (None, None) if word == TRIAGE => self.many = Some(Many::new(TRIAGE)),
            (None, None) if word == "report" => self.report = Some(Report::default()),
            (None, _) => self.dump = Some(word.into()),
            (Some(_), Some(report)) if report.older.is_none() => report.older = Some(word.string()?),
            _ => return Err(lexopt::Arg::Value(word).unexpected()),
        }
        Ok(())
    }
}

/// What `--generate` makes.
fn generated(what: &str) -> Result<String, lexopt::Error> {
    let made = match what {
        "man" => Some(manual::page()),
        shell => completion::script(shell),
    };
    made.ok_or_else(|| format!("--generate makes one of these: {}", options::GENERATED.join(", ")).into())
}

/// The arguments, or `None` where all was said.
fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut a = Arguments::new();
    // The debugger's spelling has one dash, which would be that of short options.
    let given = std::env::args_os().map(|a| if a == "-index" { "--index".into() } else { a });
    let mut parser = lexopt::Parser::from_iter(given);
    while let Some(arg) = parser.next()? {
        let verb = a.verb();
        let option = match arg {
            Value(word) => {
                a.word(word)?;
                continue;
            }
            Short(c) => options::find(verb, |o| o.short == Some(c)),
            Long(name) => options::find(verb, |o| o.long == name),
        };
        let Some(option) = option else { return Err(arg.unexpected()) };
        let value = option.value.map(|_| parser.value()).transpose()?;
        if let Some(said) = a.option(option.long, value)? {
            say(&said);
            return Ok(None);
        }
    }
    let report = a.report.as_ref().map(Report::line);
    a.tasks.extend(report.map(Task::Commands));
    let many = a.many.as_ref().map(Many::line).transpose()?;
    a.tasks.extend(many.map(Task::Commands));
    Ok(Some(a))
}

fn main() -> ExitCode {
    // The hook's message and the backtrace help nobody at the prompt: the shell says which command failed.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    match arguments() {
        Ok(Some(a)) => run(a),
        Ok(None) => ExitCode::SUCCESS,
        Err(e) => {
            tell_error(&format!("{e}; see clrscope --help"));
            ExitCode::from(2)
        }
    }
}

fn run(a: Arguments) -> ExitCode {
    let watch = Watch::default();
    let interactive = (a.tasks.is_empty() || a.stay) && io::stdin().is_terminal() && io::stdout().is_terminal();
    stop_on_ctrl_c(&watch, interactive);
    let mut open = OpenOptions::default();
    if a.cache.is_some() {
        open.cache_dir = a.cache.clone();
    }
    let mut shell = Shell {
        commands: clrscope::commands::ALL,
        settings: Default::default(),
        session: None,
        format: a.format,
        watch: watch.clone(),
        open,
        recent: Arc::new(Mutex::new(Vec::new())),
        sink: sink(interactive, &a.pager, &watch),
        depth: 0,
        last: String::new(),
        state: Default::default(),
    };
    for folder in a.images.iter().filter(|f| !f.exists()) {
        tell(&format!("note: -i {}: there is no such folder", folder.display()));
    }
    shell.settings.window = io::stdout().is_terminal().then_some(Window { columns });
    shell.settings.image_paths = a.images;
    shell.settings.symbol_path = a.symbols;
    shell.settings.index = if a.safe { IndexMode::None } else { a.index };
    shell.settings.safe = a.safe;
    shell.settings.strict = a.strict;
    shell.settings.providers_off = a.providers_off;
    if let Some(path) = &a.dump {
        let shown = show_progress(&watch);
        let opened = shell.open(path);
        shown.stop();
        if let Err(e) = opened {
            let text = match e {
                OpenError::Interrupted => "interrupted while opening".to_owned(),
                other => other.to_string(),
            };
            tell_error(&text);
            return ExitCode::from(2);
        }
    } else if !a.tasks.is_empty() && a.many.is_none() {
        tell_error("no dump given; see clrscope --help");
        return ExitCode::from(2);
    }
    let quiet = !a.tasks.is_empty() || a.format != Format::Text;
    if let Some(session) = shell.session.as_ref().filter(|_| !quiet) {
        // The runtime is looked for here.
        let shown = show_progress(&watch);
        let lines = banner::lines(session, shell.settings.thread);
        shown.stop();
        lines.iter().for_each(|line| say(line));
    }
    let ended = tasks(&mut shell, &a.tasks, a.stay);
    shell.watch.cancel.clear();
    let shown = show_progress(&shell.watch);
    shell.save_index();
    shown.stop();
    exit(ended)
}

fn tasks(shell: &mut Shell, tasks: &[Task], stay: bool) -> Ended {
    let mut worst = Ended::Well;
    for task in tasks {
        shell.rearm();
        let shown = show_progress(&shell.watch);
        let ended = match task {
            Task::Commands(text) => {
                shell.log(&format!("0:{:03}> {text}", shell.settings.thread));
                shell.line(&opaque::typed(text))
            }
            Task::Script(path) => script::run_file(shell, path, &[]),
        };
        shown.stop();
        match ended {
            Ended::Quit => return if worst == Ended::Failed { worst } else { ended },
            Ended::Failed | Ended::Cut => worst = Ended::Failed,
            Ended::Halt if !stay && shell.settings.strict => return ended,
            Ended::Halt => worst = Ended::Failed,
            Ended::Well | Ended::Left(_) => {}
        }
        if shell.watch.cancel.is_set() && !stay {
            return Ended::Failed;
        }
    }
    if tasks.is_empty() || stay { repl::run(shell) } else { worst }
}

fn exit(ended: Ended) -> ExitCode {
    let _ = io::stdout().flush();
    match ended {
        Ended::Failed | Ended::Cut | Ended::Halt => ExitCode::from(1),
        Ended::Well | Ended::Quit | Ended::Left(_) => ExitCode::SUCCESS,
    }
}

/// Ctrl-C stops what runs. A batch run that is asked again ends at once.
fn stop_on_ctrl_c(watch: &Watch, interactive: bool) {
    let cancel = watch.cancel.clone();
    let _ = ctrlc::set_handler(move || {
        if cancel.is_set() && !interactive {
            std::process::exit(130);
        }
        cancel.set();
    });
}

fn sink(interactive: bool, paging: &Paging, watch: &Watch) -> Box<dyn Fn() -> Box<dyn Write + Send>> {
    let (paging, watch) = (paging.clone(), watch.clone());
    Box::new(move || {
        if interactive {
            Box::new(io::BufWriter::new(Pager::new(paging.clone(), watch.clone())))
        } else {
            Box::new(io::BufWriter::with_capacity(1 << 16, io::stdout()))
        }
    })
}
