//! `nodedns env`: the Service environment variables of a Pod, from what a source
//! says at this moment.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Serialize, Serializer};
use tokio::{
    sync::{
        mpsc::{self, Receiver},
        watch,
    },
    time::timeout,
};
use tracing::warn;

use super::{print, print_json};
use crate::{
    args::{EnvArguments, Output},
    config::Source,
    env::{Contested, Environment, ServiceLinks, Variable, build_environment},
    index::Index,
    objects::{Event, Kind, ObjectName},
    source::{self, FirstList, SourceCounters},
};

/// How long a source has to list what is needed.
const DEADLINE: Duration = Duration::from_secs(10);

/// The kinds that are needed.
const KINDS: [Kind; 2] = [Kind::Namespace, Kind::Service];

/// Events that wait for the index.
const EVENTS_MAX: usize = 16;

/// What is asked, checked.
#[derive(Clone, Debug)]
pub struct EnvQuery {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Whether it is told of the Services there.
    pub links: ServiceLinks,
    /// Where objects come from.
    pub source: Source,
    /// How the answer is shown.
    pub output: Output,
}

impl EnvQuery {
    /// Checks `arguments`. Errors name the flag.
    pub fn new(arguments: EnvArguments) -> Result<Self> {
        ensure!(!arguments.namespace.is_empty(), "--namespace: it is empty");
        Ok(Self {
            source: Source::new(arguments.source)?,
            namespace: arguments.namespace,
            links: arguments.enable_service_links.into(),
            output: arguments.output,
        })
    }
}

/// Prints the variables. Says on the log which ones are a matter of luck.
pub fn env(query: &EnvQuery) -> Result<()> {
    let Environment { variables, contested } = environment(query)?;
    for Contested { variable, loser, winner } in contested {
        warn!("{variable} is of Service {winner} here; it may be of {loser} in a Pod");
    }
    match query.output {
        Output::Json => print_json(&JsonObject(&variables)),
        Output::Text => print(&text(&variables)),
    }
}

/// Asks the source. Fails when it does not answer in time or has no such
/// namespace.
pub fn environment(query: &EnvQuery) -> Result<Environment> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let index = runtime.context("cannot start the runtime")?.block_on(list(&query.source))?;
    let namespace = &query.namespace;
    ensure!(index.has_namespace(namespace), "there is no Namespace {namespace}");
    Ok(build_environment(&index, namespace, query.links))
}

/// Fills an index from a source, which is then dropped.
async fn list(source: &Source) -> Result<Index> {
    let mut index = Index::default();
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let counters = SourceCounters::default();
    let (_nobody, pods) = watch::channel(None);
    // Sources want to know CoreDNS's; its contents do not matter here.
    let config_map = ObjectName { namespace: "kube-system".into(), name: "coredns".into() };
    let listed = timeout(DEADLINE, async {
        tokio::select! {
            // Boxed, for a client of the API server is large.
            ended = Box::pin(source::run(source, FirstList::Cached, &config_map, events, pods.into(), &counters)) => {
                ended.and_then(|()| bail!("the source of objects ended"))
            }
            () = fill(&mut index, received) => Ok(()),
        }
    });
    if let Ok(result) = listed.await {
        return result.map(|()| index);
    }
    let missing = KINDS.into_iter().filter(|kind| !index.has_listed(*kind));
    let missing: Vec<_> = missing.map(|kind| format!("{kind}s")).collect();
    let asked = match source {
        Source::Kubernetes { .. } => "the API server (--kubeconfig)".to_owned(),
        Source::Directory(folder) => folder.display().to_string(),
    };
    bail!(
        "{asked} did not list {} within {DEADLINE:?} (the log says why it was tried again)",
        missing.join(" and ")
    )
}

/// Applies events until what is needed has been listed.
async fn fill(index: &mut Index, mut received: Receiver<Event>) {
    while !KINDS.iter().all(|kind| index.has_listed(*kind)) {
        let Some(event) = received.recv().await else { return std::future::pending().await };
        index.apply(event);
    }
}

fn text(variables: &[Variable]) -> String {
    let lines = variables.iter().map(|Variable { name, value }| format!("{name}={value}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// Name -> value, in the order given.
struct JsonObject<'a>(&'a [Variable]);

impl Serialize for JsonObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|variable| (&variable.name, &variable.value)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser as _;
    use tempfile::TempDir;

    use super::{EnvQuery, JsonObject, environment, text};
    use crate::args::{Arguments, Verb};

    const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-2, namespace: shop}
spec: {clusterIP: \"fd00::1\", clusterIPs: [\"fd00::1\", 10.96.1.1], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{port: 5432}]}
";

    const MASTER: &str = "\
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
";

    const WEB: &str = "\
WEB_2_SERVICE_HOST=fd00::1
WEB_2_SERVICE_PORT=80
WEB_2_PORT=tcp://[fd00::1]:80
WEB_2_PORT_80_TCP=tcp://[fd00::1]:80
WEB_2_PORT_80_TCP_PROTO=tcp
WEB_2_PORT_80_TCP_PORT=80
WEB_2_PORT_80_TCP_ADDR=fd00::1
";

    fn query(folder: &Path, flags: &str) -> anyhow::Result<EnvQuery> {
        let source = folder.to_str().unwrap();
        let words = ["nodedns", "env", "--source", source].into_iter();
        match Arguments::parse_from(words.chain(flags.split_whitespace())).verb {
            Verb::Env(arguments) => EnvQuery::new(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_variables_come_from_a_folder() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("shop.yaml"), SHOP).unwrap();
        let both = format!("{MASTER}{WEB}");
        let cases = [
            ("-n shop", both.as_str()),
            ("--namespace=shop --enable-service-links -o json", &both),
            ("-n shop --enable-service-links=true", &both),
            ("-n shop --enable-service-links=false", MASTER),
            ("-n default", MASTER),
        ];
        for (flags, expect) in cases {
            let query = query(folder.path(), flags).unwrap();
            let variables = environment(&query).unwrap().variables;
            assert_eq!(text(&variables), expect, "{flags}");
            let json = serde_json::to_string(&JsonObject(&variables)).unwrap();
            let lines = expect.lines().map(|line| line.split_once('=').unwrap());
            let members: Vec<_> =
                lines.map(|(name, value)| format!("{name:?}:{value:?}")).collect();
            assert_eq!(json, format!("{{{}}}", members.join(",")), "{flags}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("shop.yaml"), SHOP).unwrap();
        let error = environment(&query(folder.path(), "-n shops").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "there is no Namespace shops");
        let error = query(folder.path(), "--namespace=").unwrap_err();
        assert_eq!(error.to_string(), "--namespace: it is empty");
        let error = query(&folder.path().join("gone"), "-n shop").unwrap_err().to_string();
        assert!(error.contains("gone is not a folder"), "{error}");
    }
}
