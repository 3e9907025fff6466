//! The GC information of the method that an address is in.

use super::gcinfo::x86::FrameInfo;
use super::gcinfo::{self, Encoding, GcInfo};
use super::jitcode::{self, CodeHeader};
use super::lookup::{Code, CodeAt, CodeKind};
use crate::dump::Arch;

/// Most methods whose GC information tells its version, and most starts looked at in search of them.
const SAMPLES: usize = 64;
const SAMPLE_STARTS: usize = 1 << 12;
/// Bytes read to learn how long a method is.
const HEAD: usize = 64;

impl Code<'_> {
    /// The GC information of the method `at` is in; `None` where it has none, none is at hand, or its format is not read.
    pub fn gc_info(&self, at: &CodeAt) -> Option<GcInfo> {
        let encoding = Encoding::new(self.gc_version(at)?, self.arch())?;
        let address = at.gc_info?;
        // That of a program compiled ahead of time counts its funclets, which `at` does not.
        let known = at.length.filter(|_| at.kind != CodeKind::Ahead);
        let length = match known {
            Some(length) => length,
            None => gcinfo::code_length(&self.bytes(address, HEAD), encoding.version, encoding.arch)?,
        };
        let info = GcInfo::decode(self.bytes(address, gcinfo::most_bytes(length)), encoding)?;
        // What lies elsewhere than the GC information of this method decodes to something else.
        (info.fits(known) && at.native <= info.header.length).then_some(info)
    }

    /// How the method `at` is in lays out its frame on x86; `None` where its GC information is not at hand or not understood.
    pub fn frame_info(&self, at: &CodeAt) -> Option<FrameInfo> {
        (self.arch() == Arch::X86).then_some(())?;
        let address = at.gc_info?;
        let length = at.length.or_else(|| gcinfo::x86::code_length(&self.bytes(address, HEAD)))?;
        let info = FrameInfo::decode(self.bytes(address, gcinfo::most_bytes(length)))?;
        (info.header.length == length).then_some(info)
    }

    /// Version of the GC information of the method `at` is in.
    pub fn gc_version(&self, at: &CodeAt) -> Option<u32> {
        match at.kind {
            CodeKind::ReadyToRun => self.image_version(at).map(|v| gcinfo::version_of_image(v.0, v.1)),
            // Made for the runtime that is there.
            CodeKind::Jit | CodeKind::Fragile | CodeKind::Ahead => self.jit_gc_version(),
            CodeKind::Stub(_) => None,
        }
    }

    /// The version of jitted code, and of that of a program compiled ahead of time: that under which most of a sample decode
    /// to methods of the length they have.
    pub(super) fn choose_gc_version(&self) -> Option<u32> {
        let arch = self.arch();
        let samples = if self.clr().ahead().is_some() { self.samples_ahead() } else { self.samples_of_jit() };
        let fits = |version: u32| {
            let encoding = Encoding::new(version, arch)?;
            let decoded = samples.iter().filter(|(length, bytes)| {
                GcInfo::decode(bytes.clone(), encoding).is_some_and(|info| info.fits(Some(*length)) && info.is_whole())
            });
            Some((decoded.count(), version))
        };
        // Of several alike the newest.
        let best = gcinfo::OF_JIT.iter().filter_map(|&v| fits(v)).reduce(|best, v| if v.0 > best.0 { v } else { best });
        best.filter(|b| b.0 * 2 > samples.len()).map(|b| b.1)
    }

    /// Lengths of methods and what begins with their GC information.
    fn samples_of_jit(&self) -> Vec<(u32, Vec<u8>)> {
        let sample = |start: u64| {
            let CodeHeader::Method(header) = jitcode::header(self.clr(), start)? else { return None };
            let at = self.at(start).filter(|a| a.start == start && header.gc_info != 0)?;
            self.sample(at.length?, header.gc_info)
        };
        self.jit_starts(SAMPLE_STARTS).into_iter().filter_map(sample).take(SAMPLES).collect()
    }

    /// The same of methods from all over the image.
    fn samples_ahead(&self) -> Vec<(u32, Vec<u8>)> {
        let Some(ahead) = self.clr().ahead() else { return Vec::new() };
        let starts = ahead.method_starts();
        let sample = |&start: &u64| {
            let length = ahead.code_length(self.clr().native(), start)?;
            self.sample(u32::try_from(length).ok()?, self.at(start).filter(|a| a.start == start)?.gc_info?)
        };
        starts.iter().step_by((starts.len() / SAMPLES).max(1)).filter_map(sample).take(SAMPLES).collect()
    }

    fn sample(&self, length: u32, gc_info: u64) -> Option<(u32, Vec<u8>)> {
        let bytes = self.bytes(gc_info, gcinfo::most_bytes(length));
        (bytes.len() > 2).then_some((length, bytes))
    }
}
