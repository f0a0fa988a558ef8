//! The environment variables by which kubelet tells a Pod of Services. Pure.
//!
//! As kubelet 1.36 does it: `getServiceEnvVarMap` in `pkg/kubelet/kubelet_pods.go`
//! chooses the Services, `FromServices` in `pkg/kubelet/envvars/envvars.go` makes
//! variables of each. Names are not checked: a Service `1st` gives `1ST_PORT`,
//! which most shells cannot name and every process can read.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use crate::{
    index::Index,
    objects::{ObjectName, Port, Service},
};

/// Namespace and name of the Service that every Pod is told of: the API server's.
const MASTER_SERVICE: (&str, &str) = ("default", "kubernetes");

/// Protocol of a port that names none.
const DEFAULT_PROTOCOL: &str = "TCP";

/// Whether a Pod is told of the Services of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLinks {
    /// Of all of them, which is the default.
    Enabled,
    /// The Pod says `enableServiceLinks: false`: of the API server's alone.
    Disabled,
}

impl From<bool> for ServiceLinks {
    /// As `enableServiceLinks` of a Pod says.
    fn from(enabled: bool) -> Self {
        if enabled { Self::Enabled } else { Self::Disabled }
    }
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A variable to which two Services give different values, as `a` with a port
/// and `a-service` do to `A_SERVICE_PORT`. Kubelet takes any one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// Name of the variable.
    pub variable: String,
    /// The Service whose value does not count here.
    pub loser: ObjectName,
    /// The Service whose value counts here.
    pub winner: ObjectName,
}

/// What a Pod is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Each name once. Kubelet keeps no order; here Services come in the order of
    /// their names, and the variables of each in the order in which kubelet makes
    /// them.
    pub variables: Vec<Variable>,
    /// Where the values here are one choice of several: of the Service that comes
    /// last.
    pub contested: Vec<Contested>,
}

/// Builds the Service variables of a Pod in a namespace.
pub fn build_environment(index: &Index, namespace: &str, links: ServiceLinks) -> Environment {
    let mut environment = Environment::default();
    let mut places: HashMap<String, (usize, &Service)> = HashMap::new();
    for (service, address) in choose_services(index, namespace, links).into_values() {
        for variable in build_variables(service, &address) {
            let next = environment.variables.len();
            let (place, giver) = places.entry(variable.name.clone()).or_insert((next, service));
            match environment.variables.get_mut(*place) {
                None => environment.variables.push(variable),
                Some(older) => {
                    if older.value != variable.value {
                        environment.contested.push(Contested {
                            variable: variable.name,
                            loser: giver.name.clone(),
                            winner: service.name.clone(),
                        });
                        older.value = variable.value;
                    }
                    *giver = service;
                }
            }
        }
    }
    environment
}

/// Returns the Services a Pod is told of, by name, each with its first clusterIP.
/// The API server's Service gives way to one of its name in the Pod's namespace.
fn choose_services<'a>(
    index: &'a Index,
    namespace: &str,
    links: ServiceLinks,
) -> BTreeMap<&'a str, (&'a Service, String)> {
    let mut chosen = BTreeMap::new();
    for service in index.services() {
        let Some(address) = cluster_ip(service) else { continue };
        let ObjectName { namespace: its_namespace, name } = &service.name;
        if (its_namespace.as_str(), name.as_str()) == MASTER_SERVICE {
            chosen.entry(name.as_str()).or_insert((service, address));
        } else if its_namespace == namespace && links == ServiceLinks::Enabled {
            chosen.insert(name, (service, address));
        }
    }
    chosen
}

/// Returns the first clusterIP. None for a Service without: headless, an alias, or
/// not allocated yet.
fn cluster_ip(service: &Service) -> Option<String> {
    service.cluster_ips().first().map(IpAddr::to_string)
}

/// Returns the variables of one Service in kubelet's order. None without a port,
/// which the API server does not let happen (and kubelet would not survive).
fn build_variables(service: &Service, address: &str) -> Vec<Variable> {
    let numbered = |port: Port<'_>| port.number.map(|number| number.to_string());
    let ports: Vec<_> =
        service.ports.iter().filter_map(|port| Some((port, numbered(port)?))).collect();
    let Some((_, first)) = ports.first() else { return Vec::new() };
    let prefix = convert_name(&service.name.name);
    let mut variables = Vec::new();
    let mut give = |name: String, value: &str| {
        variables.push(Variable { name, value: value.to_owned() });
    };
    give(format!("{prefix}_SERVICE_HOST"), address);
    give(format!("{prefix}_SERVICE_PORT"), first);
    for (Port { name, .. }, number) in ports.iter().filter(|(port, _)| !port.name.is_empty()) {
        give(format!("{prefix}_SERVICE_PORT_{}", convert_name(name)), number);
    }
    for (position, (port, number)) in ports.iter().enumerate() {
        let protocol = match port.protocol {
            "" => DEFAULT_PROTOCOL,
            protocol => protocol,
        };
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{}", join_host_port(address, number));
        if position == 0 {
            give(format!("{prefix}_PORT"), &url);
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        give(link.clone(), &url);
        give(format!("{link}_PROTO"), &lower);
        give(format!("{link}_PORT"), number);
        give(format!("{link}_ADDR"), address);
    }
    variables
}

/// Returns the name of a Service or a port as part of a variable's name.
fn convert_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// Writes an IPv6 address in brackets, as every host with a colon.
fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
