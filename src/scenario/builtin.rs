//! The scenario files, embedded.

/// An embedded scenario file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// The file's name without `.toml`.
    pub name: &'static str,
    /// Its text.
    pub toml: &'static str,
}

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(BuiltIn { name: $name, toml: include_str!(concat!("../../scenarios/", $name, ".toml")) }),*]
    };
}

/// In alphabetical order; a test compares it with the directory.
pub(super) const ALL: &[BuiltIn] = built_in! {
    "healthy"
};
