//! Command scripts: `$<file`, `$$<file`, `$><file`, `$$><file`, `$$>a<file args`.

use std::fs;

use super::grammar::words;
use super::run::{Ended, Shell};

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
    if form != "$$>a<" {
        return run_file(shell, rest.trim_matches('"'), &[]);
    }
    match words(rest, 0) {
        Ok(words) => {
            let mut texts = words.into_iter().map(|w| w.text);
            let file = texts.next().unwrap_or_default();
            run_file(shell, &file, &texts.collect::<Vec<_>>())
        }
        Err(e) => {
            shell.complain(&e.to_string());
            Ended::Failed
        }
    }
}

/// Runs the lines of `path` with `${$arg1}`... replaced. The first failing line ends it.
pub fn run_file(shell: &mut Shell, path: &str, args: &[String]) -> Ended {
    let text = match read(path) {
        Ok(t) => t,
        Err(why) => {
            shell.complain(&format!("cannot read the script {path}: {why}"));
            return Ended::Failed;
        }
    };
    if shell.depth >= MAX_DEPTH {
        shell.complain(&format!("{path}: scripts run each other more than {MAX_DEPTH} deep; does it run itself?"));
        return Ended::Failed;
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
    Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned())
}

fn lines(shell: &mut Shell, path: &str, text: &str, args: &[String]) -> Ended {
    for (number, line) in text.lines().enumerate() {
        if shell.watch.cancel.is_set() {
            shell.complain("interrupted");
            return Ended::Failed;
        }
        let line = match substitute(line, args) {
            Ok(l) => l,
            Err(n) => {
                shell.complain(&format!("{path}, line {}: ${{$arg{n}}} was not given", number + 1));
                return Ended::Failed;
            }
        };
        match shell.line(&line) {
            Ended::Well => {}
            Ended::Failed => {
                eprintln!("  in {path}, line {}", number + 1);
                return Ended::Failed;
            }
            Ended::Quit => return Ended::Quit,
        }
    }
    Ended::Well
}

/// Replaces `${$argN}`; the number of one that was not given is the error.
fn substitute(line: &str, args: &[String]) -> Result<String, usize> {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("${$arg") {
        let after = &rest[at + 6..];
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        match (digits.parse::<usize>(), after[digits.len()..].strip_prefix('}')) {
            (Ok(n), Some(tail)) if n > 0 => {
                out.push_str(&rest[..at]);
                out.push_str(args.get(n - 1).ok_or(n)?);
                rest = tail;
            }
            _ => {
                out.push_str(&rest[..at + 6]);
                rest = after;
            }
        }
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
        let args = ["a b".to_owned(), "c".to_owned()];
        assert_eq!(substitute("!x ${$arg1} ${$arg2}${$argx}", &args).unwrap(), "!x a b c${$argx}");
        assert_eq!(substitute("${$arg3}", &args), Err(3));
    }
}
