//! What an answer says: the numbers and names of a text, and whether values have them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Everything the values of an answer say.
#[derive(Default)]
pub struct Said {
    numbers: HashSet<u64>,
    /// Numbers with a fraction, and whole ones that text may show in larger units.
    amounts: Vec<f64>,
    /// Amounts rounded to so many decimals in a unit, made when asked for.
    rounded: HashMap<(usize, u64), HashSet<String>>,
    /// All texts, one a line.
    texts: String,
    /// Words of the texts.
    words: HashSet<String>,
}

impl Said {
    /// Takes the facts and tables of an answer, and what it says of the dump. `content` tells keys whose values may be
    /// anything; others that are cut, padded or decorated are noted in `wrong`.
    pub fn take(&mut self, answer: &Value, content: &dyn Fn(&str) -> bool, wrong: &mut Vec<String>) {
        self.value(&answer["dump"]);
        for (key, value) in answer["facts"].as_object().unwrap() {
            self.checked(key, value, content, wrong);
        }
        for table in answer["tables"].as_array().unwrap() {
            let keys: Vec<&str> = table["columns"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
            for row in table["rows"].as_array().unwrap() {
                for (key, value) in keys.iter().zip(row.as_array().unwrap()) {
                    self.checked(key, value, content, wrong);
                }
            }
            keys.into_iter().for_each(|k| self.name(k));
            self.name(table["name"].as_str().unwrap());
        }
        answer["facts"].as_object().unwrap().keys().for_each(|k| self.name(k));
    }

    fn checked(&mut self, key: &str, value: &Value, content: &dyn Fn(&str) -> bool, wrong: &mut Vec<String>) {
        if let Some(text) = value.as_str()
            && !content(key)
            && (text.contains("->") || text.starts_with("...") || text.ends_with("...") || text.trim() != text)
        {
            wrong.push(format!("{key} is cut, padded or decorated: {text:.80}"));
        }
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(members) => members.values().for_each(|v| self.value(v)),
            Value::Array(items) => items.iter().for_each(|v| self.value(v)),
            Value::Number(n) => {
                self.numbers.extend(n.as_u64().or_else(|| n.as_i64().map(i64::unsigned_abs)));
                self.amounts.extend(n.as_f64().map(f64::abs));
            }
            Value::String(text) => {
                match text.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok()) {
                    Some(number) => {
                        self.numbers.insert(number);
                    }
                    None => {
                        self.name(text);
                        // Where a string is one line of text its control characters and backslashes are escaped.
                        if text.contains(['\\', '\n', '"']) {
                            self.name(&text.escape_debug().to_string());
                        }
                    }
                };
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// Takes a text.
    pub fn name(&mut self, text: &str) {
        self.texts.push_str(text);
        self.texts.push('\n');
        self.words.extend(pieces(text).map(str::to_owned));
        let clean = clrscope::shell::quote::clean(text);
        if clean != text {
            self.name(&clean);
        }
    }

    /// The numbers and names of a line of text that no value has.
    pub fn missing(&mut self, line: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let all: Vec<&str> = line.split_whitespace().collect();
        for (i, word) in all.iter().enumerate() {
            let unit = all.get(i + 1).is_some_and(|next| UNITS.iter().any(|u| next.to_lowercase().starts_with(u)));
            let word = word.trim_matches(|c: char| "()[]{}<>:;,.\"'*=|!?".contains(c)).trim_end_matches('_');
            if word.is_empty()
                || self.words.contains(word)
                || word.len() > 2 && !is_number(word) && self.texts.contains(word)
            {
                continue;
            }
            // `{:e}`: what has no fraction looks like hexadecimal.
            if word.contains('e') && word.parse().is_ok_and(|x: f64| self.amounts.contains(&x.abs())) {
                continue;
            }
            // The digits of `.formats`, a byte each.
            if word.len() == 8 && word.bytes().all(|b| matches!(b, b'0' | b'1')) && self.texts.contains(word) {
                continue;
            }
            // Ids of threads that SOS joins by commas.
            let id = |p: &str| u64::from_str_radix(p, 16).is_ok_and(|n| self.numbers.contains(&n));
            if word.contains(',') && word.split(',').all(id) {
                continue;
            }
            if let Some(number) = number(word) {
                if !(self.has(&number, word) || unit && self.scaled(word)) {
                    missing.push(word.to_owned());
                }
                continue;
            }
            if is_name(word) && !pieces(word).all(|p| self.says(p)) {
                missing.push(word.to_owned());
                continue;
            }
            missing
                .extend(pieces(word).filter(|p| is_number(p) && !self.says(p)).map(str::to_owned).collect::<Vec<_>>());
        }
        missing
    }

    fn says(&mut self, piece: &str) -> bool {
        match number(piece) {
            Some(n) => self.has(&n, piece),
            None => self.words.contains(piece) || self.texts.contains(piece) || self.says_both(piece),
        }
    }

    /// Two values that debuggers write as one word: `module+0x1f`, process and thread id `1f4.2a0`.
    fn says_both(&mut self, piece: &str) -> bool {
        if let Some((name, offset)) = piece.rsplit_once('+').filter(|(n, o)| !n.is_empty() && o.starts_with("0x")) {
            return self.says(name) && self.says(offset);
        }
        let known = |hex: &str| u64::from_str_radix(hex, 16).is_ok_and(|n| self.numbers.contains(&n));
        piece.split_once('.').is_some_and(|(process, thread)| known(process) && known(thread))
    }

    fn has(&mut self, number: &Number, word: &str) -> bool {
        match number {
            Number::Whole(candidates) => {
                // A whole number may be what is left of one with a fraction.
                candidates.iter().any(|n| self.numbers.contains(n))
                    || self.words.contains(word)
                    || self.rounded(0, 1.0).contains(&digits(word))
            }
            Number::Fraction => self.words.contains(word) || self.scaled(word) || self.says_both(word),
        }
    }

    /// Whether it is an amount as text rounds it, perhaps in a larger unit.
    fn scaled(&mut self, word: &str) -> bool {
        const LARGER: [f64; 8] = [1.0, 1024.0, 1_048_576.0, 1_073_741_824.0, 1_099_511_627_776.0, 1e3, 1e6, 1e9];
        let text = digits(word);
        let decimals = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        LARGER.iter().any(|u| self.rounded(decimals, *u).contains(&text))
    }

    /// All amounts in this unit, rounded to so many decimals.
    fn rounded(&mut self, decimals: usize, unit: f64) -> &HashSet<String> {
        let amounts = &self.amounts;
        self.rounded
            .entry((decimals, unit as u64))
            .or_insert_with(|| amounts.iter().map(|a| format!("{:.decimals$}", a / unit)).collect())
    }
}

/// Units that stand behind a number, and at its end.
const UNITS: [&str; 4] = ["kb", "mb", "gb", "tb"];

/// A number without what stands around it.
fn digits(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect()
}

enum Number {
    /// What the digits may mean: decimal, hexadecimal.
    Whole(Vec<u64>),
    /// With a fraction.
    Fraction,
}

fn is_number(word: &str) -> bool {
    number(word).is_some()
}

/// A number as commands print them: decimal with or without thousands separators and sign, hexadecimal with or without
/// `0x` and the debuggers' tick, a fraction, a share.
fn number(word: &str) -> Option<Number> {
    let word = word.strip_prefix(['+', '-']).unwrap_or(word);
    let word = word.strip_suffix('%').unwrap_or(word);
    let unit = UNITS.iter().find(|u| word.to_ascii_lowercase().ends_with(**u));
    let word = unit.map_or(word, |u| &word[..word.len() - u.len()]);
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(&hex.replace('`', ""), 16).ok().map(|n| Number::Whole(vec![n]));
    }
    if !word.bytes().any(|b| b.is_ascii_digit()) && !word.contains('`') {
        return None;
    }
    let plain = word.replace(',', "");
    if let Some((whole, fraction)) = plain.split_once('.') {
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        return (digits(whole) && digits(fraction)).then_some(Number::Fraction);
    }
    let decimal = plain.parse().ok();
    let hex = u64::from_str_radix(&word.replace('`', ""), 16).ok();
    let all: Vec<u64> = decimal.into_iter().chain(hex).collect();
    (!all.is_empty()).then_some(Number::Whole(all))
}

/// Whether a word is a name of something in the process: of a type, a method, a file, a field.
fn is_name(word: &str) -> bool {
    let inside = |c: char| "./\\!_`<+".contains(c);
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let begins = word.starts_with(|c: char| c.is_alphanumeric() || "_/".contains(c));
    letters > 1 && begins && !word.starts_with('-') && word.chars().any(inside)
}

/// A text split where words of names and numbers end.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "()[]{}<>:;=\"'|*,".contains(c);
    text.split(ends).filter(|p| !p.is_empty())
}

#[test]
fn words_of_a_line() {
    let mut said = Said::default();
    let answer = serde_json::json!({
        "dump": null, "facts": {"size": 24, "share": 12.345, "bytes": 1_572_864},
        "tables": [{"name": "t", "columns": ["address", "type"], "rows": [["0x7f0010", "System.Collections.List<System.Int32>"]]}],
    });
    let mut wrong = Vec::new();
    said.take(&answer, &|_| false, &mut wrong);
    assert!(wrong.is_empty());
    let line = "Size: 24(0x18) bytes 007f0010 00000000`007f0010 12.35% 1.5 MB 1.50mb 2 MB System.Collections.List<System.Int32>, it.";
    assert_eq!(said.missing(line), [""; 0]);
    assert_eq!(
        said.missing("25(0x18) 7f0011 12.4% 1.9 2 System.Collections.Queue<System.Int32> [3] a=4"),
        ["25", "7f0011", "12.4%", "1.9", "2", "System.Collections.Queue<System.Int32", "3", "4"]
    );
    said.take(
        &serde_json::json!({"dump": null, "facts": {"a": " x", "b": "-> y", "c": "...z"}, "tables": []}),
        &|k| k == "b",
        &mut wrong,
    );
    assert_eq!(wrong.len(), 2);
}
