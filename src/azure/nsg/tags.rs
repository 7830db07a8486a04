//! Service tags: names for the address ranges of Azure's services.

use std::{borrow::Cow, collections::HashMap, fmt};

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::{
    address::{Range, Ranges},
    input::{NsgError, Place},
    region,
};

/// The address ranges of service tags, as Azure publishes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTags {
    /// Which list this is, for people.
    about: String,
    /// By canonical name.
    tags: HashMap<String, ServiceTag>,
    prefixes: usize,
    /// Whether the list knows services; the old one knows regions alone.
    pub(super) by_service: bool,
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceTag {
    /// In Azure's spelling.
    pub(super) name: String,
    pub(super) ranges: Ranges,
    /// As they stand in the list.
    pub(super) prefixes: Vec<Range>,
}

impl ServiceTags {
    /// Reads `ServiceTags_Public_….json`, the answer of `az network list-service-tags`, or the old
    /// `PublicIPs_….xml`.
    ///
    /// # Errors
    /// When the file is too large or malformed.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, NsgError> {
        let text = super::input::decode(file, bytes)?;
        if text.trim_start().starts_with('<') { Self::parse_xml(file, &text) } else { Self::parse_json(file, &text) }
    }

    pub(super) fn parse_json(file: &str, text: &str) -> Result<Self, NsgError> {
        let list: List<'_> = serde_json::from_str(text).map_err(|e| NsgError::json(file, &e))?;
        let mut tags = HashMap::with_capacity(list.values.len());
        let mut prefixes = 0;
        for entry in list.values {
            let listed = entry.properties.address_prefixes.0;
            prefixes += listed.len();
            let tag = ServiceTag {
                name: entry.name.into_owned(),
                ranges: listed.iter().flat_map(|range| range.pieces()).collect(),
                prefixes: listed,
            };
            tags.insert(canonical(&tag.name), tag);
        }
        let cloud = list.cloud.as_deref().map_or_else(String::new, |cloud| format!(" of the cloud {cloud}"));
        let about = format!("{} service tags{cloud} with {prefixes} prefixes", tags.len());
        Ok(Self { about, tags, prefixes, by_service: true })
    }

    /// The old list knows no services, so each of its regions becomes a tag `AzureCloud.<region>`.
    pub(super) fn parse_xml(file: &str, text: &str) -> Result<Self, NsgError> {
        let mut reader = Reader::from_str(text);
        let mut regions: HashMap<String, Vec<Range>> = HashMap::new();
        let mut region: Option<String> = None;
        let mut is_list = false;
        loop {
            let place = |reader: &Reader<&[u8]>| place(text, reader.buffer_position());
            let event = reader
                .read_event()
                .map_err(|e| NsgError::new(file, self::place(text, reader.error_position()), e.to_string()))?;
            let element = match &event {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) => element,
                _ => continue,
            };
            match element.local_name().as_ref() {
                b"AzurePublicIpAddresses" => is_list = true,
                b"Region" if is_list => {
                    let name = attribute(element, "Name")
                        .ok_or_else(|| NsgError::new(file, place(&reader), "this Region has no Name"))?;
                    region = Some(region::canonical(&name));
                }
                b"IpRange" if is_list => {
                    let subnet = attribute(element, "Subnet").unwrap_or_default();
                    let range = Range::parse(&subnet).ok_or_else(|| {
                        let reason = format!("found Subnet `{subnet}`; write a prefix such as 40.112.124.0/24");
                        NsgError::new(file, place(&reader), reason)
                    })?;
                    let Some(region) = &region else {
                        return Err(NsgError::new(file, place(&reader), "this IpRange stands outside of a Region"));
                    };
                    regions.entry(region.clone()).or_default().push(range);
                }
                _ => {}
            }
        }
        if !is_list {
            return Err(NsgError::new(file, Place::Whole, "this XML is no list of AzurePublicIpAddresses"));
        }
        let all: Vec<Range> = regions.values().flatten().copied().collect();
        let prefixes = all.len();
        let about = format!("the retired list of {} regions with {prefixes} prefixes", regions.len());
        let tag = |name: String, prefixes: Vec<Range>| {
            let ranges = prefixes.iter().flat_map(|range| range.pieces()).collect();
            (canonical(&name), ServiceTag { name, ranges, prefixes })
        };
        let tags = regions
            .into_iter()
            .map(|(region, ranges)| tag(format!("AzureCloud.{region}"), ranges))
            .chain([tag("AzureCloud".to_owned(), all)])
            .collect();
        Ok(Self { about, tags, prefixes, by_service: false })
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn prefixes(&self) -> usize {
        self.prefixes
    }

    /// The tag of this name, whatever its case and the spelling of its region.
    pub(super) fn get(&self, name: &str) -> Option<&ServiceTag> {
        self.tags.get(&canonical(name))
    }

    /// The tag `Storage.<region>` that has this address.
    pub(super) fn regional_storage(&self, number: u128) -> Option<&ServiceTag> {
        self.tags
            .iter()
            .find(|(key, tag)| key.starts_with("storage.") && tag.ranges.contains(number))
            .map(|(_, tag)| tag)
    }
}

impl fmt::Display for ServiceTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about)
    }
}

/// A tag's name for comparison: lower case, and its region as Resource Manager names it. The tags of the classic model
/// count as those that took their place.
pub(super) fn canonical(name: &str) -> String {
    match name.split_once('.') {
        Some((service, region)) => format!("{}.{}", service.to_ascii_lowercase(), region::canonical(region)),
        None => match name.to_ascii_lowercase().as_str() {
            "virtual_network" => "virtualnetwork".to_owned(),
            "azure_loadbalancer" => "azureloadbalancer".to_owned(),
            other => other.to_owned(),
        },
    }
}

/// The published list. Names and prefixes are borrowed from the text where they can be.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    cloud: Option<Cow<'a, str>>,
    #[serde(borrow)]
    values: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    address_prefixes: Prefixes,
}

struct Prefixes(Vec<Range>);

impl<'de> Deserialize<'de> for Prefixes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Prefixes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of address prefixes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prefixes, A::Error> {
                let mut ranges = Vec::new();
                while let Some(Prefix(range)) = list.next_element()? {
                    ranges.push(range);
                }
                Ok(Prefixes(ranges))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

struct Prefix(Range);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address prefix such as 13.69.40.16/28")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                Range::parse(text).map(Prefix).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned)
}

/// Line and column of a byte.
fn place(text: &str, offset: u64) -> Place {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    Place::after(&text.as_bytes()[..offset])
}
