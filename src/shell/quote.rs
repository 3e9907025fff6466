//! Text made safe for where it goes: a terminal, JSON, CSV.

use std::borrow::Cow;

/// Whether a byte of UTF-8 may be copied into a JSON string as it is. The first byte of a C1 control (`C2 80` to `C2 9F`)
/// or of a mark of direction (`E2 80 A8`, ...) may begin other characters too and is looked at.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut i = 0;
    while i < 0x20 {
        plain[i] = false;
        i += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0x7F] = false;
    plain[0xC2] = false;
    plain[0xE2] = false;
    plain
};

/// Whether a character acts on a terminal, or on the order in which text is shown: controls of C0 and C1, line and
/// paragraph separators, marks that turn the direction of writing.
pub fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Whether some character of `text` may be one that [`acts`]: by the first byte of those that do.
fn may_act(text: &str) -> bool {
    // All bytes are looked at: sixteen at once are faster than one after the other up to the first.
    text.bytes().fold(false, |any, b| any | (b < 0x20) | (b == 0x7F) | (b == 0xC2) | (b == 0xE2))
}

/// Appends `text` with the characters that [`acts`] names written out (`\0`, `\x1b`, `\u202e`): those of names and strings
/// never reach the terminal, and different texts look different.
pub fn push_clean(out: &mut Vec<u8>, text: &str) {
    if may_act(text) {
        text.chars().for_each(|c| push_visible(out, c));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

fn push_visible(out: &mut Vec<u8>, c: char) {
    if !acts(c) {
        return push_char(out, c);
    }
    out.push(b'\\');
    match c {
        '\0' => out.push(b'0'),
        '\t' => out.push(b't'),
        '\n' => out.push(b'n'),
        '\r' => out.push(b'r'),
        c if u32::from(c) < 0x100 => {
            out.push(b'x');
            super::numbers::push_hex(out, u64::from(u32::from(c)), 2);
        }
        c => {
            out.push(b'u');
            super::numbers::push_hex(out, u64::from(u32::from(c)), 4);
        }
    }
}

/// `text` as [`push_clean`] has it.
pub fn clean(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    push_clean(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// Lines of text, tabs allowed, in which nothing acts on a terminal.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\t');
    if !may_act(text) || !text.chars().any(|c| acts(c) && !stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if stays(c) { push_char(&mut out, c) } else { push_visible(&mut out, c) });
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// As [`push_clean`] for UTF-16; half a surrogate pair becomes U+FFFD.
pub fn push_clean_units(out: &mut Vec<u8>, text: &[u16]) {
    let start = out.len();
    out.extend(text.iter().map_while(|u| u8::try_from(*u).ok().filter(|b| (0x20..0x7F).contains(b))));
    if out.len() - start == text.len() {
        return;
    }
    out.truncate(start);
    push_clean(out, &String::from_utf16_lossy(text));
}

/// Appends `text` as a JSON string, quotes included. Control characters are escaped, DEL and the C1 controls too: they
/// act on terminals.
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        if PLAIN[b as usize] {
            at += 1;
            continue;
        }
        // These bytes begin a character: all before it was passed as whole characters.
        let c = text.get(at..).and_then(|t| t.chars().next()).unwrap_or('\0');
        if b >= 0x80 && !acts(c) {
            at += c.len_utf8();
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        push_escaped(out, c as u16);
        at += c.len_utf8();
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// As [`push_json`] for UTF-16. Half a surrogate pair is escaped as it is (`\ud800`): nothing of the dump is replaced.
pub fn push_json_units(out: &mut Vec<u8>, text: &[u16]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for c in units(text) {
        match c {
            Ok(c) if acts(c) || c == '"' || c == '\\' => push_escaped(out, c as u16),
            Ok(c) => push_char(out, c),
            Err(half) => push_escaped(out, half),
        }
    }
    out.push(b'"');
}

fn units(text: &[u16]) -> impl Iterator<Item = Result<char, u16>> + '_ {
    char::decode_utf16(text.iter().copied()).map(|c| c.map_err(|e| e.unpaired_surrogate()))
}

/// The escape of a character of the basic plane, or of half a surrogate pair.
fn push_escaped(out: &mut Vec<u8>, unit: u16) {
    let short = match unit {
        0x08 => b'b',
        0x09 => b't',
        0x0A => b'n',
        0x0C => b'f',
        0x0D => b'r',
        0x22 => b'"',
        0x5C => b'\\',
        _ => {
            out.extend_from_slice(b"\\u");
            super::numbers::push_hex(out, u64::from(unit), 4);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends one field of CSV as RFC 4180 has it. `alone`: the record has no other. What acts on a terminal, but for tabs and
/// line feeds, becomes its escape of JSON. A field that a spreadsheet would run as a formula begins with an apostrophe.
pub fn push_csv(out: &mut Vec<u8>, text: &str, alone: bool) {
    let stays = |c: char| matches!(c, '\t' | '\n');
    if may_act(text) && text.chars().any(|c| acts(c) && !stays(c)) {
        let mut plain = Vec::with_capacity(text.len() + 16);
        for c in text.chars() {
            if acts(c) && !stays(c) { push_escaped(&mut plain, c as u16) } else { push_char(&mut plain, c) }
        }
        return push_csv_field(out, &String::from_utf8(plain).unwrap_or_default(), alone);
    }
    push_csv_field(out, text, alone);
}

fn push_csv_field(out: &mut Vec<u8>, text: &str, alone: bool) {
    let inert = if text.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
    // A record of one empty field would be an empty line, which readers skip.
    if alone && text.is_empty() {
        out.extend_from_slice(b"\"\"");
    } else if text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n')) {
        out.push(b'"');
        out.extend_from_slice(inert.as_bytes());
        let mut parts = text.split('"');
        out.extend_from_slice(parts.next().unwrap_or("").as_bytes());
        for part in parts {
            out.extend_from_slice(b"\"\"");
            out.extend_from_slice(part.as_bytes());
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(inert.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// As [`push_csv`] for UTF-16. Half a surrogate pair, which UTF-8 cannot hold, becomes its escape of JSON.
pub fn push_csv_units(out: &mut Vec<u8>, text: &[u16], alone: bool) {
    let mut plain = String::with_capacity(text.len());
    for c in units(text) {
        match c {
            Ok(c) => plain.push(c),
            Err(half) => plain.push_str(&format!("\\u{half:04x}")),
        }
    }
    push_csv(out, &plain, alone);
}

fn push_char(out: &mut Vec<u8>, c: char) {
    let mut bytes = [0; 4];
    out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::buffer::written as text;
    use super::*;

    #[test]
    fn halves_of_pairs_and_controls_are_escaped() {
        assert_eq!(text(|o| push_json_units(o, &[0x41, 0xD800, 0x42, 0, 0x85])), r#""A\ud800B\u0000\u0085""#);
        assert_eq!(
            text(|o| push_json(o, "a\u{85}\u{a0}\u{7f}\u{1b}\"\\\r\n")),
            "\"a\\u0085\u{a0}\\u007f\\u001b\\\"\\\\\\r\\n\""
        );
        assert_eq!(text(|o| push_csv_units(o, &[0xDC00, 0x2C], false)), "\"\\udc00,\"");
        assert_eq!(text(|o| push_clean_units(o, &[0x41, 0x0A, 0xD800])), "A\\n\u{fffd}");
        assert_eq!(text(|o| push_clean(o, "a\u{85}\tb\0\u{202e}\u{1b}")), "a\\x85\\tb\\0\\u202e\\x1b");
        assert_eq!(clean_lines("a\u{85}\tb\n\u{1b}"), "a\\x85\tb\n\\x1b");
        assert_eq!(text(|o| push_csv(o, "\u{1b}[m\u{202e}\r", false)), "\\u001b[m\\u202e\\r");
        for formula in ["=1", "+1", "-1", "@a", "\t=1"] {
            assert_eq!(text(|o| push_csv(o, formula, false)), format!("'{formula}"));
        }
    }

    proptest! {
        #[test]
        fn json_is_read_back(s in "\\PC*|[\\x00-\\u{a0}\"\\\\\u{2028}\u{1F600}]*") {
            let json = text(|o| push_json(o, &s));
            prop_assert_eq!(&serde_json::from_str::<String>(&json).unwrap(), &s);
            prop_assert!(!json.chars().any(acts));
            let units: Vec<u16> = s.encode_utf16().collect();
            prop_assert_eq!(text(|o| push_json_units(o, &units)), json);
            prop_assert_eq!(text(|o| push_clean_units(o, &units)), text(|o| push_clean(o, &s)));
            prop_assert_eq!(text(|o| push_csv_units(o, &units, true)), text(|o| push_csv(o, &s, true)));
        }

        #[test]
        fn csv_is_read_back(rows in proptest::collection::vec(proptest::collection::vec("[a,\"\n;]{0,7}", 3), 1..6)) {
            let mut out = Vec::new();
            for row in &rows {
                for (i, field) in row.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    push_csv(&mut out, field, row.len() == 1);
                }
                out.push(b'\n');
            }
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]);
            let back: Vec<Vec<String>> =
                reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
            prop_assert_eq!(back, rows);
        }
    }
}
