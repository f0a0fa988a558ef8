//! Corefiles under which random clusters are compared. Each has a TTL of its own,
//! by which the agent is seen to follow it.

use harness::corefile::{Corefile, ZONES};

const KUBEADM: Corefile = Corefile::kubeadm();
const REVERSE: &str = "fallthrough in-addr.arpa ip6.arpa";

/// One more line here is one more kind of cluster.
pub const PROFILES: [Corefile; 17] = [
    KUBEADM,
    // TTL 5.
    Corefile { name: "kubespray", ttl_s: None, cache: Some(("30", &[])), ..KUBEADM },
    Corefile { name: "plain", ttl_s: Some(60), cache: None, plugins: &[], ..KUBEADM },
    Corefile { name: "TTL 0", ttl_s: Some(0), cache: None, ..KUBEADM },
    Corefile { name: "pods disabled", ttl_s: Some(11), kubernetes: &[REVERSE], ..KUBEADM },
    Corefile {
        name: "endpoint_pod_names",
        ttl_s: Some(12),
        kubernetes: &["pods insecure", "endpoint_pod_names", REVERSE],
        ..KUBEADM
    },
    Corefile {
        name: "noendpoints",
        ttl_s: Some(13),
        kubernetes: &["pods insecure", "noendpoints", REVERSE],
        ..KUBEADM
    },
    Corefile { name: "no fallthrough", ttl_s: Some(14), kubernetes: &["pods insecure"], ..KUBEADM },
    Corefile { name: "no reverse zones", ttl_s: Some(15), zones: "cluster.local", ..KUBEADM },
    Corefile {
        name: "cache's own TTLs",
        ttl_s: Some(40),
        zones: ZONES,
        cache: Some(("", &["success 1000 17 7", "denial 1000 9"])),
        ..KUBEADM
    },
    Corefile {
        name: "namespaces",
        ttl_s: Some(21),
        kubernetes: &["pods insecure", "namespaces default marks mark prod svc a com", REVERSE],
        ..KUBEADM
    },
    Corefile {
        name: "namespace_labels",
        ttl_s: Some(22),
        kubernetes: &["pods insecure", "namespace_labels team=red", REVERSE],
        ..KUBEADM
    },
    Corefile {
        name: "labels",
        ttl_s: Some(23),
        kubernetes: &["pods insecure", "labels team in (red,)", REVERSE],
        ..KUBEADM
    },
    Corefile {
        name: "ignore empty_service",
        ttl_s: Some(24),
        kubernetes: &["pods insecure", "ignore empty_service", REVERSE],
        ..KUBEADM
    },
    Corefile {
        name: "two zones",
        ttl_s: Some(25),
        zones: "cluster.local other.example in-addr.arpa ip6.arpa",
        ..KUBEADM
    },
    Corefile {
        name: NESTED,
        ttl_s: Some(26),
        zones: "cluster.local local prod.svc.cluster.local in-addr.arpa ip6.arpa",
        ..KUBEADM
    },
    Corefile {
        name: "two server blocks",
        ttl_s: Some(27),
        blocks: &[
            ("other.example", &["ttl 3", "endpoint_pod_names"]),
            ("labels.example", &["ttl 4", "pods insecure", "labels team in (red,)"]),
        ],
        ..KUBEADM
    },
];

const NESTED: &str = "nested zones";

/// Whether the kernel has the names of the cluster's zone: unless another zone is a
/// part of it.
pub fn has_kernel(profile: &Corefile) -> bool {
    profile.name != NESTED
}

/// Whether endpoints have names, so that slices can be seen at all.
pub fn has_endpoints(profile: &Corefile) -> bool {
    !profile.kubernetes.contains(&"noendpoints")
}

/// Whether all endpoints that are ready have names.
pub fn shows_all_endpoints(profile: &Corefile) -> bool {
    has_endpoints(profile) && !profile.kubernetes.iter().any(|line| line.starts_with("labels "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ttls_tell_them_apart() {
        let ttls: BTreeSet<_> = PROFILES.iter().map(Corefile::record_ttl_s).collect();
        assert_eq!(ttls.len(), PROFILES.len(), "{ttls:?}");
    }
}
