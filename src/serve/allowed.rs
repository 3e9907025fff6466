//! Which files may be opened: those below the folders that were named when the server started, wherever a path seems to lead.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

/// The folders, links resolved.
#[derive(Debug, Clone)]
pub struct Allowed(Vec<PathBuf>);

impl Allowed {
    /// These folders, or where there are none those of `dumps`.
    pub fn new(folders: &[PathBuf], dumps: &[PathBuf]) -> Result<Self> {
        let own: Vec<PathBuf> = match folders {
            [] => dumps
                .iter()
                .map(|d| Ok(real(d)?.parent().unwrap_or(Path::new("/")).to_owned()))
                .collect::<Result<_>>()?,
            named => named.to_vec(),
        };
        let mut all = Vec::new();
        for folder in own {
            let folder = real(&folder)?;
            if !folder.is_dir() {
                bail!("{} is no folder", folder.display());
            }
            if !all.contains(&folder) {
                all.push(folder);
            }
        }
        Ok(Self(all))
    }

    /// The file that `path` leads to, if it lies in one of the folders; a path without a root is one below them. What lies
    /// elsewhere is not told from what is not there.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let given = Path::new(path);
        let tried =
            if given.is_absolute() { vec![given.to_owned()] } else { self.0.iter().map(|f| f.join(given)).collect() };
        let found = tried.iter().filter_map(|p| p.canonicalize().ok()).find(|p| p.is_file() && self.holds(p));
        found.ok_or_else(|| anyhow!("no such file in the folders that may be opened from: {self}"))
    }

    fn holds(&self, file: &Path) -> bool {
        self.0.iter().any(|folder| file.starts_with(folder))
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("none; start the server with dumps, or with --allow FOLDER"),
            folders => {
                let all: Vec<String> = folders.iter().map(|p| p.display().to_string()).collect();
                f.write_str(&all.join(", "))
            }
        }
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot open {}", path.display()))
}
