//! What speaks for a suspect, as text and as values.

use crate::shell::{Cell, Col, Type};

/// One piece of evidence: a sentence, and what it says as values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The sentence.
    pub text: String,
    /// What it says, one a row. A sentence may name the first few alone.
    pub items: Vec<Item>,
}

impl Evidence {
    /// A sentence that says one thing.
    pub fn new(text: impl Into<String>, item: Item) -> Self {
        Self::many(text, vec![item])
    }

    /// A sentence that says several.
    pub fn many(text: impl Into<String>, items: Vec<Item>) -> Self {
        Self { text: text.into(), items }
    }
}

/// A value of a piece of evidence, with what it is of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// What it is.
    pub what: &'static str,
    /// Type of the objects.
    pub ty: Option<String>,
    /// How many.
    pub count: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// Percent.
    pub share: Option<f64>,
    /// Address of an object; 0 without one.
    pub address: u64,
    /// Whether that object is a string whose text matters.
    pub is_text: bool,
    /// Field, method or kind.
    pub name: Option<String>,
    /// Operating system id of a thread.
    pub thread: Option<u64>,
}

impl Item {
    /// Something without any value yet.
    pub fn of(what: &'static str) -> Self {
        Self { what, ..Self::default() }
    }

    /// Column of [`Item::cells`]: what it is.
    pub const WHAT: Col = Col::data("what", Type::Text).titled("what the row says");
    /// Column of [`Item::cells`]: type of the objects.
    pub const TYPE: Col = Col::data("type", Type::TypeName).titled("type of the objects");
    /// Column of [`Item::cells`]: how many.
    pub const COUNT: Col = Col::data("count", Type::Count).titled("how many");
    /// Column of [`Item::cells`]: how many bytes.
    pub const BYTES: Col = Col::data("bytes", Type::Bytes).titled("how many bytes");
    /// Column of [`Item::cells`]: percent.
    pub const SHARE: Col = Col::data("share", Type::Share).titled("percent");
    /// Column of [`Item::cells`]: address of an object.
    pub const ADDRESS: Col = Col::data("address", Type::Address).titled("the object");
    /// Column of [`Item::cells`]: field, method or kind.
    pub const NAME: Col = Col::data("name", Type::Text).titled("field, method or kind");
    /// Column of [`Item::cells`]: the thread.
    pub const THREAD: Col = Col::data("thread", Type::Hex).titled("operating system id of the thread");

    /// What it says, by column.
    pub fn cells(&self) -> [Cell<'_>; 8] {
        [
            Cell::maybe(Some(self.what).filter(|w| !w.is_empty())),
            Cell::maybe(self.ty.as_deref()),
            self.count.map_or(Cell::None, Cell::Num),
            self.bytes.map_or(Cell::None, Cell::Num),
            self.share.map_or(Cell::None, Cell::Percent),
            Cell::at(self.address),
            Cell::maybe(self.name.as_deref()),
            self.thread.map_or(Cell::None, Cell::Hex),
        ]
    }

    /// Of objects of this type.
    pub fn ty(mut self, name: impl AsRef<str>) -> Self {
        self.ty = Some(name.as_ref().to_owned());
        self
    }

    /// So many.
    pub fn count(mut self, n: u64) -> Self {
        self.count = Some(n);
        self
    }

    /// So many bytes.
    pub fn bytes(mut self, n: u64) -> Self {
        self.bytes = Some(n);
        self
    }

    /// So many percent.
    pub fn share(mut self, percent: f64) -> Self {
        self.share = Some(percent);
        self
    }

    /// The object there.
    pub fn at(mut self, address: u64) -> Self {
        self.address = address;
        self
    }

    /// The text of the string there.
    pub fn text(mut self, address: u64) -> Self {
        self.is_text = true;
        self.at(address)
    }

    /// This field, method or kind.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Of this thread.
    pub fn thread(mut self, os_id: u64) -> Self {
        self.thread = Some(os_id);
        self
    }
}

/// Where a suspect hangs, as values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// Type of the holder.
    pub holder_type: String,
    /// The static field, of a thread too.
    pub variable: Option<String>,
    /// What the root is; empty where it is not known.
    pub root: String,
    /// Operating system id of the thread whose root it is.
    pub thread: Option<u64>,
    /// The generation, of free space.
    pub generation: Option<&'static str>,
    /// Objects on the way from the root.
    pub length: usize,
    /// Those at its ends.
    pub steps: Vec<Step>,
}

/// One object of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its number in the path; the arrays in which the runtime keeps static fields are none.
    pub number: usize,
    /// Where it lies.
    pub address: u64,
    /// Its type.
    pub name: std::sync::Arc<str>,
    /// The static field that holds it.
    pub field: Option<String>,
    /// Field of the step before.
    pub slot: Option<std::sync::Arc<str>>,
    /// Whether it is an array.
    pub array: bool,
}
