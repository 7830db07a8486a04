//! `snapreach nsg`: which security rule or route decides over a flow, from files alone.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::Path,
};

use super::{args::Nsg, exit::Stop, output};
use crate::{
    azure::{
        nsg::{Compiled, Destination, MAX_BYTES, Policy, Question, in_azure_spelling, region_in_tags},
        storage::is_storage_name,
    },
    classify::offline,
    report,
};

/// Reads the files, judges, and gives the exit code.
///
/// # Errors
/// When a file or an option cannot be used.
pub(super) fn run(args: &Nsg) -> Result<u8, Stop> {
    let files = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let policy = Policy::read(&files).map_err(|e| Stop::usage(e.to_string()))?;
    if !policy.decides() {
        return Err(Stop::usage(
            "the files hold service tags alone: give the rules of a security group, or routes, as well",
        ));
    }
    let region = args.region.as_deref();
    let targets = if args.to.is_empty() {
        vec![Target { name: storage_tag(region), to: To::Tag(storage_tag(region)), is_storage: true }]
    } else {
        args.to.iter().map(|text| target(text, region)).collect::<Result<Vec<_>, _>>()?
    };
    let subjects: Vec<(&Target, u16, String)> = targets
        .iter()
        .flat_map(|target| args.port.iter().map(move |&port| (target, port, subject(&target.name, port))))
        .collect();
    let questions: Vec<Question<'_>> = subjects
        .iter()
        .map(|(target, port, subject)| Question {
            subject,
            destination: match &target.to {
                To::Address(ip) => Destination::Address(*ip),
                To::Tag(tag) => Destination::Tag(tag),
            },
            port: *port,
            protocol: args.protocol,
            source: args.from,
            region,
            storage: target.is_storage,
        })
        .collect();
    let policy = Compiled::new(policy);
    let review = offline::review(&policy, &questions, args.to.is_empty());
    let style = output::style(args.color, 0);
    let (sources, notes) = (policy.policy().sources(), policy.policy().notes());
    output::to_stdout(|out| report::write_review(args.format, &review, sources, notes, &style, out))?;
    Ok(review.verdict.exit_code)
}

/// The content of a file; `-` is standard input. More than can be used is not read.
fn read(path: &Path) -> Result<(String, Vec<u8>), Stop> {
    let (name, result) = if path == Path::new("-") {
        ("<stdin>".to_owned(), take(io::stdin().lock()))
    } else {
        (path.display().to_string(), File::open(path).and_then(take))
    };
    result.map(|bytes| (name.clone(), bytes)).map_err(|e| Stop::usage(format!("cannot read {name}: {e}")))
}

fn take(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A value of `--to`.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// As the report names it.
    name: String,
    to: To,
    is_storage: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum To {
    Address(IpAddr),
    Tag(String),
}

fn target(text: &str, region: Option<&str>) -> Result<Target, Stop> {
    let address = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some(ip) = address(text) {
        return Ok(Target { name: ip.to_string(), to: To::Address(ip), is_storage: false });
    }
    if let Some((host, ip)) = text.split_once('=') {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ip = address(ip).filter(|_| !host.is_empty()).ok_or_else(|| {
            Stop::usage(format!("invalid value '{text}' for '--to': write HOST=ADDR with a literal address"))
        })?;
        return Ok(Target { is_storage: is_storage_name(&host), name: host, to: To::Address(ip) });
    }
    let host = text.trim_end_matches('.').to_ascii_lowercase();
    if is_storage_name(&host) {
        return Ok(Target { name: host, to: To::Tag(storage_tag(region)), is_storage: true });
    }
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let (service, place) = text.split_once('.').map_or((text, None), |(service, place)| (service, Some(place)));
    if is_word(service) && !service.as_bytes()[0].is_ascii_digit() && place.is_none_or(|p| region_in_tags(p).is_some())
    {
        let tag = in_azure_spelling(text);
        let is_storage = service.eq_ignore_ascii_case("storage");
        return Ok(Target { name: tag.clone(), to: To::Tag(tag), is_storage });
    }
    Err(Stop::usage(format!(
        "invalid value '{text}' for '--to': write an address, a service tag such as Storage.WestEurope, the name of a \
         storage endpoint, or HOST=ADDR; no name is looked up"
    )))
}

fn storage_tag(region: Option<&str>) -> String {
    region.map_or_else(|| "Storage".to_owned(), |region| in_azure_spelling(&format!("Storage.{region}")))
}

/// `host:port`, with brackets around IPv6.
fn subject(name: &str, port: u16) -> String {
    if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

/// Parses a region in any spelling.
pub(super) fn region(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    if plain && text.chars().any(char::is_alphabetic) {
        Ok(text.chars().filter(|c| *c != ' ').collect())
    } else {
        Err("write a region such as westeurope or 'West Europe'".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_tags_and_storage_names() {
        let to = |text: &str| target(text, Some("west europe")).map(|target| (target.to, target.is_storage)).ok();
        let tag = |tag: &str, is_storage| Some((To::Tag(tag.to_owned()), is_storage));
        assert_eq!(to("20.60.0.4"), Some((To::Address("20.60.0.4".parse().unwrap()), false)));
        assert_eq!(to("[2603:1020::4]"), Some((To::Address("2603:1020::4".parse().unwrap()), false)));
        assert_eq!(to("acct.blob.core.windows.net"), tag("Storage.WestEurope", true));
        assert_eq!(to("Acct.blob.core.windows.net=10.0.0.4"), Some((To::Address("10.0.0.4".parse().unwrap()), true)));
        assert_eq!(to("storage.europewest"), tag("Storage.WestEurope", true));
        assert_eq!(to("azurebackup"), tag("AzureBackup", false));
        for text in ["", "www.example.com", "a b", "acct=", "=10.0.0.4", "10.0.0.256", "Storage.Atlantis"] {
            assert!(target(text, None).unwrap_err().to_string().contains("--to"), "{text}");
        }
        assert_eq!(subject("2603::4", 443), "[2603::4]:443");
    }
}
