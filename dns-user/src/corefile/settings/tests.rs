//! Corefiles as they are found, and what becomes of the zone.

use super::{ZoneSettings, cluster_zone};

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
    cluster_zone(Some(corefile), domain).unwrap()
}

/// Returns `zone ttl`, or the reason.
fn outcome(corefile: &str, domain: Option<&str>) -> String {
    match settings(corefile, domain) {
        ZoneSettings::Answered { zone, ttl_s } => format!("{zone} {ttl_s}"),
        ZoneSettings::Forwarded { reason } => reason,
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
    let answered = |zone: &str| ZoneSettings::Answered { zone: zone.into(), ttl_s: 5 };
    assert_eq!(cluster_zone(None, None).unwrap(), answered("cluster.local"));
    assert_eq!(cluster_zone(None, Some("a.org")).unwrap(), answered("a.org"));
}

#[test]
fn a_corefile_that_does_not_parse_is_an_error() {
    let error = cluster_zone(Some(". {\n kubernetes"), None).unwrap_err();
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
        "brand_new_plugin",
        "{$PLUGIN}",
        "kubernetes b.org",
    ];
    for plugin in plugins {
        let text = format!(".:53 {{\n kubernetes cluster.local\n {plugin}\n}}");
        let outcome = settings(&text, Some("cluster.local"));
        assert!(matches!(outcome, ZoneSettings::Forwarded { .. }), "{plugin}: {outcome:?}");
    }
    let options = [
        "namespaces prod",
        "namespace_labels a=b",
        "labels a=b",
        "noendpoints",
        "ignore empty_service",
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
        assert!(matches!(outcome, ZoneSettings::Forwarded { .. }), "{option}: {outcome:?}");
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
            ". {\n kubernetes a.org {\n  noendpoints\n }\n}",
            "line 3 of the Corefile, `noendpoints` of the kubernetes plugin, may alter answers for \
             the cluster",
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
