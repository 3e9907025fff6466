//! `!dumpdelegate`: what a delegate calls.

use anyhow::{Result, bail};

use super::dumpobj::look_up;
use super::fieldtable::known;
use crate::clr::Clr;
use crate::clr::runtime::delegates::{Delegate, DelegateKind};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumpdelegate ADDR`.
pub const DUMPDELEGATE: Command = Command {
    name: "dumpdelegate",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show the targets and methods of a delegate or event",
    help: "One row for each method the delegate calls: the object it is called on (the delegate itself where the method \
           gets all its arguments from the call: a static method, an open instance method, a native function), the \
           MethodDesc and the name. Of an open virtual delegate that is the virtual method: the first argument of \
           each call decides which override runs. A native function shows with its address and library. A method of \
           which nothing but an address is known shows as (unknown).",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the delegate").required()],
    examples: &[Example { line: "!dumpdelegate $DELEGATE", what: "what a delegate calls" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("delegate", "address of the delegate", Type::Address),
        Fact::new("type", "its type", Type::TypeName),
    ])
    .and(&[&TARGETS]),
    run,
};

const TARGETS: Table = Table::new(
    "targets",
    &[
        Col::left("Target", "target", 16).of(Type::Address),
        Col::left("Method", "method", 16).of(Type::Address),
        Col::left("Name", "name", 0),
        Col::data("target_type", Type::TypeName).titled("type of the target"),
        Col::data("kind", Type::Text).titled("how the delegate calls the method"),
        Col::data("code", Type::Address).titled("the code it calls"),
        Col::data("library", Type::Text).titled("file of the library a native function is in"),
    ],
);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let o = look_up(session, args.number("ADDR").unwrap_or(0))?;
    if let Err(why) = clr.delegate_shape() {
        bail!("what a delegate calls cannot be told: {why}");
    }
    let Some(delegate) = clr.delegate(o.address) else {
        bail!("{:x} ({}) is not a delegate", o.address, clr.type_name(o.ty.mt.address))
    };
    ctx.out.datum("delegate", &Cell::Addr(o.address));
    ctx.out.datum("type", &Cell::text(&*clr.type_name(o.ty.mt.address)));
    ctx.out.open(&TARGETS)?;
    let mut unknown = 0u64;
    let invoked = clr.invoked(&delegate);
    for d in &invoked.items {
        session.watch.cancel.check()?;
        let method = Method::of(clr, d);
        unknown += u64::from(method == Method::Unknown);
        let ty = clr.object_type(d.target).map(|mt| clr.type_name(mt));
        let shown = if method == Method::Unknown { "(unknown)".into() } else { method.words(d) };
        let library = if let Method::Native(library) = &method { library.as_deref() } else { None };
        ctx.out.row(&[
            Cell::AddrPad(d.target, 16),
            known(method.address()),
            Cell::shown(shown, Cell::maybe(method.name())),
            Cell::maybe(ty.as_deref()),
            Cell::text(d.kind.name()),
            Cell::at(d.code),
            Cell::maybe(library),
        ])?;
    }
    Ok(match invoked.partial {
        Some(why) => Outcome::Partial(why),
        None if unknown == 1 => Outcome::Partial("the code of one method is known by its address only".into()),
        None if unknown > 0 => Outcome::Partial(format!("the code of {unknown} methods is known by its address only")),
        None => Outcome::Complete,
    })
}

/// What a single delegate calls.
#[derive(Debug, PartialEq, Eq)]
pub enum Method {
    /// A method with this MethodDesc, 0 when there is none, and name.
    Managed(u64, String),
    /// A native function, in this file.
    Native(Option<String>),
    /// Nothing is known but an address.
    Unknown,
}

impl Method {
    /// What `d` calls.
    pub fn of(clr: &Clr, d: &Delegate) -> Self {
        if d.kind == DelegateKind::Unmanaged {
            return Self::Native(clr.dump.module_at(d.code).map(|m| m.file_name().to_owned()));
        }
        match clr.delegate_method(d) {
            Some(md) => Self::Managed(md.address, clr.method_name(&md)),
            None => clr.delegate_name(d).map_or(Self::Unknown, |name| Self::Managed(0, name)),
        }
    }

    /// The name alone.
    pub fn name(&self) -> Option<&str> {
        if let Self::Managed(_, name) = self { Some(name) } else { None }
    }

    fn address(&self) -> u64 {
        if let Self::Managed(address, _) = self { *address } else { 0 }
    }

    /// The name with what else is to be said of it; empty when it is unknown.
    pub fn words(&self, d: &Delegate) -> String {
        match self {
            Self::Managed(address, name) if *address != 0 && d.kind == DelegateKind::OpenVirtual => {
                format!("{name} (virtual: the first argument decides)")
            }
            Self::Managed(_, name) => name.clone(),
            Self::Native(library) => {
                let image = library.as_ref().map(|l| format!(" in {l}"));
                format!("unmanaged function {:x}{}", d.code, image.unwrap_or_default())
            }
            Self::Unknown => String::new(),
        }
    }
}

/// MethodDesc (0 when there is none) and name of what a single delegate calls; no name when nothing is known but an address.
pub fn called(clr: &Clr, d: &Delegate) -> (u64, Option<String>) {
    let method = Method::of(clr, d);
    let name = (method != Method::Unknown).then(|| method.words(d));
    (method.address(), name)
}

/// Type and name of the method a delegate calls, without its parameters: of a list, that of its first entry.
pub fn called_method(clr: &Clr, delegate: u64) -> Option<String> {
    let invoked = clr.invoked(&clr.delegate(delegate)?);
    let first = invoked.items.first()?;
    let Some(method) = clr.delegate_method(first) else {
        return called(clr, first).1;
    };
    let name = clr.method_name(&method);
    match name.strip_prefix(&*clr.type_name_long(method.owner)) {
        Some(rest) => Some(format!("{}{}", clr.type_name(method.owner), rest.split('(').next().unwrap_or(rest))),
        None => Some(name.split('(').next().unwrap_or(&name).to_owned()),
    }
}
