//! The clrscope program: arguments, terminal, exit codes.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clrscope::dump::{OpenError, OpenOptions};
use clrscope::program::{completion, manual, options};
use clrscope::session::Provider;
use clrscope::session::saved::IndexMode;
use clrscope::shell::command::Settings;
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
    redact: bool,
    verb: Option<Verb>,
}

/// What stands in front, in place of a dump.
enum Verb {
    Report(Report),
    Process(Process),
    Mcp(Mcp),
    Many(Many),
}

impl Verb {
    fn named(word: &OsStr) -> Option<Self> {
        match word.to_str()? {
            "report" => Some(Verb::Report(Report::default())),
            "ps" => Some(Verb::Process(Process { verb: "ps", line: String::new(), opens: false })),
            "collect" => Some(Verb::Process(Process { verb: "collect", line: String::new(), opens: false })),
            "mcp" => Some(Verb::Mcp(Mcp::default())),
            EXPORT => Some(Verb::Many(Many::new(EXPORT))),
            TRIAGE => Some(Verb::Many(Many::new(TRIAGE))),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Verb::Report(_) => "report",
            Verb::Process(p) => p.verb,
            Verb::Mcp(_) => "mcp",
            Verb::Many(m) => m.verb,
        }
    }

    /// The line that does it, where it is one of the shell.
    fn line(&self) -> Result<Option<String>, lexopt::Error> {
        Ok(match self {
            Verb::Report(report) => Some(report.line()?),
            Verb::Process(p) => Some(format!(".{}{}{}", p.verb, p.line, if p.opens { " -open" } else { "" })),
            Verb::Mcp(_) => None,
            Verb::Many(many) => Some(many.line()?),
        })
    }
}

/// What `clrscope ps` and `clrscope collect` were told: arguments of the command of that name.
struct Process {
    verb: &'static str,
    line: String,
    /// It opens the dump: where nothing else is to be done with it, the prompt follows.
    opens: bool,
}

impl Process {
    fn option(&mut self, name: char, value: &str) {
        self.line += &format!(" -{name} {}", quoted(value));
    }
}

/// What `clrscope mcp` was told.
#[derive(Default)]
#[cfg_attr(not(feature = "mcp"), allow(dead_code))]
struct Mcp {
    dumps: Vec<PathBuf>,
    allow: Vec<PathBuf>,
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
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What `clrscope report` was told.
#[derive(Default)]
struct Report {
    older: Vec<String>,
    file: Option<String>,
    values: bool,
    /// The model alone.
    data: bool,
}

impl Report {
    /// The file it is written to.
    fn file(&self) -> Result<&str, lexopt::Error> {
        match &self.file {
            None if self.data => Ok("report.json"),
            None => Ok("report.html"),
            Some(f) if self.data && !f.to_lowercase().ends_with(".json") => {
                Err(format!("--json writes the model into FILE.json, not `{f}`").into())
            }
            Some(f) => Ok(f),
        }
    }

    /// The line that writes it.
    fn line(&self) -> Result<String, lexopt::Error> {
        let mut line = format!(".report {}", quoted(self.file()?));
        for older in &self.older {
            line += &format!(" -diff {}", quoted(older));
        }
        if self.values {
            line += " -with-values";
        }
        Ok(line)
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
            redact: false,
            verb: None,
        }
    }

    /// Settings of the shell.
    fn settings(&self) -> Settings {
        Settings {
            image_paths: self.images.clone(),
            symbol_path: self.symbols.clone(),
            index: if self.safe { IndexMode::None } else { self.index.clone() },
            safe: self.safe,
            strict: self.strict,
            redact: self.redact,
            providers_off: self.providers_off.clone(),
            ..Settings::default()
        }
    }

    /// How dumps are opened.
    fn open(&self) -> OpenOptions {
        OpenOptions { cache_dir: self.cache.clone(), ..OpenOptions::default() }
    }

    /// Takes the option called `long`; `Some` is what to print instead of going on.
    fn option(&mut self, long: &str, value: Option<OsString>) -> Result<Option<String>, lexopt::Error> {
        let path = || PathBuf::from(value.clone().unwrap_or_default());
        let text = || value.clone().unwrap_or_default().string();
        match (long, &mut self.verb) {
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
            ("json", Some(Verb::Report(report))) => report.data = true,
            ("json", _) => self.format = Format::Json,
            ("csv", _) => self.format = Format::Csv,
            ("no-color", _) => style::disable(),
            ("cache", _) => self.cache = Some(path()),
            ("safe", _) => self.safe = true,
            ("strict", _) => self.strict = true,
            ("redact", _) => self.redact = true,
            ("index", _) => self.index = IndexMode::parse(&text()?),
            ("generate", _) => return generated(&text()?).map(Some),
            ("version", _) => return Ok(Some(concat!("clrscope ", env!("CARGO_PKG_VERSION")).to_owned())),
            ("help", _) => return Ok(Some(options::help())),
            ("out", Some(Verb::Report(report))) => report.file = Some(text()?),
            ("with-values", Some(Verb::Report(report))) => report.values = true,
            ("pid", Some(Verb::Process(process))) => process.option('p', &text()?),
            ("type", Some(Verb::Process(process))) => process.option('t', &text()?),
            ("out", Some(Verb::Process(process))) => process.option('o', &text()?),
            ("open", Some(Verb::Process(process))) => process.opens = true,
            ("allow", Some(Verb::Mcp(mcp))) => mcp.allow.push(path()),
            ("out", Some(Verb::Many(many))) => many.folder = Some(text()?),
            ("format" | "tables" | "id", Some(Verb::Many(many))) => {
                many.options += &format!(" -{long} {}", quoted(&text()?));
            }
            _ => return Err(format!("--{long} is not taken here").into()),
        }
        Ok(None)
    }

    /// Takes what is no option: a verb first, then the dump.
    fn word(&mut self, word: OsString) -> Result<(), lexopt::Error> {
        match (&self.dump, &mut self.verb) {
            (None, None) if Verb::named(&word).is_some() => self.verb = Verb::named(&word),
            (_, Some(Verb::Mcp(mcp))) => mcp.dumps.push(word.into()),
            (_, Some(Verb::Many(many))) => many.dumps.push(word.string()?),
            (None, None | Some(Verb::Report(_))) => self.dump = Some(word.into()),
            (Some(_), Some(Verb::Report(report))) => report.older.push(word.string()?),
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
        let verb = a.verb.as_ref().and_then(|v| options::verb(v.name()));
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
    let line = a.verb.as_ref().map(Verb::line).transpose()?.flatten().map(Task::Commands);
    match &a.verb {
        // What is to be done with the dump comes once there is one.
        Some(Verb::Process(process)) => {
            a.stay |= process.opens && a.tasks.is_empty();
            a.tasks.splice(0..0, line);
        }
        _ => a.tasks.extend(line),
    }
    Ok(Some(a))
}

fn main() -> ExitCode {
    // The hook's message and the backtrace help nobody at the prompt: the shell says which command failed.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    match arguments() {
        Ok(Some(a)) if matches!(a.verb, Some(Verb::Mcp(_))) => serve(a),
        Ok(Some(a)) => run(a),
        Ok(None) => ExitCode::SUCCESS,
        Err(e) => {
            tell_error(&format!("{e}; see clrscope --help"));
            ExitCode::from(2)
        }
    }
}

/// Answers programs until they close their end.
#[cfg(feature = "mcp")]
fn serve(mut a: Arguments) -> ExitCode {
    // Nothing that a program asks for may reach outside the dumps.
    a.safe = true;
    let Some(Verb::Mcp(Mcp { dumps, allow })) = a.verb.take() else { return ExitCode::from(2) };
    let options = clrscope::serve::Options { dumps, allow, open: a.open(), settings: a.settings() };
    match clrscope::serve::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tell_error(&format!("{e:#}"));
            ExitCode::from(2)
        }
    }
}

#[cfg(not(feature = "mcp"))]
fn serve(_: Arguments) -> ExitCode {
    tell_error("this clrscope was built without the server: cargo build --release --features mcp");
    ExitCode::from(2)
}

fn run(a: Arguments) -> ExitCode {
    let watch = Watch::default();
    let interactive = (a.tasks.is_empty() || a.stay) && io::stdin().is_terminal() && io::stdout().is_terminal();
    stop_on_ctrl_c(&watch, interactive);
    let mut shell = Shell {
        commands: clrscope::commands::ALL,
        settings: a.settings(),
        session: None,
        format: a.format,
        watch: watch.clone(),
        open: a.open(),
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
    } else if !a.tasks.is_empty() && !matches!(a.verb, Some(Verb::Process(_) | Verb::Many(_))) {
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
    // Where no dump was taken there is nothing to stay for.
    let stays = tasks.is_empty() || stay && (shell.session.is_some() || worst == Ended::Well);
    if stays { repl::run(shell) } else { worst }
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
