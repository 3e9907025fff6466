//! Names of native addresses.

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::debugfiles::{self, PdbName};
use super::image::{Format, Image};
use super::table::{Rank, Raw, Table};
use super::{Native, demangle, dynamic, minidebug, pdb};
use crate::dump::images::Refusal;

/// Where symbols of an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None are at hand.
    None,
    /// What it exports: names of others lie between them.
    Exports,
    /// The table of the linker: all functions.
    Table,
    /// A PDB's public symbols.
    Pdb,
}

/// The symbols of an image.
#[derive(Debug)]
pub struct Symbols {
    /// The best kind of which there are any.
    pub kind: Kind,
    /// The file they came from, beside the dump and the image's own file.
    pub file: Option<String>,
    /// Files of the right name that are of other builds.
    pub refused: Vec<Refusal>,
    table: Table,
}

/// A name near an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// What debuggers call the module.
    pub module: String,
    /// The name, without decoration.
    pub name: String,
    /// Address it stands for.
    pub address: u64,
    /// Bytes of what it names, where they are recorded.
    pub size: u64,
    /// Whether it is code.
    pub code: bool,
}

/// What an address is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What debuggers call the module.
    pub module: String,
    /// The function or datum it is in, without decoration, if its name is known.
    pub name: Option<String>,
    /// Distance from it, else from the module's base.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.module)?;
        if let Some(name) = &self.name {
            write!(f, "!{name}")?;
        }
        if self.offset == 0 { Ok(()) } else { write!(f, "+0x{:x}", self.offset) }
    }
}

/// Adds the symbol table of an ELF or COFF file; `false` when it has none.
fn add_file(bytes: &[u8], low: u64, table: &mut Table) -> bool {
    let Ok(file) = object::File::parse(bytes) else { return false };
    let before = table.len();
    let base = if matches!(file.format(), object::BinaryFormat::Pe) { file.relative_address_base() } else { low };
    for s in file.symbols() {
        let code = s.kind() == SymbolKind::Text;
        // Marks of the assembler (`$x`, `$d`), names of sections and files are nothing a person asks for.
        let named = code || matches!(s.kind(), SymbolKind::Data | SymbolKind::Unknown);
        if !named || s.is_undefined() || s.section_index().is_none() {
            continue;
        }
        let Ok(name) = s.name() else { continue };
        if name.starts_with('$') || name.starts_with(".L") {
            continue;
        }
        let rank = match (s.is_weak(), s.is_global()) {
            (true, _) => Rank::Weak,
            (_, true) => Rank::Global,
            _ => Rank::Local,
        };
        table.add(s.address().wrapping_sub(base), s.size(), rank, code, name);
    }
    table.len() > before
}

impl Symbols {
    fn load(native: &Native, image: &Image) -> Self {
        let mut new = Self { kind: Kind::None, file: None, refused: Vec::new(), table: Table::default() };
        let mut table = Table::default();
        if dynamic::add(&native.dump().space, image, &mut table) || !table.is_empty() {
            new.kind = Kind::Exports;
        }
        match &image.format {
            Format::Elf(elf) => new.of_elf(native, image, elf.low, &mut table),
            Format::Pe(_) => new.of_pe(native, image, &mut table),
            Format::Unknown => {}
        }
        new.table = table.finish();
        new
    }

    fn of_elf(&mut self, native: &Native, image: &Image, low: u64, table: &mut Table) {
        if let Some(found) = &image.file
            && (add_file(&found.file, low, table) || mini(&found.file, low, table))
        {
            self.kind = Kind::Table;
            return;
        }
        match debugfiles::split(native.dump(), image) {
            Ok(found) if add_file(&found.file, low, table) => (self.kind, self.file) = (Kind::Table, Some(found.path)),
            Ok(_) => {}
            Err(refused) => self.refused = refused,
        }
    }

    fn of_pe(&mut self, native: &Native, image: &Image, table: &mut Table) {
        if let Some(found) = &image.file
            && add_file(&found.file, 0, table)
        {
            self.kind = Kind::Table;
        }
        let Some(name) = PdbName::of(native.dump(), image) else { return };
        match debugfiles::pdb(native.dump(), image, &name) {
            Ok(found) => match pdb::add(&found.file, table) {
                Ok(()) => (self.kind, self.file) = (Kind::Pdb, Some(found.path)),
                Err(why) => self.refused.push(Refusal { path: found.path.into(), why }),
            },
            Err(refused) => self.refused = refused,
        }
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = Raw<'_>> {
        self.table.iter()
    }
}

/// Adds the symbols packed into `.gnu_debugdata` of an image's file.
fn mini(file: &[u8], low: u64, table: &mut Table) -> bool {
    let section = || {
        let parsed = object::File::parse(file).ok()?;
        minidebug::unpack(parsed.section_by_name(".gnu_debugdata")?.data().ok()?)
    };
    section().is_some_and(|inner| add_file(&inner, low, table))
}

impl Native {
    /// The symbols of an image.
    pub fn symbols<'a>(&self, opened: &'a super::Opened) -> &'a Symbols {
        opened.symbols.get_or_init(|| Symbols::load(self, &opened.image))
    }

    fn symbol(&self, opened: &super::Opened, raw: Raw<'_>) -> Symbol {
        let image = &opened.image;
        Symbol {
            module: image.name.clone(),
            name: demangle::plain(raw.name),
            address: image.base.wrapping_add(raw.rva),
            size: raw.size,
            code: raw.code,
        }
    }

    /// The symbols next to `address`: at or before it, and behind it.
    pub fn nearest(&self, address: u64) -> (Option<Symbol>, Option<Symbol>) {
        let Some(opened) = self.image_at(address) else { return (None, None) };
        let (symbols, rva) = (self.symbols(opened), address - opened.image.base);
        let of = |raw: Option<Raw<'_>>| raw.map(|r| self.symbol(opened, r));
        (of(symbols.table.before(rva)), of(symbols.table.after(rva)))
    }

    /// The symbols of an image whose undecorated name fits.
    pub fn matching<'a>(
        &'a self,
        opened: &'a super::Opened,
        fits: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Symbol> + 'a {
        self.symbols(opened).iter().map(move |r| self.symbol(opened, r)).filter(move |s| fits(&s.name))
    }

    /// All names of `address` itself.
    pub fn names_at(&self, address: u64) -> Vec<Symbol> {
        let Some(opened) = self.image_at(address) else { return Vec::new() };
        let at = self.symbols(opened).table.at(address - opened.image.base);
        at.map(|r| self.symbol(opened, r)).collect()
    }

    /// What `address` is called, `None` outside modules. A name is given only to what it stands for: as far as its size
    /// goes, else as far as the function goes that begins with it. Names of the functions between exports are not known.
    pub fn place(&self, address: u64) -> Option<Place> {
        let opened = self.image_at(address)?;
        let (module, rva) = (opened.image.name.clone(), address - opened.image.base);
        let symbols = self.symbols(opened);
        let near = symbols.table.before(rva).filter(|r| match r.size {
            0 if symbols.kind == Kind::Exports => {
                let start = opened.image.base.wrapping_add(r.rva);
                self.function_at(address).is_none_or(|(begin, _)| begin <= start)
            }
            0 => true,
            size => rva - r.rva < size,
        });
        Some(match near {
            Some(r) => Place { module, name: Some(demangle::plain(r.name)), offset: rva - r.rva },
            None => Place { module, name: None, offset: rva },
        })
    }

    /// What a return address is called: the call before it decides which function it is in, the distance is its own.
    pub fn place_of_return(&self, address: u64) -> Option<Place> {
        let mut place = self.place(address.wrapping_sub(1))?;
        place.offset += 1;
        Some(place)
    }
}
