//! The clrscope program: arguments, terminal, exit codes.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clrscope::dump::{OpenError, OpenOptions};
use clrscope::session::Provider;
use clrscope::session::saved::IndexMode;
use clrscope::shell::pager::{Pager, Paging};
use clrscope::shell::screen::Window;
use clrscope::shell::state::{Ended, Shell};
use clrscope::shell::terminal::{columns, say, show_progress, tell, tell_error};
use clrscope::shell::{Format, banner, opaque, repl, script, style};
use clrscope::watch::Watch;
use lexopt::prelude::*;

const HELP: &str = "\
clrscope: a WinDbg/SOS-like shell for .NET memory dumps

usage: clrscope DUMP [options]

       clrscope report DUMP [OLDER] [-o FILE.html|FILE.json] [--with-values]   a page to hand on: see .report

  -c COMMANDS     run commands (separated by ;) and leave; may be repeated
  -s FILE         run a command script and leave; may be repeated, in order with -c
  --stay          keep the prompt after -c and -s
  -i FOLDER       look for assemblies and runtimes the dump lacks here; may be repeated
  -y PATH         symbol path whose local folders are searched too (SRV*folder*...)
  --json, --csv   results as JSON (one object a command) or CSV
  --provider LIST ask only these sources of layouts, or all but these (-tables,-descriptor): descriptor, gcdacvars,
                  dactable, tables, structure; !runtimes -v shows who answered
  --no-color      no colours (also with NO_COLOR set)
  --no-pager      do not stop after a screenful
  --pager         show what is longer than the window with the program that PAGER names
  --cache FOLDER  where compressed dumps are unpacked to and indexes are kept
  --index FILE    keep the index of the dump in this file; none: keep none
  --strict        the first command that fails ends the script or line it stands in, and the program
  --safe          nothing outside the dump is read, written or run: no .shell, -o, .logopen, .export, .opendump, scripts
                  run by scripts, .foreach /f and the like; no index is kept
  -V, --version   print the version
  -h, --help      print this

exit code: 0 done (also for an empty or partial answer), 1 a command failed, 2 the dump cannot be opened";

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
        let quoted = |s: &str| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
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

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut a = Arguments {
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
    };
    // The debugger's spelling has one dash, which would be that of short options.
    let given = std::env::args_os().map(|a| if a == "-index" { "--index".into() } else { a });
    let mut parser = lexopt::Parser::from_iter(given);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('c') | Long("command") => a.tasks.push(Task::Commands(parser.value()?.string()?)),
            Short('s') | Long("script") => a.tasks.push(Task::Script(parser.value()?.string()?)),
            Short('i') | Long("images") => a.images.push(parser.value()?.into()),
            Short('y') | Long("sympath") => a.symbols = parser.value()?.string()?,
            Long("provider") => {
                let off = Provider::switched_off(&parser.value()?.string()?);
                a.providers_off.extend(off.map_err(lexopt::Error::from)?);
            }
            Long("stay") => a.stay = true,
            Long("no-pager") => a.pager = Paging::Off,
            Long("pager") => match std::env::var("PAGER") {
                Ok(program) if !program.trim().is_empty() => a.pager = Paging::Program(program),
                _ => return Err("--pager takes the program from PAGER, which is not set".into()),
            },
            Long("json") => a.format = Format::Json,
            Long("csv") => a.format = Format::Csv,
            Long("no-color") => style::disable(),
            Long("cache") => a.cache = Some(parser.value()?.into()),
            Long("safe") => a.safe = true,
            Long("strict") => a.strict = true,
            Long("index") => a.index = IndexMode::parse(&parser.value()?.string()?),
            Short('V') | Long("version") => {
                say(concat!("clrscope ", env!("CARGO_PKG_VERSION")));
                return Ok(None);
            }
            Short('h') | Long("help") => {
                say(HELP);
                return Ok(None);
            }
            Value(v) if a.dump.is_none() && a.report.is_none() && v == "report" => a.report = Some(Report::default()),
            Value(v) if a.dump.is_none() => a.dump = Some(v.into()),
            Value(v) if a.report.as_ref().is_some_and(|r| r.older.is_none()) => {
                let older = v.string()?;
                a.report.iter_mut().for_each(|r| r.older = Some(older.clone()));
            }
            Short('o') if a.report.is_some() => {
                let file = parser.value()?.string()?;
                a.report.iter_mut().for_each(|r| r.file = Some(file.clone()));
            }
            Long("with-values") if a.report.is_some() => a.report.iter_mut().for_each(|r| r.values = true),
            other => return Err(other.unexpected()),
        }
    }
    let report = a.report.as_ref().map(Report::line);
    a.tasks.extend(report.map(Task::Commands));
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
    } else if !a.tasks.is_empty() {
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
