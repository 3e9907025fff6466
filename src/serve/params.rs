//! The arguments of the tools: one declaration from which their schema, their defaults and the complaints about them derive.

use serde_json::{Map, Value, json};

/// What an argument takes.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// A text.
    Text,
    /// A whole number: without the argument, at least, at most.
    Number(u64, u64, u64),
    /// Some of these words; without the argument, so many of the first ones.
    Words(&'static [&'static str], usize),
}

/// One argument.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// It must be there.
    pub required: bool,
    /// What it is for.
    pub about: &'static str,
}

impl Param {
    /// An argument that may be left out.
    pub const fn new(name: &'static str, takes: Takes, about: &'static str) -> Self {
        Self { name, takes, required: false, about }
    }

    /// Makes it required.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn schema(&self) -> Value {
        let mut schema = match self.takes {
            Takes::Text => json!({"type": "string"}),
            Takes::Number(default, least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most, "default": default})
            }
            Takes::Words(words, first) => {
                json!({"type": "array", "items": {"enum": words}, "default": words.get(..first)})
            }
        };
        schema["description"] = self.about.into();
        schema
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let name = self.name;
        match self.takes {
            Takes::Text if value.is_string() => Ok(()),
            Takes::Text => Err(format!("`{name}` takes a text")),
            Takes::Number(_, least, most) => match value.as_u64() {
                Some(n) if (least..=most).contains(&n) => Ok(()),
                _ => Err(format!("`{name}` takes a whole number from {least} to {most}")),
            },
            Takes::Words(words, _) => {
                let is_word = |v: &Value| v.as_str().is_some_and(|w| words.contains(&w));
                match value.as_array() {
                    Some(all) if all.iter().all(is_word) => Ok(()),
                    _ => Err(format!("`{name}` takes a list of {}", words.join(", "))),
                }
            }
        }
    }
}

/// The schema of these arguments.
pub fn schema(params: &[Param]) -> Map<String, Value> {
    let properties: Map<String, Value> = params.iter().map(|p| (p.name.to_owned(), p.schema())).collect();
    let required: Vec<&str> = params.iter().filter(|p| p.required).map(|p| p.name).collect();
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    schema.as_object().cloned().unwrap_or_default()
}

/// Arguments as they were given, checked.
#[derive(Debug, Clone, Default)]
pub struct Given {
    values: Map<String, Value>,
    params: &'static [Param],
}

impl Given {
    /// Checks what was given; the error says what is wrong with it.
    pub fn new(params: &'static [Param], values: Map<String, Value>) -> Result<Self, String> {
        let names = || params.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        for (name, value) in &values {
            match params.iter().find(|p| p.name == name) {
                Some(param) => param.check(value)?,
                None => {
                    return Err(format!(
                        "there is no argument `{}`; those there are: {}",
                        name.escape_debug(),
                        names()
                    ));
                }
            }
        }
        if let Some(p) = params.iter().find(|p| p.required && !values.contains_key(p.name)) {
            return Err(format!("`{}` is missing: {}", p.name, p.about));
        }
        Ok(Self { values, params })
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    /// A number, or what it is without the argument.
    pub fn number(&self, name: &str) -> u64 {
        let default = || {
            self.params.iter().find_map(|p| match p.takes {
                Takes::Number(default, ..) if p.name == name => Some(default),
                _ => None,
            })
        };
        self.values.get(name).and_then(Value::as_u64).or_else(default).unwrap_or(0)
    }

    /// Whether a word is among those given, or those that are meant without the argument.
    pub fn has(&self, name: &str, word: &str) -> bool {
        if let Some(given) = self.values.get(name).and_then(Value::as_array) {
            return given.iter().any(|v| v == word);
        }
        self.params.iter().any(|p| match p.takes {
            Takes::Words(words, first) => p.name == name && words.iter().take(first).any(|w| *w == word),
            _ => false,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PARAMS: &[Param] = &[
        Param::new("line", Takes::Text, "what to run").required(),
        Param::new("limit", Takes::Number(5, 1, 9), "rows"),
        Param::new("parts", Takes::Words(&["a", "b"], 1), "which"),
    ];

    fn given(value: Value) -> Result<Given, String> {
        Given::new(PARAMS, value.as_object().cloned().unwrap())
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, part) in [
            (json!({}), "`line` is missing"),
            (json!({"line": 1}), "takes a text"),
            (json!({"line": "x", "limit": 0}), "from 1 to 9"),
            (json!({"line": "x", "limit": "3"}), "from 1 to 9"),
            (json!({"line": "x", "limit": -1}), "from 1 to 9"),
            (json!({"line": "x", "limit": 1.5}), "from 1 to 9"),
            (json!({"line": "x", "parts": ["c"]}), "a list of a, b"),
            (json!({"line": "x", "parts": "a"}), "a list of a, b"),
            (json!({"line": "x", "limits": 3}), "those there are: line, limit, parts"),
        ] {
            let why = given(value).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn what_is_left_out_is_as_declared() {
        let g = given(json!({"line": "x"})).unwrap();
        assert_eq!((g.text("line"), g.number("limit")), (Some("x"), 5));
        assert!(g.has("parts", "a") && !g.has("parts", "b"));
        let g = given(json!({"line": "x", "limit": 7, "parts": ["b"]})).unwrap();
        assert_eq!(g.number("limit"), 7);
        assert!(!g.has("parts", "a") && g.has("parts", "b"));
    }
}
