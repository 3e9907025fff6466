//! A session on a dump, with nothing but the dump.

use std::path::Path;

use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;

pub fn open(path: &Path) -> Session {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), no_images: true, ..OpenOptions::default() };
    Session::new(Dump::open(path, &options, &Watch::default()).unwrap(), Watch::default())
}
