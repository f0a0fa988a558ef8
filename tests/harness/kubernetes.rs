//! A real API server over a real etcd: what the agent watches in a cluster.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::{
        core::{self, v1::Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    credentials::{self, ADMIN, User},
    netns::Namespace,
    node::NODE_IP,
    process::Child,
    tools,
};

/// How long a part may take until it is ready.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How long a try to connect may take.
const TRY_LIMIT: Duration = Duration::from_secs(1);
/// How long one piece of work with the client may take.
const WORK_LIMIT: Duration = Duration::from_secs(30);

/// The first cluster IP, which the API server takes itself.
const SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

const ETCD: u16 = 2379;
const API: u16 = 6443;
/// Who writes, as the API server knows it.
pub(crate) const MANAGER: &str = "harness";
/// A folder in memory: etcd waits for the disk after every write.
const MEMORY: &str = "/dev/shm";

/// How an API server is set up.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Where clients find it.
    pub address: IpAddr,
    /// Who has a token.
    pub users: Vec<User<'a>>,
    /// Flags that differ between tests.
    pub flags: Vec<String>,
}

impl Setup<'_> {
    /// An API server on loopback that lets everything through, for one user and
    /// no other parts of a cluster.
    pub fn alone() -> Self {
        let flags = [
            &format!("--advertise-address={NODE_IP}"),
            "--authorization-mode=AlwaysAllow",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            // Objects may come before their Namespace, and outlive it.
            "--disable-admission-plugins=NamespaceLifecycle",
            // Nobody else talks to it.
            "--enable-priority-and-fairness=false",
        ];
        let flags = flags.map(str::to_owned).into();
        Self { address: Ipv4Addr::LOCALHOST.into(), users: vec![ADMIN], flags }
    }
}

/// A running API server with its etcd. Dropping it ends both.
#[derive(Debug)]
pub struct Kubernetes<'namespace> {
    namespace: &'namespace Namespace,
    folder: TempDir,
    // Dropped in this order: what asks before what is asked.
    server: Child,
    _etcd: Child,
}

impl<'namespace> Kubernetes<'namespace> {
    /// Starts both on loopback of `namespace` and waits until the API server
    /// is ready. It accepts everything that one token's bearer wants.
    #[track_caller]
    pub fn start(namespace: &'namespace Namespace) -> Self {
        Self::start_with(namespace, &Setup::alone())
    }

    /// Starts both in `namespace` and waits until the API server is ready.
    #[track_caller]
    pub fn start_with(namespace: &'namespace Namespace, setup: &Setup<'_>) -> Self {
        let folder = TempDir::new_in(MEMORY).or_else(|_| TempDir::new());
        let folder = folder.expect("a scratch folder");
        let server = SocketAddr::new(setup.address, API);
        let addresses = [setup.address, Ipv4Addr::LOCALHOST.into(), SERVICE_IP.into()];
        let url = format!("https://{server}");
        credentials::write(folder.path(), &addresses, &url, &setup.users);
        let etcd = Child::start("etcd", etcd_command(namespace, folder.path()));
        let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ETCD);
        etcd.wait_until("it accepts connections", READY_LIMIT, || is_open(namespace, loopback));
        let command = server_command(namespace, folder.path(), setup);
        let process = Child::start("kube-apiserver", command);
        let kubernetes = Self { namespace, folder, server: process, _etcd: etcd };
        kubernetes
            .server
            .wait_until("it accepts connections", READY_LIMIT, || is_open(namespace, server));
        kubernetes.server.wait_until("it is ready", READY_LIMIT, || kubernetes.is_ready());
        kubernetes
    }

    /// Returns the path of a kubeconfig for processes in the same namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(ADMIN.name)
    }

    /// Returns the path of a user's kubeconfig.
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        credentials::kubeconfig(self.folder.path(), user)
    }

    /// Returns the folder with the server's certificate and keys.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the API server's process.
    pub fn server(&self) -> &Child {
        &self.server
    }

    /// Returns the namespace in which it serves, on loopback.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.namespace
    }

    /// Runs `work` with a client, on a thread inside the namespace with a
    /// runtime of its own. Panics when it takes longer than half a minute.
    #[track_caller]
    pub fn with_client<T: Send, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Client) -> F + Send,
    ) -> T {
        let path = self.kubeconfig();
        self.namespace.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let work = async {
                let work = work(client(&path).await);
                tokio::time::timeout(WORK_LIMIT, work).await.expect("the API server answers")
            };
            runtime.expect("a runtime").block_on(work)
        })
    }

    /// Creates an object in its namespace, or makes the one that is there equal.
    #[track_caller]
    pub fn apply<K>(&self, object: &K) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object,
    {
        let namespace = object.namespace().expect("an object in a namespace");
        self.patch(object, |client| Api::namespaced(client, &namespace))
    }

    /// Makes the status of an object in a namespace equal.
    #[track_caller]
    pub fn apply_status<K>(&self, object: &K)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let applied = self.with_client(|client| async {
            let api = Api::<K>::namespaced(client, &namespace);
            let manager = PatchParams::apply(MANAGER).force();
            api.patch_status(&name, &manager, &Patch::Apply(object)).await.map(drop)
        });
        applied.unwrap_or_else(|error| panic!("cannot apply the status of {name}: {error}"));
    }

    /// The same for an object that is in no namespace, such as a Namespace.
    #[track_caller]
    pub fn apply_global<K>(&self, object: &K) -> K
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Object,
    {
        self.patch(object, Api::all)
    }

    /// Applies every document of a manifest, of whatever kinds they are; returns
    /// the objects as they are now. Panics at a field that the API server does not
    /// know.
    #[track_caller]
    pub fn apply_yaml(&self, manifest: &str) -> Vec<DynamicObject> {
        let mut applied = Vec::new();
        for document in parse_yaml(manifest) {
            let object = serde_json::from_value(document).expect("an object of Kubernetes");
            applied.push(self.apply_dynamic(&object));
        }
        applied
    }

    #[track_caller]
    fn apply_dynamic(&self, object: &DynamicObject) -> DynamicObject {
        let types = object.types.as_ref().expect("an object with apiVersion and kind");
        let kind = GroupVersionKind::try_from(types).expect("an apiVersion");
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let applied = self.with_client(|client| async {
            let (resource, capabilities) = pinned_kind(&client, &kind).await?;
            let api = match capabilities.scope {
                Scope::Cluster => Api::<DynamicObject>::all_with(client, &resource),
                Scope::Namespaced => Api::namespaced_with(client, &namespace, &resource),
            };
            let manager = PatchParams::apply(MANAGER).force().validation_strict();
            api.patch(&name, &manager, &Patch::Apply(object)).await
        });
        applied.unwrap_or_else(|error| panic!("cannot apply {} {name}: {error}", types.kind))
    }

    /// Deletes an object in a namespace.
    #[track_caller]
    pub fn delete<K>(&self, object: &K)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let deleted = self.with_client(|client| async {
            let api = Api::<K>::namespaced(client, &namespace);
            api.delete(&name, &DeleteParams::default()).await.map(drop)
        });
        deleted.unwrap_or_else(|error| panic!("cannot delete {namespace}/{name}: {error}"));
    }

    /// Lists the objects of a kind, in all namespaces.
    #[track_caller]
    pub fn list<K: Resource<DynamicType = ()> + Object>(&self) -> Vec<K> {
        let list = self.with_client(|client| async {
            Api::<K>::all(client).list(&ListParams::default()).await
        });
        list.unwrap_or_else(|error| panic!("cannot list: {error}")).items
    }

    fn patch<K: Resource<DynamicType = ()> + Object>(
        &self,
        object: &K,
        api: impl FnOnce(Client) -> Api<K> + Send,
    ) -> K {
        let name = object.name_any();
        let applied = self.with_client(|client| async {
            let manager = PatchParams::apply(MANAGER).force();
            api(client).patch(&name, &manager, &Patch::Apply(object)).await
        });
        applied.unwrap_or_else(|error| panic!("cannot apply {name}: {error}"))
    }

    /// Says whether the objects are there that the API server makes itself:
    /// then no more changes come but those of the test.
    fn is_ready(&self) -> bool {
        self.with_client(|client| async {
            let namespaces = Api::<core::v1::Namespace>::all(client.clone());
            let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
            let services = Api::<Service>::namespaced(client, "default");
            namespaces.get("kube-system").await.is_ok()
                && services.get("kubernetes").await.is_ok()
                && slices.get("kubernetes").await.is_ok()
        })
    }
}

/// What every object of the API is.
pub trait Object: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync {}
impl<T: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync> Object for T {}

/// Returns the documents of a manifest that are not empty.
#[track_caller]
pub fn parse_yaml(manifest: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(manifest).map(Value::deserialize);
    let documents = documents.map(|document| document.expect("a document in YAML"));
    documents.filter(|document| !document.is_null()).collect()
}

/// Makes a client of a kubeconfig that this has written.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("our kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("our kubeconfig")).expect("a client of our kubeconfig")
}

fn is_open(namespace: &Namespace, address: SocketAddr) -> bool {
    namespace.run(|| TcpStream::connect_timeout(&address, TRY_LIMIT).is_ok())
}

fn etcd_command(namespace: &Namespace, folder: &Path) -> std::process::Command {
    let mut command = namespace.command(tools::expect("etcd"));
    let (clients, peers) = (format!("http://127.0.0.1:{ETCD}"), "http://127.0.0.1:2380");
    command.arg("--data-dir").arg(folder.join("etcd"));
    command.args(["--name", "etcd", "--initial-cluster", &format!("etcd={peers}")]);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
    command
}

fn server_command(
    namespace: &Namespace,
    folder: &Path,
    setup: &Setup<'_>,
) -> std::process::Command {
    let mut command = namespace.command(tools::expect("kube-apiserver"));
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{ETCD}"),
        format!("--secure-port={API}"),
        format!("--bind-address={}", setup.address),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("service-account-signing-key-file", "server.key"),
        file("service-account-key-file", "server.pub"),
        file("token-auth-file", "tokens.csv"),
        file("cert-dir", "certificates"),
    ]);
    command.args(&setup.flags);
    command
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        kernel::{NETWORK, Need, require},
        node::Node,
        objects::{mk_endpoint, mk_endpoint_slice, mk_namespace, mk_service},
    };

    #[test]
    fn objects_are_accepted_listed_and_deleted() {
        if !require(NETWORK) || !require(&[Need::Tool("etcd"), Need::Tool("kube-apiserver")]) {
            return;
        }
        let node = Node::new("kubernetes");
        let start = Instant::now();
        let kubernetes = Kubernetes::start(node.namespace());
        println!("the API server was ready after {:?}", start.elapsed());
        kubernetes.apply_global(&mk_namespace("shop"));
        let service = mk_service("shop", "web", "10.96.3.4", &["http:80/TCP"]);
        kubernetes.apply(&service);
        // Once more is no error.
        kubernetes.apply(&service);
        let endpoints = vec![mk_endpoint("10.244.0.9".parse().unwrap())];
        kubernetes.apply(&mk_endpoint_slice("shop", "web", "a", endpoints, &["http:8080/TCP"]));
        let ips = |service: &Service| service.spec.as_ref()?.cluster_ip.clone();
        let find = || {
            let services = kubernetes.list::<Service>();
            services.iter().find(|service| service.name_any() == "web").and_then(ips)
        };
        assert_eq!(find().as_deref(), Some("10.96.3.4"));
        kubernetes.delete(&service);
        assert_eq!(find(), None);
        println!("everything was done after {:?}", start.elapsed());
        let pid = kubernetes.server().pid();
        drop(kubernetes);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
