//! Corefiles of CoreDNS: as they stand in the ConfigMap that the agent reads, and
//! as a CoreDNS of a test runs them.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// A Corefile with one server block, for all zones.
#[derive(Clone, Copy, Debug)]
pub struct Corefile {
    /// What a test calls it.
    pub name: &'static str,
    /// Zones of the plugin `kubernetes`.
    pub zones: &'static str,
    /// Further server blocks: a zone, and options of its plugin `kubernetes`.
    pub blocks: &'static [(&'static str, &'static [&'static str])],
    /// Options of `kubernetes`, one to a line.
    pub kubernetes: &'static [&'static str],
    /// Its TTL, unless it is to have none.
    pub ttl_s: Option<u32>,
    /// The plugin `cache`, if there: the words behind it, and its options.
    pub cache: Option<(&'static str, &'static [&'static str])>,
    /// Other plugins, one to a line.
    pub plugins: &'static [&'static str],
    /// Whether names outside the cluster are forwarded.
    pub forwards: bool,
}

/// What is a CoreDNS's own: where it listens, whom it watches, whom it asks.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Where it answers.
    pub address: SocketAddr,
    /// The API server.
    pub kubeconfig: &'a Path,
    /// The server for names outside the cluster.
    pub upstream: SocketAddr,
}

/// Zones of `kubernetes` in kubeadm's Corefile.
pub const ZONES: &str = "cluster.local in-addr.arpa ip6.arpa";

impl Corefile {
    /// kubeadm's, without what opens ports beside DNS.
    pub const fn kubeadm() -> Self {
        Self {
            name: "kubeadm",
            zones: ZONES,
            blocks: &[],
            kubernetes: &["pods insecure", "fallthrough in-addr.arpa ip6.arpa"],
            ttl_s: Some(30),
            cache: Some(("30", &["disable success cluster.local", "disable denial cluster.local"])),
            plugins: &["errors", "loadbalance"],
            forwards: true,
        }
    }

    /// Returns the zones of names, not of addresses, that it answers for.
    pub fn name_zones(&self) -> Vec<&'static str> {
        let own = self.zones.split(' ').filter(|zone| zone.rsplit('.').next() != Some("arpa"));
        own.chain(self.blocks.iter().map(|(zone, _)| *zone)).collect()
    }

    /// Returns the TTL of a Service's record, as it leaves CoreDNS.
    ///
    /// Panics when `cache` has options that say otherwise than this can read.
    pub fn record_ttl_s(&self) -> u32 {
        let ttl_s = self.ttl_s.unwrap_or(5);
        let Some((most, options)) = self.cache else { return ttl_s };
        let success = options.iter().find_map(|option| option.strip_prefix("success "));
        let limits = success.map_or_else(Vec::new, |limits| limits.split(' ').collect::<Vec<_>>());
        let number = |text: &str| text.parse::<u32>().expect("a TTL in seconds");
        let most = limits.get(1).map_or(most, |most| *most);
        let most = if most.is_empty() { 3600 } else { number(most) };
        let least = limits.get(2).map_or(5, |least| number(least));
        ttl_s.max(least).min(most)
    }

    /// Returns the text for the ConfigMap.
    pub fn text(&self) -> String {
        self.write(":53", "", self.cache_block(|_| true, &[]), "", "/etc/resolv.conf")
    }

    /// Returns the server block of a CoreDNS that answers alike but stores
    /// nothing: a judge must not be late.
    pub fn running(&self, running: Running<'_>) -> String {
        let Running { address, kubeconfig, upstream } = running;
        let bind = match address.ip() {
            IpAddr::V4(ip) => format!("bind {ip}"),
            IpAddr::V6(ip) => format!("bind {ip}"),
        };
        let stores_nothing = ["disable success", "disable denial"];
        let cache = self.cache_block(|option| !option.starts_with("disable "), &stores_nothing);
        let kubeconfig = format!("kubeconfig {}", kubeconfig.display());
        let port = format!(":{}", address.port());
        self.write(&port, &bind, cache, &kubeconfig, &upstream.to_string())
    }

    fn cache_block(&self, keep: impl Fn(&str) -> bool, more: &[&str]) -> String {
        let Some((words, options)) = self.cache else { return String::new() };
        let options = options.iter().filter(|option| keep(option)).chain(more);
        let options: Vec<_> = options.map(|option| format!("        {option}\n")).collect();
        format!("cache {words} {{\n{}    }}", options.concat())
    }

    fn write(&self, port: &str, bind: &str, cache: String, more: &str, upstream: &str) -> String {
        let ttl = self.ttl_s.map(|ttl_s| format!("ttl {ttl_s}"));
        let options = self.kubernetes.iter().copied().chain(ttl.as_deref()).chain([more]);
        let options: Vec<_> = options.map(|option| format!("        {option}\n")).collect();
        let forward = if self.forwards { format!("forward . {upstream}") } else { String::new() };
        let kubernetes = format!("kubernetes {} {{\n{}    }}", self.zones, options.concat());
        let plugins = self.plugins.iter().map(|plugin| (*plugin).to_owned());
        let lines = [bind.to_owned(), kubernetes, forward, cache].into_iter().chain(plugins);
        let lines = lines.filter(|line| !line.is_empty()).map(|line| format!("    {line}\n"));
        let main = format!(".{port} {{\n{}}}\n", lines.collect::<String>());
        let blocks = self.blocks.iter().map(|(zone, options)| {
            let options = options.iter().copied().chain([more]);
            let options: Vec<_> = options.map(|option| format!("        {option}\n")).collect();
            let options = options.concat();
            format!("{zone}{port} {{\n    {bind}\n    kubernetes {zone} {{\n{options}    }}\n}}\n")
        });
        [main].into_iter().chain(blocks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_written() {
        let text = Corefile::kubeadm().text();
        assert!(text.starts_with(".:53 {\n    kubernetes cluster.local in-addr.arpa"), "{text}");
        assert!(text.contains("        ttl 30\n"), "{text}");
        assert!(text.contains("        disable success cluster.local\n"), "{text}");
        let running = Running {
            address: "10.99.0.10:1053".parse().unwrap(),
            kubeconfig: Path::new("/k"),
            upstream: "10.99.0.1:5300".parse().unwrap(),
        };
        let text = Corefile::kubeadm().running(running);
        assert!(text.starts_with(".:1053 {\n    bind 10.99.0.10\n"), "{text}");
        assert!(text.contains("        kubeconfig /k\n"), "{text}");
        assert!(text.contains("        disable success\n"), "{text}");
        assert!(text.contains("    forward . 10.99.0.1:5300\n"), "{text}");
    }

    #[test]
    fn ttls_are_those_that_leave_the_cache() {
        let with = |ttl_s, cache| Corefile { ttl_s, cache, ..Corefile::kubeadm() }.record_ttl_s();
        assert_eq!(with(None, None), 5);
        assert_eq!(with(Some(0), None), 0);
        assert_eq!(with(Some(0), Some(("30", &[]))), 5);
        assert_eq!(with(Some(60), Some(("30", &[]))), 30);
        assert_eq!(with(Some(60), Some(("", &["success 100 17 7"]))), 17);
        assert_eq!(with(Some(1), Some(("", &["success 100 17 7"]))), 7);
    }
}
