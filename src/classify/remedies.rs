//! What to do about a finding: the code says what happened, the hop who acts, the situation fills in the names.

use std::collections::BTreeSet;

use super::{catalogue::Situation, codes};
use crate::model::{Code, Hop, Remedy, Route};

/// More remedies than this help nobody.
const MOST: usize = 3;

/// More ports than this make a command line unreadable.
const MOST_PORTS: usize = 12;

/// What to do, best first, at most three. Facts that the situation knows are filled in; what it cannot know stands in
/// capitals (`RG`, `NSG`, `NIC`, `VM_SUBNET`) or, for the region, as `Storage.<region>`.
pub(super) fn remedies(code: Code, situation: &Situation<'_>) -> Vec<Remedy> {
    let facts = Facts::of(situation);
    let layer = code.0.split('.').next().unwrap_or_default();
    let mut list = match layer {
        "local" => local(code, &facts),
        "config" => config(code, &facts),
        "dns" => dns(code, &facts),
        "tcp" | "path" => network(code, &facts),
        "proxy" => proxy(code, &facts),
        "tunnel" => tunnel(code, &facts),
        "tls" => tls(code, &facts),
        "http" => http(code, &facts),
        "storage" => storage(code, &facts),
        "host" => host(code, &facts),
        "consumer" => consumer(code, &facts),
        "nsg" => nsg(code, &facts),
        "triage" => triage(code),
        _ => meta(code, &facts),
    };
    list.truncate(MOST);
    list
}

/// A remedy from a sentence and its lines.
fn remedy<S: Into<String>>(title: impl Into<String>, commands: impl IntoIterator<Item = S>) -> Remedy {
    Remedy { title: title.into(), commands: commands.into_iter().map(Into::into).collect() }
}

/// The situation in the form in which commands need it.
struct Facts {
    hop: Hop,
    /// Whether the walk went through the proxy.
    tunnelled: bool,
    /// `host:port` of the first target.
    target: String,
    host: String,
    port: u16,
    hosts: BTreeSet<String>,
    ports: BTreeSet<u16>,
    /// `Storage.westeurope`, or `Storage.<region>`.
    tag: String,
    region_known: bool,
    /// `http://10.0.0.5:3128`
    proxy: String,
    proxy_host: String,
    proxy_port: u16,
    product: Product,
}

/// The products whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    Squid,
    Tinyproxy,
    Haproxy,
    Privoxy,
    Cntlm,
    Other,
}

impl Facts {
    fn of(situation: &Situation<'_>) -> Self {
        let split: Vec<(String, Option<u16>)> = situation.targets.iter().map(|target| split(target)).collect();
        let (host, port) = split.first().cloned().unwrap_or_else(|| ("HOST".into(), None));
        let port = port.unwrap_or(443);
        let proxy = situation.proxy.unwrap_or("http://PROXY:3128");
        let (proxy_host, proxy_port) = split_proxy(proxy);
        Self {
            hop: situation.hop,
            tunnelled: situation.route == Some(Route::Proxy),
            target: format!("{host}:{port}"),
            hosts: split.iter().map(|(host, _)| host.clone()).collect(),
            ports: split.iter().filter_map(|&(_, port)| port).collect(),
            host,
            port,
            tag: format!("Storage.{}", situation.region.unwrap_or("<region>")),
            region_known: situation.region.is_some(),
            proxy: proxy.to_owned(),
            proxy_host,
            proxy_port,
            product: match situation.product.unwrap_or_default() {
                "squid" => Product::Squid,
                "tinyproxy" => Product::Tinyproxy,
                "haproxy" => Product::Haproxy,
                "privoxy" => Product::Privoxy,
                "cntlm" => Product::Cntlm,
                _ => Product::Other,
            },
        }
    }

    /// The ports that failed, at least one.
    fn ports(&self) -> Vec<u16> {
        if self.ports.is_empty() { vec![self.port] } else { self.ports.iter().copied().take(MOST_PORTS).collect() }
    }

    fn ports_by(&self, separator: &str) -> String {
        self.ports().iter().map(u16::to_string).collect::<Vec<_>>().join(separator)
    }

    /// `443, 8443`, and how many more there are.
    fn ports_in_words(&self) -> String {
        let more = self.ports.len().saturating_sub(MOST_PORTS);
        let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{and_more}", self.ports_by(", "))
    }

    /// What an NSG rule names as the destination.
    fn destinations(&self) -> String {
        let is_storage = self.hosts.is_empty() || self.hosts.iter().any(|host| storage_suffix(host).is_some());
        let mut names: BTreeSet<String> = self
            .hosts
            .iter()
            .filter(|host| storage_suffix(host).is_none())
            .map(|host| {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                if bare.parse::<std::net::IpAddr>().is_ok() {
                    bare.to_owned()
                } else {
                    format!("$(getent ahostsv4 {host} | awk 'NR==1{{print $1}}')")
                }
            })
            .take(2)
            .collect();
        if is_storage {
            names.insert(self.shell_tag());
        }
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    /// The tag, quoted where `<` would redirect.
    fn shell_tag(&self) -> String {
        if self.region_known { self.tag.clone() } else { format!("'{}'", self.tag) }
    }

    /// ` (fill in the region)`, where it is unknown.
    fn fill_in(&self) -> &'static str {
        if self.region_known { "" } else { " (fill in the region)" }
    }

    /// Suffixes for `dstdomain` and `ssl::server_name`: the storage suffix, else the host itself.
    fn suffixes(&self) -> String {
        let mut list: BTreeSet<String> =
            self.hosts.iter().map(|host| storage_suffix(host).unwrap_or(host).to_owned()).take(3).collect();
        if list.is_empty() {
            list.insert(".blob.core.windows.net".into());
        }
        if list.contains(".blob.core.windows.net") {
            // Managed disks live under the second suffix.
            list.insert(".blob.storage.azure.net".into());
        }
        list.into_iter().collect::<Vec<_>>().join(" ")
    }

    fn on_proxy_host(&self) -> bool {
        matches!(self.hop, Hop::ProxyToOrigin | Hop::Proxy)
    }

    fn to_proxy(&self) -> bool {
        self.hop == Hop::ClientToProxy
    }

    /// `openssl s_client` for the hop: with the proxy itself, inside the tunnel, or direct.
    fn s_client(&self) -> String {
        if self.to_proxy() {
            return format!("openssl s_client -connect {}:{} -showcerts </dev/null", self.proxy_host, self.proxy_port);
        }
        let through = if self.tunnelled && !self.on_proxy_host() {
            format!("-proxy {}:{} ", self.proxy_host, self.proxy_port)
        } else {
            String::new()
        };
        format!("openssl s_client {through}-connect {} -servername {} -showcerts </dev/null", self.target, self.host)
    }
}

/// Host and port of `host:port`; a host without port stays whole.
fn split(target: &str) -> (String, Option<u16>) {
    match target.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host.to_owned(), port.parse().ok())
        }
        _ => (target.to_owned(), None),
    }
}

/// Host and port of a proxy URL.
fn split_proxy(url: &str) -> (String, u16) {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = split(authority);
    (host, port.unwrap_or(3128))
}

/// `.blob.core.windows.net` of a storage host, whatever the cloud; `None` for other names.
fn storage_suffix(host: &str) -> Option<&str> {
    let at = [".blob.", ".disk."].iter().filter_map(|service| host.find(service)).min()?;
    let suffix = &host[at..];
    let known = [
        "core.windows.net",
        "storage.azure.net",
        "core.usgovcloudapi.net",
        "core.chinacloudapi.cn",
        "core.cloudapi.de",
    ];
    known.iter().any(|end| suffix.ends_with(end)).then_some(suffix)
}

// ---- building blocks

fn open_nsg(f: &Facts) -> Remedy {
    remedy(
        format!(
            "Allow TCP {} to {}{} by a rule whose priority number is lower than the deny's; routes and firewalls \
             behind it stay as they are",
            f.ports_in_words(),
            if f.destinations().contains("Storage.") { f.tag.as_str() } else { "the target" },
            if f.destinations().contains("Storage.") { f.fill_in() } else { "" },
        ),
        [
            "az network nsg rule create -g RG --nsg-name NSG -n Allow-Backup-Storage --priority 200 \\".to_owned(),
            "  --direction Outbound --access Allow --protocol Tcp \\".to_owned(),
            format!("  --destination-address-prefixes {} \\", f.destinations()),
            format!("  --destination-port-ranges {}", f.ports_by(" ")),
        ],
    )
}

fn effective_rules() -> Remedy {
    remedy(
        "Find out what Azure drops: read the effective rules and routes of the NIC (None drops, VirtualAppliance \
         means that a firewall decides)",
        [
            "az network nic list-effective-nsg -g RG -n NIC",
            "az network nic show-effective-route-table -g RG -n NIC -o table",
        ],
    )
}

fn local_firewall(what: &str) -> Remedy {
    remedy(
        format!("Look for a rule on this machine itself that drops or rejects {what}"),
        [
            "sudo nft list ruleset",
            "sudo iptables -S OUTPUT",
            "Get-NetFirewallRule -Direction Outbound -Action Block -Enabled True  # Windows",
        ],
    )
}

fn way_to_proxy(f: &Facts) -> Remedy {
    let proxy_ip = f.proxy_host.trim_start_matches('[').trim_end_matches(']');
    let destination = if proxy_ip.parse::<std::net::IpAddr>().is_ok() {
        proxy_ip.to_owned()
    } else {
        format!("$(getent ahostsv4 {proxy_ip} | awk 'NR==1{{print $1}}')")
    };
    remedy(
        format!("Allow this machine to reach the proxy on TCP {}, in both machines' security groups", f.proxy_port),
        [
            "az network nsg rule create -g RG --nsg-name NSG -n Allow-Proxy --priority 200 \\".to_owned(),
            format!(
                "  --direction Outbound --access Allow --protocol Tcp --destination-address-prefixes {destination} \\"
            ),
            format!("  --destination-port-ranges {}", f.proxy_port),
        ],
    )
}

fn proxy_listens(f: &Facts) -> Remedy {
    remedy(
        format!(
            "On the proxy's host, check that the proxy listens on port {} and not on 127.0.0.1 alone",
            f.proxy_port
        ),
        [
            format!("ss -ltnp 'sport = :{}'", f.proxy_port),
            match f.product {
                Product::Tinyproxy => "systemctl status tinyproxy --no-pager".to_owned(),
                Product::Haproxy => "systemctl status haproxy --no-pager".to_owned(),
                Product::Privoxy => "systemctl status privoxy --no-pager".to_owned(),
                Product::Cntlm => "systemctl status cntlm --no-pager".to_owned(),
                Product::Squid => "systemctl status squid --no-pager".to_owned(),
                Product::Other => "systemctl --no-pager | grep -iE 'squid|tinyproxy|haproxy|privoxy|cntlm'".to_owned(),
            },
        ],
    )
}

fn right_proxy(f: &Facts) -> Remedy {
    remedy(
        format!("Correct the proxy's host and port where they are configured, if {} is not the forward proxy", f.proxy),
        [
            "grep -nE '^ *HttpProxy' /etc/waagent.conf; env | grep -i _proxy; grep -i _proxy /etc/environment"
                .to_owned(),
            format!("curl -sv {}/ -o /dev/null", f.proxy),
        ],
    )
}

fn from_proxy_host(f: &Facts) -> Remedy {
    remedy(
        format!("Repeat the attempt on the proxy's host ({}), where the error has a name", f.proxy_host),
        [
            format!("getent ahosts {}", f.host),
            format!("curl -v --noproxy '*' --connect-timeout 10 https://{}/", f.target),
        ],
    )
}

fn proxy_egress(f: &Facts) -> Remedy {
    let mut open = open_nsg(f);
    open.title = format!(
        "On the proxy's side, allow the proxy's host to reach TCP {} of {}{}; rules for the backed-up machine do not help",
        f.ports_in_words(),
        if f.destinations().contains("Storage.") { f.tag.as_str() } else { "the target" },
        if f.destinations().contains("Storage.") { f.fill_in() } else { "" },
    );
    open
}

fn proxy_answers_sooner(f: &Facts) -> Option<Remedy> {
    let (title, lines): (_, Vec<&str>) = match f.product {
        Product::Squid => (
            "Make squid report a black hole after 10 s in place of 61 s; this repairs nothing by itself",
            vec!["connect_timeout 10 seconds", "# then: squid -k reconfigure"],
        ),
        Product::Haproxy => (
            "Give the proxy behind haproxy the time to say what is wrong; this repairs nothing by itself",
            vec!["timeout server 90s", "timeout tunnel 2h", "# then: systemctl reload haproxy"],
        ),
        _ => return None,
    };
    Some(remedy(title, lines))
}

/// Configuration lines for the product that spoke, or for the usual ones as comments.
fn proxy_config(
    f: &Facts,
    title: impl Into<String>,
    squid: &[String],
    tinyproxy: &[String],
    privoxy: &[String],
) -> Remedy {
    let lines: Vec<String> = match f.product {
        Product::Squid => [squid, &["# then: squid -k reconfigure".into()]].concat(),
        Product::Tinyproxy => [tinyproxy, &["# then: systemctl restart tinyproxy".into()]].concat(),
        Product::Privoxy if !privoxy.is_empty() => privoxy.to_vec(),
        _ => {
            let labelled = |name: &str, lines: &[String]| -> Vec<String> {
                lines.iter().map(|line| format!("# {name}: {}", line.trim_start_matches("# "))).collect()
            };
            [labelled("squid", squid), labelled("tinyproxy", tinyproxy), labelled("privoxy", privoxy)].concat()
        }
    };
    remedy(title, lines)
}

/// Lets the backup through for this machine's subnet, without a login and for these names only.
fn exempt_in_proxy(f: &Facts, title: impl Into<String>) -> Remedy {
    proxy_config(
        f,
        title,
        &[
            "acl backup_src src VM_SUBNET".into(),
            format!("acl azure_dst dstdomain {}", f.suffixes()),
            "http_access allow CONNECT backup_src azure_dst".into(),
        ],
        &["Allow VM_SUBNET".into()],
        &["permit-access VM_SUBNET".into()],
    )
}

/// Lets the names through where a rule about names stops them.
fn allow_names(f: &Facts, title: impl Into<String>) -> Remedy {
    let mut privoxy = vec!["# user.action".to_owned(), "{ -block }".to_owned()];
    privoxy.extend(f.suffixes().split(' ').map(str::to_owned));
    proxy_config(
        f,
        title,
        &[
            "acl backup_src src VM_SUBNET".into(),
            format!("acl azure_dst dstdomain {}", f.suffixes()),
            "http_access allow CONNECT backup_src azure_dst".into(),
        ],
        &["# take what matches these names out of the file that `Filter` names".into()],
        &privoxy,
    )
}

fn do_not_inspect(f: &Facts) -> Remedy {
    let squid = [
        format!("acl azure ssl::server_name {}", f.suffixes()),
        "ssl_bump peek step1".into(),
        "ssl_bump splice azure".into(),
        "# before `ssl_bump bump all`; then: squid -k reconfigure".into(),
    ];
    let title = format!("Exempt {} from TLS inspection on the device that signs these certificates", f.suffixes());
    match f.product {
        Product::Squid => remedy(title, squid),
        _ => remedy(title, squid.map(|line| format!("# squid: {}", line.trim_start_matches("# ")))),
    }
}

fn trust_authority() -> Remedy {
    remedy(
        "Install the inspecting authority in the system's trust store, if inspection must stay; other trust stores \
         (Java, a Python of its own) do not follow",
        [
            "cp company-ca.crt /usr/local/share/ca-certificates/ && update-ca-certificates  # Debian, Ubuntu",
            "cp company-ca.crt /etc/pki/ca-trust/source/anchors/ && update-ca-trust  # RHEL",
            "Import-Certificate -FilePath company-ca.cer -CertStoreLocation Cert:\\LocalMachine\\Root  # Windows",
        ],
    )
}

fn allow_name(f: &Facts) -> Remedy {
    remedy(
        format!(
            "Allow these names (or, in a network rule, {} on TCP {}){} in the firewall on the way; the FQDN tag \
             AzureBackup opens 443 only",
            f.tag,
            f.ports_in_words(),
            f.fill_in(),
        ),
        [
            format!(
                "# application rule, Https:{}: {}",
                f.ports_by(" Https:"),
                f.suffixes().replace(" .", " *.").replacen('.', "*.", usize::from(f.suffixes().starts_with('.')))
            ),
            "az network nic show-effective-route-table -g RG -n NIC -o table".to_owned(),
        ],
    )
}

fn who_answers(f: &Facts) -> Remedy {
    remedy(
        "Find out who answers: look at the address, the certificate and the headers",
        [format!("getent ahosts {}", f.host), f.s_client(), curl(f)],
    )
}

/// A request as the probe makes it.
fn curl(f: &Facts) -> String {
    let through = if f.tunnelled { format!("-x {} ", f.proxy) } else { "--noproxy '*' ".to_owned() };
    let scheme = if f.port == 80 { "http" } else { "https" };
    format!("curl -v {through}{scheme}://{}/", f.target)
}

fn repeat(f: &Facts, options: &str, title: &str) -> Remedy {
    let through =
        if f.tunnelled { format!(" --proxy {} --route proxy", f.proxy) } else { " --route direct".to_owned() };
    remedy(title, [format!("snapreach check {options}{through} {}", f.target)])
}

fn capture(f: &Facts) -> Remedy {
    let (host, port) = if f.to_proxy() || f.tunnelled { (&f.proxy_host, f.proxy_port) } else { (&f.host, f.port) };
    remedy(
        "Capture the packets while the check runs; a reset whose TTL differs from the peer's other packets was made \
         on the way",
        [format!("sudo tcpdump -nvi any host {} and port {port}", host.trim_start_matches('[').trim_end_matches(']'))],
    )
}

fn smaller_packets(f: &Facts) -> Remedy {
    let host = if f.to_proxy() || f.tunnelled { &f.proxy_host } else { &f.host };
    remedy(
        "Find the largest packet that passes, then let ICMP \"fragmentation needed\" through or clamp the segment size \
         on the device that enters the tunnel",
        [
            format!("tracepath -n {}", host.trim_start_matches('[').trim_end_matches(']')),
            "nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu  # on the router"
                .to_owned(),
        ],
    )
}

fn fix_clock() -> Remedy {
    remedy(
        "Set the clock right and keep it right, with the host's clock as the source",
        ["timedatectl; chronyc tracking", "sudo chronyc makestep", "w32tm /resync /force  # Windows"],
    )
}

fn host_takes_snapshot() -> Remedy {
    remedy(
        "Keep the host path healthy: in the default method the host takes the snapshot and the guest's network plays \
         no part",
        [
            "sudo curl -m 5 --noproxy '*' 'http://168.63.129.16/?comp=versions'",
            "grep -n SnapshotMethod /etc/azure/vmbackup.conf",
        ],
    )
}

// ---- by layer

fn local(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::LOCAL_FD_EXHAUSTED => vec![
            remedy(
                "Raise the limit for open files in this shell, or probe less at once",
                ["ulimit -n 65535".to_owned(), format!("snapreach check --concurrency 64 {}", f.target)],
            ),
            remedy("Find who holds the descriptors, if the whole machine has run out", ["cat /proc/sys/fs/file-nr"]),
        ],
        codes::LOCAL_PORTS_EXHAUSTED => vec![
            remedy(
                "Widen the range of source ports, or end the program that holds them",
                [
                    "ss -s; sysctl net.ipv4.ip_local_port_range",
                    "sudo sysctl -w net.ipv4.ip_local_port_range=\"10240 65000\"",
                    "netsh int ipv4 set dynamicport tcp start=10000 num=55000  # Windows",
                ],
            ),
            remedy("Check that the address given with --bind belongs to this machine", ["ip -brief address"]),
        ],
        codes::LOCAL_NO_BUFFERS => vec![remedy(
            "Find the program whose connections use up the socket memory; raise the limit only if memory is free",
            ["cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem; free -m", "ss -tnm | head"],
        )],
        codes::LOCAL_DENIED => vec![
            remedy(
                "Find the policy of this machine that forbids the connection: a prohibit route, SELinux, AppArmor or a \
                 filter of the service",
                [
                    "ip route show table all type prohibit",
                    "sudo ausearch -m avc -ts recent; sudo journalctl -k | grep -i apparmor",
                    "Get-NetFirewallRule -Direction Outbound -Action Block -Enabled True  # Windows",
                ],
            ),
            remedy(
                "Repeat the check as root: what stops your account need not stop the agent",
                [format!("sudo snapreach check {}", f.target)],
            ),
        ],
        codes::LOCAL_NO_ROUTE => vec![remedy(
            "Restore the default route: the address and the route come by DHCP, which must stay enabled in the guest",
            [
                "ip route show default; ip -brief address",
                "sudo networkctl renew eth0  # or: nmcli device reapply eth0, dhclient -v eth0",
                "ipconfig /renew  # Windows",
            ],
        )],
        codes::LOCAL_NETWORK_DOWN => vec![remedy(
            "Bring the interface up",
            ["ip -brief link", "sudo ip link set eth0 up", "Enable-NetAdapter -Name 'Ethernet'  # Windows"],
        )],
        codes::LOCAL_FAMILY_UNSUPPORTED => vec![remedy(
            "Probe IPv4 alone, or enable IPv6 on this machine if it is really needed",
            [format!("snapreach check -4 {}", f.target), "grep -o 'ipv6.disable=1' /proc/cmdline".to_owned()],
        )],
        _ => vec![fix_clock()],
    }
}

fn config(code: Code, f: &Facts) -> Vec<Remedy> {
    let restart = "sudo systemctl restart walinuxagent  # waagent on RHEL, SLES";
    match code {
        codes::CONFIG_PROXY_CONFLICT => vec![remedy(
            "Make all sources name the same proxy, or delete those that serve nobody",
            [
                "grep -nE '^ *HttpProxy' /etc/waagent.conf; env | grep -i _proxy; grep -i _proxy /etc/environment",
                "systemctl show walinuxagent waagent -p Environment",
                restart,
            ],
        )],
        codes::CONFIG_PROXY_INVALID => vec![remedy(
            "Write host and port as two keys without spaces around `=` in /etc/waagent.conf, or comment both out",
            [
                format!("HttpProxy.Host={}", f.proxy_host),
                format!("HttpProxy.Port={}", f.proxy_port),
                format!("# then: {restart}"),
            ],
        )],
        codes::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION => vec![remedy(
            "Put each comment's # into the first column of waagent.conf and remove the spaces around `=`; a proxy named \
             there comes into force with that",
            [
                "sudo cp -a /etc/waagent.conf /etc/waagent.conf.before",
                "sudo sed -i -E 's/^[[:space:]]+#/#/; s/^([A-Za-z.]+)[[:space:]]*=[[:space:]]*/\\1=/' /etc/waagent.conf",
                restart,
            ],
        )],
        codes::CONFIG_NO_PROXY_INCOMPLETE => vec![remedy(
            "Exclude the platform addresses wherever the environment names a proxy, in both spellings",
            [
                "no_proxy=168.63.129.16,169.254.169.254,localhost,127.0.0.1",
                "NO_PROXY=168.63.129.16,169.254.169.254,localhost,127.0.0.1",
            ],
        )],
        codes::CONFIG_PROXY_NEEDS_AUTH => no_login(f),
        _ => vec![remedy(
            "Remove the storage names from the hosts file and let DNS answer",
            [
                "grep -nE 'core\\.windows\\.net|storage\\.azure\\.net' /etc/hosts".to_owned(),
                format!("resolvectl query {}", f.host),
                "ipconfig /flushdns  # Windows, after editing C:\\Windows\\System32\\drivers\\etc\\hosts".to_owned(),
            ],
        )],
    }
}

fn no_login(f: &Facts) -> Vec<Remedy> {
    let mut exempt = exempt_in_proxy(
        f,
        "Let this machine's subnet reach the backup targets without a login: agent and extension can send none",
    );
    if f.product == Product::Tinyproxy {
        exempt.title =
            "Run a second tinyproxy without BasicAuth for this machine's subnet: it knows one login for all, \
                        and agent and extension can send none"
                .into();
    } else if f.product == Product::Squid {
        exempt.commands.insert(0, "# before `http_access deny !authed`".into());
    } else if f.product == Product::Cntlm {
        exempt = remedy(
            "Correct the login with which cntlm asks its parent; agent and extension need none towards cntlm",
            [
                "# /etc/cntlm.conf: Username, Domain, Auth NTLM, PassNTLMv2",
                "cntlm -H -u USER -d DOMAIN",
                "cntlm -v -M http://test.example",
            ],
        );
    }
    let direct = open_nsg(&Facts { hop: Hop::ClientToOrigin, tunnelled: false, ..Facts::copy(f) });
    vec![exempt, Remedy { title: format!("Or give the machine a direct way. {}", direct.title), ..direct }]
}

impl Facts {
    fn copy(f: &Self) -> Self {
        Self {
            target: f.target.clone(),
            host: f.host.clone(),
            hosts: f.hosts.clone(),
            ports: f.ports.clone(),
            tag: f.tag.clone(),
            proxy: f.proxy.clone(),
            proxy_host: f.proxy_host.clone(),
            ..*f
        }
    }
}

fn dns(code: Code, f: &Facts) -> Vec<Remedy> {
    // To the proxy, its own name is looked up; beyond the proxy, its resolver does the lookup.
    let (name, place) = if f.to_proxy() {
        (&f.proxy_host, "")
    } else {
        (&f.host, if f.on_proxy_host() { "on the proxy's host, " } else { "" })
    };
    let azure = format!("dig {name} @168.63.129.16");
    let compare = |title: &str| {
        remedy(
            format!("{place}{title}"),
            ["resolvectl dns; cat /etc/resolv.conf".to_owned(), format!("dig {name}"), azure.clone()],
        )
    };
    let zone = [
        "az network private-dns record-set a list -g RG -z privatelink.blob.core.windows.net -o table",
        "az network private-dns link vnet list -g RG -z privatelink.blob.core.windows.net -o table",
    ];
    let list = match code {
        codes::DNS_NXDOMAIN | codes::DNS_NODATA => {
            let mut list = Vec::new();
            if storage_suffix(name).is_some() {
                list.push(remedy(
                    "Add the account's record to the linked private zone, or unlink the zone, if the alias chain ends \
                     in privatelink",
                    zone,
                ));
            }
            list.push(compare("check the spelling of the name and which server answers it"));
            list
        }
        codes::DNS_PRIVATELINK_PUBLIC => vec![
            remedy(
                "Link the private DNS zone to this network; every account with a private endpoint then needs a record \
                 in it",
                [
                    "az network private-dns link vnet create -g RG -z privatelink.blob.core.windows.net -n LINK \\",
                    "  -v VNET_ID -e false",
                ],
            ),
            remedy("If this network has its own DNS servers, make them forward to 168.63.129.16", [azure.clone()]),
        ],
        codes::DNS_REFUSED => vec![
            remedy(
                "Allow this machine's subnet to query and to recurse on the name server",
                [
                    "# bind: allow-query { VM_SUBNET; }; allow-recursion { VM_SUBNET; };",
                    "# unbound: access-control: VM_SUBNET allow",
                ],
            ),
            compare("point the machine at a server that serves it"),
        ],
        codes::DNS_TIMEOUT | codes::DNS_UNREACHABLE => vec![
            compare("find out which configured name server is dead and whether Azure's own answers"),
            local_firewall("UDP and TCP port 53"),
        ],
        codes::DNS_SINKHOLE => vec![remedy(
            format!("Exempt {} in the filtering name server", f.suffixes()),
            [azure.clone(), format!("grep -n {name} /etc/hosts")],
        )],
        codes::DNS_RESOLVER_MISMATCH => vec![remedy(
            format!("{place}find out which source the system uses, and make all servers answer alike"),
            [format!("getent ahosts {name}"), format!("resolvectl query {name}"), "resolvectl flush-caches".to_owned()],
        )],
        codes::DNS_PRIVATE_ADDRESS => vec![effective_rules()],
        codes::DNS_MALFORMED | codes::DNS_RCODE => vec![remedy(
            format!("{place}find out whether a device rewrites DNS on port 53"),
            [format!("dig {name}"), format!("dig +noedns {name}"), format!("dig +tcp {name}")],
        )],
        _ => vec![compare("find out which name server fails and why; its upstream must be reachable")],
    };
    list.into_iter().map(|r| Remedy { title: capitalised(&r.title), ..r }).collect()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn network(code: Code, f: &Facts) -> Vec<Remedy> {
    if f.hop == Hop::Host {
        return host(codes::HOST_UNREACHABLE, f);
    }
    if f.hop == Hop::Local {
        return vec![local_firewall("these connections"), effective_rules()];
    }
    match code {
        codes::PATH_MTU_BLACKHOLE => return vec![smaller_packets(f), capture(f)],
        codes::TCP_FAMILY_BROKEN => {
            return vec![remedy(
                "Repair the broken address family, or prefer IPv4 until then",
                [
                    format!("snapreach check -4 {}", f.target),
                    format!("snapreach check -6 {}", f.target),
                    "echo 'precedence ::ffff:0:0/96  100' | sudo tee -a /etc/gai.conf".to_owned(),
                ],
            )];
        }
        codes::TCP_INTERMITTENT => {
            let mut list = vec![repeat(
                f,
                "--attempts 20 --concurrency 1",
                "Repeat without load; failures only under load point to NAT without free source ports",
            )];
            if f.to_proxy() {
                list.push(remedy(
                    "Ask each proxy behind the name or load balancer by itself",
                    [format!("getent ahosts {}", f.proxy_host)],
                ));
            } else if f.on_proxy_host() {
                list.push(from_proxy_host(f));
            } else {
                list.push(remedy(
                    "Take storage out of source NAT: a service endpoint or private endpoint on the subnet, or a NAT gateway",
                    ["az network vnet subnet update -g RG --vnet-name VNET -n SUBNET --service-endpoints Microsoft.Storage"],
                ));
            }
            return list;
        }
        _ => {}
    }
    if f.to_proxy() {
        return match code {
            codes::TCP_REFUSED => vec![proxy_listens(f), right_proxy(f)],
            codes::TCP_RESET => vec![wants_tls(f), client_allowed(f), capture(f)],
            codes::PATH_BLOCKED_AFTER => vec![ask_owner(f), way_to_proxy(f), right_proxy(f)],
            _ => vec![way_to_proxy(f), proxy_listens(f), right_proxy(f)],
        };
    }
    if f.on_proxy_host() {
        let mut list = vec![from_proxy_host(f)];
        if matches!(
            code,
            codes::TCP_CONNECT_TIMEOUT | codes::TCP_PORT_FILTERED | codes::TCP_UNREACHABLE | codes::PATH_BLOCKED_AFTER
        ) {
            list.push(proxy_egress(f));
        }
        // Who was answered at once gains nothing from a shorter wait.
        list.extend(proxy_answers_sooner(f).filter(|_| !matches!(code, codes::TCP_REFUSED | codes::TCP_RESET)));
        return list;
    }
    match code {
        codes::TCP_REFUSED | codes::TCP_ADMIN_PROHIBITED => {
            vec![local_firewall("connections to storage"), effective_rules(), who_rejects(f)]
        }
        codes::TCP_RESET => vec![capture(f), effective_rules()],
        codes::PATH_BLOCKED_AFTER => vec![ask_owner(f), effective_rules(), open_nsg(f)],
        codes::TCP_UNREACHABLE => vec![effective_rules(), who_rejects(f), open_nsg(f)],
        _ => vec![open_nsg(f), effective_rules(), local_firewall("these connections")],
    }
}

fn who_rejects(f: &Facts) -> Remedy {
    remedy(
        "Find the device after which the connection ends; its owner holds the rule",
        [
            format!("snapreach check --trace {}", f.target),
            format!("sudo traceroute -T -p {} {}", f.port, f.host.trim_start_matches('[').trim_end_matches(']')),
        ],
    )
}

fn ask_owner(f: &Facts) -> Remedy {
    let (host, port) = if f.to_proxy() { (&f.proxy_host, f.proxy_port) } else { (&f.host, f.port) };
    remedy(
        "Ask the owner of the router named, and of the device behind it, for the rule that stops the connection; \
         show them the way",
        [
            format!("snapreach check -v --trace {}", f.target),
            format!("sudo traceroute -T -p {port} {}", host.trim_start_matches('[').trim_end_matches(']')),
        ],
    )
}

fn wants_tls(f: &Facts) -> Remedy {
    remedy(
        "Find out whether the proxy port wants TLS; then offer a plain port for this machine, as agent and extension \
         cannot speak TLS to a proxy",
        [format!("openssl s_client -connect {}:{} </dev/null", f.proxy_host, f.proxy_port)],
    )
}

fn client_allowed(f: &Facts) -> Remedy {
    proxy_config(
        f,
        "Add this machine's subnet to the proxy's access list",
        &["acl backup_src src VM_SUBNET".into(), "http_access allow backup_src".into()],
        &["Allow VM_SUBNET".into()],
        &["permit-access VM_SUBNET".into()],
    )
}

fn proxy(code: Code, f: &Facts) -> Vec<Remedy> {
    let ports = f.ports();
    match code {
        codes::PROXY_AUTH_REQUIRED => no_login(f),
        codes::PROXY_AUTH_REJECTED => {
            let mut list = vec![remedy(
                "Check user name and password, percent-encoded in the URL; this serves the probe only, the extension \
                 cannot log in",
                [format!("curl -v -x {} -U USER https://{}/", f.proxy, f.target)],
            )];
            list.extend(no_login(f));
            list
        }
        codes::PROXY_PORT_DENIED => vec![
            port_list(f, &ports),
            remedy(
                "Confirm that the port decides: ask for port 443 of the same host",
                [format!("curl -v -x {} https://{}:443/", f.proxy, f.host)],
            ),
        ],
        codes::PROXY_HOST_DENIED => vec![allow_names(
            f,
            format!("Allow {} in the proxy for this machine's subnet; single host names do not last", f.suffixes()),
        )],
        codes::PROXY_CLIENT_DENIED => vec![client_allowed(f)],
        codes::PROXY_REQUEST_DENIED => vec![
            proxy_log(f, "Find the rule that refuses in the proxy's log"),
            allow_names(f, "Allow the backup targets for this machine's subnet, above the refusing rule"),
            port_list(f, &ports),
        ],
        codes::PROXY_REDIRECTED => {
            vec![allow_names(f, "Exempt this machine's subnet from the portal, above the rule that redirects")]
        }
        codes::PROXY_RATE_LIMITED => vec![
            remedy(
                "Raise the proxy's limit for the backup subnet, or spread the backup schedules",
                ["# haproxy: the stick-table with http_req_rate and its `deny_status 429` rule"],
            ),
            repeat(
                f,
                "--attempts 1 --concurrency 1",
                "Repeat with one connection at a time, to see whether only the probe is limited",
            ),
        ],
        codes::PROXY_OVERLOADED => vec![capacity(f), from_count(f)],
        codes::PROXY_SILENT => vec![
            repeat(
                f,
                "--timeout 140s --deadline 5m",
                "Wait for the proxy's own verdict: a black hole behind it is reported after 61 s (squid) or 134 s (tinyproxy)",
            ),
            from_proxy_host(f),
            capacity(f),
        ],
        codes::PROXY_CLOSED => {
            let mut list = vec![proxy_log(f, "Read the proxy's log at that second")];
            list.extend(proxy_answers_sooner(f).filter(|_| f.product == Product::Haproxy));
            list.push(wants_tls(f));
            list.push(client_allowed(f));
            list
        }
        codes::PROXY_EXPECTS_TLS => vec![
            remedy(
                "Offer a plain port for this machine's subnet: agent and extension cannot speak TLS to a proxy",
                ["# squid: http_port 3128"],
            ),
            remedy(
                "Name the proxy as https:// for this probe",
                [format!("snapreach check --proxy https://{}:{} {}", f.proxy_host, f.proxy_port, f.target)],
            ),
        ],
        codes::PROXY_EXPECTS_PLAINTEXT => vec![remedy(
            "Write http:// in the proxy's URL: the scheme says how to speak to the proxy, not what goes through it",
            [format!("snapreach check --proxy http://{}:{} {}", f.proxy_host, f.proxy_port, f.target)],
        )],
        codes::PROXY_NOT_A_PROXY | codes::PROXY_NOT_HTTP | codes::PROXY_CONNECT_UNSUPPORTED => {
            vec![right_proxy(f), proxy_listens(f)]
        }
        codes::PROXY_GATEWAY_ERROR => {
            let mut list = vec![from_proxy_host(f), proxy_egress(f)];
            list.extend(proxy_answers_sooner(f));
            list
        }
        codes::PROXY_LOOP => vec![remedy(
            "Break the circle between the proxies, and exempt the proxy's own traffic from redirection",
            [
                "grep -nE 'cache_peer|never_direct|(visible|unique)_hostname' /etc/squid/squid.conf",
                "sudo iptables -t nat -S | grep -E 'REDIRECT|DNAT'",
            ],
        )],
        codes::PROXY_OPTIMISTIC_CONNECT => vec![do_not_inspect(f), from_proxy_host(f)],
        codes::PROXY_TRUNCATED | codes::PROXY_BAD_REPLY => {
            vec![proxy_log(f, "Read the proxy's log at that second"), capture(f)]
        }
        _ => vec![proxy_log(f, "Read the proxy's log before anybody restarts it")],
    }
}

fn port_list(f: &Facts, ports: &[u16]) -> Remedy {
    let mut squid: Vec<String> =
        ports.iter().filter(|&&p| p != 443).map(|p| format!("acl SSL_ports port {p}")).collect();
    squid.extend(
        ports.iter().filter(|&&p| p < 1025 && !matches!(p, 80 | 443)).map(|p| format!("acl Safe_ports port {p}")),
    );
    if squid.is_empty() {
        squid.push("acl SSL_ports port 443".into());
    }
    let mut allowed: BTreeSet<u16> = ports.iter().copied().collect();
    allowed.insert(443);
    let list = allowed.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let tinyproxy: Vec<String> = allowed.iter().map(|p| format!("ConnectPort {p}")).collect();
    proxy_config(
        f,
        format!("Allow CONNECT to {} in the proxy", f.ports_in_words()),
        &squid,
        &tinyproxy,
        &[format!("{{ +limit-connect{{{list}}} }}")],
    )
}

fn proxy_log(f: &Facts, title: &str) -> Remedy {
    let line = match f.product {
        Product::Squid => "sudo tail -f /var/log/squid/access.log /var/log/squid/cache.log",
        Product::Tinyproxy => "sudo journalctl -u tinyproxy -n 50; sudo tail /var/log/tinyproxy/tinyproxy.log",
        Product::Haproxy => "sudo journalctl -u haproxy -n 50; sudo tail /var/log/haproxy.log",
        Product::Privoxy => "sudo tail -n 50 /var/log/privoxy/logfile",
        Product::Cntlm => "sudo journalctl -u cntlm -n 50",
        Product::Other => "sudo journalctl -n 100 --no-pager | grep -iE 'squid|tinyproxy|haproxy|privoxy|cntlm'",
    };
    remedy(title, [line])
}

fn capacity(f: &Facts) -> Remedy {
    let title = "Raise the proxy's limits for connections and open files";
    let unit = |name: &str| format!("# systemctl edit {name}: [Service] LimitNOFILE=65535; then restart {name}");
    match f.product {
        Product::Squid => remedy(title, ["max_filedescriptors 16384".to_owned(), unit("squid")]),
        Product::Tinyproxy => remedy(title, ["MaxClients 3000".to_owned(), unit("tinyproxy")]),
        Product::Privoxy => remedy(title, ["max-client-connections 3000".to_owned(), unit("privoxy")]),
        Product::Haproxy => remedy(title, ["maxconn 20000  # in global".to_owned(), unit("haproxy")]),
        Product::Cntlm => remedy(
            "Run several cntlm processes: one carries about 510 tunnels and no setting changes that",
            Vec::<String>::new(),
        ),
        Product::Other => remedy(
            title,
            ["# squid: max_filedescriptors 16384", "# tinyproxy: MaxClients 3000", "# systemd: LimitNOFILE=65535"],
        ),
    }
}

fn from_count(f: &Facts) -> Remedy {
    remedy(
        "Count the connections on the proxy's host",
        [format!("ss -tn state established 'sport = :{}' | wc -l", f.proxy_port)],
    )
}

fn tunnel(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::TUNNEL_CLOSED => vec![
            proxy_log(f, "Read the proxy's log at that second: a filter by name, or a target that refuses"),
            from_proxy_host(f),
            do_not_inspect(f),
        ],
        codes::TUNNEL_RESET => vec![proxy_log(f, "Look for a crash of the proxy at that second"), capture(f)],
        codes::TUNNEL_SILENT => vec![from_proxy_host(f), capacity(f), smaller_packets(f)],
        codes::TUNNEL_CORRUPTED => vec![remedy(
            "Compare both ends through the proxy again, and take devices out of the path one by one",
            [format!("snapreach proxy {}", f.proxy)],
        )],
        codes::TUNNEL_IDLE_CUT => {
            let lines = match f.product {
                Product::Squid => vec!["read_timeout 2 hours", "# then: squid -k reconfigure"],
                Product::Tinyproxy => vec!["Timeout 7200", "# then: systemctl restart tinyproxy"],
                Product::Haproxy => vec!["timeout tunnel 2h", "# then: systemctl reload haproxy"],
                Product::Privoxy => vec!["socket-timeout 7200"],
                _ => vec!["# haproxy: timeout tunnel 2h", "# squid: read_timeout 2 hours", "# tinyproxy: Timeout 7200"],
            };
            vec![remedy(
                "Lengthen the proxy's limit for idle tunnels, or keep pooled connections idle for at most 45 s",
                lines,
            )]
        }
        codes::TUNNEL_HALF_CLOSE_BROKEN => vec![remedy(
            "Keep the sending side open until the answer is complete; no setting of the proxy changes this",
            Vec::<String>::new(),
        )],
        _ => vec![remedy(
            "Make the client wait for the 200 before it sends into the tunnel; the extension and curl do",
            Vec::<String>::new(),
        )],
    }
}

fn tls(code: Code, f: &Facts) -> Vec<Remedy> {
    let answers = || who_answers(f);
    match code {
        codes::TLS_INTERCEPTED | codes::TLS_UNKNOWN_ISSUER => {
            let mut list = vec![do_not_inspect(f), trust_authority()];
            if code == codes::TLS_UNKNOWN_ISSUER {
                list.push(remedy(
                    "Renew this machine's trust store, if the issuer is DigiCert or Microsoft",
                    [
                        "sudo apt-get install --reinstall ca-certificates && sudo update-ca-certificates --fresh",
                        "sudo dnf reinstall ca-certificates && sudo update-ca-trust",
                    ],
                ));
            }
            list
        }
        codes::TLS_INCOMPLETE_CHAIN => vec![
            remedy(
                "Append the intermediate certificate on the server that answers, leaf first",
                ["cat leaf.pem intermediate.pem > chain.pem".to_owned(), f.s_client()],
            ),
            do_not_inspect(f),
        ],
        codes::TLS_EXPIRED | codes::TLS_NOT_YET_VALID => vec![fix_clock(), answers()],
        codes::TLS_PROTOCOL_VERSION | codes::TLS_HANDSHAKE_FAILURE => vec![
            remedy(
                "Test TLS 1.2 and 1.3 by themselves; storage speaks both, so the device that refuses stands in between",
                ["-tls1_2", "-tls1_3"].map(|version| f.s_client().replace("-showcerts", version)),
            ),
            do_not_inspect(f),
        ],
        codes::TLS_RESET_AFTER_HELLO
        | codes::TLS_CLOSED_AFTER_HELLO
        | codes::TLS_SILENT_AFTER_HELLO
        | codes::TLS_ALERT => {
            if f.to_proxy() {
                return vec![
                    remedy(
                        "Find out whether the proxy port speaks TLS at all; if not, write http:// in its URL",
                        [f.s_client()],
                    ),
                    proxy_log(f, "Read the proxy's log at that second"),
                ];
            }
            let mut list = if f.tunnelled || f.on_proxy_host() {
                vec![
                    proxy_log(f, "Read the proxy's log at that second: it filters by name, or its own way out does"),
                    from_proxy_host(f),
                    do_not_inspect(f),
                ]
            } else {
                vec![
                    allow_name(f),
                    remedy(
                        "Confirm that the name decides: offer another name to the same address",
                        [format!("openssl s_client -connect {} -servername www.microsoft.com </dev/null", f.target)],
                    ),
                ]
            };
            if code == codes::TLS_SILENT_AFTER_HELLO {
                list.truncate(MOST - 1);
                list.push(smaller_packets(f));
            }
            list
        }
        codes::TLS_NOT_TLS if f.to_proxy() => proxy(codes::PROXY_EXPECTS_PLAINTEXT, f),
        codes::TLS_NOT_TLS if f.tunnelled => vec![
            from_proxy_host(f),
            proxy_log(f, "Find in the proxy's log where it led the tunnel: what answers there speaks no TLS"),
        ],
        codes::TLS_NAME_MISMATCH => vec![
            answers(),
            remedy(
                "Use the account's own name, never its privatelink name, and remove hosts file entries",
                ["grep -nE 'core\\.windows\\.net|storage\\.azure\\.net' /etc/hosts"],
            ),
        ],
        codes::TLS_CLIENT_CERT_REQUIRED if f.to_proxy() => vec![remedy(
            "Offer a proxy port without client certificates for this machine's subnet: agent and extension have none",
            [f.s_client()],
        )],
        _ => vec![answers(), effective_rules()],
    }
}

fn http(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::HTTP_FIREWALL_DENIED => vec![allow_name(f), effective_rules()],
        codes::HTTP_CAPTIVE_PORTAL | codes::HTTP_BLOCK_PAGE | codes::HTTP_REDIRECTED => {
            let mut list = vec![remedy(
                format!(
                    "Exempt {} and this machine's subnet from the filter or portal that answers, without inspection",
                    f.suffixes()
                ),
                [curl(f)],
            )];
            if f.tunnelled {
                list.push(exempt_in_proxy(
                    f,
                    "If the proxy is the filter, allow the backup targets above the rule that refuses",
                ));
            }
            list
        }
        codes::HTTP_WRONG_SPEAKER => vec![who_answers(f), do_not_inspect(f)],
        codes::HTTP_SLOW => vec![
            remedy(
                "Find the slow step",
                [format!(
                    "curl -so /dev/null https://{}/ -w 'dns %{{time_namelookup}} tcp %{{time_connect}} tls %{{time_appconnect}} all %{{time_total}}\\n'",
                    f.host
                )],
            ),
            host_takes_snapshot(),
        ],
        codes::HTTP_SILENT => vec![
            repeat(
                f,
                "--attempts 10 --timeout 60s",
                "Repeat with more time, and look at the service's health in the portal",
            ),
            capture(f),
        ],
        _ => {
            let mut list = vec![who_answers(f)];
            if f.tunnelled {
                list.push(proxy_log(f, "Read the proxy's log at that second"));
            }
            list.push(capture(f));
            list
        }
    }
}

fn storage(code: Code, f: &Facts) -> Vec<Remedy> {
    let account = f.host.split('.').next().filter(|_| storage_suffix(&f.host).is_some()).unwrap_or("ACCOUNT");
    match code {
        codes::STORAGE_NETWORK_RULES => vec![
            remedy(
                "Allow this machine's subnet in the account's firewall; the subnet needs the service endpoint \
                 Microsoft.Storage",
                [format!("az storage account network-rule add -g RG --account-name {account} --subnet SUBNET_ID")],
            ),
            remedy(
                "Or allow the public address that storage sees; this does not work for machines in the account's own region",
                [format!(
                    "az storage account network-rule add -g RG --account-name {account} --ip-address PUBLIC_ADDRESS"
                )],
            ),
            remedy(
                "Let the Backup service itself in as a trusted Microsoft service; this does not admit the machine",
                [format!("az storage account update -g RG -n {account} --bypass AzureServices")],
            ),
        ],
        codes::STORAGE_HTTPS_REQUIRED => vec![remedy(
            "Use port 443 and leave port 80 out of the check: secure transfer is on, as it should be",
            [format!("snapreach check --ports 443,8443 {}", f.host)],
        )],
        codes::STORAGE_TLS_VERSION => vec![
            remedy(
                "Make the client, or the proxy that inspects, speak TLS 1.2 or newer",
                ["# squid: tls_outgoing_options min-version=1.2".to_owned(), f.s_client()],
            ),
            remedy(
                "Or lower what the account demands",
                [format!("az storage account update -g RG -n {account} --min-tls-version TLS1_2")],
            ),
        ],
        codes::STORAGE_THROTTLED => vec![repeat(
            f,
            "--attempts 10 --concurrency 1",
            "Repeat later, and spread the backup schedules; the path is clear",
        )],
        codes::STORAGE_ERROR => vec![repeat(
            f,
            "--attempts 10",
            "Repeat, then open a ticket with the x-ms-request-id of the evidence if it stays",
        )],
        _ => vec![
            remedy("Make a new signature, a little back-dated in st, and quote the URL in the shell", ["date -u"]),
            fix_clock(),
        ],
    }
}

fn host(code: Code, f: &Facts) -> Vec<Remedy> {
    const METADATA: &str = "169.254.169.254";
    let ask = "sudo curl -sv -m 5 --noproxy '*' 'http://168.63.129.16/?comp=versions'";
    let ask_metadata = format!("curl -sv -m 5 --noproxy '*' -H Metadata:true http://{METADATA}/metadata/versions");
    let only_metadata = !f.hosts.is_empty() && f.hosts.iter().all(|host| host == METADATA);
    match code {
        codes::HOST_UNREACHABLE if only_metadata => vec![remedy(
            format!(
                "Allow TCP 80 to {METADATA} in the guest's firewall or security product, and keep its route on the VM's \
                     own interface; a snapshot works without, other agents do not"
            ),
            [
                ask_metadata,
                format!("ip route get {METADATA}"),
                format!("sudo nft list ruleset | grep -n {METADATA}; sudo iptables -S OUTPUT"),
            ],
        )],
        codes::HOST_UNEXPECTED if only_metadata => vec![remedy(
            format!(
                "Remove what captures {METADATA}: a redirection, a tunnel, another cloud's or a cluster's metadata service"
            ),
            [ask_metadata, format!("ip route get {METADATA}; sudo iptables -t nat -S OUTPUT")],
        )],
        codes::HOST_UNREACHABLE => vec![
            remedy(
                "Allow TCP 80 and 32526 to 168.63.129.16 in the guest's firewall or security product; your NSG does not \
                 apply to it",
                [ask, "sudo nft list ruleset | grep -n 168.63.129.16; sudo iptables -t security -S OUTPUT"],
            ),
            remedy(
                "Give 168.63.129.16 a route over the VM's own interface, if a VPN took over",
                ["ip route get 168.63.129.16", "sudo ip route add 168.63.129.16 via GATEWAY dev eth0"],
            ),
        ],
        codes::HOST_UNEXPECTED => vec![remedy(
            "Remove the redirection or tunnel that captures 168.63.129.16; outside Azure use --no-host",
            [ask, "ip route get 168.63.129.16; sudo iptables -t nat -S OUTPUT"],
        )],
        codes::HOST_PROXIED => vec![remedy(
            "Exclude the platform addresses from every proxy and redirection",
            [
                "no_proxy=168.63.129.16,169.254.169.254",
                "NO_PROXY=168.63.129.16,169.254.169.254",
                "sudo iptables -t nat -I OUTPUT -d 168.63.129.16,169.254.169.254 -j RETURN",
            ],
        )],
        _ => vec![remedy(
            "Run the check as root: the agent's own rule drops everybody else's connections",
            ["sudo snapreach check --host-endpoint 168.63.129.16 TARGET"],
        )],
    }
}

fn consumer(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::CONSUMER_IGNORES_PROXY => {
            // The current Linux extension always dials 443.
            let direct = Facts { ports: BTreeSet::from([443]), ..Facts::copy(f) };
            vec![
                open_nsg(&direct),
                host_takes_snapshot(),
                remedy(
                    "As a stopgap, name host and port in one key and leave HttpProxy.Port out: the extension then uses \
                     the proxy and the agent goes direct, until an update ends it",
                    [format!("HttpProxy.Host={}:{}", f.proxy_host, f.proxy_port)],
                ),
            ]
        }
        codes::CONSUMER_USES_PROXY => vec![remedy(
            "Remove the proxy from waagent.conf, since the direct way works; or repair the proxy as the other findings say",
            [
                "sudo sed -i -E 's/^(HttpProxy\\.(Host|Port))/#\\1/' /etc/waagent.conf",
                "sudo systemctl restart walinuxagent  # waagent on RHEL, SLES",
            ],
        )],
        codes::CONSUMER_DISTRUSTS_ANCHOR => vec![do_not_inspect(f), trust_authority()],
        _ => vec![remedy(
            "Leave the unused ports out of the check; Windows machines may need 8443",
            [format!("snapreach check --ports 443 {}", f.host)],
        )],
    }
}

fn nsg(code: Code, f: &Facts) -> Vec<Remedy> {
    let show = remedy(
        "List all rules with their numbers, defaults included",
        ["az network nsg rule list -g RG --nsg-name NSG --include-default -o table"],
    );
    match code {
        codes::NSG_SHADOWED => vec![
            remedy(
                "Move the allow above the deny by a lower number that is free (100 to 4096)",
                ["az network nsg rule update -g RG --nsg-name NSG -n ALLOW_RULE --priority 200"],
            ),
            show,
        ],
        codes::NSG_PORT_EXCLUDED => {
            let mut open = open_nsg(f);
            open.title = format!(
                "Add {} to the allowed ports as a list, not as a range: 80-443 leaves 8443 out",
                f.ports_in_words()
            );
            vec![open, show]
        }
        _ => vec![open_nsg(f), show],
    }
}

fn triage(code: Code) -> Vec<Remedy> {
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

fn meta(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::META_DEADLINE => vec![remedy(
            "Allow more time, or measure less",
            [
                format!("snapreach check --deadline 10m {}", f.target),
                format!("snapreach check --attempts 1 --connect-timeout 5s {}", f.target),
            ],
        )],
        codes::META_UNCLASSIFIED => vec![remedy(
            "Read the raw error in the evidence, and report the recorded run so that it gets a code",
            [format!("snapreach check -v --record failure.jsonl {}", f.target)],
        )],
        _ => vec![remedy("Take the reason away and repeat, if this part matters", ["snapreach check --print-config"])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    const HOPS: [Hop; 8] = [
        Hop::Local,
        Hop::ClientToProxy,
        Hop::Proxy,
        Hop::ProxyToOrigin,
        Hop::ClientToOrigin,
        Hop::Origin,
        Hop::Host,
        Hop::Consumer,
    ];
    const PRODUCTS: [Option<&str>; 11] = [
        None,
        Some("squid"),
        Some("tinyproxy"),
        Some("haproxy"),
        Some("nginx"),
        Some("privoxy"),
        Some("cntlm"),
        Some("ncat"),
        Some("pproxy"),
        Some("azure-firewall"),
        Some("never heard of"),
    ];

    fn targets(list: &[&str]) -> Vec<String> {
        list.iter().map(|&t| t.to_owned()).collect()
    }

    fn known<'a>(hop: Hop, product: Option<&'a str>, targets: &'a [String]) -> Situation<'a> {
        let route = match hop {
            Hop::ClientToProxy | Hop::Proxy | Hop::ProxyToOrigin => Some(Route::Proxy),
            _ => Some(Route::Direct),
        };
        Situation { hop, route, targets, region: Some("westeurope"), proxy: Some("http://10.0.0.5:3128"), product }
    }

    fn first(code: Code, hop: Hop, product: Option<&str>) -> String {
        let targets = targets(&["acct.blob.core.windows.net:443", "acct.blob.core.windows.net:8443"]);
        let list = remedies(code, &known(hop, product, &targets));
        format!("{}\n{}", list[0].title, list[0].commands.join("\n"))
    }

    #[test]
    fn every_code_hop_and_product_gives_short_remedies_without_known_placeholders() {
        let targets = targets(&["acct.blob.core.windows.net:443", "md-1.z27.blob.storage.azure.net:8443"]);
        for code in codes::ALL {
            for hop in HOPS {
                for product in PRODUCTS {
                    for route in [None, Some(Route::Direct), Some(Route::Proxy)] {
                        let list = remedies(*code, &Situation { route, ..known(hop, product, &targets) });
                        let place = format!("{code} {hop:?} {product:?} {route:?}");
                        assert!((1..=MOST).contains(&list.len()), "{place}: {} remedies", list.len());
                        for remedy in &list {
                            assert!(
                                remedy.title.len() > 10 && !remedy.title.ends_with('.'),
                                "{place}: {}",
                                remedy.title
                            );
                            assert!(remedy.title.starts_with(char::is_uppercase), "{place}: {}", remedy.title);
                            for line in remedy.commands.iter().chain([&remedy.title]) {
                                for placeholder in ["HOST", "PROXY:", "<region>", "Storage.REGION", "PORT"] {
                                    let found = line.contains(placeholder) && !line.starts_with("NO_PROXY");
                                    assert!(!found, "{place}: {placeholder} in {line}");
                                }
                                assert!(!line.trim().is_empty() && !line.contains('\n'), "{place}: {line:?}");
                            }
                            for line in &remedy.commands {
                                assert!(line.chars().count() <= 160, "{place}: {line}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_panics_when_nothing_is_known() {
        for code in codes::ALL {
            for hop in HOPS {
                let bare = Situation { hop, route: None, targets: &[], region: None, proxy: None, product: None };
                let worth = super::super::catalogue::find(code.0).unwrap().severity != Severity::Info;
                assert!(!remedies(*code, &bare).is_empty() || !worth, "{code} {hop:?}");
                let odd = targets(&["", ":", "[::1]:443", "[::1", "é:99999", "acct.blob.:1"]);
                let odd = Situation { targets: &odd, region: Some(""), proxy: Some("x://[::1"), ..bare };
                assert!(!remedies(*code, &odd).is_empty());
            }
        }
    }

    #[test]
    fn a_direct_timeout_opens_exactly_the_failing_ports_for_the_region() {
        let text = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None);
        assert!(text.contains("--destination-address-prefixes Storage.westeurope \\"), "{text}");
        assert!(text.ends_with("--destination-port-ranges 443 8443"), "{text}");
        assert!(!text.contains("80-443"));
    }

    #[test]
    fn an_unknown_region_is_quoted_and_has_to_be_filled_in() {
        let targets = targets(&["acct.blob.core.windows.net:443"]);
        let situation = Situation { region: None, ..known(Hop::ClientToOrigin, None, &targets) };
        let list = remedies(codes::TCP_CONNECT_TIMEOUT, &situation);
        assert!(list[0].title.contains("fill in the region"), "{}", list[0].title);
        assert!(list[0].commands.iter().any(|line| line.contains("'Storage.<region>'")), "{:?}", list[0].commands);
    }

    #[test]
    fn the_same_code_on_another_hop_is_another_fix() {
        let to_proxy = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToProxy, None);
        assert!(
            to_proxy.contains("10.0.0.5") && to_proxy.contains("3128") && !to_proxy.contains("Storage"),
            "{to_proxy}"
        );
        let beyond = first(codes::TCP_CONNECT_TIMEOUT, Hop::ProxyToOrigin, Some("squid"));
        assert!(beyond.contains("proxy's host") && beyond.contains("acct.blob.core.windows.net"), "{beyond}");
        let host = first(codes::TCP_CONNECT_TIMEOUT, Hop::Host, None);
        assert!(host.contains("168.63.129.16"), "{host}");
        let lookup = first(codes::DNS_TIMEOUT, Hop::ClientToProxy, None);
        assert!(lookup.contains("dig 10.0.0.5") && !lookup.contains("blob"), "{lookup}");
    }

    #[test]
    fn the_owner_of_a_router_is_shown_the_way_to_whom_the_trace_went() {
        let direct = first(codes::PATH_BLOCKED_AFTER, Hop::ClientToOrigin, None);
        assert!(direct.ends_with("traceroute -T -p 443 acct.blob.core.windows.net"), "{direct}");
        let to_proxy = first(codes::PATH_BLOCKED_AFTER, Hop::ClientToProxy, None);
        assert!(to_proxy.ends_with("traceroute -T -p 3128 10.0.0.5"), "{to_proxy}");
    }

    #[test]
    fn a_denied_port_is_opened_in_the_product_that_spoke() {
        let squid = first(codes::PROXY_PORT_DENIED, Hop::Proxy, Some("squid"));
        assert!(squid.contains("\nacl SSL_ports port 8443\n") && !squid.contains("port 443"), "{squid}");
        let tinyproxy = first(codes::PROXY_PORT_DENIED, Hop::Proxy, Some("tinyproxy"));
        assert!(
            tinyproxy.contains("\nConnectPort 443\nConnectPort 8443\n") && !tinyproxy.contains("acl"),
            "{tinyproxy}"
        );
        let unknown = first(codes::PROXY_PORT_DENIED, Hop::Proxy, None);
        assert!(unknown.contains("# squid: acl") && unknown.contains("# tinyproxy: ConnectPort"), "{unknown}");
    }

    #[test]
    fn the_extension_needs_443_whatever_failed() {
        let targets = targets(&["acct.blob.core.windows.net:8443"]);
        let list = remedies(codes::CONSUMER_IGNORES_PROXY, &known(Hop::Consumer, None, &targets));
        assert!(list[0].commands.iter().any(|line| line.ends_with("--destination-port-ranges 443")), "{list:?}");
    }

    #[test]
    fn other_targets_than_storage_are_not_opened_by_the_storage_tag() {
        let targets = targets(&["192.0.2.7:443", "[2001:db8::7]:443", "intranet.example:443"]);
        let list = remedies(codes::TCP_CONNECT_TIMEOUT, &known(Hop::ClientToOrigin, None, &targets));
        let text = list[0].commands.join("\n");
        assert!(text.contains("192.0.2.7") && !text.contains("Storage."), "{text}");
    }

    #[test]
    fn many_ports_stay_readable_and_say_that_there_are_more() {
        let targets: Vec<String> = (1000..1100).map(|port| format!("acct.blob.core.windows.net:{port}")).collect();
        let list = remedies(codes::TCP_CONNECT_TIMEOUT, &known(Hop::ClientToOrigin, None, &targets));
        assert!(list[0].title.contains("and 88 more"), "{}", list[0].title);
        assert!(list[0].commands.iter().all(|line| line.len() <= 160));
    }

    #[test]
    fn storage_suffixes_of_every_cloud_and_no_others() {
        for (host, suffix) in [
            ("acct.blob.core.windows.net", Some(".blob.core.windows.net")),
            ("md-1.z27.blob.storage.azure.net", Some(".blob.storage.azure.net")),
            ("md-dd-1.z48.disk.storage.azure.net", Some(".disk.storage.azure.net")),
            ("acct.blob.core.chinacloudapi.cn", Some(".blob.core.chinacloudapi.cn")),
            ("acct.blob.core.windows.net.example", None),
            ("example.com", None),
        ] {
            assert_eq!(storage_suffix(host), suffix, "{host}");
        }
    }
}
