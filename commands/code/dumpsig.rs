//! `!dumpsig`, `!dumpsigelem`: a signature in the process's memory.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::clr::Clr;
use crate::clr::image::metadata::rawsig::{self, Names};
use crate::clr::image::metadata::sig::SigNames;
use crate::clr::image::metadata::{Metadata, Token, table};
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

const ARGS: &[Arg] = &[
    Arg::pos("ADDR", Kind::Address, "where the signature lies").required(),
    Arg::pos("MODULE", Kind::Address, "Module whose metadata names the tokens in it"),
];

const RETURNS: Returns = Returns::facts(&[
    Fact::new("address", "where it lies", Type::Address),
    Fact::new("signature", "its elements", Type::Text),
    Fact::new("size", "bytes it takes", Type::Bytes),
]);

/// `!dumpsig ADDR [MODULE]`.
pub const DUMPSIG: Command = Command {
    name: "dumpsig",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "decode the signature of a method, field or local variables in memory",
    help: "Shows the signature at ADDR element by element. Tokens in it are named from the metadata of MODULE (a Module, as \
           !dumpmodule and !name2ee show it); without, they are shown as numbers.",
    args: ARGS,
    examples: &[Example { line: "!dumpsig $SIGNATURE $MODULE", what: "the signature of a method" }],
    needs: Needs::CoreClr,
    returns: RETURNS,
    run: |ctx, args| show(ctx, args, true),
};

/// `!dumpsigelem ADDR [MODULE]`.
pub const DUMPSIGELEM: Command = Command {
    name: "dumpsigelem",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "decode one type of a signature in memory",
    help: "As !dumpsig, but ADDR is where one type of a signature begins.",
    args: ARGS,
    examples: &[Example { line: "!dumpsigelem $SIGNATURE+2 $MODULE", what: "what a method returns" }],
    needs: Needs::CoreClr,
    returns: RETURNS,
    run: |ctx, args| show(ctx, args, false),
};

/// Longest signature read, in bytes.
const MAX_SIGNATURE: usize = 0x4000;

struct Of<'a> {
    clr: &'a Clr,
    metadata: Option<Arc<Metadata>>,
}

impl Names for Of<'_> {
    fn class(&self, token: Token) -> String {
        let rid = token & 0x00FF_FFFF;
        let Some(m) = &self.metadata else { return format!("0x{token:08x}") };
        let found = match (token >> 24) as u8 {
            table::TYPE_DEF => m.typedef(rid).is_some(),
            _ => m.typeref(rid).is_some(),
        };
        if found { SigNames::token(&**m, token) } else { format!("0x{token:08x}") }
    }

    fn handle(&self, handle: u64) -> String {
        self.clr.handle_tree(handle).reflection()
    }
}

fn show(ctx: &mut Ctx<'_>, args: &Args, whole: bool) -> Result<Outcome> {
    let clr = ctx.session()?.clr()?;
    let address = args.number("ADDR").unwrap_or(0);
    let mut bytes = vec![0; MAX_SIGNATURE];
    let n = clr.space().read(address, &mut bytes);
    bytes.truncate(n);
    if bytes.is_empty() {
        return Err(anyhow!("{address:x} is not in the dump"));
    }
    let metadata = match args.number("MODULE") {
        None => None,
        Some(at) => {
            let by_image = clr.assemblies().items.iter().find(|a| clr.module(a.module).image_base == at);
            let module = clr.module(by_image.map_or(at, |a| a.module));
            let m = module.metadata(clr).cloned();
            Some(m.ok_or_else(|| anyhow!("{at:x} is no Module whose metadata is at hand"))?)
        }
    };
    let names = Of { clr, metadata };
    let handle = usize::from(clr.ptr_size());
    let found =
        if whole { rawsig::signature(&bytes, &names, handle) } else { rawsig::one_type(&bytes, &names, handle) };
    let (text, size) = found.ok_or_else(|| anyhow!("Invalid signature: no signature begins at {address:x}"))?;
    ctx.out.datum("address", &Cell::Addr(address));
    ctx.out.datum("size", &Cell::Num(size as u64));
    ctx.out.fact("signature", Cell::text(&text), &text)?;
    Ok(Outcome::Complete)
}
