//! Windows: the settings of the system account, under which agent and extension run, and of .NET.

use super::{facts::Facts, form, remedy};
use crate::model::{Form, Remedy};

/// The `WinINET` settings of the system account, per user.
const SETTINGS: &str = r#""HKU\S-1-5-18\Software\Microsoft\Windows\CurrentVersion\Internet Settings""#;

/// The keys that the Windows extension reads.
const BACKUP_KEYS: &str = r"HKLM\SOFTWARE\Microsoft\BcdrAgentPersistentKeys";

/// A proxy for the system account, and for what goes by `WinHTTP`; the platform's addresses are left out.
pub(super) fn account_proxy(f: &Facts) -> Form {
    let (host, port) = (&f.proxy_host, f.proxy_port);
    let direct = "168.63.129.16;169.254.169.254;<local>";
    form(
        "Windows, for the system account",
        [
            format!("reg add {SETTINGS} /v ProxyEnable /t REG_DWORD /d 1 /f"),
            format!("reg add {SETTINGS} /v ProxyServer /t REG_SZ /d {host}:{port} /f"),
            format!("reg add {SETTINGS} /v ProxyOverride /t REG_SZ /d \"{direct}\" /f"),
            format!("netsh winhttp set proxy proxy-server=\"{host}:{port}\" bypass-list=\"{direct}\""),
        ],
    )
}

/// Takes the system account's proxy away.
pub(super) fn no_account_proxy() -> Form {
    form(
        "Windows, for the system account",
        [format!("reg add {SETTINGS} /v ProxyEnable /t REG_DWORD /d 0 /f"), "netsh winhttp reset proxy".to_owned()],
    )
}

/// Lets the host take the snapshot first, on Windows.
pub(super) fn host_takes_snapshot(f: &Facts) -> Remedy {
    let mut host = remedy(
        "Let the host take the snapshot: storage is then not asked from inside the machine",
        snapshot_by_host().commands,
    );
    host.note =
        "This opens nothing and needs 168.63.129.16 on TCP 80 alone. A proxy without a login, set for the system \
                 account, may help as well: which settings the current extension reads is not published."
            .into();
    host.forms = vec![account_proxy(f)];
    host
}

pub(super) fn snapshot_by_host() -> Form {
    form(
        "Windows",
        [
            format!("reg add {BACKUP_KEYS} /v SnapshotMethod /t REG_SZ /d firstHostThenGuest /f"),
            format!("reg add {BACKUP_KEYS} /v CalculateSnapshotTimeFromHost /t REG_SZ /d True /f"),
        ],
    )
}

/// Lets .NET programs speak the TLS versions that the system speaks.
pub(super) fn strong_crypto() -> Remedy {
    remedy(
        "On Windows, let .NET speak the system's TLS versions; without this the portal shows \
         ExtensionSnapshotFailedNoSecureNetwork",
        ["SOFTWARE", r"SOFTWARE\Wow6432Node"].map(|branch| {
            format!(
                r#"reg add "HKLM\{branch}\Microsoft\.NETFramework\v4.0.30319" /v SchUseStrongCrypto /t REG_DWORD /d 1 /f"#
            )
        }),
    )
}
