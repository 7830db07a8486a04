//! Reporters: a record and its assessment in, text of one format out. They print what was judged and never judge.

mod html;
mod json;
mod jsonl;
mod junit;
mod machine;
mod markdown;
mod matrix;
mod offline;
mod prometheus;
mod text;
mod words;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fmt,
    io::{self, BufWriter, Write},
    path::Path,
    str::FromStr,
};

use crate::model::{Assessment, Record};

pub use offline::write_review;

#[cfg(feature = "bench")]
pub(crate) use html::{begin as html_begin, escape as html_escape};
pub(crate) use json::pretty;
#[cfg(feature = "conformance")]
pub(crate) use markdown::{block, code};
pub(crate) use markdown::{escape, finding as markdown_finding};
pub(crate) use text::{Page, Paint, findings as text_findings};
#[cfg(any(feature = "conformance", feature = "scenario"))]
pub(crate) use words::clean as harmless;
#[cfg(feature = "bench")]
pub(crate) use words::count;
pub(crate) use words::plural;
#[cfg(feature = "conformance")]
pub(crate) use words::{duration, status};

/// An output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people at a terminal.
    Text,
    /// One JSON document, schema [`crate::model::SCHEMA`].
    Json,
    /// One JSON object per line, each with a `type`.
    Jsonl,
    /// For a ticket.
    Markdown,
    /// `JUnit` XML: one test case per target and route.
    Junit,
    /// Prometheus text exposition format, for node exporter's textfile collector.
    Prometheus,
    /// One self-contained page.
    Html,
    /// A time series, for a spreadsheet.
    Csv,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] =
        [Self::Text, Self::Json, Self::Jsonl, Self::Markdown, Self::Junit, Self::Prometheus, Self::Html, Self::Csv];

    /// The formats that a record can be reported in, in the order in which help lists them.
    pub const OF_RECORDS: [Self; 7] =
        [Self::Text, Self::Json, Self::Jsonl, Self::Markdown, Self::Junit, Self::Prometheus, Self::Html];

    /// The name that [`Format::from_str`] accepts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "markdown",
            Self::Junit => "junit",
            Self::Prometheus => "prometheus",
            Self::Html => "html",
            Self::Csv => "csv",
        }
    }

    /// The format that a file of this name should hold: `.txt`, `.json`, `.jsonl`, `.md`, `.xml`, `.prom`, `.html`,
    /// `.csv`.
    #[must_use]
    pub fn from_extension(path: &Path) -> Option<Self> {
        let extension = path.extension().and_then(OsStr::to_str)?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "txt" => Self::Text,
            "json" => Self::Json,
            "jsonl" => Self::Jsonl,
            "md" => Self::Markdown,
            "xml" => Self::Junit,
            "prom" => Self::Prometheus,
            "html" => Self::Html,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// A format name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no format `{0}`; use text, json, jsonl, markdown, junit, prometheus, html or csv")]
pub struct UnknownFormat(String);

/// How the text report looks. The other formats ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour the verdict, severities and cell states with ANSI escape sequences.
    pub color: bool,
    /// Columns of a line. Only commands to paste and what cannot be broken (URLs, hashes) may be wider.
    pub width: usize,
    /// 0: what matters; 1: every step of every observation; 2: heads and bodies as well.
    pub verbose: u8,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: 80, verbose: 0 }
    }
}

/// Writes the report and flushes `out`.
///
/// # Errors
/// When `out` does (a closed pipe is an error of kind [`io::ErrorKind::BrokenPipe`]), or the format is none of
/// [`Format::OF_RECORDS`].
pub fn write(
    format: Format,
    record: &Record,
    assessment: &Assessment,
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(64 * 1024, out);
    let writer = &mut buffered;
    match format {
        Format::Text => text::write(record, assessment, style, writer),
        Format::Json => json::write(record, assessment, writer),
        Format::Jsonl => jsonl::write(record, assessment, writer),
        Format::Markdown => markdown::write(record, assessment, writer),
        Format::Junit => junit::write(record, assessment, writer),
        Format::Prometheus => prometheus::write(record, assessment, writer),
        Format::Html => html::write(record, assessment, writer),
        Format::Csv => Err(io::Error::other("there is no report of a check as csv")),
    }?;
    writer.flush()
}
