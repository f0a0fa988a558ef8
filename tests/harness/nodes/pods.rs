//! Pods of a real cluster: what runs in them, their network, commands in them.

use std::{fs, path::Path, process::Output, time::Duration};

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::ResourceExt as _;

use super::Nodes;
use crate::{netns::Namespace, process::Child};

/// How long a rollout may take, on a busy machine.
pub const ROLLOUT_LIMIT: Duration = Duration::from_mins(3);

/// A pod as it was when it was looked up.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its address; the node's with `hostNetwork`.
    pub ip: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// How often its containers were started again.
    pub restarts: i32,
    uid: String,
}

impl Pod {
    fn new(pod: &ApiPod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let is_ready =
            conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            ip: status.and_then(|status| status.pod_ip.clone()).unwrap_or_default(),
            is_ready: is_ready && pod.metadata.deletion_timestamp.is_none(),
            restarts: containers.into_iter().flatten().map(|it| it.restart_count).sum(),
            uid: pod.uid().unwrap_or_default(),
        }
    }

    /// Returns the PIDs, on this machine, of its processes of that name.
    pub fn processes(&self, program: &str) -> Vec<u32> {
        let mark = format!("pod{}", self.uid);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let read = |pid: &u32, file: &str| {
            fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file))
        };
        let is_its = |pid: &u32| {
            read(pid, "cgroup").is_ok_and(|text| text.contains(&mark))
                && read(pid, "comm").is_ok_and(|name| name.trim_end() == program)
        };
        pids.filter(is_its).collect()
    }

    /// Returns its network, for sockets in it. Panics when nothing of that name
    /// runs in it.
    #[track_caller]
    pub fn network(&self, program: &str) -> Namespace {
        let pid = self.processes(program).first().copied();
        Namespace::of_process(pid.unwrap_or_else(|| panic!("no {program} in {}", self.name)))
    }
}

impl Nodes<'_> {
    /// Returns the pods of a namespace with a label, `name=value`, sorted by name.
    pub fn pods(&self, namespace: &str, label: &str) -> Vec<Pod> {
        let (name, value) = label.split_once('=').expect("name=value");
        let is_meant = |pod: &ApiPod| {
            pod.namespace().as_deref() == Some(namespace)
                && pod.labels().get(name).is_some_and(|it| it == value)
        };
        let pods = self.kubernetes.list::<ApiPod>();
        let mut pods: Vec<_> = pods.iter().filter(|pod| is_meant(pod)).map(Pod::new).collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// Waits until a namespace has exactly `count` pods with a label and all of
    /// them are ready; returns them.
    #[track_caller]
    pub fn ready_pods(&self, namespace: &str, label: &str, count: usize) -> Vec<Pod> {
        let mut pods = Vec::new();
        self.wait_until(&format!("{count} pods {label} are ready"), || {
            pods = self.pods(namespace, label);
            pods.len() == count && pods.iter().all(|pod| pod.is_ready)
        });
        pods
    }

    /// Waits until what rolls out, such as `daemonset/nodedns`, has done so.
    #[track_caller]
    pub fn rolled_out(&self, namespace: &str, what: &str) {
        let limit = format!("--timeout={}s", ROLLOUT_LIMIT.as_secs());
        let kubectl = self.kubectl(&["rollout", "status", "-n", namespace, what, &limit]);
        let child = Child::start("kubectl rollout status", kubectl);
        let status = child.wait_for_exit(ROLLOUT_LIMIT + Duration::from_secs(10));
        assert!(
            status.success(),
            "{what} did not roll out: {}\n{}",
            child.tail(),
            self.explain(namespace)
        );
    }

    /// Runs a command in a pod.
    #[track_caller]
    pub fn exec(&self, pod: &Pod, command: &[&str]) -> Output {
        let mut arguments = vec!["exec", "-n", &pod.namespace, &pod.name, "--"];
        arguments.extend(command);
        self.kubectl_try(&arguments)
    }

    /// Runs a command in a pod and returns what it printed. Panics when it fails.
    #[track_caller]
    pub fn exec_ok(&self, pod: &Pod, command: &[&str]) -> String {
        let output = self.exec(pod, command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} in {} failed:\n{text}{error}", pod.name);
        text
    }

    /// Returns what an operator would look at when pods do not become ready.
    pub fn explain(&self, namespace: &str) -> String {
        let mut text = String::new();
        for arguments in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"],
        ] {
            let output = self.kubectl_try(arguments);
            text.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        for pod in self.kubernetes.list::<ApiPod>() {
            let pod = Pod::new(&pod);
            if pod.namespace == namespace && !pod.is_ready {
                let logs = ["logs", "-n", namespace, &pod.name, "--tail=40"];
                let output = self.kubectl_try(&logs);
                text.extend(["log of ", &pod.name, ":\n"]);
                text.push_str(&String::from_utf8_lossy(&output.stdout));
            }
        }
        text
    }
}
