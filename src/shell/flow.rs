//! Running blocks: conditions, loops, `.foreach`, and lines whose output is taken instead of shown.

use std::borrow::Cow;
use std::io::{self, Read as _, Write};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use super::alias::expand_within;
use super::control::{Control, Jump, Source};
use super::expr::evaluate;
use super::opaque;
use super::state::{Ended, Shell, Taken};
use crate::session::Session;

/// How often a running program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// Longest file of `.foreach /f`.
const MOST_FILE: u64 = 64 << 20;

/// Runs blocks.
pub fn run(shell: &mut Shell, control: &Control) -> Ended {
    match control {
        Control::If { arms, otherwise } => {
            for (condition, body) in arms {
                match holds(shell, condition) {
                    Ok(true) => return shell.line(body),
                    Ok(false) => {}
                    Err(ended) => return ended,
                }
            }
            shell.line(otherwise)
        }
        Control::Loop { first, condition, step, body, once } => {
            looped(shell, |shell| rounds(shell, first, condition, step, body, *once))
        }
        Control::Foreach { name, source, skip_first, skip_after, body } => {
            let (words, begun) = match words(shell, source) {
                Ok(w) => w,
                Err(ended) => return ended,
            };
            let every = skip_after.saturating_add(1);
            let ended = looped(shell, |shell| {
                let typed = matches!(source, Source::Text(_));
                let chosen = words_of(&words, typed).skip(*skip_first).step_by(every);
                each(shell, chosen, |shell, word| {
                    let names = [(name.clone(), word.into_owned())];
                    match expand_within(body, &names) {
                        Ok(line) => shell.line(&line),
                        Err(why) => shell.mistaken(body, &why),
                    }
                })
            });
            begun.and(ended)
        }
        Control::Block(body) => shell.line(body),
        Control::Catch(body) => {
            shell.state.catches += 1;
            let ended = shell.steps(body);
            shell.state.catches -= 1;
            match ended {
                Ended::Left(Jump::Leave) => Ended::Well,
                ended if ended.is_failure() && !shell.watch.cancel.is_set() && !shell.state.too_deep => Ended::Well,
                other => other,
            }
        }
        Control::Jump(jump) => {
            let (inside, name, place) = match jump {
                Jump::Break => (shell.state.loops > 0, ".break", "loop"),
                Jump::Continue => (shell.state.loops > 0, ".continue", "loop"),
                Jump::Leave => (shell.state.catches > 0, ".leave", ".catch"),
            };
            if inside { Ended::Left(*jump) } else { shell.mistaken(name, &format!("{name} stands in no {place}")) }
        }
    }
}

fn looped(shell: &mut Shell, body: impl FnOnce(&mut Shell) -> Ended) -> Ended {
    shell.state.loops += 1;
    let ended = body(shell);
    shell.state.loops -= 1;
    ended
}

fn holds(shell: &mut Shell, condition: &str) -> Result<bool, Ended> {
    let condition = shell.expand(condition)?;
    let scope = shell.settings.scope(shell.session.as_deref().map(Session::dump));
    match evaluate(&condition, &scope) {
        Ok(v) => Ok(v != 0),
        Err(why) => Err(shell.mistaken(condition.trim(), &format!("in the condition `{}`: {why}", condition.trim()))),
    }
}

fn rounds(shell: &mut Shell, first: &str, condition: &str, step: &str, body: &str, once: bool) -> Ended {
    let mut all = shell.line(first);
    let mut asked = once;
    while matches!(all, Ended::Well | Ended::Failed) {
        if shell.watch.cancel.is_set() {
            return shell.stopped();
        }
        if !asked {
            match holds(shell, condition) {
                Ok(true) => {}
                Ok(false) => return all,
                Err(ended) => return ended,
            }
        }
        asked = false;
        match shell.steps(body) {
            Ended::Left(Jump::Continue) => {}
            Ended::Left(Jump::Break) => return all,
            // What makes the condition fail one day has perhaps not run.
            Ended::Cut => return shell.after(Ended::Failed),
            ended => all = all.and(ended),
        }
        if !matches!(all, Ended::Well | Ended::Failed) {
            break;
        }
        match shell.steps(step) {
            Ended::Cut => return shell.after(Ended::Failed),
            ended => all = all.and(ended),
        }
    }
    all
}

/// Runs `one` for each item. What fails for one item does not keep the others from theirs; a stop or a jump does.
pub fn each<T>(
    shell: &mut Shell,
    items: impl Iterator<Item = T>,
    mut one: impl FnMut(&mut Shell, T) -> Ended,
) -> Ended {
    let mut all = Ended::Well;
    for item in items {
        if shell.watch.cancel.is_set() {
            return shell.stopped();
        }
        match one(shell, item) {
            Ended::Well | Ended::Left(Jump::Continue) => {}
            Ended::Left(Jump::Break) => break,
            Ended::Failed | Ended::Cut if shell.settings.strict => return Ended::Halt,
            Ended::Failed | Ended::Cut => all = Ended::Failed,
            other => return other,
        }
    }
    all
}

fn words(shell: &mut Shell, source: &Source) -> Result<(String, Ended), Ended> {
    match source {
        Source::Commands(line) => taken(shell, line),
        Source::Text(text) => shell.expand(text).map(|t| (t, Ended::Well)),
        Source::File(path) => {
            let read = shell.settings.may(".foreach /f").map_err(|e| format!("{e:#}")).and_then(|()| read(path));
            read.map(|t| (t, Ended::Well)).map_err(|why| shell.failed(path, &why))
        }
    }
}

/// A text as `.foreach` goes through it: what was typed, or one opaque word after the other.
fn words_of(text: &str, typed: bool) -> impl Iterator<Item = Cow<'_, str>> {
    text.split_whitespace().map(move |w| if typed { Cow::Borrowed(w) } else { Cow::Owned(opaque::hide(w)) })
}

/// The text of a file, for `.foreach /f` and `as /f`.
pub fn read(path: &str) -> Result<String, String> {
    let path = &*opaque::show(path);
    let cannot = |e: io::Error| format!("cannot read {path}: {e}");
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(cannot)?.take(MOST_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MOST_FILE {
        return Err(format!("{path} is larger than {MOST_FILE} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a line and returns what it prints, and whether some of it failed.
pub fn taken(shell: &mut Shell, line: &str) -> Result<(String, Ended), Ended> {
    let taken = Taken::default();
    let before = shell.state.taken.replace(taken.clone());
    let ended = shell.line(line);
    shell.state.taken = before;
    match ended {
        // What was printed before a stop is no whole answer: nothing runs on it.
        Ended::Well | Ended::Failed if !shell.watch.cancel.is_set() => {}
        Ended::Well => return Err(shell.stopped()),
        other => return Err(other),
    }
    let bytes = taken.bytes();
    Ok((String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()), ended))
}

/// Runs a program of the operating system. What `line` prints is its input; what it prints goes where output goes.
///
/// Of what is not typed it takes numbers alone: any other text could be a command to the machine's shell.
pub fn program(shell: &mut Shell, program: &str, line: Option<&str>) -> Ended {
    let Some(program) = &of_numbers(program) else {
        let why = "text from the dump, a file or a command is not handed to the shell of this machine, but for numbers; \
                   -ci gives it to a program as input";
        return shell.failed(program, why);
    };
    let (input, begun) = match line.map(|l| taken(shell, l)).transpose() {
        Ok(taken) => taken.unzip(),
        Err(ended) => return ended,
    };
    let cancel = shell.watch.cancel.clone();
    let run = spawn(program, input).and_then(|mut child| {
        let mut out = shell.make_sink(None).map_err(io::Error::other)?;
        let from = child.stdout.take();
        std::thread::scope(|s| {
            let copier = s.spawn(move || match from {
                Some(mut from) => io::copy(&mut from, &mut out).and_then(|_| out.flush()),
                None => Ok(()),
            });
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if cancel.is_set() {
                    child.kill()?;
                }
                std::thread::sleep(POLL);
            };
            copier.join().map_err(|_| io::Error::other("its output was lost"))?.map(|()| status)
        })
    });
    if shell.watch.cancel.is_set() {
        return shell.stopped();
    }
    match run {
        Ok(status) if status.success() => begun.unwrap_or(Ended::Well),
        Ok(status) => {
            shell.complain(&format!("{program}: {status}"));
            Ended::Failed
        }
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ended::Quit,
        Err(e) => {
            shell.complain(&format!("cannot run {program}: {e}"));
            Ended::Failed
        }
    }
}

/// What is run, if each opaque word in it is a number.
fn of_numbers(program: &str) -> Option<Cow<'_, str>> {
    let is_number =
        |w: &str| w.starts_with(|c: char| c.is_ascii_digit()) && w.chars().all(|c| c.is_ascii_alphanumeric());
    let opaque_in = |w: &&str| opaque::is_in(w);
    let words = program.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()).filter(opaque_in);
    words.map(opaque::show).all(|w| is_number(&w)).then(|| opaque::show(program))
}

fn spawn(program: &str, input: Option<String>) -> io::Result<std::process::Child> {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Process::new(shell).arg(option).arg(program).stdin(stdin).stdout(Stdio::piped()).spawn()?;
    if let (Some(text), Some(mut to)) = (input, child.stdin.take()) {
        // From a thread of its own: the program may print before it has read all. One that reads no further is no error.
        std::thread::spawn(move || {
            let _ = to.write_all(text.as_bytes());
        });
    }
    Ok(child)
}
