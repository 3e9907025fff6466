//! The columns a pipe sees, and how it finds them.

use std::borrow::Cow;

use super::super::returns::{Col, Type};
use super::name::Name;

/// A column behind a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Key in JSON and CSV.
    pub key: Cow<'static, str>,
    /// Title in text.
    pub title: Cow<'static, str>,
    /// The column of the command it is or goes over: what it holds, how it is aligned.
    pub col: Col,
    /// Text shows it though nobody asks for it by name.
    pub shown: bool,
}

impl Column {
    /// A column of a table.
    pub fn of(col: &Col) -> Self {
        let number = matches!(col.ty, Type::Bytes | Type::Count | Type::Number | Type::Share);
        Column {
            key: col.key.into(),
            // What text leaves out has a sentence for a title.
            title: if col.data_only { col.key } else { col.title }.into(),
            col: Col { right: col.right || col.data_only && number, ..*col },
            shown: !col.data_only,
        }
    }

    /// What stands above it in text where it was asked for by name.
    pub fn named(&self) -> &str {
        if self.title.is_empty() { &self.key } else { &self.title }
    }
}

/// Why pipes cannot stand behind a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It has no such column.
    NoColumn(Name),
    /// It has one, and that has no such values.
    Value {
        /// Where it stands in the line.
        column: usize,
        /// What was expected.
        what: String,
    },
}

/// The columns of rows at some place between pipes: those there are, and those that are still asked for.
#[derive(Debug, Clone)]
pub struct View {
    columns: Vec<Column>,
    /// Places of those that can be named and are data, in order.
    pub chosen: Vec<usize>,
    /// They were chosen by name: text shows each.
    pub named: bool,
    /// What they hold was declared.
    declared: bool,
}

impl View {
    /// All columns of a table of a command; `declared`: it says what they hold.
    pub fn of(columns: &[Col], declared: bool) -> Self {
        Self::all(columns.iter().map(Column::of).collect(), declared)
    }

    /// All of these columns.
    pub fn all(columns: Vec<Column>, declared: bool) -> Self {
        View { chosen: (0..columns.len()).collect(), columns, named: false, declared }
    }

    /// The column at a place.
    pub fn at(&self, place: usize) -> Option<&Column> {
        self.columns.get(place)
    }

    /// What the column at a place holds, where that was declared.
    pub fn checked(&self, place: usize) -> Option<Type> {
        self.at(place).map(|c| c.col.ty).filter(|_| self.declared)
    }

    /// Whether what the columns hold was declared.
    pub fn declared(&self) -> bool {
        self.declared
    }

    /// The place of a column by key or title, whatever its case; blanks and `_` do not count where nothing else fits.
    pub fn find(&self, name: &Name) -> Result<usize, Wrong> {
        let plain = |s: &str| -> String {
            s.chars().filter(|c| !c.is_whitespace() && *c != '_').flat_map(char::to_lowercase).collect()
        };
        let by = |fits: &dyn Fn(&Column) -> bool| {
            self.chosen.iter().copied().find(|&i| self.at(i).is_some_and(|c| !c.key.is_empty() && fits(c)))
        };
        let text = name.text.trim();
        let found = by(&|c| c.key.eq_ignore_ascii_case(text))
            .or_else(|| by(&|c| c.shown && !text.is_empty() && c.title.eq_ignore_ascii_case(text)))
            .or_else(|| {
                by(&|c| !text.is_empty() && (plain(&c.key) == plain(text) || c.shown && plain(&c.title) == plain(text)))
            });
        found.ok_or_else(|| Wrong::NoColumn(name.clone()))
    }

    /// The columns of data, in order.
    pub fn data(&self) -> impl Iterator<Item = &Column> + Clone {
        self.chosen.iter().filter_map(|&i| self.at(i))
    }

    /// Places of the columns that text shows: without those it leaves out unless they were named, or there are no others.
    pub fn text(&self) -> Vec<usize> {
        let shown = |i: &usize| self.at(*i).is_some_and(|c| c.shown);
        let all = self.named || !self.chosen.iter().any(shown);
        self.chosen.iter().copied().filter(|i| all || shown(i)).collect()
    }

    /// Keys of the columns, for people.
    pub fn keys(&self) -> String {
        self.data().map(|c| &*c.key).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_key_and_title() {
        let mut v = View::of(
            &[
                Col::right("MT", "method_table", 16),
                Col::right("Size", "total", 8),
                Col::left("Total", "size", 0),
                Col::left("Class Name", "class_name", 0),
                Col::data("owner", Type::Address).titled("the thread that owns it"),
            ],
            true,
        );
        let name = |text: &str| Name { text: text.into(), column: 9 };
        for (text, place) in [
            ("mt", 0),
            ("METHOD_TABLE", 0),
            ("methodtable", 0),
            ("size", 2),
            ("total", 1),
            ("Class Name", 3),
            ("classname", 3),
            ("owner", 4),
        ] {
            assert_eq!(v.find(&name(text)), Ok(place), "{text}");
        }
        for none in ["", "x", " ", "_", "the thread that owns it"] {
            assert_eq!(v.find(&name(none)), Err(Wrong::NoColumn(name(none))));
        }
        assert_eq!(v.text(), [0, 1, 2, 3]);
        v.chosen = vec![4, 0];
        assert_eq!((v.text(), v.keys().as_str()), (vec![0], "owner, method_table"));
        v.named = true;
        assert_eq!(v.text(), [4, 0]);
        assert!(v.find(&name("size")).is_err());
    }
}
