//! `clrscope ps` and `clrscope collect` against a server that speaks the protocol as runtimes of several ages do, and against
//! servers that lie.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

const INFO_3: (u8, u8) = (4, 8);
const INFO_2: (u8, u8) = (4, 4);
const INFO: (u8, u8) = (4, 0);
const DUMP_3: (u8, u8) = (1, 3);
const DUMP_2: (u8, u8) = (1, 2);
const DUMP: (u8, u8) = (1, 1);
const UNKNOWN: u32 = 0x8013_1385;

fn message(set: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let mut all = b"DOTNET_IPC_V1\0".to_vec();
    all.extend_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_le_bytes());
    all.extend_from_slice(&[set, id, 0, 0]);
    all.extend_from_slice(payload);
    all
}

fn ok(payload: &[u8]) -> Vec<u8> {
    message(0xFF, 0, payload)
}

fn error(code: u32, said: &str) -> Vec<u8> {
    let mut payload = code.to_le_bytes().to_vec();
    if !said.is_empty() {
        payload.extend(text(said));
    }
    message(0xFF, 0xFF, &payload)
}

fn text(s: &str) -> Vec<u8> {
    let units: Vec<u16> = s.encode_utf16().chain([0]).collect();
    let mut all = u32::try_from(units.len()).unwrap().to_le_bytes().to_vec();
    all.extend(units.iter().flat_map(|u| u.to_le_bytes()));
    all
}

/// What `ProcessInfo` says, and its younger sisters.
fn described(command: (u8, u8), name: &str, version: &str) -> Vec<u8> {
    let mut payload = if command == INFO_3 { vec![1, 0, 0, 0] } else { Vec::new() };
    payload.extend([0; 24]);
    payload.extend(["/srv/shop --port 80", "Linux", "x64"].iter().flat_map(|t| text(t)));
    if command != INFO {
        payload.extend([text(name), text(version)].concat());
    }
    if command == INFO_3 {
        payload.extend(text("linux-x64"));
    }
    ok(&payload)
}

/// The path and the type a request for a dump names.
fn wanted(payload: &[u8]) -> (String, u32) {
    let n = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
    let units: Vec<u16> = payload[4..4 + 2 * n].chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    assert_eq!(units.last(), Some(&0));
    let kind = u32::from_le_bytes(payload[4 + 2 * n..8 + 2 * n].try_into().unwrap());
    assert_eq!(payload.len(), 12 + 2 * n, "flags alone follow");
    (String::from_utf16(&units[..n - 1]).unwrap(), kind)
}

type Asked = Arc<Mutex<Vec<(u8, u8)>>>;

/// A process that only sleeps, with a port in a folder of its own on which `answer` speaks for it.
struct Fake {
    process: Child,
    folder: tempfile::TempDir,
    asked: Asked,
}

impl Fake {
    fn new(answer: impl Fn((u8, u8), &[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("sleep").arg("600").env("TMPDIR", folder.path()).spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
        let name = |key: &str| format!("dotnet-diagnostic-{}-{key}-socket", process.id());
        // One that an older process with this number left behind.
        drop(UnixListener::bind(folder.path().join(name("99999999999"))).unwrap());
        let listener = UnixListener::bind(folder.path().join(name(&started))).unwrap();
        let asked = Asked::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &noted, &answer);
            }
        });
        Self { process, folder, asked }
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_clrscope"))
            .args(args)
            .current_dir(self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn pid(&self) -> String {
        self.process.id().to_string()
    }

    fn collect(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let pid = self.pid();
        let out = self.run(&[&["collect", "-p", &pid], more].concat());
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }

    /// The row of this process.
    fn row(&self) -> Option<Value> {
        let out = self.run(&["ps", "--json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
        let table = &answer["tables"][0];
        let keys = table["columns"].as_array().unwrap();
        let row = table["rows"].as_array().unwrap().iter().find(|r| r[0] == self.process.id())?;
        let pairs = keys.iter().zip(row.as_array().unwrap());
        Some(pairs.map(|(k, v)| (k.as_str().unwrap().to_owned(), v.clone())).collect())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(mut stream: UnixStream, asked: &Asked, answer: impl Fn((u8, u8), &[u8]) -> Vec<u8>) {
    let mut head = [0; 20];
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    assert!(head.starts_with(b"DOTNET_IPC_V1\0"));
    assert_eq!(head[18..], [0, 0]);
    let mut payload = vec![0; usize::from(u16::from_le_bytes([head[14], head[15]])) - 20];
    stream.read_exact(&mut payload).unwrap();
    asked.lock().unwrap().push((head[16], head[17]));
    let _ = stream.write_all(&answer((head[16], head[17]), &payload));
}

/// What lists the processes of the machine asks those of the other tests too: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

const SMALL: &str = "win-x86-3.1-small.dmp.zst";

/// A runtime that knows these commands, and writes the dump of testdata.
fn runtime(knows: &'static [(u8, u8)]) -> Fake {
    Fake::new(move |command, payload| match command {
        c if !knows.contains(&c) => error(UNKNOWN, ""),
        INFO_3 | INFO_2 | INFO => described(command, "shop", "8.0.11+abc"),
        _ => {
            fs::copy(data(SMALL), wanted(payload).0).unwrap();
            ok(&[0; 4])
        }
    })
}

#[test]
fn processes_say_what_they_are() {
    let _alone = alone();
    let fake = runtime(&[INFO_3, INFO_2, INFO]);
    let row = fake.row().unwrap();
    assert_eq!((&row["name"], &row["runtime"], &row["arch"]), (&"shop".into(), &"8.0.11".into(), &"x64".into()));
    assert_eq!((&row["command_line"], &row["container"]), (&"/srv/shop --port 80".into(), &false.into()));
    assert_eq!(*fake.asked.lock().unwrap(), [INFO_3]);
    // Older ones: what they do not say is what the system says.
    let fake = runtime(&[INFO]);
    let row = fake.row().unwrap();
    assert_eq!((&row["name"], &row["runtime"]), (&"sleep".into(), &Value::Null));
    assert_eq!(row["command_line"], "/srv/shop --port 80");
    assert_eq!(*fake.asked.lock().unwrap(), [INFO_3, INFO_2, INFO]);
    let row = runtime(&[]).row().unwrap();
    assert_eq!((&row["command_line"], &row["refused"]), (&"sleep 600".into(), &Value::Null));
}

#[test]
fn a_dump_is_taken_and_opened() {
    let _alone = alone();
    for knows in [&[DUMP_3, DUMP_2, DUMP][..], &[DUMP_2, DUMP], &[DUMP]] {
        let fake = runtime(knows);
        let (code, out, err) = fake.collect(&["-o", "a b;c.dmp.zst", "-t", "mini", "--json"]);
        assert_eq!(code, Some(0), "{err}");
        let answer: Value = serde_json::from_str(&out).unwrap();
        let facts = &answer["facts"];
        assert_eq!((&facts["type"], &facts["copied"]), (&"mini".into(), &false.into()));
        assert_eq!(facts["bytes"], fs::metadata(data(SMALL)).unwrap().len());
        assert_eq!(facts["file"], fake.file("a b;c.dmp.zst").canonicalize().unwrap().to_str().unwrap());
        assert_eq!(fake.asked.lock().unwrap().last(), Some(&knows[0]));
    }
    let fake = runtime(&[DUMP_3]);
    let (code, out, err) = fake.collect(&["-t", "triage", "-o", "x.dmp.zst", "--open", "-c", "vertarget"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("triage dump of process") && out.contains("x86"), "{out}");
    // Without a prompt to type at, the end of the input ends it.
    let (code, _, err) = fake.collect(&["--open", "-o", "y.dmp.zst"]);
    assert_eq!(code, Some(0), "{err}");
    // A name of its own, where none is given.
    let before = fs::read_dir(fake.folder.path()).unwrap().count();
    assert_eq!(fake.collect(&[]).0, Some(0));
    let names: Vec<String> =
        fs::read_dir(fake.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), before + 1);
    assert!(names.iter().any(|n| n.len() == 20 && n.starts_with("core_20")), "{names:?}");
}

#[test]
fn types_are_numbered_as_the_protocol_does() {
    let _alone = alone();
    for (word, number) in [("mini", 1), ("heap", 2), ("triage", 3), ("full", 4)] {
        let fake = Fake::new(move |command, payload| {
            let (path, kind) = wanted(payload);
            assert_eq!(command, DUMP_3);
            fs::write(path, kind.to_string()).unwrap();
            ok(&[0; 4])
        });
        assert_eq!(fake.collect(&["-t", word, "-o", "d"]).0, Some(0));
        assert_eq!(fs::read_to_string(fake.file("d")).unwrap(), number.to_string());
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let _alone = alone();
    let fails = |answer: Vec<u8>| Fake::new(move |_, _| answer.clone());
    for (fake, part) in [
        (fails(error(0x8000_4005, "execve(createdump) FAILED")), "execve(createdump) FAILED"),
        (fails(ok(&0x8000_4005_u32.to_le_bytes())), "0x80004005"),
        (fails(error(0x8013_1515, "")), "NativeAOT"),
        (fails(error(UNKNOWN, "")), "does not know the command"),
        (fails(ok(&[0; 4])), "is not there"),
        (fails(ok(&[])), "not the diagnostic protocol"),
        (fails(Vec::new()), "nobody answers"),
        (fails(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "not the diagnostic protocol"),
        (fails(message(0xFF, 0, &[])[..10].to_vec()), "nobody answers"),
    ] {
        let (code, out, err) = fake.collect(&["-o", "d"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{part}: {err}");
        assert!(err.contains(part) && err.contains(&format!("no dump of process {}", fake.pid())), "{part}: {err}");
        assert!(!fake.file("d").exists());
    }
    let fake = runtime(&[DUMP_3]);
    fs::write(fake.file("there"), "precious").unwrap();
    let (code, _, err) = fake.collect(&["-o", "there"]);
    assert!(code == Some(1) && err.contains("is there already"), "{err}");
    assert_eq!(fs::read_to_string(fake.file("there")).unwrap(), "precious");
    let (code, _, err) = fake.collect(&["-o", "no/such/d"]);
    assert!(code == Some(1) && err.contains("is no folder to write to"), "{err}");
    assert!(fake.asked.lock().unwrap().is_empty());
    let out = fake.run(&["collect", "-p", "4000000000"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("there is no process"));
    let own = std::process::id().to_string();
    let out = fake.run(&["collect", "-p", &own]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("is no .NET process"));
    for (args, part) in [(&["collect"][..], "p is missing"), (&["collect", "-p", "1", "-t", "huge"], "full, heap")] {
        let out = fake.run(args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && said.contains(part), "{said}");
    }
    for args in [&["ps", "--safe"][..], &["collect", "--safe", "-p", &own]] {
        let out = fake.run(args);
        assert!(String::from_utf8_lossy(&out.stderr).contains("switched off by --safe"));
    }
}

#[test]
fn lies_about_itself_do_no_harm() {
    let _alone = alone();
    let evil = "a\x1b[31m\u{202e}\r\n;.shell x";
    let long = |n: u32| {
        let mut payload = vec![0; 28];
        payload.extend(n.to_le_bytes());
        ok(&payload)
    };
    for (answer, refused) in [
        (described(INFO_3, evil, evil), false),
        (long(u32::MAX), true),
        (long(0x8000_0000), true),
        (ok(&[]), true),
        (vec![0; 70_000], true),
    ] {
        let fake = Fake::new(move |_, _| answer.clone());
        let row = fake.row().unwrap();
        assert_eq!(!row["refused"].is_null(), refused, "{row}");
        let out = fake.run(&["ps"]);
        let shown = String::from_utf8(out.stdout).unwrap();
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!shown.contains(steers), "{shown:?}");
    }
}

#[test]
fn who_says_nothing_is_not_waited_for_long() {
    let _alone = alone();
    let fake = Fake::new(|_, _| {
        std::thread::sleep(std::time::Duration::from_secs(30));
        Vec::new()
    });
    let row = fake.row().unwrap();
    assert!(row["refused"].as_str().unwrap().contains("no answer within 2 s"), "{row}");
    assert_eq!(row["command_line"], "sleep 600");
}
