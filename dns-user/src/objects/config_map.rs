//! From the API's ConfigMap.

use anyhow::{Error, Result};

use super::{ConfigMap, api};

/// Key under which CoreDNS's ConfigMap holds its settings.
const COREFILE: &str = "Corefile";

impl TryFrom<api::ConfigMap> for ConfigMap {
    type Error = Error;

    fn try_from(object: api::ConfigMap) -> Result<Self> {
        Ok(Self {
            name: object.metadata.into_name()?,
            corefile: object.data.and_then(|mut data| data.remove(COREFILE)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Kind, Object};

    fn corefile(data: &Value) -> Option<String> {
        let metadata = json!({"namespace": "kube-system", "name": "coredns"});
        let json = json!({"metadata": metadata, "data": data});
        match Object::from_json(Kind::ConfigMap, json).unwrap() {
            Some(Object::ConfigMap(map)) => map.corefile,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_corefile_is_kept() {
        let data = json!({"Corefile": ".:53 {}", "custom.server": "x"});
        assert_eq!(corefile(&data).as_deref(), Some(".:53 {}"));
    }

    #[test]
    fn a_config_map_without_corefile_is_sound() {
        for data in [json!(null), json!({}), json!({"corefile": "lower case is another key"})] {
            assert_eq!(corefile(&data), None, "{data}");
        }
    }

    #[test]
    fn a_config_map_without_namespace_is_refused() {
        let json = json!({"metadata": {"name": "coredns"}});
        let error = Object::from_json(Kind::ConfigMap, json).unwrap_err();
        assert_eq!(error.to_string(), "it has no namespace");
    }
}
