//! `snapreach replay`: judge recorded observations again, without a network.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use super::{
    args::Replay,
    exit::{self, Stop},
    output::{self, Outputs},
};
use crate::{
    classify,
    model::{Record, RecordError},
    report::Format,
};

/// Runs the command and gives the worst exit code of all records.
///
/// # Errors
/// When a record cannot be read; then nothing is reported at all.
pub(super) fn run(args: &Replay) -> Result<u8, Stop> {
    let records = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let style = output::style(args.color, args.verbose);
    let format = args.format.unwrap_or(Format::Text);
    let mut outputs = Outputs::open(format, style, &args.output, None, &args.files)?;
    outputs.only(&Format::OF_RECORDS, "a record has")?;
    let single = |format: &Format| matches!(format, Format::Junit | Format::Prometheus | Format::Html);
    if let Some(format) = outputs.formats().find(single).filter(|_| records.len() > 1) {
        return Err(Stop::usage(format!(
            "a {format} report holds one record: give one FILE, or choose text, markdown, json or jsonl"
        )));
    }
    let mut worst = exit::CLEAR;
    for (index, (path, record)) in args.files.iter().zip(&records).enumerate() {
        if records.len() > 1 && outputs.format() == Format::Text {
            let gap = if index == 0 { "" } else { "\n" };
            output::print(&format!("{gap}==> {} <==\n", path.display()))?;
        }
        let assessment = classify::assess(record);
        worst = exit::worst(worst, exit::code(record, &assessment, args.strict));
        if let Err(stop) = outputs.write(record, &assessment) {
            output::say(&format!("error: {stop}"));
            worst = exit::worst(worst, stop.code());
        }
    }
    Ok(worst)
}

/// Reads the record in a file; `-` is standard input.
fn read(path: &Path) -> Result<Record, Stop> {
    let (name, result) = if path == Path::new("-") {
        ("<stdin>".to_owned(), Record::read(io::stdin().lock()))
    } else {
        let file = File::open(path).map_err(RecordError::Io);
        (path.display().to_string(), file.and_then(|file| Record::read(BufReader::new(file))))
    };
    result.map_err(|e| {
        Stop::usage(match e {
            RecordError::Io(e) => format!("cannot read the record {name}: {e}"),
            RecordError::Line { line, message } => format!("{name}:{line}: {message}"),
            RecordError::Head(reason) => format!(
                "{name}:1: this is no record of snapreach (check --record FILE writes one): {reason}"
            ),
            RecordError::Schema { found } => format!(
                "{name}:1: the record has schema {found}, and this version reads schema {}: use the version that wrote it",
                crate::model::SCHEMA
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let head = r#"{"schema":1,"kind":"record","context":{"cloud":"public","region":null},"targets":[]}"#;
        for (text, part) in [
            (String::new(), "r.jsonl:1: "),
            ("hello\n".into(), "r.jsonl:1: "),
            (head.replace(":1,", ":2,"), "schema 2"),
            (format!("{head}\n{{\"end\":{{\"observations\":0}}}}\nhello\n"), "r.jsonl:3: "),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read(Path::new("/nonexistent/r.jsonl")).unwrap_err().to_string().contains("/nonexistent/r.jsonl: "));
    }
}
