//! `snapreach triage`: what the extension's own logs and status files say about the backups that were.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    args::Triage as Args,
    exit::Stop,
    output::{self, Outputs},
};
use crate::{
    report::{Format, Style},
    triage::{
        self, Document, Kind,
        report::{FORMATS, write},
    },
};

/// Files of one run: a machine has a few dozen.
const MAX_FILES: usize = 2000;

/// Folders inside folders: `/var/lib/waagent/NAME/status` is three deep.
const MAX_DEPTH: usize = 8;

/// Entries of one folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Runs the command and gives its exit code: 0 the last attempt succeeded, 1 it failed, 3 nobody can tell.
///
/// # Errors
/// When a path cannot be read, or nothing in any of them is known.
pub(super) fn run(args: &Args) -> Result<u8, Stop> {
    let style = output::style(args.color, args.verbose);
    let mut outputs = Outputs::open(args.format.unwrap_or(Format::Text), style, &args.output, None, &args.paths)?;
    outputs.only(&FORMATS, "a triage has")?;
    let mut documents = Vec::new();
    for path in &args.paths {
        documents.extend(documents_at(path)?);
    }
    if documents.iter().all(|document| document.source.kind == Kind::Unknown) {
        return Err(Stop::usage(nothing_known(&args.paths, &documents)));
    }
    let triage = triage::assess(documents);
    let report = |format, style: &Style, out: &mut dyn Write| write(format, &triage, style, out);
    outputs.write_with(report, report)?;
    Ok(triage.verdict.exit_code)
}

/// What stands at a path of the command line.
fn documents_at(path: &Path) -> Result<Vec<Document>, Stop> {
    if path == Path::new("-") {
        return Ok(vec![triage::read("<stdin>", io::stdin().lock())]);
    }
    let unreadable = |e: &io::Error| Stop::usage(format!("cannot read {}: {e}", path.display()));
    if !fs::metadata(path).map_err(|e| unreadable(&e))?.is_dir() {
        return Ok(vec![read(path).map_err(|e| unreadable(&e))?]);
    }
    let mut files = Vec::new();
    collect(path, MAX_DEPTH, &mut HashSet::new(), &mut files).map_err(|e| unreadable(&e))?;
    files.sort();
    let read =
        files.iter().map(|file| read(file).unwrap_or_else(|e| triage::unreadable(&file.display().to_string(), &e)));
    Ok(read.collect())
}

/// The files below a folder whose names promise something. Each folder is entered once, whatever links to it.
fn collect(folder: &Path, depth: usize, seen: &mut HashSet<PathBuf>, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !seen.insert(fs::canonicalize(folder)?) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)?.take(MAX_ENTRIES).flatten() {
        let path = entry.path();
        // Follows links; what cannot be looked at is no log.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() && depth > 0 {
            // A folder that may not be entered hides no log of ours that root could not read.
            let _ = collect(&path, depth - 1, seen, files);
        } else if metadata.is_file() && is_known(&entry.file_name().to_string_lossy()) && files.len() < MAX_FILES {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a file of this name may be one of the extension's or the agent's: `extension.log.1.gz`, `waagent.log`,
/// `3.status`, `3_status`. What it is, its content decides.
fn is_known(name: &str) -> bool {
    let is_log = name.split('.').any(|part| part == "log");
    let numbered = |suffix| name.strip_suffix(suffix).is_some_and(|number: &str| number.parse::<u64>().is_ok());
    is_log || [".status", "_status", ".settings", "_settings"].into_iter().any(numbered)
}

/// Reads a file; of a very large one, which grows at its end, the end.
fn read(path: &Path) -> io::Result<Document> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut magic = Vec::new();
    io::Read::take(&mut file, 2).read_to_end(&mut magic)?;
    let skip = if triage::is_packed(&magic) { 0 } else { length.saturating_sub(triage::MAX_BYTES) };
    file.seek(SeekFrom::Start(skip))?;
    let mut document = triage::read(&path.display().to_string(), file);
    if skip > 0 {
        let mib = triage::MAX_BYTES >> 20;
        document
            .source
            .problem
            .get_or_insert(format!("only the last {mib} MiB were read, and lines are counted from there"));
    }
    Ok(document)
}

fn nothing_known(paths: &[PathBuf], documents: &[Document]) -> String {
    let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let why = documents.iter().find_map(|document| {
        let problem = document.source.problem.as_ref()?;
        Some(format!("\n{}: {problem}", document.source.path))
    });
    format!(
        "there is no log or status file of the snapshot extension or the agent in {}{}\ngive extension.log, waagent.log, \
         *.status files, or a folder with them, such as /var/log/azure",
        named.join(", "),
        why.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_promise_something() {
        for name in [
            "extension.log",
            "extension.log.1",
            "extension.log.2.gz",
            "waagent.log",
            "12.status",
            "11_status",
            "12.settings",
        ] {
            assert!(is_known(name), "{name}");
        }
        for name in ["login.txt", "status", "x.status", "HandlerManifest.json", "catalog", "handle.py"] {
            assert!(!is_known(name), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_that_go_in_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        std::os::unix::fs::symlink(dir.path(), inner.join("up")).unwrap();
        std::os::unix::fs::symlink("loop.log", inner.join("loop.log")).unwrap();
        fs::write(inner.join("extension.log"), "x").unwrap();
        let mut files = Vec::new();
        collect(dir.path(), MAX_DEPTH, &mut HashSet::new(), &mut files).unwrap();
        assert_eq!(files, [inner.join("extension.log")]);
    }
}
