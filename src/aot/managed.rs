//! Where classes of the core library that the shell follows keep their fields: the image has no records of them.
//!
//! `tables/managed.json` has offsets from the object, by class and field, with the class of what is referred to; a class
//! with `@11` is that of 11.0 and later. Source: the field order of dotnet/runtime
//! `src/coreclr/nativeaot/System.Private.CoreLib` and `src/libraries/System.Private.CoreLib`, laid out as the compiler does
//! (references first, then by size). A class is believed only where it has an object's references exactly where its
//! MethodTable has them ([`Managed::fields`]).

use serde_json::Value;

use crate::clr::types::fields::et;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Bytes from the object.
    pub offset: u64,
    /// Element type.
    pub element: u8,
    /// Full name of its type; empty when it is told by the element type.
    pub class: String,
}

/// The classes of one version.
#[derive(Debug, Clone, Default)]
pub struct Managed {
    classes: Vec<(String, Vec<Known>)>,
}

impl Managed {
    /// Those of the runtime of that major version.
    pub fn of(major: u16) -> Self {
        let json: Value = serde_json::from_str(include_str!("tables/managed.json")).unwrap_or(Value::Null);
        let mut classes: Vec<(String, u16, Vec<Known>)> = Vec::new();
        for (key, fields) in json.as_object().into_iter().flatten() {
            let (name, since) = key.split_once('@').map_or((key.as_str(), 0), |(n, v)| (n, v.parse().unwrap_or(0)));
            if since > major {
                continue;
            }
            let fields: Vec<Known> = fields.as_array().into_iter().flatten().filter_map(field).collect();
            match classes.iter_mut().find(|c| c.0 == name) {
                Some(c) if c.1 < since => (c.1, c.2) = (since, fields),
                Some(_) => {}
                None => classes.push((name.to_owned(), since, fields)),
            }
        }
        Self { classes: classes.into_iter().map(|(n, _, f)| (n, f)).collect() }
    }

    /// Fields that the class of that full name declares itself.
    pub fn fields(&self, class: &str) -> &[Known] {
        self.classes.iter().find(|c| c.0 == class).map_or(&[], |c| &c.1)
    }

    /// Offset of a field from the object.
    pub fn offset(&self, class: &str, field: &str) -> Option<u64> {
        self.fields(class).iter().find(|f| f.name == field).map(|f| f.offset)
    }
}

/// `["_message", 8, "String"]`, `["_innerException", 24, "Class", "System.Exception"]`.
fn field(json: &Value) -> Option<Known> {
    let element = match json.get(2)?.as_str()? {
        "Boolean" => et::BOOLEAN,
        "Byte" => et::U1,
        "Char" => et::CHAR,
        "Int16" => et::I2,
        "Int32" => et::I4,
        "UInt32" => et::U4,
        "Int64" => et::I8,
        "UInt64" => et::U8,
        "IntPtr" => et::I,
        "String" => et::STRING,
        "Object" => et::OBJECT,
        "SZArray" => et::SZARRAY,
        "Class" => et::CLASS,
        "Struct" => et::STRUCT,
        _ => return None,
    };
    Some(Known {
        name: json.get(0)?.as_str()?.to_owned(),
        offset: json.get(1)?.as_u64()?,
        element,
        class: json.get(3).and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}
