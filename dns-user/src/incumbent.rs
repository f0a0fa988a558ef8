//! The command line of NodeLocal `DNSCache`: its DaemonSet's arguments work unchanged.
//!
//! It is Go's: a flag has one dash or two, its value follows `=` or is the next
//! argument, and a switch without a value is true.

/// A command line in this agent's own spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// With the program's name.
    pub arguments: Vec<String>,
    /// What is to be said about flags that mean nothing here, a line each.
    pub remarks: Vec<String>,
}

/// What becomes of a flag.
#[derive(Clone, Copy)]
enum Meaning {
    /// It is this agent's flag of that name.
    Flag(&'static str),
    /// The same for a switch.
    Switch(&'static str),
    /// An address to listen on, of which the IP may be missing.
    Listen(&'static str),
    /// The port of `/health` on the first local address.
    HealthPort,
    /// The port of DNS, of which there is one.
    DnsPort,
    /// Nothing, for that reason.
    Nothing(&'static str),
    /// The same for a switch.
    NothingSwitch(&'static str),
}

use Meaning::{DnsPort, Flag, HealthPort, Listen, Nothing, NothingSwitch, Switch};

const COREFILE: &str = "NodeLocal DNSCache's Corefile is not read; CoreDNS's own Corefile decides";
const EVENTS: &str = "addresses and rules are put back by events, not from time to time";
const ONE_SERVER: &str = "all metrics are at --metrics-listen";

/// The flags of k8s-dns-node-cache 1.26 and of the CoreDNS in it.
const FLAGS: [(&str, Meaning); 20] = [
    ("localip", Flag("local-ip")),
    ("setupinterface", Switch("setup-interface")),
    ("interfacename", Flag("interface-name")),
    ("setupiptables", Switch("setup-nftables")),
    ("upstreamsvc", Flag("upstream-svc")),
    ("prometheus-listen-address", Listen("metrics-listen")),
    ("health-port", HealthPort),
    ("dns.port", DnsPort),
    ("p", DnsPort),
    ("conf", Nothing(COREFILE)),
    ("basecorefile", Nothing(COREFILE)),
    ("corefile", Nothing(COREFILE)),
    ("kubednscm", Nothing("the ConfigMap kube-dns is not read")),
    ("syncinterval", Nothing(EVENTS)),
    ("metrics-listen-address", Nothing(ONE_SERVER)),
    ("pidfile", Nothing("no such file is written")),
    ("skipteardown", NothingSwitch("nothing is taken down at the end; `uninstall` does that")),
    ("reloadwithsignal", NothingSwitch("changes are followed as they come")),
    ("quiet", NothingSwitch("see --log-level")),
    ("plugins", NothingSwitch("there are no plugins")),
];

/// The local address that is answered for unless another is given.
const DEFAULT_LOCAL_IP: &str = "169.254.25.10";

/// Translates a command line that begins with `run` or with one of these flags; any
/// other stays as it is.
pub fn translate(arguments: impl IntoIterator<Item = String>) -> Translated {
    let mut arguments = arguments.into_iter().peekable();
    let mut translated = Translated::default();
    translated.arguments.extend(arguments.next());
    match arguments.peek().map(String::as_str) {
        Some("run") => drop(arguments.next()),
        Some("-version") => {
            translated.arguments.push("--version".to_owned());
            return translated;
        }
        Some(first) if meaning(first).is_some() => {}
        _ => {
            translated.arguments.extend(arguments);
            return translated;
        }
    }
    translated.arguments.push("run".to_owned());
    let (mut local_ip, mut health_port) = (DEFAULT_LOCAL_IP.to_owned(), None);
    while let Some(argument) = arguments.next() {
        if let Some(first) = argument.strip_prefix("--local-ip=") {
            first.clone_into(&mut local_ip);
        }
        let Some((name, meaning, value)) = meaning(&argument) else {
            translated.arguments.push(argument);
            continue;
        };
        let is_switch = matches!(meaning, Switch(_) | NothingSwitch(_));
        let value = value.or_else(|| if is_switch { None } else { arguments.next() });
        let value = value.unwrap_or_else(|| if is_switch { "true" } else { "" }.to_owned());
        match meaning {
            Flag(flag) | Switch(flag) => {
                if flag == "local-ip" {
                    local_ip.clone_from(&value);
                }
                translated.arguments.push(format!("--{flag}={value}"));
            }
            Listen(flag) => {
                let any = if value.starts_with(':') { "0.0.0.0" } else { "" };
                translated.arguments.push(format!("--{flag}={any}{value}"));
            }
            HealthPort => health_port = Some(value),
            DnsPort if value == "53" => {}
            DnsPort => {
                translated.remarks.push(format!("-{name} {value}: DNS is answered at port 53"));
            }
            Nothing(why) | NothingSwitch(why) => {
                translated.remarks.push(format!("-{name} means nothing here: {why}"));
            }
        }
    }
    if let Some(port) = health_port {
        let ip = local_ip.split(',').next().unwrap_or_default();
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        translated.arguments.push(format!("--health-listen={ip}:{port}"));
    }
    translated
}

/// Returns name, meaning and value of an argument that is one of these flags.
fn meaning(argument: &str) -> Option<(&str, Meaning, Option<String>)> {
    let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (flag, None),
    };
    let (_, meaning) = FLAGS.iter().find(|(known, _)| *known == name)?;
    Some((name, *meaning, value))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::translate;
    use crate::args::{Arguments, Verb};

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    struct Case {
        given: &'static str,
        expect: &'static str,
        remarks: usize,
    }

    #[test]
    fn command_lines_of_the_incumbent() {
        let cases = [
            // kubespray's.
            Case {
                given: "nodedns -localip 169.254.25.10 -conf /etc/coredns/Corefile -upstreamsvc coredns",
                expect: "nodedns run --local-ip=169.254.25.10 --upstream-svc=coredns",
                remarks: 1,
            },
            // The upstream manifest's.
            Case {
                given: "nodedns -localip 169.254.20.10,10.96.0.10 -conf /etc/Corefile \
                        -upstreamsvc kube-dns-upstream -pidfile /tmp/node-cache.pid",
                expect: "nodedns run --local-ip=169.254.20.10,10.96.0.10 \
                         --upstream-svc=kube-dns-upstream",
                remarks: 2,
            },
            Case {
                given: "nodedns run --localip=fd00::1 -setupinterface=false -setupiptables \
                        -health-port=9256 -prometheus-listen-address :9255 -skipteardown",
                expect: "nodedns run --local-ip=fd00::1 --setup-interface=false \
                         --setup-nftables=true --metrics-listen=0.0.0.0:9255 \
                         --health-listen=[fd00::1]:9256",
                remarks: 1,
            },
            Case {
                given: "nodedns -dns.port 53 -p=53 -quiet -interfacename nl -syncinterval 60 \
                        -basecorefile a -corefile b -kubednscm c -reloadwithsignal=true \
                        -metrics-listen-address 0.0.0.0:9353 -plugins --datapath off",
                expect: "nodedns run --interface-name=nl --datapath off",
                remarks: 8,
            },
            Case {
                given: "nodedns -health-port 8080 -p 5353",
                expect: "nodedns run --health-listen=169.254.25.10:8080",
                remarks: 1,
            },
            Case { given: "nodedns -version", expect: "nodedns --version", remarks: 0 },
            // Its own.
            Case { given: "nodedns status -o json", expect: "nodedns status -o json", remarks: 0 },
            Case { given: "nodedns --version", expect: "nodedns --version", remarks: 0 },
            Case { given: "nodedns", expect: "nodedns", remarks: 0 },
        ];
        for Case { given, expect, remarks } in cases {
            let translated = translate(words(given));
            assert_eq!(translated.arguments, words(expect), "{given}");
            assert_eq!(translated.remarks.len(), remarks, "{given}: {:?}", translated.remarks);
            let is_run = expect.contains(" run");
            let parsed = Arguments::try_parse_from(&translated.arguments);
            let is_parsed = matches!(parsed.map(|it| it.verb), Ok(Verb::Run(_)));
            assert_eq!(is_parsed, is_run, "{given}");
        }
    }
}
