//! All commands: one file each (a family may share one), grouped in folders as the help is grouped, listed in one table.

pub mod export;
pub mod objects;

use crate::shell::Command;

/// Every command; the order is the order of the help.
pub const ALL: &[&Command] = &[&export::EXPORT, &objects::dumpobj::DUMPOBJ, &objects::dumpvc::DUMPVC];
