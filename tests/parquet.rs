//! Parquet read back: cell for cell what the same dump is as TSV.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::shell::numbers::seconds;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

fn dump(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn export(dump: &Path, folder: &Path, format: &str) {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(dump)
        .args(["-c", &format!(".export {} -fleet -format {format} -id x", folder.display())])
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

/// A field of TSV without its escapes.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let code = |rest: &mut std::str::Chars<'_>, digits: usize| {
            let hex: String = rest.by_ref().take(digits).collect();
            char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap()
        };
        out.push(match c {
            '\\' => match rest.next().unwrap() {
                '0' => '\0',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'x' => code(&mut rest, 2),
                'u' => code(&mut rest, 4),
                c => c,
            },
            c => c,
        });
    }
    out
}

fn list(field: &Field) -> String {
    match field {
        Field::ULong(v) => format!("{v:x}"),
        Field::Long(v) => v.to_string(),
        other => panic!("{other:?} in a list"),
    }
}

fn same(field: &Field, text: &str) -> bool {
    match field {
        Field::Null => text.is_empty() || text == "0",
        Field::ULong(v) => format!("{v:x}") == text,
        Field::Long(v) => v.to_string() == text,
        Field::Double(v) => format!("{v:?}") == text,
        Field::Bool(v) => (if *v { "True" } else { "False" }) == text,
        Field::TimestampMicros(t) => seconds(text).map(|s| s as i64 * 1_000_000) == Some(*t),
        Field::Str(s) => *s == plain(text),
        Field::ListInternal(items) => items.elements().iter().map(list).collect::<Vec<_>>().join(" ") == text,
        other => panic!("{other:?} in no column of ours"),
    }
}

fn compare(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    for format in ["tsv", "parquet"] {
        export(&dump(name), folder.path(), format);
    }
    let mut tables: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    tables.sort();
    assert!(tables.len() > 25, "{tables:?}");
    for table in tables {
        let part = table.join("dump=x");
        let text = fs::read_to_string(part.join("part.tsv")).unwrap();
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
        let file = SerializedFileReader::new(File::open(part.join("part.parquet")).unwrap()).unwrap();
        let columns: Vec<String> =
            file.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_owned()).collect();
        assert_eq!(columns, head, "{}", table.display());
        for (rows, row) in file.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            let line = lines.next().unwrap_or_else(|| panic!("{}: {rows} lines alone", table.display()));
            let cells: Vec<&str> = line.split('\t').collect();
            assert_eq!(cells.len(), row.len());
            for ((name, field), text) in row.get_column_iter().zip(cells) {
                let unsigned = matches!(field, Field::Null) && text == "0";
                assert!(same(field, text), "{} row {rows}, {name}: {field:?}, {text}", table.display());
                // Only an address has a zero that is nothing.
                assert!(!unsigned || is_unsigned(&file, name), "{} row {rows}, {name}", table.display());
            }
        }
        assert_eq!(lines.next(), None, "{} has more lines than rows", table.display());
    }
}

fn is_unsigned(file: &SerializedFileReader<File>, name: &str) -> bool {
    let columns = file.metadata().file_metadata().schema_descr();
    let found = columns.columns().iter().find(|c| c.path().parts().first().is_some_and(|p| p == name));
    found.is_some_and(|c| c.converted_type() == parquet::basic::ConvertedType::UINT_64)
}

#[test]
fn a_linux_dump_is_the_same_in_both() {
    compare("linux-x64-10.0-plugins-heap.core.zst");
}

#[test]
fn a_windows_dump_of_32_bits_is_the_same_in_both() {
    compare("win-x86-3.1-small.dmp.zst");
}

#[test]
fn locks_and_waits_are_the_same_in_both() {
    compare("linux-x64-10.0-locks-heap.core.zst");
}
