//! What a Pod is told: kubelet's own cases, kubelet's recorded answers, and what
//! only happens here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Contested, Environment, ServiceLinks, build_environment};
use crate::{
    index::Index,
    objects::{Event, Kind, Object, builders::mk_name},
};

/// Returns a Service of the API. Ports are `name:number/protocol`, each part but
/// the number may be missing.
fn mk_api_service(name: &str, cluster_ip: &str, ports: &str) -> Value {
    let ports = ports.split_whitespace().map(|port| {
        let (name, rest) = port.split_once(':').unwrap_or(("", port));
        let (number, protocol) = rest.split_once('/').unwrap_or((rest, ""));
        json!({"name": name, "port": number.parse::<u16>().unwrap(), "protocol": protocol})
    });
    let ports: Vec<_> = ports.collect();
    let name = mk_name(name);
    json!({
        "metadata": {"namespace": name.namespace, "name": name.name},
        "spec": {"clusterIP": cluster_ip, "ports": ports},
    })
}

/// Builds the environment of a Pod as if the Services had just arrived.
fn environment(services: Vec<Value>, namespace: &str, links: ServiceLinks) -> Environment {
    let mut index = Index::default();
    for service in services {
        let object = Object::from_json(Kind::Service, service).unwrap();
        index.apply(Event::Apply(object.unwrap()));
    }
    build_environment(&index, namespace, links)
}

/// Returns the variables of the Services as lines, in order.
fn lines(services: Vec<Value>, namespace: &str, links: ServiceLinks) -> Vec<String> {
    let variables = environment(services, namespace, links).variables.into_iter();
    variables.map(|variable| format!("{}={}", variable.name, variable.value)).collect()
}

/// Name, clusterIP and ports of a Service, and its variables.
struct Case(&'static str, &'static str, &'static str, &'static [&'static str]);

/// Cases of `TestFromServices` in kubelet's `envvars_test.go`, and one more.
const SERVICES: [Case; 8] = [
    Case(
        "foo-bar",
        "1.2.3.4",
        "8080/TCP",
        &[
            "FOO_BAR_SERVICE_HOST=1.2.3.4",
            "FOO_BAR_SERVICE_PORT=8080",
            "FOO_BAR_PORT=tcp://1.2.3.4:8080",
            "FOO_BAR_PORT_8080_TCP=tcp://1.2.3.4:8080",
            "FOO_BAR_PORT_8080_TCP_PROTO=tcp",
            "FOO_BAR_PORT_8080_TCP_PORT=8080",
            "FOO_BAR_PORT_8080_TCP_ADDR=1.2.3.4",
        ],
    ),
    Case(
        "abc-123",
        "5.6.7.8",
        "u-d-p:8081/UDP t-c-p:8081/TCP",
        &[
            "ABC_123_SERVICE_HOST=5.6.7.8",
            "ABC_123_SERVICE_PORT=8081",
            "ABC_123_SERVICE_PORT_U_D_P=8081",
            "ABC_123_SERVICE_PORT_T_C_P=8081",
            "ABC_123_PORT=udp://5.6.7.8:8081",
            "ABC_123_PORT_8081_UDP=udp://5.6.7.8:8081",
            "ABC_123_PORT_8081_UDP_PROTO=udp",
            "ABC_123_PORT_8081_UDP_PORT=8081",
            "ABC_123_PORT_8081_UDP_ADDR=5.6.7.8",
            "ABC_123_PORT_8081_TCP=tcp://5.6.7.8:8081",
            "ABC_123_PORT_8081_TCP_PROTO=tcp",
            "ABC_123_PORT_8081_TCP_PORT=8081",
            "ABC_123_PORT_8081_TCP_ADDR=5.6.7.8",
        ],
    ),
    Case(
        "q-u-u-x",
        "9.8.7.6",
        "8082/TCP 8083:8083/TCP",
        &[
            "Q_U_U_X_SERVICE_HOST=9.8.7.6",
            "Q_U_U_X_SERVICE_PORT=8082",
            "Q_U_U_X_SERVICE_PORT_8083=8083",
            "Q_U_U_X_PORT=tcp://9.8.7.6:8082",
            "Q_U_U_X_PORT_8082_TCP=tcp://9.8.7.6:8082",
            "Q_U_U_X_PORT_8082_TCP_PROTO=tcp",
            "Q_U_U_X_PORT_8082_TCP_PORT=8082",
            "Q_U_U_X_PORT_8082_TCP_ADDR=9.8.7.6",
            "Q_U_U_X_PORT_8083_TCP=tcp://9.8.7.6:8083",
            "Q_U_U_X_PORT_8083_TCP_PROTO=tcp",
            "Q_U_U_X_PORT_8083_TCP_PORT=8083",
            "Q_U_U_X_PORT_8083_TCP_ADDR=9.8.7.6",
        ],
    ),
    Case("svrc-clusterip-none", "None", "8082/TCP", &[]),
    Case("svrc-clusterip-empty", "", "8082/TCP", &[]),
    Case(
        "super-ipv6",
        "2001:db8::",
        "u-d-p:8084/UDP t-c-p:8084/TCP",
        &[
            "SUPER_IPV6_SERVICE_HOST=2001:db8::",
            "SUPER_IPV6_SERVICE_PORT=8084",
            "SUPER_IPV6_SERVICE_PORT_U_D_P=8084",
            "SUPER_IPV6_SERVICE_PORT_T_C_P=8084",
            "SUPER_IPV6_PORT=udp://[2001:db8::]:8084",
            "SUPER_IPV6_PORT_8084_UDP=udp://[2001:db8::]:8084",
            "SUPER_IPV6_PORT_8084_UDP_PROTO=udp",
            "SUPER_IPV6_PORT_8084_UDP_PORT=8084",
            "SUPER_IPV6_PORT_8084_UDP_ADDR=2001:db8::",
            "SUPER_IPV6_PORT_8084_TCP=tcp://[2001:db8::]:8084",
            "SUPER_IPV6_PORT_8084_TCP_PROTO=tcp",
            "SUPER_IPV6_PORT_8084_TCP_PORT=8084",
            "SUPER_IPV6_PORT_8084_TCP_ADDR=2001:db8::",
        ],
    ),
    Case(
        "sctp-1",
        "1.2.3.4",
        "777/SCTP",
        &[
            "SCTP_1_SERVICE_HOST=1.2.3.4",
            "SCTP_1_SERVICE_PORT=777",
            "SCTP_1_PORT=sctp://1.2.3.4:777",
            "SCTP_1_PORT_777_SCTP=sctp://1.2.3.4:777",
            "SCTP_1_PORT_777_SCTP_PROTO=sctp",
            "SCTP_1_PORT_777_SCTP_PORT=777",
            "SCTP_1_PORT_777_SCTP_ADDR=1.2.3.4",
        ],
    ),
    Case("no-ports", "1.2.3.4", "", &[]),
];

#[test]
fn each_service_gives_its_variables_in_order() {
    for Case(name, cluster_ip, ports, expect) in SERVICES {
        let service = mk_api_service(&format!("prod/{name}"), cluster_ip, ports);
        assert_eq!(lines(vec![service], "prod", ServiceLinks::Enabled), expect, "{name}");
    }
}

/// Cases of `TestMakeEnvironmentVariables` in kubelet's `kubelet_pods_test.go`.
#[test]
fn a_pod_is_told_of_its_namespace_and_of_the_api_server() {
    use ServiceLinks::{Disabled, Enabled};
    let services = [
        mk_api_service("default/kubernetes", "1.2.3.1", "8081/TCP"),
        mk_api_service("test1/test", "1.2.3.3", "8083/TCP"),
        mk_api_service("test2/kubernetes", "1.2.3.4", "8084/TCP"),
        mk_api_service("test2/test", "1.2.3.5", "8085/TCP"),
        mk_api_service("test3/kubernetes", "None", "8086/TCP"),
        mk_api_service("default/not-special", "1.2.3.8", "8088/TCP"),
    ];
    let cases: [(&str, ServiceLinks, &[&str]); 9] = [
        ("test1", Disabled, &["KUBERNETES 1.2.3.1"]),
        ("test1", Enabled, &["KUBERNETES 1.2.3.1", "TEST 1.2.3.3"]),
        ("test2", Disabled, &["KUBERNETES 1.2.3.1"]),
        ("test2", Enabled, &["KUBERNETES 1.2.3.4", "TEST 1.2.3.5"]),
        ("test3", Enabled, &["KUBERNETES 1.2.3.1"]),
        ("default", Disabled, &["KUBERNETES 1.2.3.1"]),
        ("default", Enabled, &["KUBERNETES 1.2.3.1", "NOT_SPECIAL 1.2.3.8"]),
        ("empty", Disabled, &["KUBERNETES 1.2.3.1"]),
        ("empty", Enabled, &["KUBERNETES 1.2.3.1"]),
    ];
    for (namespace, links, expect) in cases {
        let lines = lines(services.to_vec(), namespace, links);
        let hosts = lines.iter().filter(|line| line.contains("_SERVICE_HOST="));
        let hosts: Vec<_> = hosts.map(|line| line.replace("_SERVICE_HOST=", " ")).collect();
        assert_eq!(hosts, expect, "{namespace} {links:?}");
        assert_eq!(lines.len(), 7 * expect.len(), "{namespace} {links:?}");
    }
}

#[test]
fn an_alias_gives_nothing() {
    let mut service = mk_api_service("prod/web", "", "80");
    service["spec"]["type"] = json!("ExternalName");
    service["spec"]["externalName"] = json!("www.example.com");
    assert_eq!(lines(vec![service], "prod", ServiceLinks::Enabled), Vec::<String>::new());
}

#[test]
fn services_come_in_the_order_of_their_names() {
    let services = ["c", "a", "b", "a-1"].map(|name| {
        let name = format!("prod/{name}");
        mk_api_service(&name, "10.96.1.1", "80")
    });
    let lines = lines(services.to_vec(), "prod", ServiceLinks::Enabled);
    let hosts: Vec<_> = lines.iter().filter_map(|line| line.split_once("_SERVICE_HOST")).collect();
    let names: Vec<_> = hosts.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["A", "A_1", "B", "C"]);
}

#[test]
fn of_two_services_that_give_a_variable_the_last_counts() {
    let services = vec![
        mk_api_service("prod/a-service", "10.96.1.2", "81"),
        mk_api_service("prod/a", "10.96.1.1", "80"),
    ];
    let Environment { variables, contested } = environment(services, "prod", ServiceLinks::Enabled);
    let expect = Contested {
        variable: "A_SERVICE_PORT".into(),
        loser: mk_name("prod/a"),
        winner: mk_name("prod/a-service"),
    };
    assert_eq!(contested, [expect]);
    let named: Vec<_> = variables.iter().filter(|one| one.name == "A_SERVICE_PORT").collect();
    assert_eq!(named.len(), 1, "{variables:?}");
    assert_eq!(named[0].value, "tcp://10.96.1.2:81");
    assert_eq!(variables.len(), 13);
}

#[derive(Deserialize)]
struct Recorded {
    about: String,
    cases: Vec<RecordedCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedCase {
    namespace: String,
    enable_service_links: bool,
    services: Vec<Value>,
    expect: BTreeMap<String, String>,
}

#[test]
fn kubelet_says_the_same() {
    let recorded: Recorded = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(recorded.cases.len() >= 13, "{}", recorded.about);
    for case in recorded.cases {
        let given = format!("{} {} {:?}", case.namespace, case.enable_service_links, case.services);
        let links = ServiceLinks::from(case.enable_service_links);
        let Environment { variables, contested } =
            environment(case.services, &case.namespace, links);
        assert_eq!(contested, [], "{given}");
        let count = variables.len();
        let ours: BTreeMap<_, _> =
            variables.into_iter().map(|variable| (variable.name, variable.value)).collect();
        assert_eq!(ours, case.expect, "{given}");
        assert_eq!(count, ours.len(), "{given}");
    }
}
