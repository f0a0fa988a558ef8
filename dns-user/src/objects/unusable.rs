//! An object that is there but malformed. What it would say is unknown, so
//! nothing may be concluded from its absence.

use serde_json::Value;

use super::{Kind, ObjectName, endpoint_slice::SERVICE_NAME};

/// An object of which only the name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// What it should be.
    pub kind: Kind,
    /// Its name; parts that cannot be read are empty.
    pub name: ObjectName,
    /// The Service that an EndpointSlice names; None when that cannot be read.
    pub service: Option<String>,
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
#[error("{reason:#}")]
pub struct Malformed {
    /// What is known of it all the same.
    pub unusable: Unusable,
    /// What is wrong.
    pub reason: anyhow::Error,
}

impl Unusable {
    /// Returns what is known of the object in `json`. None for a slice that names
    /// no Service, whatever else it says.
    pub(super) fn from_json(kind: Kind, json: &Value) -> Option<Self> {
        let name = ObjectName::from_json(json);
        let labels = json.pointer("/metadata/labels");
        let service = match labels {
            _ if kind != Kind::EndpointSlice => None,
            Some(Value::Object(labels)) => match labels.get(SERVICE_NAME) {
                Some(Value::String(service)) if !service.is_empty() => Some(service.clone()),
                None | Some(Value::Null | Value::String(_)) => return None,
                Some(_) => None,
            },
            None | Some(Value::Null) if json.pointer("/metadata").is_some_and(Value::is_object) => {
                return None;
            }
            _ => None,
        };
        Some(Self { kind, name, service })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Kind, Object, builders::mk_name};

    /// Returns the Service of a malformed slice.
    fn service_of(metadata: &Value) -> String {
        let json = json!({"metadata": metadata, "endpoints": 7});
        match Object::from_json(Kind::EndpointSlice, json) {
            Ok(None) => "none".to_owned(),
            Ok(other) => panic!("{other:?}"),
            Err(malformed) => malformed.unusable.service.unwrap_or("unknown".to_owned()),
        }
    }

    #[test]
    fn a_malformed_slice_may_still_name_its_service() {
        let label = |value: Value| json!({"labels": {"kubernetes.io/service-name": value}});
        let cases = [
            (label(json!("web")), "web"),
            (label(json!(["web"])), "unknown"),
            (json!({"labels": "web"}), "unknown"),
            (json!([]), "unknown"),
            (label(json!("")), "none"),
            (label(json!(null)), "none"),
            (json!({"labels": {"app": "web"}}), "none"),
            (json!({"labels": null}), "none"),
            (json!({}), "none"),
        ];
        for (metadata, expect) in cases {
            assert_eq!(service_of(&metadata), expect, "{metadata}");
        }
    }

    #[test]
    fn the_name_is_kept_as_far_as_it_can_be_read() {
        let cases = [
            (json!({"metadata": {"namespace": "prod", "name": "web"}, "spec": 7}), "prod/web"),
            (json!({"metadata": {"namespace": "prod", "name": 7}}), "prod/"),
            (json!(7), "/"),
        ];
        for (json, expect) in cases {
            let malformed = Object::from_json(Kind::Service, json.clone()).unwrap_err();
            assert_eq!(malformed.unusable.name, mk_name(expect), "{json}");
        }
    }
}
