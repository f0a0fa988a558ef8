//! A real API server over a real etcd: what the agent watches in a cluster.

use std::{
    fs,
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
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::{netns::Namespace, node::NODE_IP, process::Child, tools};

/// How long a part may take until it is ready.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How long a try to connect may take.
const TRY_LIMIT: Duration = Duration::from_secs(1);
/// How long one piece of work with the client may take.
const WORK_LIMIT: Duration = Duration::from_secs(30);

/// Where the cluster IPs come from; the API server takes the first itself.
pub const SERVICE_RANGE: &str = "10.96.0.0/16,fd00:10:96::/112";

const ETCD: u16 = 2379;
const API: u16 = 6443;
const TOKEN: &str = "test-token";
/// Who writes, as the API server knows it.
pub(crate) const MANAGER: &str = "harness";
/// A folder in memory: etcd waits for the disk after every write.
const MEMORY: &str = "/dev/shm";

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
        let folder = TempDir::new_in(MEMORY).or_else(|_| TempDir::new());
        let folder = folder.expect("a scratch folder");
        write_credentials(folder.path());
        let etcd = Child::start("etcd", etcd_command(namespace, folder.path()));
        etcd.wait_until("it accepts connections", READY_LIMIT, || is_open(namespace, ETCD));
        let server = Child::start("kube-apiserver", server_command(namespace, folder.path()));
        let kubernetes = Self { namespace, folder, server, _etcd: etcd };
        kubernetes
            .server
            .wait_until("it accepts connections", READY_LIMIT, || is_open(namespace, API));
        kubernetes.server.wait_until("it is ready", READY_LIMIT, || kubernetes.is_ready());
        kubernetes
    }

    /// Returns the path of a kubeconfig for processes in the same namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
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

fn is_open(namespace: &Namespace, port: u16) -> bool {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
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

fn server_command(namespace: &Namespace, folder: &Path) -> std::process::Command {
    let mut command = namespace.command(tools::expect("kube-apiserver"));
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{ETCD}"),
        format!("--advertise-address={NODE_IP}"),
        format!("--secure-port={API}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--authorization-mode=AlwaysAllow".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--allow-privileged=true".to_owned(),
        // Objects may come before their Namespace, and outlive it.
        "--disable-admission-plugins=NamespaceLifecycle".to_owned(),
        // Nobody else talks to it.
        "--enable-priority-and-fairness=false".to_owned(),
        "--profiling=false".to_owned(),
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("service-account-signing-key-file", "server.key"),
        file("service-account-key-file", "server.pub"),
        file("token-auth-file", "tokens.csv"),
        file("cert-dir", "certificates"),
    ]);
    command
}

/// Makes a certificate for loopback that signs itself, a token and a kubeconfig.
fn write_credentials(folder: &Path) {
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let loopback = rcgen::SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    parameters.subject_alt_names.push(loopback);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver of a test");
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let authority = folder.join("server.crt");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"https://127.0.0.1:{API}\", \
         certificate-authority: \"{}\"}}}}]\n\
         users: [{{name: test, user: {{token: {TOKEN}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
        authority.display()
    );
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("server.pub", key.public_key_pem()),
        ("tokens.csv", format!("{TOKEN},admin,admin,\"system:masters\"\n")),
        ("kubeconfig", kubeconfig),
    ] {
        fs::write(folder.join(name), text).expect("a scratch file");
    }
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
