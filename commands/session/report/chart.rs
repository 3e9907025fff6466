//! What a chart of the page is made of: parts that lie in others, as rows.

use serde_json::{Value as Json, json};

/// Characters of a type or field in a chart; the tables have them whole.
const MOST_NAME: usize = 240;

/// Columns of a chart's rows.
const COLUMNS: [&str; 8] = ["parent", "kind", "address", "type", "name", "count", "objects", "bytes"];

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// All that is alive.
    #[default]
    Heap,
    /// One object.
    Object,
    /// Objects of one type.
    Group,
    /// What holds others, itself.
    Own,
    /// Parts too small to be shown, added up.
    Others,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Heap, Kind::Object, Kind::Group, Kind::Own, Kind::Others];

    fn name(self) -> &'static str {
        match self {
            Kind::Heap => "heap",
            Kind::Object => "object",
            Kind::Group => "group",
            Kind::Own => "own",
            Kind::Others => "others",
        }
    }
}

/// A part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The row of the part it lies in.
    pub parent: Option<usize>,
    /// What it is.
    pub kind: Kind,
    /// Its object, or one of them; 0 without one.
    pub address: u64,
    /// Their type.
    pub ty: String,
    /// The static variable, root or field that holds them.
    pub name: String,
    /// Objects it stands for.
    pub count: u64,
    /// Objects in it.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// A chart as data.
pub fn json(kind: &str, bytes: u64, rows: &[Row]) -> Json {
    let row = |r: &Row| {
        let address = (r.address != 0).then(|| format!("0x{:x}", r.address));
        let (ty, name) = (short(&r.ty), short(&r.name));
        json!([r.parent, r.kind.name(), address, ty, name, r.count, r.objects, r.bytes])
    };
    json!({"kind": kind, "bytes": bytes, "columns": COLUMNS, "rows": rows.iter().map(row).collect::<Vec<_>>()})
}

/// The schema of charts.
pub fn schema() -> Json {
    let text = json!({"type": ["string", "null"]});
    let count = json!({"type": "integer", "minimum": 0});
    let kinds: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
    let columns = json!([
        {"type": ["integer", "null"], "minimum": 0, "title": "the row of the part it lies in"},
        {"enum": kinds, "title": "all that is alive, one object, objects of one type, the holder itself, small parts added up"},
        {"$ref": "answer.json#/$defs/address", "title": "the object, or one of them"},
        {"$ref": "answer.json#/$defs/type_name"},
        text, count, count, count,
    ]);
    json!({
        "description": "parts that lie in others; the bytes of those that hold none sum to the bytes of all, but in an \
                        icicle, where a part's own bytes have none",
        "type": "object",
        "required": ["kind", "bytes", "columns", "rows"],
        "additionalProperties": false,
        "properties": {
            "kind": {"enum": ["treemap", "icicle"]},
            "bytes": count,
            "columns": {"const": COLUMNS},
            "rows": {"type": "array", "items": {"prefixItems": columns, "items": false, "minItems": COLUMNS.len()}},
        },
    })
}

fn short(text: &str) -> Option<String> {
    let mut cut: String = text.chars().take(MOST_NAME).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    (!cut.is_empty()).then_some(cut)
}
