//! An object as it arrives: converted one by one while a list or a watch is
//! being read, so that one malformed object costs only itself, and stripped at
//! once, so that a list of thousands stays small.

use std::{borrow::Cow, fmt, marker::PhantomData};

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
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

/// What kube's watcher and a log line need of an object.
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
}

impl From<Identity> for ObjectMeta {
    fn from(Identity { name, namespace, resource_version }: Identity) -> Self {
        Self { name, namespace, resource_version, ..Self::default() }
    }
}

/// An object of the API type `A`, well-formed or not. Reading one never fails.
pub(super) struct Arrived<A> {
    /// Only what kube's watcher and a log line need.
    metadata: ObjectMeta,
    object: Result<Option<Object>, (Unusable, String)>,
    api: PhantomData<fn() -> A>,
}

impl<A> Arrived<A> {
    /// Returns namespace and name, empty where missing.
    pub(super) fn name(&self) -> ObjectName {
        ObjectName {
            namespace: self.metadata.namespace.clone().unwrap_or_default(),
            name: self.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Returns the object; None when it means nothing to DNS, what is known of it
    /// and what is wrong when it is malformed.
    pub(super) fn into_object(self) -> Result<Option<Object>, (Unusable, String)> {
        self.object
    }
}

impl<'de, A: Watched> Deserialize<'de> for Arrived<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Needs the text itself, which there is as long as a watch event's type comes
        // before its object, as API servers write it. Otherwise the line counts as one
        // that cannot be read.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let identity = Identity::read(text).map_err(D::Error::custom)?;
        let object = match Object::from_text(A::KIND, text) {
            Ok(object) => Ok(object),
            Err(Some(error)) => Err((error.unusable.clone(), error.to_string())),
            Err(None) => return Err(D::Error::custom("no JSON")),
        };
        Ok(Self { metadata: identity.into(), object, api: PhantomData })
    }
}

impl<A> Clone for Arrived<A> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), object: self.object.clone(), api: PhantomData }
    }
}

impl<A> fmt::Debug for Arrived<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Arrived").field(&self.object).finish()
    }
}

impl<A: Watched> Resource for Arrived<A> {
    type DynamicType = ();
    type Scope = A::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        A::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        A::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        A::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        A::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
