//! The extension's status and settings files: JSON with JSON as text inside (`azure-linux-extensions`,
//! `VMBackup/main/Utils/Status.py`, `HandlerUtil.py`).

use serde_json::Value;

use super::text::{host_and_path, kept};

/// Disks of one report that are kept.
const MAX_DISKS: usize = 256;

/// What a status file reports. Its own `status` is not here: for a machine of the resource manager the extension always
/// writes `success`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) path: String,
    /// As `YYYY-MM-DD HH:MM:SS`.
    pub(crate) at: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) code: Option<i32>,
    pub(crate) health_code: Option<i32>,
    pub(crate) message: String,
    pub(crate) pre_snapshot: Option<String>,
    pub(crate) do_snapshot: Option<String>,
    /// `guestExtension` or `backupHostService`
    pub(crate) creator: Option<String>,
    pub(crate) disks: Vec<ReportedDisk>,
}

/// A disk in `snapshotInfo`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReportedDisk {
    pub(crate) host: Option<String>,
    pub(crate) path: String,
    pub(crate) taken: Option<bool>,
    pub(crate) error: Option<String>,
}

/// What a settings file says in the open.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) task: Option<String>,
    pub(crate) method: Option<String>,
}

/// Reads a status file.
///
/// # Errors
/// What is wrong, with line and column.
pub(crate) fn read(text: &str, path: &str) -> Result<Report, String> {
    let document = json(text)?;
    let top = first(&document);
    let status = &top["status"];
    if !status.is_object() {
        return Err("is JSON, and no status file: it has no object `status`".into());
    }
    let mut report = Report {
        path: path.to_owned(),
        at: string(&top["timestampUTC"]).and_then(|at| time(&at)),
        ..Report::default()
    };
    report.take(status);
    // The file's own code counts; the nested report has what the file leaves out.
    let nested = status["substatus"].as_array().into_iter().flatten().find_map(|sub| json(sub["name"].as_str()?).ok());
    if let Some(nested) = nested {
        let code = report.code;
        report.take(&first(&nested)["status"]);
        report.code = code.or(report.code);
    }
    Ok(report)
}

impl Report {
    /// Takes what a status object has.
    fn take(&mut self, status: &Value) {
        let number =
            |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).and_then(|n| i32::try_from(n).ok());
        self.code = number(&status["code"]).or(self.code);
        self.task = string(&status["taskId"]).or(self.task.take());
        let message = &status["formattedMessage"]["message"];
        if let Some(message) = message.as_str() {
            let inner = json(message).ok().and_then(|inner| string(&inner["messageStr"]));
            self.message = inner.unwrap_or_else(|| kept(message));
            let whole = message;
            self.creator = suffix(whole, "snapshotCreator").or(self.creator.take());
            self.pre_snapshot = suffix(whole, "hostStatusCodePreSnapshot").or(self.pre_snapshot.take());
            self.do_snapshot = suffix(whole, "hostStatusCodeDoSnapshot").or(self.do_snapshot.take());
        }
        for pair in status["telemetryData"].as_array().into_iter().flatten() {
            let value = string(&pair["Value"]);
            match pair["Key"].as_str().unwrap_or_default() {
                "snapshotCreator" => self.creator = value.or(self.creator.take()),
                "hostStatusCodePreSnapshot" => self.pre_snapshot = value.or(self.pre_snapshot.take()),
                "hostStatusCodeDoSnapshot" => self.do_snapshot = value.or(self.do_snapshot.take()),
                "extensionVersion" => self.version = value.or(self.version.take()),
                _ => {}
            }
        }
        self.health_code = number(&status["vmHealthInfo"]["vmHealthStatusCode"]).or(self.health_code);
        let disks: Vec<_> = status["snapshotInfo"].as_array().into_iter().flatten().take(MAX_DISKS).map(disk).collect();
        if !disks.is_empty() {
            self.disks = disks;
        }
    }
}

fn disk(info: &Value) -> ReportedDisk {
    let uri = info["blobUri"].as_str().or_else(|| info["snapshotUri"].as_str()).unwrap_or_default();
    let (host, path) = host_and_path(uri).map_or((None, String::new()), |(host, path)| (Some(host), path));
    // The host's answers have text where the extension's own have a boolean.
    let taken =
        info["isSuccessful"].as_bool().or_else(|| Some(info["isSuccessful"].as_str()?.eq_ignore_ascii_case("true")));
    ReportedDisk { host, path, taken, error: string(&info["errorMessage"]).filter(|error| !error.is_empty()) }
}

/// Reads a settings file. What is encrypted in it stays so.
///
/// # Errors
/// What is wrong, with line and column.
pub(crate) fn settings(text: &str) -> Result<Settings, String> {
    let document = json(text)?;
    let public = &document["runtimeSettings"][0]["handlerSettings"]["publicSettings"];
    let custom = public["customSettings"].as_str().and_then(|custom| json(custom).ok()).unwrap_or_default();
    Ok(Settings { task: string(&public["taskId"]), method: string(&custom["takeSnapshotFrom"]) })
}

/// The value of `key=value, ` in the message of a report.
pub(super) fn suffix(message: &str, key: &str) -> Option<String> {
    let (_, rest) = message.split_once(key)?;
    let value: String = rest.strip_prefix('=')?.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!value.is_empty()).then_some(value)
}

/// A document, which may follow a byte order mark.
fn json(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches(['\u{feff}', '\0']).trim_end_matches('\0');
    serde_json::from_str(text).map_err(|e| format!("is no valid JSON: {e}"))
}

/// The object, or the first of an array.
fn first(document: &Value) -> &Value {
    document.get(0).unwrap_or(document)
}

fn string(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(kept(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `2026-01-05T03:10:44Z` as `2026-01-05 03:10:44`.
fn time(text: &str) -> Option<String> {
    let text = text.get(..19)?;
    text.as_bytes().iter().all(|b| b.is_ascii_digit() || b"-T:/ ".contains(b)).then(|| text.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = r#"[{"version":"1.0","timestampUTC":"2026-01-05T03:10:44Z","status":{"name":"Microsoft.Azure.RecoveryServices.VMSnapshotLinux",
        "operation":"Enable","status":"success","code":"76","taskId":"t-1","formattedMessage":{"lang":"en-US",
        "message":"{\"messageStr\":\"T:S Enable failed snapshotCreator=guestExtension, hostStatusCodePreSnapshot=555, \",\"snapshotConsistency\":0}"},
        "substatus":[{"code":"0","name":"[{\"timestampUTC\":\"\\/Date(1767582644000)\\/\",\"status\":{\"code\":\"2\",\"telemetryData\":[{\"Key\":\"extensionVersion\",\"Value\":\"1.0.9219.0\"},{\"Key\":\"hostStatusCodeDoSnapshot\",\"Value\":\"556\"}],\"snapshotInfo\":[{\"isSuccessful\":true,\"snapshotUri\":\"https://a.blob.core.windows.net/v/os.vhd?snapshot=2026\",\"errorMessage\":null,\"blobUri\":\"https://A.blob.core.windows.net:8443/v/os.vhd\"},{\"isSuccessful\":\"false\",\"snapshotUri\":null,\"errorMessage\":\"no https://b/c?sig=TOPSECRET\",\"blobUri\":null}],\"vmHealthInfo\":{\"vmHealthState\":256,\"vmHealthStatusCode\":761}}}]","status":"success","formattedMessage":null}]}}]"#;

    #[test]
    fn a_status_file_tells_both_codes_and_the_disks_of_the_report_inside() {
        let report = read(FILE, "3.status").unwrap();
        assert_eq!((report.code, report.health_code), (Some(76), Some(761)));
        assert_eq!(report.at.as_deref(), Some("2026-01-05 03:10:44"));
        assert_eq!((report.pre_snapshot.as_deref(), report.do_snapshot.as_deref()), (Some("555"), Some("556")));
        assert_eq!(
            (report.creator.as_deref(), report.version.as_deref()),
            (Some("guestExtension"), Some("1.0.9219.0"))
        );
        assert_eq!(report.disks[0].host.as_deref(), Some("a.blob.core.windows.net"));
        assert_eq!((report.disks[0].taken, report.disks[1].taken), (Some(true), Some(false)));
        assert_eq!(report.disks[1].error.as_deref(), Some("no https://b/c"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert!(read(&FILE[..FILE.len() - 3], "f").unwrap_err().contains("line 4"));
        assert!(read("[]", "f").unwrap_err().contains("no status file"));
        assert!(settings("{").unwrap_err().contains("line 1"));
    }

    #[test]
    fn settings_tell_the_method_and_nothing_that_is_encrypted() {
        let text = r#"{"runtimeSettings":[{"handlerSettings":{"protectedSettings":"MIIB","publicSettings":
            {"taskId":"t-1","customSettings":"{\"takeSnapshotFrom\":\"onlyGuest\"}"}}}]}"#;
        let wanted = Settings { task: Some("t-1".into()), method: Some("onlyGuest".into()) };
        assert_eq!(settings(text), Ok(wanted));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), cut in 0..FILE.len()) {
            let _ = (read(&text, "f"), settings(&text));
            let end = (cut..=FILE.len()).find(|&end| FILE.is_char_boundary(end)).unwrap_or(0);
            let _ = read(&FILE[..end], "f");
        }
    }
}
