//! Names that stand for text: aliases, the variable of `.foreach`, the arguments of a script.

/// Longest line after replacing.
const MOST: usize = 1 << 20;

/// Sets the text of an alias, in the place of an older one of that name.
pub fn set(aliases: &mut Vec<(String, String)>, name: String, text: String) {
    match aliases.iter_mut().find(|a| a.0 == name) {
        Some(a) => a.1 = text,
        None => aliases.push((name, text)),
    }
}

/// Replaces names by their text, once: what comes in is not looked at again. `${name}` is replaced anywhere, a bare name
/// where blanks, brackets, `;` or `,` stand around it, a fixed name (`$u0` to `$u9`) anywhere. `${/d:name}` is 1 or 0 as the name is known or not,
/// `${/f:name}` its text or nothing, `${/n:name}` the name itself. Lines that make or delete aliases keep bare names.
pub fn expand(line: &str, names: &[(String, String)]) -> Result<String, String> {
    if names.is_empty() && !line.contains("${/") {
        return Ok(line.to_owned());
    }
    let first = line.split_whitespace().next().unwrap_or("");
    let bare = !matches!(first.to_ascii_lowercase().as_str(), "as" | "ad" | "al");
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if out.len() > MOST {
            return Err("aliases make this line longer than a megabyte".into());
        }
        if let Some((text, after)) = braced(rest, names) {
            out.push_str(&text);
            rest = after;
            continue;
        }
        if bare && let Some((text, after)) = plain(&out, rest, names) {
            out.push_str(text);
            rest = after;
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Ok(out)
}

fn find<'n>(names: &'n [(String, String)], name: &str) -> Option<&'n str> {
    names.iter().rev().find(|n| n.0 == name).map(|n| n.1.as_str())
}

/// `${...}` at the start of `rest`; `None` leaves it as it stands.
fn braced<'r>(rest: &'r str, names: &[(String, String)]) -> Option<(String, &'r str)> {
    let (inner, after) = rest.strip_prefix("${")?.split_once('}')?;
    let text = match inner.split_once(':') {
        None => find(names, inner)?.to_owned(),
        Some(("/d", name)) => u8::from(find(names, name).is_some()).to_string(),
        Some(("/f", name)) => find(names, name).unwrap_or("").to_owned(),
        Some(("/n", name)) => find(names, name).map(|_| name.to_owned())?,
        Some(_) => return None,
    };
    Some((text, after))
}

/// A bare name at the start of `rest` that stands alone.
fn plain<'n, 'r>(before: &str, rest: &'r str, names: &'n [(String, String)]) -> Option<(&'n str, &'r str)> {
    let fixed = |n: &str| n.strip_prefix("$u").is_some_and(|d| d.len() == 1 && d.as_bytes()[0].is_ascii_digit());
    let opens = before.chars().next_back().is_none_or(|c| c.is_whitespace() || "({[;,".contains(c));
    let (name, text) = names.iter().rev().find(|(n, _)| {
        let Some(after) = rest.strip_prefix(n.as_str()).filter(|_| !n.is_empty()) else { return false };
        let closes = after.chars().next().is_none_or(|c| c.is_whitespace() || ")}];,+".contains(c));
        fixed(n) || opens && closes
    })?;
    Some((text, &rest[name.len()..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(line: &str) -> String {
        let names = [("mt", "7f00"), ("obj", "1000"), ("$u1", "LM"), ("loop", "a ${loop}")];
        expand(line, &names.map(|(a, b)| (a.to_owned(), b.to_owned()))).unwrap()
    }

    #[test]
    fn names_stand_alone_or_in_braces() {
        assert_eq!(with("!dumpheap -mt mt -short"), "!dumpheap -mt 7f00 -short");
        assert_eq!(with("!do obj;!do obj"), "!do 1000;!do 1000");
        assert_eq!(with("poi(obj+8) objx xobj ${obj}8"), "poi(1000+8) objx xobj 10008");
        assert_eq!(with("x$u1y"), "xLMy");
        assert_eq!(with("${/d:obj}${/d:no}[${/f:obj}${/f:no}] ${no} ${/n:obj}"), "10[1000] ${no} obj");
        assert_eq!(with("as obj 5 ${obj}"), "as obj 5 1000");
        // Never again on what was put in.
        assert_eq!(with("loop"), "a ${loop}");
    }

    #[test]
    fn growth_is_bounded() {
        let names = [("a".to_owned(), "x".repeat(1 << 16))];
        assert!(expand(&"a ".repeat(100), &names).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "[ab$u1{}/:;\\PC]{0,40}") {
            let _ = expand(&line, &[("a".into(), "b".into()), ("$u1".into(), "${a}".into()), (String::new(), String::new())]);
        }
    }
}
