//! A folder and what is sent when it changes.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout_at,
};

use super::{Complaint, Folder, Reading, run};
use crate::{
    corefile::{ZoneSettings, cluster_zones},
    objects::{Event, Kind, builders::mk_name},
    source::{PodReceiver, SourceCounters},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Returns the manifest of a Service in the namespace `prod`.
fn service(name: &str, cluster_ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: prod}}\n\
         spec: {{clusterIP: {cluster_ip}}}\n"
    )
}

const PROD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n";

/// A folder that is read when the test says so.
struct Reader {
    dir: TempDir,
    folder: Folder,
}

impl Reader {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let folder = Folder::new(dir.path().to_owned(), mk_name("kube-system/coredns"));
        Self { dir, folder }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join(file), text).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.dir.path().join(file)).unwrap();
    }

    fn read(&mut self) -> (Vec<String>, Vec<String>) {
        let Reading { lists, complaints } = self.folder.read();
        let lists = lists.map(|lists| show(lists.into_iter())).unwrap_or_default();
        (lists, complaints.iter().map(|complaint| self.show_complaint(complaint)).collect())
    }

    /// Returns a complaint without the folder's path.
    fn show_complaint(&self, complaint: &Complaint) -> String {
        let text = match complaint {
            Complaint::Object(kind, text) => format!("{kind} skipped: {text}"),
            Complaint::File(text) => format!("file: {text}"),
            Complaint::Other(text) => text.clone(),
        };
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

/// Returns `Kind name` of each object, with the clusterIPs of a Service; the
/// namespaces that every cluster has are left out.
fn show(lists: impl Iterator<Item = (Kind, Vec<crate::objects::Object>)>) -> Vec<String> {
    use crate::objects::{Object, ServiceKind};
    let show_one = |object: &Object| match object {
        Object::Service(service) => match &service.kind {
            ServiceKind::ClusterIp(ips) => format!("Service {} {ips:?}", service.name),
            other => format!("Service {} {other:?}", service.name),
        },
        Object::Unusable(unusable) => format!("!{} {}", unusable.kind, unusable.name),
        other => format!("{} {}", other.kind(), other.name()),
    };
    let all: Vec<_> = lists.flat_map(|(_, objects)| objects).collect();
    let implicit = |text: &String| {
        ["default", "kube-node-lease", "kube-public", "kube-system"]
            .iter()
            .any(|name| *text == format!("Namespace {name}"))
    };
    all.iter().map(show_one).filter(|text| !implicit(text)).collect()
}

#[test]
fn an_empty_folder_is_an_empty_cluster() {
    let mut reader = Reader::new();
    let Reading { lists, complaints } = reader.folder.read();
    let lists = lists.unwrap();
    assert_eq!(lists.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
    assert_eq!(lists.iter().map(|(_, objects)| objects.len()).collect::<Vec<_>>(), [4, 0, 0, 0, 0]);
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn only_manifest_files_count() {
    let mut reader = Reader::new();
    reader.write("a.yaml", PROD);
    reader.write("b.yml", &service("b", "10.96.0.2"));
    let json = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}}"#;
    reader.write("c.json", json);
    for file in [".hidden.yaml", "d.yaml~", "4913", ".d.yaml.swp", "d.txt"] {
        reader.write(file, "this is: [no manifest");
    }
    let expect = ["Namespace prod", "Service default/c []", "Service prod/b [10.96.0.2]"];
    assert_eq!(reader.read(), (expect.map(str::to_owned).to_vec(), vec![]));
}

/// They are not opened: that could take for ever, or never end.
#[test]
fn what_is_no_file_is_named_and_passed_over() {
    let mut reader = Reader::new();
    let path = |file: &str| reader.dir.path().join(file);
    fs::create_dir(path("a.yaml")).unwrap();
    mkfifo(&path("b.yaml"), Mode::S_IRWXU).unwrap();
    symlink("b.yaml", path("c.yaml")).unwrap();
    let _socket = UnixListener::bind(path("d.json")).unwrap();
    symlink("/dev/zero", path("e.yml")).unwrap();
    symlink("g.yaml", path("f.yaml")).unwrap();
    symlink("f.yaml", path("g.yaml")).unwrap();
    symlink("nowhere", path("h.yaml")).unwrap();
    mkfifo(&path("z.pipe"), Mode::S_IRWXU).unwrap();
    reader.write("prod.yaml", PROD);
    let (objects, complaints) = reader.read();
    assert_eq!(objects, ["Namespace prod"]);
    let expect = [
        "file: a.yaml: it is a folder and no file; it is skipped",
        "file: b.yaml: it is a named pipe and no file; it is skipped",
        "file: c.yaml: it is a named pipe and no file; it is skipped",
        "file: d.json: it is a socket and no file; it is skipped",
        "file: e.yml: it is a device and no file; it is skipped",
        "file: f.yaml: it cannot be looked at: Too many levels of symbolic links (os error 40); \
         it is skipped",
        "file: g.yaml: it cannot be looked at: Too many levels of symbolic links (os error 40); \
         it is skipped",
        "file: h.yaml: it is a link to nothing",
    ];
    assert_eq!(complaints, expect);
    assert!(reader.folder.read_if_changed().complaints.is_empty(), "said once");

    // One that comes is noticed, and one in the place of a file is no reason to forget.
    reader.remove("prod.yaml");
    mkfifo(&reader.dir.path().join("prod.yaml"), Mode::S_IRWXU).unwrap();
    let Reading { lists, complaints } = reader.folder.read_if_changed();
    assert_eq!(show(lists.unwrap().into_iter()), ["Namespace prod"]);
    let said = complaints.iter().map(|it| reader.show_complaint(it)).collect::<Vec<_>>();
    let expect = "file: prod.yaml: it is a named pipe and no file; its last good objects stay";
    assert_eq!(said, [expect]);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mut reader = Reader::new();
    reader.write("a.yaml", PROD);
    // All of it a hole.
    fs::File::create(reader.dir.path().join("b.yaml")).unwrap().set_len((64 << 20) + 1).unwrap();
    let complaint = "file: b.yaml: it is larger than 67108864 octets; it is skipped".to_owned();
    assert_eq!(reader.read(), (vec!["Namespace prod".to_owned()], vec![complaint]));
}

#[test]
fn a_broken_file_keeps_its_last_good_objects() {
    let mut reader = Reader::new();
    reader.write("a.yaml", PROD);
    reader.write("b.yaml", &service("b", "10.96.0.2"));
    reader.write("c.yaml", "kind: [");
    let (objects, complaints) = reader.read();
    assert_eq!(objects, ["Namespace prod", "Service prod/b [10.96.0.2]"]);
    assert!(complaints[0].starts_with("file: c.yaml: "), "{complaints:?}");
    assert!(complaints[0].ends_with("; it is skipped"), "{complaints:?}");

    for (broken, reason) in
        [("apiVersion: v1\nkind: Serv", "no kind"), ("kind: {", ""), ("", "empty")]
    {
        let broken = broken.replace("kind: Serv", "kin: Serv");
        reader.write("b.yaml", &broken);
        let (objects, complaints) = reader.read();
        assert_eq!(objects, ["Namespace prod", "Service prod/b [10.96.0.2]"], "{broken:?}");
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("file: b.yaml: "), "{complaints:?}");
        assert!(complaints[0].contains(reason), "{complaints:?}");
        assert!(complaints[0].ends_with("; its last good objects stay"), "{complaints:?}");
        assert_eq!(reader.read().1, Vec::<String>::new(), "said once");
    }

    reader.write("b.yaml", &service("b", "10.96.0.3"));
    assert_eq!(reader.read().0, ["Namespace prod", "Service prod/b [10.96.0.3]"]);
    reader.write("b.yaml", "{");
    reader.remove("b.yaml");
    assert_eq!(reader.read().0, ["Namespace prod"]);
}

#[test]
fn a_malformed_object_is_unusable_and_the_others_stay() {
    let mut reader = Reader::new();
    let text = |ip| format!("{PROD}---\n{}---\n{}", service("a", ip), service("b", "10.96.0.2"));
    reader.write("a.yaml", &text("10.96.0.1"));
    assert_eq!(reader.read().0.len(), 3);
    reader.write("a.yaml", &text("10.96.0.256"));
    let (objects, complaints) = reader.read();
    assert_eq!(objects, ["Namespace prod", "!Service prod/a", "Service prod/b [10.96.0.2]"]);
    assert_eq!(complaints.len(), 1);
    let expect = "Service skipped: a.yaml: Service prod/a: \"10.96.0.256\" is not an IP address";
    assert!(complaints[0].starts_with(expect), "{complaints:?}");
}

#[test]
fn the_last_of_two_counts() {
    let mut reader = Reader::new();
    reader.write("a.yaml", PROD);
    reader.write("c.yaml", &service("web", "10.96.0.3"));
    reader.write("b.yaml", &service("web", "10.96.0.2"));
    let (objects, complaints) = reader.read();
    assert_eq!(objects, ["Namespace prod", "Service prod/web [10.96.0.3]"]);
    assert_eq!(complaints, ["Service prod/web stands in b.yaml and in c.yaml; the latter counts"]);
    reader.remove("c.yaml");
    let (objects, complaints) = reader.read();
    assert_eq!(objects, ["Namespace prod", "Service prod/web [10.96.0.2]"]);
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn undeclared_namespaces_are_named_once() {
    let mut reader = Reader::new();
    reader.write("b.yaml", &service("b", "10.96.0.2"));
    let in_default = service("c", "10.96.0.3").replace(", namespace: prod", "");
    reader.write("c.yaml", &in_default);
    let (_, complaints) = reader.read();
    let expect = "Namespace prod is used but not declared, so no name in it is answered";
    assert_eq!(complaints, [expect]);
    reader.write("d.yaml", &service("d", "10.96.0.4"));
    assert!(reader.read().1.is_empty());
    reader.write("a.yaml", PROD);
    assert!(reader.read().1.is_empty());
}

#[test]
fn only_coredns_config_map_counts() {
    let mut reader = Reader::new();
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: kube-system}}\n"
        )
    };
    reader.write("a.yaml", &format!("{}---\n{}", map("other"), map("coredns")));
    assert_eq!(reader.read(), (vec!["ConfigMap kube-system/coredns".to_owned()], vec![]));
}

#[test]
fn a_vanished_folder_keeps_its_last_state() {
    let mut reader = Reader::new();
    reader.write("a.yaml", PROD);
    assert_eq!(reader.read().0, ["Namespace prod"]);
    let away = reader.dir.path().with_extension("away");
    fs::rename(reader.dir.path(), &away).unwrap();
    let gone = reader.folder.read();
    assert!(gone.lists.is_none());
    assert_eq!(gone.complaints.len(), 1);
    assert!(reader.folder.read_if_changed().complaints.is_empty(), "said once");
    fs::rename(&away, reader.dir.path()).unwrap();
    assert!(reader.folder.read_if_changed().lists.is_some(), "read again when it is back");
    assert!(reader.folder.read_if_changed().lists.is_none(), "and only then");
}

/// A source that runs on a folder.
struct Running {
    dir: TempDir,
    events: mpsc::Receiver<Event>,
    pods: watch::Sender<Option<PodReceiver>>,
    counters: Arc<SourceCounters>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a.yaml"), PROD).unwrap();
        let (sender, events) = mpsc::channel(16);
        let (pods, pods_wanted) = watch::channel(None);
        let counters = Arc::new(SourceCounters::default());
        let (path, its_counters) = (dir.path().to_owned(), Arc::clone(&counters));
        let task = tokio::spawn(async move {
            run(&path, &mk_name("kube-system/coredns"), sender, pods_wanted.into(), &its_counters)
                .await
                .unwrap();
        });
        Self { dir, events, pods, counters, task }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join(file)
    }

    /// Waits until the Services are these.
    async fn expect_services(&mut self, expect: &[&str]) {
        let deadline = (Instant::now() + DEADLINE).into();
        let mut last = Vec::new();
        while let Ok(event) = timeout_at(deadline, self.events.recv()).await {
            if let Event::Listed(Kind::Service, objects) = event.expect("the source ended") {
                last = show([(Kind::Service, objects)].into_iter());
                if last == expect {
                    return;
                }
            }
        }
        panic!("{expect:?} did not come, last were {last:?}");
    }
}

#[tokio::test]
async fn files_that_come_change_and_go() {
    let mut running = Running::start();
    running.expect_services(&[]).await;
    fs::write(running.path("b.yaml"), service("b", "10.96.0.2")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.2]"]).await;
    fs::write(running.path("b.yaml"), service("b", "10.96.0.3")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.3]"]).await;
    // As editors do: the new text in another file, then renamed over the old.
    fs::write(running.path("b.yaml~"), service("b", "10.96.0.4")).unwrap();
    fs::rename(running.path("b.yaml~"), running.path("b.yaml")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.4]"]).await;
    fs::remove_file(running.path("b.yaml")).unwrap();
    running.expect_services(&[]).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_replaced_at_once() {
    let mut running = Running::start();
    let generation = |number: &str, ip: &str| {
        let folder = running.path(number);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("b.yaml"), service("b", ip)).unwrap();
    };
    generation("..1", "10.96.0.1");
    generation("..2", "10.96.0.2");
    symlink("..1", running.path("..data")).unwrap();
    symlink("..data/b.yaml", running.path("b.yaml")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.1]"]).await;
    symlink("..2", running.path("..data_tmp")).unwrap();
    fs::rename(running.path("..data_tmp"), running.path("..data")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.2]"]).await;
}

#[tokio::test]
async fn a_folder_that_comes_back_is_watched_again() {
    let mut running = Running::start();
    running.expect_services(&[]).await;
    let path: &Path = &running.path("").components().collect::<std::path::PathBuf>();
    fs::remove_dir_all(path).unwrap();
    fs::create_dir(path).unwrap();
    fs::write(path.join("b.yaml"), service("b", "10.96.0.2")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.2]"]).await;
    fs::write(path.join("b.yaml"), service("b", "10.96.0.3")).unwrap();
    running.expect_services(&["Service prod/b [10.96.0.3]"]).await;
}

#[tokio::test]
async fn what_is_wrong_is_counted() {
    let mut running = Running::start();
    running.expect_services(&[]).await;
    fs::write(running.path("b.yaml"), service("b", "10.96")).unwrap();
    fs::write(running.path("c.yaml"), "{").unwrap();
    mkfifo(&running.path("pipe.yaml"), Mode::S_IRWXU).unwrap();
    fs::write(running.path("d.yaml"), service("d", "10.96.0.4")).unwrap();
    let expect = ["!Service prod/b", "Service prod/d [10.96.0.4]"];
    running.expect_services(&expect).await;
    assert_eq!(running.counters.skipped(Kind::Service), 1);
    assert_eq!(running.counters.unusable_files(), 2);
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let mut running = Running::start();
    running.expect_services(&[]).await;
    running.events.close();
    let deadline = (Instant::now() + DEADLINE).into();
    timeout_at(deadline, &mut running.task).await.expect("still running").unwrap();
}

#[tokio::test]
async fn pods_are_sent_while_they_are_wanted() {
    let mut running = Running::start();
    running.expect_services(&[]).await;
    let pod = |name, ip, team| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{team: {team}}}}}\n\
             status: {{podIP: {ip}}}\n"
        )
    };
    let text = format!("{}{}", pod("one", "10.1.0.1", "a"), pod("two", "10.1.0.2", "b"));
    fs::write(running.path("pods.yaml"), text).unwrap();
    for (labels, expect) in
        [("", vec!["default/one", "default/two"]), ("labels team=b", vec!["default/two"])]
    {
        let text = format!(". {{\n kubernetes a.org {{\n pods verified\n {labels}\n }}\n}}");
        let wanted = cluster_zones(Some(&text), None).unwrap();
        assert!(matches!(wanted.cluster, ZoneSettings::Answered(_)), "{labels}");
        let (events, mut received) = mpsc::channel(16);
        let wanted = wanted.wanted_pods().unwrap();
        running.pods.send_replace(Some(PodReceiver { events, wanted }));
        let deadline = (Instant::now() + DEADLINE).into();
        let mut last = Vec::new();
        while last != expect {
            let event = timeout_at(deadline, received.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("{labels}: no more than {last:?}"));
            let Some(Event::Listed(Kind::Pod, pods)) = event else { panic!("{event:?}") };
            last = pods.iter().map(|pod| pod.name().to_string()).collect();
        }
    }
}
