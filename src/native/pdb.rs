//! Public symbols of a PDB of native code, read by `pdb2`.

use std::io::Cursor;

use pdb2::FallibleIterator;

use super::table::{MOST_SYMBOLS, Rank, Table};
use crate::dump::map::FileMap;

/// A view of a file for `pdb2`.
#[derive(Debug)]
struct Bytes(FileMap);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Pdb = pdb2::PDB<'static, Cursor<Bytes>>;

fn open(file: &FileMap) -> Result<Pdb, String> {
    pdb2::PDB::open(Cursor::new(Bytes(file.clone()))).map_err(|e| format!("it is no PDB of native code ({e})"))
}

/// GUID, as stored, and age of a PDB.
pub fn identity(file: &FileMap) -> Result<([u8; 16], u32), String> {
    let mut pdb = open(file)?;
    let info = pdb.pdb_information().map_err(|e| e.to_string())?;
    Ok((info.guid.to_bytes_le(), info.age))
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
