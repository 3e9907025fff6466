//! JSON Schemas (2020-12) of answers, from what commands declare that they return.

use serde_json::{Map, Value, json};

use super::command::{Command, Prefix};
use super::data::SCHEMA;
use super::parse::spelled;
use super::returns::{Col, Fact, Table, Type};

/// Name of the schema every answer follows, whatever its command.
pub const ANSWER: &str = "answer";

/// All schemas by name: that of any answer, and one for each command that returns facts or tables.
pub fn all(commands: &[&Command]) -> Vec<(String, Value)> {
    // `!u` is another command than `u`.
    let native = |name: &str| commands.iter().any(|c| c.name == name && c.prefix == Prefix::Plain);
    let name = |c: &Command| match c.prefix {
        Prefix::Bang if native(c.name) => format!("!{}", c.name),
        _ => c.name.to_owned(),
    };
    let of_commands = commands.iter().filter(|c| !c.returns.is_nothing()).map(|c| (name(c), of(c)));
    std::iter::once((ANSWER.to_owned(), answer())).chain(of_commands).collect()
}

/// Name of the file of a schema: other characters than letters, digits and `_` as `x` and their number, since not every
/// system has files called `?`.
pub fn file(name: &str) -> String {
    // No two files may differ by case alone.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let spelled = name.chars().map(|c| if plain(c) { c.to_string() } else { format!("x{:02x}", u32::from(c)) });
    spelled.collect::<String>() + ".json"
}

/// What holds for every answer.
fn answer() -> Value {
    let defs: Map<String, Value> = Type::ALL.iter().map(|t| (t.name().to_owned(), of_type(*t))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Answer of a clrscope command",
        "description": "One object a command and line. Pipes that change the columns of a table (cols, group, count) \
                        leave this schema valid, but not that of the command.",
        "type": "object",
        "required": ["schema", "dump", "command", "outcome", "reason", "facts", "tables", "notes"],
        "additionalProperties": false,
        "properties": {
            "schema": {"const": SCHEMA, "description": "version of this shape"},
            "dump": dump(),
            "command": {"type": "string", "description": "the command as typed"},
            "outcome": {"enum": ["complete", "partial", "empty", "failed"]},
            "reason": {"type": ["string", "null"], "description": "why the answer is partial or failed"},
            "facts": {"type": "object", "description": "single values by key"},
            "tables": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "columns", "rows"],
                    "additionalProperties": false,
                    "properties": {
                        "name": {"type": "string"},
                        "columns": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
                        "rows": {"type": "array", "items": {"type": "array"}},
                    },
                },
            },
            "notes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "prose for people; what it says of the dump stands in facts or rows too",
            },
        },
        "$defs": defs,
    })
}

fn dump() -> Value {
    let text = json!({"type": ["string", "null"]});
    let number = json!({"type": ["integer", "null"], "minimum": 0});
    json!({
        "description": "which dump the answer is about; null when none is open",
        "type": ["object", "null"],
        "required": ["file", "size", "os", "arch", "pid", "process", "time", "file_time", "runtime", "runtime_build"],
        "additionalProperties": false,
        "properties": {
            "file": {"type": "string", "description": "name of the file without its folder"},
            "size": {"type": "integer", "minimum": 0, "description": "its bytes, unpacked"},
            "os": {"enum": ["linux", "windows"]},
            "arch": {"enum": ["x64", "x86", "arm64", "arm"]},
            "pid": number,
            "process": text,
            "time": {"$ref": "#/$defs/time", "description": "when the dump was taken, where it says so"},
            "file_time": {"$ref": "#/$defs/time", "description": "when the file was last written"},
            "runtime": {"type": ["string", "null"], "description": "version of the .NET runtime"},
            "runtime_build": {
                "type": ["string", "null"],
                "description": "build of that runtime: the ELF build id, or PE timestamp and image size",
            },
        },
    })
}

/// The schema of a value of this type.
pub fn of_type(ty: Type) -> Value {
    match ty {
        Type::Address => json!({
            "description": "an address", "type": ["string", "null"], "pattern": "^0x[0-9a-f]{1,16}$",
        }),
        Type::Hex => json!({
            "description": "an identifier or bits customarily written in hexadecimal",
            "type": ["string", "null"],
            "pattern": "^0x[0-9a-f]{1,16}$",
        }),
        Type::Bytes => json!({"description": "a number of bytes", "type": ["integer", "null"], "minimum": 0}),
        Type::Count => json!({"description": "a number of things", "type": ["integer", "null"], "minimum": 0}),
        Type::Number => json!({"description": "a number", "type": ["number", "null"]}),
        Type::Share => json!({"description": "a share in percent", "type": ["number", "null"]}),
        Type::Time => json!({
            "description": "a moment in UTC",
            "type": ["string", "null"],
            "pattern": "^[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
        }),
        Type::Text => json!({"description": "words and names", "type": ["string", "null"]}),
        Type::Content => json!({
            "description": "text of the process as it was; half a surrogate pair is escaped (\\ud800)",
            "type": ["string", "null"],
        }),
        Type::TypeName => json!({"description": "the whole name of a type", "type": ["string", "null"]}),
        Type::FieldPath => json!({"description": "fields separated by dots", "type": ["string", "null"]}),
        Type::Bool => json!({"description": "true or false", "type": ["boolean", "null"]}),
    }
}

/// The schema of one command's answers.
fn of(command: &Command) -> Value {
    let facts: Map<String, Value> =
        command.returns.all_facts().into_iter().map(|f| (f.key.to_owned(), fact(f))).collect();
    let tables: Vec<Value> = command.returns.all_tables().into_iter().map(table).collect();
    let tables = if tables.is_empty() { json!({"maxItems": 0}) } else { json!({"items": {"anyOf": tables}}) };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": spelled(command),
        "description": command.summary,
        "$ref": format!("{ANSWER}.json"),
        "properties": {
            "facts": {"additionalProperties": false, "properties": facts},
            "tables": tables,
        },
    })
}

fn value(ty: Type, title: &str, unit: &str) -> Value {
    let mut value = Map::new();
    value.insert("$ref".into(), format!("{ANSWER}.json#/$defs/{}", ty.name()).into());
    if !title.is_empty() {
        value.insert("title".into(), title.into());
    }
    if !unit.is_empty() {
        value.insert("unit".into(), unit.into());
    }
    value.into()
}

fn fact(f: &Fact) -> Value {
    value(f.ty, f.title, f.unit)
}

fn table(t: &Table) -> Value {
    if let Some(what) = t.varies {
        return json!({
            "description": format!("its columns are {what}"),
            "properties": {"name": {"const": t.name}},
        });
    }
    let keys: Vec<&str> = t.columns.iter().map(|c| c.key).collect();
    let columns: Vec<Value> = t.columns.iter().map(|c: &Col| value(c.ty, c.title, c.unit)).collect();
    let mut schema = json!({
        "properties": {
            "name": {"const": t.name},
            "columns": {"const": keys},
            "rows": {"items": {"prefixItems": columns, "items": false, "minItems": keys.len()}},
        },
    });
    if let Some(p) = &t.parent {
        schema["parent"] = json!({"table": p.table, "key": p.key});
    }
    if let Some(key) = t.rising {
        schema["rising"] = json!(key);
    }
    schema
}
