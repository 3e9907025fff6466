//! Members of classes, as debug information of either kind describes them.

use std::sync::Arc;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberType {
    /// A reference to an object of the class of that name.
    Reference(Arc<str>),
    /// A pointer.
    Pointer,
    /// A number: encoding (`DW_ATE_*`), bytes, name; of an enumeration what it is made of.
    Number(u8, u64, Arc<str>),
    /// A struct of that name.
    Class(Arc<str>),
    /// Anything else.
    Other,
}

/// A member of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes from the beginning.
    pub offset: u64,
    /// Its type.
    pub ty: MemberType,
}
