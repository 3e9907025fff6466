//! The descriptor's JSON: compact (as every runtime writes it) or spelled out (as the design document has it too), with
//! comments and trailing commas, as the runtime's own reader accepts them.

use serde_json::{Map, Value};

use crate::clr::layout::number;

/// Most bytes of a structure: the runtime's own records hold offsets of 16 bits.
const MAX_OFFSET: u64 = 1 << 16;
/// Notes of one kind that are kept.
const MAX_NOTES: usize = 8;

/// Parses the text.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let json: Value = serde_json::from_slice(&plain(bytes)).map_err(|e| format!("its text is no JSON: {e}"))?;
    match json.as_object() {
        Some(_) => Ok(compact(json)),
        None => Err("its text is no JSON object".into()),
    }
}

/// The text without comments and trailing commas; strings stay as they are.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let (mut i, mut quoted) = (0, false);
    while let Some(&b) = bytes.get(i) {
        let next = bytes.get(i + 1).copied();
        if quoted {
            out.push(b);
            if b == b'\\' {
                out.extend(next);
                i += 1;
            }
            quoted = b != b'"';
        } else if b == b'/' && next == Some(b'/') {
            i += bytes[i..].iter().position(|&c| c == b'\n').unwrap_or(bytes.len());
        } else if b == b'/' && next == Some(b'*') {
            let rest = bytes.get(i + 2..).unwrap_or(&[]);
            i += rest.windows(2).position(|w| w == b"*/").map_or(bytes.len(), |n| n + 3);
        } else {
            if matches!(b, b'}' | b']') {
                let end = out.iter().rposition(|c| !c.is_ascii_whitespace());
                if let Some(end) = end.filter(|&e| out[e] == b',') {
                    out.truncate(end);
                }
            }
            out.push(b);
            quoted = b == b'"';
        }
        i += 1;
    }
    out
}

/// Turns lists of named things into objects: `[{"name": "T", "size": 8, "fields": [...]}]` into `{"T": {"!": 8, ...}}`.
fn compact(mut json: Value) -> Value {
    let named = |list: &[Value], of: &dyn Fn(&Value) -> Value| -> Value {
        let item = |v: &Value| Some((v.get("name")?.as_str()?.to_owned(), of(v)));
        Value::Object(list.iter().filter_map(item).collect::<Map<_, _>>())
    };
    let field = |v: &Value| v.get("offset").cloned().unwrap_or(Value::Null);
    let structure = |v: &Value| {
        let mut fields = match v.get("fields").and_then(Value::as_array) {
            Some(list) => named(list, &field),
            None => Value::Object(Map::new()),
        };
        if let (Some(size), Some(map)) = (v.get("size").filter(|s| number(s).is_some()), fields.as_object_mut()) {
            map.insert("!".into(), size.clone());
        }
        fields
    };
    let global = |v: &Value| match v.get("type") {
        Some(ty) => Value::Array(vec![field_of(v, "value"), ty.clone()]),
        None => field_of(v, "value"),
    };
    if let Some(list) = json.get("types").and_then(Value::as_array).cloned() {
        json["types"] = named(&list, &structure);
    }
    if let Some(list) = json.get("globals").and_then(Value::as_array).cloned() {
        json["globals"] = named(&list, &global);
    }
    json
}

fn field_of(v: &Value, name: &str) -> Value {
    v.get(name).cloned().unwrap_or(Value::Null)
}

/// The version of the text.
pub fn version(json: &Value) -> Result<u64, String> {
    json.get("version").and_then(number).ok_or_else(|| "its text names no version".into())
}

/// The text it builds on, when that is not an empty one: no runtime so far has any.
pub fn baseline(json: &Value) -> Option<&str> {
    json.get("baseline").and_then(Value::as_str).filter(|b| !b.is_empty() && *b != "empty")
}

/// Takes out what cannot be: offsets no structure reaches, globals behind the end of the pointers. Says so.
pub fn bounded(mut json: Value, pointers: usize, notes: &mut Vec<String>) -> Result<Value, String> {
    let mut wild = Vec::new();
    match json.get_mut("types").map(Value::as_object_mut) {
        Some(Some(types)) => {
            for (ty, fields) in types.iter_mut() {
                let Some(fields) = fields.as_object_mut() else {
                    wild.push(format!("type {ty}"));
                    continue;
                };
                fields.retain(|field, v| {
                    let at = number(v).or_else(|| number(v.get(0)?));
                    let sane = at.is_some_and(|n| n < MAX_OFFSET);
                    if !sane {
                        wild.push(format!("{ty}.{field}"));
                    }
                    sane
                });
            }
            types.retain(|_, fields| fields.is_object());
        }
        Some(None) => return Err("its types are neither an object nor a list".into()),
        None => {}
    }
    match json.get_mut("globals").map(Value::as_object_mut) {
        Some(Some(globals)) => globals.retain(|name, v| {
            let sane = index(v).is_none_or(|i| i < pointers as u64);
            if !sane {
                wild.push(format!("global {name}"));
            }
            sane && !v.is_null()
        }),
        Some(None) => return Err("its globals are neither an object nor a list".into()),
        None => {}
    }
    if !wild.is_empty() {
        let rest = wild.len().saturating_sub(MAX_NOTES);
        wild.truncate(MAX_NOTES);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        notes.push(format!("not believed: {}{more}", wild.join(", ")));
    }
    Ok(json)
}

/// The pointer an indirect value refers to: `[n]` or `[[n], "type"]`.
fn index(v: &Value) -> Option<u64> {
    match v.as_array()?.as_slice() {
        [n] => number(n),
        [Value::Array(inner), _] => number(inner.first()?),
        _ => None,
    }
}

/// Sub-descriptors by name, with the variable that holds each one's address.
pub fn sub_descriptors(json: &Value, pointers: &[u64]) -> Vec<(String, Option<u64>)> {
    let all = json.get("subDescriptors").and_then(Value::as_object).into_iter().flatten();
    let cell = |v: &Value| pointers.get(usize::try_from(index(v)?).ok()?).copied();
    all.take(MAX_NOTES * 4).map(|(name, v)| (name.clone(), cell(v))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_accepted() {
        let text = br#"{ // a comment, "with" quotes
            "version": 0, /* another */ "types": {"A//B": {"x": 8, "y": [16, "pointer",],},},
        }"#;
        let json = parse(text).unwrap();
        assert_eq!(json["types"]["A//B"]["y"][0], 16);
    }

    #[test]
    fn the_form_spelled_out_becomes_the_compact_one() {
        let text = br#"{"version": "0", "types": [{"name": "T", "size": 24, "fields": [
            {"name": "a", "type": "uint32", "offset": 8}, {"name": "b", "type": "uint32", "offset": "unknown"}]}],
            "globals": [{"name": "G", "type": "uint8", "value": "0x7"}]}"#;
        let mut notes = Vec::new();
        let json = bounded(parse(text).unwrap(), 0, &mut notes).unwrap();
        assert_eq!(version(&json), Ok(0));
        assert_eq!(json["types"]["T"]["!"], 24);
        assert_eq!(json["types"]["T"]["a"], 8);
        assert!(json["types"]["T"].get("b").is_none());
        assert_eq!(json["globals"]["G"][0], "0x7");
        assert_eq!(notes, ["not believed: T.b"]);
    }

    #[test]
    fn what_cannot_be_is_taken_out_and_named() {
        let text = br#"{"version": 2, "types": {"T": {"a": 65536, "b": -8, "c": [4, "x"]}, "U": 5},
            "globals": {"Far": [9], "Far2": [[9], "pointer"], "Near": [1]}}"#;
        let mut notes = Vec::new();
        let json = bounded(parse(text).unwrap(), 3, &mut notes).unwrap();
        assert_eq!(json["types"]["T"].as_object().unwrap().len(), 1);
        assert!(json["types"].get("U").is_none());
        assert_eq!(json["globals"].as_object().unwrap().len(), 1);
        assert_eq!(notes.len(), 1);
        for word in ["T.a", "T.b", "type U", "global Far", "global Far2"] {
            assert!(notes[0].contains(word), "{word} in {notes:?}");
        }
    }

    #[test]
    fn malformed_texts_are_refused_not_a_panic() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "[]", "5", "{\"version\":", "{\"a\":\"\\", "/*", "//", "{\"types\"/", &deep] {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(20)]);
        }
        let mut notes = Vec::new();
        assert!(bounded(parse(b"{\"types\": 5}").unwrap(), 0, &mut notes).is_err());
        assert!(version(&parse(b"{\"version\": {}}").unwrap()).is_err());
    }
}
