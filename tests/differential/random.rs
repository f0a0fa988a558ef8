//! Random clusters, random changes and random questions, judged by CoreDNS.
//!
//! The numbers below are for every run of the tests; `NODEDNS_DIFFERENTIAL_ROUNDS`,
//! `NODEDNS_DIFFERENTIAL_QUESTIONS` (of each round) and `NODEDNS_DIFFERENTIAL_SEED`
//! set others.

use std::{env, time::Duration};

use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    cluster::{Cluster, require_cluster},
    kubernetes::Kubernetes,
    netns::Namespace,
    node::{LOCAL_IP, Node},
    objects::{mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace, mk_service},
    packet::query::{Query, qtype},
    wait::{poll_until, wait_until},
};
use hickory_proto::op::Message;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    compare::difference,
    random_objects::{Step, World},
    random_questions::{Question, question},
};

const ROUNDS: u64 = 6;
const QUESTIONS: u64 = 400;
/// How often the objects of a round change.
const CHANGES: u64 = 3;
/// How long a change may take to both.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(15);
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// How long answers may differ: each server follows its watches at its own pace.
const AGREE_LIMIT: Duration = Duration::from_secs(1);
/// How often a truncated response is drawn: what fits depends on CoreDNS's order.
const DRAWS: usize = 40;

/// A server, with one socket for all questions over UDP.
struct Server<'a> {
    from: &'a Namespace,
    address: std::net::SocketAddr,
    udp: UdpClient,
    next_id: u16,
}

impl<'a> Server<'a> {
    fn new(from: &'a Namespace, address: std::net::SocketAddr) -> Self {
        Self { from, address, udp: UdpClient::new(from, address).unwrap(), next_id: 1 }
    }

    /// Returns the response, or None when there is none or it cannot be read.
    fn ask(&mut self, query: &Query, tcp: bool) -> Option<Message> {
        self.next_id = self.next_id.wrapping_add(1);
        let octets = query.clone().with_id(self.next_id).octets();
        let response = if tcp {
            exchange_tcp(self.from, self.address, &octets, ANSWER_LIMIT)
        } else {
            self.udp.exchange(&octets, ANSWER_LIMIT)
        };
        Message::from_vec(&response.ok()?.octets).ok()
    }

    fn knows(&mut self, name: &str, address: &str) -> bool {
        let response = self.ask(&Query::new(name, qtype::A), false);
        response.is_some_and(|response| {
            response.answers.iter().any(|record| record.data.to_string() == address)
        })
    }
}

/// Both servers, asked alike.
struct Servers<'a> {
    ours: Server<'a>,
    judge: Server<'a>,
    counts: Counts,
}

/// How the questions went that have no difference.
#[derive(Debug, Default)]
struct Counts {
    /// Both answered with records.
    data: u64,
    /// Neither answered.
    silent: u64,
    /// The same only at the second time.
    late: u64,
    /// The same only after more draws of a truncated response.
    drawn: u64,
}

impl Servers<'_> {
    /// Returns what differs, when it keeps differing.
    fn difference(&mut self, question: &Question) -> Option<String> {
        let (mut last, mut are_truncated) = self.ask(question);
        if let Some(difference) = &last {
            println!("{question}, at first: {difference}");
            poll_until(AGREE_LIMIT, || false);
            (last, are_truncated) = self.ask(question);
            self.counts.late += u64::from(last.is_none());
        }
        // How many records fit depends on which come first, if their lengths differ.
        for _ in 0..DRAWS {
            if last.is_none() || !are_truncated {
                break;
            }
            (last, are_truncated) = self.ask(question);
            self.counts.drawn += u64::from(last.is_none());
        }
        last
    }

    /// Returns what differs, and whether both responses are truncated.
    fn ask(&mut self, Question { query, tcp, .. }: &Question) -> (Option<String>, bool) {
        match (self.ours.ask(query, *tcp), self.judge.ask(query, *tcp)) {
            (Some(ours), Some(judge)) => {
                let are_truncated = ours.metadata.truncation && judge.metadata.truncation;
                let difference = difference(&ours, &judge);
                let is_data = difference.is_none() && !judge.answers.is_empty();
                self.counts.data += u64::from(is_data);
                (difference, are_truncated)
            }
            (None, None) => {
                self.counts.silent += 1;
                (None, false)
            }
            (ours, judge) => {
                let differs = format!("\nours:   {ours:?}\ntheirs: {judge:?}");
                (Some(differs), false)
            }
        }
    }

    /// Puts the last changes behind all others of their kinds and waits until both
    /// servers have seen them.
    fn wait_for_changes(&mut self, kubernetes: &Kubernetes<'_>, world: &mut World) {
        let namespace = world.newest_namespace().to_owned();
        let mark = world.next_number();
        let name = format!("last-{mark}");
        let (service_ip, endpoint_ip) =
            (world.next_cluster_ip(), format!("10.250.{}.{}", mark / 250, mark % 250 + 1));
        let endpoint = mk_endpoint(endpoint_ip.parse().unwrap());
        write(
            kubernetes,
            &[
                Step::Apply(mk_headless_service(&namespace, "mark", &["80/TCP"]).into()),
                Step::Apply(mk_service(&namespace, &name, &service_ip, &["80/TCP"]).into()),
                Step::Apply(
                    mk_endpoint_slice(&namespace, "mark", "a", vec![endpoint], &["80/TCP"]).into(),
                ),
            ],
        );
        let service = format!("{name}.{namespace}.svc.cluster.local");
        let slice = format!("mark.{namespace}.svc.cluster.local");
        for server in [&mut self.ours, &mut self.judge] {
            let what = format!("{} has seen the last change", server.address);
            wait_until(&what, ARRIVAL_LIMIT, || {
                server.knows(&service, &service_ip) && server.knows(&slice, &endpoint_ip)
            });
        }
    }
}

/// Writes with one client. Panics when the API server refuses an object.
fn write(kubernetes: &Kubernetes<'_>, steps: &[Step]) {
    use crate::random_objects::Object;
    let manager = PatchParams::apply("harness").force();
    kubernetes.with_client(|client| async move {
        for step in steps {
            let (Step::Apply(object) | Step::Delete(object)) = step;
            let (name, namespace) = (object.name(), object.namespace());
            let result = match step {
                Step::Apply(Object::Service(service)) => {
                    let api = Api::<Service>::namespaced(client.clone(), &namespace);
                    api.patch(&name, &manager, &Patch::Apply(service)).await.map(drop)
                }
                Step::Apply(Object::Slice(slice)) => {
                    let api = Api::<EndpointSlice>::namespaced(client.clone(), &namespace);
                    api.patch(&name, &manager, &Patch::Apply(slice)).await.map(drop)
                }
                Step::Delete(Object::Service(_)) => {
                    let api = Api::<Service>::namespaced(client.clone(), &namespace);
                    api.delete(&name, &DeleteParams::default()).await.map(drop)
                }
                Step::Delete(Object::Slice(_)) => {
                    let api = Api::<EndpointSlice>::namespaced(client.clone(), &namespace);
                    api.delete(&name, &DeleteParams::default()).await.map(drop)
                }
            };
            result.unwrap_or_else(|error| panic!("{step:?}: {error}"));
        }
    });
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = env::var(format!("NODEDNS_DIFFERENTIAL_{name}")) else {
        return default;
    };
    T::from_str(&text).unwrap_or_else(|_| panic!("NODEDNS_DIFFERENTIAL_{name}: a number"))
}

#[test]
fn random_clusters_are_answered_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let (rounds, count) = (setting("ROUNDS", ROUNDS), setting("QUESTIONS", QUESTIONS));
    let seed: u64 = setting("SEED", rand::random());
    println!("seed {seed}");
    let node = Node::new("random");
    let cluster = Cluster::start(&node);
    let pod = node.add_pod("pod");
    let flags = cluster.agent_flags();
    let agent = Agent::start(&node, &flags.each_ref().map(String::as_str));
    let mut servers = Servers {
        ours: Server::new(pod.namespace(), (LOCAL_IP, 53).into()),
        judge: Server::new(node.namespace(), cluster.coredns.address()),
        counts: Counts::default(),
    };
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::default();
    let (mut asked, mut differences, mut steps) = (0, Vec::new(), Vec::new());
    for round in 0..rounds {
        for namespace in world.add_namespaces(&mut random) {
            cluster.kubernetes.apply_global(&mk_namespace(&namespace));
        }
        steps.extend(world.fill(&mut random));
        for part in 0..=CHANGES {
            write(&cluster.kubernetes, &steps);
            servers.wait_for_changes(&cluster.kubernetes, &mut world);
            let questions = count * (part + 1) / (CHANGES + 1) - count * part / (CHANGES + 1);
            let before = differences.len();
            for _ in 0..questions {
                let question = question(&mut random, &world);
                if let Some(difference) = servers.difference(&question) {
                    println!("seed {seed}, round {round}.{part}: {question}: {difference}");
                    differences.push(question.to_string());
                }
                asked += 1;
            }
            if differences.len() > before {
                println!("objects then:\n{world}");
            }
            steps = world.change(&mut random);
        }
    }
    println!(
        "{asked} questions over {rounds} clusters, seed {seed}: {} differences",
        differences.len()
    );
    println!("{:?}", servers.counts);
    println!("outcomes in the kernel: {}", agent.status()["packets"]);
    assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
}
