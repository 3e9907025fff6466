//! The prompt: line editing, history, completion, Ctrl-C, progress.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::command::{Command, Kind, Prefix};
use super::run::{Ended, Shell};
use crate::watch::Watch;

/// Candidates offered at most.
const MAX_CANDIDATES: usize = 200;

struct Prompt {
    commands: &'static [&'static Command],
    recent: Arc<Mutex<Vec<u64>>>,
    types: Vec<Arc<str>>,
    objects: Vec<u64>,
    files: rustyline::completion::FilenameCompleter,
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
        let before = &line[..pos];
        let start = before.rfind([';']).map_or(0, |i| i + 1);
        let segment = before[start..].trim_start();
        let lead = pos - segment.len();
        let Some(space) = segment.find(' ') else { return Ok((lead, self.names(segment))) };
        let name = segment[..space].trim_start_matches(['!', '.']).to_lowercase();
        let name = name.rsplit_once('.').map_or(name.as_str(), |n| n.1);
        let Some(command) = self.commands.iter().find(|c| c.name == name || c.aliases.contains(&name)) else {
            return Ok((pos, Vec::new()));
        };
        let word_at = before.rfind(' ').map_or(pos, |i| i + 1);
        let word = &before[word_at..];
        if word.starts_with('-') {
            return Ok((word_at, options(command, word)));
        }
        match self.kind_at(command, &segment[space..], word) {
            Some(Kind::Address | Kind::Object) => Ok((word_at, self.addresses(word))),
            Some(Kind::TypeName) => Ok((word_at, self.type_names(word))),
            Some(Kind::CommandName) => Ok((word_at, self.names(word))),
            Some(Kind::OneOf(words)) => Ok((word_at, matching(words.iter().copied(), word))),
            Some(Kind::File | Kind::Rest) => self.files.complete(line, pos, ctx),
            _ => Ok((pos, Vec::new())),
        }
    }
}

fn matching<'w>(words: impl Iterator<Item = &'w str>, prefix: &str) -> Vec<Pair> {
    let lower = prefix.to_lowercase();
    words
        .filter(|w| w.to_lowercase().starts_with(&lower))
        .take(MAX_CANDIDATES)
        .map(|w| Pair { display: w.to_owned(), replacement: w.to_owned() })
        .collect()
}

fn options(command: &Command, word: &str) -> Vec<Pair> {
    let all: Vec<String> = command.args.iter().filter(|a| !a.positional).map(|a| format!("-{}", a.name)).collect();
    matching(all.iter().map(String::as_str), word)
}

impl Prompt {
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

    /// Addresses just printed first, newest first, then live objects.
    fn addresses(&self, word: &str) -> Vec<Pair> {
        let wanted = word.trim_start_matches("0x").trim_start_matches('0').to_lowercase();
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        for a in recent.iter().rev().chain(&self.objects) {
            let text = format!("{a:x}");
            if text.starts_with(&wanted) && !seen.contains(&text) {
                seen.push(text);
            }
            if seen.len() >= 64 {
                break;
            }
        }
        seen.into_iter().map(|t| Pair { display: t.clone(), replacement: t }).collect()
    }

    fn type_names(&self, word: &str) -> Vec<Pair> {
        let bare = word.trim_start_matches('"');
        let quote = |n: &str| if n.contains(' ') { format!("\"{n}\"") } else { n.to_owned() };
        let mut found: Vec<&Arc<str>> = self.types.iter().filter(|t| t.starts_with(bare)).collect();
        if found.is_empty() {
            let lower = bare.to_lowercase();
            found = self.types.iter().filter(|t| t.to_lowercase().contains(&lower)).collect();
        }
        found.into_iter().take(MAX_CANDIDATES).map(|t| Pair { display: t.to_string(), replacement: quote(t) }).collect()
    }
}

/// Where the history lives: `CLRSCOPE_HISTORY`, else the state folder.
fn history_path() -> Option<PathBuf> {
    if let Some(p) = std::env::var_os("CLRSCOPE_HISTORY") {
        return Some(p.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let dir = state.or_else(|| home().map(|h| h.join(".local/state")))?.join("clrscope");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

/// Reads commands until the user leaves. Returns whether the last line ended well.
pub fn run(shell: &mut Shell) -> Ended {
    if !io::stdin().is_terminal() {
        return piped(shell);
    }
    let config = rustyline::Config::builder().auto_add_history(true).completion_type(rustyline::CompletionType::List);
    let mut editor: Editor<Prompt, FileHistory> = match Editor::with_config(config.build()) {
        Ok(e) => e,
        Err(_) => return piped(shell),
    };
    let history = history_path();
    if let Some(h) = &history {
        let _ = editor.load_history(h);
    }
    let ended = prompt(shell, &mut editor);
    if let Some(h) = &history {
        let _ = editor.save_history(h);
    }
    ended
}

fn prompt(shell: &mut Shell, editor: &mut Editor<Prompt, FileHistory>) -> Ended {
    let mut last = Ended::Well;
    loop {
        let completions = shell.session.as_ref().map(|s| s.completions()).unwrap_or_default();
        editor.set_helper(Some(Prompt {
            commands: shell.commands,
            recent: shell.recent.clone(),
            types: completions.0,
            objects: completions.1,
            files: rustyline::completion::FilenameCompleter::new(),
        }));
        let line = match editor.readline(&format!("0:{:03}> ", shell.settings.thread)) {
            Ok(l) => l,
            // Ctrl-C at an idle prompt clears the line.
            Err(ReadlineError::Interrupted) => continue,
            Err(_) => return last,
        };
        let line = if line.trim().is_empty() { shell.last.clone() } else { line };
        shell.last.clone_from(&line);
        last = watched(shell, &line);
        if last == Ended::Quit {
            return last;
        }
    }
}

fn piped(shell: &mut Shell) -> Ended {
    let mut worst = Ended::Well;
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match watched(shell, &line) {
            Ended::Quit => return if worst == Ended::Failed { Ended::Failed } else { Ended::Quit },
            Ended::Failed => worst = Ended::Failed,
            Ended::Well => {}
        }
    }
    worst
}

/// Runs a line with cancellation armed and progress shown.
pub fn watched(shell: &mut Shell, line: &str) -> Ended {
    shell.watch.cancel.clear();
    let shown = show_progress(&shell.watch);
    let ended = shell.line(line);
    shown.stop();
    ended
}

/// A thread that shows progress on stderr after half a second; nothing when stderr is no terminal.
pub struct ProgressLine(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl ProgressLine {
    /// Ends it and clears the line.
    pub fn stop(self) {
        if let Some((stop, thread)) = self.0 {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Starts showing `watch`'s progress.
pub fn show_progress(watch: &Watch) -> ProgressLine {
    if !io::stderr().is_terminal() {
        return ProgressLine(None);
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watch = watch.clone();
    let thread = std::thread::spawn(move || {
        let mut wait = Duration::from_millis(500);
        let bar = indicatif::ProgressBar::with_draw_target(None, indicatif::ProgressDrawTarget::stderr());
        let mut drawn = false;
        while stopped.recv_timeout(wait) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            wait = Duration::from_millis(200);
            let (what, done, total) = watch.progress.now();
            if what.is_empty() {
                continue;
            }
            drawn = true;
            bar.set_style(style(total));
            bar.set_message(what);
            bar.set_length(total.max(1));
            bar.set_position(done);
            bar.tick();
        }
        if drawn {
            bar.finish_and_clear();
        }
    });
    ProgressLine(Some((stop, thread)))
}

fn style(total: u64) -> indicatif::ProgressStyle {
    let template = if total > 0 { "{msg} {percent}% ({bytes_per_sec}, {eta} left)" } else { "{msg} {bytes}" };
    indicatif::ProgressStyle::with_template(template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
}

/// Standard output that pages on a terminal: after a window of lines it waits for a key.
pub struct Pager {
    out: io::Stdout,
    window: usize,
    lines: usize,
    watch: Watch,
}

impl Pager {
    /// A pager for a window of `window` lines; 0 never pages.
    pub fn new(window: usize, watch: Watch) -> Self {
        Self { out: io::stdout(), window, lines: 0, watch }
    }

    fn ask(&mut self) -> io::Result<()> {
        self.out.flush()?;
        eprint!("-- more -- (Enter for the next page, q to stop) ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if answer.trim().eq_ignore_ascii_case("q") {
            self.watch.cancel.set();
            self.window = 0;
        }
        self.lines = 0;
        Ok(())
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.window == 0 {
            return self.out.write(bytes);
        }
        let mut done = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if self.window > 0 && self.lines + 1 >= self.window {
                self.ask()?;
                if self.watch.cancel.is_set() {
                    return Ok(bytes.len());
                }
            }
            self.out.write_all(line)?;
            done += line.len();
            self.lines += usize::from(line.ends_with(b"\n"));
        }
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
