//! What packets cost that are not DNS: in the program, and for a TCP connection
//! through a link that has it.

use std::{
    fmt,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clap::Args;
use dns_ebpf::layout::programs;
use harness::{
    node::{NODE_IP, Node, Pod},
    packet::frame::{Frame, Transport},
};
use serde::Serialize;

use crate::{
    attached::Attached,
    machine::{self, Machine},
    report::{self, Figure},
    test_run::{Effort, Nanoseconds, options, subject, time},
};

const EFFORT: Effort = Effort { rounds: 5, repeats: 500_000 };
/// How long the other end of a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets that are written at once to a stream.
const CHUNK: usize = 65_536;

/// Flags of `bench idle`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How often the program comes to the link and goes again.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Length of each measurement, in milliseconds.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    effort: Effort,
    /// The floor: a program that does nothing.
    empty: Nanoseconds,
    frames: Vec<Row>,
    rounds: u32,
    round_trips: Compared,
    stream: Compared,
}

#[derive(Serialize)]
struct Row {
    frame: &'static str,
    ns: Nanoseconds,
    above_empty_ns: i64,
}

/// The same through a link without the program, and with it.
#[derive(Serialize)]
struct Compared {
    without: Figure,
    with: Figure,
    /// With to without, of neighbouring measurements.
    ratio: Figure,
}

/// Prints the report.
pub(crate) fn run(arguments: &Arguments, json: bool) {
    let machine = Machine::look();
    let [round_trips, stream] = connections(arguments);
    machine::pin();
    let mut loaded = subject(&options()).with_program(programs::EMPTY).unwrap();
    let frames = frames();
    let empty = time(&mut loaded, programs::EMPTY, &frames[0].1, EFFORT);
    let row = |(frame, octets): &(&'static str, Vec<u8>)| {
        let ns = time(&mut loaded, programs::ANSWER, octets, EFFORT);
        Row { frame, ns, above_empty_ns: ns.above(empty) }
    };
    let frames = frames.iter().map(row).collect();
    let rounds = arguments.rounds;
    let report = Report { machine, effort: EFFORT, empty, frames, rounds, round_trips, stream };
    report::print(json, &report, &report);
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let pod = IpAddr::from(Ipv4Addr::new(10, 244, 0, 2));
    let to_pod = Frame {
        destination: pod,
        destination_port: 8080,
        payload: vec![0; 100],
        ..Frame::default()
    };
    let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    let tcp = Frame { transport: Transport::Tcp, ..to_pod.clone() };
    let tcp_v6 = Frame { source: v6(1), destination: v6(2), ..tcp.clone() };
    let mut icmp = to_pod.octets();
    // The protocol; the program does not look further.
    icmp[23] = 1;
    // Hardware Ethernet, protocol IPv4, lengths 6 and 4, a request (RFC 826).
    let mut arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    arp.resize(42, 0);
    vec![
        ("TCP", tcp.octets()),
        ("TCP to port 53 of the local address", {
            Frame { transport: Transport::Tcp, payload: vec![0; 50], ..Frame::default() }.octets()
        }),
        ("UDP to another port", to_pod.octets()),
        ("UDP to port 53 of another address", {
            Frame { destination_port: 53, ..to_pod.clone() }.octets()
        }),
        ("ICMP", icmp),
        ("TCP over IPv6", tcp_v6.octets()),
        ("ARP", arp),
    ]
}

/// Round trips per second, and octets per second of a stream.
fn connections(arguments: &Arguments) -> [Compared; 2] {
    let node = Node::new("idle");
    let pod = node.add_pod("pod");
    let mut loaded = subject(&options());
    let span = Duration::from_millis(arguments.milliseconds);
    let mut measured: [[Vec<f64>; 2]; 2] = Default::default();
    for round in 0..arguments.rounds {
        eprintln!("round {round} ...");
        // Each comes first as often as the other.
        for with in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let attached =
                (with == 1).then(|| Attached::new(&mut loaded, programs::ANSWER, &node, &pod));
            measured[0][with].push(round_trips(&node, &pod, span));
            measured[1][with].push(stream(&node, &pod, span));
            drop(attached);
        }
    }
    measured.map(|[without, with]| Compared {
        ratio: Figure::of(without.iter().zip(&with).map(|(without, with)| with / without)),
        without: Figure::of(without),
        with: Figure::of(with),
    })
}

/// A connection from the pod to the node, and the server's thread.
fn connect<T: Send + 'static>(
    node: &Node,
    pod: &Pod,
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (TcpStream, JoinHandle<T>) {
    let listener = node.namespace().run(|| TcpListener::bind((NODE_IP, 0))).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let server = node.namespace().spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        serve(stream)
    });
    let client = pod.namespace().run(|| TcpStream::connect(address)).expect("a connection");
    client.set_nodelay(true).expect("a socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    (client, server)
}

/// An octet there and back, over and over; returns how often in a second.
fn round_trips(node: &Node, pod: &Pod, span: Duration) -> f64 {
    let (mut client, server) = connect(node, pod, |mut stream| {
        let mut octet = [0];
        while stream.read_exact(&mut octet).is_ok() && stream.write_all(&octet).is_ok() {}
    });
    let (mut octet, mut count) = ([0], 0);
    let start = Instant::now();
    while start.elapsed() < span {
        client.write_all(&octet).expect("the server is there");
        client.read_exact(&mut octet).expect("the server answers");
        count += 1;
    }
    let elapsed = start.elapsed();
    drop(client);
    server.join().expect("the server ends");
    f64::from(count) / elapsed.as_secs_f64()
}

/// As much as goes through; returns octets per second as the server received them.
fn stream(node: &Node, pod: &Pod, span: Duration) -> f64 {
    let (mut client, server) = connect(node, pod, |mut stream| {
        let (mut octets, mut sum) = (vec![0; CHUNK], 0_u64);
        loop {
            match stream.read(&mut octets) {
                Ok(0) => return sum,
                Ok(length) => sum += length as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The client gives up by itself; what came until then counts.
                Err(_) => return sum,
            }
        }
    });
    let octets = vec![0; CHUNK];
    let start = Instant::now();
    while start.elapsed() < span {
        client.write_all(&octets).expect("the server is there");
    }
    drop(client);
    let received = server.join().expect("the server ends");
    received as f64 / start.elapsed().as_secs_f64()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { rounds, repeats } = self.effort;
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "least and median of {rounds} x {repeats} test runs")?;
        let row = |name: &str, ns: Nanoseconds, above: i64| {
            [name.to_owned(), ns.least.to_string(), ns.median.to_string(), format!("{above:+}")]
        };
        let floor = row("(empty program)", self.empty, 0);
        let rows = self
            .frames
            .iter()
            .map(|Row { frame, ns, above_empty_ns }| row(frame, *ns, *above_empty_ns));
        let rows = [floor].into_iter().chain(rows).collect();
        writeln!(f, "{}", report::table(["packet", "ns", "median", "above empty"], rows))?;
        writeln!(
            f,
            "one TCP connection from a pod to its node: median (least-most) of {}",
            self.rounds
        )?;
        let row = |name: &str, compared: &Compared, unit: f64| {
            let scaled = |figure: &Figure| figure.scaled(1.0 / unit).to_string();
            let ratio = format!("{:.3}", compared.ratio);
            [name.to_owned(), scaled(&compared.without), scaled(&compared.with), ratio]
        };
        let rows = vec![
            row("round trips of an octet per second", &self.round_trips, 1.0),
            row("stream, MB/s", &self.stream, 1e6),
        ];
        let columns = ["what", "without the program", "with it", "with / without"];
        write!(f, "{}", report::table(columns, rows))
    }
}
