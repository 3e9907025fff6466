//! What completion at the prompt offers: only what is cached or quickly read, never a walk.

use std::sync::Arc;

use super::Session;

/// Digits of the longest address.
const DIGITS: usize = 16;

impl Session {
    /// Names of the types met on the heap and of those the modules define, sorted; empty before the runtime was found.
    pub fn known_type_names(&self) -> Vec<Arc<str>> {
        let Some(Ok(clr)) = self.clr.get() else { return Vec::new() };
        let mut names: Vec<Arc<str>> = self.types.all().iter().map(|t| clr.type_name(t.mt.address)).collect();
        if let Ok(loaded) = self.loaded_types() {
            // Open generics have no instances of that name.
            names.extend(loaded.names().filter(|n| !n.contains('`')).map(Arc::from));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Names of the modules the runtime has loaded; empty before it was found.
    pub fn known_module_names(&self) -> Vec<String> {
        let Some(Ok(clr)) = self.clr.get() else { return Vec::new() };
        clr.assemblies().items.iter().map(|a| clr.module(a.module).file_name().to_owned()).collect()
    }

    /// Whether a command has indexed the objects.
    pub fn knows_objects(&self) -> bool {
        self.index.value.get().is_some()
    }

    /// The type of the object at `address`, or the one whose MethodTable it is, where a command has read the heap.
    pub fn known_type_at(&self, address: u64) -> Option<Arc<str>> {
        let clr = self.clr.get()?.as_ref().ok()?;
        self.heap.value.get()?;
        if let Some(ty) = self.types.look_up(address).flatten() {
            return Some(clr.type_name(ty.mt.address));
        }
        let object = self.walker().ok()?.object_at(address).filter(|o| !o.ty.is_free)?;
        Some(clr.type_name(object.ty.mt.address))
    }

    /// Addresses of objects whose hexadecimal digits begin with `prefix` (no leading zeros), about `most` of them; empty
    /// as long as no command has indexed the objects. Where more begin so, some of every next digit are given.
    pub fn objects_by_prefix(&self, prefix: &str, most: usize) -> Vec<u64> {
        let (Some(index), Ok(walker)) = (self.index.value.get(), self.walker()) else { return Vec::new() };
        let mut found = Vec::new();
        for (first, last) in ranges(prefix) {
            found.extend(index.ids.sample(first, last, most.saturating_sub(found.len())));
        }
        found.retain(|&a| walker.object_at(a).is_some_and(|o| !o.ty.is_free));
        found
    }

    /// MethodTables of the types met on the heap whose hexadecimal digits begin with `prefix`, at most `most`.
    pub fn method_tables_by_prefix(&self, prefix: &str, most: usize) -> Vec<u64> {
        let all = self.types.all();
        let mut found: Vec<u64> =
            all.iter().map(|t| t.mt.address).filter(|a| format!("{a:x}").starts_with(prefix)).collect();
        found.sort_unstable();
        found.truncate(most);
        found
    }
}

/// First and last address of each length whose digits begin with `prefix`, the longest first.
fn ranges(prefix: &str) -> Vec<(u64, u64)> {
    if prefix.is_empty() {
        return vec![(0, u64::MAX)];
    }
    let Ok(value) = u64::from_str_radix(prefix, 16) else { return Vec::new() };
    let more = (0..=DIGITS.saturating_sub(prefix.len())).rev();
    more.map(|n| n as u32 * 4).filter(|&n| n < 64).map(|n| (value << n, value << n | ((1u64 << n) - 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_means_addresses_of_every_length() {
        let all = ranges("7f3");
        assert_eq!(all.len(), 14);
        assert_eq!(all.first(), Some(&(0x7f30_0000_0000_0000, 0x7f3f_ffff_ffff_ffff)));
        assert!(all.contains(&(0x7f30_0000_0000, 0x7f3f_ffff_ffff)));
        assert_eq!(all.last(), Some(&(0x7f3, 0x7f3)));
        assert_eq!(ranges("ffffffffffffffff"), [(u64::MAX, u64::MAX)]);
        assert!(ranges("10000000000000000").is_empty());
        assert!(ranges("x").is_empty());
        assert_eq!(ranges(""), [(0, u64::MAX)]);
    }
}
