//! What is said of a dump on opening: the exception of interest, and what is not there.

use std::sync::Arc;

use super::Session;
use crate::clr::runtime::threads::ClrThread;
use crate::dump::images::{FoundBy, hex};
use crate::dump::{MapEntry, MapState, Module, Os, Presence, Thread};

/// Longest part of a message shown.
const MOST_MESSAGE: usize = 200;

/// Longest name of a thread shown, in UTF-16 units.
const MOST_NAME: usize = 200;

/// Which dump an answer is about: enough to tell dumps of a fleet apart, and two dumps of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Name of the file, without its folder.
    pub file: String,
    /// Bytes of the file, unpacked.
    pub size: u64,
    /// `linux` or `windows`.
    pub os: &'static str,
    /// `x64`, `x86`, `arm64`, `arm`.
    pub arch: &'static str,
    /// Process id.
    pub pid: Option<u64>,
    /// Name of the executable.
    pub process: Option<String>,
    /// When the dump was taken, where it says so; seconds since 1970.
    pub time: Option<u64>,
    /// When the file was last written; seconds since 1970.
    pub file_time: Option<u64>,
    /// Version of the .NET runtime in it.
    pub runtime: Option<String>,
    /// Build of that runtime: the ELF build id, or PE timestamp and size of the image as symbol servers write them.
    pub runtime_build: Option<String>,
}

/// The managed exception of the thread a dump was taken at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thrown {
    /// Address of the object.
    pub address: u64,
    /// Name of its type.
    pub type_name: Arc<str>,
    /// Its message.
    pub message: Option<String>,
}

/// How many there are, and how many of them are not in the dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// All.
    pub all: u64,
    /// Those that are missing.
    pub missing: u64,
}

/// What a dump lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Bytes of mapped images and files.
    pub images: u64,
    /// Bytes of other memory.
    pub other: u64,
    /// Segments of the managed heap that have objects; `None` when the heap cannot be read.
    pub segments: Option<Share>,
    /// Assemblies, missing those without metadata; `None` without a runtime.
    pub assemblies: Option<Share>,
}

impl Session {
    /// Which dump this is.
    pub fn about(&self) -> About {
        let d = self.dump();
        let clr = self.clr().ok();
        let module = clr.and_then(|c| d.modules.iter().find(|m| m.base == c.found.module.base));
        About {
            file: d.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            size: d.file_size,
            os: if d.os == Os::Windows { "windows" } else { "linux" },
            arch: d.arch.name(),
            pid: d.process.pid,
            process: d.process.name.clone(),
            time: d.process.dump_time,
            file_time: d.file_time,
            runtime: clr.map(|c| super::runtime_version(c)),
            runtime_build: module.and_then(build),
        }
    }

    /// The name a program gave the thread; empty for none.
    pub fn thread_name(&self, thread: &ClrThread) -> String {
        let name = || {
            let object = self.value(thread.exposed_object).filter(|_| thread.exposed_object != 0)?;
            let text = object.object(&["_name", "m_Name"])?;
            let clr = self.clr().ok()?;
            clr.string_at(text.address(), MOST_NAME).filter(|_| text.mt == clr.known.string)
        };
        name().map_or_else(String::new, |n| n.1)
    }

    /// Name of a thread of the dump: the one a .NET program gave it, else the operating system's.
    pub fn name_of_thread(&self, thread: &Thread) -> Option<String> {
        let managed = || {
            let found = self.clr().ok()?.threads().items.iter().find(|t| t.os_id == thread.os_id && t.os_id != 0)?;
            Some(self.thread_name(found)).filter(|n| !n.is_empty())
        };
        managed().or_else(|| thread.name.clone())
    }

    /// The managed exception of the thread the dump was taken at; `None` when there was no event or its thread has no
    /// exception.
    pub fn managed_exception(&self) -> Option<Thrown> {
        let id = self.dump.exception.as_ref()?.thread_id;
        let clr = self.clr().ok()?;
        let thread = clr.threads().items.iter().find(|t| t.os_id == id && t.exception != 0)?;
        let mt = clr.object_type(thread.exception).and_then(|m| clr.valid_method_table(m))?;
        let e = clr.exception_at(thread.exception, mt.address);
        Some(Thrown { address: thread.exception, type_name: clr.type_name(mt.address), message: e.message })
    }

    /// That exception in a line: its type, address and message.
    pub fn describe_exception(&self) -> Option<String> {
        let Thrown { address, type_name, message } = self.managed_exception()?;
        // Of a process that ended itself what it said.
        let message = message.or_else(|| Some(format!("Environment.FailFast \"{}\"", self.fail_fast(address)?)));
        let message: String = message.unwrap_or_default().chars().take(MOST_MESSAGE).collect();
        let text = if message.is_empty() { String::new() } else { format!(": {message}") };
        Some(format!("{type_name} {address:x}{text} (!pe shows it)"))
    }

    /// What the dump lacks.
    pub fn missing(&self) -> Missing {
        let absent = |e: &&MapEntry| e.state == MapState::Commit && e.presence != Presence::Dumped;
        let mut missing = Missing { assemblies: self.without_metadata(), ..Missing::default() };
        for e in self.dump.map.iter().filter(absent) {
            let image = e.module.is_some() || e.file.is_some();
            *(if image { &mut missing.images } else { &mut missing.other }) += e.end - e.start;
        }
        missing.segments = self.heap().ok().map(|heap| {
            let used = heap.segments.iter().filter(|s| s.end > s.start);
            used.fold(Share::default(), |Share { all, missing }, s| Share {
                all: all + 1,
                missing: missing + u64::from(!self.dump.space.readable(s.start)),
            })
        });
        missing
    }

    /// What the dump lacks, a clause for each kind of thing.
    pub fn describe_missing(&self) -> Vec<String> {
        let Missing { images, other, segments, .. } = self.missing();
        let mut out = Vec::new();
        if images > 0 {
            out.push(format!("{} of mapped images and files", mega(images)));
        }
        if other > 0 {
            out.push(format!("{} of other memory", mega(other)));
        }
        match segments {
            None | Some(Share { missing: 0, .. }) => {}
            Some(Share { all, missing }) if all == missing => out.push("the managed heap".into()),
            Some(Share { all, missing }) => out.push(format!("{missing} of {all} heap segments")),
        }
        out.extend(self.missing_metadata());
        out
    }

    /// How many assemblies have no metadata at hand, so that their types have no names; `None` without a runtime.
    fn without_metadata(&self) -> Option<Share> {
        let clr = self.clr().ok().filter(|c| c.ahead().is_none())?;
        let assemblies = &clr.assemblies().items;
        let without = assemblies.iter().filter(|a| clr.module(a.module).metadata(clr).is_none()).count();
        Some(Share { all: assemblies.len() as u64, missing: without as u64 })
    }

    /// How many assemblies have no metadata at hand, in words, and what helps; `None` when all have.
    pub fn missing_metadata(&self) -> Option<String> {
        let Share { all, missing } = self.without_metadata().filter(|a| a.missing > 0)?;
        let help = "(-i FOLDER or .exepath FOLDER says where their files are)";
        Some(format!("the metadata of {missing} of {all} assemblies {help}"))
    }
}

/// Image files named in one line.
const MOST_NAMES: usize = 3;

impl Session {
    /// Image files that were taken by their name alone, and those refused because they are other builds.
    pub fn describe_images(&self) -> Vec<String> {
        let images = &self.dump.images;
        let named = |what: &str, list: Vec<std::path::PathBuf>| {
            let names = list
                .iter()
                .take(MOST_NAMES)
                .filter_map(|p| p.file_name())
                .map(|n| n.to_string_lossy())
                .collect::<Vec<_>>()
                .join(", ");
            let more =
                if list.len() > MOST_NAMES { format!(" and {} more", list.len() - MOST_NAMES) } else { String::new() };
            (!list.is_empty()).then(|| format!("{what}: {names}{more} (.exepath shows all)"))
        };
        let by_name = images.used().into_iter().filter(|u| u.1 == FoundBy::NameOnly).map(|u| u.0).collect();
        let refused = images.refused().into_iter().map(|r| r.path).collect();
        named("image files taken by name only", by_name)
            .into_iter()
            .chain(named("image files refused, they are other builds", refused))
            .collect()
    }
}

/// `45.8 MB`.
fn mega(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{:.1} KB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

/// What tells one build of a module from all others.
fn build(m: &Module) -> Option<String> {
    match (&m.build_id, m.timestamp, m.image_size) {
        (Some(id), ..) => Some(hex(id)),
        (None, Some(stamp), Some(size)) => Some(format!("{stamp:08X}{size:x}")),
        _ => None,
    }
}
