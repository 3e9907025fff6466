//! A list read from hostile memory, with the reason when it is not complete.

/// Items read, and why some may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered<T> {
    /// What was read.
    pub items: Vec<T>,
    /// Why the list is not complete; `None` when it is.
    pub partial: Option<String>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { items: Vec::new(), partial: None }
    }
}

impl<T> Gathered<T> {
    /// Notes a reason; the first one stays.
    pub fn because(&mut self, why: impl Into<String>) {
        if self.partial.is_none() {
            self.partial = Some(why.into());
        }
    }
}
