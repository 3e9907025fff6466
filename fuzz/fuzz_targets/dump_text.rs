//! Texts of a dump in every construct of the script language: nothing of a text runs.
//!
//! The bytes choose lines, what stands around them and what the text is made of. The text lies in the memory of a dump, and
//! the lines take it from there, from an alias and from what a command prints. All commands but those of the language are
//! replaced by one that counts how often it ran.
#![no_main]

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clrscope::commands::ALL;
use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;
use clrscope::dump::{Arch, Dump, DumpKind, Os, Thread};
use clrscope::session::Session;
use clrscope::shell::opaque::hide;
use clrscope::shell::state::Shell;
use clrscope::shell::{Arg, Command, Format, Needs, Outcome, Returns};
use clrscope::watch::Watch;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/hostile_lines.rs"]
mod hostile_lines;
use hostile_lines::{AROUND, PIECES, PLACES};

/// What lines are made of; none of it reaches outside.
const LANGUAGE: &[&str] = &[
    "echo", "block", "catch", "if", "foreach", "for", "while", "do", "break", "continue", "leave", "j", "as", "ad", "al",
    "r", "~", "printf", "?",
];
/// Further lines, which take the text from memory.
const FROM_MEMORY: &[&str] = &[
    "as /ma m 10000\n.echo ${m}; m\n${m}\n.block { m ; ${m} }",
    "as /mu m 20000\n.echo ${m}; m\n${m}\n.block { m ; ${m} }",
    ".foreach (w {.printf \"%ma\", 10000}) { .echo w; w; ${w}; .block { w } }",
    ".foreach (w {.printf \"%mu\", 20000}) { w }",
    "as /c m .printf \"%ma\", 10000\n${m}\n.block { ${m} ; m }",
    ".printf \"%ma\\n\", 10000; .printf \"%mu\\n\", 20000",
];
/// Texts that no line could take for more than they are. The longest is an address at which the text itself can be read as one
/// more: a line that takes it for that runs what was typed around it.
const BENIGN: &[&str] = &["nothing", "0", "1", "10000", "0000000000010000", "", "a b"];
const ADDRESSES: [u64; 2] = [0x1_0000, 0x2_0000];

/// Times that another command ran.
static RAN: AtomicUsize = AtomicUsize::new(0);

fn counting(command: &Command) -> &'static Command {
    // What `--safe` refuses counts as well.
    let args = command.args.iter().map(|a| Arg { outside: false, ..*a }).collect();
    Box::leak(Box::new(Command {
        name: command.name,
        prefix: command.prefix,
        aliases: command.aliases,
        group: command.group,
        summary: command.summary,
        help: command.help,
        args: Vec::leak(args),
        examples: command.examples,
        needs: Needs::Nothing,
        returns: Returns::NOTHING,
        run: |_, _| {
            RAN.fetch_add(1, Ordering::Relaxed);
            Ok(Outcome::Complete)
        },
    }))
}

struct Harness {
    shell: Shell,
    lines: Vec<String>,
    around: Vec<&'static str>,
}

impl Harness {
    fn new() -> Self {
        let mut commands: Vec<&'static Command> = ALL
            .iter()
            .map(|c| if LANGUAGE.contains(&c.name) { *c } else { counting(c) })
            .collect();
        let owned = Command { name: "owned", aliases: &["0wned"], ..*counting(ALL[0]) };
        commands.push(counting(&owned));
        let mut shell = Shell {
            commands: Vec::leak(commands),
            settings: Default::default(),
            session: None,
            format: Format::Text,
            watch: Watch::default(),
            open: Default::default(),
            recent: Arc::default(),
            sink: Box::new(|| Box::new(io::sink())),
            depth: 0,
            last: String::new(),
            state: Default::default(),
        };
        shell.settings.safe = true;
        shell.state.errors = Some(Arc::default());
        let mut all = Self { shell, lines: Vec::new(), around: Vec::new() };
        // Lines that run other commands themselves say nothing of the text.
        let mut harmless = |line: &str| BENIGN.iter().all(|text| all.ran(text, line) == 0);
        let places = PLACES.iter().map(|p| p.replace('§', "${s}")).chain(FROM_MEMORY.iter().map(|l| (*l).to_owned()));
        let lines: Vec<String> = places.filter(|line| harmless(line)).collect();
        let around = AROUND.iter().copied().filter(|a| harmless(&a.replace('§', ".echo ${s}"))).collect();
        (all.lines, all.around) = (lines, around);
        assert!(all.lines.len() > PLACES.len() / 2 && all.around.len() > AROUND.len() / 2);
        // Typed, it would run.
        assert!(all.ran("nothing", "owned; 0wned; .shell x") == 3);
        all
    }

    fn ran(&mut self, text: &str, line: &str) -> usize {
        self.shell.session = Some(Arc::new(Session::new(dump(text), self.shell.watch.clone())));
        let settings = &mut self.shell.settings;
        settings.aliases.clear();
        settings.aliases.extend([("s".to_owned(), hide(text)), ("evil".to_owned(), "!owned".to_owned())]);
        let before = RAN.load(Ordering::Relaxed);
        for line in line.lines() {
            self.shell.line(line);
        }
        if let Some(errors) = &self.shell.state.errors {
            errors.lock().unwrap().clear();
        }
        RAN.load(Ordering::Relaxed) - before
    }
}

/// A process of one thread whose memory holds the text, in bytes and in UTF-16.
fn dump(text: &str) -> Dump {
    let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let narrow = [text.as_bytes(), &[0]].concat();
    let mut space = SpaceBuilder::new(8);
    for (at, bytes) in ADDRESSES.into_iter().zip([narrow, wide]) {
        let length = bytes.len() as u64;
        let source = space.source(FileMap::owned(bytes));
        space.add(at, source, 0, length);
    }
    let kind = DumpKind::Minidump { flags: 0 };
    let mut dump = Dump::empty(Path::new("fuzz"), 0, kind, Os::Windows, Arch::X64, space.build().0);
    dump.threads.push(Thread { os_id: 1, ..Thread::default() });
    dump
}

thread_local! {
    static HARNESS: RefCell<Harness> = RefCell::new(Harness::new());
}

/// A byte below 128 is a piece of the language, one above begins a character of its own.
fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes.iter();
    while let Some(&b) = rest.next() {
        match b {
            0..128 => out.push_str(PIECES[usize::from(b) % PIECES.len()]),
            128..192 => out.push(char::from(rest.next().copied().unwrap_or(b))),
            _ => out.extend(char::from_u32(u32::from(b & 0x3F) << 14 | u32::from(rest.next().copied().unwrap_or(0)) << 4)),
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let [line, around, one, other, rest @ ..] = data else { return };
    HARNESS.with(|harness| {
        let mut harness = harness.borrow_mut();
        let mut line = harness.lines[usize::from(*line) % harness.lines.len()].clone();
        for which in [one, other].into_iter().take(usize::from(*around) % 3) {
            line = harness.around[usize::from(*which) % harness.around.len()].replace('§', &line);
        }
        let text = text(rest);
        assert_eq!(harness.ran(&text, &line), 0, "{line:?} runs {text:?}");
    });
});
