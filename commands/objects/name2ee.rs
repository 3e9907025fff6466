//! `!name2ee` and `!token2ee`: from a name or a token to the runtime's records.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::modules::Module;
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::canonical;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!name2ee MODULE ITEM`.
pub const NAME2EE: Command = Command {
    name: "name2ee",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "find a type or method by name",
    help: "MODULE is a file name with or without .dll, in which * stands for any characters, or * for all modules; \
           MODULE!ITEM works too. ITEM is the full name \
           of a type (nested types with + or /), of an instantiation in either spelling, or of a method \
           (Namespace.Type.Method: all overloads are listed). Types and methods that exist in metadata but were not \
           loaded are listed with their token. * lists only modules where something matches.",
    args: &[
        Arg::pos("MODULE", Kind::Text, "module name, *, or MODULE!ITEM").completes_modules().required(),
        Arg::pos("ITEM", Kind::TypeName, "type or Type.Method").many(),
    ],
    examples: &[
        Example { line: "!name2ee * System.String", what: "a type wherever it is defined" },
        Example { line: "!name2ee System.Private.CoreLib.dll!System.String.Concat", what: "the overloads of a method" },
    ],
    needs: Needs::Clr,
    returns: RETURNS,
    run: name2ee,
};

/// `!token2ee MODULE TOKEN`.
pub const TOKEN2EE: Command = Command {
    name: "token2ee",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "find a type or method by metadata token",
    help: "TOKEN is a TypeDef (02xxxxxx) or MethodDef (06xxxxxx) token of MODULE (a file name, or * for all modules).",
    args: &[
        Arg::pos("MODULE", Kind::Text, "module name or *").completes_modules().required(),
        Arg::pos("TOKEN", Kind::Address, "metadata token").required(),
    ],
    examples: &[Example { line: "!token2ee System.Private.CoreLib.dll 02000002", what: "the type of a token" }],
    needs: Needs::CoreClr,
    returns: RETURNS,
    run: token2ee,
};

/// What was found.
const MATCHES: Table = Table::new(
    "matches",
    &[
        Col::data("module", Type::Address).titled("Module it is in"),
        Col::data("assembly", Type::Text).titled("file of the module, or its name where there is no file"),
        Col::data("kind", Type::Text).titled("type or method"),
        Col::data("token", Type::Hex).titled("its TypeDef or MethodDef token"),
        Col::data("loaded", Type::Bool).titled("the runtime has loaded it"),
        Col::data("method_table", Type::Address).titled("MethodTable of a type"),
        Col::data("ee_class", Type::Address).titled("EEClass of a type"),
        Col::data("method_desc", Type::Address).titled("MethodDesc of a method"),
        Col::data("name", Type::Text).titled("name of the type, or type and name of the method"),
        Col::data("code", Type::Address).titled("where the code of a method begins"),
    ],
);

/// What both commands return.
const RETURNS: Returns = Returns::facts(&[
    Fact::new("modules", "modules searched", Type::Count),
    Fact::new("modules_without_match", "modules in which nothing matches", Type::Count),
    Fact::new("modules_unreadable", "modules whose metadata is not in the dump", Type::Count),
])
.and(&[&MATCHES]);

/// Modules called `name`: file name with or without extension, assembly name, path or address; `*` is all.
pub fn find(session: &Session, name: &str) -> Result<Vec<Arc<Module>>> {
    let clr = session.clr()?;
    let wanted = name.trim();
    let bare = wanted.strip_suffix(".dll").or_else(|| wanted.strip_suffix(".exe")).unwrap_or(wanted);
    let pattern = wanted.to_ascii_lowercase();
    let like = |name: &str| wanted.contains('*') && matches_pattern(&pattern, &name.to_ascii_lowercase());
    let mut found = Vec::new();
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        let matches = wanted == "*"
            || m.file_name().eq_ignore_ascii_case(wanted)
            || like(m.file_name())
            || like(m.stem())
            || m.path == wanted
            || m.stem().eq_ignore_ascii_case(bare)
            || m.assembly_name(clr).eq_ignore_ascii_case(bare);
        if matches {
            found.push(m);
        }
    }
    Ok(found)
}

/// Whether `name` is `pattern`, in which `*` stands for any characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

fn name2ee(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let first = args.text("MODULE").unwrap_or("*");
    // A type name may hold blanks: what follows belongs to it.
    let rest: Vec<&str> = args.texts("ITEM").collect();
    let rest = rest.join(" ");
    let (module, item) = match first.split_once('!') {
        Some((module, item)) => (module, format!("{item} {rest}")),
        None if rest.is_empty() || first.contains(['<', '[']) => ("*", format!("{first} {rest}")),
        None => (first, rest),
    };
    let modules = find(session, module)?;
    if modules.is_empty() {
        bail!("no module is called {module}; !clrmodules lists them");
    }
    let all = module.contains('*');
    let item = item.trim().replace('/', "+");
    let mut search = Search { session, all, modules: modules.len(), scanned: 0, found: 0, unreadable: 0 };
    for m in &modules {
        session.watch.cancel.check()?;
        search.name(ctx.out, m, &item)?;
    }
    search.finish(ctx.out)
}

fn token2ee(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let module = args.text("MODULE").unwrap_or("*");
    let modules = find(session, module)?;
    if modules.is_empty() {
        bail!("no module is called {module}; !clrmodules lists them");
    }
    let token = args.number("TOKEN").unwrap_or(0) as u32;
    let all = module.contains('*');
    let mut search = Search { session, all, modules: modules.len(), scanned: 0, found: 0, unreadable: 0 };
    for m in &modules {
        search.token(ctx.out, m, token)?;
    }
    search.finish(ctx.out)
}

struct Search<'a> {
    session: &'a Session,
    all: bool,
    modules: usize,
    scanned: usize,
    found: usize,
    unreadable: usize,
}

impl Search<'_> {
    fn finish(&self, out: &mut Out) -> Result<Outcome> {
        out.datum("modules", &Cell::Num(self.modules as u64));
        out.datum("modules_unreadable", &Cell::Num(self.unreadable as u64));
        let scanned = Cell::Num(self.scanned as u64);
        if self.scanned > 0 && self.all {
            let line = format!("Scanned {} modules which had no matches.", self.scanned);
            out.fact("modules_without_match", scanned, line)?;
        } else {
            out.datum("modules_without_match", &scanned);
        }
        if self.unreadable > 0 {
            return Ok(Outcome::Partial(format!("the metadata of {} modules is not in the dump", self.unreadable)));
        }
        Ok(if self.found == 0 { Outcome::Empty } else { Outcome::Complete })
    }

    /// Prints a match; `token` and what else is known of it.
    fn show(&mut self, out: &mut Out, m: &Module, token: u32, found: Found) -> Result<()> {
        if self.found > 0 {
            out.note("--------------------------------------")?;
        }
        self.found += 1;
        let clr = self.session.clr()?;
        let assembly = if m.path.is_empty() { m.display_name(clr) } else { m.file_name().to_owned() };
        let (token, w) = (u64::from(token), digits());
        let head = [
            format!("Module:      {:0w$x}", m.address),
            format!("Assembly:    {assembly}"),
            format!("Token:       {token:0w$x}"),
        ];
        let lines = head.into_iter().chain(found.lines()).map(|l| l.trim_end_matches(' ').to_owned());
        let known = |at: Option<u64>| at.map_or(Cell::None, Cell::Addr);
        let (mt, md) = if found.method { (None, found.record) } else { (found.record, None) };
        let cells = [
            Cell::Addr(m.address),
            Cell::text(&assembly),
            Cell::text(if found.method { "method" } else { "type" }),
            Cell::Hex(token),
            Cell::Bool(found.record.is_some()),
            known(mt),
            known(found.class),
            known(md),
            Cell::text(&found.name),
            known(found.code),
        ];
        Ok(out.row_as(&MATCHES, &cells, lines.collect::<Vec<_>>().join("\n"))?)
    }

    fn name(&mut self, out: &mut Out, m: &Module, item: &str) -> Result<()> {
        let clr = self.session.clr()?;
        if let Some(ahead) = clr.ahead() {
            for mt in self.session.find_types(item)? {
                self.show(out, m, TYPE, loaded(clr, mt))?;
            }
            if let Some(start) = ahead.method_named(item) {
                let name = ahead.method_name(start).unwrap_or_default();
                self.show(out, m, METHOD, Found { method: true, record: None, class: None, name, code: Some(start) })?;
            }
            return Ok(());
        }
        let Some(metadata) = m.metadata(clr) else {
            self.unreadable += 1;
            return Ok(());
        };
        let before = self.found;
        if let Some(rid) = metadata.typedef_by_name(item) {
            let found = of_type(self.session, m, metadata, rid)?;
            self.show(out, m, TYPE | rid, found)?;
        }
        self.instantiation(out, m, item)?;
        for (rid, name) in methods(metadata, item) {
            for method in metadata.methods_of(rid).filter(|&r| metadata.method(r).is_some_and(|x| x.name == name)) {
                let found = of_method(self.session, m, metadata, (rid, method))?;
                self.show(out, m, METHOD | method, found)?;
            }
        }
        if self.found == before {
            self.scanned += 1;
        }
        Ok(())
    }

    /// A closed generic or an array, in either spelling.
    fn instantiation(&mut self, out: &mut Out, m: &Module, item: &str) -> Result<()> {
        if !item.contains(['<', '[']) {
            return Ok(());
        }
        let clr = self.session.clr()?;
        for mt in self.session.find_types(&canonical(item))? {
            let Some(table) = clr.method_table(mt).filter(|t| home(clr, t) == Some(m.address)) else { continue };
            self.show(out, m, TYPE | clr.type_rid(&table), loaded(clr, mt))?;
        }
        Ok(())
    }

    fn token(&mut self, out: &mut Out, m: &Module, token: u32) -> Result<()> {
        let clr = self.session.clr()?;
        let Some(metadata) = m.metadata(clr) else {
            self.unreadable += 1;
            return Ok(());
        };
        let rid = token & 0x00FF_FFFF;
        match token >> 24 {
            2 if metadata.typedef(rid).is_some() => {
                let found = of_type(self.session, m, metadata, rid)?;
                self.show(out, m, token, found)
            }
            6 if metadata.method(rid).is_some() => {
                let owner = metadata.method_owner(rid).unwrap_or(0);
                let found = of_method(self.session, m, metadata, (owner, rid))?;
                self.show(out, m, token, found)
            }
            2 | 6 => {
                self.scanned += 1;
                Ok(())
            }
            _ => bail!("{token:08x} is neither a type (02xxxxxx) nor a method (06xxxxxx)"),
        }
    }
}

/// The module of a type; of an array, that of its elements.
fn home(clr: &Clr, mt: &MethodTable) -> Option<u64> {
    /// Deepest nesting of arrays followed.
    const MAX_DEPTH: usize = 40;
    let mut at = *mt;
    for _ in 0..MAX_DEPTH {
        match clr.method_table(at.per_inst).filter(|_| at.is_array() && at.per_inst & 2 == 0) {
            Some(element) => at = element,
            None => break,
        }
    }
    clr.defining_module(&at)
}

/// Ways to read `item` as type and method: `Type.Method`, and `Type..ctor` where the name itself starts with a dot.
fn methods<'a>(metadata: &Metadata, item: &'a str) -> Vec<(u32, &'a str)> {
    let Some(dot) = item.rfind('.') else { return Vec::new() };
    let split = if item[..dot].ends_with('.') { dot - 1 } else { dot };
    let (Some(owner), Some(name)) = (item.get(..split), item.get(split + 1..)) else { return Vec::new() };
    metadata.typedef_by_name(owner).map(|rid| (rid, name)).into_iter().collect()
}

/// Tokens of the two tables (ECMA-335 II.22.37, II.22.26).
const TYPE: u32 = 0x0200_0000;
const METHOD: u32 = 0x0600_0000;

/// A type or method that matches.
struct Found {
    method: bool,
    /// Its MethodTable or MethodDesc, when it is loaded.
    record: Option<u64>,
    class: Option<u64>,
    name: String,
    code: Option<u64>,
}

impl Found {
    /// What text prints behind the token.
    fn lines(&self) -> Vec<String> {
        let w = digits();
        let title = if self.method { "MethodDesc:  " } else { "MethodTable: " };
        let record = self.record.map_or_else(|| "<not loaded yet>".into(), |at| format!("{at:0w$x}"));
        let mut lines = vec![format!("{title}{record}")];
        lines.extend(self.class.map(|class| format!("EEClass:     {class:0w$x}")));
        lines.push(format!("Name:        {}", self.name));
        if self.method {
            let jitted = |code| format!("JITTED Code Address: {code:0w$x}");
            lines.push(self.code.map_or_else(|| "Not JITTED yet.".into(), jitted));
        }
        lines
    }
}

fn loaded(clr: &Clr, mt: u64) -> Found {
    let class = clr.method_table(mt).and_then(|t| clr.mts().eeclass(clr.space(), &t));
    Found { method: false, record: Some(mt), class, name: clr.type_name_long(mt).to_string(), code: None }
}

fn of_type(session: &Session, m: &Module, metadata: &Metadata, rid: u32) -> Result<Found> {
    Ok(match session.loaded_types()?.of_def(m.address, rid) {
        Some(mt) => loaded(session.clr()?, mt),
        None => Found { method: false, record: None, class: None, name: metadata.full_name(rid), code: None },
    })
}

fn of_method(session: &Session, m: &Module, metadata: &Metadata, (owner, rid): (u32, u32)) -> Result<Found> {
    let clr = session.clr()?;
    let desc = session.loaded_types()?.of_def(m.address, owner).and_then(|mt| method_of(clr, mt, rid));
    let (record, code) = (desc.as_ref().map(|md| md.address), desc.as_ref().and_then(|md| clr.code().entry_of(md)));
    let name = match &desc {
        Some(md) => clr.method_name(md),
        None => metadata.method(rid).map(|r| format!("{}.{}", metadata.full_name(owner), r.name)).unwrap_or_default(),
    };
    Ok(Found { method: true, record, class: None, name, code })
}

fn method_of(clr: &Clr, mt: u64, rid: u32) -> Option<MethodDesc> {
    let table = clr.method_table(mt)?;
    clr.methods(&table).items.into_iter().find(|m| m.rid == rid)
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name) in [
            ("*", "zoo.dll"),
            ("system.p*", "system.private.corelib"),
            ("*.dll", "zoo.dll"),
            ("a*b*c", "aXbYc"),
            ("zoo", "zoo"),
        ] {
            assert!(matches_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("z*o.exe", "zoo.dll"), ("a*b", "ab.c"), ("zoo", "zoo.dll"), ("a*a", "a")] {
            assert!(!matches_pattern(pattern, name), "{pattern} {name}");
        }
    }
}
