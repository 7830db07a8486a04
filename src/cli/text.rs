//! How option values are read from and written to a configuration file: with the parsers of the command line, and
//! without any secret on the way out.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Unexpected, Visitor},
};

use super::targets::disk_target;
use crate::{
    model::{REDACTED, Secret, Target},
    plan::Proxy,
};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
pub(super) fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// `Option<T>` as text.
pub(super) mod option {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserializer, Serializer};

    use super::Text;

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(in super::super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        from.deserialize_str(Text(|text: &str| text.parse::<T>().map_err(|e| e.to_string()))).map(Some)
    }
}

/// `Vec<T>` as an array of texts.
pub(super) mod vec {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserializer, Serializer};

    use super::Texts;

    pub(in super::super) fn serialize<T: Display, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        from.deserialize_seq(Texts(|text: &str| text.parse::<T>().map_err(|e| e.to_string())))
    }
}

/// The proxy's URL; the password is not written.
pub(super) mod proxy {
    use serde::{Deserializer, Serializer};

    use super::{Proxy, Secret, Text, shown_proxy};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(in super::super) fn serialize<S: Serializer>(value: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(text) => to.serialize_str(&shown_proxy(text)),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        let parse = |text: &str| text.parse::<Proxy>().map(|_| Secret::new(text)).map_err(|e| e.to_string());
        from.deserialize_str(Text(parse)).map(Some)
    }
}

/// Targets; queries are not written.
pub(super) mod targets {
    use serde::{Deserializer, Serializer};

    use super::{Secret, Target, Texts, shown_target};

    pub(in super::super) fn serialize<S: Serializer>(values: &[Secret], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(shown_target))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Secret>, D::Error> {
        let parse = |text: &str| match Target::parse(text, &[443]) {
            Ok(_) => Ok(Secret::new(text)),
            Err(e) => Err(e.to_string()),
        };
        from.deserialize_seq(Texts(parse))
    }
}

/// Blob URIs; queries are not written.
pub(super) mod disks {
    use serde::{Deserializer, Serializer};

    use super::{Secret, Texts, disk_target, shown_target};

    pub(in super::super) fn serialize<S: Serializer>(values: &[Secret], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(shown_target))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Secret>, D::Error> {
        from.deserialize_seq(Texts(|text: &str| disk_target(text).map(|_| Secret::new(text))))
    }
}

/// Ports, each from 1 to 65535.
pub(super) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
    let numbers = Vec::<i64>::deserialize(from)?;
    let port = |(index, number)| in_range(number, 1, 65535).map_err(|e| de::Error::custom(entry(index, &e)));
    numbers.into_iter().enumerate().map(port).collect()
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn between<'de, D, T, const MIN: i64, const MAX: i64>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    in_range(i64::deserialize(from)?, MIN, MAX).map(Some).map_err(de::Error::custom)
}

fn in_range<T: TryFrom<i64>>(number: i64, min: i64, max: i64) -> Result<T, String> {
    let error = || format!("{number} is not allowed: give a whole number from {min} to {max}");
    Some(number).filter(|n| (min..=max).contains(n)).and_then(|n| T::try_from(n).ok()).ok_or_else(error)
}

/// Errors inside an array point to the array, so they say which entry they mean.
fn entry(index: usize, error: &str) -> String {
    format!("entry {}: {error}", index + 1)
}

/// `scheme://user:[redacted]@host:port`.
fn shown_proxy(text: &Secret) -> String {
    let Ok(proxy) = text.expose().parse::<Proxy>() else {
        return REDACTED.to_owned();
    };
    match &proxy.credentials {
        None => proxy.url(),
        Some(credentials) => {
            let scheme = if proxy.tls { "https" } else { "http" };
            format!("{scheme}://{}:{REDACTED}@{}", credentials.user, proxy.host.authority(proxy.port))
        }
    }
}

/// The URL or host as given, with its query cut out.
fn shown_target(text: &Secret) -> String {
    let text = text.expose();
    if Target::parse(text, &[443]).is_err() {
        return REDACTED.to_owned();
    }
    match text.split_once(['?', '#']) {
        Some((before, _)) => format!("{before}?{REDACTED}"),
        None => text.to_owned(),
    }
}

/// Reads a string with a parser. What is no string is named by its type alone, never by its content.
struct Text<F>(F);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// Reads an array of strings with a parser.
struct Texts<F>(F);

impl<'de, T, F: Fn(&str) -> Result<T, String>> Visitor<'de> for Texts<F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Vec<T>, E> {
        Err(E::invalid_type(Unexpected::Other("string"), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(text) = array.next_element::<Cow<'de, str>>()? {
            values.push((self.0)(&text).map_err(|e| de::Error::custom(entry(values.len(), &e)))?);
        }
        Ok(values)
    }
}
