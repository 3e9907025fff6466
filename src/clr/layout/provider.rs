//! Who is asked for a layout, and what discovery may use.

use serde_json::Value;

use super::Layout;
use super::tables::Table;
use crate::watch::Watch;

/// A provider that can be switched off, to test the others alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The runtime's contract descriptor.
    Descriptor,
    /// The collector's own struct of variables.
    GcDacVars,
    /// The table of variables made for Microsoft's debugging library.
    DacTable,
    /// Built-in tables of system and architecture.
    Tables,
    /// Structural discovery and calibration.
    Structure,
}

impl Provider {
    /// All of them, by name.
    pub const ALL: &[(&str, Self)] = &[
        ("descriptor", Self::Descriptor),
        ("gcdacvars", Self::GcDacVars),
        ("dactable", Self::DacTable),
        ("tables", Self::Tables),
        ("structure", Self::Structure),
    ];

    /// The providers that `text` switches off: names separated by commas stand for themselves alone, names with a minus
    /// sign for all others. The error names the word that is no provider.
    pub fn switched_off(text: &str) -> Result<Vec<Self>, String> {
        let (mut only, mut off) = (Vec::new(), Vec::new());
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let name = word.strip_prefix('-');
            let found = Self::ALL.iter().find(|p| p.0.eq_ignore_ascii_case(name.unwrap_or(word)));
            let Some(&(_, provider)) = found else {
                let names: Vec<&str> = Self::ALL.iter().map(|p| p.0).collect();
                return Err(format!("`{word}` is no provider; there are {}", names.join(", ")));
            };
            if name.is_some() { off.push(provider) } else { only.push(provider) }
        }
        if !only.is_empty() {
            off.extend(Self::ALL.iter().map(|p| p.1).filter(|p| !only.contains(p)));
        }
        off.dedup();
        Ok(off)
    }
}

/// What discovery may use.
#[derive(Debug, Clone, Default)]
pub struct DiscoverOptions {
    /// Providers not to ask.
    pub disabled: Vec<Provider>,
    /// Documents that stand in for built-in tables of the same name (tests corrupt single fields so).
    pub replaced: Vec<(&'static str, Value)>,
    /// Stops it.
    pub watch: Watch,
}

impl DiscoverOptions {
    pub(super) fn allows(&self, provider: Provider) -> bool {
        !self.disabled.contains(&provider)
    }

    pub(super) fn layout(&self, table: &Table) -> Layout {
        match self.replaced.iter().find(|r| r.0 == table.name) {
            Some((_, json)) => table.layout_with(json),
            None => table.layout(),
        }
    }
}
