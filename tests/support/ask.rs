//! Many commands asked of the real program in one run.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What each of `commands` prints on `dump`, asked in one run; errors are among the lines.
pub fn ask(dump: &Path, commands: &[String]) -> Vec<Vec<String>> {
    const MARK: &str = "@@@@@@@@";
    let mut script: String = commands.iter().map(|c| format!(".echo {MARK}\n{c}\n")).collect();
    script.push_str(&format!(".echo {MARK}\n"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(dump)
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lines: Vec<&str> = text.lines().skip_while(|l| *l != MARK).skip(1).collect();
    let mut blocks: Vec<Vec<String>> =
        lines.split(|l| *l == MARK).map(|b| b.iter().map(|l| (*l).to_owned()).collect()).collect();
    let expected = commands.len() + 1;
    assert_eq!(blocks.len(), expected, "{}: one block for each command, and nothing behind", dump.display());
    blocks.truncate(commands.len());
    blocks
}
