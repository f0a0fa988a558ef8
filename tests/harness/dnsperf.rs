//! dnsperf: queries from a pod, or a node, as fast as they are answered.

use std::{
    fmt,
    io::{BufWriter, Write as _},
    net::IpAddr,
    time::Duration,
};

use tempfile::NamedTempFile;

use crate::{netns::Namespace, process::Child, tools};

/// How long dnsperf waits for an answer until it counts the query as lost, in
/// seconds.
const TIMEOUT_S: u64 = 2;
/// Room for responses in each socket, in KiB: for all that dnsperf may wait for,
/// 100 of some 2 KiB each, and while it has no CPU.
const BUFFER_KIB: u64 = 1024;
/// How much longer than its own time and its last time-out it may take.
const SLACK: Duration = Duration::from_secs(20);

/// What is asked, over and over. Dropping it removes the file.
#[derive(Debug)]
pub struct Questions(NamedTempFile);

impl Questions {
    /// Writes questions (`NAME TYPE`), one to a line.
    #[track_caller]
    pub fn new(questions: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let mut file = BufWriter::new(NamedTempFile::new().expect("a scratch file"));
        for question in questions {
            writeln!(file, "{question}").expect("a scratch file");
        }
        Self(file.into_inner().expect("a scratch file"))
    }
}

/// How it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// For how long, in seconds.
    pub seconds: u64,
    /// Threads that ask.
    pub threads: u32,
    /// Sockets that ask, shared out among the threads.
    pub clients: u32,
    /// Most queries per second; as fast as they are answered without.
    pub queries_per_s: Option<u64>,
    /// Whether nothing else gets a CPU that it wants (`SCHED_FIFO`): only for answers
    /// of the kernel.
    pub is_undisturbed: bool,
}

impl Load {
    /// As fast as they are answered, by one thread.
    pub fn for_seconds(seconds: u64) -> Self {
        Self { seconds, threads: 1, clients: 4, queries_per_s: None, is_undisturbed: false }
    }
}

/// A running dnsperf. Dropping it ends it.
#[derive(Debug)]
pub struct Dnsperf {
    child: Child,
    seconds: u64,
    /// Kept for as long as it is read.
    _questions: Option<Questions>,
}

/// What it has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Queries that were answered.
    pub completed: u64,
    /// Queries without an answer.
    pub lost: u64,
    /// Answered queries per second.
    pub queries_per_s: f64,
    /// RCODEs with their counts, as dnsperf writes them.
    pub rcodes: String,
}

impl Dnsperf {
    /// Starts to ask `server` from `place`, for some seconds, the same questions
    /// (`NAME TYPE`) over and over.
    #[track_caller]
    pub fn start(place: &Namespace, server: IpAddr, questions: &[&str], seconds: u64) -> Self {
        let questions = Questions::new(questions);
        let dnsperf = Self::start_load(place, server, &questions, Load::for_seconds(seconds));
        Self { _questions: Some(questions), ..dnsperf }
    }

    /// Starts to ask `server` from `place`; the questions have to outlive it.
    #[track_caller]
    pub fn start_load(
        place: &Namespace,
        server: IpAddr,
        questions: &Questions,
        load: Load,
    ) -> Self {
        let Load { seconds, threads, clients, queries_per_s, is_undisturbed } = load;
        let dnsperf = tools::expect("dnsperf");
        let mut command = if is_undisturbed {
            let mut command = place.command(tools::expect("chrt"));
            command.args(["-f", "1"]).arg(dnsperf);
            command
        } else {
            place.command(dnsperf)
        };
        command.args(["-s", &server.to_string(), "-l", &seconds.to_string()]);
        command.args(["-t", &TIMEOUT_S.to_string(), "-b", &BUFFER_KIB.to_string()]);
        command.args(["-c", &clients.to_string(), "-T", &threads.to_string()]);
        if let Some(rate) = queries_per_s {
            command.args(["-Q", &rate.to_string()]);
        }
        command.arg("-d").arg(questions.0.path());
        Self { child: Child::start("dnsperf", command), seconds, _questions: None }
    }

    /// Returns the process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Waits for its end and reads its report.
    #[track_caller]
    pub fn finish(self) -> Report {
        let limit = Duration::from_secs(self.seconds + TIMEOUT_S) + SLACK;
        let status = self.child.wait_for_exit(limit);
        let output = self.child.output();
        assert!(status.success(), "dnsperf failed ({status}):\n{output}");
        parse(&output).unwrap_or_else(|| panic!("dnsperf gave no report:\n{output}"))
    }
}

fn parse(output: &str) -> Option<Report> {
    let value = |label: &str| {
        let lines = output.lines().map(str::trim_start);
        let mut values = lines.filter_map(|line| line.strip_prefix(label));
        values.next().map(str::trim)
    };
    let first = |label: &str| value(label)?.split_whitespace().next();
    Some(Report {
        completed: first("Queries completed:")?.parse().ok()?,
        lost: first("Queries lost:")?.parse().ok()?,
        queries_per_s: first("Queries per second:")?.parse().ok()?,
        rcodes: value("Response codes:")?.to_owned(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dnsperf: {:.0} queries/s, {} lost", self.queries_per_s, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = parse(
            "Statistics:\n\n  Queries sent:         7\n  Queries completed:    6 (85.71%)\n  \
             Queries lost:         1 (14.29%)\n\n  Response codes:       NOERROR 6 (100.00%)\n  \
             Run time (s):         3.0\n  Queries per second:   2.5\n",
        )
        .unwrap();
        assert_eq!((report.completed, report.lost), (6, 1));
        assert_eq!(report.rcodes, "NOERROR 6 (100.00%)");
        assert_eq!(report.to_string(), "dnsperf: 2 queries/s, 1 lost");
        assert_eq!(parse("dnsperf: unable to open"), None);
    }
}
