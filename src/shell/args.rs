//! Parsed, evaluated arguments as commands see them.

/// A value of an argument after parsing and evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A flag that was given.
    Flag,
    /// Address or number.
    Number(u64),
    /// Text, name or path.
    Text(String),
}

/// The arguments of one call, by declared name.
#[derive(Debug, Clone, Default)]
pub struct Args {
    values: Vec<(&'static str, Value)>,
    /// Where the argument that is taken as typed begins, behind the name of the command: places of mistakes in it count
    /// from there.
    pub raw_at: Option<usize>,
}

impl Args {
    /// Adds a value under the declared name.
    pub fn push(&mut self, name: &'static str, value: Value) {
        self.values.push((name, value));
    }

    /// Whether the argument was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(n, _)| *n == name)
    }

    /// Number or address given for `name`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.values.iter().find_map(|(n, v)| match v {
            Value::Number(x) if *n == name => Some(*x),
            _ => None,
        })
    }

    /// Text given for `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find_map(|(n, v)| match v {
            Value::Text(x) if *n == name => Some(x.as_str()),
            _ => None,
        })
    }

    /// All numbers given for `name`.
    pub fn numbers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.values.iter().filter_map(move |(n, v)| match v {
            Value::Number(x) if *n == name => Some(*x),
            _ => None,
        })
    }

    /// All texts given for `name`.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.values.iter().filter_map(move |(n, v)| match v {
            Value::Text(x) if *n == name => Some(x.as_str()),
            _ => None,
        })
    }
}
