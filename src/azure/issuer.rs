//! Who issues the certificates that storage presents.

/// Organisations (`O=`) of the authorities behind storage's certificates, today's and retired ones that older captures
/// still show ("Azure Certificate Authority details" on Microsoft Learn). Compared without case, commas and full
/// stops, as the spelling varies between issuers.
const ORGANISATIONS: [&str; 6] =
    ["microsoft corporation", "digicert inc", "digicert china inc", "baltimore", "cybertrust inc", "geotrust inc"];

/// Whether storage's certificates come from an authority of this organisation. That does not prove a chain: anybody
/// may write this name into a certificate, only the signature decides.
#[must_use]
pub fn is_genuine_organisation(organisation: &str) -> bool {
    let plain: String =
        organisation.chars().filter(|c| !matches!(c, ',' | '.')).collect::<String>().to_ascii_lowercase();
    ORGANISATIONS.contains(&plain.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_the_same_organisation_are_one() {
        for genuine in ["Microsoft Corporation", "DigiCert Inc", "DigiCert, Inc.", "DIGICERT INC", "Baltimore"] {
            assert!(is_genuine_organisation(genuine), "{genuine}");
        }
        for other in ["", "Example Corp", "Microsoft", "DigiCert Incorporated", "Not DigiCert Inc"] {
            assert!(!is_genuine_organisation(other), "{other}");
        }
    }
}
