//! How much is known of a layout: whether dumps of such a runtime were at hand, or its relatives alone.

use super::Layout;
use super::tables::Table;

/// What stands behind the layout a runtime is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Every table was compared with what the runtime's own library says of dumps of such builds.
    Verified,
    /// Structures were verified on dumps without a heap; the heap is that of a relative.
    Structures,
    /// Derived from relatives and sources; no dump was at hand.
    Relatives,
    /// From shared source alone.
    Experimental,
    /// The runtime's own description.
    Described,
    /// Found by structure in this dump.
    Structural,
}

impl Standing {
    /// Of the layout that `table` gave; `described` when the runtime's own description carries it.
    pub fn of(table: &Table, layout: &Layout, described: bool) -> Self {
        match (described, table.platform, layout.text("Standing")) {
            (true, ..) => Self::Described,
            (_, None, _) => Self::Structural,
            (.., Some("structures")) => Self::Structures,
            (.., Some("relatives")) => Self::Relatives,
            (.., Some("experimental")) => Self::Experimental,
            _ => Self::Verified,
        }
    }

    /// One word for data.
    pub fn word(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Structures => "structures",
            Self::Relatives => "relatives",
            Self::Experimental => "experimental",
            Self::Described => "described",
            Self::Structural => "structural",
        }
    }

    /// The same in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Verified => "verified on dumps of such builds",
            Self::Structures => {
                "structures verified on dumps without a heap; the heap is read as that of .NET Core 2.0, whose collector it \
                 has, never seen here"
            }
            Self::Relatives => "taken from relatives, never seen: no dump of such a build was at hand",
            Self::Experimental => "experimental, from shared source: no byte of such a build was at hand",
            Self::Described => "by the runtime's own description",
            Self::Structural => "no table is of this build: its structures were found in this dump",
        }
    }

    /// Whether a dump of such a build would help.
    pub fn is_prediction(self) -> bool {
        matches!(self, Self::Structures | Self::Relatives | Self::Experimental | Self::Structural)
    }
}
