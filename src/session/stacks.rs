//! What commands say of the frames of a managed stack: names, lines, arguments and locals.

use std::sync::Arc;

use crate::clr::Clr;
use crate::clr::code::debuginfo::Location;
use crate::clr::code::lookup::CodeAt;
use crate::clr::code::stack::{Frame, registers};
use crate::clr::image::metadata::debug::SourceLine;
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::fields::{Element, et};
use crate::dump::Arch;
use crate::dump::little_endian;
use crate::session::Session;
use crate::session::signature::Signature;

/// Where a variable of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The code keeps it nowhere at this place, or does not say where.
    Nowhere,
    /// In a register, whose value may be lost.
    Register(&'static str),
    /// In memory.
    Memory(u64),
}

/// An argument or a local.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameVariable {
    /// Whether it is an argument, `this` among them.
    pub argument: bool,
    /// Number among its kind.
    pub number: usize,
    /// Its name; of a local empty without symbols.
    pub name: String,
    /// Name of its type as far as it is known.
    pub type_name: String,
    /// How its value is read.
    pub element: Option<Element>,
    /// Where it is.
    pub place: Place,
    /// Its value as a number, cut to its size; of a struct its first word.
    pub value: Option<u64>,
}

impl Session {
    /// The managed thread with the operating system's id.
    pub fn clr_thread(&self, os_id: u64) -> Option<&ClrThread> {
        let threads = &self.clr().ok()?.threads().items;
        threads.iter().find(|t| t.os_id == os_id && os_id != 0)
    }

    /// Full name of the method of a managed frame as SOS prints it, with the exact type arguments where the frame tells them
    /// and `exact` asks for them, else with those its code is shared for; `None` where nothing names it.
    pub fn frame_name(&self, frame: &Frame, exact: bool) -> Option<String> {
        let clr = self.clr().ok()?;
        let told = exact.then(|| clr.exact_instantiation(frame)).flatten();
        if let Some((e, md)) = told.and_then(|e| Some((e, clr.method_desc(e.method)?))) {
            return Some(clr.method_name_in(&md, e.owner));
        }
        clr.code().name(frame.code.as_ref()?)
    }

    /// The source line a frame stands at, where symbols are at hand.
    pub fn frame_line(&self, frame: &Frame) -> Option<SourceLine> {
        let code = self.clr().ok()?.code();
        code.line(frame.code.as_ref()?, frame.il_offset(code)?)
    }

    /// Arguments and locals of a managed frame, in the order of their numbers.
    pub fn frame_variables(&self, frame: &Frame) -> Vec<FrameVariable> {
        let (Ok(clr), Some(at)) = (self.clr(), frame.code.as_ref()) else { return Vec::new() };
        variables(clr, frame, at)
    }
}

fn variables(clr: &Arc<Clr>, frame: &Frame, at: &CodeAt) -> Vec<FrameVariable> {
    let code = clr.code();
    let signature = Signature::of(clr, at, frame.il_offset(code));
    let info = code.debug_info(at).unwrap_or_default();
    let recorded = info.vars.iter().filter_map(|v| usize::try_from(v.number).ok()).map(|n| n + 1).max().unwrap_or(0);
    let arguments = signature.arguments.len();
    // Without a signature the record alone tells how many there are.
    let count = if signature.known { (arguments + signature.locals.len()).max(recorded) } else { recorded };
    // What lives while a call is under way lives in front of where it returns to.
    let before = at.native.checked_sub(1).filter(|_| !frame.leaf);
    let mut all = Vec::with_capacity(count.min(1 << 16));
    for number in 0..count.min(1 << 16) {
        let of = || info.vars.iter().filter(|v| usize::try_from(v.number) == Ok(number));
        let live = before.and_then(|b| of().find(|v| (v.start..v.end).contains(&b)));
        let live = live.or_else(|| of().find(|v| (v.start..v.end).contains(&at.native)));
        let (name, type_name, element) = signature.variable(number as i32);
        let argument = number < arguments;
        let slot = number.saturating_sub(arguments);
        let name = match argument {
            true => name,
            false => signature.local_name(slot).unwrap_or_default().to_owned(),
        };
        let (place, raw) = live.map_or((Place::Nowhere, None), |v| value(clr, frame, v.location, element));
        let number = if argument { number } else { slot };
        let value = raw.map(|v| v & mask(clr, element));
        all.push(FrameVariable { argument, number, name, type_name, element, place, value });
    }
    narrow(clr, &mut all);
    all
}

/// Cuts values whose type is not known to the room there is: up to the next variable, and as they are aligned.
fn narrow(clr: &Clr, all: &mut [FrameVariable]) {
    let at = |v: &FrameVariable| if let Place::Memory(at) = v.place { Some(at) } else { None };
    let mut places: Vec<u64> = all.iter().filter_map(at).collect();
    places.sort_unstable();
    for v in all.iter_mut().filter(|v| v.element.is_none()) {
        let Some(at) = at(v) else { continue };
        let next = places.get(places.partition_point(|&p| p <= at)).copied().unwrap_or(u64::MAX);
        let fits = |size: &u64| at.is_multiple_of(*size) && *size <= next - at && *size <= clr.header();
        v.value = [8, 4, 2, 1].into_iter().find(fits).and_then(|size| read(clr, at, size));
    }
}

/// Where a location is in the frame, and the word there.
fn value(clr: &Clr, frame: &Frame, location: Location, element: Option<Element>) -> (Place, Option<u64>) {
    let arch = clr.dump.arch;
    let known = |n: u32| frame.registers.and_then(|r| base(arch, n).map_or(Some(r.sp()), |n| r.get(n)));
    let name = |n: u32| base(arch, n).and_then(|n| registers::names(arch).get(n)).copied().unwrap_or("sp");
    let memory = |at: Option<u64>| match at {
        Some(at) => (Place::Memory(at), read(clr, at, size(clr, element))),
        None => (Place::Nowhere, None),
    };
    match location {
        Location::Register(n) => match known(n) {
            Some(v) => (Place::Register(name(n)), Some(v)),
            None => (Place::Nowhere, None),
        },
        Location::AtRegister(n) => memory(known(n)),
        Location::Stack(n, offset) => memory(known(n).map(|b| b.wrapping_add_signed(i64::from(offset)))),
        Location::AtStack(n, offset) => {
            let slot = known(n).map(|b| b.wrapping_add_signed(i64::from(offset)));
            memory(slot.and_then(|s| clr.space().ptr(s)))
        }
        Location::Float(_) | Location::Other(_) => (Place::Nowhere, None),
    }
}

/// The register a location counts from: numbers behind the last one stand for the stack pointer (`REGNUM_AMBIENT_SP`).
fn base(arch: Arch, number: u32) -> Option<usize> {
    let number = number as usize;
    (number < registers::names(arch).len()).then_some(number)
}

/// Bytes of a value as it is shown.
fn size(clr: &Clr, element: Option<Element>) -> u64 {
    match element.map(|e| e.0) {
        Some(et::BOOLEAN | et::I1 | et::U1) => 1,
        Some(et::CHAR | et::I2 | et::U2) => 2,
        Some(et::I4 | et::U4 | et::R4) => 4,
        Some(et::I8 | et::U8 | et::R8) => 8,
        _ => clr.header(),
    }
}

fn mask(clr: &Clr, element: Option<Element>) -> u64 {
    match size(clr, element) {
        8 => u64::MAX,
        bytes => (1 << (8 * bytes)) - 1,
    }
}

fn read(clr: &Clr, at: u64, size: u64) -> Option<u64> {
    let bytes = clr.space().bytes(at, size as usize)?;
    Some(little_endian(&bytes))
}
