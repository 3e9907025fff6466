//! Symbols by address: many names in little memory.

/// Most symbols of one source: the largest libraries have about a million.
pub const MOST_SYMBOLS: usize = 1 << 22;
/// Longest name kept, in bytes.
pub const MOST_NAME: usize = 1 << 14;
/// Bytes of all names of a table.
const MOST_NAMES: usize = 1 << 29;

/// How good a name is for an address that has several: best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Seen from outside the image.
    Global,
    /// A second name for something, meant to be replaced.
    Weak,
    /// Known in one source file alone.
    Local,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// From the image's base.
    rva: u64,
    /// Bytes; 0 where they are not recorded.
    size: u32,
    rank: Rank,
    code: bool,
    name: (u32, u32),
}

/// A symbol as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    /// From the image's base.
    pub rva: u64,
    /// Bytes; 0 where they are not recorded.
    pub size: u64,
    /// Whether it is code.
    pub code: bool,
    /// As the linker spells it.
    pub name: &'a str,
}

/// Symbols of an image, by address.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    names: String,
}

impl Table {
    /// Adds a symbol; one that is too much is left out.
    pub fn add(&mut self, rva: u64, size: u64, rank: Rank, code: bool, name: &str) {
        let fits = name.len() <= MOST_NAME && self.names.len() + name.len() <= MOST_NAMES;
        if name.is_empty() || !fits || self.entries.len() >= MOST_SYMBOLS {
            return;
        }
        let at = self.names.len() as u32;
        self.names.push_str(name);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.entries.push(Entry { rva, size, rank, code, name: (at, name.len() as u32) });
    }

    /// Sorts; of several names for an address the best comes first.
    pub fn finish(mut self) -> Self {
        let names = &self.names;
        let text = |e: &Entry| names.get(e.name.0 as usize..(e.name.0 + e.name.1) as usize).unwrap_or("");
        self.entries.sort_by(|a, b| {
            let (x, y) = (text(a), text(b));
            let key =
                |e: &Entry, n: &str| (e.rva, e.rank, !e.code, e.size == 0, n.len() - n.trim_start_matches('_').len());
            key(a, x).cmp(&key(b, y)).then_with(|| x.len().cmp(&y.len())).then_with(|| x.cmp(y))
        });
        self.entries.dedup_by(|b, a| {
            let same = a.rva == b.rva && text(a) == text(b);
            // One of two records may lack the size.
            if same && a.size == 0 {
                a.size = b.size;
            }
            same
        });
        self.entries.shrink_to_fit();
        self.names.shrink_to_fit();
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn raw(&self, e: &Entry) -> Raw<'_> {
        let name = self.names.get(e.name.0 as usize..(e.name.0 + e.name.1) as usize).unwrap_or("");
        Raw { rva: e.rva, size: u64::from(e.size), code: e.code, name }
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = Raw<'_>> {
        self.entries.iter().map(|e| self.raw(e))
    }

    /// The symbol at or before `rva`: the best name of the nearest address.
    pub fn before(&self, rva: u64) -> Option<Raw<'_>> {
        let last = self.entries.partition_point(|e| e.rva <= rva).checked_sub(1)?;
        let at = self.entries.get(last)?.rva;
        let first = self.entries.partition_point(|e| e.rva < at);
        self.entries.get(first).map(|e| self.raw(e))
    }

    /// The first symbol behind `rva`.
    pub fn after(&self, rva: u64) -> Option<Raw<'_>> {
        let i = self.entries.partition_point(|e| e.rva <= rva);
        self.entries.get(i).map(|e| self.raw(e))
    }

    /// All names of the address `rva`.
    pub fn at(&self, rva: u64) -> impl Iterator<Item = Raw<'_>> {
        let first = self.entries.partition_point(|e| e.rva < rva);
        self.entries.get(first..).unwrap_or(&[]).iter().take_while(move |e| e.rva == rva).map(|e| self.raw(e))
    }
}
