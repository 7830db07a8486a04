//! The only file that inspects typed errors: io, rustls, hickory and HTTP errors become a [`Failure`] here, once.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::{
    http::ParseError,
    model::{Alert, Failure, FailureKind, Verification},
};

/// An error of a connect (or of preparing its socket).
pub(super) fn of_connect(error: &io::Error) -> Failure {
    let kind = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => FailureKind::Refused,
        Some(libc::EHOSTUNREACH) => FailureKind::HostUnreachable,
        Some(libc::ENETUNREACH) => FailureKind::NetworkUnreachable,
        Some(libc::ETIMEDOUT) => FailureKind::TimedOut,
        Some(libc::ECONNRESET) => FailureKind::Reset,
        Some(libc::EACCES | libc::EPERM) => FailureKind::PermissionDenied,
        Some(libc::EMFILE | libc::ENFILE) => FailureKind::FileDescriptors,
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => FailureKind::SourcePorts,
        Some(libc::ENOBUFS | libc::ENOMEM) => FailureKind::Buffers,
        Some(libc::EAFNOSUPPORT) => FailureKind::AddressFamily,
        Some(libc::ENETDOWN) => FailureKind::NetworkDown,
        _ => FailureKind::Io,
    };
    with_errno(kind, error)
}

/// An error of reading or writing a connection that stood.
pub(super) fn of_io(error: &io::Error) -> Failure {
    if let Some(tls) = tls_error(error) {
        return of_tls(tls);
    }
    let kind = match (error.raw_os_error(), error.kind()) {
        // ENOTCONN: of shutdown(2), once the peer's RST has closed the connection.
        (Some(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN), _)
        | (None, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => FailureKind::Reset,
        (Some(libc::ETIMEDOUT), _) => FailureKind::TimedOut,
        (Some(libc::EHOSTUNREACH), _) => FailureKind::HostUnreachable,
        (Some(libc::ENETUNREACH), _) => FailureKind::NetworkUnreachable,
        (Some(libc::EACCES | libc::EPERM), _) => FailureKind::PermissionDenied,
        (None, io::ErrorKind::UnexpectedEof) => FailureKind::Closed,
        _ => FailureKind::Io,
    };
    with_errno(kind, error)
}

/// An error of talking to a name server.
pub(super) fn of_name_server(error: &io::Error) -> Failure {
    let kind = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => FailureKind::PermissionDenied,
        Some(libc::EMFILE | libc::ENFILE) => FailureKind::FileDescriptors,
        Some(libc::ENETDOWN) => FailureKind::NetworkDown,
        Some(libc::EAFNOSUPPORT) => FailureKind::AddressFamily,
        Some(libc::ETIMEDOUT) => FailureKind::TimedOut,
        Some(_) => FailureKind::ServerUnreachable,
        None if error.kind() == io::ErrorKind::UnexpectedEof => FailureKind::ServerUnreachable,
        None => FailureKind::Io,
    };
    with_errno(kind, error)
}

/// The rustls error inside an io error, if there is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &TlsError) -> Failure {
    let kind = match error {
        TlsError::AlertReceived(_) => FailureKind::Alert,
        TlsError::PeerIncompatible(_) => FailureKind::TlsIncompatible,
        TlsError::InvalidCertificate(_) => FailureKind::BadSignature,
        TlsError::DecryptError => FailureKind::Undecryptable,
        _ => FailureKind::TlsProtocol,
    };
    Failure::new(kind, error.to_string())
}

/// The alert that the peer sent, by number and by its name in RFC 8446.
pub(super) fn alert(error: &io::Error) -> Option<Alert> {
    let TlsError::AlertReceived(description) = tls_error(error)? else { return None };
    Some(Alert { number: u8::from(*description), name: alert_name(*description) })
}

fn alert_name(description: AlertDescription) -> String {
    match description {
        // Spelt differently by the RFC than by the library.
        AlertDescription::UnknownCA => "unknown_ca".into(),
        AlertDescription::UnrecognisedName => "unrecognized_name".into(),
        AlertDescription::UnknownPSKIdentity => "unknown_psk_identity".into(),
        AlertDescription::Unknown(number) => format!("alert_{number}"),
        known => snake_case(&format!("{known:?}")),
    }
}

fn snake_case(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// What a verifier's error says of the chain.
pub(super) fn verification(error: &TlsError) -> Verification {
    let TlsError::InvalidCertificate(error) = error else {
        return Verification::Other;
    };
    match error {
        CertificateError::UnknownIssuer => Verification::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Verification::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Verification::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Verification::NameMismatch
        }
        CertificateError::Revoked => Verification::Revoked,
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Verification::BadSignature,
        CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. }
        | CertificateError::UnhandledCriticalExtension => Verification::NotPermitted,
        CertificateError::BadEncoding => Verification::BadEncoding,
        _ => Verification::Other,
    }
}

/// A head that is none.
pub(super) fn of_head(error: ParseError) -> Failure {
    let kind = match error {
        ParseError::NotHttp => FailureKind::NotHttp,
        ParseError::Malformed(_) => FailureKind::BadHead,
        ParseError::TooLarge => FailureKind::HeadTooLarge,
    };
    Failure::new(kind, error.to_string())
}

fn with_errno(kind: FailureKind, error: &io::Error) -> Failure {
    Failure { kind, errno: error.raw_os_error(), raw: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names_from_the_rfc() {
        let name = |number: u8| alert_name(AlertDescription::from(number));
        assert_eq!(name(40), "handshake_failure");
        assert_eq!(name(48), "unknown_ca");
        assert_eq!(name(70), "protocol_version");
        assert_eq!(name(112), "unrecognized_name");
        assert_eq!(name(116), "certificate_required");
        assert_eq!(name(200), "alert_200");
    }

    #[test]
    fn errors_are_told_apart_by_number() {
        for (errno, kind) in [
            (libc::ECONNREFUSED, FailureKind::Refused),
            (libc::EACCES, FailureKind::PermissionDenied),
            (libc::EADDRNOTAVAIL, FailureKind::SourcePorts),
            (libc::EXDEV, FailureKind::Io),
        ] {
            let failure = of_connect(&io::Error::from_raw_os_error(errno));
            assert_eq!((failure.kind, failure.errno), (kind, Some(errno)));
        }
    }
}
