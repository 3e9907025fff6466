//! Which types a question is about, and whether they have the fields it names: seen before an object is looked at.

use std::sync::Arc;

use anyhow::{Result, bail};
use rustc_hash::FxHashMap;

use super::plan::{self, Leaf, Made, Own, Part, Path, Then};
use super::query::From;
use crate::clr::Clr;
use crate::clr::types::fields::et;
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::canonical;
use crate::commands::heap::filter::holds;
use crate::heap::TypeInfo;
use crate::session::Session;
use crate::shell::Type;
use crate::shell::expr::pattern::Pattern;
use crate::shell::pipes::columns::Wrong;
use crate::shell::pipes::condition::{Asked, Op, fits};
use crate::shell::pipes::name::Name;
use crate::shell::words::SyntaxError;

/// Most names said of an error.
const MOST_NAMES: usize = 60;

/// The types whose objects are looked at.
#[derive(Debug, Clone)]
pub struct Types {
    /// By number of the type.
    pub wanted: Vec<bool>,
    /// Those of them.
    pub all: Vec<Arc<TypeInfo>>,
}

/// How names of types are held against what is asked for.
pub enum Like {
    /// Part of it, case counts.
    Part(String),
    /// All of it, in either spelling.
    Exact(String),
    /// `*` and `?` in it stand for others.
    Pattern(Pattern),
}

impl Like {
    /// What a part of a name as typed means.
    pub fn part(text: &str) -> Self {
        match text.contains(['*', '?']) {
            // Arrays have brackets in their names.
            true => Like::Pattern(Pattern::new(&text.replace('[', "\\["))),
            false => Like::Part(text.to_owned()),
        }
    }

    /// What stands behind `from`.
    pub fn of(from: &From) -> Self {
        match from.exact {
            true => Like::Exact(canonical(&from.text.text).into_owned()),
            false => Self::part(&from.text.text),
        }
    }

    /// Whether it means the type `mt`.
    pub fn takes(&self, clr: &Clr, mt: u64) -> bool {
        let names = clr.type_names(mt);
        match self {
            Like::Part(p) => holds(&names.short, p) || holds(&names.long, p),
            Like::Exact(e) => *canonical(&names.short) == **e,
            Like::Pattern(p) => p.fits(names.short.chars()) || p.fits(names.long.chars()),
        }
    }

    /// Whether it means the interface of this name in metadata.
    fn takes_name(&self, name: &str) -> bool {
        match self {
            Like::Part(p) => holds(name, p),
            Like::Exact(e) => name == e,
            Like::Pattern(p) => p.fits(name.chars()),
        }
    }
}

/// Which relatives of a type are meant with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// None.
    Itself,
    /// What derives from it.
    Derived,
    /// What derives from it or implements it.
    Implementing,
}

/// The types of the heap that are meant: `mt` alone where there is one, and their `kin`.
pub fn wanted(session: &Session, like: Option<&Like>, mt: Option<u64>, kin: Kin) -> Result<Types> {
    session.stat()?;
    let clr = session.clr()?;
    let own = |at: u64| mt.is_none_or(|mt| at == mt) && like.is_none_or(|l| l.takes(clr, at));
    // Classes share their bases: each is asked about its interfaces once.
    let mut known: FxHashMap<u64, bool> = FxHashMap::default();
    let mut implements = |mt: &MethodTable| {
        *known
            .entry(mt.address)
            .or_insert_with(|| like.is_some_and(|l| clr.declared_interfaces(mt).iter().any(|name| l.takes_name(name))))
    };
    let mut takes = |t: &TypeInfo| match kin {
        Kin::Itself => own(t.mt.address),
        Kin::Derived => clr.class_chain(t.mt.address).any(|m| own(m.address)),
        Kin::Implementing => clr.class_chain(t.mt.address).any(|m| own(m.address) || implements(&m)),
    };
    let free = matches!(like, Some(Like::Exact(_))) || mt.is_some();
    let all: Vec<Arc<TypeInfo>> =
        session.types().all().into_iter().filter(|t| (free || !t.is_free) && takes(t)).collect();
    let mut wanted = vec![false; session.types().len()];
    for t in &all {
        if let Some(w) = wanted.get_mut(t.id as usize) {
            *w = true;
        }
    }
    Ok(Types { wanted, all })
}

/// What is said when no type is meant.
pub fn none(session: &Session, like: Option<&Like>, kin: Kin, from: &str) -> Result<()> {
    let clr = session.clr()?;
    if kin == Kin::Implementing && clr.ahead().is_some() {
        bail!(
            "no type on the heap derives from or implements {from}; a NativeAOT program has those interfaces that it asks for"
        );
    }
    let lower = from.to_lowercase();
    let near =
        session.types().all().iter().map(|t| clr.type_name(t.mt.address)).find(|n| n.to_lowercase().contains(&lower));
    match (near, like) {
        (Some(n), _) if !from.is_empty() => bail!("no type on the heap is called so; there is {n}"),
        (_, Some(Like::Exact(_))) => bail!("no type on the heap is called {from}"),
        _ => bail!("no type on the heap has {from} in its name"),
    }
}

/// What a path is in the types asked about.
#[derive(Debug, Clone)]
pub struct Found {
    /// What its values are.
    pub ty: Type,
    /// Where all are of one enum: its leaf.
    leaf: Option<Leaf>,
}

/// Looks a path up in the types; the error says which fields there are.
pub fn resolve(session: &Session, types: &Types, path: &Path, name: &Name) -> Result<Found, SyntaxError> {
    let parts = match path {
        Path::Own(own) => return Ok(Found { ty: of_own(*own), leaf: None }),
        Path::Fields(parts) => parts,
    };
    let mut at: Vec<u64> = types.all.iter().map(|t| t.mt.address).collect();
    let mut first = 0;
    // Each round follows one reference more.
    loop {
        let made: Vec<Made> = at.iter().map(|&mt| plan::make(session, mt, parts, first)).collect();
        let values: Vec<&Leaf> =
            made.iter().filter_map(|m| if let Then::Value(l) = &m.plan.then { Some(l) } else { None }).collect();
        if !values.is_empty() {
            let ty = values.iter().map(|l| of_leaf(session, l)).reduce(|a, b| if a == b { a } else { Type::Content });
            let leaf =
                if values.iter().all(|l| l.names.is_some()) { values.first().map(|l| (*l).clone()) } else { None };
            return Ok(Found { ty: ty.unwrap_or(Type::Content), leaf });
        }
        let follow = made.iter().find_map(|m| if let Then::Follow(n) = m.plan.then { Some(n) } else { None });
        let Some(next) = follow else { return Err(missing(session, &at, parts, first, name)) };
        let mut declared: Vec<u64> = made.iter().map(|m| m.declared).filter(|&d| d != 0).collect();
        declared.sort_unstable();
        declared.dedup();
        // A field may hold what derives from its type.
        let has = |mt: u64| !matches!(plan::make(session, mt, parts, next).plan.then, Then::Nothing);
        let open = declared.is_empty() || !declared.iter().any(|&d| has(d));
        if open {
            let derives = |mt: u64| {
                let clr = session.clr().ok();
                let loose = |d: &u64| {
                    clr.is_some_and(|c| *d == c.known.object || c.method_table(*d).is_some_and(|m| m.is_interface()))
                };
                declared.is_empty()
                    || declared.iter().any(loose)
                    || clr.is_some_and(|c| c.class_chain(mt).any(|m| declared.contains(&m.address)))
            };
            let on_heap = session.types().all();
            let further: Vec<u64> = on_heap.iter().map(|t| t.mt.address).filter(|&mt| derives(mt) && has(mt)).collect();
            if further.is_empty() {
                return Err(missing(session, &declared, parts, next, name));
            }
            declared = further;
        }
        (at, first) = (declared, next);
    }
}

/// Says which fields there are in place of one that no type has.
fn missing(session: &Session, types: &[u64], parts: &[Part], first: usize, name: &Name) -> SyntaxError {
    // The first part that no type has, structs on the way included.
    let works = |n: usize| {
        let parts = parts.get(..n).unwrap_or(parts);
        types.iter().any(|&mt| !matches!(plan::make(session, mt, parts, first).plan.then, Then::Nothing))
    };
    let good = (first + 1..=parts.len()).take_while(|&n| works(n)).last().unwrap_or(first);
    let what = match parts.get(good) {
        Some(Part::Element(_)) => "an element".to_owned(),
        Some(Part::Field(f)) => format!("a field `{f}`"),
        None => "such a field".to_owned(),
    };
    let clr = session.clr().ok();
    let of = |mt: u64| clr.map_or_else(String::new, |c| c.type_name(mt).to_string());
    let inner = |mt: &u64| match good > first {
        true => match plan::make(session, *mt, parts.get(..good)?, first) {
            Made { declared, plan } if matches!(plan.then, Then::Value(_)) && declared != 0 => Some(declared),
            _ => None,
        },
        false => Some(*mt),
    };
    let Some(at) = types.iter().find_map(inner) else {
        return SyntaxError { column: name.column, what: format!("`{}`: nothing here has {what}", name.text) };
    };
    let mut names = plan::names(session, at);
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let there =
        if names.is_empty() { "it has none".to_owned() } else { format!("there are {}{more}", names.join(", ")) };
    SyntaxError { column: name.column, what: format!("{} has not {what}: {there}", of(at)) }
}

fn of_own(own: Own) -> Type {
    match own {
        Own::Address | Own::Owner | Own::MethodTable => Type::Address,
        Own::Size | Own::Retained => Type::Bytes,
        Own::Generation => Type::Text,
        Own::Type | Own::OwnerType => Type::TypeName,
        Own::Value => Type::Content,
    }
}

fn of_leaf(session: &Session, leaf: &Leaf) -> Type {
    match leaf.element {
        _ if leaf.names.is_some() => Type::Text,
        et::BOOLEAN => Type::Bool,
        et::I1..=et::R8 => Type::Number,
        et::I | et::U | et::PTR | et::FNPTR => Type::Hex,
        // What a variable of such a type holds may be anything.
        et::CLASS | et::SZARRAY | et::ARRAY if !is_loose(session, leaf.mt) => Type::Address,
        _ => Type::Content,
    }
}

fn is_loose(session: &Session, mt: u64) -> bool {
    let Ok(clr) = session.clr() else { return true };
    mt == 0 || mt == clr.known.object || mt == clr.known.string || clr.method_table(mt).is_none_or(|m| m.is_interface())
}

/// Whether a comparison with a value as typed means something for a path; the error says what was expected.
pub fn asks(found: &Found, name: &Name, asked: Asked<'_>) -> Result<(), SyntaxError> {
    if let (Some(Leaf { names: Some(names), .. }), Asked::Compared(op, l)) = (&found.leaf, asked)
        && !matches!(op, Op::Contains | Op::Lacks)
        && l.decimal.is_none()
        && names.value_of(&l.text).is_none()
    {
        let all: Vec<&str> = names.names().take(MOST_NAMES).collect();
        let what = format!("expected a number or one of {}, not `{}`", all.join(", "), l.text);
        return Err(SyntaxError { column: l.column, what });
    }
    fits(found.ty, name, asked).map_err(|w| match w {
        Wrong::Value { column, what } => SyntaxError { column, what },
        Wrong::NoColumn(n) => SyntaxError { column: n.column, what: format!("no field `{}`", n.text) },
    })
}
