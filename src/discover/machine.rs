//! Where discovery reads.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::PathBuf,
};

/// More of a file is not read: no file that discovery knows comes near it.
const MAX_FILE: u64 = 16 << 20;

/// More entries of a folder are not listed.
const MAX_ENTRIES: usize = 10_000;

/// The files and variables of a machine: of this one, or of one that somebody describes.
#[derive(Debug, Clone)]
pub struct Machine {
    files: Files,
    variables: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
enum Files {
    Below(PathBuf),
    Described(BTreeMap<String, String>),
}

impl Machine {
    /// This machine, with the variables of this process.
    #[must_use]
    pub fn this() -> Self {
        let variables = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.to_string_lossy().into_owned())));
        Self::below("/", variables)
    }

    /// The machine whose root folder is `root`.
    pub fn below(root: impl Into<PathBuf>, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { files: Files::Below(root.into()), variables: variables.into_iter().collect() }
    }

    /// A machine that has these files, by absolute path, and no others.
    pub fn described(files: BTreeMap<String, String>, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { files: Files::Described(files), variables: variables.into_iter().collect() }
    }

    /// The variables of the process that discovers.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The text of the file at an absolute path; `None` when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn text(&self, path: &str) -> io::Result<Option<String>> {
        let root = match &self.files {
            Files::Described(files) => return Ok(files.get(path).cloned()),
            Files::Below(root) => root,
        };
        let mut bytes = Vec::new();
        let read = File::open(root.join(path.trim_start_matches('/')))
            .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        Ok(present(read)?.map(|_| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names in the folder at an absolute path, sorted; empty when there is no such folder.
    ///
    /// # Errors
    /// When the folder is there and cannot be listed.
    pub(super) fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = match &self.files {
            Files::Described(files) => {
                let below = files.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
                below.map(|rest| rest.split('/').next().unwrap_or_default().to_owned()).collect()
            }
            Files::Below(root) => {
                let entries = present(fs::read_dir(root.join(folder.trim_start_matches('/'))))?;
                let names = entries.into_iter().flatten().take(MAX_ENTRIES).flatten();
                names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// What is not there is no error.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_listed_alike_on_disk_and_in_a_description() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/b/one", "a/b/two/three", "a/c"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let files = ["/a/b/one", "/a/b/two/three", "/a/c", "/a/bb/no"].map(|path| (path.to_owned(), String::new()));
        for machine in [Machine::below(root.path(), []), Machine::described(files.into(), [])] {
            assert_eq!(machine.names("/a/b").unwrap(), ["one", "two"]);
            assert_eq!(machine.names("/none").unwrap(), [""; 0]);
            assert_eq!(machine.names("/a/c").unwrap(), [""; 0]);
        }
    }
}
