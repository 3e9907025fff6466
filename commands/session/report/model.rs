//! The model of a report: sections with the answers of commands and charts, as JSON.

use serde_json::{Map, Value as Json, json};

use super::{chart, waitgraph};

/// Version of the model's shape. It grows when something is taken away or changes its meaning.
pub const VERSION: u64 = 1;

/// Name of the model's schema.
pub const SCHEMA: &str = "report_model";

/// A member of an object, or null.
pub fn at<'a>(of: &'a Json, key: &str) -> &'a Json {
    of.get(key).unwrap_or(&Json::Null)
}

/// Text under a key; empty without one.
pub fn text<'a>(of: &'a Json, key: &str) -> &'a str {
    at(of, key).as_str().unwrap_or_default()
}

/// The list under a key; empty without one.
pub fn list<'a>(of: &'a Json, key: &str) -> &'a [Json] {
    at(of, key).as_array().map_or(&[][..], Vec::as_slice)
}

/// Rows of a table of an answer as objects.
pub fn rows(answer: &Json, table: &str) -> Vec<Json> {
    let Some(t) = list(answer, "tables").iter().find(|t| text(t, "name") == table) else { return Vec::new() };
    let keys: Vec<&str> = list(t, "columns").iter().filter_map(Json::as_str).collect();
    let object = |row: &Json| {
        let cells = row.as_array().into_iter().flatten();
        Json::Object(keys.iter().zip(cells).map(|(k, c)| ((*k).to_owned(), c.clone())).collect())
    };
    list(t, "rows").iter().map(object).collect()
}

/// The model with tables of so many rows and texts of so many characters at most. Of what is left out the number is kept.
pub fn cut(model: &Json, most_rows: usize, most_characters: usize) -> Json {
    let mut cut = model.clone();
    for section in cut.get_mut("sections").and_then(Json::as_array_mut).into_iter().flatten() {
        let mut left_out = Map::new();
        let tables = section.pointer_mut("/answer/tables").and_then(Json::as_array_mut);
        for table in tables.into_iter().flatten() {
            let name = text(table, "name").to_owned();
            let Some(rows) = table.get_mut("rows").and_then(Json::as_array_mut) else { continue };
            if rows.len() > most_rows {
                left_out.insert(name, (rows.len() - most_rows).into());
                rows.truncate(most_rows);
            }
        }
        if let Some(answer) = section.get_mut("answer") {
            shorten(answer, most_characters, 0);
        }
        if let Some(charts) = section.get_mut("charts") {
            shorten(charts, (most_characters / 4).max(LEAST_CHARACTERS), 0);
        }
        // Prose has no place in a page.
        if let Some(notes) = section.pointer_mut("/answer/notes") {
            *notes = json!([]);
        }
        if let Some(of) = section.get_mut("left_out") {
            *of = left_out.into();
        }
    }
    cut
}

/// Characters of a name in a chart that stay.
const LEAST_CHARACTERS: usize = 40;
/// An answer is an object of lists of rows.
const DEPTH: u32 = 8;

fn shorten(value: &mut Json, most: usize, depth: u32) {
    match value {
        Json::String(s) => {
            if let Some((end, _)) = s.char_indices().nth(most) {
                s.truncate(end);
                s.push('…');
            }
        }
        Json::Array(all) if depth < DEPTH => all.iter_mut().for_each(|v| shorten(v, most, depth + 1)),
        Json::Object(all) if depth < DEPTH => all.values_mut().for_each(|v| shorten(v, most, depth + 1)),
        _ => {}
    }
}

/// The schema of the model.
pub fn schema() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Model of a clrscope report",
        "description": "What .report writes: into a page, and alone into FILE.json.",
        "type": "object",
        "required": ["report", "dump", "values", "sections"],
        "additionalProperties": false,
        "properties": {
            "report": {"const": VERSION, "description": "version of this shape"},
            "dump": {"$ref": "answer.json#/properties/dump"},
            "values": {"type": "boolean", "description": "whether texts of the process are in it"},
            "sections": {"type": "array", "items": {
                "type": "object",
                "required": ["title", "command", "answer", "left_out", "charts"],
                "additionalProperties": false,
                "properties": {
                    "title": {"type": "string"},
                    "command": {"type": "string", "description": "the line that repeats it"},
                    "answer": {"$ref": "answer.json", "description": "what the command returns"},
                    "left_out": {
                        "description": "rows of tables that are not in it, by the name of the table",
                        "type": "object",
                        "additionalProperties": {"type": "integer", "minimum": 1},
                    },
                    "charts": {"type": "array", "items": {"anyOf": [chart::schema(), waitgraph::schema()]}},
                },
            }},
        },
    })
}
