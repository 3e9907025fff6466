//! Where classes of the core library that the shell follows keep their fields: the image has no records of them.
//!
//! `tables/managed.json` has offsets from the object, by class and field, with the class of what is referred to; a class
//! with `@11` is that of 11.0 and later; `["", 496, "Size"]` says that an instance takes so many bytes. Source: the field order
//! of dotnet/runtime `src/coreclr/nativeaot/System.Private.CoreLib` and `src/libraries/System.Private.CoreLib`, laid out as the compiler does
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

/// One class.
#[derive(Debug, Clone, Default)]
struct Class {
    name: String,
    /// The version since which it is so.
    since: u16,
    fields: Vec<Known>,
    /// Bytes of an instance, where its fields could be others with references at the same places.
    size: Option<u64>,
}

/// The classes of one version.
#[derive(Debug, Clone, Default)]
pub struct Managed {
    classes: Vec<Class>,
}

impl Managed {
    /// Those of the runtime of that major version.
    pub fn of(major: u16) -> Self {
        let json: Value = serde_json::from_str(include_str!("tables/managed.json")).unwrap_or(Value::Null);
        let mut classes: Vec<Class> = Vec::new();
        for (key, fields) in json.as_object().into_iter().flatten() {
            let (name, since) = key.split_once('@').map_or((key.as_str(), 0), |(n, v)| (n, v.parse().unwrap_or(0)));
            if since > major {
                continue;
            }
            let entries = || fields.as_array().into_iter().flatten();
            let size =
                entries().find(|e| e.get(2).and_then(Value::as_str) == Some("Size")).and_then(|e| e.get(1)?.as_u64());
            let class = Class { name: name.to_owned(), since, fields: entries().filter_map(field).collect(), size };
            match classes.iter_mut().find(|c| c.name == name) {
                Some(c) if c.since < since => *c = class,
                Some(_) => {}
                None => classes.push(class),
            }
        }
        Self { classes }
    }

    fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|c| c.name == name)
    }

    /// Fields that the class of that full name declares itself.
    pub fn fields(&self, class: &str) -> &[Known] {
        self.class(class).map_or(&[], |c| &c.fields)
    }

    /// Bytes that an instance of the class has to take.
    pub fn size(&self, class: &str) -> Option<u64> {
        self.class(class)?.size
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
