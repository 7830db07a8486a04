//! Where discovery reads.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, ErrorKind, Read},
    path::PathBuf,
};

/// More of a file is not read: no file that discovery knows comes near it.
const MAX_FILE: u64 = 16 << 20;

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
        match read {
            Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
