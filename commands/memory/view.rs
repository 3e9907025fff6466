//! What all displays of memory share: where they begin, how an element is spelled, where the next one goes on.

use anyhow::Result;

use crate::dump::{AddressSpace, little_endian};
use crate::session::Session;
use crate::shell::{Cell, Col, Ctx, Out, Outcome, Table, Type};

/// Bytes shown when no length is given.
pub const DEFAULT_BYTES: u64 = 128;

/// Elements of a display, one a row.
pub(super) const MEMORY: Table = Table::new("memory", &[ADDRESS, VALUE]);

pub(super) const ADDRESS: Col = Col::left("", "address", 0).of(Type::Address).titled("where it is");
const VALUE: Col = Col::left("", "value", 0).of(Type::Hex).titled("what is there; nothing when the dump lacks it");

/// What one display works on.
pub(super) struct View<'a> {
    pub session: &'a Session,
    /// Bytes of a pointer of the process.
    pub pointer: u8,
    /// The name of the command: the next display without an address goes on with it.
    pub name: &'static str,
}

/// `00007f3a`1c000028`, wide enough for the dump.
pub(super) fn address(view: &View<'_>, a: u64) -> Cell<'static> {
    Cell::AddrTick(a, view.pointer)
}

pub(super) fn element(bytes: Option<&[u8]>, size: u8) -> String {
    let Some(v) = bytes.map(little_endian) else {
        return match size {
            8 => "????????`????????".into(),
            n => "?".repeat(usize::from(n) * 2),
        };
    };
    match size {
        8 => format!("{:08x}`{:08x}", v >> 32, v & 0xFFFF_FFFF),
        n => format!("{v:0w$x}", w = usize::from(n) * 2),
    }
}

/// Where the lines of a display begin, and how many elements each has; none begins behind the end of the address space.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub start: u64,
    /// Elements in all, and bytes of one.
    pub count: u64,
    pub step: u64,
    pub per_line: u64,
}

impl Lines {
    pub fn each(self) -> impl Iterator<Item = (u64, u64)> {
        let firsts = (0..self.count).step_by(self.per_line.max(1) as usize);
        firsts.map_while(move |i| {
            let at = self.start.checked_add(i.checked_mul(self.step)?)?;
            Some((at, self.per_line.min(self.count - i)))
        })
    }
}

/// The rows of `n` elements from `at` on.
pub(super) fn elements(out: &mut Out, view: &View<'_>, at: u64, n: u64, size: u8) -> Result<()> {
    let space = &view.session.dump().space;
    for i in 0..n {
        let a = at.wrapping_add(i * u64::from(size));
        let v = space.slice(a, usize::from(size)).map_or(Cell::None, |b| Cell::Hex(little_endian(b)));
        // Completion remembers where lines begin.
        out.data_row(&MEMORY, &[if i == 0 { address(view, a) } else { Cell::Hex(a) }, v])?;
    }
    Ok(())
}

pub(super) fn outcome(missing: bool) -> Outcome {
    match missing {
        true => Outcome::Partial("question marks are bytes the dump does not hold".into()),
        false => Outcome::Complete,
    }
}

/// Remembers where the next display without an address goes on.
pub(super) fn went(ctx: &mut Ctx<'_>, view: &View<'_>, next: u64) {
    ctx.settings.display = Some((view.name, next));
}

/// The character of `width` bytes at `at`.
pub(super) fn unit(space: &AddressSpace, at: u64, width: u8) -> Option<u16> {
    if width == 1 { space.u8(at).map(u16::from) } else { space.u16(at) }
}

/// The text of characters of `width` bytes at `at`, to its end or `most` of them.
pub(super) fn text(space: &AddressSpace, at: u64, width: u8, most: usize) -> String {
    if width == 1 { space.utf8z(at, most) } else { space.utf16z(at, most) }
}
