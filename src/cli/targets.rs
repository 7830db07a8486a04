//! From options to targets: given one by one, read from a file, derived from an account or a disk.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{exit::Stop, options::Options};
use crate::model::{Scheme, Target};

/// A list of targets beyond this size is a mistake (a device, a wrong file).
const MAX_LIST_BYTES: u64 = 64 << 20;

/// All targets that the options name, in their order, without duplicates.
///
/// # Errors
/// When a target or the list cannot be used; the message names file and line.
pub(super) fn resolve(options: &Options) -> Result<Vec<Target>, Stop> {
    let ports = &options.ports;
    let mut all = Vec::new();
    for text in &options.target {
        all.extend(Target::parse(text.expose(), ports).map_err(|e| Stop::usage(e.to_string()))?);
    }
    if let Some(path) = &options.targets {
        let (name, text) = read(path)?;
        all.extend(list(&name, &text, ports)?);
    }
    for account in &options.account {
        let host = format!("{account}.{}", options.cloud.unwrap_or_default().blob_suffix());
        all.extend(Target::parse(&host, ports).map_err(|e| Stop::usage(format!("--account: {e}")))?);
    }
    for uri in &options.disk {
        all.push(disk_target(uri.expose()).map_err(|e| Stop::usage(format!("--disk: {e}")))?);
    }
    let mut seen = HashSet::new();
    all.retain(|target| seen.insert((target.to_string(), target.sas.clone())));
    Ok(all)
}

/// The target of a blob URI.
///
/// # Errors
/// Says what is wrong, without the query.
pub(super) fn disk_target(uri: &str) -> Result<Target, String> {
    if !uri.contains("://") {
        return Err("write the blob URI of the disk: https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB".into());
    }
    let target = Target::parse(uri, &[443]).map_err(|e| e.to_string())?.remove(0);
    let shown = target.to_string();
    if target.scheme != Scheme::Https {
        return Err(format!("cannot use `{shown}`: the blob URI of a disk begins with https://"));
    }
    if target.path == "/" {
        return Err(format!("cannot use `{shown}`: a blob URI has a path, /CONTAINER/BLOB"));
    }
    Ok(target)
}

/// The targets of a list: one per line; `#` at the start of a line or after a space starts a comment.
fn list(name: &str, text: &str, ports: &[u16]) -> Result<Vec<Target>, Stop> {
    let mut targets = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let entry = uncommented(line);
        if !entry.is_empty() {
            let error = |e| Stop::usage(format!("{name}:{}: {e}", index + 1));
            targets.extend(Target::parse(entry, ports).map_err(error)?);
        }
    }
    if targets.is_empty() {
        return Err(Stop::usage(format!("{name}: no target in it; write one per line, # starts a comment")));
    }
    Ok(targets)
}

fn uncommented(line: &str) -> &str {
    let comment = |&(at, c): &(usize, char)| c == '#' && line[..at].chars().next_back().is_none_or(char::is_whitespace);
    line.char_indices().find(comment).map_or(line, |(at, _)| &line[..at]).trim()
}

/// The name and text of a list; `-` is standard input.
fn read(path: &Path) -> Result<(String, String), Stop> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let result = if stdin {
        io::stdin().lock().take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes))
    };
    result.map_err(|e| Stop::usage(format!("cannot read the targets from {name}: {e}")))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(Stop::usage(format!("{name} is longer than 64 MiB, which no list of targets is")));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|&b| b == b'\n').count();
        Stop::usage(format!("{name}:{line}: this is not UTF-8 text; write one target per line"))
    })?;
    Ok((name, text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{cli::values::Cloud, model::Secret};

    fn shown(options: Options) -> Vec<String> {
        resolve(&options.with_defaults()).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_account_is_its_blob_endpoint_in_the_cloud() {
        let options = |cloud| Options { account: vec!["abc".parse().unwrap()], cloud, ..Options::default() };
        assert_eq!(shown(options(None))[1], "https://abc.blob.core.windows.net:443");
        assert_eq!(shown(options(None)).len(), 3);
        assert_eq!(shown(options(Some(Cloud::UsGov)))[0], "http://abc.blob.core.usgovcloudapi.net:80");
        assert_eq!(shown(options(Some(Cloud::China)))[2], "https://abc.blob.core.chinacloudapi.cn:8443");
    }

    #[test]
    fn duplicates_go_and_order_stays() {
        let target = ["b.example:443", "https://b.example", "tcp://a.example:1", "https://B.example/"].map(Secret::new);
        let options = Options { target: target.into(), ..Options::default() };
        assert_eq!(shown(options), ["https://b.example:443", "tcp://a.example:1"]);
    }

    #[test]
    fn the_same_blob_with_and_without_a_signature_is_two_targets() {
        let uri = "https://md-1.blob.core.windows.net/c/b";
        let disk = [uri.to_owned(), format!("{uri}?sig=TOPSECRET"), format!("{uri}?sig=TOPSECRET")].map(Secret::new);
        let targets = resolve(&Options { disk: disk.into(), ..Options::default() }).unwrap();
        assert_eq!(targets.iter().map(|t| t.sas.is_some()).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_disk_is_an_https_uri_with_a_path() {
        for uri in
            ["md-1.blob.core.windows.net/c/b?sig=TOPSECRET", "http://h/c/b?sig=TOPSECRET", "https://h?sig=TOPSECRET"]
        {
            let error = disk_target(uri).unwrap_err();
            assert!(error.contains("https://") && !error.contains("TOPSECRET"), "{error}");
        }
    }

    #[test]
    fn a_list_takes_comments_and_names_the_line_of_an_error() {
        let text = "\u{feff}# estate\r\n\na.example:443 # first\r\n  tcp://b.example:0\n";
        let error = list("list", text, &[443]).unwrap_err().to_string();
        assert!(error.starts_with("list:4: "), "{error}");
        let targets = list("list", "# estate\n\na.example # first\ntcp://[::1]:2\n", &[80, 443]).unwrap();
        assert_eq!(targets.len(), 3);
        assert!(list("list", "# nothing\n", &[443]).unwrap_err().to_string().contains("no target in it"));
        let leak = list("list", "https://h\nftp://u:TOPSECRET@h/?sig=TOPSECRET", &[443]).unwrap_err().to_string();
        assert!(leak.starts_with("list:2: ") && !leak.contains("TOPSECRET"), "{leak}");
    }

    #[test]
    fn ten_thousand_targets_are_normal() {
        use std::fmt::Write;
        let mut text = String::new();
        for n in 0..10_000 {
            let _ = writeln!(text, "tcp://10.{}.{}.1:443", n / 100, n % 100);
        }
        assert_eq!(list("list", &text, &[443]).unwrap().len(), 10_000);
    }

    proptest! {
        #[test]
        fn lists_never_panic(text in "(\\PC{0,20}\n?){0,5}") {
            let _ = list("list", &text, &[443]);
        }
    }
}
