//! From the API's Namespace.

use anyhow::{Context as _, Error, Result, ensure};

use super::{Labels, Namespace, Switch, api, is_label};

impl TryFrom<api::Namespace> for Namespace {
    type Error = Error;

    fn try_from(object: api::Namespace) -> Result<Self> {
        let datapath = Switch::of(&object.metadata);
        let name = object.metadata.name.filter(|name| !name.is_empty());
        let name = name.context("it has no name")?;
        ensure!(is_label(&name), "{name:?} is not a DNS label");
        Ok(Self { name, labels: Labels::from_api(object.metadata.labels)?, datapath })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Kind, Labels, Namespace, Object, Switch};

    #[test]
    fn a_namespace_is_its_name_and_its_labels() {
        let metadata = json!({"name": "prod", "labels": {"team": "a"}});
        let json = json!({"metadata": metadata, "status": {"phase": "Terminating"}});
        let object = Object::from_json(Kind::Namespace, json).unwrap();
        let (name, labels) = ("prod".into(), Labels::mk("team=a"));
        let expect = Namespace { name, labels, datapath: None };
        assert_eq!(object, Some(Object::Namespace(expect)));
    }

    #[test]
    fn an_annotation_switches() {
        for (value, expect) in
            [("off", Some(Switch::Off)), ("on", Some(Switch::On)), ("Off", None), ("", None)]
        {
            let annotations = json!({"nodedns.io/datapath": value, "other": "off"});
            let json = json!({"metadata": {"name": "prod", "annotations": annotations}});
            match Object::from_json(Kind::Namespace, json).unwrap() {
                Some(Object::Namespace(namespace)) => assert_eq!(namespace.datapath, expect),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_namespace_without_a_name_is_refused() {
        for json in [
            json!({}),
            json!({"metadata": {"name": ""}}),
            json!({"metadata": {"name": "a.b"}}),
            json!(7),
            json!(null),
        ] {
            assert!(Object::from_json(Kind::Namespace, json.clone()).is_err(), "{json}");
        }
    }
}
