//! Any bytes taken for the IL of a method, with and without metadata that names its tokens.
#![no_main]

use clrscope::clr::il::{body, instructions, names, text};
use clrscope::clr::image::metadata::Metadata;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let steps: Vec<_> = instructions(data).collect();
    assert!(steps.windows(2).all(|w| w[0].next == w[1].offset && w[0].offset < w[0].next));
    let read = |at: u32, len: usize| data.get(at as usize..(at as usize).checked_add(len)?).map(<[u8]>::to_vec);
    if let Ok(b) = body::read(read) {
        let number = |token: u32| format!("{token:x}");
        let lines = text::lines(&b, &number, &number);
        assert!(lines.len() <= b.code.len() + 9 * b.clauses.len());
        lines.iter().for_each(|l| drop(l.text()));
    }
    let Ok(m) = Metadata::parse(data.to_vec()) else { return };
    for table in [0x01, 0x02, 0x04, 0x06, 0x0A, 0x11, 0x1B, 0x2B, 0x70] {
        for row in 0..16 {
            names::of_token(&m, table << 24 | row);
            names::plain_type(&m, table << 24 | row);
        }
    }
    (0..16).filter_map(|row| m.standalone_sig(row)).for_each(|blob| drop(names::locals(&m, blob)));
});
