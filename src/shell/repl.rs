//! The prompt: line editing, history, Ctrl-C.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use super::complete::Prompt;
use super::grammar::braces;
use super::opaque;
use super::state::{Ended, Shell};
use super::terminal::{say, show_progress};

/// Lines of history kept.
const HISTORY: usize = 5000;

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

/// Reads commands until the user leaves; commands piped in report whether all of them ended well.
pub fn run(shell: &mut Shell) -> Ended {
    if !io::stdin().is_terminal() {
        return piped(shell);
    }
    let config = rustyline::Config::builder().auto_add_history(true).completion_type(rustyline::CompletionType::List);
    let editor = config.max_history_size(HISTORY).and_then(|c| Editor::with_config(c.build()));
    let mut editor: Editor<Prompt, FileHistory> = match editor {
        Ok(e) => e,
        Err(_) => return piped(shell),
    };
    let history = history_path();
    if let Some(h) = &history {
        let _ = editor.load_history(h);
    }
    prompt(shell, &mut editor, history.as_deref())
}

fn prompt(shell: &mut Shell, editor: &mut Editor<Prompt, FileHistory>, history: Option<&Path>) -> Ended {
    loop {
        if std::mem::take(&mut shell.state.mid_line) {
            say("");
        }
        let columns = editor.dimensions().map_or(80, |d| usize::from(d.0));
        editor.set_helper(Some(Prompt::new(shell, columns)));
        let line = match editor.readline(&format!("0:{:03}> ", shell.settings.thread)) {
            Ok(l) => l,
            // Ctrl-C at an idle prompt clears the line.
            Err(ReadlineError::Interrupted) => continue,
            // Ctrl-D: the mistakes of a person at the prompt are no failure of the program.
            Err(_) => return Ended::Quit,
        };
        if let Some(h) = history {
            // After each line: what was typed is kept however the program ends.
            let _ = editor.append_history(h);
        }
        let line = if line.trim().is_empty() { shell.last.clone() } else { line };
        shell.last.clone_from(&line);
        // The old dump, if the line opens another, is not kept for completion.
        editor.set_helper(None);
        if watched(shell, &line) == Ended::Quit {
            return Ended::Quit;
        }
    }
}

fn piped(shell: &mut Shell) -> Ended {
    let mut worst = Ended::Well;
    let mut lines = io::stdin().lock().lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        // Editors of Windows mark UTF-8 so.
        let mut line = line.trim_start_matches('\u{feff}').to_owned();
        // A block runs whole or not at all.
        let mut open = braces(&line, 0);
        while open > 0
            && let Some(next) = lines.next()
        {
            open = braces(&next, open);
            line.push('\n');
            line.push_str(&next);
        }
        match watched(shell, &line) {
            Ended::Quit => return if worst == Ended::Failed { Ended::Failed } else { Ended::Quit },
            Ended::Failed | Ended::Cut => worst = Ended::Failed,
            Ended::Halt if shell.settings.strict => return Ended::Failed,
            Ended::Halt => worst = Ended::Failed,
            Ended::Well | Ended::Left(_) => {}
        }
        // Nobody at a prompt: who stops one command stops them all.
        if shell.watch.cancel.is_set() {
            return Ended::Failed;
        }
    }
    worst
}

/// Runs a line with cancellation armed and progress shown.
pub fn watched(shell: &mut Shell, line: &str) -> Ended {
    shell.rearm();
    shell.log(&format!("0:{:03}> {line}", shell.settings.thread));
    let shown = show_progress(&shell.watch);
    let ended = shell.line(&opaque::typed(line));
    shown.stop();
    ended
}
