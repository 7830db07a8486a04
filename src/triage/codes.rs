//! The extension's own codes and their names.

/// Code and name (`azure-linux-extensions`, `VMBackup/main/ExtensionErrorCodeHelper.py`; the constants of
/// `Utils/common.py` have the same numbers).
const CODES: &[(i32, &str)] = &[
    (0, "success_appconsistent"),
    (1, "success"),
    (2, "error"),
    (3, "SuccessAlreadyProcessedInput"),
    (4, "ExtensionTempTerminalState"),
    (11, "error_parameter"),
    (12, "error_12"),
    (13, "error_wrong_time"),
    (14, "error_same_taskid"),
    (15, "error_http_failure"),
    (16, "FailedHandlerGuestAgentCertificateNotFound"),
    (17, "FailedInvalidDataDiskLunList"),
    (76, "FailedRetryableSnapshotFailedNoNetwork"),
    (85, "FailedSnapshotLimitReached"),
    (121, "FailedRetryableFsFreezeFailed"),
    (122, "FailedRetryableFsFreezeTimeout"),
    (123, "FailedRetryableUnableToOpenMount"),
    (124, "FailedSafeFreezeBinaryNotFound"),
    (173, "FailedRetryableSnapshotRateExceeded"),
    (300, "FailedPrepostPreScriptFailed"),
    (301, "FailedPrepostPostScriptFailed"),
    (302, "FailedPrepostPreScriptNotFound"),
    (303, "FailedPrepostPostScriptNotFound"),
    (304, "FailedPrepostPluginhostConfigParsing"),
    (305, "FailedPrepostPluginConfigParsing"),
    (306, "FailedPrepostPreScriptPermissionError"),
    (307, "FailedPrepostPostScriptPermissionError"),
    (308, "FailedPrepostPreScriptTimeout"),
    (309, "FailedPrepostPostScriptTimeout"),
    (310, "FailedPrepostPluginhostPreTimeout"),
    (311, "FailedPrepostPluginhostPostTimeout"),
    (312, "FailedPrepostCheckSumMismatch"),
    (313, "FailedPrepostPluginhostConfigNotFound"),
    (314, "FailedPrepostPluginhostConfigPermissionError"),
    (315, "FailedPrepostPluginhostConfigOwnershipError"),
    (316, "FailedPrepostPluginConfigNotFound"),
    (317, "FailedPrepostPluginConfigPermissionError"),
    (318, "FailedPrepostPluginConfigOwnershipError"),
    (402, "FailedGuestAgentInvokedCommandTooLate"),
    (500, "FailedWorkloadPreError"),
    (501, "FailedWorkloadConfParsingError"),
    (502, "FailedWorkloadInvalidRole"),
    (503, "FailedWorkloadInvalidWorkloadName"),
    (504, "FailedWorkloadPostError"),
    (505, "FailedWorkloadAuthorizationMissing"),
    (506, "FailedWorkloadConnectionError"),
    (507, "FailedWorkloadIPCDirectoryMissing"),
    (508, "FailedWorkloadDatabaseStatusChanged"),
    (509, "FailedWorkloadQuiescingError"),
    (510, "FailedWorkloadQuiescingTimeout"),
    (511, "FailedWorkloadDatabaseInNoArchiveLog"),
    (512, "FailedWorkloadLogModeChanged"),
    (556, "FailedHostSnapshotRemoteServerError"),
    (761, "FailedRetryableSnapshotFailedRestrictedNetwork"),
];

/// The extension's name of a code.
#[must_use]
pub fn name_of(code: i32) -> Option<&'static str> {
    CODES.iter().find(|(number, _)| *number == code).map(|(_, name)| *name)
}

/// The code of this name.
#[must_use]
pub fn number_of(name: &str) -> Option<i32> {
    CODES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_come_back() {
        for &(number, name) in CODES {
            assert_eq!((name_of(number), number_of(name)), (Some(name), Some(number)));
        }
        assert_eq!((name_of(77), number_of("StatusCode")), (None, None));
        assert_eq!(CODES.len(), 54);
    }
}
