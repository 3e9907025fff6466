//! Collections of the data model: the command that lists each, and what its members are called there.

/// A collection.
pub struct Source {
    /// Its path; case does not count.
    pub path: &'static str,
    /// The line that lists it.
    pub line: &'static str,
    /// Members by name in lower case, with the column each is.
    pub members: &'static [(&'static str, &'static str)],
    /// What is shown where nothing is selected.
    pub shown: &'static str,
}

const MODULES: &[(&str, &str)] = &[
    ("name", "path"),
    ("path", "path"),
    ("modulename", "module"),
    ("filename", "file"),
    ("baseaddress", "start"),
    ("base", "start"),
    ("size", "image_size"),
    ("version", "version"),
];
const THREADS: &[(&str, &str)] = &[("id", "os_id"), ("index", "index"), ("name", "name"), ("teb", "teb")];
const TYPES: &[(&str, &str)] = &[
    ("name", "class_name"),
    ("type", "class_name"),
    ("methodtable", "method_table"),
    ("mt", "method_table"),
    ("count", "count"),
    ("bytes", "total_size"),
    ("size", "total_size"),
    ("totalsize", "total_size"),
];
const OBJECTS: &[(&str, &str)] = &[
    ("address", "address"),
    ("methodtable", "method_table"),
    ("mt", "method_table"),
    ("size", "size"),
    ("bytes", "size"),
];
const STRINGS: &[(&str, &str)] =
    &[("text", "text"), ("value", "text"), ("count", "count"), ("bytes", "total_size"), ("size", "total_size")];
const FRAMES: &[(&str, &str)] = &[];
const NONE: &[(&str, &str)] = &[];

/// All of them; of two that begin alike the longer first.
pub const SOURCES: &[Source] = &[
    source("@$curprocess.Modules", "lm", MODULES, "module,start,image_size,version,path"),
    source("@$curprocess.Threads", "~", THREADS, "index,os_id,name"),
    source("@$curprocess.Handles", "!handle", NONE, ""),
    source("@$curprocess.Name", "|", NONE, ""),
    source("@$curprocess.Id", "|", NONE, ""),
    source("@$curprocess", "|", NONE, ""),
    source("@$curthread.Stack.Frames", "k", FRAMES, ""),
    source("@$curthread.Stack", "k", FRAMES, ""),
    source("@$curstack.Frames", "k", FRAMES, ""),
    source("@$curstack", "k", FRAMES, ""),
    source("@$curthread", "~ | where current", THREADS, "index,os_id,name"),
    source("@$heap.Types", "!dumpheap -stat", TYPES, ""),
    source("@$heap.Objects", "!dumpheap", OBJECTS, ""),
    source("@$heap.Strings", "!dumpheap -strings -stat", STRINGS, ""),
    source("@$heap.Segments", "!eeheap -gc", NONE, ""),
    source("@$heap.Handles", "!gchandles", NONE, ""),
    source("@$heap.Assemblies", "!clrmodules", NONE, ""),
];

const fn source(
    path: &'static str,
    line: &'static str,
    members: &'static [(&'static str, &'static str)],
    shown: &'static str,
) -> Source {
    Source { path, line, members, shown }
}

/// The collection an expression begins with, and what follows it.
pub fn find(text: &str) -> Option<(&'static Source, &str)> {
    SOURCES.iter().find_map(|s| {
        let (head, rest) = text.split_at_checked(s.path.len())?;
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        (head.eq_ignore_ascii_case(s.path) && ends).then_some((s, rest))
    })
}

impl Source {
    /// The column that a member is.
    pub fn column(&self, member: &str) -> String {
        let lower = member.to_lowercase();
        let known = self.members.iter().find(|m| m.0 == lower);
        known.map_or(lower, |m| m.1.to_owned())
    }
}
