//! A table as Parquet: columns with types, nulls where nothing is known, row groups of bounded size.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::column::{Column, Field};
use crate::shell::Type;

/// Rows of one group: what is kept before it is written.
const GROUP_ROWS: usize = 1 << 17;
/// Bytes of the values of one group, whatever its rows.
const GROUP_BYTES: usize = 32 << 20;
/// Level of zstd: more takes twice the time for a few percent.
const LEVEL: i32 = 3;

/// Rows that go out in groups.
pub struct Groups {
    file: SerializedFileWriter<File>,
    columns: &'static [Column],
    kept: Vec<Kept>,
    rows: usize,
    bytes: usize,
    unfit: u64,
}

/// What is kept of a column: its values without the nulls, and for each entry how deep it is defined.
struct Kept {
    values: Values,
    defined: Vec<i16>,
    /// 0 where a row begins, 1 for what follows in its list.
    repeated: Vec<i16>,
}

enum Values {
    Longs(Vec<i64>),
    Doubles(Vec<f64>),
    Bools(Vec<bool>),
    /// One text behind the other, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
}

/// A value that is there.
enum Value<'a> {
    Long(i64),
    Double(f64),
    Bool(bool),
    Text(&'a str),
}

impl Values {
    fn of(ty: Type) -> Self {
        match ty {
            Type::Address | Type::Hex | Type::Bytes | Type::Count | Type::Number | Type::Time => {
                Values::Longs(Vec::new())
            }
            Type::Share => Values::Doubles(Vec::new()),
            Type::Bool => Values::Bools(Vec::new()),
            Type::Text | Type::Content | Type::Given | Type::Path | Type::TypeName | Type::FieldPath => {
                Values::Texts(Vec::new(), Vec::new())
            }
        }
    }

    /// Keeps a value; the bytes it takes, `None` when it is of another type.
    fn push(&mut self, value: Value<'_>) -> Option<usize> {
        match (self, value) {
            (Values::Longs(v), Value::Long(x)) => v.push(x),
            (Values::Doubles(v), Value::Double(x)) => v.push(x),
            (Values::Bools(v), Value::Bool(x)) => v.push(x),
            (Values::Texts(bytes, ends), Value::Text(t)) => {
                bytes.extend_from_slice(t.as_bytes());
                ends.push(bytes.len());
                return Some(t.len() + size_of::<ByteArray>());
            }
            _ => return None,
        }
        Some(size_of::<u64>())
    }
}

impl Groups {
    /// Writes the head.
    pub fn begin(file: File, columns: &'static [Column]) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(&schema(columns)).map_err(failed)?);
        let level = ZstdLevel::try_new(LEVEL).map_err(failed)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(concat!("clrscope ", env!("CARGO_PKG_VERSION")).to_owned());
        // The address of the row itself occurs once: what it differs by from the one before is small.
        if let Some(first) = columns.first().filter(|c| c.ty == Type::Address && !c.list) {
            let path = ColumnPath::from(first.name);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).map_err(failed)?;
        let kept = |c: &Column| Kept { values: Values::of(c.ty), defined: Vec::new(), repeated: Vec::new() };
        Ok(Self { file, columns, kept: columns.iter().map(kept).collect(), rows: 0, bytes: 0, unfit: 0 })
    }

    /// One row, a value a column.
    pub fn row(&mut self, fields: &[Field<'_>]) -> io::Result<()> {
        for (i, (column, kept)) in self.columns.iter().zip(&mut self.kept).enumerate() {
            let field = fields.get(i).copied().unwrap_or(Field::None);
            let (bytes, fits) = kept.push(column, field);
            self.bytes += bytes;
            self.unfit += u64::from(!fits);
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group().map_err(failed)?;
        for (kept, column) in self.kept.iter_mut().zip(self.columns) {
            let Some(mut writer) = group.next_column().map_err(failed)? else { break };
            kept.write(column, writer.untyped()).map_err(failed)?;
            writer.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// Writes the last group and the foot; how many values did not fit.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.close().map_err(failed)?;
        Ok(self.unfit)
    }
}

impl Kept {
    /// Keeps a field; the bytes it takes, and whether it fits.
    fn push(&mut self, column: &Column, field: Field<'_>) -> (usize, bool) {
        if let (true, Field::List(items) | Field::Numbers(items)) = (column.list, field) {
            return self.push_list(items);
        }
        let value = match value(column.ty, field) {
            Ok(Some(value)) if !column.list => self.values.push(value).ok_or(()).map(Some),
            Ok(None) => Ok(None),
            Ok(Some(_)) | Err(()) => Err(()),
        };
        self.defined.push(i16::from(matches!(value, Ok(Some(_)))));
        if column.list {
            self.repeated.push(0);
        }
        (value.ok().flatten().unwrap_or(0) + size_of::<i16>(), value.is_ok())
    }

    /// A list is defined to depth 1, each of its items to depth 2.
    fn push_list(&mut self, items: &[u64]) -> (usize, bool) {
        if items.is_empty() {
            self.defined.push(1);
            self.repeated.push(0);
        }
        for (i, item) in items.iter().enumerate() {
            self.defined.push(2);
            self.repeated.push(i16::from(i > 0));
            self.values.push(Value::Long(*item as i64));
        }
        (items.len().max(1) * (size_of::<u64>() + 2 * size_of::<i16>()), true)
    }

    fn write(&mut self, column: &Column, writer: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let defined = Some(self.defined.as_slice());
        let repeated = Some(self.repeated.as_slice()).filter(|_| column.list);
        match (&mut self.values, writer) {
            (Values::Longs(v), ColumnWriter::Int64ColumnWriter(w)) => {
                w.write_batch(v, defined, repeated)?;
                v.clear();
            }
            (Values::Doubles(v), ColumnWriter::DoubleColumnWriter(w)) => {
                w.write_batch(v, defined, repeated)?;
                v.clear();
            }
            (Values::Bools(v), ColumnWriter::BoolColumnWriter(w)) => {
                w.write_batch(v, defined, repeated)?;
                v.clear();
            }
            (Values::Texts(bytes, ends), ColumnWriter::ByteArrayColumnWriter(w)) => {
                // All of them are slices of one piece of memory.
                let all = ByteArray::from(std::mem::take(bytes));
                let mut start = 0;
                let slice = |end: usize| {
                    let from = std::mem::replace(&mut start, end);
                    all.slice(from, end - from)
                };
                let texts: Vec<ByteArray> = ends.drain(..).map(slice).collect();
                w.write_batch(&texts, defined, repeated)?;
            }
            _ => return Err(ParquetError::General(format!("the column {} has another type", column.name))),
        }
        self.defined.clear();
        self.repeated.clear();
        Ok(())
    }
}

/// What a field is in a column of that type: nothing where nothing is known; an error where the type cannot hold it.
fn value(ty: Type, field: Field<'_>) -> Result<Option<Value<'_>>, ()> {
    let signed = |v: u64| i64::try_from(v).map(|v| Some(Value::Long(v))).map_err(drop);
    let bits = |v: u64| Ok(Some(Value::Long(v as i64)));
    match (ty, field) {
        (_, Field::None) | (Type::Address, Field::Hex(0)) => Ok(None),
        (Type::Address | Type::Hex, Field::Hex(v) | Field::Num(v)) => bits(v),
        (Type::Time, Field::Time(t)) => {
            let micros = i64::try_from(t).ok().and_then(|t| t.checked_mul(1_000_000)).ok_or(())?;
            Ok(Some(Value::Long(micros)))
        }
        (Type::Bytes | Type::Count | Type::Number, Field::Num(v)) => signed(v),
        (Type::Number, Field::Int(v)) => Ok(Some(Value::Long(v))),
        (Type::Share, Field::Real(v)) => Ok(Some(Value::Double(v))),
        (Type::Bool, Field::Bool(b)) => Ok(Some(Value::Bool(b))),
        (_, Field::Text("") | Field::Path("")) => Ok(None),
        (
            Type::Text | Type::Content | Type::Given | Type::Path | Type::TypeName | Type::FieldPath,
            Field::Text(t) | Field::Content(t) | Field::Path(t),
        ) => Ok(Some(Value::Text(t))),
        _ => Err(()),
    }
}

/// The columns as a schema of Parquet. Addresses and identifiers are unsigned; counts and bytes are signed, so that they can
/// be taken from one another.
fn schema(columns: &[Column]) -> String {
    let fields = columns.iter().map(|c| {
        let (physical, logical) = match c.ty {
            Type::Address | Type::Hex => ("INT64", "(INTEGER(64,false))"),
            Type::Bytes | Type::Count | Type::Number => ("INT64", ""),
            Type::Time => ("INT64", "(TIMESTAMP(MICROS,true))"),
            Type::Share => ("DOUBLE", ""),
            Type::Bool => ("BOOLEAN", ""),
            Type::Text | Type::Content | Type::Given | Type::Path | Type::TypeName | Type::FieldPath => {
                ("BYTE_ARRAY", "(STRING)")
            }
        };
        match c.list {
            false => format!("  OPTIONAL {physical} {} {logical};\n", c.name),
            true => format!(
                "  OPTIONAL group {} (LIST) {{ REPEATED group list {{ REQUIRED {physical} element {logical}; }} }}\n",
                c.name
            ),
        }
    });
    format!("message table {{\n{}}}\n", fields.collect::<String>())
}

fn failed(e: ParquetError) -> io::Error {
    io::Error::other(e)
}
