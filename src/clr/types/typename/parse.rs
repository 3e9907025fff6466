//! Reading a type name as typed, in either spelling.

use std::borrow::Cow;
use std::sync::Arc;

use super::{MAX_DEPTH, Named, TypeName};

/// The spelling to compare by: that of [`TypeName::display`], whichever way `text` is spelled and however it is
/// spaced, assemblies left out. Text that is no type name is returned as it is, trimmed.
pub fn canonical(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    // Most names are plain: nothing in them can be spelled in two ways.
    if !text.contains(['[', ',', '`', '<', ' ']) {
        return Cow::Borrowed(text);
    }
    match TypeName::parse(text) {
        Some(name) => Cow::Owned(name.display()),
        None => Cow::Borrowed(text),
    }
}

/// Whether `typed` (in either spelling) names the type whose name (in either spelling) is `name`.
pub fn matches(typed: &str, name: &str) -> bool {
    typed == name || canonical(typed) == canonical(name)
}

impl TypeName {
    /// Reads a name in either spelling; assemblies of arguments are kept. `None` when the text is not wholly one name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut p = Parser { rest: text.trim() };
        let name = p.ty(0)?;
        p.rest.is_empty().then_some(name)
    }

    fn with_assembly(mut self, assembly: &str) -> Self {
        let mut at = &mut self;
        loop {
            match at {
                Self::Named(n) => {
                    n.assembly = Arc::from(assembly);
                    return self;
                }
                Self::SzArray(of) | Self::MdArray(of, _) | Self::Pointer(of) | Self::ByRef(of) => at = of,
                _ => return self,
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn eat(&mut self, what: char) -> bool {
        match self.rest.trim_start_matches(' ').strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn ty(&mut self, depth: usize) -> Option<TypeName> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_blanks();
        if let Some(rest) = self.rest.strip_prefix("(fnptr)") {
            self.rest = rest;
            return self.suffixes(TypeName::FnPtr, depth);
        }
        let (mut name, mut args) = (String::new(), Vec::new());
        loop {
            let segment = self.segment()?;
            name.push_str(segment);
            if self.rest.starts_with('<') {
                self.rest = self.rest.get(1..)?;
                let own = self.list('>', depth)?;
                // `Name<A>` and ``Name`1<A>`` are the same; the display spelling drops the backtick.
                if super::arity(segment).1 == 0 {
                    name.push_str(&format!("`{}", own.len()));
                }
                args.extend(own);
            }
            if !self.rest.starts_with('+') {
                break;
            }
            self.rest = self.rest.get(1..)?;
            name.push('+');
        }
        if args.is_empty() && self.opens_arguments() {
            self.eat('[');
            args = self.list(']', depth)?;
        }
        self.suffixes(TypeName::Named(Named { name, args, assembly: Arc::from("") }), depth)
    }

    /// One nesting level: up to `+`, a bracket, a separator or a suffix. Angle brackets at the start of a level, behind
    /// a dot or inside such brackets belong to names that compilers make (`<>c`, `<Main>d__0`, `<<Main>$>d__0`).
    fn segment(&mut self) -> Option<&'a str> {
        let (mut open, mut fresh) = (0usize, true);
        let mut end = self.rest.len();
        for (i, c) in self.rest.char_indices() {
            match c {
                '<' if fresh || open > 0 => open += 1,
                '>' if open > 0 => open -= 1,
                '+' | '[' | ']' | ',' | '<' | '>' | '*' | '&' if open == 0 => {
                    end = i;
                    break;
                }
                _ => {}
            }
            fresh = c == '.';
        }
        let (segment, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let segment = segment.trim_end_matches(' ');
        (!segment.is_empty() && open == 0).then_some(segment)
    }

    /// Whether the bracket ahead holds type arguments rather than dimensions.
    fn opens_arguments(&self) -> bool {
        let Some(inside) = self.rest.strip_prefix('[') else { return false };
        !inside.trim_start_matches(' ').starts_with([']', ',', '*'])
    }

    /// Type arguments up to `close`, which is taken too.
    fn list(&mut self, close: char, depth: usize) -> Option<Vec<TypeName>> {
        let mut args = Vec::new();
        loop {
            self.skip_blanks();
            let arg = if self.eat('[') { self.qualified(depth)? } else { self.ty(depth + 1)? };
            args.push(arg);
            if self.eat(close) {
                return Some(args);
            }
            self.eat(',').then_some(())?;
        }
    }

    /// `Type, Assembly, Version=...]` behind its opening bracket.
    fn qualified(&mut self, depth: usize) -> Option<TypeName> {
        let arg = self.ty(depth + 1)?;
        if self.eat(']') {
            return Some(arg);
        }
        self.eat(',').then_some(())?;
        let (assembly, rest) = self.rest.split_once(']')?;
        self.rest = rest;
        let simple = assembly.split(',').next().unwrap_or(assembly).trim();
        Some(arg.with_assembly(simple))
    }

    fn suffixes(&mut self, mut name: TypeName, depth: usize) -> Option<TypeName> {
        for _ in depth..MAX_DEPTH {
            if self.eat('*') {
                name = TypeName::Pointer(Box::new(name));
            } else if self.eat('&') {
                name = TypeName::ByRef(Box::new(name));
            } else if self.eat('[') {
                name = self.dimensions(name)?;
            } else {
                break;
            }
        }
        Some(name)
    }

    fn dimensions(&mut self, of: TypeName) -> Option<TypeName> {
        let of = Box::new(of);
        if self.eat(']') {
            return Some(TypeName::SzArray(of));
        }
        if self.eat('*') {
            return self.eat(']').then_some(TypeName::MdArray(of, 1));
        }
        let mut rank = 1;
        while self.eat(',') {
            rank += 1;
        }
        (self.eat(']') && rank > 1 && rank <= 32).then_some(TypeName::MdArray(of, rank))
    }
}
