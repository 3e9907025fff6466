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

/// Replaces names by their text, once: what comes in is not looked at again. Fixed names (`$u0` to `$u9`) come first, and
/// anywhere; `${name}` is replaced anywhere, a bare name where blanks, quotation marks, brackets, `;` or `,` stand around it.
/// `${/d:name}` is 1 or 0 as the name is known or not, `${/f:name}` its text or nothing, `${/n:name}` the name itself,
/// `${/v:name}` stays. A line that begins with a command that makes or deletes aliases keeps bare names; one that begins with
/// a blank or `;` does not. What stands in braces is replaced when it runs: aliases may have changed by then.
pub fn expand(line: &str, names: &[(String, String)]) -> Result<String, String> {
    replace(line, names, false)
}

/// As [`expand`], within braces too: what `.foreach` puts into all of its block.
pub fn expand_within(body: &str, names: &[(String, String)]) -> Result<String, String> {
    replace(body, names, true)
}

fn replace(line: &str, names: &[(String, String)], within: bool) -> Result<String, String> {
    if names.is_empty() && !line.contains("${/") {
        return Ok(line.to_owned());
    }
    let fixed = names.iter().any(|n| is_fixed(&n.0)).then(|| fixed_first(line, names)).transpose()?;
    let line = fixed.as_deref().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut quoted = false;
    // Of each open block, whether its bare names are kept.
    let mut keeps = vec![makes_aliases(line)];
    while let Some(c) = rest.chars().next() {
        if out.len() > MOST {
            return Err(TOO_LONG.into());
        }
        let outside = keeps.len() > 1 && !within;
        if !outside && let Some((text, after)) = braced(rest, names) {
            out.push_str(&text);
            rest = after;
            continue;
        }
        if !outside
            && keeps.last() == Some(&false)
            && let Some((text, after)) = plain(&out, rest, names)
        {
            out.push_str(text);
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => quoted = !quoted,
            // `${x}` of a name that stays closes with a brace too.
            '{' if !quoted && out.ends_with('$') => keeps.push(keeps.last() == Some(&true)),
            '{' if !quoted => keeps.push(makes_aliases(rest)),
            '}' if !quoted && keeps.len() > 1 => drop(keeps.pop()),
            _ => {}
        }
        out.push(c);
    }
    Ok(out)
}

const TOO_LONG: &str = "aliases make this line longer than a megabyte";

/// Whether the very first word of a line or block makes or deletes aliases.
fn makes_aliases(text: &str) -> bool {
    let word = text.get(..2).unwrap_or("");
    let ends = text.get(2..).is_some_and(|t| !t.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    ["as", "ad", "al"].iter().any(|w| w.eq_ignore_ascii_case(word)) && ends
}

fn is_fixed(name: &str) -> bool {
    name.strip_prefix("$u").is_some_and(|d| d.len() == 1 && d.as_bytes()[0].is_ascii_digit())
}

/// `line` with the texts of fixed names in their places.
fn fixed_first(line: &str, names: &[(String, String)]) -> Result<String, String> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("$u") {
        let name = rest.get(at..at + 3).unwrap_or("");
        // `${$u1}` is read with the other names in braces.
        let text = find(names, name).filter(|_| is_fixed(name) && !rest[..at].ends_with("${"));
        let next = at + if text.is_some() { 3 } else { 2 };
        out.push_str(&rest[..at]);
        out.push_str(text.unwrap_or("$u"));
        rest = &rest[next..];
        if out.len() > MOST {
            return Err(TOO_LONG.into());
        }
    }
    out.push_str(rest);
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

/// Whether the name of a token follows: `.foreach (` or `.foreach /pS 1 (`. It is made there, not used.
fn names_token(before: &str) -> bool {
    let head = before.strip_suffix('(').and_then(|h| h.get(h.to_ascii_lowercase().rfind(".foreach")? + 8..));
    head.is_some_and(|h| !h.contains(['(', ')', '{', '}', ';', '"']))
}

/// A bare name at the start of `rest` that stands alone.
fn plain<'n, 'r>(before: &str, rest: &'r str, names: &'n [(String, String)]) -> Option<(&'n str, &'r str)> {
    if !before.chars().next_back().is_none_or(|c| c.is_whitespace() || "({[;,\"".contains(c)) || names_token(before) {
        return None;
    }
    let (name, text) = names.iter().rev().find(|(n, _)| {
        let Some(after) = rest.strip_prefix(n.as_str()).filter(|_| !n.is_empty()) else { return false };
        after.chars().next().is_none_or(|c| c.is_whitespace() || ")}];,+\"".contains(c))
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
        assert_eq!(with("x$u1y as $u1"), "xLMy as LM");
        assert_eq!(with("${/d:obj}${/d:no}[${/f:obj}${/f:no}] ${no} ${/n:obj}"), "10[1000] ${no} obj");
        assert_eq!(with("as obj 5 ${obj}"), "as obj 5 1000");
        // Never again on what was put in.
        assert_eq!(with("loop"), "a ${loop}");
        assert_eq!(with("${/v:obj} \"obj\" \"a obj\""), "${/v:obj} \"1000\" \"a 1000\"");
        assert_eq!(with("OBJ"), "OBJ");
        assert_eq!(with(".foreach /pS 1 (obj {x}) {y}; poi(obj)"), ".foreach /pS 1 (obj {x}) {y}; poi(1000)");
    }

    #[test]
    fn where_names_stay() {
        assert_eq!(with("as obj obj"), "as obj obj");
        assert_eq!(with("aS/x obj obj"), "aS/x obj obj");
        assert_eq!(with(" as x obj"), " as x 1000");
        assert_eq!(with(";as x obj"), ";as x 1000");
        assert_eq!(with("ask obj"), "ask 1000");
        // Blocks have their turn when they run; what is quoted opens none.
        assert_eq!(with(".if (obj) {!do obj; .if (1) { obj }} obj"), ".if (1000) {!do obj; .if (1) { obj }} 1000");
        assert_eq!(with(".echo \"{\" obj"), ".echo \"{\" 1000");
        assert_eq!(with("{ ${obj} ${no} ${obj} } ${no} obj"), "{ ${obj} ${no} ${obj} } ${no} 1000");
        let names = [("t".to_owned(), "5".to_owned())];
        assert_eq!(
            expand_within("as x t; { as y t } {as z t} \n as w ${t}", &names).unwrap(),
            "as x t; { as y 5 } {as z t} \n as w 5"
        );
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
