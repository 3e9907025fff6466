//! Reading TSV tables, ours and the truth's.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A table: column names, rows.
#[derive(Debug, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }
}

/// Reads `path`; `None` when there is no such table. In the first line, what follows a blank is commentary; lines that
/// start with `#` are notes.
pub fn load(path: &Path) -> Option<Table> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split('\n');
    let head = lines.next()?;
    let columns = head.split('\t').map(|c| c.split(' ').next().unwrap_or("").to_owned()).collect();
    let rows = lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split('\t').map(str::to_owned).collect())
        .collect();
    Some(Table { columns, rows })
}

/// The folder with the truth's tables, unpacked into `work` when it is an archive.
pub fn truth_folder(truth: &Path, work: &Path) -> io::Result<PathBuf> {
    if truth.is_dir() {
        return Ok(truth.to_owned());
    }
    let dir = work.join("truth");
    let mut decoder = zstd::Decoder::new(fs::File::open(truth)?)?;
    decoder.window_log_max(31)?;
    tar::Archive::new(decoder).unpack(&dir)?;
    Ok(dir)
}

/// Rows by key, the first of equal ones kept.
pub fn index<'t>(
    table: &'t Table,
    keys: &[&str],
    norm: impl Fn(&str, &str) -> String,
) -> HashMap<Vec<String>, &'t [String]> {
    let columns: Vec<Option<usize>> = keys.iter().map(|k| table.column(k)).collect();
    let mut map = HashMap::new();
    for row in &table.rows {
        let key = keys
            .iter()
            .zip(&columns)
            .map(|(k, c)| norm(k, c.and_then(|c| row.get(c)).map_or("", String::as_str)))
            .collect();
        map.entry(key).or_insert(row.as_slice());
    }
    map
}
