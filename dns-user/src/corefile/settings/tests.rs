//! Corefiles as they are found, and what becomes of the zone.

use super::{ClusterSettings, EndpointNames, LeftZone, Pods, ZoneSettings, cluster_zones};

/// What kubeadm installs.
const KUBEADM: &str = r"
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

/// What kubespray installs, with a block for another domain.
const KUBESPRAY: &str = r"
example.com:53 {
    log
    errors
    forward . 10.0.0.1
    loadbalance
    cache 5
    reload
}
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153
    forward . /etc/resolv.conf {
      prefer_udp
      max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";

fn settings(corefile: &str, domain: Option<&str>) -> ZoneSettings {
    cluster_zones(Some(corefile), domain).unwrap().cluster
}

/// Returns `zone ttl`, or the reason.
fn outcome(corefile: &str, domain: Option<&str>) -> String {
    match settings(corefile, domain) {
        ZoneSettings::Answered(ClusterSettings { zone, ttls, .. }) => {
            format!("{zone} {}", ttls.minimum_s)
        }
        ZoneSettings::Forwarded(LeftZone { reason, .. }) => reason,
    }
}

#[test]
fn answered() {
    let cases = [
        ("kubeadm", KUBEADM, None, "cluster.local 30"),
        ("kubespray", KUBESPRAY, None, "cluster.local 5"),
        ("overridden", KUBEADM, Some("corp.example"), "corp.example 30"),
        (
            "zones of the block",
            "Cluster.Example.:53 10.0.0.0/8 {\n kubernetes\n}",
            None,
            "cluster.example 5",
        ),
        (
            "reverse zone first",
            ". {\n kubernetes in-addr.arpa 10.0.0.0/8 a.b c.d\n}",
            None,
            "a.b 5",
        ),
        (
            "one of two is for cluster.local",
            "a.org {\n kubernetes a.org {\n ttl 9\n }\n}\n. {\n kubernetes cluster.local\n}",
            None,
            "cluster.local 5",
        ),
        (
            "one of two is for the domain",
            "a.org {\n kubernetes a.org {\n ttl 9\n }\n}\n. {\n kubernetes cluster.local\n}",
            Some("a.org"),
            "a.org 9",
        ),
        (
            "the zone is a variable, but known",
            ". {\n kubernetes {$ZONE} in-addr.arpa\n}",
            Some("a.org"),
            "a.org 5",
        ),
        (
            "options from a snippet",
            "(k) {\n ttl 0\n pods verified\n endpoint_pod_names\n}\n. {\n kubernetes a.org {\n import k\n }\n}",
            None,
            "a.org 0",
        ),
        (
            "same zone on another port and transport",
            ". {\n kubernetes a.org\n}\n.:5300 tls://a.org {\n whoami\n}",
            None,
            "a.org 5",
        ),
        (
            "hosts that knows nothing",
            ". {\n hosts {\n ttl 60\n fallthrough\n }\n kubernetes a.org\n}",
            None,
            "a.org 5",
        ),
        ("round robin", ". {\n loadbalance round_robin\n kubernetes a.org\n}", None, "a.org 5"),
        (
            "rewrite elsewhere",
            "b.org {\n rewrite name x y\n}\n. {\n kubernetes a.org\n}",
            None,
            "a.org 5",
        ),
    ];
    for (name, corefile, domain, expect) in cases {
        assert_eq!(outcome(corefile, domain), expect, "{name}");
    }
}

#[test]
fn without_a_corefile_the_defaults_hold() {
    for (domain, expect) in [(None, "cluster.local"), (Some("a.org"), "a.org")] {
        let ZoneSettings::Answered(settings) = cluster_zones(None, domain).unwrap().cluster else {
            panic!("{domain:?}")
        };
        assert_eq!((settings.zone.as_str(), settings.ttls.data_s), (expect, 5));
        assert_eq!((settings.pods, &*settings.reverse_zones), (Pods::Unknown, &[][..]));
    }
}

#[test]
fn a_corefile_that_does_not_parse_is_an_error() {
    let error = cluster_zones(Some(". {\n kubernetes"), None).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "CoreDNS's Corefile does not parse: line 2: a brace of line 1 is never closed"
    );
}

/// Plugins that come before or after, and options, all in an otherwise plain
/// Corefile.
#[test]
fn what_alters_answers_leaves_them_to_coredns() {
    let plugins = [
        "rewrite name a b",
        "template IN A",
        "hosts /etc/coredns/hosts {\n fallthrough\n }",
        "hosts {\n 10.0.0.1 a.cluster.local\n fallthrough\n }",
        "hosts",
        "hosts {\n fallthrough example.org\n }",
        "file /zones/db.x x",
        "auto",
        "etcd",
        "secondary",
        "k8s_external x.org",
        "autopath @kubernetes",
        "dns64",
        "acl {\n allow\n }",
        "view a {\n }",
        "any",
        "minimal",
        "header {\n }",
        "bufsize 512",
        "local",
        "dnssec",
        "tsig",
        "nsid x",
        "loadbalance weighted w.conf",
        "import custom/*.override",
        "cache 30 {\n import custom/*.cache\n }",
        "cache 30 {\n brand_new_option\n }",
        "brand_new_plugin",
        "{$PLUGIN}",
        "kubernetes b.org",
    ];
    for plugin in plugins {
        let text = format!(".:53 {{\n kubernetes cluster.local\n {plugin}\n}}");
        let outcome = settings(&text, Some("cluster.local"));
        assert!(matches!(outcome, ZoneSettings::Forwarded(_)), "{plugin}: {outcome:?}");
    }
    let options = [
        "namespaces",
        "namespaces {$NAMESPACES}",
        "namespaces prod\n namespace_labels a=b",
        "namespace_labels",
        "namespace_labels a!=b",
        "namespace_labels {$LABELS}",
        "labels",
        "labels a>1",
        "pods",
        "pods secure",
        "pods {$PODS}",
        "ignore full_service",
        "multicluster clusterset.local",
        "zonal",
        "fallthrough",
        "fallthrough cluster.local",
        "fallthrough in-addr.arpa local",
        "fallthrough svc.Cluster.Local.",
        "fallthrough .",
        "fallthrough {$ZONE}",
        "endpoint https://10.0.0.1",
        "tls a b c",
        "kubeconfig x",
        "ttl",
        "ttl 3601",
        "ttl -1",
        "ttl {$TTL}",
        "brand_new_option",
    ];
    for option in options {
        let text = format!(".:53 {{\n kubernetes cluster.local {{\n {option}\n }}\n}}");
        let outcome = settings(&text, None);
        assert!(matches!(outcome, ZoneSettings::Forwarded(_)), "{option}: {outcome:?}");
    }
}

#[test]
fn reasons_are_sentences() {
    let cases = [
        ("", "no server block of the Corefile has the kubernetes plugin"),
        (". {\n kubernetes\n}", "the kubernetes plugin answers for the root zone"),
        (". {\n kubernetes ip6.arpa\n}", "the kubernetes plugin has no zone of names"),
        (
            "import custom/*.server\n. {\n kubernetes a.org\n}",
            "the Corefile imports custom/*.server, which is not known here",
        ),
        (
            ". {\n kubernetes a.org\n}\nb.org {\n kubernetes b.org\n}",
            "the Corefile has the kubernetes plugin 2 times, and not once for cluster.local",
        ),
        (
            ". {\n kubernetes {$ZONE}\n}",
            "the cluster's zone is an environment variable of CoreDNS, which is not known here \
             (say --cluster-domain)",
        ),
        ("b.org {\n kubernetes a.org\n}", "the server block of line 1 does not serve a.org"),
        (
            ". {\n kubernetes a.org\n}\na.org {\n whoami\n}",
            "the server block of line 4 may answer names of a.org",
        ),
        (
            "a.org {\n kubernetes\n}\nx.svc.a.org:53 {\n whoami\n}",
            "the server block of line 4 may answer names of a.org",
        ),
        (
            "a.org a.org:5353 {\n kubernetes\n}\na.org:5353 {\n whoami\n}",
            "the server block of line 4 may answer names of a.org",
        ),
        (
            ". {\n kubernetes a.org\n}\n. {\n view x {\n }\n whoami\n}",
            "the server block of line 4 may answer names of a.org",
        ),
        (
            ". {\n kubernetes a.org\n}\n{$STUB} {\n whoami\n}",
            "the server block of line 4 may answer names of a.org",
        ),
        (
            ". {\n kubernetes a.org\n rewrite name x y\n}",
            "line 3 of the Corefile, `rewrite name x y`, may alter answers for the cluster",
        ),
        (
            ". {\n kubernetes a.org {\n  zonal\n }\n}",
            "line 3 of the Corefile, `zonal` of the kubernetes plugin, may alter answers for the \
             cluster",
        ),
        (
            ". {\n kubernetes a.org {\n  labels a b\n }\n}",
            "line 3 of the Corefile, `labels a b`: \"a b\" in a label selector: \"a b\" is not the key \
             of a label",
        ),
        (
            ". {\n kubernetes a.org {\n  ttl 3601\n }\n}",
            "line 3 of the Corefile, `ttl 3601`: not a TTL",
        ),
    ];
    for (corefile, expect) in cases {
        assert_eq!(outcome(corefile, None), expect, "{corefile:?}");
    }
}

#[test]
fn what_is_to_blame() {
    let cases = [
        ("", None, "cluster.local corefile"),
        ("import x/*\n. {\n kubernetes a.org\n}", Some("a.org"), "a.org corefile"),
        (". {\n kubernetes\n}", None, "cluster.local kubernetes"),
        (". {\n kubernetes a.org\n}\na.org {\n whoami\n}", None, "a.org server_block"),
        (". {\n kubernetes a.org\n acl\n}", None, "a.org plugin"),
        (". {\n kubernetes a.org {\n zonal\n }\n}", None, "a.org kubernetes"),
        (". {\n kubernetes a.org\n cache 5 svc.a.org\n}", None, "a.org cache"),
    ];
    for (corefile, domain, expect) in cases {
        let ZoneSettings::Forwarded(left) = settings(corefile, domain) else {
            panic!("{corefile}")
        };
        assert_eq!(format!("{} {}", left.zone, left.cause.label()), expect, "{corefile:?}");
    }
}

fn answer_settings(corefile: &str) -> ClusterSettings {
    match settings(corefile, None) {
        ZoneSettings::Answered(settings) => settings,
        ZoneSettings::Forwarded(LeftZone { reason, .. }) => panic!("{corefile:?}: {reason}"),
    }
}

#[test]
fn what_the_defaults_of_installers_say() {
    let kubeadm = answer_settings(KUBEADM);
    assert_eq!((kubeadm.pods, kubeadm.endpoints), (Pods::Insecure, EndpointNames::Address));
    assert_eq!((kubeadm.ttls.data_s, kubeadm.ttls.version_s), (30, Some(30)));
    let reverse = |settings: &ClusterSettings| {
        let zones = settings.reverse_zones.iter();
        zones.map(|zone| format!("{} {}", zone.name, zone.passes_on)).collect::<Vec<_>>()
    };
    assert_eq!(reverse(&kubeadm), ["in-addr.arpa true", "ip6.arpa true"]);
    assert!(kubeadm.shuffles);
    let forwarded = kubeadm.forwarded;
    assert_eq!((forwarded.other_classes, forwarded.transfers, forwarded.ds), (false, false, false));

    let bare = answer_settings(". {\n kubernetes a.org in-addr.arpa {\n pods verified\n }\n}");
    assert_eq!((bare.pods, bare.shuffles), (Pods::Verified, false));
    assert_eq!((bare.ttls.data_s, bare.ttls.version_s), (5, Some(28800)));
    assert_eq!(reverse(&bare), ["in-addr.arpa false"]);
    assert!(bare.forwarded.other_classes, "refused without `forward`");

    let options = "a.org {\n kubernetes {\n endpoint_pod_names\n noendpoints\n }\n transfer\n}";
    let other = answer_settings(&format!("{options}\norg {{\n forward . 10.0.0.1\n}}"));
    assert_eq!((other.pods, other.endpoints), (Pods::Disabled, EndpointNames::None));
    let forwarded = other.forwarded;
    assert_eq!((forwarded.other_classes, forwarded.transfers, forwarded.ds), (false, true, true));
}

#[test]
fn doubtful_reverse_zones_are_left_alone() {
    let cases = [
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}", 2),
        (". {\n kubernetes a.org in-addr.arpa 10.0.0.0/8\n}", 0),
        (". {\n kubernetes a.org in-addr.arpa 10.in-addr.arpa\n}", 0),
        (". {\n kubernetes a.org in-addr.arpa {$REVERSE}\n}", 0),
        (". {\n hosts {\n fallthrough\n }\n kubernetes a.org in-addr.arpa\n}", 0),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\n10.in-addr.arpa {\n whoami\n}", 1),
        (". {\n kubernetes a.org in-addr.arpa\n cache 5 10.in-addr.arpa\n}", 0),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\n10.0.0.0/24 {\n whoami\n}", 1),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\n10.0.0.0/24:53 {\n whoami\n}", 1),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\ndns://10.0.0.0/8 {\n whoami\n}", 1),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\n10.0.0.0/24:5353 {\n whoami\n}", 2),
        (". {\n kubernetes a.org in-addr.arpa ip6.arpa\n}\n::ffff:10.0.0.0/120 {\n whoami\n}", 0),
        (". {\n kubernetes a.org 1.10.in-addr.arpa\n}\n10.0.0.0/12 {\n whoami\n}", 0),
        ("a.org in-addr.arpa:5353 {\n kubernetes a.org in-addr.arpa\n}", 0),
    ];
    for (corefile, expect) in cases {
        assert_eq!(answer_settings(corefile).reverse_zones.len(), expect, "{corefile}");
    }
    let parent = "a.org in-addr.arpa {\n kubernetes\n}\narpa {\n whoami\n}";
    let parent = answer_settings(parent);
    assert_eq!((parent.reverse_zones.len(), parent.forwarded.ds), (1, true), "DS of in-addr.arpa");
    let two = settings(". {\n kubernetes a.org b.org in-addr.arpa\n}", Some("b.org"));
    let ZoneSettings::Answered(two) = two else { panic!("{two:?}") };
    assert_eq!(two.reverse_zones, [], "PTR records name a.org");
}

#[test]
fn further_zones_have_settings_of_their_own() {
    // The Corefile; of each zone its TTL or what is to blame, and how many reverse
    // zones; whether the kernel may answer for the first one.
    let cases = [
        (". {\n kubernetes a.org\n}", "a.org 5 0", true),
        (
            ". {\n kubernetes a.org b.org in-addr.arpa c.org {\n ttl 9\n }\n}",
            "a.org 9 1, b.org 9 0, c.org 9 0",
            true,
        ),
        (". {\n kubernetes a.org x.a.org\n}", "a.org 5 0, x.a.org 5 0", false),
        (". {\n kubernetes x.a.org a.org\n}", "x.a.org 5 0, a.org 5 0", true),
        (
            "cluster.local {\n kubernetes {\n ttl 9\n }\n}\nb.org {\n kubernetes b.org\n}",
            "cluster.local 9 0, b.org 5 0",
            true,
        ),
        (
            ". {\n kubernetes cluster.local in-addr.arpa\n}\nb.org {\n kubernetes b.org\n rewrite x\n}",
            "cluster.local 5 1, b.org plugin",
            true,
        ),
        (
            ". {\n kubernetes cluster.local\n}\nx.cluster.local {\n kubernetes\n}",
            "cluster.local server_block, x.cluster.local 5 0",
            false,
        ),
        (
            ". {\n kubernetes cluster.local {\n pods verified\n }\n}\n\
             b.org {\n kubernetes {\n pods verified\n labels x\n }\n}",
            "cluster.local 5 0, b.org kubernetes",
            true,
        ),
        (
            ". {\n kubernetes cluster.local {\n pods verified\n }\n}\n\
             b.org {\n kubernetes {\n pods verified\n }\n}",
            "cluster.local 5 0, b.org 5 0",
            true,
        ),
        (". {\n kubernetes a.org {$B} c.org\n}", "a.org 5 0, c.org 5 0", true),
    ];
    for (corefile, expect, in_kernel) in cases {
        let zones = cluster_zones(Some(corefile), None).unwrap();
        let show = |zone: &ZoneSettings| match zone {
            ZoneSettings::Answered(it) => {
                format!("{} {} {}", it.zone, it.ttls.minimum_s, it.reverse_zones.len())
            }
            ZoneSettings::Forwarded(left) => format!("{} {}", left.zone, left.cause.label()),
        };
        let shown: Vec<_> = zones.iter().map(show).collect();
        assert_eq!(shown.join(", "), expect, "{corefile}");
        assert_eq!(zones.of_kernel().is_some(), in_kernel, "{corefile}");
    }
}

#[test]
fn zones_beyond_a_number_are_left_to_coredns() {
    let read = |count: usize| {
        let names: Vec<_> = (1..count).map(|n| format!("zone-{n}.example")).collect();
        let text = format!(".:53 {{\n kubernetes cluster.local {}\n}}\n", names.join(" "));
        cluster_zones(Some(&text), None).unwrap()
    };
    assert!(matches!(read(super::ZONES_MAX).cluster, ZoneSettings::Answered(_)));
    let zones = read(super::ZONES_MAX + 1);
    assert_eq!(zones.left().count(), super::ZONES_MAX + 1, "none is forgotten");
    let reason = zones.left().next().map(|left| left.reason.as_str());
    assert_eq!(reason, Some("101 zones of the kubernetes plugin are more than 100"));
}
