//! One rule of a network security group in the languages of Azure's tools.

use super::form;
use crate::model::Form;

/// The place of a priority that only the group's rules can tell: a lower number than that of the rule that denies.
pub(super) const BELOW_THE_DENY: &str = "BELOW_THE_DENY";

/// An allow rule for TCP.
#[derive(Clone)]
pub(super) struct Rule {
    pub(super) resource_group: String,
    pub(super) group: String,
    pub(super) name: String,
    /// `None`: nobody knows the group's rules.
    pub(super) priority: Option<u16>,
    pub(super) inbound: bool,
    pub(super) source: String,
    /// Addresses, prefixes or service tags.
    pub(super) destinations: Vec<String>,
    pub(super) ports: Vec<u16>,
}

impl Rule {
    /// For the Azure CLI, in a POSIX shell.
    pub(super) fn az(&self) -> Vec<String> {
        let destinations: Vec<_> = self.destinations.iter().map(|name| shell(name)).collect();
        vec![
            format!(
                "az network nsg rule create -g {} --nsg-name {} \\",
                shell(&self.resource_group),
                shell(&self.group)
            ),
            format!("  -n {} --priority {} \\", shell(&self.name), self.priority()),
            format!("  --direction {} --access Allow --protocol Tcp \\", self.direction()),
            format!("  --source-address-prefixes {} \\", shell(&self.source)),
            format!("  --destination-address-prefixes {} \\", destinations.join(" ")),
            format!("  --destination-port-ranges {}", self.ports(" ")),
        ]
    }

    /// For Azure PowerShell and Terraform.
    pub(super) fn forms(&self) -> Vec<Form> {
        vec![self.powershell(), self.terraform()]
    }

    /// The module Az, which replaced the cmdlets of the classic model.
    fn powershell(&self) -> Form {
        let destinations: Vec<_> = self.named_destinations().iter().map(|name| powershell(name)).collect();
        form(
            "Azure PowerShell",
            [
                format!(
                    "Get-AzNetworkSecurityGroup -ResourceGroupName {} -Name {} |",
                    powershell(&self.resource_group),
                    powershell(&self.group)
                ),
                format!(
                    "  Add-AzNetworkSecurityRuleConfig -Name {} -Priority {} `",
                    powershell(&self.name),
                    self.priority()
                ),
                format!("    -Direction {} -Access Allow -Protocol Tcp `", self.direction()),
                format!("    -SourceAddressPrefix {} -SourcePortRange '*' `", powershell(&self.source)),
                format!("    -DestinationAddressPrefix {} `", destinations.join(",")),
                format!("    -DestinationPortRange {} |", self.ports(",")),
                "  Set-AzNetworkSecurityGroup".to_owned(),
            ],
        )
    }

    fn terraform(&self) -> Form {
        let list = |items: &[String]| items.iter().map(|item| hcl(item)).collect::<Vec<_>>().join(", ");
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let destination = match self.named_destinations().as_slice() {
            [one] => format!("  destination_address_prefix  = {}", hcl(one)),
            several => format!("  destination_address_prefixes = [{}]", list(several)),
        };
        let label: String =
            self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        form(
            "Terraform",
            [
                format!("resource \"azurerm_network_security_rule\" {} {{", hcl(&label)),
                format!("  name                        = {}", hcl(&self.name)),
                format!("  priority                    = {}", self.priority()),
                format!("  direction                   = {}", hcl(self.direction())),
                "  access                      = \"Allow\"".to_owned(),
                "  protocol                    = \"Tcp\"".to_owned(),
                format!("  source_address_prefix       = {}", hcl(&self.source)),
                "  source_port_range           = \"*\"".to_owned(),
                destination,
                format!("  destination_port_ranges     = [{}]", list(&ports)),
                format!("  resource_group_name         = {}", hcl(&self.resource_group)),
                format!("  network_security_group_name = {}", hcl(&self.group)),
                "}".to_owned(),
            ],
        )
    }

    fn priority(&self) -> String {
        self.priority.map_or_else(|| BELOW_THE_DENY.to_owned(), |number| number.to_string())
    }

    pub(super) fn direction(&self) -> &'static str {
        if self.inbound { "Inbound" } else { "Outbound" }
    }

    fn ports(&self, separator: &str) -> String {
        self.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(separator)
    }

    /// The destinations without what only a POSIX shell can look up.
    fn named_destinations(&self) -> Vec<String> {
        let named = |name: &String| if is_lookup(name) { "TARGET_ADDRESS".to_owned() } else { name.clone() };
        self.destinations.iter().map(named).collect()
    }
}

/// A lookup that a POSIX shell makes of a name.
pub(super) fn lookup(host: &str) -> String {
    format!("{LOOKUP}{host}{FIRST}")
}

const LOOKUP: &str = "$(getent ahostsv4 ";
const FIRST: &str = " | awk 'NR==1{print $1}')";

/// Whether this is a [`lookup`] of a host name, and nothing that a file could have slipped in.
fn is_lookup(word: &str) -> bool {
    let host = word.strip_prefix(LOOKUP).and_then(|rest| rest.strip_suffix(FIRST));
    host.is_some_and(|host| host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)))
}

/// A word for a POSIX shell: quoted unless it is plain. A lookup, which this program wrote, stays one.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if is_lookup(word) || (!word.is_empty() && word.chars().all(plain)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A word for PowerShell.
fn powershell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "''"))
    }
}

/// A string of Terraform's language.
fn hcl(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            resource_group: "rg(prod)".into(),
            group: "nsg1".into(),
            name: "Allow-Backup-Storage".into(),
            priority: Some(900),
            inbound: false,
            source: "VirtualNetwork".into(),
            destinations: vec!["Storage.westeurope".into()],
            ports: vec![443, 8443],
        }
    }

    #[test]
    fn the_azure_cli_reads_it() {
        assert_eq!(
            rule().az().join("\n"),
            "az network nsg rule create -g 'rg(prod)' --nsg-name nsg1 \\\n  -n Allow-Backup-Storage --priority 900 \\\n  \
             --direction Outbound --access Allow --protocol Tcp \\\n  --source-address-prefixes VirtualNetwork \\\n  \
             --destination-address-prefixes Storage.westeurope \\\n  --destination-port-ranges 443 8443"
        );
        let unknown = Rule { priority: None, destinations: vec!["Storage.<region>".into()], ..rule() }.az().join("\n");
        assert!(unknown.contains("--priority BELOW_THE_DENY") && unknown.contains("'Storage.<region>'"), "{unknown}");
    }

    #[test]
    fn powershell_pipes_the_group_through() {
        let form = rule().powershell();
        assert_eq!(form.tool, "Azure PowerShell");
        let text = form.commands.join("\n");
        assert!(text.starts_with("Get-AzNetworkSecurityGroup -ResourceGroupName 'rg(prod)' -Name nsg1 |\n"), "{text}");
        assert!(text.contains("-DestinationPortRange 443,8443 |\n  Set-AzNetworkSecurityGroup"), "{text}");
        for line in &form.commands[..form.commands.len() - 1] {
            assert!(line.ends_with(['|', '`']), "the line goes on: {line}");
        }
    }

    #[test]
    fn terraform_gets_strings_and_lists_of_them() {
        let text = rule().terraform().commands.join("\n");
        assert!(text.starts_with("resource \"azurerm_network_security_rule\" \"allow_backup_storage\" {\n"), "{text}");
        assert!(
            text.contains("destination_port_ranges     = [\"443\", \"8443\"]\n") && text.ends_with("\n}"),
            "{text}"
        );
        let two = Rule { destinations: vec!["10.0.0.1".into(), lookup("x")], ..rule() };
        let text = two.terraform().commands.join("\n");
        assert!(text.contains("destination_address_prefixes = [\"10.0.0.1\", \"TARGET_ADDRESS\"]"), "{text}");
    }

    #[test]
    fn names_from_files_stay_names() {
        for hostile in [
            "a;reboot",
            "$(reboot)",
            "$(getent x; reboot)",
            &lookup("x;reboot"),
            "`reboot`",
            "a'b",
            "",
            "a b",
            "x\ny",
            "${x}",
            "\"",
            "é",
        ] {
            let quoted = shell(hostile);
            assert!(quoted.starts_with('\'') && quoted.ends_with('\''), "{quoted}");
            assert_eq!(quoted[1..quoted.len() - 1].replace("'\\''", ""), hostile.replace('\'', ""));
            let quoted = powershell(hostile);
            assert!(quoted.starts_with('\'') && quoted.ends_with('\''), "{quoted}");
            assert_eq!(quoted[1..quoted.len() - 1].replace("''", "'"), hostile);
        }
        assert_eq!(shell(&lookup("acct.example")), lookup("acct.example"));
        assert_eq!(hcl("a\"${b}\\%{c}"), r#""a\"$${b}\\%%{c}""#);
    }
}
