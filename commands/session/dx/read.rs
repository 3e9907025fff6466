//! Reads a collection with the LINQ behind it and says the line with pipes that answers it.

use anyhow::{Result, bail};

use super::source::{SOURCES, Source, find};
use crate::shell::cursor::Cursor;
use crate::shell::opaque::show;

/// Most parentheses in each other.
const MAX_DEPTH: usize = 32;

/// The line that answers `text`.
pub fn line(text: &str) -> Result<String> {
    let text = show(text.trim());
    let Some((source, rest)) = find(&text) else {
        let known: Vec<&str> = SOURCES.iter().map(|s| s.path).collect();
        bail!("no such collection: {text}; there are {}", known.join(", "));
    };
    let mut r = Reader { text: Cursor::new(rest), source, variable: String::new(), depth: 0 };
    let (mut stages, mut sorts, mut chosen) = (Vec::new(), Vec::new(), false);
    while !r.text.is_done() {
        r.step(&mut stages, &mut sorts, &mut chosen)?;
    }
    flush(&mut stages, &mut sorts);
    if !chosen && !source.shown.is_empty() {
        stages.push(format!("cols {}", source.shown));
    }
    Ok(std::iter::once(source.line.to_owned()).chain(stages).collect::<Vec<_>>().join(" | "))
}

/// Keys of a sort that were read so far become one stage.
fn flush(stages: &mut Vec<String>, sorts: &mut Vec<String>) {
    if !sorts.is_empty() {
        stages.push(format!("sort {}", sorts.join(",")));
        sorts.clear();
    }
}

struct Reader<'t> {
    text: Cursor<'t>,
    source: &'static Source,
    /// The variable of the lambda that is read.
    variable: String,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn wrong<T>(&self, what: &str) -> Result<T> {
        let at = self.text.rest();
        bail!("{what}{}", if at.is_empty() { " at the end".to_owned() } else { format!(" before `{at}`") })
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.text.sign(sign)
    }

    fn need(&mut self, sign: &str) -> Result<()> {
        if self.sign(sign) { Ok(()) } else { self.wrong(&format!("expected `{sign}`")) }
    }

    fn word(&mut self) -> Result<&'t str> {
        match self.text.until(|c| !c.is_alphanumeric() && c != '_') {
            "" => self.wrong("expected a name"),
            word => Ok(word),
        }
    }

    /// `.Method(...)`, `.Member` or `[N]`.
    fn step(&mut self, stages: &mut Vec<String>, sorts: &mut Vec<String>, chosen: &mut bool) -> Result<()> {
        if self.sign("[") {
            let n = self.number()?;
            self.need("]")?;
            flush(stages, sorts);
            stages.extend([format!("top {}", n.saturating_add(1)), "last 1".to_owned()]);
            return Ok(());
        }
        self.need(".")?;
        let name = self.word()?;
        if !self.sign("(") {
            flush(stages, sorts);
            stages.push(format!("cols {}", self.source.column(name)));
            *chosen = true;
            return Ok(());
        }
        let lower = name.to_lowercase();
        if !matches!(lower.as_str(), "thenby" | "thenbydescending") {
            flush(stages, sorts);
        }
        match lower.as_str() {
            "where" => stages.push(format!("where {}", self.lambda(Self::any)?)),
            "orderby" | "thenby" => sorts.push(self.lambda(Self::member)?),
            "orderbydescending" | "thenbydescending" => sorts.push(format!("-{}", self.lambda(Self::member)?)),
            "select" => {
                stages.push(format!("cols {}", self.lambda(Self::selected)?));
                *chosen = true;
            }
            "groupby" => {
                stages.push(format!("group {} count", self.lambda(Self::member)?));
                *chosen = true;
            }
            "take" => stages.push(format!("top {}", self.number()?)),
            "first" | "firstordefault" => {
                self.condition(stages)?;
                stages.push("top 1".to_owned());
            }
            "last" | "lastordefault" => {
                self.condition(stages)?;
                stages.push("last 1".to_owned());
            }
            "count" => {
                self.condition(stages)?;
                stages.push("count".to_owned());
                *chosen = true;
            }
            "toarray" | "tolist" | "flatten" => {}
            _ => bail!(
                "no method {name} here: there are Where, Select, OrderBy, OrderByDescending, ThenBy, GroupBy, Take, First, Last, Count"
            ),
        }
        self.need(")")
    }

    /// The condition in `First(...)` or `Count(...)`, if there is one.
    fn condition(&mut self, stages: &mut Vec<String>) -> Result<()> {
        if !self.text.rest().starts_with(')') {
            stages.push(format!("where {}", self.lambda(Self::any)?));
        }
        Ok(())
    }

    /// `t => ...`
    fn lambda(&mut self, body: fn(&mut Self) -> Result<String>) -> Result<String> {
        let bracket = self.sign("(");
        self.variable = self.word()?.to_owned();
        if bracket {
            self.need(")")?;
        }
        self.need("=>")?;
        body(self)
    }

    /// `t.Name`: its column.
    fn member(&mut self) -> Result<String> {
        let word = self.word()?;
        if word != self.variable {
            bail!("expected `{}.` with a member instead of `{word}`", self.variable);
        }
        self.need(".")?;
        let name = self.word()?;
        // Text is compared whatever its case; a name is the text.
        while matches!(self.text.rest().strip_prefix('.'), Some(r) if starts_with_any(r, &["ToLower()", "ToUpper()"])) {
            self.sign(".");
            self.word()?;
            self.need("(")?;
            self.need(")")?;
        }
        Ok(self.source.column(name))
    }

    /// A member, or `new { A = t.B, t.C }`.
    fn selected(&mut self) -> Result<String> {
        if !self.text.rest().strip_prefix("new").is_some_and(|r| r.trim_start().starts_with('{')) {
            return self.member();
        }
        self.need("new")?;
        self.need("{")?;
        let mut columns = Vec::new();
        loop {
            let before = self.text;
            // `Name = t.Member`: the name is that of the column here.
            if self.word().is_err() || !self.sign("=") {
                self.text = before;
            }
            columns.push(self.member()?);
            if !self.sign(",") {
                break;
            }
        }
        self.need("}")?;
        Ok(columns.join(","))
    }

    fn number(&mut self) -> Result<u64> {
        let word = self.word()?;
        let read = match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        read.or_else(|_| bail!("`{word}` is no number"))
    }

    fn any(&mut self) -> Result<String> {
        let mut text = self.all()?;
        while self.sign("||") {
            text = format!("{text} or {}", self.all()?);
        }
        Ok(text)
    }

    fn all(&mut self) -> Result<String> {
        let mut text = self.term()?;
        while self.sign("&&") {
            text = format!("{text} and {}", self.term()?);
        }
        Ok(text)
    }

    fn term(&mut self) -> Result<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            bail!("the condition is nested too deep");
        }
        let text = match () {
            () if self.sign("!") => format!("not {}", self.term()?),
            () if self.sign("(") => {
                let inner = self.any()?;
                self.need(")")?;
                format!("({inner})")
            }
            () => self.comparison()?,
        };
        self.depth -= 1;
        Ok(text)
    }

    fn comparison(&mut self) -> Result<String> {
        let column = self.member()?;
        if self.sign(".") {
            let method = self.word()?;
            if !method.eq_ignore_ascii_case("Contains") {
                bail!("no method {method} of a member here: Contains is, and == != < <= > >=");
            }
            self.need("(")?;
            let text = self.literal()?;
            self.need(")")?;
            return Ok(format!("{column} ~ {text}"));
        }
        let Some(op) = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|op| self.sign(op)) else {
            return Ok(column);
        };
        Ok(format!("{column} {op} {}", self.literal()?))
    }

    /// Text in quotes, a number, `true` or `false`. A number says its base, since columns have bases of their own.
    fn literal(&mut self) -> Result<String> {
        if let Ok(Some(quoted)) = self.text.enclosed('"', '"', false) {
            return Ok(format!("\"{quoted}\""));
        }
        if self.text.rest().starts_with('"') {
            return self.wrong("a quotation mark is missing");
        }
        if starts_with_any(self.text.rest(), &["true", "false"]) {
            return Ok(self.word()?.to_owned());
        }
        Ok(format!("{:#x}", self.number()?))
    }
}

fn starts_with_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|w| text.starts_with(w))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::line;

    #[test]
    fn questions_become_pipes() {
        let is = |question: &str, answer: &str| assert_eq!(line(question).unwrap(), answer, "{question}");
        is("@$heap.Types", "!dumpheap -stat");
        is("@$heap.Types.OrderByDescending(t => t.Bytes).Take(5)", "!dumpheap -stat | sort -total_size | top 5");
        is("@$HEAP.types.OrderBy(x => x.Count).ThenBy(x => x.Name)", "!dumpheap -stat | sort count,class_name");
        is(
            "@$heap.Types.Where(t => t.Name.Contains(\"a b\") && !(t.Count < 10 || t.Bytes >= 0x20))",
            "!dumpheap -stat | where class_name ~ \"a b\" and not (count < 0xa or total_size >= 0x20)",
        );
        is("@$curprocess.Modules", "lm | cols module,start,image_size,version,path");
        is("@$curprocess.Modules[2].BaseAddress", "lm | top 3 | last 1 | cols start");
        is("@$curprocess.Threads.Select((t) => new { X = t.Id, t.Name })", "~ | cols os_id,name");
        is("@$curprocess.Threads.Count(t => t.Id == 0x10)", "~ | where os_id == 0x10 | count");
        is("@$heap.Objects.GroupBy(o => o.MethodTable)", "!dumpheap | group method_table count");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for question in [
            "@$heap.Nothing",
            "@$heap.Types.Where(t => x.Count > 1)",
            "@$heap.Types.Aggregate(t => t)",
            "@$heap.Types.Where(t => t.Name.StartsWith(\"a\"))",
            "@$heap.Types.Take(",
            "@$heap.Types.Take(many)",
            "@$heap.Types.Where(t => t.Name == \"a",
        ] {
            assert!(line(question).is_err(), "{question}");
        }
        let deep = format!("@$heap.Types.Where(t => {}t.Count == 1", "(".repeat(5000));
        assert!(line(&deep).is_err());
    }
}
