//! An object as it arrives: converted one by one while a list or a watch is
//! being read, so that one malformed object costs only itself, and stripped at
//! once, so that a list of thousands stays small.

use std::marker::PhantomData;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, value::RawValue};

use crate::objects::{Kind, Object, ObjectName, Unusable};

/// API types that are watched.
pub(super) trait Watched: Resource<DynamicType = ()> + Send + Sync + 'static {
    /// Ours of the kind.
    const KIND: Kind;
}

impl Watched for core::Namespace {
    const KIND: Kind = Kind::Namespace;
}

impl Watched for core::Service {
    const KIND: Kind = Kind::Service;
}

impl Watched for discovery::EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
}

impl Watched for core::ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
}

impl Watched for core::Pod {
    const KIND: Kind = Kind::Pod;
}

/// What an object is to DNS: nothing, if None; what is known of it and what is wrong,
/// if it is malformed.
pub(super) type Read = Result<Option<Object>, (Unusable, String)>;

/// Reads the JSON of an object of the API type `A`; None for what is no JSON.
pub(super) fn read<A: Watched>(text: &str) -> Option<Read> {
    Some(match Object::from_text(A::KIND, text) {
        Ok(object) => Ok(object),
        Err(error) => error.map(|error| Err((error.unusable.clone(), error.to_string())))?,
    })
}

/// Returns the name of the object in JSON as far as it has one, for the log.
pub(super) fn name_in(text: &str) -> ObjectName {
    Identity::read(text).unwrap_or_default().into_name()
}

/// What a watch and a log line need of an object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl Identity {
    /// Reads it from JSON, as far as it is there. Fails for what is no JSON.
    fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Identified {
            metadata: Identity,
        }
        if let Ok(object) = serde_json::from_str::<Identified>(text) {
            return Ok(object.metadata);
        }
        let json: Value = serde_json::from_str(text)?;
        let text = |path| json.pointer(path).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            resource_version: text("/metadata/resourceVersion"),
        })
    }

    fn into_name(self) -> ObjectName {
        ObjectName {
            namespace: self.namespace.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
        }
    }
}

/// An object of the API type `A` in a watch, well-formed or not. Reading one never
/// fails, unless it is no JSON.
pub(super) struct Arrived<A> {
    /// Empty where missing.
    pub(super) name: ObjectName,
    /// At which version of what is watched it is so.
    pub(super) version: Option<String>,
    pub(super) object: Read,
    api: PhantomData<fn() -> A>,
}

impl<'de, A: Watched> Deserialize<'de> for Arrived<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Needs the text itself, which there is as long as a watch event's type comes
        // before its object, as API servers write it. Otherwise the line counts as one
        // that cannot be read.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut identity = Identity::read(text).map_err(D::Error::custom)?;
        let version = identity.resource_version.take();
        let object = read::<A>(text).ok_or_else(|| D::Error::custom("no JSON"))?;
        Ok(Self { name: identity.into_name(), version, object, api: PhantomData })
    }
}

// Not derived, which would ask the same of `A`.
impl<A> Clone for Arrived<A> {
    fn clone(&self) -> Self {
        let Self { name, version, object, api } = self;
        let (name, version, object) = (name.clone(), version.clone(), object.clone());
        Self { name, version, object, api: *api }
    }
}
