//! Names people type that are not commands here: what stands nearest.

use super::command::{Command, Prefix};
use super::grammar::Typed;
use super::parse::spelled;

/// Names of SOS and of the debuggers that are not built, with the nearest command that is.
pub const NOT_BUILT: &[(&str, &str)] = &[
    ("analyzeoom", "eeheap"),
    ("ao", "eeheap"),
    ("bpmd", "name2ee"),
    ("clrstack", "dso"),
    ("clru", "dumpmt"),
    ("u", "dumpmt"),
    ("comstate", "clrthreads"),
    ("crashinfo", "pe"),
    ("dumpasync", "dumpheap"),
    ("dumpccw", "dumpobj"),
    ("dumprcw", "dumpobj"),
    ("dumpconcurrentdictionary", "dumpobj"),
    ("dcd", "dumpobj"),
    ("dumpconcurrentqueue", "dumpobj"),
    ("dcq", "dumpobj"),
    ("dumpgcdata", "eeheap"),
    ("dumphttp", "dumpheap"),
    ("dumpil", "dumpmt"),
    ("dumplog", "eeversion"),
    ("dumpmd", "dumpmt"),
    ("dumprequests", "dumpheap"),
    ("dumpruntimetypes", "dumpheap"),
    ("dumpsig", "dumpmt"),
    ("dumpsigelem", "dumpmt"),
    ("dumpstack", "dso"),
    ("eestack", "dso"),
    ("ehinfo", "dumpmt"),
    ("enummem", "address"),
    ("findappdomain", "dumpdomain"),
    ("findpointersin", "address"),
    ("findroots", "gcroot"),
    ("gchandleleaks", "gchandles"),
    ("gcinfo", "dumpmt"),
    ("gctonative", "address"),
    ("histinit", "eeheap"),
    ("histobj", "gcwhere"),
    ("histroot", "gcroot"),
    ("ip2md", "lm"),
    ("k", "dso"),
    ("kb", "dso"),
    ("heap", "address"),
    ("locks", "syncblk"),
    ("maddress", "address"),
    ("mroot", "gcroot"),
    ("notreachableinrange", "dumpheap"),
    ("parallelstacks", "dso"),
    ("pstacks", "dso"),
    ("rcwcleanuplist", "syncblk"),
    ("savemodule", "dumpmodule"),
    ("taskstate", "dumpobj"),
    ("tks", "dumpobj"),
    ("threadpoolqueue", "clrthreads"),
    ("tpq", "clrthreads"),
    ("timerinfo", "dumpheap"),
    ("ti", "dumpheap"),
    ("traverseheap", "export"),
    ("verifystacktrace", "pe"),
    ("vmmap", "address"),
    ("vmstat", "address"),
    ("watsonbuckets", "pe"),
    ("procinfo", "vertarget"),
    ("peb", "vertarget"),
    ("teb", "address"),
    ("analyze", "pe"),
    ("refs", "gcroot"),
    ("finq", "finalizequeue"),
    ("frq", "finalizequeue"),
    ("gch", "gchandles"),
    ("dae", "pe"),
    ("wdo", "dumpobj"),
    ("wfrom", "dumpheap"),
    ("mdt", "dumpobj"),
    ("dlk", "syncblk"),
];

/// What to say of a name that is no command.
pub fn unknown(name: &str, typed: Typed, commands: &[&'static Command]) -> String {
    let mark = match typed {
        Typed::Bang => "!",
        Typed::Dot => ".",
        Typed::Plain => "",
    };
    let find = |n: &str| commands.iter().find(|c| c.name == n || c.aliases.contains(&n)).map(|c| spelled(c));
    if let Some((_, near)) = NOT_BUILT.iter().find(|(n, _)| *n == name)
        && let Some(near) = find(near)
    {
        return format!("{mark}{name} is not built yet; the nearest is {near} (.help lists all)");
    }
    let nearest = commands
        .iter()
        .flat_map(|c| c.aliases.iter().copied().chain([c.name]).map(move |n| (distance(name, n), c)))
        .min_by_key(|(d, c)| (*d, c.prefix != Prefix::Bang));
    match nearest {
        Some((d, c)) if d <= (name.len() / 3).clamp(1, 2) => {
            format!("no command {mark}{name}; did you mean {}? (.help lists all)", spelled(c))
        }
        _ => format!("no command {mark}{name}; .help lists all"),
    }
}

/// Edit distance, cut at short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(40).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
