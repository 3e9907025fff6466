//! The reader for programs: open a dump, ask for its heap, types, objects, roots, retained sizes, threads.
//!
//! Everything else of this crate is the program itself and may change with any release; this module does not without a new
//! one. With `default-features = false` the prompt and its dependencies are left out.
//!
//! Addresses are those of the dumped process, sizes are bytes. What a dump lacks is `None`, an [`Error`] where there is no
//! answer at all, and [`Partial`] where an answer is not whole. Nothing is computed before it is asked for, and nothing twice:
//! the first question after types reads the heap once, the first after retained sizes builds the graph of all objects.
//!
//! ```
//! # fn main() -> Result<(), clrscope::api::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
//! let dump = clrscope::api::Dump::open(path)?;
//! println!("{} on {} {}", dump.runtime()?, dump.os(), dump.arch());
//!
//! let types = dump.types()?;
//! let biggest = types.iter().max_by_key(|t| t.bytes).expect("a heap has types");
//! assert_eq!(biggest.name, "System.Byte[]");
//! assert_eq!(types.iter().map(|t| t.count).sum::<u64>(), 17_886);
//! # Ok(())
//! # }
//! ```

mod object;
#[cfg(feature = "prompt")]
mod suspect;
mod thread;

use std::path::Path;

pub use object::{Field, Object, Value};
#[cfg(feature = "prompt")]
pub use suspect::Suspect;
pub use thread::{Frame, Thread};

use crate::dump::{OpenOptions, Os};
use crate::heap::roots::RootKind;
use crate::session::Session;
use crate::watch::Watch;

/// Why there is no answer, in words for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Error(#[from] anyhow::Error);

/// What comes back from a question.
pub type Result<T> = std::result::Result<T, Error>;

/// What the dump had of an answer, and why that is not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial<T> {
    /// What there is.
    pub items: Vec<T>,
    /// Why some may be missing; `None` when that is all.
    pub missing: Option<String>,
}

/// All objects of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeTotal {
    /// Name, as in C# with `+` for nesting.
    pub name: String,
    /// Address of its MethodTable.
    pub method_table: u64,
    /// Objects, those that nothing keeps alive too.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it is the type of the heap's free blocks.
    pub is_free: bool,
}

/// Something that keeps an object alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// `handle`, `finalizer`, `stack`, `register` or `thread static`.
    pub kind: &'static str,
    /// Address of the slot that refers to the object; 0 for a register.
    pub slot: u64,
    /// Address of the object.
    pub object: u64,
    /// Whether it was found by looking for anything that could be a reference, so that it may be stale.
    pub conservative: bool,
    /// Id the operating system gave the thread it belongs to.
    pub thread: Option<u64>,
}

/// What would be freed with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Bytes, those of the object included.
    pub bytes: u64,
    /// Objects, itself included.
    pub objects: u64,
}

/// A dump that is open.
#[derive(Debug)]
pub struct Dump {
    session: Session,
}

impl Dump {
    /// Opens a minidump, an ELF core or one of these packed by gzip or zstd, which is unpacked into a cache once.
    ///
    /// ```
    /// let error = clrscope::api::Dump::open("no such file").unwrap_err();
    /// assert!(error.to_string().contains("no such file"));
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let watch = Watch::default();
        let dump =
            crate::dump::Dump::open(path.as_ref(), &OpenOptions::default(), &watch).map_err(anyhow::Error::from)?;
        Ok(Self { session: Session::new(dump, watch) })
    }

    /// `linux` or `windows`.
    pub fn os(&self) -> &'static str {
        match self.session.dump().os {
            Os::Linux => "linux",
            Os::Windows => "windows",
        }
    }

    /// `x64`, `x86`, `arm64` or `arm`.
    pub fn arch(&self) -> &'static str {
        self.session.dump().arch.name()
    }

    /// Version of the runtime in the dump.
    pub fn runtime(&self) -> Result<String> {
        self.session.clr()?;
        Ok(self.session.describe_runtime())
    }

    /// All types with what the heap has of them, in no order.
    pub fn types(&self) -> Result<Vec<TypeTotal>> {
        let (clr, stat) = (self.session.clr()?, self.session.stat()?);
        let known = stat.types.iter().filter(|(_, tally)| tally.count > 0);
        let total = known.filter_map(|(id, tally)| {
            let ty = self.session.types().by_id(id)?;
            let name = if ty.is_free { "Free".to_owned() } else { clr.type_name(ty.mt.address).to_string() };
            let (count, bytes) = (tally.count, tally.bytes);
            Some(TypeTotal { name, method_table: ty.mt.address, count, bytes, is_free: ty.is_free })
        });
        Ok(total.collect())
    }

    /// Calls `each` with the address and the MethodTable of every object, in the order of addresses, until it returns `false`.
    /// Says why the heap could not be read throughout, if so.
    ///
    /// ```
    /// # fn main() -> Result<(), clrscope::api::Error> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
    /// let dump = clrscope::api::Dump::open(path)?;
    /// let sessions = dump.types()?.into_iter().find(|t| t.name == "Zoo.Session").expect("the program has sessions");
    /// let mut found = 0;
    /// let missing = dump.each_object(|_, method_table| {
    ///     found += u64::from(method_table == sessions.method_table);
    ///     true
    /// })?;
    /// assert_eq!((found, missing), (sessions.count, None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn each_object(&self, mut each: impl FnMut(u64, u64) -> bool) -> Result<Option<String>> {
        let walker = self.session.walker()?;
        let (mut whole, mut going) = (crate::heap::walk::WalkReport::default(), true);
        for segment in &walker.heap.segments {
            let seen = &mut |o: crate::heap::walk::Object<'_>| {
                going = each(o.address, o.ty.mt.address);
                going
            };
            whole.merge(walker.segment(segment, (0, u64::MAX), seen).map_err(anyhow::Error::from)?);
            if !going {
                break;
            }
        }
        Ok(whole.sentence())
    }

    /// The object that starts at `address`.
    pub fn object(&self, address: u64) -> Option<Object<'_>> {
        Object::at(&self.session, address)
    }

    /// Everything that keeps objects alive: handles, the finalizer's queue, stacks, thread statics. Statics are reached over
    /// the handles that hold their arrays.
    pub fn roots(&self) -> Result<Partial<Root>> {
        let found = self.session.roots()?;
        let items = found.items.iter().map(|root| {
            let (kind, thread) = match &root.kind {
                RootKind::Handle(_) => ("handle", None),
                RootKind::Finalizer => ("finalizer", None),
                RootKind::Frame { os_id, offset: None, register: Some(_), .. } => ("register", Some(*os_id)),
                RootKind::Frame { os_id, .. } | RootKind::Stack { os_id, .. } => ("stack", Some(*os_id)),
                RootKind::Register { os_id, .. } => ("register", Some(*os_id)),
                RootKind::ThreadStatic { os_id, .. } => ("thread static", Some(*os_id)),
            };
            Root { kind, slot: root.slot, object: root.object, conservative: root.is_conservative(), thread }
        });
        Ok(Partial { items: items.collect(), missing: found.partial.clone() })
    }

    /// Objects on a shortest way from a root to `address`, both ends included; `None` when nothing keeps it alive.
    ///
    /// ```
    /// # fn main() -> Result<(), clrscope::api::Error> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
    /// let dump = clrscope::api::Dump::open(path)?;
    /// let way = dump.way_to(0x7fd0d91190c8)?.expect("the session is alive");
    /// let types: Vec<_> = way.iter().filter_map(|&a| Some(dump.object(a)?.type_name())).collect();
    /// assert_eq!(types.last().map(String::as_str), Some("Zoo.Session"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn way_to(&self, address: u64) -> Result<Option<Vec<u64>>> {
        let roots = self.session.roots()?;
        let sources = || roots.items.iter().map(|r| r.object);
        let ways = self.session.ways_to(address, sources())?;
        let paths = sources().filter(|&o| ways.reaches(o)).map(|o| ways.path(o));
        Ok(paths.min_by_key(Vec::len))
    }

    /// What would be freed with the object at `address`; `None` when nothing keeps it alive.
    pub fn retained(&self, address: u64) -> Result<Option<Retained>> {
        let index = self.session.index()?;
        let retained = self.session.dominators()?;
        let position = index.ids.id_of(address).and_then(|id| retained.tree.position(id));
        Ok(position.map(|p| Retained { bytes: retained.bytes(p), objects: retained.objects(p) }))
    }

    /// Managed threads, those that have ended too.
    pub fn threads(&self) -> Result<Partial<Thread<'_>>> {
        let found = self.session.clr()?.threads();
        let items = found.items.iter().map(|t| Thread::new(&self.session, t)).collect();
        Ok(Partial { items, missing: found.partial.clone() })
    }

    /// What keeps or wastes much, as `!leaks` lists it: the biggest first.
    ///
    /// ```
    /// # fn main() -> Result<(), clrscope::api::Error> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
    /// let dump = clrscope::api::Dump::open(path)?;
    /// let first = dump.suspects()?.into_iter().next().expect("it leaks");
    /// assert!(first.owner.contains("Zoo.Zoo.Cache"), "{}", first.owner);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "prompt")]
    pub fn suspects(&self) -> Result<Vec<Suspect>> {
        suspect::all(&self.session)
    }
}
