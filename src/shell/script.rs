//! Command scripts: `$<file`, `$$<file`, `$><file`, `$$><file`, `$$>a<file args`.

use std::fs;

use super::alias::expand;
use super::grammar::{braces, words};
use super::opaque;
use super::state::{Ended, Shell};
use super::terminal::tell;

/// Scripts that run scripts, at most this deep: one that runs itself is stopped here.
const MAX_DEPTH: u32 = 16;
/// Longest script file.
const MAX_BYTES: u64 = 16 << 20;

/// Whether the name is one of the script forms.
pub fn is_script(name: &str) -> bool {
    matches!(name, "$<" | "$$<" | "$><" | "$$><" | "$$>a<")
}

/// Runs the script of a `$...<` form; `rest` is what follows the form.
pub fn run(shell: &mut Shell, form: &str, rest: &str) -> Ended {
    let file = words(rest, 0).ok().and_then(|w| w.into_iter().next()).map(|w| w.text).unwrap_or_default();
    if opaque::is_in(if form == "$$>a<" { &file } else { rest }) {
        return shell.failed(rest, "text from the dump, a file or a command names no script to run");
    }
    if let Err(e) = shell.settings.may(form) {
        return shell.failed(form, &format!("{e:#}"));
    }
    if form != "$$>a<" {
        return run_file(shell, rest.trim_matches('"'), &[]);
    }
    match words(rest, 0) {
        Ok(words) => {
            let mut texts = words.into_iter().map(|w| w.text);
            let file = texts.next().unwrap_or_default();
            run_file(shell, &file, &texts.collect::<Vec<_>>())
        }
        Err(e) => shell.failed(rest, &e.to_string()),
    }
}

/// Runs the lines of `path` with `${$arg1}`... replaced. A line that fails says so, and the next one runs.
pub fn run_file(shell: &mut Shell, path: &str, args: &[String]) -> Ended {
    let text = match read(path) {
        Ok(t) => t,
        Err(why) => {
            return shell.failed(path, &format!("cannot read the script {path}: {why}"));
        }
    };
    if shell.depth >= MAX_DEPTH {
        let why = format!("{path}: scripts run each other more than {MAX_DEPTH} deep; does it run itself?");
        shell.failed(path, &why);
        // As for lines: one that runs itself twice would run for ages.
        shell.state.too_deep = true;
        return Ended::Halt;
    }
    shell.depth += 1;
    let ended = lines(shell, path, &text, args);
    shell.depth -= 1;
    ended
}

fn read(path: &str) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("{size} bytes are too many for a script"));
    }
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    Ok(opaque::typed(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}')).into_owned())
}

fn lines(shell: &mut Shell, path: &str, text: &str, args: &[String]) -> Ended {
    let names: Vec<(String, String)> =
        args.iter().enumerate().map(|(i, a)| (format!("$arg{}", i + 1), a.clone())).collect();
    let mut all = Ended::Well;
    for (number, statement) in statements(text) {
        if shell.watch.cancel.is_set() {
            return shell.stopped();
        }
        let ended = match substitute(&statement, &names) {
            Ok(line) => shell.line(&line),
            Err(why) => shell.failed(&statement, &why),
        };
        if ended.is_failure() {
            tell(&format!("  in {path}, line {number}"));
        }
        all = all.and(ended);
        if !matches!(all, Ended::Well | Ended::Failed) {
            break;
        }
    }
    all
}

/// The statements of a script with the number of the line each begins in: a line, with those behind it as long as a brace
/// is open or the next goes on with a block.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = 0;
    // A block begins behind the head that stands on the line before.
    let goes_on = |line: &str| line.starts_with('{') || line.starts_with(".else") || line.starts_with(".elsif");
    for (i, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match out.last_mut() {
            Some((_, statement)) if open > 0 || goes_on(bare) => {
                statement.push('\n');
                statement.push_str(line);
                open = braces(line, open);
            }
            // An empty line between `}` and `.else` belongs to neither.
            _ if bare.is_empty() => {}
            _ => {
                out.push((i + 1, line.to_owned()));
                open = braces(line, 0);
            }
        }
    }
    out
}

/// Replaces `${$argN}` and asks of them (`${/d:$argN}`); one that was not given stays as it is written.
fn substitute(line: &str, names: &[(String, String)]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let inner = after[2..].split('}').next().unwrap_or("");
        let whole = after.len() >= inner.len() + 3;
        let name = inner.rsplit(':').next().unwrap_or("");
        let numbered = name.strip_prefix("$arg").is_some_and(|n| n.parse::<usize>().is_ok_and(|n| n > 0));
        if !whole || !numbered {
            out.push_str("${");
            rest = &after[2..];
            continue;
        }
        let text = &after[..inner.len() + 3];
        out.push_str(&expand(text, names)?);
        rest = &after[text.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_replaced() {
        let args = [("$arg1".to_owned(), "a b".to_owned()), ("$arg2".to_owned(), "c".to_owned())];
        assert_eq!(substitute("!x ${$arg1} ${$arg2}${$argx}", &args).unwrap(), "!x a b c${$argx}");
        assert_eq!(substitute("${$arg3} ${/n:$arg1} ${/n:$arg3}", &args).unwrap(), "${$arg3} $arg1 ${/n:$arg3}");
        assert_eq!(substitute("${/d:$arg1}${/d:$arg3}[${/f:$arg3}]${x", &args).unwrap(), "10[]${x");
    }

    #[test]
    fn blocks_span_lines() {
        let text = "lm\n\n.if (1)\n{\n  r\n\n  ~\n}\n.else\n{ q }\n* end\n.foreach (v {a}) {\n x }\nlm";
        let found = statements(text);
        assert_eq!(found.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 3, 11, 12, 14]);
        assert_eq!(found[1].1, ".if (1)\n{\n  r\n\n  ~\n}\n.else\n{ q }");
    }
}
