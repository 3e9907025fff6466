//! Text made safe for where it goes: a terminal, JSON, CSV.

/// Whether a byte of UTF-8 may be copied into a JSON string as it is. The first byte of a C1 control (`C2 80` to `C2 9F`)
/// may begin other characters too and is looked at.
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
    plain
};

/// Appends `text` with control characters replaced by dots: those of names and strings never reach the terminal.
pub fn push_clean(out: &mut Vec<u8>, text: &str) {
    // C2 may begin a control character of the second table.
    if text.bytes().any(|b| b < 0x20 || b == 0x7F || b == 0xC2) {
        for c in text.chars() {
            push_char(out, if c.is_control() { '.' } else { c });
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// `text` with control characters replaced by dots.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
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
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        if b == 0xC2 && !(0x80..0xA0).contains(&next) {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        if b == 0xC2 {
            push_escaped(out, u16::from(next));
            at += 2;
        } else {
            push_escaped(out, u16::from(b));
            at += 1;
        }
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
            Ok(c) if c.is_control() || c == '"' || c == '\\' => push_escaped(out, c as u16),
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

/// Appends one field of CSV as RFC 4180 has it. `alone`: the record has no other.
pub fn push_csv(out: &mut Vec<u8>, text: &str, alone: bool) {
    // A record of one empty field would be an empty line, which readers skip.
    if alone && text.is_empty() {
        out.extend_from_slice(b"\"\"");
    } else if text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        out.push(b'"');
        let mut parts = text.split('"');
        out.extend_from_slice(parts.next().unwrap_or("").as_bytes());
        for part in parts {
            out.extend_from_slice(b"\"\"");
            out.extend_from_slice(part.as_bytes());
        }
        out.push(b'"');
    } else {
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

    use super::*;

    fn text(of: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        of(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn halves_of_pairs_and_controls_are_escaped() {
        assert_eq!(text(|o| push_json_units(o, &[0x41, 0xD800, 0x42, 0, 0x85])), r#""A\ud800B\u0000\u0085""#);
        assert_eq!(
            text(|o| push_json(o, "a\u{85}\u{a0}\u{7f}\u{1b}\"\\\r\n")),
            "\"a\\u0085\u{a0}\\u007f\\u001b\\\"\\\\\\r\\n\""
        );
        assert_eq!(text(|o| push_csv_units(o, &[0xDC00, 0x2C], false)), "\"\\udc00,\"");
        assert_eq!(text(|o| push_clean_units(o, &[0x41, 0x0A, 0xD800])), "A.\u{fffd}");
        assert_eq!(text(|o| push_clean(o, "a\u{85}\tb")), "a..b");
    }

    proptest! {
        #[test]
        fn json_is_read_back(s in "\\PC*|[\\x00-\\u{a0}\"\\\\\u{2028}\u{1F600}]*") {
            let json = text(|o| push_json(o, &s));
            prop_assert_eq!(&serde_json::from_str::<String>(&json).unwrap(), &s);
            prop_assert!(!json.chars().any(char::is_control));
            let units: Vec<u16> = s.encode_utf16().collect();
            prop_assert_eq!(text(|o| push_json_units(o, &units)), json);
            prop_assert_eq!(text(|o| push_clean_units(o, &units)), text(|o| push_clean(o, &s)));
            prop_assert_eq!(text(|o| push_csv_units(o, &units, true)), text(|o| push_csv(o, &s, true)));
        }

        #[test]
        fn csv_is_read_back(rows in proptest::collection::vec(proptest::collection::vec("[a,\"\n\r;\\PC]{0,6}", 3), 1..6)) {
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
