//! The Azure clouds and how each names storage.

/// An Azure cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// The public cloud.
    Public,
    /// Azure US Government.
    UsGov,
    /// Azure operated by 21Vianet in China.
    China,
}

impl Cloud {
    /// All clouds that exist today.
    pub const ALL: [Self; 3] = [Self::Public, Self::UsGov, Self::China];

    /// The name that options and records use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::UsGov => "usgov",
            Self::China => "china",
        }
    }

    /// The cloud of this name, as options and records write it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| cloud.as_str().eq_ignore_ascii_case(name))
    }

    /// The suffix under which storage accounts live (`az cloud show`, `suffixes.storageEndpoint`).
    #[must_use]
    pub fn storage_suffix(self) -> &'static str {
        match self {
            Self::Public => "core.windows.net",
            Self::UsGov => "core.usgovcloudapi.net",
            Self::China => "core.chinacloudapi.cn",
        }
    }

    /// The blob endpoint of a storage account.
    #[must_use]
    pub fn blob_host(self, account: &str) -> String {
        format!("{account}.blob.{}", self.storage_suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_names_its_own_blob_endpoint() {
        let hosts: Vec<_> = Cloud::ALL.iter().map(|cloud| cloud.blob_host("acct")).collect();
        assert_eq!(
            hosts,
            ["acct.blob.core.windows.net", "acct.blob.core.usgovcloudapi.net", "acct.blob.core.chinacloudapi.cn"]
        );
        assert_eq!(Cloud::from_name("USGov"), Some(Cloud::UsGov));
        assert_eq!(Cloud::from_name("german"), None);
    }
}
