//! The few fields of Kubernetes objects that decide an answer, and the events
//! in which they arrive.
//!
//! Conversion from the API types strips everything else at once, and says what
//! is wrong with an object that cannot be used.

mod api;
#[cfg(test)]
pub(crate) mod builders;
mod config_map;
mod endpoint_slice;
mod endpoints;
mod labels;
mod namespace;
mod pod;
mod ports;
mod service;
mod unusable;

use std::{fmt, net::IpAddr, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use endpoints::{Endpoint, Endpoints, NewEndpoint};
pub use labels::Labels;
pub use ports::{Port, Ports};
pub use unusable::{Malformed, Unusable};

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Empty for a Namespace.
    pub namespace: String,
    /// Unique for its kind in the namespace.
    pub name: String,
}

impl ObjectName {
    /// Returns the name of the object in `json` as far as it has one, for the
    /// log: missing parts are empty.
    pub fn from_json(json: &Value) -> Self {
        let part = |key| json.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { namespace: part("/metadata/namespace"), name: part("/metadata/name") }
    }
}

impl AsRef<Self> for ObjectName {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1 Namespace.
    Namespace,
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// core/v1 ConfigMap: only the one with CoreDNS's Corefile.
    ConfigMap,
    /// core/v1 Pod: only while CoreDNS's settings ask for them.
    Pod,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Namespace, Self::Service, Self::EndpointSlice, Self::ConfigMap, Self::Pod];

    /// Those that are watched whatever the settings are.
    pub const ALWAYS: [Self; 4] =
        [Self::Namespace, Self::Service, Self::EndpointSlice, Self::ConfigMap];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ConfigMap => "ConfigMap",
            Self::Pod => "Pod",
        })
    }
}

/// What the annotation `nodedns.io/datapath` says about the kernel's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `on`: the Pod gets them, even if its Namespace says otherwise.
    On,
    /// `off`: every query is left to the agent.
    Off,
}

impl Switch {
    /// None when there is no such annotation, or it says anything else.
    fn of(metadata: &api::Metadata) -> Option<Self> {
        match metadata.annotations.as_ref()?.datapath.as_deref()? {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// A Namespace: that it exists matters, and whether it is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether its Pods get answers from the kernel.
    pub datapath: Option<Switch>,
}

/// What a Service is to DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// ClusterIP, NodePort or LoadBalancer, with its clusterIPs in spec order;
    /// empty while none is allocated.
    ClusterIp(Box<[IpAddr]>),
    /// The first clusterIP is `None`.
    Headless,
    /// An alias; the target as in the object.
    ExternalName(Box<str>),
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// Type and addresses.
    pub kind: ServiceKind,
    /// Ports in spec order.
    pub ports: Ports,
    /// Its labels.
    pub labels: Labels,
}

impl Service {
    /// Returns its clusterIPs; none of one that is headless, an alias, or not allocated yet.
    pub fn cluster_ips(&self) -> &[IpAddr] {
        match &self.kind {
            ServiceKind::ClusterIp(ips) => ips,
            ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
        }
    }
}

impl AsRef<ObjectName> for Service {
    fn as_ref(&self) -> &ObjectName {
        &self.name
    }
}

/// An EndpointSlice that belongs to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: ObjectName,
    /// Name of its Service, from the label `kubernetes.io/service-name`.
    pub service: Box<str>,
    /// False when the slice holds addresses that are not IP addresses
    /// (addressType FQDN), so that only CoreDNS can answer for its Service.
    pub is_ip: bool,
    /// Ports in the order of the slice.
    pub ports: Ports,
    /// Ready endpoints in the order of the slice.
    pub endpoints: Endpoints,
    /// Its labels.
    pub labels: Labels,
    /// When that happened of which the change to this tells. It decides no answer, and
    /// is taken out before the slice is kept.
    pub changed_at: Option<SystemTime>,
}

impl AsRef<ObjectName> for EndpointSlice {
    fn as_ref(&self) -> &ObjectName {
        &self.name
    }
}

impl EndpointSlice {
    /// Returns the name of the Service it belongs to.
    pub fn service_name(&self) -> ObjectName {
        ObjectName { namespace: self.name.namespace.clone(), name: self.service.to_string() }
    }
}

/// The ConfigMap of CoreDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Namespace and name.
    pub name: ObjectName,
    /// The key `Corefile`; None when the ConfigMap has no such key.
    pub corefile: Option<String>,
}

/// A Pod that runs or will, as CoreDNS has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its first address; None only while it is being deleted.
    pub ip: Option<IpAddr>,
    /// Whether it is being deleted: CoreDNS keeps what it knew before.
    pub is_terminating: bool,
    /// Its labels; none once it has been selected by them.
    pub labels: Labels,
    /// All its own addresses; none on the host's network, where they are the node's.
    pub own_ips: Vec<IpAddr>,
    /// Whether it gets answers from the kernel.
    pub datapath: Option<Switch>,
}

/// An object of one of the watched kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the type it names")]
pub enum Object {
    Namespace(Namespace),
    Service(Service),
    EndpointSlice(EndpointSlice),
    ConfigMap(ConfigMap),
    Pod(Pod),
    Unusable(Unusable),
}

impl Object {
    /// Converts an object of the API. None when it means nothing to DNS (a slice
    /// of no Service, a Pod that has no address or has ended); an error says what is
    /// wrong with it, and what is known all the same.
    pub fn from_json(kind: Kind, json: Value) -> Result<Option<Self>, Malformed> {
        let known = Unusable::from_json(kind, &json);
        match (Self::convert(kind, JsonValue(json)), known) {
            (Ok(object), _) => Ok(object),
            (Err(_), None) => Ok(None),
            (Err(reason), Some(unusable)) => Err(Malformed { unusable, reason }),
        }
    }

    /// Does the same from text, of which only the fields that count are looked at.
    /// Fails with None for what is no JSON.
    pub fn from_text(kind: Kind, text: &str) -> Result<Option<Self>, Option<Malformed>> {
        // What is wrong, and what is known all the same, needs a closer look.
        Self::convert(kind, JsonText(text)).or_else(|_| {
            let json = serde_json::from_str(text).map_err(|_no_json| None)?;
            Self::from_json(kind, json).map_err(Some)
        })
    }

    fn convert(kind: Kind, json: impl Json) -> Result<Option<Self>> {
        Ok(match kind {
            Kind::Namespace => Some(Self::Namespace(json.parse::<api::Namespace>()?.try_into()?)),
            Kind::Service => Some(Self::Service(json.parse::<api::Service>()?.try_into()?)),
            Kind::EndpointSlice => EndpointSlice::from_api(json.parse()?)?.map(Self::EndpointSlice),
            Kind::ConfigMap => Some(Self::ConfigMap(json.parse::<api::ConfigMap>()?.try_into()?)),
            Kind::Pod => Pod::from_api(json.parse()?)?.map(Self::Pod),
        })
    }

    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Pod(_) => Kind::Pod,
            Self::Unusable(object) => object.kind,
        }
    }

    /// Returns its name.
    pub fn name(&self) -> ObjectName {
        match self {
            Self::Namespace(object) => {
                ObjectName { namespace: String::new(), name: object.name.clone() }
            }
            Self::Service(object) => object.name.clone(),
            Self::EndpointSlice(object) => object.name.clone(),
            Self::ConfigMap(object) => object.name.clone(),
            Self::Pod(object) => object.name.clone(),
            Self::Unusable(object) => object.name.clone(),
        }
    }
}

/// JSON of an object, from which the API's types are read.
trait Json {
    fn parse<T: DeserializeOwned>(self) -> Result<T>;
}

const OTHER_FIELDS: &str = "it does not have the fields of its kind";

struct JsonValue(Value);

impl Json for JsonValue {
    fn parse<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_value(self.0).context(OTHER_FIELDS)
    }
}

struct JsonText<'a>(&'a str);

impl Json for JsonText<'_> {
    fn parse<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_str(self.0).context(OTHER_FIELDS)
    }
}

/// Reads an IP address in its canonical spelling (RFC 5952): CoreDNS goes by the
/// spelling for endpoint names, duplicates and PTR, so others are left to it.
fn parse_ip(text: &str) -> Result<IpAddr> {
    let ip: IpAddr = text.parse().with_context(|| format!("{text:?} is not an IP address"))?;
    let canonical = ip.to_canonical();
    ensure!(canonical.to_string() == text, "{text:?} is not the canonical spelling of {canonical}");
    Ok(canonical)
}

/// Whether `text` can be a label as it is, in lower case.
pub(crate) fn is_label(text: &str) -> bool {
    /// Octets of a label at most (RFC 1035 section 2.3.4).
    const MAX_LABEL_LEN: usize = 63;
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=MAX_LABEL_LEN).contains(&text.len()) && text.bytes().all(is_plain)
}

fn parse_port_number(number: i32) -> Result<u16> {
    u16::try_from(number).with_context(|| format!("{number} is not a port number"))
}

/// Checks what a port is called: empty, or a label in any spelling.
fn check_port_text(text: &str) -> Result<()> {
    let is_sound = text.is_empty() || is_label(&text.to_ascii_lowercase());
    ensure!(is_sound, "{text:?} is not the name or the protocol of a port");
    Ok(())
}

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The object is now like this.
    Apply(Object),
    /// The object is gone.
    Delete(Kind, ObjectName),
    /// These are all objects of that kind: what is not among them is gone.
    Listed(Kind, Vec<Object>),
}
