//! Names as their language spells them: C++ of both compilers, cut to scope and name as debuggers print them.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, ParseOptions};
use msvc_demangler::DemangleFlags;

/// Longest decorated name taken apart; longer ones stay as they are.
const MOST_IN: usize = 4096;
/// Longest result; what would be longer stays as it is.
const MOST_OUT: usize = 4096;
/// Depth of types inside types.
const MOST_DEPTH: u32 = 64;
/// Digits in a name of Microsoft's compiler: each may stand for a name or type before it, whole, so that ten that refer to
/// each other could stand for a text without end.
const MOST_REFERENCES: usize = 24;

/// Text that ends where it gets too long.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_OUT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The name without decoration, parameters and result; as it is when nothing is known of its form.
pub fn plain(name: &str) -> String {
    let done = if name.len() > MOST_IN {
        None
    } else if name.starts_with("_Z") {
        gnu(name)
    } else if name.starts_with('?') {
        microsoft(name)
    } else {
        None
    };
    done.filter(|d| !d.is_empty()).unwrap_or_else(|| name.to_owned())
}

fn gnu(name: &str) -> Option<String> {
    // What the compiler puts behind a clone of a function is no part of the name.
    let (stem, suffix) = name.split_once('.').map_or((name, ""), |(s, rest)| (s, rest));
    let depth = ParseOptions::default().recursion_limit(MOST_DEPTH);
    let symbol = cpp_demangle::Symbol::new_with_options(stem.as_bytes(), &depth).ok()?;
    let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(MOST_DEPTH);
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &options).ok()?;
    if !suffix.is_empty() {
        let _ = write!(out, " [clone .{suffix}]");
    }
    Some(out.0)
}

fn microsoft(name: &str) -> Option<String> {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    if digits > MOST_REFERENCES {
        return None;
    }
    msvc_demangler::demangle(name, DemangleFlags::NAME_ONLY).ok().filter(|d| d.len() <= MOST_OUT)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_lose_their_decoration() {
        assert_eq!(plain("_ZN6Thread17DoAppropriateWaitEiPPviijj"), "Thread::DoAppropriateWait");
        assert_eq!(plain("?Wait@CLREventBase@@QEAAKKHPEAUPendingSync@@@Z"), "CLREventBase::Wait");
        assert_eq!(plain("NtWaitForSingleObject"), "NtWaitForSingleObject");
        assert_eq!(plain("_ZNSt6vectorIiSaIiEE9push_backEOi"), "std::vector<int, std::allocator<int> >::push_back");
    }

    #[test]
    fn names_that_would_grow_without_end_stay_as_they_are() {
        // Each template argument names the one before it twice.
        let mut hostile = String::from("?f@@YAXU?$a@H@@");
        for n in 0..9 {
            hostile.push_str(&format!("U?$b@U{n}@U{n}@U{n}@U{n}@@@"));
        }
        hostile.push_str("@Z");
        assert_eq!(plain(&hostile), hostile);
        let mut gnu = String::from("_Z1fI1aIiiEE");
        for n in 0..40 {
            gnu.push_str(&format!("S{n}_S{n}_"));
        }
        assert!(plain(&gnu).len() <= super::MOST_OUT);
        for end in 0..gnu.len() {
            let _ = plain(&gnu[..end]);
        }
    }
}
