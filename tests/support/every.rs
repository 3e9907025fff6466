//! Sessions on all dumps at hand.

use std::fs;
use std::path::{Path, PathBuf};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;

/// The dumps of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, those of that folder instead.
pub fn sessions() -> impl Iterator<Item = (PathBuf, Session)> {
    let dir = std::env::var_os("CLRSCOPE_DUMPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"), PathBuf::from);
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let dumps = files.filter(|p| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        let bare = name.strip_suffix(".zst").unwrap_or(&name);
        bare.ends_with(".core") || bare.ends_with(".dmp")
    });
    dumps.map(|p| {
        let dump = Dump::open(&p, &OpenOptions::default(), &Default::default()).expect("a readable dump");
        (p, Session::new(dump, Default::default()))
    })
}
