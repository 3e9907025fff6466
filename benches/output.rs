//! How fast answers are written: rows as `!dumpheap` lists them and strings as `!dumpheap -strings` counts them, as text,
//! JSON and CSV, in bytes of output a second on one core. The median of several rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clrscope::shell::{Cell, Col, Format, Out, Table, Type};

const ROUNDS: usize = 7;
const ROWS: u64 = 2_000_000;

const LISTING: Table = Table::new(
    "objects",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::right("Size", "size", 14).of(Type::Bytes),
        Col::left("", "free", 0),
    ],
);

const STRINGS: Table = Table::new(
    "strings",
    &[
        Col::right("", "count", 8).of(Type::Count),
        Col::right("", "total_size", 12).of(Type::Bytes),
        Col::left("", "text", 0).of(Type::Content),
    ],
);

/// What a program's strings look like.
const TEXTS: &[&str] = &[
    "System.Collections.Generic.Dictionary`2",
    "https://shop.example.com/orders/17886?page=2&sort=date",
    "{\"id\":17886,\"name\":\"Anna \\u00e4\",\"total\":12.5}",
    "C:\\app\\bin\\Release\\net10.0\\Shop.Web.dll",
    "",
    "Straße der Kröte, 日本語",
    "first line\r\nsecond line\ttabbed",
];

#[derive(Clone)]
struct Counting(Arc<AtomicU64>);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listing(out: &mut Out) -> io::Result<()> {
    out.open(&LISTING)?;
    for i in 0..ROWS {
        let free = if i % 50 == 0 { Cell::text("Free") } else { Cell::None };
        out.row(&[
            Cell::Addr(0x7fd0_d900_0000 + 40 * i),
            Cell::Addr(0x7fdc_b326_a930),
            Cell::Sep(24 + i % 4096),
            free,
        ])?;
    }
    Ok(())
}

fn strings(out: &mut Out) -> io::Result<()> {
    out.open_bare(&STRINGS)?;
    for (i, text) in TEXTS.iter().cycle().take(ROWS as usize).enumerate() {
        out.row(&[Cell::Sep(i as u64 % 1000), Cell::Sep(i as u64), Cell::text(*text)])?;
    }
    Ok(())
}

fn units(out: &mut Out) -> io::Result<()> {
    let texts: Vec<Vec<u16>> = TEXTS.iter().map(|t| t.encode_utf16().collect()).collect();
    out.open_bare(&STRINGS)?;
    for (i, text) in texts.iter().cycle().take(ROWS as usize).enumerate() {
        out.row(&[Cell::Sep(i as u64 % 1000), Cell::Sep(i as u64), Cell::Units(text.into())])?;
    }
    Ok(())
}

fn main() {
    type Writer = fn(&mut Out) -> io::Result<()>;
    let writers: [(&str, Writer); 3] = [("rows", listing), ("strings", strings), ("utf-16", units)];
    for (what, write) in writers {
        for format in [Format::Text, Format::Json, Format::Csv] {
            let mut rounds: Vec<(f64, u64)> = (0..ROUNDS)
                .map(|_| {
                    let counted = Counting(Arc::default());
                    let mut out = Out::new(Box::new(counted.clone()), format);
                    let start = Instant::now();
                    out.begin("!dumpheap", None);
                    write(&mut out).unwrap();
                    out.end("complete", None).unwrap();
                    (start.elapsed().as_secs_f64(), counted.0.load(Ordering::Relaxed))
                })
                .collect();
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (seconds, bytes) = rounds[ROUNDS / 2];
            println!(
                "{what:8} {:5} {:6.0} MB/s, {:5.1} ns/row",
                format!("{format:?}"),
                bytes as f64 / seconds / 1e6,
                seconds * 1e9 / ROWS as f64
            );
        }
    }
}
