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
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits};

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
    returns: Returns::NOTHING,
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
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: token2ee,
};

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
    let mut search = Search { session, all, scanned: 0, found: 0, unreadable: 0 };
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
    let mut search = Search { session, all: module.contains('*'), scanned: 0, found: 0, unreadable: 0 };
    for m in &modules {
        search.token(ctx.out, m, token)?;
    }
    search.finish(ctx.out)
}

struct Search<'a> {
    session: &'a Session,
    all: bool,
    scanned: usize,
    found: usize,
    unreadable: usize,
}

impl Search<'_> {
    fn finish(&self, out: &mut Out) -> Result<Outcome> {
        if self.scanned > 0 && self.all {
            out.line(format!("Scanned {} modules which had no matches.", self.scanned))?;
        }
        if self.unreadable > 0 {
            return Ok(Outcome::Partial(format!("the metadata of {} modules is not in the dump", self.unreadable)));
        }
        Ok(if self.found == 0 { Outcome::Empty } else { Outcome::Complete })
    }

    fn head(&mut self, out: &mut Out, m: &Module) -> Result<()> {
        if self.found > 0 {
            out.line("--------------------------------------")?;
        }
        self.found += 1;
        let clr = self.session.clr()?;
        out.line(format!("Module:      {:0w$x}", m.address, w = digits()))?;
        let name = if m.path.is_empty() { m.display_name(clr) } else { m.file_name().to_owned() };
        out.line(format!("Assembly:    {name}"))?;
        Ok(())
    }

    fn name(&mut self, out: &mut Out, m: &Module, item: &str) -> Result<()> {
        let clr = self.session.clr()?;
        let Some(metadata) = m.metadata(clr) else {
            self.unreadable += 1;
            return Ok(());
        };
        let before = self.found;
        if let Some(rid) = metadata.typedef_by_name(item) {
            self.head(out, m)?;
            type_lines(self.session, out, m, metadata, rid)?;
        }
        self.instantiation(out, m, item)?;
        for (rid, name) in methods(metadata, item) {
            for method in metadata.methods_of(rid).filter(|&r| metadata.method(r).is_some_and(|x| x.name == name)) {
                self.head(out, m)?;
                method_lines(self.session, out, m, rid, method)?;
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
            self.head(out, m)?;
            out.line(format!("Token:       {:0w$x}", 0x0200_0000 | u64::from(clr.type_rid(&table)), w = digits()))?;
            loaded_lines(clr, out, mt)?;
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
                self.head(out, m)?;
                type_lines(self.session, out, m, metadata, rid)
            }
            6 if metadata.method(rid).is_some() => {
                self.head(out, m)?;
                let owner = metadata.method_owner(rid).unwrap_or(0);
                method_lines(self.session, out, m, owner, rid)
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

fn loaded_lines(clr: &Clr, out: &mut Out, mt: u64) -> Result<()> {
    out.line(format!("MethodTable: {mt:0w$x}", w = digits()))?;
    if let Some(class) = clr.method_table(mt).and_then(|t| clr.mts().eeclass(clr.space(), &t)) {
        out.line(format!("EEClass:     {class:0w$x}", w = digits()))?;
    }
    out.line(format!("Name:        {}", clr.type_name_long(mt)))?;
    Ok(())
}

fn type_lines(session: &Session, out: &mut Out, m: &Module, metadata: &Metadata, rid: u32) -> Result<()> {
    out.line(format!("Token:       {:0w$x}", 0x0200_0000 | u64::from(rid), w = digits()))?;
    match session.loaded_types()?.of_def(m.address, rid) {
        Some(mt) => loaded_lines(session.clr()?, out, mt),
        None => {
            out.line("MethodTable: <not loaded yet>")?;
            out.line(format!("Name:        {}", metadata.full_name(rid)))?;
            Ok(())
        }
    }
}

fn method_lines(session: &Session, out: &mut Out, m: &Module, owner: u32, rid: u32) -> Result<()> {
    let clr = session.clr()?;
    out.line(format!("Token:       {:0w$x}", 0x0600_0000 | u64::from(rid), w = digits()))?;
    let desc = session.loaded_types()?.of_def(m.address, owner).and_then(|mt| method_of(clr, mt, rid));
    match desc {
        Some(md) => {
            out.line(format!("MethodDesc:  {:0w$x}", md.address, w = digits()))?;
            out.line(format!("Name:        {}", clr.method_name(&md)))?;
            match clr.native_code(&md) {
                Some(code) => out.line(format!("JITTED Code Address: {code:0w$x}", w = digits()))?,
                None => out.line("Not JITTED yet.")?,
            }
        }
        None => {
            let metadata = m.metadata(clr);
            let name = metadata.and_then(|x| x.method(rid).map(|r| format!("{}.{}", x.full_name(owner), r.name)));
            out.line("MethodDesc:  <not loaded yet>")?;
            out.line(format!("Name:        {}", name.unwrap_or_default()))?;
            out.line("Not JITTED yet.")?;
        }
    }
    Ok(())
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
