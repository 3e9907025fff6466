//! Where frames of x86 code hold references.
//!
//! Source: dotnet/coreclr release/3.1 `src/vm/eetwain.cpp` (`EnumGcRefs` of x86).

use super::super::x86::{base_of, running};
use super::super::{Frame, registers};
use super::{Asked, Collector, LiveSlot};
use crate::clr::code::gcinfo::Stop;
use crate::clr::code::gcinfo::x86::{FrameInfo, From, Held};
use crate::clr::code::lookup::CodeAt;
use crate::dump::Arch;
use crate::native::x64::Memory;

const ESP: usize = 4;
const EBP: usize = 5;
/// Words of arguments of a method with a variable number of them: the caller's signature tells how many there are, which is not
/// followed.
const VARARGS: u64 = 64;

/// Where slots of a frame are counted from.
struct Bases {
    sp: u64,
    fp: Option<u64>,
    /// Stack pointer without pushed arguments.
    base: Option<u64>,
    first_pushed: Option<u64>,
}

impl Collector<'_> {
    /// What the frame of the method described by `info` holds; `None` where that is not known.
    pub(super) fn managed_x86(
        &mut self,
        index: usize,
        (frame, at): (&Frame, &CodeAt),
        info: &FrameInfo,
        asked: Asked,
    ) -> Option<()> {
        let reader = super::super::reader::Reader::new(self.clr);
        let context = frame.registers?;
        let h = &info.header;
        let mut offset = at.native;
        let mut handler = None;
        if h.handlers && !info.in_prolog(offset) {
            let now = running(&reader, h, context.get(EBP)?, frame.sp)?;
            if now.asked {
                return Some(());
            }
            // A filter may have run since: what was live where it ended is.
            offset = now.ended.and_then(|e| e.checked_sub(1)).filter(|&e| e < h.length).unwrap_or(offset);
            handler = Some(now.base);
        }
        let held = info.live(offset, asked.stop)?;
        let bases = self.bases(&reader, frame, (info, offset), handler);
        for slot in held {
            match self.address(&bases, &slot) {
                Some(None) => {
                    let Some(value) = slot.place.ok().and_then(|n| context.get(n)) else {
                        // A register that was lost below lies there.
                        self.unknown(asked.below.0, asked.below.1);
                        continue;
                    };
                    let register = slot.place.ok().and_then(|n| registers::names(Arch::X86).get(n).copied());
                    let (interior, pinned) = (slot.interior, slot.pinned);
                    self.push_x86(LiveSlot {
                        frame: index,
                        register,
                        offset: None,
                        address: 0,
                        value,
                        interior,
                        pinned,
                    });
                }
                Some(Some((register, distance, address))) => {
                    let value = reader.pointer(address).unwrap_or(0);
                    let (register, interior, pinned) = (Some(register), slot.interior, slot.pinned);
                    let offset = Some(distance);
                    self.push_x86(LiveSlot { frame: index, register, offset, address, value, interior, pinned });
                }
                None => self.guess(index, frame),
            }
        }
        if h.varargs && asked.stop == Stop::Return {
            let from = frame.caller_sp.unwrap_or(frame.sp);
            self.unknown(from, from.saturating_add(4 * VARARGS).min(self.top));
        }
        Some(())
    }

    fn push_x86(&mut self, slot: LiveSlot) {
        self.out.slots.push(slot);
    }

    fn bases(
        &self,
        memory: &impl Memory,
        frame: &Frame,
        (info, offset): (&FrameInfo, u32),
        handler: Option<u64>,
    ) -> Bases {
        let (sp, fp) = (frame.sp, frame.registers.and_then(|r| r.get(EBP)));
        let h = &info.header;
        let base = if h.frame { None } else { info.pushed(offset).and_then(|p| sp.checked_add(u64::from(p))) };
        let first_pushed = match h.frame {
            false => base.and_then(|b| b.checked_sub(4)),
            true => handler.or_else(|| base_of(memory, h, fp?)).and_then(|b| b.checked_sub(4)),
        };
        Bases { sp, fp, base, first_pushed }
    }

    /// The slot's register, distance from it and address; nothing inside for a register, nothing at all where what it is counted
    /// from is not known.
    fn address(&self, bases: &Bases, slot: &Held) -> Option<Option<(&'static str, i32, u64)>> {
        let Err(from) = slot.place else { return Some(None) };
        let (number, register, base) = match from {
            From::Frame => (EBP, bases.fp?, bases.fp?),
            From::Base => (ESP, bases.sp, bases.base?),
            From::Sp => (ESP, bases.sp, bases.sp),
            From::FirstPushed => (ESP, bases.sp, bases.first_pushed?),
        };
        let address = base.checked_add_signed(slot.distance.into())?;
        let distance = i32::try_from(i64::try_from(address).ok()? - i64::try_from(register).ok()?).ok()?;
        Some(Some((registers::names(Arch::X86).get(number)?, distance, address)))
    }
}
