//! What the extension's own logs tell beside the network.

use super::remedy;
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code) -> Vec<Remedy> {
    match code {
        codes::TRIAGE_CODE_MISLEADS => vec![remedy(
            "Work on the other findings, not on the code in the portal; check what they say on the machine itself",
            ["sudo snapreach check", "sudo snapreach triage /var/log/azure /var/log/waagent.log /var/lib/waagent"],
        )],
        codes::TRIAGE_REPORT_LOST => vec![remedy(
            "Repeat the backup: both lost codes are passing ones; if they come back, give these lines to Azure support",
            ["az backup protection backup-now -g RG --vault-name VAULT -c VM -i VM --retain-until dd-mm-yyyy"],
        )],
        codes::TRIAGE_HOST_REFUSED => vec![
            remedy(
                "Repeat the backup; if it fails again, stop and start the VM, which moves it to another host",
                [
                    "az backup protection backup-now -g RG --vault-name VAULT -c VM -i VM --retain-until dd-mm-yyyy",
                    "az vm deallocate -g RG -n VM && az vm start -g RG -n VM",
                ],
            ),
            remedy(
                "Give the evidence to Azure support: no setting of the network changes what the host answers",
                [""; 0],
            ),
        ],
        codes::TRIAGE_FREEZE_FAILED => vec![
            remedy(
                "Find the mount that cannot be frozen: network mounts, loops of bind mounts, busy disks",
                [
                    "findmnt -o TARGET,SOURCE,FSTYPE,OPTIONS",
                    "sudo journalctl -k | grep -iE 'freeze|blocked for more|I/O error'",
                ],
            ),
            remedy(
                "Leave it out of the freeze, or allow more time, in /etc/azure/vmbackup.conf",
                ["[SnapshotThread]", "timeout: 120", "MountsToSkip: /mnt/nfs"],
            ),
        ],
        codes::TRIAGE_TOO_LATE => vec![
            remedy(
                "Compare the clock with its source, and repair the synchronisation",
                ["timedatectl", "chronyc tracking"],
            ),
            remedy(
                "Look for what kept the agent from starting the extension for more than two hours",
                ["sudo grep -n VMSnapshotLinux /var/log/waagent.log | tail -50"],
            ),
        ],
        _ => vec![remedy(
            "Check that the disks are still selected for backup, then repeat it",
            [
                "az backup item show -g RG --vault-name VAULT -c VM -n VM --backup-management-type AzureIaasVM --workload-type VM",
            ],
        )],
    }
}
