//! The objects in the text of one file.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;
use tracing::debug;

use crate::objects::{Kind, Object, ObjectName};

/// Namespace of an object that does not say.
const DEFAULT_NAMESPACE: &str = "default";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, one document after the other.
    Json,
    /// YAML.
    Yaml,
}

/// An object of a watched kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its kind.
    pub kind: Kind,
    /// Its name, as far as it has one.
    pub name: ObjectName,
    /// None when it means nothing to DNS.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Parses all documents of a file. Objects of other kinds are left out; a
/// document that is no object of Kubernetes makes the whole file unusable.
pub fn parse(text: &str, format: Format) -> Result<Vec<Manifest>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents: Vec<Value> = match format {
        Format::Json => {
            serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>()?
        }
        Format::Yaml => serde_norway::Deserializer::from_str(text)
            .map(Value::deserialize)
            .collect::<Result<_, _>>()?,
    };
    let mut manifests = Vec::new();
    for (position, document) in documents.into_iter().enumerate() {
        if !document.is_null() {
            collect(document, None, &mut manifests)
                .with_context(|| format!("document {}", position + 1))?;
        }
    }
    Ok(manifests)
}

/// Takes in a document or an item of a list, whose kind stands for a missing one.
fn collect(
    mut json: Value,
    of_list: Option<(&str, &str)>,
    manifests: &mut Vec<Manifest>,
) -> Result<()> {
    if !json.is_object() {
        bail!("it is not an object");
    }
    let text = |key| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let api_version = text("apiVersion").or_else(|| of_list.map(|(version, _)| version.to_owned()));
    let api_version = api_version.context("it has no apiVersion")?;
    let kind = text("kind").or_else(|| of_list.map(|(_, kind)| kind.to_owned()));
    let kind = kind.context("it has no kind")?;
    if let Some(of_items) = kind.strip_suffix("List") {
        let items = match json.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => bail!("the items of a {kind} are not a list"),
        };
        let of_list = (!of_items.is_empty()).then_some((api_version.as_str(), of_items));
        for (position, item) in items.into_iter().enumerate() {
            collect(item, of_list, manifests).with_context(|| format!("item {}", position + 1))?;
        }
        return Ok(());
    }
    if let Some(kind) = watched_kind(&api_version, &kind) {
        manifests.push(convert(kind, json));
    } else {
        debug!("{api_version} {kind} {} is ignored", ObjectName::from_json(&json));
    }
    Ok(())
}

fn watched_kind(api_version: &str, kind: &str) -> Option<Kind> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(Kind::Namespace),
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "ConfigMap") => Some(Kind::ConfigMap),
        ("v1", "Pod") => Some(Kind::Pod),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        _ => None,
    }
}

fn convert(kind: Kind, mut json: Value) -> Manifest {
    if let Some(Value::Object(metadata)) = json.get_mut("metadata") {
        let namespace = metadata.get("namespace").and_then(Value::as_str);
        if kind == Kind::Namespace {
            metadata.remove("namespace");
        } else if namespace.unwrap_or_default().is_empty() {
            metadata.insert("namespace".to_owned(), DEFAULT_NAMESPACE.into());
        }
    }
    let name = ObjectName::from_json(&json);
    match Object::from_json(kind, json) {
        Ok(object) => Manifest { kind, name, object, fault: None },
        Err(malformed) => {
            let fault = Some(malformed.to_string());
            Manifest { kind, name, object: Some(Object::Unusable(malformed.unusable)), fault }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, parse};

    /// Returns `Kind namespace/name` of each object, `!` before malformed ones,
    /// `-` before those that mean nothing.
    fn read(text: &str, format: Format) -> Result<Vec<String>, String> {
        let show = |manifest: super::Manifest| {
            let mark = match (manifest.object, manifest.fault) {
                (Some(_), None) => "",
                (None, None) => "-",
                (_, Some(_)) => "!",
            };
            format!("{mark}{} {}", manifest.kind, manifest.name)
        };
        let manifests = parse(text, format).map_err(|error| format!("{error:#}"))?;
        Ok(manifests.into_iter().map(show).collect())
    }

    #[test]
    fn yaml() {
        let cases = [
            ("nothing", "", vec![]),
            ("comments only", "# a\n---\n# b\n---\n", vec![]),
            (
                "documents",
                "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n---\n---\n\
                 apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
                vec!["Namespace prod", "Service default/web"],
            ),
            (
                "a list with its items' kinds",
                "apiVersion: v1\nkind: List\nitems:\n\
                 - {apiVersion: v1, kind: Namespace, metadata: {name: prod}}\n\
                 - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
                    metadata: {name: x, namespace: prod}}\n\
                 - {apiVersion: v1, kind: Pod, metadata: {name: p}}\n",
                vec!["Namespace prod", "-EndpointSlice prod/x", "-Pod default/p"],
            ),
            (
                "a list of one kind",
                "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a, namespace: n}\n",
                vec!["Service n/a"],
            ),
            ("an empty list", "apiVersion: v1\nkind: List\nitems:\n", vec![]),
            (
                "other kinds and versions",
                "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: serving.knative.dev/v1\n\
                 kind: Service\n---\napiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
                vec![],
            ),
            (
                "a malformed object among sound ones",
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.1}\n\
                 ---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n",
                vec!["!Service default/a", "Service default/b"],
            ),
            ("no metadata", "apiVersion: v1\nkind: Service\n", vec!["!Service "]),
        ];
        for (name, text, expect) in cases {
            let expect = Ok(expect.into_iter().map(str::to_owned).collect());
            assert_eq!(read(text, Format::Yaml), expect, "{name}");
        }
    }

    #[test]
    fn json() {
        let text = "\u{feff}{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": \
                    {\"name\": \"a\"}}\n{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": \
                    [{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"b\"}}]}";
        let expect = vec!["Namespace a".to_owned(), "Service default/b".to_owned()];
        assert_eq!(read(text, Format::Json), Ok(expect));
    }

    #[test]
    fn what_makes_a_file_unusable() {
        let cases = [
            ("apiVersion: v1\nkind: [", Format::Yaml, "while parsing"),
            ("apiVersion: v1\nkind: Service\nmeta", Format::Yaml, "could not find expected ':'"),
            ("just text", Format::Yaml, "document 1: it is not an object"),
            ("a: b", Format::Yaml, "document 1: it has no apiVersion"),
            ("apiVersion: v1\n---\n", Format::Yaml, "document 1: it has no kind"),
            ("apiVersion: v1\nkind: List\nitems: [7]", Format::Yaml, "item 1: it is not an object"),
            (
                "apiVersion: v1\nkind: List\nitems: 7",
                Format::Yaml,
                "items of a List are not a list",
            ),
            ("{\"apiVersion\": \"v1\", ", Format::Json, "EOF while parsing"),
            ("[]", Format::Json, "document 1: it is not an object"),
        ];
        for (text, format, expect) in cases {
            let error = read(text, format).expect_err(text);
            assert!(error.contains(expect), "{text:?}: {error}");
        }
    }
}
