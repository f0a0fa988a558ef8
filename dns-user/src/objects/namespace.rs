//! From the API's Namespace.

use anyhow::{Context as _, Error, Result};
use k8s_openapi::api::core::v1 as api;

use super::Namespace;

impl TryFrom<api::Namespace> for Namespace {
    type Error = Error;

    fn try_from(object: api::Namespace) -> Result<Self> {
        let name = object.metadata.name.filter(|name| !name.is_empty());
        Ok(Self { name: name.context("it has no name")? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Kind, Namespace, Object};

    #[test]
    fn a_namespace_is_its_name() {
        let json = json!({"metadata": {"name": "prod"}, "status": {"phase": "Terminating"}});
        let object = Object::from_json(Kind::Namespace, json).unwrap();
        assert_eq!(object, Some(Object::Namespace(Namespace { name: "prod".into() })));
    }

    #[test]
    fn a_namespace_without_a_name_is_refused() {
        for json in [json!({}), json!({"metadata": {"name": ""}}), json!(7), json!(null)] {
            assert!(Object::from_json(Kind::Namespace, json.clone()).is_err(), "{json}");
        }
    }
}
