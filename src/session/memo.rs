//! What commands worked out of the dump, kept for whoever asks next.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::Session;

/// Answers kept; the oldest goes first.
const MOST_KEPT: usize = 8;

type Kept = (String, Arc<dyn Any + Send + Sync>);

/// Answers by what was asked.
#[derive(Default)]
pub(super) struct Memo(Mutex<Vec<Kept>>);

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

impl Session {
    /// What `make` makes of this dump, made once as long as it is kept. `asked` tells it from others of its type; what fails
    /// is tried again.
    pub fn once<T: Any + Send + Sync>(&self, asked: &str, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let known = || {
            let kept = self.memo.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().filter(|k| k.0 == asked).find_map(|k| k.1.clone().downcast::<T>().ok())
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        let mut kept = self.memo.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        kept.push((asked.to_owned(), made.clone()));
        Ok(made)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dump::{Dump, OpenOptions};

    #[test]
    fn answers_are_made_once_and_errors_are_not_kept() {
        let core = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-10.0-crash-heap.core.zst");
        let cache_dir = Some(std::env::temp_dir().join("clrscope-memo"));
        let options = OpenOptions { cache_dir, ..OpenOptions::default() };
        let session = Session::new(Dump::open(&core, &options, &Default::default()).unwrap(), Default::default());
        let mut made = 0;
        let mut ask = |asked: &str, fails: bool| {
            session.once(asked, || {
                made += 1;
                if fails { anyhow::bail!("no") } else { Ok(made) }
            })
        };
        assert!(ask("a", true).is_err());
        assert_eq!((*ask("a", false).unwrap(), *ask("a", true).unwrap(), *ask("b", false).unwrap()), (2, 2, 3));
        for i in 0..MOST_KEPT {
            ask(&i.to_string(), false).unwrap();
        }
        assert!(*ask("a", false).unwrap() > 3);
        // The same question with another type of answer is another question.
        assert_eq!(*session.once("b", || Ok("text")).unwrap(), "text");
    }
}
