//! Blocks: conditions, loops, `.foreach`. Here they are read; [`super::flow`] runs them.

use super::grammar::{SyntaxError, bracketed, words};

/// What a block command does. Conditions and bodies are text: each is read when its turn comes, as aliases may have
/// changed by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The body of the first condition that holds, else the last body.
    If {
        /// Conditions with their bodies.
        arms: Vec<(String, String)>,
        /// What runs when none holds.
        otherwise: String,
    },
    /// The body as long as the condition holds, and the step after each.
    Loop {
        /// Runs first.
        first: String,
        /// Asked before each round.
        condition: String,
        /// Runs after each round.
        step: String,
        /// Runs each round.
        body: String,
        /// The first round is not asked for.
        once: bool,
    },
    /// The body once for each word.
    Foreach {
        /// What stands for the word in the body.
        name: String,
        /// Where the words come from.
        source: Source,
        /// Words passed over at the start.
        skip_first: usize,
        /// Words passed over after each one taken.
        skip_after: usize,
        /// Runs for each word.
        body: String,
    },
    /// The body once.
    Block(String),
    /// The body; its failures are said, and end there.
    Catch(String),
    /// Leaves what runs.
    Jump(Jump),
}

/// Ways to leave a body before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// `.break`: the loop is over.
    Break,
    /// `.continue`: the next round.
    Continue,
    /// `.leave`: the `.catch` is over.
    Leave,
}

/// Where `.foreach` has its words from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What commands print.
    Commands(String),
    /// A text.
    Text(String),
    /// A file.
    File(String),
}

/// The text of a command with blocks, read from the left.
struct Reader<'i> {
    all: &'i str,
    rest: &'i str,
}

type Read<T> = Result<T, SyntaxError>;

impl<'i> Reader<'i> {
    fn new(text: &'i str) -> Self {
        Self { all: text, rest: text }
    }

    fn wrong<T>(&self, what: &str) -> Read<T> {
        let column = self.all.len() - self.rest.trim_start().len();
        Err(SyntaxError { column, what: what.to_owned() })
    }

    fn take(&mut self, open: char) -> Option<&'i str> {
        let (inner, rest) = bracketed(self.rest, open)?;
        self.rest = rest;
        Some(inner)
    }

    fn condition(&mut self) -> Read<String> {
        match self.take('(') {
            Some(text) => Ok(text.to_owned()),
            None => self.wrong("expected a condition in parentheses: (EXPRESSION)"),
        }
    }

    fn body(&mut self) -> Read<String> {
        match self.take('{') {
            Some(text) => Ok(text.to_owned()),
            None => self.wrong("expected commands in braces: { ... }"),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let text = self.rest.trim_start();
        let Some(after) = text.get(..word.len()).filter(|w| w.eq_ignore_ascii_case(word)).map(|w| &text[w.len()..])
        else {
            return false;
        };
        self.rest = after;
        true
    }

    fn end<T>(self, value: T) -> Read<T> {
        if self.rest.trim().is_empty() { Ok(value) } else { self.wrong("expected `;` or the end of the line here") }
    }
}

/// `(E) { ... } .elsif (E) { ... } .else { ... }`.
pub fn conditional(text: &str) -> Result<Control, SyntaxError> {
    let mut r = Reader::new(text);
    let mut arms = vec![(r.condition()?, r.body()?)];
    let mut otherwise = String::new();
    loop {
        if r.word(".elsif") || r.word(".elseif") {
            arms.push((r.condition()?, r.body()?));
        } else if r.word(".else") {
            otherwise = r.body()?;
            break;
        } else {
            break;
        }
    }
    r.end(Control::If { arms, otherwise })
}

/// `(E) { ... }`.
pub fn while_loop(text: &str) -> Result<Control, SyntaxError> {
    let mut r = Reader::new(text);
    let (condition, body) = (r.condition()?, r.body()?);
    r.end(Control::Loop { first: String::new(), condition, step: String::new(), body, once: false })
}

/// `{ ... } (E)`.
pub fn do_loop(text: &str) -> Result<Control, SyntaxError> {
    let mut r = Reader::new(text);
    let (body, condition) = (r.body()?, r.condition()?);
    r.end(Control::Loop { first: String::new(), condition, step: String::new(), body, once: true })
}

/// `(FIRST; E; STEP) { ... }`.
pub fn for_loop(text: &str) -> Result<Control, SyntaxError> {
    let mut r = Reader::new(text);
    let head = r.condition()?;
    let parts: Vec<&str> = head.split(';').map(str::trim).collect();
    let [first, condition, step] = parts.as_slice() else {
        return Reader::new(text).wrong("expected (FIRST; CONDITION; STEP)");
    };
    let condition = if condition.is_empty() { "1" } else { condition }.to_owned();
    let body = r.body()?;
    r.end(Control::Loop { first: (*first).to_owned(), condition, step: (*step).to_owned(), body, once: false })
}

/// `[/pS N] [/ps N] (NAME { ... }) { ... }`, `/s (NAME "TEXT") { ... }`, `/f (NAME "FILE") { ... }`.
pub fn foreach(text: &str) -> Result<Control, SyntaxError> {
    let mut r = Reader::new(text);
    let (mut skip_first, mut skip_after, mut kind) = (0, 0, '{');
    while r.rest.trim_start().starts_with(['/', '-']) {
        let option = r.rest.split_whitespace().next().unwrap_or("").to_owned();
        let count = match option.get(1..) {
            Some("pS") => &mut skip_first,
            Some("ps") => &mut skip_after,
            Some("s" | "f") => {
                kind = if option.ends_with('s') { 's' } else { 'f' };
                r.word(&option);
                continue;
            }
            _ => return r.wrong("expected /pS N, /ps N, /s or /f"),
        };
        r.word(&option);
        let number = r.rest.split_whitespace().next().unwrap_or("");
        let Some(n) = super::expr::number(number).and_then(|n| usize::try_from(n).ok()) else {
            return r.wrong("expected a number");
        };
        *count = n;
        r.word(number);
    }
    let Some(head) = r.take('(') else { return r.wrong("expected (NAME {COMMANDS})") };
    let (name, from) = head.trim().split_once(|c: char| c.is_whitespace() || c == '{').unwrap_or((head.trim(), ""));
    let from = head.get(head.find(name).unwrap_or(0) + name.len()..).unwrap_or(from).trim();
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$') {
        return Reader::new(text).wrong("expected a name of letters and digits in (NAME {COMMANDS})");
    }
    let source = match kind {
        '{' => match bracketed(from, '{') {
            Some((commands, rest)) if rest.trim().is_empty() => Source::Commands(commands.to_owned()),
            _ => return Reader::new(text).wrong("expected (NAME {COMMANDS}); /s takes a text, /f a file"),
        },
        's' => Source::Text(from.trim_matches('"').to_owned()),
        _ => Source::File(from.trim_matches('"').to_owned()),
    };
    let body = r.body()?;
    r.end(Control::Foreach { name: name.to_owned(), source, skip_first, skip_after, body })
}

/// `{ ... }`.
pub fn block(text: &str) -> Result<String, SyntaxError> {
    let mut r = Reader::new(text);
    let body = r.body()?;
    r.end(body)
}

/// `EXPRESSION COMMAND ; COMMAND`, commands in single quotes where they hold `;` themselves.
pub fn judge(text: &str) -> Result<Control, SyntaxError> {
    let r = Reader::new(text);
    // The expression is one word, or in parentheses.
    let (condition, rest) = match bracketed(text, '(') {
        Some((inner, rest)) => (inner.to_owned(), rest),
        None => {
            let condition = words(text, 0)?.first().map(|w| w.text.clone()).unwrap_or_default();
            let at = text.len() - text.trim_start().len() + condition.len();
            (condition, text.get(at..).unwrap_or(""))
        }
    };
    if condition.is_empty() {
        return r.wrong("expected EXPRESSION COMMAND ; COMMAND");
    }
    let (yes, no) = alternatives(rest.trim());
    Ok(Control::If { arms: vec![(condition, yes.to_owned())], otherwise: no.to_owned() })
}

fn alternatives(text: &str) -> (&str, &str) {
    if let Some(inner) = text.strip_prefix('\'')
        && let Some((yes, rest)) = inner.split_once('\'')
    {
        return (yes, rest.trim_start().trim_start_matches(';').trim().trim_matches('\''));
    }
    let (yes, no) = text.split_once(';').unwrap_or((text, ""));
    (yes.trim(), no.trim().trim_matches('\''))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_loops() {
        let Control::If { arms, otherwise } =
            conditional(" (1 == (2)) { a; b } .elsif (3) {c} .else { .if (1) {d} }").unwrap()
        else {
            panic!()
        };
        assert_eq!(arms, [("1 == (2)".into(), " a; b ".into()), ("3".into(), "c".into())]);
        assert_eq!(otherwise, " .if (1) {d} ");
        assert_eq!(conditional("(1) {a} b").unwrap_err().column, 8);
        assert_eq!(conditional("1 {a}").unwrap_err().column, 0);
        let Control::Loop { first, condition, step, once, .. } =
            for_loop("(r $t0=0; @$t0 < 3; r $t0=@$t0+1) {x}").unwrap()
        else {
            panic!()
        };
        assert_eq!((first.as_str(), condition.as_str(), once), ("r $t0=0", "@$t0 < 3", false));
        assert_eq!(step, "r $t0=@$t0+1");
        assert!(for_loop("(a; b) {x}").is_err());
        assert!(matches!(do_loop("{x} (0)").unwrap(), Control::Loop { once: true, .. }));
        assert!(while_loop("(1)").is_err());
    }

    #[test]
    fn words_of_foreach() {
        let Control::Foreach { name, source, skip_first, skip_after, body } =
            foreach(" /pS 2 /ps 0n10 (obj {!dumpheap -short}) { !do ${obj} }").unwrap()
        else {
            panic!()
        };
        assert_eq!((name.as_str(), skip_first, skip_after), ("obj", 2, 10));
        assert_eq!((source, body.as_str()), (Source::Commands("!dumpheap -short".into()), " !do ${obj} "));
        let Control::Foreach { source, .. } = foreach("/s (v \"a b\") {x}").unwrap() else { panic!() };
        assert_eq!(source, Source::Text("a b".into()));
        for bad in ["", "(v) {x}", "(v {a})", "/x (v {a}) {b}", "(v-w {a}) {b}", "/pS (v {a}) {b}", "(v {a} b) {c}"] {
            assert!(foreach(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn judging() {
        let Control::If { arms, otherwise } = judge("@$t0==1 'lm; r' ; '~'").unwrap() else { panic!() };
        assert_eq!((arms[0].0.as_str(), arms[0].1.as_str(), otherwise.as_str()), ("@$t0==1", "lm; r", "~"));
        let Control::If { arms, otherwise } = judge("(1 > 2) lm ; r").unwrap() else { panic!() };
        assert_eq!((arms[0].0.as_str(), arms[0].1.as_str(), otherwise.as_str()), ("1 > 2", "lm", "r"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z0-9.(){}/ \";'\\PC]{0,60}") {
            let _ = (conditional(&text), while_loop(&text), do_loop(&text), for_loop(&text), foreach(&text));
            let _ = (block(&text), judge(&text));
        }
    }
}
