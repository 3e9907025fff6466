//! What the pages of `docs/` show below a command is what the program prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

fn run(dump: &str, command: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg(dump)
        .args(["-c", command])
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().count() > 1, "{command} has no answer: {text}");
    text
}

/// The page with the answers of today: each block that begins with `> COMMAND` is that command and its output, on the dump
/// of the last line `clrscope FILE`. Also the number of commands.
fn page(text: &str) -> (String, usize) {
    let (mut out, mut dump, mut lines, mut count) = (String::new(), "", text.lines(), 0);
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if let Some(file) = line.strip_prefix("clrscope testdata/") {
            dump = &line[line.len() - file.len() - "testdata/".len()..];
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        // The answer stands to the end of the block.
        lines.find(|l| *l == "```");
        let answer = run(dump, command);
        let answer: Vec<&str> = answer.lines().skip_while(|l| l.is_empty()).collect();
        out.push_str(answer.join("\n").trim_end());
        out.push_str("\n```\n");
        count += 1;
    }
    (out, count)
}

fn is_true(name: &str, least: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (today, count) = page(&text);
    assert!(count >= least, "{name} has {count} commands");
    if std::env::var_os("CLRSCOPE_BLESS").is_some() {
        fs::write(&path, &today).unwrap();
        return;
    }
    let differ = text.lines().zip(today.lines()).enumerate().find(|(_, (a, b))| a != b);
    let at = differ.map(|(i, (a, b))| format!("line {}:\n  page:    {a}\n  program: {b}", i + 1));
    assert!(
        text == today,
        "docs/{name} is stale: CLRSCOPE_BLESS=1 cargo test --test tutorial\n{}",
        at.unwrap_or_default()
    );
}

#[test]
fn the_tutorial_is_true() {
    is_true("tutorial.md", 10);
}

#[test]
fn the_page_on_native_memory_is_true() {
    is_true("native-memory.md", 6);
}

/// Figures in the text around the blocks that the blocks must bear out.
#[test]
fn the_text_says_what_the_output_says() {
    let read = |name| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap();
    let holds = |page: &str, prose: &str, output: &[&str]| {
        let text = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(prose), "{prose}");
        let blocks: String = page.split("```").skip(1).step_by(2).collect();
        output.iter().for_each(|o| assert!(blocks.contains(o), "{prose}: no {o} in the output"));
    };
    let tutorial = read("tutorial.md");
    let four = ["3,334 Zoo.Session", "20 System.Byte[]", "200 handlers", "50 System.Threading.TimerQueueTimer"];
    holds(&tutorial, "3,334 sessions, a list of 20 big arrays, an event with 200 handlers, and 50 timers", &four);
    holds(&tutorial, "about +100% in all four owners", &["+98.6%", "+100.0%", "+99.9%"]);
    let native = read("native-memory.md");
    let gc = ["(7150664) bytes", "(14434304) bytes"];
    holds(&native, "7,150,664 bytes are allocated, 14,434,304 are committed", &gc);
    holds(&native, "64 MB are stacks and 52 MB images", &["64.111 MB", "51.652 MB", "13.766 MB", "12.877 MB"]);
    holds(&native, "Here the GC heap grew by 2 MB", &["+2,248,704"]);
}
