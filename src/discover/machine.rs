//! Where discovery reads.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

/// More of a file is not read: no file that discovery knows comes near it.
const MAX_FILE: u64 = 16 << 20;

/// More entries of a folder are not listed.
const MAX_ENTRIES: usize = 10_000;

/// More symbolic links on the way to a file are not followed, as by the kernel.
const MAX_LINKS: usize = 40;

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
        self.part(path, |_| 0)
    }

    /// The same of a log, of which the end tells most: of a long one the beginning is left out, and with it the line that
    /// was cut.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn log(&self, path: &str) -> io::Result<Option<String>> {
        let text = self.part(path, |length| length.saturating_sub(MAX_FILE))?;
        Ok(text.map(|text| match text.split_once('\n') {
            Some((_, rest)) if text.len() as u64 >= MAX_FILE => rest.to_owned(),
            _ => text,
        }))
    }

    /// A file from where `start` says, given its length.
    fn part(&self, path: &str, start: impl Fn(u64) -> u64) -> io::Result<Option<String>> {
        let root = match &self.files {
            Files::Described(files) => return Ok(files.get(path).cloned()),
            Files::Below(root) => root,
        };
        let mut bytes = Vec::new();
        let read = below(root, path).and_then(|path| {
            // A pipe or a device in place of a file would be waited for, or never end.
            let about = fs::metadata(&path)?;
            if !about.is_file() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
            }
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start(about.len())))?;
            file.take(MAX_FILE).read_to_end(&mut bytes)
        });
        Ok(present(read)?.map(|_| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Whether there is something at an absolute path.
    pub(super) fn has(&self, path: &str) -> bool {
        match &self.files {
            Files::Described(files) => {
                let inside = |file: &String| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
                files.contains_key(path) || files.keys().any(inside)
            }
            Files::Below(root) => below(root, path).is_ok_and(|path| path.exists()),
        }
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
                let entries = present(below(root, folder).and_then(fs::read_dir))?;
                let names = entries.into_iter().flatten().take(MAX_ENTRIES).flatten();
                names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// Where an absolute path of a machine is when its root is this folder: symbolic links lead from that root on, and nothing
/// leads out of it.
fn below(root: &Path, path: &str) -> io::Result<PathBuf> {
    if root == Path::new("/") {
        return Ok(path.into());
    }
    let mut place = root.to_owned();
    let mut links = 0;
    let mut ahead: Vec<PathBuf> = vec![path.into()];
    while let Some(next) = ahead.pop() {
        let mut components = next.components();
        let Some(first) = components.next() else { continue };
        ahead.push(components.as_path().to_owned());
        match first {
            Component::RootDir | Component::Prefix(_) => root.clone_into(&mut place),
            Component::CurDir => {}
            Component::ParentDir => {
                if place != root {
                    place.pop();
                }
            }
            Component::Normal(name) => {
                let link = place.join(name);
                match fs::read_link(&link) {
                    Ok(target) if links < MAX_LINKS => {
                        links += 1;
                        ahead.push(target);
                    }
                    Ok(_) => return Err(io::Error::new(ErrorKind::InvalidInput, "too many symbolic links")),
                    // No link; whether it is there at all shows when it is opened.
                    Err(_) => place = link,
                }
            }
        }
    }
    Ok(place)
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

    #[cfg(unix)]
    #[test]
    fn links_stay_below_the_root() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("lib/system")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("lib/system/real"), "inside").unwrap();
        symlink("/lib/system/real", root.join("etc/absolute")).unwrap();
        symlink("../lib/system/real", root.join("etc/relative")).unwrap();
        symlink("/lib/system", root.join("etc/folder")).unwrap();
        symlink("../../../../secret", root.join("etc/up")).unwrap();
        symlink(outside.path().join("secret"), root.join("etc/away")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        let machine = Machine::below(&root, []);
        for path in ["/etc/absolute", "/etc/relative", "/etc/folder/real", "/etc/../etc/folder/../system/real"] {
            assert_eq!(machine.text(path).unwrap().as_deref(), Some("inside"), "{path}");
        }
        assert_eq!(machine.names("/etc/folder").unwrap(), ["real"]);
        assert_eq!((machine.text("/etc/up").unwrap(), machine.text("/etc/away").unwrap()), (None, None));
        assert!(machine.text("/etc/loop").is_err() && !machine.has("/etc/loop") && machine.has("/etc/folder"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        let machine = Machine::below(root.path(), []);
        assert!(machine.text("/socket").is_err() && machine.text("/folder").is_err());
        assert!(Machine::this().text("/dev/zero").is_err());
        drop(socket);
    }

    #[test]
    fn of_a_long_log_the_end_is_read_from_a_whole_line_on() {
        let root = tempfile::tempdir().unwrap();
        let line = "x".repeat(99);
        let long = format!("{line}\n").repeat(usize::try_from(MAX_FILE).unwrap() / 100 + 10) + "the end\n";
        for (name, text) in [("long", long.as_str()), ("short", "one\ntwo\n"), ("empty", "")] {
            fs::write(root.path().join(name), text).unwrap();
        }
        let machine = Machine::below(root.path(), []);
        let read = machine.log("/long").unwrap().unwrap();
        assert!(read.starts_with(&line) && read.ends_with("the end\n") && read.len() as u64 <= MAX_FILE);
        assert_eq!(machine.log("/short").unwrap().as_deref(), Some("one\ntwo\n"));
        assert_eq!(machine.log("/empty").unwrap().as_deref(), Some(""));
        assert_eq!(machine.log("/none").unwrap(), None);
    }

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
