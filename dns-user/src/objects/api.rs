//! The fields of the API's objects that are read, and no others: what an API
//! server sends is mostly `managedFields` and annotations.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::IgnoredAny};

use super::ObjectName;

/// `ObjectMeta`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<Annotations>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
}

/// The annotations that are read.
#[derive(Debug, Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "nodedns.io/datapath")]
    pub(super) datapath: Option<String>,
    /// Of an EndpointSlice: when what led to its last change happened (RFC 3339).
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(super) changed_at: Option<String>,
}

impl Metadata {
    /// Returns namespace and name of an object that has both.
    pub(super) fn into_name(self) -> Result<ObjectName> {
        let namespace = self.namespace.filter(|namespace| !namespace.is_empty());
        Ok(ObjectName {
            name: self.name.filter(|name| !name.is_empty()).context("it has no name")?,
            namespace: namespace.context("it has no namespace")?,
        })
    }
}

/// `Namespace`.
#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    #[serde(default)]
    pub(super) metadata: Metadata,
}

/// `ConfigMap`.
#[derive(Debug, Deserialize)]
pub(super) struct ConfigMap {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) data: Option<BTreeMap<String, String>>,
}

/// `Service`.
#[derive(Debug, Deserialize)]
pub(super) struct Service {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: Option<ServiceSpec>,
}

/// `ServiceSpec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) service_type: Option<String>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub(super) cluster_ips: Option<Vec<String>>,
    pub(super) external_name: Option<String>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

/// `ServicePort`.
#[derive(Debug, Deserialize)]
pub(super) struct ServicePort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    #[serde(default)]
    pub(super) port: i32,
}

/// `EndpointSlice`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) address_type: Option<String>,
    pub(super) endpoints: Option<Vec<Endpoint>>,
    pub(super) ports: Option<Vec<EndpointPort>>,
}

/// `Endpoint`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) addresses: Option<Vec<String>>,
    pub(super) conditions: Option<Conditions>,
    pub(super) hostname: Option<String>,
    pub(super) target_ref: Option<Target>,
}

/// `EndpointConditions`.
#[derive(Debug, Deserialize)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
}

/// `ObjectReference`.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) name: Option<String>,
}

/// `EndpointPort`.
#[derive(Debug, Deserialize)]
pub(super) struct EndpointPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) port: Option<i32>,
}

/// `Pod`.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: Option<PodSpec>,
    pub(super) status: Option<PodStatus>,
}

/// `PodSpec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) host_network: Option<bool>,
}

/// `PodStatus`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PodStatus {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodIp>>,
}

/// `PodIP`.
#[derive(Debug, Deserialize)]
pub(super) struct PodIp {
    pub(super) ip: Option<String>,
}
