//! A client of the API server that is kept, and that writes many objects at once.

use std::{collections::HashMap, sync::Arc, thread::JoinHandle, time::Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use crate::kubernetes::{Kubernetes, MANAGER, Object};

/// How many objects are written at a time.
const AT_A_TIME: usize = 16;

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Write {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
    /// The object as it is to be; None when it is to go.
    object: Option<DynamicObject>,
}

impl Write {
    /// Creates an object, or makes the one that is there equal.
    pub fn apply<K: Resource<DynamicType = ()> + Object>(object: &K) -> Self {
        Self::json(serde_json::to_value(object).expect("an object that can be written"), true)
    }

    /// Deletes an object, a Namespace too: nobody empties it, what is in it stays.
    pub fn delete<K: Resource<DynamicType = ()> + Object>(object: &K) -> Self {
        Self {
            resource: ApiResource::erase::<K>(&()),
            namespace: object.namespace(),
            name: object.name_any(),
            object: None,
        }
    }

    /// Applies or deletes an object that is given as JSON.
    pub fn json(object: Value, is_there: bool) -> Self {
        let object: DynamicObject =
            serde_json::from_value(object).expect("an object of Kubernetes");
        let types = object.types.clone().expect("an object with apiVersion and kind");
        let kind = GroupVersionKind::try_from(types).expect("an apiVersion");
        Self {
            resource: ApiResource::from_gvk(&kind),
            namespace: object.namespace(),
            name: object.name_any(),
            object: is_there.then_some(object),
        }
    }

    fn key(&self) -> (String, Option<String>, String) {
        (self.resource.kind.clone(), self.namespace.clone(), self.name.clone())
    }

    async fn perform(&self, client: Client) -> Result<(), kube::Error> {
        let api = match &self.namespace {
            Some(namespace) => {
                Api::<DynamicObject>::namespaced_with(client, namespace, &self.resource)
            }
            None => Api::all_with(client, &self.resource),
        };
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), dry_run: false };
        if let Some(object) = &self.object {
            // Not by one patch, for which the API server trusts its cache of what is there: of
            // a Service that was deleted a moment ago it may then allocate the cluster IP
            // twice, refuse what it has allocated itself, and keep it for nobody.
            return match api.get_opt(&self.name).await? {
                None => api.create(&parameters, object).await.map(drop),
                Some(present) => {
                    let mut object = object.clone();
                    object.metadata.resource_version = present.resource_version();
                    api.replace(&self.name, &parameters, &object).await.map(drop)
                }
            };
        }
        api.delete(&self.name, &DeleteParams::default()).await?;
        if self.resource.kind == Namespace::kind(&()) {
            // No controller runs here that would let go of it.
            let empty = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name},
                "spec": {"finalizers": []},
            });
            api.replace_subresource("finalize", &self.name, &parameters, &empty).await?;
        }
        Ok(())
    }
}

struct Job {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<Instant, String>>,
}

/// The client. Dropping it ends its thread.
#[derive(Debug)]
pub struct Feed {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts a client inside the API server's namespace.
    #[track_caller]
    pub fn start(kubernetes: &Kubernetes<'_>) -> Self {
        let (jobs, mut to_do) = mpsc::unbounded_channel::<Job>();
        let path = kubernetes.kubeconfig();
        let thread = kubernetes.namespace().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = crate::kubernetes::client(&path).await;
                while let Some(Job { writes, done }) = to_do.recv().await {
                    let result = write_all(&client, writes).await;
                    // A caller that is gone needs no result.
                    drop(done.send(result.map(|()| Instant::now())));
                }
            });
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Writes all of it: what is done to one object in this order, different
    /// objects at once. Returns when the API server's last response came. Panics
    /// when it refuses one.
    #[track_caller]
    pub fn write(&self, writes: Vec<Write>) -> Instant {
        let (done, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("a client that runs");
        jobs.send(Job { writes, done }).expect("a client that runs");
        let result = result.blocking_recv().expect("a client that runs");
        result.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn write_all(client: &Client, writes: Vec<Write>) -> Result<(), String> {
    let mut by_object: HashMap<_, Vec<Write>> = HashMap::new();
    for write in writes {
        by_object.entry(write.key()).or_default().push(write);
    }
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    for writes in by_object.into_values() {
        let (client, places) = (client.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire().await.map_err(|error| error.to_string())?;
            for write in writes {
                let result = write.perform(client.clone()).await;
                result.map_err(|error| format!("{write:?}: {error}"))?;
            }
            Ok(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(|error| error.to_string())??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;
    use crate::{
        kernel::{NETWORK, Need, require},
        node::Node,
        objects::{mk_external_name_service, mk_namespace, mk_service},
    };

    fn require_api_server() -> bool {
        require(NETWORK) && require(&["etcd", "kube-apiserver"].map(Need::Tool))
    }

    /// By patches it fails most of the time: the API server still sees the alias, allocates
    /// the cluster IP for what it is to become, sees that it is gone, and begins anew.
    #[test]
    fn an_alias_becomes_a_service_with_a_cluster_ip() {
        const TIMES: u8 = 40;
        const SERVICES: u8 = 16;
        if !require_api_server() {
            return;
        }
        let node = Node::new("exchange");
        let kubernetes = Kubernetes::start(node.namespace());
        let feed = Feed::start(&kubernetes);
        feed.write(vec![Write::apply(&mk_namespace("shop"))]);
        let name = |number: u8| format!("web-{number}");
        let alias = |number| mk_external_name_service("shop", &name(number), "www.example.com");
        for time in 1..=TIMES {
            feed.write((0..SERVICES).map(|number| Write::apply(&alias(number))).collect());
            let service = |number| {
                let ip = format!("10.96.{time}.{number}");
                mk_service("shop", &name(number), &ip, &["http:80/TCP"])
            };
            let exchange = (0..SERVICES)
                .flat_map(|number| [Write::delete(&alias(number)), Write::apply(&service(number))]);
            feed.write(exchange.collect());
            feed.write((0..SERVICES).map(|number| Write::delete(&alias(number))).collect());
        }
    }

    #[test]
    fn objects_are_written_and_namespaces_go() {
        if !require_api_server() {
            return;
        }
        let node = Node::new("feed");
        let kubernetes = Kubernetes::start(node.namespace());
        let feed = Feed::start(&kubernetes);
        let services = |kubernetes: &Kubernetes<'_>| {
            let services = kubernetes.list::<Service>().into_iter();
            services.filter(|service| service.namespace().as_deref() == Some("shop")).count()
        };
        let (shop, web) =
            (mk_namespace("shop"), mk_service("shop", "web", "10.96.3.4", &["http:80/TCP"]));
        let api = mk_service("shop", "api", "10.96.3.5", &["http:80/TCP"]);
        // A Service may be there before its Namespace.
        feed.write(vec![Write::apply(&web)]);
        feed.write(vec![Write::apply(&shop), Write::apply(&api), Write::delete(&web)]);
        assert_eq!(services(&kubernetes), 1);
        feed.write(vec![Write::delete(&shop), Write::apply(&shop), Write::delete(&shop)]);
        let namespaces = kubernetes.list::<Namespace>();
        assert!(namespaces.iter().all(|namespace| namespace.name_any() != "shop"));
        assert_eq!(services(&kubernetes), 1, "what is in a Namespace stays");
    }
}
