//! Native code of the process: its frames unwound, its addresses named; native heaps. Knows nothing of .NET.
//!
//! An image is opened when an address in it is first asked for; what is read of it is kept. Its bytes come from the dump,
//! else from a file with its identity.

pub mod cfi;
pub mod classes;
pub mod codeview;
pub mod context;
mod debugfiles;
pub mod demangle;
mod dynamic;
pub mod headers;
pub mod heaps;
pub mod image;
mod lines;
pub mod members;
pub mod minidebug;
pub mod needs;
pub mod pdb;
pub mod record;
pub mod step;
pub mod symbols;
pub mod table;
pub mod unwind;
pub mod unwindinfo;
pub mod x64;
pub mod xdata;

use std::sync::{Arc, OnceLock};

use self::image::Image;
use self::lines::Lines;
use self::symbols::Symbols;
use self::unwind::Unwinder;
use crate::dump::{Arch, Dump};

pub use self::context::Context;
pub use self::debugfiles::PdbName;
pub use self::unwind::{End, Stepped};

/// A question to the table of functions of an image for Windows, about the code at a distance from its base.
type Ask<T> = fn(&xdata::Code<'_>, u32) -> Option<T>;

/// The native code of a dump.
#[derive(Debug)]
pub struct Native {
    dump: Arc<Dump>,
    images: Vec<OnceLock<Option<Opened>>>,
}

/// An image with what was found out about it.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub image: Image,
    unwinder: OnceLock<Unwinder>,
    symbols: OnceLock<Symbols>,
    lines: OnceLock<Option<Lines>>,
}

impl Native {
    /// That of `dump`; nothing is read yet.
    pub fn new(dump: Arc<Dump>) -> Self {
        let images = dump.modules.iter().map(|_| OnceLock::new()).collect();
        Self { dump, images }
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }

    /// The image of the module of that number.
    pub fn image(&self, index: usize) -> Option<&Opened> {
        let open = || {
            let image = Image::open(&self.dump, index)?;
            let (unwinder, symbols, lines) = Default::default();
            Some(Opened { image, unwinder, symbols, lines })
        };
        self.images.get(index)?.get_or_init(open).as_ref()
    }

    /// The image that holds `address`.
    pub fn image_at(&self, address: u64) -> Option<&Opened> {
        let modules = &self.dump.modules;
        let i = modules.partition_point(|m| m.base <= address).checked_sub(1)?;
        modules.get(i).filter(|m| address - m.base < m.size)?;
        self.image(i)
    }

    /// Where the function that holds `address` begins and ends, as the image's unwind data has it.
    pub fn function_at(&self, address: u64) -> Option<(u64, u64)> {
        let opened = self.image_at(address)?;
        match self.unwinder(opened) {
            Unwinder::Cfi(cfi) => cfi.function(address),
            Unwinder::Pdata(at, size) => {
                let found = self.of_table(opened, (*at, *size), address, (unwindinfo::function, xdata::function));
                found.map(|f| opened.image.of_function(f))
            }
            Unwinder::None => None,
        }
    }

    /// The function that the table of an image for Windows has before that of `address`; `None` in other images.
    pub fn function_before(&self, address: u64) -> Option<(u64, u64)> {
        let opened = self.image_at(address)?;
        let Unwinder::Pdata(at, size) = self.unwinder(opened) else { return None };
        let found = self.of_table(opened, (*at, *size), address, (unwindinfo::before, xdata::before));
        found.map(|f| opened.image.of_function(f))
    }

    /// Where the data that a language keeps of the function that holds `address` lies: what its record in `.eh_frame` leads
    /// to, or what follows its unwind information.
    pub fn language_data_at(&self, address: u64) -> Option<u64> {
        let opened = self.image_at(address)?;
        match self.unwinder(opened) {
            Unwinder::Cfi(cfi) => cfi.language_data(address),
            Unwinder::Pdata(at, size) => {
                let found = self.of_table(opened, (*at, *size), address, (unwindinfo::behind, xdata::behind));
                opened.image.base.checked_add(found?)
            }
            Unwinder::None => None,
        }
    }

    /// What is asked of the table of an image for Windows about the code at `address`: on x64 by the first of `ask`.
    fn of_table<T>(&self, opened: &Opened, table: (u32, u32), address: u64, ask: (Ask<T>, Ask<T>)) -> Option<T> {
        let read = |a: u64| self.word(a);
        let code = xdata::Code { space: &self.dump.space, image: &opened.image, table, read: &read };
        let rva = u32::try_from(address.checked_sub(opened.image.base)?).ok()?;
        let ask = if self.dump.arch == Arch::X64 { ask.0 } else { ask.1 };
        ask(&code, rva)
    }

    /// A word of the process's memory.
    fn word(&self, address: u64) -> Option<u64> {
        self.dump.space.ptr(address)
    }
}
