//! The pipes there are: reading, help, completion and the reference derive from this table.

use super::super::words::SyntaxError;
use super::parse::{self, Read};
use super::pipe::Pipe;

/// A pipe.
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What follows the name.
    pub syntax: &'static str,
    /// One line.
    pub summary: &'static str,
    /// More of it.
    pub help: &'static str,
    /// Lines as typed, and what they show.
    pub examples: &'static [(&'static str, &'static str)],
    /// Reads what follows the name.
    pub read: Read,
}

/// All of them.
pub const ALL: &[Declared] = &[
    Declared {
        name: "where",
        aliases: &[],
        syntax: "EXPR",
        summary: "keep the rows for which a condition holds",
        help: "COLUMN OP VALUE, joined by and, or, not and parentheses; a column that is true or false may stand alone. OP \
               is one of == != < <= > >= ~ (contains) !~ (does not), contains, startswith, endswith, like (* ? and %), each with not \
               before it; is null and is not null ask whether there is a value. Columns are named by key or title, \"quoted\" or in \
               [brackets] where they hold blanks. A number is hexadecimal for columns of addresses and identifiers and \
               decimal for bytes, counts and other numbers (0x and 0n say otherwise; kb, mb, gb are powers of 1024). \
               Text is compared whatever its case; quotes go around text with blanks, | or ;. [COLUMN] on the right is \
               another column. A missing value is unequal to everything and contains nothing.",
        examples: &[
            ("!dumpheap -stat | where total_size > 1mb and not class_name ~ System", "the program's own big types"),
            ("!dumpheap | where size >= 85000 | top 5", "the first five big objects"),
        ],
        read: parse::condition,
    },
    Declared {
        name: "sort",
        aliases: &[],
        syntax: "[-]COLUMN,...",
        summary: "sort the rows, the smallest first; -COLUMN the biggest first",
        help: "Rows that are alike stay in their order; missing values come last, either way. Text is sorted whatever its \
               case. All rows are kept meanwhile, unless top or last stands right behind it: more than 512 MB of them are \
               refused.",
        examples: &[("!dumpheap -stat | sort -count,class_name | top 10", "the ten most frequent types")],
        read: parse::sort,
    },
    Declared {
        name: "group",
        aliases: &[],
        syntax: "COLUMN,... [sum COLUMN] [count] [max COLUMN]",
        summary: "one row for all rows that are the same in these columns",
        help: "Its columns are those, then sum_COLUMN, count and max_COLUMN in the order they are asked for; count when \
               nothing is. The rows come by the first of these, the biggest last, and by the columns of the group where \
               that is the same: top behind it means the biggest. sum and max leave missing values out. More groups than fill 512 MB are refused.",
        examples: &[("!dumpheap | group method_table sum size count | top 5", "the five types with the most bytes")],
        read: parse::group,
    },
    Declared {
        name: "cols",
        aliases: &[],
        syntax: "COLUMN,...",
        summary: "keep these columns, in this order",
        help: "Columns that text leaves out otherwise are shown when they are named.",
        examples: &[("!dumpheap -stat | cols class_name,count", "two columns alone")],
        read: parse::cols,
    },
    Declared {
        name: "top",
        aliases: &[],
        syntax: "N",
        summary: "keep the first N, or the biggest N of a table with the biggest last",
        help: "Which tables have the biggest last, the reference of each command says; behind sort it is the first.",
        examples: &[("!dumpheap -stat | top 5", "the five types with the most bytes")],
        read: parse::top,
    },
    Declared {
        name: "last",
        aliases: &[],
        syntax: "N",
        summary: "keep the last N",
        help: "",
        examples: &[("!dumpheap -short | last 2", "the last two objects")],
        read: parse::last,
    },
    Declared {
        name: "count",
        aliases: &[],
        syntax: "",
        summary: "count the rows of each table",
        help: "One table for all: the name of each table of the answer, and how many rows of it came through.",
        examples: &[("!dumpheap -short | where address > 7fd0d9000000 | count", "how many objects lie there")],
        read: parse::count,
    },
    Declared {
        name: "find",
        aliases: &["findstr", "grep"],
        syntax: "TEXT",
        summary: "keep the lines and rows that contain TEXT, whatever its case",
        help: "Quotes go around text with blanks, | or ;. /i is accepted.",
        examples: &[("!dumpheap -stat | find zoo.", "types of the program")],
        read: parse::find,
    },
];

/// What holds for all of them.
pub const HELP: &str = "Any number of pipes may stand behind a command, each behind the other. A pipe that names columns acts on the tables of \
     the answer that have all of them; other tables and prose are left out, facts stay in JSON. The columns of each \
     command are in the reference, and Tab completes them. Behind find, top and last alone the answer keeps its form and \
     its prose; behind the others a table is shown with its titles, whole values and columns as wide as they need. JSON and \
     CSV go through the same pipes. Why an answer is partial is said whatever the pipes are.";

/// The pipe of this name.
pub fn named(name: &str) -> Option<&'static Declared> {
    ALL.iter().find(|d| d.name.eq_ignore_ascii_case(name) || d.aliases.iter().any(|a| a.eq_ignore_ascii_case(name)))
}

impl Declared {
    /// `| sort [-]COLUMN,...`
    pub fn synopsis(&self) -> String {
        format!("| {} {}", self.name, self.syntax).trim_end().to_owned()
    }
}

/// Reads a pipe, which begins at `column` of the line; the bar is not part of it.
pub fn read(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    let start = text.trim_start();
    let column = column + text.len() - start.len();
    let end = start.find(|c: char| !c.is_alphanumeric()).unwrap_or(start.len());
    let Some(declared) = named(&start[..end]) else {
        let names: Vec<&str> = ALL.iter().map(|d| d.name).collect();
        return Err(SyntaxError { column, what: format!("expected a pipe after `|`: {}", names.join(", ")) });
    };
    let rest = &start[end..];
    let skipped = rest.len() - rest.trim_start().len();
    (declared.read)(rest.trim_start(), column + end + skipped)
}
