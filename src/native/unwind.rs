//! From a frame of native code to its caller.

use super::context::Context;
use super::image::{Format, Image};
pub use super::step::{End, Stepped};
use super::{Native, cfi, xdata};
use crate::dump::Arch;

/// Most frames of a stack walked.
pub const MOST_FRAMES: usize = 1 << 14;
/// Most times that a walk may leave one stack for another: a signal handler has a stack of its own.
const MOST_STACKS: usize = 16;

/// What unwinds the frames of an image.
#[derive(Debug)]
pub enum Unwinder {
    /// `.eh_frame`.
    Cfi(Box<cfi::Cfi>),
    /// `.pdata` of PE images: address and size of the table.
    Pdata(u32, u32),
    /// Nothing at hand.
    None,
}

impl Unwinder {
    fn of(native: &Native, image: &Image) -> Self {
        const EXCEPTIONS: usize = 3;
        let dump = native.dump();
        match &image.format {
            Format::Elf(_) => {
                let found = cfi::Cfi::find(&dump.space, dump.arch, image);
                found.map_or(Unwinder::None, |c| Unwinder::Cfi(Box::new(c)))
            }
            Format::Pe(pe) => match pe.directory(EXCEPTIONS) {
                Some((at, size)) if matches!(dump.arch, Arch::X64 | Arch::Arm64) => Unwinder::Pdata(at, size),
                _ => Unwinder::None,
            },
            Format::Unknown => Unwinder::None,
        }
    }
}

impl Native {
    pub(super) fn unwinder<'a>(&'a self, image: &'a super::Opened) -> &'a Unwinder {
        image.unwinder.get_or_init(|| Unwinder::of(self, &image.image))
    }

    /// The caller of a frame. `exact`: its instruction pointer is where execution stands, not a return address.
    pub fn step(&self, from: &Context, exact: bool) -> Result<Stepped, End> {
        let lookup = if exact { from.ip } else { from.ip.wrapping_sub(1) };
        let image = self.image_at(lookup).ok_or(End::NoImage(from.ip))?;
        let read = |a: u64| self.word(a);
        let described = match self.unwinder(image) {
            Unwinder::Cfi(cfi) => cfi.step(from, lookup, &read),
            Unwinder::Pdata(at, size) => {
                let code =
                    xdata::Code { space: &self.dump().space, image: &image.image, table: (*at, *size), read: &read };
                match from.arch {
                    Arch::X64 => super::unwindinfo::step(&code, from, lookup, exact),
                    _ => xdata::step(&code, from, lookup, exact),
                }
            }
            Unwinder::None => None,
        };
        let stepped = match described {
            Some(found) => found?,
            None => self.by_frame_pointer(from).ok_or_else(|| self.no_data(&image.image, from))?,
        };
        if stepped.context.ip == 0 {
            return Err(End::Bottom);
        }
        let same = stepped.context.ip == from.ip && stepped.context.sp() == from.sp();
        let back = !stepped.exact && !exact && stepped.context.sp() <= from.sp();
        if same || back { Err(End::Stuck) } else { Ok(stepped) }
    }

    fn no_data(&self, image: &Image, from: &Context) -> End {
        if from.arch == Arch::Arm {
            return End::Processor("32-bit ARM");
        }
        let path = self.dump().modules.get(image.index).map(|m| m.path.clone()).unwrap_or_default();
        End::NoUnwindData { module: image.name.clone(), path, offset: from.ip.wrapping_sub(image.base) }
    }

    /// The caller by the chain of frame pointers, if it leads up the stack to an address in the code of a module.
    fn by_frame_pointer(&self, from: &Context) -> Option<Stepped> {
        const MOST_FRAME: u64 = 1 << 20;
        let step = u64::from(from.arch.pointer_size());
        let fp = from.fp().filter(|&fp| fp >= from.sp() && fp - from.sp() < MOST_FRAME && fp % step == 0)?;
        let (next, ip) = (self.word(fp)?, self.word(fp.checked_add(step)?)?);
        let ip = Context::plain_address(from.arch, ip);
        self.is_code(ip.wrapping_sub(1)).then_some(())?;
        let mut context = Context::new(from.arch, ip, fp.checked_add(2 * step)?);
        context.set_fp(Some(next));
        Some(Stepped { context, exact: false, guessed: true })
    }

    /// Whether `address` is in executable memory of a module, as far as the memory map tells.
    pub fn is_code(&self, address: u64) -> bool {
        const EXECUTABLE: u32 = 0xF0;
        let in_module = self.dump().module_at(address).is_some();
        in_module && self.dump().map_at(address).is_none_or(|e| e.protect & EXECUTABLE != 0)
    }

    /// Walks from `start`, whose instruction pointer is where execution stands: the frames, the first one being `start`
    /// itself, and why they end. At most `most` frames.
    pub fn walk(&self, start: Context, most: usize) -> (Vec<Stepped>, End) {
        let mut frames = vec![Stepped { context: start, exact: true, guessed: false }];
        let mut walk = Walk::default();
        loop {
            let Some(last) = frames.last().copied() else { return (frames, End::Limit) };
            if frames.len() >= most.clamp(1, MOST_FRAMES) {
                return (frames, End::Limit);
            }
            match walk.next(self, &last) {
                Ok(next) => frames.push(next),
                Err(end) => return (frames, end),
            }
        }
    }

    /// Walks native frames from `start` (a return address unless `exact`) to the first whose instruction pointer `accept`
    /// takes: its registers, and whether a frame on the way was guessed, so that registers may be wrong. At most `most` steps.
    pub fn walk_to(
        &self,
        start: Context,
        exact: bool,
        most: usize,
        mut accept: impl FnMut(u64) -> bool,
    ) -> Result<Stepped, End> {
        let mut at = Stepped { context: start, exact, guessed: false };
        let mut walk = Walk::default();
        for _ in 0..most.min(MOST_FRAMES) {
            if accept(at.context.ip) {
                return Ok(at);
            }
            let guessed = at.guessed;
            at = walk.next(self, &at)?;
            at.guessed |= guessed;
        }
        if accept(at.context.ip) { Ok(at) } else { Err(End::Limit) }
    }
}

/// What a walk remembers so that it ends.
#[derive(Debug, Default)]
pub struct Walk {
    stacks: usize,
}

impl Walk {
    /// The caller of `from`. The stack pointer rises with every frame but those that another stack begins with.
    pub fn next(&mut self, native: &Native, from: &Stepped) -> Result<Stepped, End> {
        let next = native.step(&from.context, from.exact)?;
        if next.context.sp() <= from.context.sp() {
            // The callee of an interrupted instruction, or a function that has pushed nothing.
            self.stacks += 1;
            if self.stacks > MOST_STACKS {
                return Err(End::Stuck);
            }
        }
        Ok(next)
    }
}
