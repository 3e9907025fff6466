//! Files that are no dump, compressed dumps and the cache, and images on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/make_core.rs"]
mod make_core;
#[path = "support/make_minidump.rs"]
mod make_minidump;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clrscope::dump::images::{FoundBy, ImageRequest, local_folders};
use clrscope::dump::map::FileMap;
use clrscope::dump::{Dump, ImageStore, OpenError, OpenOptions, Presence};
use clrscope::watch::Watch;
use proptest::prelude::*;

fn options(cache: &Path) -> OpenOptions {
    OpenOptions { cache_dir: Some(cache.to_owned()), no_images: true, ..OpenOptions::default() }
}

fn open(path: &Path, cache: &Path) -> Result<Dump, OpenError> {
    Dump::open(path, &options(cache), &Watch::default())
}

fn message(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    open(&path, folder.path()).unwrap_err().to_string()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn dumps(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect()
}

#[test]
fn says_in_one_line_what_a_file_is() {
    let macho = |kind: u8| [&0xFEED_FACFu32.to_le_bytes()[..], &[0; 8], &[kind, 0, 0, 0], &[0; 64]].concat();
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let mut program = make_core::image(&[1; 20], 0, 0x3000);
    let cut_header = program[..18].to_vec();
    program[16] = 3;
    let mut big_endian = program.clone();
    big_endian[5] = 2;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"PAGEDU64...".repeat(100), "Windows kernel (or complete memory) dump, 64-bit"),
        (b"PAGEDUMP...".repeat(100), "Windows kernel (or complete memory) dump, 32-bit"),
        (macho(4), "macOS core file (64-bit Mach-O)"),
        (macho(2), "macOS program or library"),
        (program, "Linux program or library (ELF), not a core"),
        (big_endian, "big-endian ELF"),
        (cut_header, "cut off inside its header (18 bytes)"),
        (b"\x7fELF".to_vec(), "cut off inside its header (4 bytes)"),
        (make_core::pe(1, 0x1000), "Windows program or library (PE file)"),
        (b"PK\x03\x04rest".to_vec(), "zip archive"),
        (b"7z\xBC\xAF\x27\x1C".to_vec(), "7z archive"),
        (b"\xFD7zXZ\0..".to_vec(), "xz-compressed"),
        (tar, "tar archive"),
        (b"JAVA PROFILE 1.0.2\0".to_vec(), "Java heap dump"),
        (b"Nettrace\x14\0\0\0!FastSerialization.1".to_vec(), ".nettrace"),
        (b"\x14\0\0\0!FastSerialization.1\x05".to_vec(), ".gcdump"),
        (b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec(), "PDB symbol file"),
        (b"hello, world\n".to_vec(), "text file"),
        (vec![0; 10_000], "zeros only"),
        (vec![], "is empty (0 bytes)"),
        (b"MDMP".to_vec(), "header or stream directory is damaged or cut off"),
        (b"MD".to_vec(), "is cut off after 2 bytes"),
        (b"PMDM".repeat(20), "big-endian minidump"),
        (vec![0xAB; 5000], "neither a Windows minidump nor a Linux core"),
        (gz(b"hello, world\n"), "is compressed, and the file inside is a text file"),
        (zst(&make_core::pe(1, 2)), "is compressed, and the file inside is a Windows program"),
        (gz(b""), "the file inside is empty"),
    ];
    for (bytes, expected) in cases {
        let text = message(&bytes);
        assert!(text.contains(expected), "{expected:?} not in {text:?}");
        assert!(!text.contains('\n') && text.len() < 300, "{text}");
    }
}

#[test]
fn says_why_a_path_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let text = |p: &Path| open(p, folder.path()).unwrap_err().to_string();
    assert!(text(folder.path()).ends_with("is a folder; name the dump file inside it"));
    assert!(text(&folder.path().join("none.dmp")).starts_with("cannot open "));
    #[cfg(unix)]
    assert!(text(Path::new("/dev/null")).ends_with("is not a regular file; copy the dump to a file first"));
}

#[test]
fn opens_compressed_dumps_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let core = make_core::everything().finish();
    let framed = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zst(&core)].concat();
    for (name, bytes) in [("a.zst", zst(&core)), ("b.gz", gz(&core)), ("c.dmp", framed)] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let d = open(&path, &cache).unwrap();
        assert_eq!((d.threads.len(), &d.path, d.file_size), (2, &path, core.len() as u64));
        assert_eq!(std::fs::read(d.unpacked.unwrap()).unwrap(), core);
    }
    assert_eq!(dumps(&cache).len(), 3);
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zst");
    std::fs::write(&path, zst(&make_core::everything().finish())).unwrap();
    let text = open(&path, &path.join("below-a-file")).unwrap_err().to_string();
    assert!(text.starts_with("cannot open ") && text.contains("set CLRSCOPE_CACHE"), "{text}");
}

#[test]
fn unpacks_once_until_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cache) = (folder.path().join("a.zst"), folder.path().join("cache"));
    std::fs::write(&path, zst(&make_core::everything().finish())).unwrap();
    let first = open(&path, &cache).unwrap().unpacked.unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = std::fs::File::options().append(true).open(&first).unwrap();
    file.set_modified(hour_ago).unwrap();
    assert_eq!(open(&path, &cache).unwrap().unpacked.unwrap(), first);
    // Use is noted, so that the least used goes first; the content is not written again.
    assert!(file.metadata().unwrap().modified().unwrap() > hour_ago);
    std::fs::write(&path, zst(&make_minidump::everything())).unwrap();
    let second = open(&path, &cache).unwrap().unpacked.unwrap();
    assert_ne!(first, second);
}

#[test]
fn keeps_the_cache_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let open_limited = |name: &str, limit| {
        let path = folder.path().join(name);
        std::fs::write(&path, zst(&make_core::everything().finish())).unwrap();
        let o = OpenOptions { cache_limit: Some(limit), ..options(&cache) };
        Dump::open(&path, &o, &Watch::default()).unwrap().unpacked.unwrap()
    };
    let a = open_limited("a.zst", u64::MAX);
    let old = std::fs::File::options().append(true).open(&a).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let b = open_limited("b.zst", u64::MAX);
    assert!(a.exists() && b.exists());
    let c = open_limited("c.zst", 100 << 10);
    assert!(!a.exists() && c.exists());
    let d = open_limited("d.zst", 0);
    assert_eq!(dumps(&cache), [d]);
}

#[test]
fn zeros_become_holes() {
    let folder = tempfile::tempdir().unwrap();
    let mut core = make_core::Core::new(make_core::X64);
    core.thread(1, 0, &[]).load(0x10_0000, 6, vec![0; 8 << 20]).load(0x200_0000, 6, vec![1; 0x1000]);
    let path = folder.path().join("z.zst");
    std::fs::write(&path, zst(&core.finish())).unwrap();
    let d = open(&path, folder.path()).unwrap();
    assert_eq!((d.space.u64(0x10_0000 + (4 << 20)), d.space.u8(0x200_0FFF)), (Some(0), Some(1)));
    #[cfg(unix)]
    {
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(d.unpacked.unwrap()).unwrap());
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
    }
}

#[test]
fn a_stop_while_unpacking_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let path = folder.path().join("a.zst");
    let mut core = make_core::Core::new(make_core::X64);
    let noise = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>();
    for i in 0..64 {
        core.load(0x10_0000 + (i << 24), 6, noise.clone());
    }
    std::fs::write(&path, zst(&core.finish())).unwrap();
    let watch = Watch::default();
    let (w, o) = (watch.clone(), options(&cache));
    let opener = std::thread::spawn(move || (Dump::open(&path, &o, &w).map(|_| ()), Instant::now()));
    while watch.progress.now().1 == 0 && !opener.is_finished() {
        std::thread::yield_now();
    }
    assert_eq!(watch.progress.now().0, "unpacking");
    let asked = Instant::now();
    watch.cancel.set();
    let (result, ended) = opener.join().unwrap();
    assert!(matches!(result, Err(OpenError::Interrupted)), "{result:?}");
    assert!(ended.duration_since(asked) < Duration::from_millis(100));
    assert_eq!(dumps(&cache), [] as [PathBuf; 0]);
}

#[test]
fn damaged_compression_is_said() {
    let core = make_core::everything().finish();
    for packed in [zst(&core), gz(&core)] {
        let text = message(&packed[..packed.len() / 2]);
        assert!(text.contains("the compressed data is damaged or cut off"), "{text}");
    }
}

#[test]
fn finds_images_by_identity_or_says_by_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| {
        let d = folder.path().join(name);
        std::fs::create_dir_all(&d).unwrap();
        d
    };
    let (beside, images, store) = (dir("beside"), dir("images"), dir("symbols/app.dll/000000A12000"));
    let o = OpenOptions {
        image_paths: vec![images.clone()],
        symbol_path: Some(format!("SRV*{}*https://msdl.example/x", folder.path().join("symbols").display())),
        ..OpenOptions::default()
    };
    let images_of = ImageStore::new(&beside.join("a.dmp"), &o);
    let by_pe = |t, s| ImageRequest {
        recorded_path: r"C:\app\App.dll",
        timestamp: Some(t),
        size_of_image: Some(s),
        ..ImageRequest::default()
    };
    assert!(images_of.find(&by_pe(0xA1, 0x2000)).unwrap_err().is_empty());
    std::fs::write(images.join("App.dll"), make_core::pe(0xA2, 0x2000)).unwrap();
    let refusals = images_of.find(&by_pe(0xA1, 0x2000)).unwrap_err();
    assert_eq!(refusals[0].why, "timestamp 000000a1 and image size 2000 expected, 000000a2 and 2000 found");
    std::fs::write(store.join("app.dll"), make_core::pe(0xA1, 0x2000)).unwrap();
    let found = images_of.find(&by_pe(0xA1, 0x2000)).unwrap();
    assert_eq!((found.how, found.path), (FoundBy::Identity, store.join("app.dll")));
    // Nothing known of it: the name alone, beside the dump before all other places.
    std::fs::write(beside.join("App.dll"), make_core::pe(0xA9, 0x2000)).unwrap();
    let by_name = ImageRequest { recorded_path: "App.dll", ..ImageRequest::default() };
    let found = images_of.find(&by_name).unwrap();
    assert_eq!((found.how, found.path), (FoundBy::NameOnly, beside.join("App.dll")));
    // A module version id is read by the caller.
    let by_mvid = ImageRequest { mvid: Some([7; 16]), ..by_name.clone() };
    assert!(images_of.find_with(&by_mvid, |_| Some([8; 16])).is_err());
    assert_eq!(images_of.find_with(&by_mvid, |_| Some([7; 16])).unwrap().how, FoundBy::Identity);
    assert!(images_of.refused().len() >= 2);
    images_of.set_folders(Vec::new());
    assert_eq!(images_of.candidates(&by_name).len(), 1);
}

#[test]
fn a_file_given_for_a_folder_may_be_any_image_with_that_identity() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("renamed.app");
    std::fs::write(&file, make_core::image(&[5; 20], 0, 0x3000)).unwrap();
    let o = OpenOptions { image_paths: vec![file.clone()], ..OpenOptions::default() };
    let images = ImageStore::new(Path::new("elsewhere/a.core"), &o);
    let of = |id| ImageRequest { recorded_path: "/no/such/folder/zoo", build_id: Some(id), ..ImageRequest::default() };
    assert_eq!(images.find(&of(&[5; 20])).unwrap().path, file);
    assert!(images.find(&of(&[6; 20])).unwrap_err()[0].why.contains("build id"));
    let plain = ImageRequest { recorded_path: "/no/such/folder/zoo", ..ImageRequest::default() };
    assert!(images.find(&plain).unwrap_err().is_empty());
}

#[test]
fn local_folders_of_a_symbol_path() {
    let of = |s: &str| local_folders(s).into_iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    assert_eq!(of(r"SRV*C:\sym*https://msdl.microsoft.com/download/symbols"), [r"C:\sym"]);
    assert_eq!(of("cache*/a;srv*/b*/c*http://x; /d ;;SRV*https://x"), ["/a", "/b", "/c", "/d"]);
    assert_eq!(of("symsrv*symsrv.dll*/e*https://x"), ["/e"]);
}

/// Every real dump in `testdata/`, cut at 200 places, opens or says why, and its map adds up.
#[test]
fn real_dumps_cut_at_200_places() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let wanted = |p: &PathBuf| {
        let name = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".core.zst") || name.ends_with(".dmp.zst")
    };
    let cache = tempfile::tempdir().unwrap();
    let mut list: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(wanted).collect();
    list.sort_by_key(|p| (p.to_string_lossy().ends_with(".core.zst"), p.metadata().map_or(0, |m| m.len())));
    // The smallest of each kind is enough.
    list.dedup_by_key(|p| p.to_string_lossy().ends_with(".core.zst"));
    for path in list {
        let whole = open(&path, cache.path()).unwrap();
        assert_eq!(whole.problems.iter().filter(|p| p.what.contains("missing")).count(), 0, "{path:?}");
        let file = std::fs::File::options().read(true).write(true).open(whole.unpacked.as_ref().unwrap()).unwrap();
        let size = whole.file_size;
        drop(whole);
        // From the end to the front, half of the places in the first 64 KiB, where the structures lie.
        let mut places: Vec<u64> =
            (0..100).map(|i| size - size * i / 100 - 1).chain((0..100).map(|i| 0xFFFF - i * 655)).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        let unpacked = unpacked(cache.path(), &path);
        for at in places.into_iter().filter(|&at| at < size) {
            file.set_len(at).unwrap();
            match open(&unpacked, cache.path()) {
                Ok(d) => check(&d, at),
                Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
            }
        }
    }
}

fn unpacked(cache: &Path, path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap().to_string_lossy().replace('.', "_");
    dumps(cache).into_iter().find(|p| p.file_name().unwrap().to_string_lossy().starts_with(&stem)).unwrap()
}

fn check(d: &Dump, at: u64) {
    let dumped: u64 = d.map.iter().filter(|e| e.presence == Presence::Dumped).map(|e| e.end - e.start).sum();
    assert_eq!(dumped, d.space.readable_bytes(), "cut at {at}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random bytes behind either magic number never panic.
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0..3) {
        let head: &[u8] = match kind {
            0 => b"MDMP\x93\xA7\0\0\x04\0\0\0\x20\0\0\0",
            1 => b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0",
            _ => b"",
        };
        let _ = Dump::from_map(Path::new("r"), FileMap::owned([head, &bytes].concat()), &OpenOptions::default());
    }

    /// Whole dumps with bytes overwritten never panic, and the map adds up to what is readable.
    #[test]
    fn overwritten_bytes_never_panic(hits in proptest::collection::vec((0usize..0x3000, any::<u64>()), 1..12), core: bool) {
        let mut bytes = if core { make_core::everything().finish() } else { make_minidump::everything() };
        for (at, v) in hits {
            // Values near the ends of the range are the ones that overflow.
            let v = match v % 4 { 0 => u64::MAX - v % 16, 1 => v % 0x100, 2 => 1 << 63, _ => v };
            let at = at % (bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
        }
        let options = OpenOptions { no_images: true, ..OpenOptions::default() };
        if let Ok(d) = Dump::from_map(Path::new("m"), FileMap::owned(bytes), &options) {
            check(&d, 0);
        }
    }
}

#[test]
fn one_file_is_unpacked_by_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.core.zst");
    let mut core = make_core::everything().finish();
    core.resize(8 << 20, 3);
    std::fs::write(&path, zst(&core)).unwrap();
    let cache = folder.path().join("cache");
    std::thread::scope(|s| {
        let openers: Vec<_> = (0..8).map(|_| s.spawn(|| open(&path, &cache).map(|d| d.file_size))).collect();
        for o in openers {
            assert_eq!(o.join().unwrap().unwrap(), core.len() as u64);
        }
    });
    assert_eq!(dumps(&cache).len(), 1, "partial files are gone");
}
