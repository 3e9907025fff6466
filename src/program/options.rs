//! Verbs and options of the program, in one table: parsing, `--help`, the manual page and completion derive from it.

use crate::live::Kind as Dump;

/// What an option's value names, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Anything.
    Any,
}

/// The value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// Its name in the help.
    pub name: &'static str,
    /// What it names.
    pub hint: Hint,
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its letter.
    pub short: Option<char>,
    /// Its word, by which the program knows it.
    pub long: &'static str,
    /// The value it takes.
    pub value: Option<Value>,
    /// Whether it may be given more than once.
    pub many: bool,
    /// What it does.
    pub help: &'static str,
}

impl Opt {
    const fn flag(long: &'static str, help: &'static str) -> Self {
        Self { short: None, long, value: None, many: false, help }
    }

    const fn value(long: &'static str, name: &'static str, hint: Hint, help: &'static str) -> Self {
        Self { short: None, long, value: Some(Value { name, hint }), many: false, help }
    }

    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// As the help spells it: `-c COMMANDS`, `--stay`.
    pub fn spelled(&self) -> String {
        let name = match self.short {
            Some(c) => format!("-{c}, --{}", self.long),
            None => format!("--{}", self.long),
        };
        match self.value {
            Some(v) => format!("{name} {}", v.name),
            None => name,
        }
    }
}

/// What the program does when its name comes first; without one it opens the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What follows it, for the line of usage.
    pub takes: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Options it has beside those of the program.
    pub options: &'static [Opt],
}

impl Verb {
    /// Its name with what follows it.
    pub fn heading(&self) -> String {
        format!("{} {}", self.name, self.takes).trim_end().to_owned()
    }
}

/// Shells that completion is made for.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];
/// What `--generate` makes.
pub const GENERATED: &[&str] = &["man", "bash", "zsh", "fish", "powershell"];

/// Options of the program.
pub const OPTIONS: &[Opt] = &[
    Opt::value("command", "COMMANDS", Hint::Any, "run commands (separated by ;) and leave; may be repeated").short('c').many(),
    Opt::value("script", "FILE", Hint::File, "run a command script and leave; may be repeated, in order with -c")
        .short('s')
        .many(),
    Opt::flag("stay", "keep the prompt after -c and -s"),
    Opt::value("images", "FOLDER", Hint::Folder, "look for assemblies and runtimes the dump lacks here; may be repeated")
        .short('i')
        .many(),
    Opt::value("sympath", "PATH", Hint::Any, "symbol path whose local folders are searched too (SRV*folder*...)").short('y'),
    Opt::flag("json", "results as JSON (one object a command)"),
    Opt::flag("csv", "results as CSV"),
    Opt::value(
        "provider",
        "LIST",
        Hint::Words(&["descriptor", "gcdacvars", "dactable", "tables", "structure"]),
        "ask only these sources of layouts, or all but these (-tables,-descriptor): descriptor, gcdacvars, dactable, tables, \
         structure; !runtimes -v shows who answered",
    )
    .many(),
    Opt::flag("no-color", "no colours (also with NO_COLOR set)"),
    Opt::flag("no-pager", "do not stop after a screenful"),
    Opt::flag("pager", "show what is longer than the window with the program that PAGER names"),
    Opt::value("cache", "FOLDER", Hint::Folder, "where compressed dumps are unpacked to and indexes are kept"),
    Opt::value("index", "FILE", Hint::File, "keep the index of the dump in this file; none: keep none"),
    Opt::flag("strict", "the first command that fails ends the script or line it stands in, and the program"),
    Opt::flag(
        "safe",
        "nothing outside the dump is read, written or run: no .shell, -o, .logopen, .export, .opendump, scripts run by \
         scripts, .foreach /f and the like; no index is kept",
    ),
    Opt::value("generate", "WHAT", Hint::Words(GENERATED), "print the manual page (man) or the completion of a shell"),
    Opt::flag("version", "print the version").short('V'),
    Opt::flag("help", "print this").short('h'),
];

/// Verbs, each told by the first argument.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "report",
        takes: "DUMP [OLDER]",
        help: "a page to hand on: see .report",
        options: &[
            Opt::value("out", "FILE", Hint::File, "the page (.html) or its model (.json)").short('o'),
            Opt::flag("with-values", "strings of the process, its environment and command line too"),
        ],
    },
    Verb {
        name: "export",
        takes: "DUMP...",
        help: "tables of many dumps in one folder: see .exportall",
        options: &[
            Opt::value("out", "FLEET", Hint::Folder, "the folder to write to; needed").short('o'),
            Opt::value(
                "format",
                "FORMAT",
                Hint::Words(&["parquet", "tsv", "csv", "jsonl"]),
                "parquet (without it), tsv, csv or jsonl",
            ),
            Opt::value("tables", "LIST", Hint::Any, "only these tables, separated by commas; dumps always"),
            Opt::value("id", "ID", Hint::Any, "what the dump is called there; of one dump alone"),
        ],
    },
    Verb {
        name: "triage",
        takes: "DUMP...",
        help: "a line a dump with its first finding, dumps with the same trouble together: see .triage",
        options: &[],
    },
    Verb { name: "ps", takes: "", help: "the .NET processes of this machine: see .ps", options: &[] },
    Verb {
        name: "collect",
        takes: "",
        help: "a dump of a running process: see .collect",
        options: &[
            Opt::value("pid", "PID", Hint::Any, "the process, as ps numbers it").short('p'),
            Opt::value("type", "TYPE", Hint::Words(Dump::WORDS), "full, heap (unless said), mini or triage").short('t'),
            Opt::value("out", "FILE", Hint::File, "the dump").short('o'),
            Opt::flag("open", "open it then"),
        ],
    },
    Verb {
        name: "mcp",
        takes: "[DUMP...]",
        help: "serve dumps to programs (Model Context Protocol on standard input and output)",
        options: &[Opt::value(
            "allow",
            "FOLDER",
            Hint::Folder,
            "dumps below it may be opened; without it, those beside DUMP",
        )
        .many()],
    },
];

/// How the program ends.
pub const EXIT_CODES: &str =
    "0 done (also for an empty or partial answer), 1 a command failed, 2 the dump cannot be opened";

/// The verb of that name.
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|v| v.name == name)
}

/// The option that `wanted` says, of `verb` first, then of the program.
pub fn find(verb: Option<&Verb>, wanted: impl Fn(&Opt) -> bool) -> Option<&'static Opt> {
    let own = verb.map_or(&[][..], |v| v.options);
    own.iter().chain(OPTIONS).find(|o| wanted(o))
}

/// Column in which it begins what an option does, and the widest line.
const TEXT: usize = 26;
const WIDTH: usize = 120;

/// The text of `--help`.
pub fn help() -> String {
    let mut text =
        String::from("clrscope: a WinDbg/SOS-like shell for .NET memory dumps\n\nusage: clrscope [DUMP] [options]\n");
    for verb in VERBS {
        text += &format!("       clrscope {}\n", verb.heading());
    }
    text.push('\n');
    OPTIONS.iter().for_each(|o| entry(&mut text, o));
    for verb in VERBS {
        text += &format!("\nclrscope {}: {}\n", verb.heading(), verb.help);
        verb.options.iter().for_each(|o| entry(&mut text, o));
    }
    text + "\nexit code: " + EXIT_CODES
}

/// One option with what it does, broken into lines.
fn entry(text: &mut String, option: &Opt) {
    let mut line = format!("  {}", option.spelled());
    if line.len() + 2 > TEXT {
        line.push('\n');
        text.push_str(&line);
        line.clear();
    }
    line = format!("{line:TEXT$}");
    let mut empty = true;
    for word in option.help.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(TEXT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_has_two_meanings() {
        for verb in VERBS.iter().map(Some).chain([None]) {
            let all: Vec<_> = verb.map_or(&[][..], |v| v.options).iter().chain(OPTIONS).collect();
            for (i, a) in all.iter().enumerate() {
                for b in all.iter().skip(i + 1) {
                    assert!(a.long != b.long && (a.short.is_none() || a.short != b.short), "{} {}", a.long, b.long);
                }
            }
        }
    }

    #[test]
    fn help_has_all_and_fits() {
        let text = help();
        for option in OPTIONS.iter().chain(VERBS.iter().flat_map(|v| v.options)) {
            assert!(text.contains(&option.spelled()), "{}", option.long);
        }
        assert!(text.lines().all(|l| l.len() <= WIDTH && l == l.trim_end()), "{text}");
    }
}
