//! Where reports go: standard output and files, opened before anything is probed.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{exit::Stop, values::Color};
use crate::{
    bench, conformance,
    model::{Assessment, Record},
    report::{self, Format, Style},
    scenario::report as suite,
    triage,
};

/// The width of a report that does not go to a terminal, and the widest on one.
const WIDTHS: (usize, usize) = (80, 100);
/// The narrowest report that can be read; a smaller terminal breaks its lines itself.
const MIN_WIDTH: usize = 40;

/// A parser of format names that lists them in help and errors.
pub(super) fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::OF_RECORDS.map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// A parser of the formats that scenarios are reported in.
pub(super) fn suite_format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(suite::FORMATS.map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// A parser of the formats that the judgement over files is reported in.
pub(super) fn review_format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new([Format::Text, Format::Json].map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// A parser of the formats that a triage is reported in.
pub(super) fn triage_format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(triage::report::FORMATS.map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// A parser of the formats that a proxy is reported in.
pub(super) fn proxy_format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(conformance::report::FORMATS.map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// A parser of the formats that a measurement is reported in.
pub(super) fn bench_format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(bench::report::FORMATS.map(Format::as_str)).try_map(|name| name.parse::<Format>())
}

/// The style of text on standard output.
pub(super) fn style(color: Option<Color>, verbose: u8) -> Style {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminal = io::stdout().is_terminal();
    let color = match color.unwrap_or_default() {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb"),
    };
    let width = terminal_size::terminal_size_of(io::stdout())
        .map_or(WIDTHS.0, |(width, _)| usize::from(width.0).clamp(MIN_WIDTH, WIDTHS.1));
    Style { color, width, verbose }
}

/// Writes text to standard output. A reader that has gone away is not an error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub(super) fn print(text: &str) -> Result<(), Stop> {
    to_stdout(|out| out.write_all(text.as_bytes()))
}

/// Lets a reporter write to standard output. A reader that has gone away is not an error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub(super) fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    quiet(write(&mut out).and_then(|()| out.flush()))
        .map_err(|e| Stop::CannotMeasure(format!("cannot write to standard output: {e}")))
}

/// Writes to standard error, harmless for a terminal: what is wrong is often repeated in the message, and may be
/// anything. Where that fails there is nobody left to tell.
pub(super) fn say(text: &str) {
    let mut err = io::stderr().lock();
    for line in text.split('\n') {
        let _ = writeln!(err, "{}", report::harmless(line));
    }
}

/// Passes over a closed pipe: who closed it has seen enough.
fn quiet(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Standard output and the files of one command.
#[derive(Debug)]
pub(super) struct Outputs {
    format: Format,
    style: Style,
    reports: Vec<(Format, Destination)>,
    record: Option<Destination>,
}

impl Outputs {
    /// Opens every file for writing. Files that exist keep their content until there is something to write.
    ///
    /// # Errors
    /// When a format cannot be told, a file cannot be written, or is named twice or also read (`inputs`).
    pub(super) fn open(
        format: Format,
        style: Style,
        reports: &[PathBuf],
        record: Option<&Path>,
        inputs: &[PathBuf],
    ) -> Result<Self, Stop> {
        let formats = reports
            .iter()
            .map(|path| {
                Format::from_extension(path).ok_or_else(|| {
                    Stop::usage(format!(
                        "cannot tell the format of {} from its extension: use .txt, .json, .jsonl, .md, .xml (JUnit), \
                         .prom, .html or .csv; the format of standard output is chosen by --format",
                        path.display()
                    ))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut taken: Vec<PathBuf> = inputs.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let mut open = |path: &Path| -> Result<Destination, Stop> {
            let destination =
                Destination::open(path).map_err(|e| Stop::usage(format!("cannot write {}: {e}", path.display())))?;
            if destination.regular {
                let identity = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                if taken.contains(&identity) {
                    return Err(Stop::usage(format!(
                        "{} is named twice: each output needs a file of its own, and none may be an input",
                        path.display()
                    )));
                }
                taken.push(identity);
            }
            Ok(destination)
        };
        let reports =
            formats.into_iter().zip(reports).map(|(f, path)| Ok((f, open(path)?))).collect::<Result<_, _>>()?;
        if record == Some(Path::new("-")) {
            return Err(Stop::usage("--record needs a FILE: standard output carries the report"));
        }
        let record = record.map(open).transpose()?;
        Ok(Self { format, style, reports, record })
    }

    /// Has one more file written, in this format whatever its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn also(&mut self, format: Format, path: &Path) -> Result<(), Stop> {
        let opened = Destination::open(path);
        let opened = opened.map_err(|e| Stop::usage(format!("cannot write {}: {e}", path.display())))?;
        self.reports.push((format, opened));
        Ok(())
    }

    /// The formats that will be written.
    pub(super) fn formats(&self) -> impl Iterator<Item = Format> + '_ {
        std::iter::once(self.format).chain(self.reports.iter().map(|(format, _)| *format))
    }

    /// Refuses formats that there is no report in.
    ///
    /// # Errors
    /// When one of them was asked for; `subject` says what has none.
    pub(super) fn only(&self, formats: &[Format], subject: &str) -> Result<(), Stop> {
        match self.formats().find(|format| !formats.contains(format)) {
            Some(other) => {
                let names: Vec<&str> = formats.iter().map(|format| format.as_str()).collect();
                Err(Stop::usage(format!("{subject} no report as {other}: use {}", names.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// The format on standard output.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Writes the record, every file, and standard output.
    ///
    /// # Errors
    /// What could not be written, after everything else has been.
    pub(super) fn write(&mut self, record: &Record, assessment: &Assessment) -> Result<(), Stop> {
        let kept = match &mut self.record {
            Some(file) => {
                file.write(|out| record.write(out)).map_err(|e| format!("cannot write {}: {e}", file.path.display()))
            }
            None => Ok(()),
        };
        let report = |format, style: &Style, out: &mut dyn Write| report::write(format, record, assessment, style, out);
        let written = self.write_with(report, report);
        match (kept, written) {
            (Ok(()), written) => written,
            (Err(problem), Ok(())) => Err(Stop::CannotMeasure(problem)),
            (Err(problem), Err(stop)) => Err(Stop::CannotMeasure(format!("{problem}\n{stop}"))),
        }
    }

    /// Writes every file, and standard output, each with its reporter.
    ///
    /// # Errors
    /// What could not be written, after everything else has been.
    pub(super) fn write_with(
        &mut self,
        in_files: impl Fn(Format, &Style, &mut dyn Write) -> io::Result<()>,
        on_stdout: impl Fn(Format, &Style, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Stop> {
        let mut problems = Vec::new();
        let mut note = |what: &str, result: io::Result<()>| {
            if let Err(e) = quiet(result) {
                problems.push(format!("cannot write {what}: {e}"));
            }
        };
        let plain = Style { color: false, width: WIDTHS.0, ..self.style };
        for (format, file) in &mut self.reports {
            let result = file.write(|out| in_files(*format, &plain, out));
            note(&file.path.display().to_string(), result);
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let result = on_stdout(self.format, &self.style, &mut out);
        note("to standard output", result.and_then(|()| out.flush()));
        // What is still buffered belongs to a report that failed.
        let _ = out.into_parts();
        if problems.is_empty() { Ok(()) } else { Err(Stop::CannotMeasure(problems.join("\n"))) }
    }
}

/// A file to be written. One that this command created and never wrote to is removed again.
#[derive(Debug)]
struct Destination {
    path: PathBuf,
    file: File,
    regular: bool,
    created: bool,
    written: bool,
}

impl Destination {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, created) = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => (OpenOptions::new().write(true).open(path)?, false),
            Err(e) => return Err(e),
        };
        let regular = file.metadata()?.is_file();
        Ok(Self { path: path.to_owned(), file, regular, created, written: false })
    }

    /// Replaces the content the first time, and appends from then on.
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.regular && !self.written {
            self.file.set_len(0)?;
        }
        self.written = true;
        let mut out = BufWriter::new(&mut self.file);
        write(&mut out)?;
        out.flush()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if self.created && !self.written {
            // Nothing more can be done about a file that does not go away; it is empty.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { color: false, width: 80, verbose: 0 };

    fn open(reports: &[PathBuf], record: Option<&Path>, inputs: &[PathBuf]) -> Result<Outputs, String> {
        Outputs::open(Format::Text, STYLE, reports, record, inputs).map_err(|e| e.to_string())
    }

    #[test]
    fn files_are_opened_first_and_leave_no_trace_when_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new.json"), dir.path().join("old.md"));
        fs::write(&old, "before").unwrap();
        let outputs = open(&[new.clone(), old.clone()], None, &[]).unwrap();
        assert!(new.exists());
        assert_eq!(outputs.formats().collect::<Vec<_>>(), [Format::Text, Format::Json, Format::Markdown]);
        drop(outputs);
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
    }

    #[test]
    fn a_bad_path_or_extension_is_refused_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("a.json");
        for (bad, part) in [("no/such/dir/r.json", "cannot write"), ("r.pdf", ".html"), ("r", ".html"), ("-", ".html")]
        {
            let error = open(&[good.clone(), dir.path().join(bad)], None, &[]).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!good.exists());
        }
    }

    #[test]
    fn formats_without_a_report_are_refused_and_the_others_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.csv");
        let outputs = open(std::slice::from_ref(&path), None, &[]).unwrap();
        let error = outputs.only(&Format::OF_RECORDS, "a check has").unwrap_err().to_string();
        assert!(error.contains("a check has no report as csv: use text, json,"), "{error}");
        assert!(outputs.only(&Format::ALL, "it has").is_ok());
        drop(outputs);
        assert!(!path.exists());
    }

    #[test]
    fn one_file_has_one_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("r.jsonl");
        fs::write(&input, "record").unwrap();
        let aliased = dir.path().join(".").join("r.jsonl");
        assert!(
            open(std::slice::from_ref(&aliased), None, std::slice::from_ref(&input))
                .unwrap_err()
                .contains("named twice")
        );
        assert!(open(&[aliased], Some(&input), &[]).unwrap_err().contains("named twice"));
        assert_eq!(fs::read_to_string(&input).unwrap(), "record");
    }

    #[test]
    fn the_first_write_replaces_and_later_ones_append() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.txt");
        fs::write(&path, "much longer than what comes").unwrap();
        let mut file = Destination::open(&path).unwrap();
        file.write(|out| out.write_all(b"one\n")).unwrap();
        file.write(|out| out.write_all(b"two\n")).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
