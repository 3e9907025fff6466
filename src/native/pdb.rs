//! A PDB of native code, read by `pdb2`: its identity, public symbols and classes.

use std::fmt;
use std::io;
use std::sync::Arc;

use pdb2::{FallibleIterator, Source, SourceSlice, SourceView};
use rustc_hash::FxHashMap;

use super::codeview;
use super::members::Member;
use super::table::{MOST_SYMBOLS, Rank, Table};
use crate::dump::map::FileMap;

/// The stream of types (microsoft/microsoft-pdb `PDB/include/pdbtypes.h`).
const TYPES: pdb2::StreamIndex = pdb2::StreamIndex(2);

/// A view of a file for `pdb2`.
#[derive(Debug)]
struct Bytes(FileMap);

impl<'s> Source<'s> for Bytes {
    /// The pages of a stream, one behind the other. No stream is longer than the file, unless it has pages twice.
    fn view(&mut self, slices: &[SourceSlice]) -> io::Result<Box<dyn SourceView<'s> + Send + Sync>> {
        let length = slices.iter().try_fold(0usize, |sum, s| sum.checked_add(s.size));
        let length = length.filter(|&l| l <= self.0.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = Vec::with_capacity(length);
        for slice in slices {
            let from = usize::try_from(slice.offset).ok().and_then(|at| self.0.get(at..)?.get(..slice.size));
            bytes.extend_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(Box::new(View(bytes)))
    }
}

struct View(Vec<u8>);

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes)", self.0.len())
    }
}

impl SourceView<'_> for View {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

type Pdb = pdb2::PDB<'static, Bytes>;

fn open(file: &FileMap) -> Result<Pdb, String> {
    pdb2::PDB::open(Bytes(file.clone())).map_err(|e| format!("it is no PDB of native code ({e})"))
}

/// What tells a PDB from those of other builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// GUID, as stored.
    pub guid: [u8; 16],
    /// Its ages: how often the linker wrote it for an image, and how often anybody did.
    pub ages: (Option<u32>, u32),
}

/// The identity of a PDB.
pub fn identity(file: &FileMap) -> Result<Identity, String> {
    let mut pdb = open(file)?;
    let info = pdb.pdb_information().map_err(|e| e.to_string())?;
    let of_image = pdb.debug_information().ok().and_then(|d| d.age());
    Ok(Identity { guid: info.guid.to_bytes_le(), ages: (of_image, info.age) })
}

/// Adds the public symbols.
pub fn add(file: &FileMap, table: &mut Table) -> Result<(), String> {
    let mut pdb = open(file)?;
    let places = pdb.address_map().map_err(|e| e.to_string())?;
    let symbols = pdb.global_symbols().map_err(|e| e.to_string())?;
    let mut symbols = symbols.iter();
    for _ in 0..MOST_SYMBOLS {
        let symbol = match symbols.next() {
            Ok(Some(s)) => s,
            Ok(None) => break,
            Err(e) => return Err(e.to_string()),
        };
        if let Ok(pdb2::SymbolData::Public(public)) = symbol.parse()
            && let Some(rva) = public.offset.to_rva(&places)
        {
            let code = public.code || public.function;
            table.add(u64::from(rva.0), 0, Rank::Global, code, &public.name.to_string());
        }
    }
    Ok(())
}

/// Classes with their members, by name.
pub fn classes(file: &FileMap) -> Result<FxHashMap<Arc<str>, Vec<Member>>, String> {
    let mut pdb = open(file)?;
    let stream = pdb.raw_stream(TYPES).map_err(|e| e.to_string())?;
    Ok(stream.map(|s| codeview::classes(s.as_slice())).unwrap_or_default())
}
