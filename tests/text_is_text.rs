//! Text that nobody typed is text: whatever it holds, and wherever the language puts it, nothing of it runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/hostile_lines.rs"]
mod hostile_lines;

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clrscope::commands::ALL;
use clrscope::shell::opaque::hide;
use clrscope::shell::{Command as Declared, Group, Needs, Outcome, Prefix, Returns};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use hostile_lines::{AROUND, PIECES, PLACES};

fn clrscope(args: &[&str]) -> Output {
    let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-3.1-wks-heap.core.zst");
    let mut command = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    command.arg(dump).args(["--no-color", "--index", "none", "--cache"]).arg(Path::new(env!("CARGO_TARGET_TMPDIR")));
    command.args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Texts that would do something if they were read as commands.
const HOSTILE: &[&str] = &[
    "x;.shell touch OWNED",
    ".shell touch OWNED",
    "a\";.shell touch OWNED;.echo \"",
    "} .shell touch OWNED {",
    "});.shell touch OWNED;.if(1){",
    "\n.shell touch OWNED\n",
    "' ; .shell touch OWNED ; '",
    "${evil}",
    "$$>a<script.txt",
    "!shell touch OWNED",
    "-o OWNED",
    "*e .shell touch OWNED",
    "e .shell touch OWNED",
    "evil",
    "|find x;.shell touch OWNED",
    "/f OWNED",
    "*/ ;; .shell touch OWNED",
    "$(touch OWNED)",
    "`touch OWNED`",
    ") .shell touch OWNED (",
];

#[test]
fn nothing_of_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let owned = folder.path().join("owned");
    let (text, args, script) = (folder.path().join("text"), folder.path().join("args"), folder.path().join("script"));
    std::fs::write(&args, ".echo ${$arg1}\n${$arg1}\n.block { ${$arg1} }\n.echo \"${$arg1}\"\n").unwrap();
    let name = |p: &Path| p.display().to_string();
    let mut all = String::new();
    for (i, hostile) in HOSTILE.iter().enumerate() {
        // What a name stands for is told apart from what is typed by where it came from alone.
        let at = folder.path().join(format!("hostile{i}"));
        std::fs::write(&at, hostile.replace("OWNED", &name(&owned))).unwrap();
        all.push_str(&format!("as evil .shell touch {}\nas /f s {}\n", name(&owned), name(&at)));
        for place in PLACES {
            let line = place.replace("TEXT", &name(&at)).replace("ARGS", &name(&args));
            let line = line.replace("OWNED", &name(&folder.path().join("mine")));
            for way in ["${s}", " s "] {
                for line in line.replace('§', way).lines() {
                    all.push_str(&format!(".catch {{ {line} }}\n"));
                }
            }
        }
    }
    std::fs::write(&text, "").unwrap();
    std::fs::write(&script, all).unwrap();
    let out = clrscope(&["-s", &name(&script)]);
    assert!(!owned.exists(), "text of a file was run");
    let said = said(&out);
    assert!(said.lines().count() > HOSTILE.len() * PLACES.len(), "{said}");
    // What it travels as is never seen.
    assert!(!said.chars().any(|c| ('\u{F0000}'..='\u{FFFFD}').contains(&c)), "{said}");
}

#[test]
fn texts_are_kept_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("text");
    std::fs::write(&at, "a \"b\"; {c} ${d} \u{F0041}$$e *f").unwrap();
    let script = folder.path().join("script");
    let lines = [
        format!("as /f s {}", at.display()),
        ".echo [${s}]".into(),
        ".printf \"<${s}> %d\\n\", 0n7".into(),
        ".if ($scmp(\"${s}\", \"${s}\") == 0) { .echo same }".into(),
        format!(".foreach /f (w \"{}\") {{ .echo -${{w}}- }}", at.display()),
        "aS n 0n1; .block { .if (${n} == 1) { .echo one } }".into(),
        ".foreach (n {.echo 10 0x20}) { ? ${n}+1; .echo ~n; .shell echo number ${n} }".into(),
        "al".into(),
    ];
    std::fs::write(&script, lines.join("\n")).unwrap();
    let said = said(&clrscope(&["-s", &script.display().to_string()]));
    let shown = "a \"b\"; {c} ${d} \u{F0041}$$e *f";
    for wanted in [
        &format!("[{shown}]"),
        &format!("<{shown}> 7"),
        "same",
        "-\"b\";-",
        "-${d}-",
        "-*f-",
        "one",
        "Evaluate expression: 17 = 00000000`00000011",
        "Evaluate expression: 33 = 00000000`00000021",
        "number 10",
    ] {
        assert!(said.lines().any(|l| l.trim() == wanted), "no line `{wanted}` in\n{said}");
    }
    assert!(said.lines().any(|l| l.starts_with('s') && l.ends_with(shown)), "{said}");
}

#[test]
fn safe_lets_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(folder.path().join("script"), "lm").unwrap();
    let path = file.display().to_string();
    let script = folder.path().join("script").display().to_string();
    let lines = [
        format!(".shell touch {path}"),
        format!("lm -o {path}"),
        format!("!eeheap -o {path}"),
        format!(".logopen {path}"),
        format!(".logappend {path}"),
        format!(".export {path}"),
        format!(".opendump {path}"),
        format!("!diff {path}"),
        format!("$<{script}"),
        format!("$$>a<{script} x"),
        format!(".foreach /f (w \"{script}\") {{ .echo w }}"),
        format!("as /f s {script}"),
        "as /e s PATH".into(),
        format!(".exepath {path}"),
        format!(".sympath+ {path}"),
        ".index -save".into(),
    ];
    for line in &lines {
        let out = clrscope(&["--safe", "-c", line]);
        let said = said(&out);
        assert!(said.contains("switched off by --safe"), "{line}: {said}");
        assert_eq!(out.status.code(), Some(1), "{line}");
        assert!(!file.exists(), "{line}");
    }
    let out = clrscope(&["--safe", "-s", &script, "-c", ".exepath", "-c", "!eeheap -gc"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
}

/// Times that a command of a hostile text ran.
static OWNED: AtomicUsize = AtomicUsize::new(0);

/// What hostile texts try to run.
const PROBE: Declared = Declared {
    name: "owned",
    prefix: Prefix::Bang,
    aliases: &["0wned"],
    group: Group::Session,
    summary: "",
    help: "",
    args: &[],
    examples: &[],
    needs: Needs::Nothing,
    returns: Returns::NOTHING,
    run: |_, _| {
        OWNED.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Complete)
    },
};

/// Runs random lines around random texts and counts what of the texts ran. `hidden` makes opaque pieces of the texts, as
/// the shell does of what it reads.
fn owned_by(hidden: bool, cases: u32) -> usize {
    let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/win-x86-3.1-small.dmp.zst");
    let (mut shell, _) = captured::open(&dump);
    let with_probe: Vec<&'static Declared> = ALL.iter().copied().chain([&PROBE]).collect();
    shell.commands = Vec::leak(with_probe);
    shell.state.errors = Some(Arc::default());
    shell.settings.safe = true;
    let shell = RefCell::new(shell);
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 1..8);
    let around = prop::collection::vec(prop::sample::select(AROUND), 1..4);
    let lines = prop::collection::vec((around, prop::sample::select(PLACES)), 1..4);
    let before = OWNED.load(Ordering::Relaxed);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let done = runner.run(&(pieces, lines), |(pieces, lines)| {
        let text = pieces.concat();
        let text = if hidden { hide(&text) } else { text };
        let mut shell = shell.borrow_mut();
        shell.settings.aliases = vec![("s".into(), text), ("evil".into(), "!owned".into())];
        // `evil` is what the user calls so: it runs where the user types it.
        for (around, place) in lines {
            let inner =
                place.replace('§', "${s}").replace("TEXT", "none").replace("ARGS", "none").replace("OWNED", "none");
            let line = around.iter().fold(inner, |inner, a| a.replace('§', &inner));
            shell.line(&line);
        }
        if hidden {
            prop_assert_eq!(OWNED.load(Ordering::Relaxed), before);
        }
        Ok(())
    });
    if let Err(e) = done {
        panic!("{e}");
    }
    OWNED.load(Ordering::Relaxed) - before
}

#[test]
fn whatever_is_around_it() {
    assert_eq!(owned_by(true, 1500), 0);
    // The same texts, had they been typed, run: the lines are ones in which they could.
    let typed = owned_by(false, 1500);
    assert!(typed > 10, "{typed}");
}
