//! dnsperf: queries from a pod as fast as they are answered.

use std::{fmt, io::Write as _, net::IpAddr, time::Duration};

use tempfile::NamedTempFile;

use crate::{node::Pod, process::Child, tools};

/// How long dnsperf waits for an answer until it counts the query as lost, in
/// seconds.
const TIMEOUT_S: u64 = 2;
/// How much longer than its own time and its last time-out it may take.
const SLACK: Duration = Duration::from_secs(20);

/// A running dnsperf. Dropping it ends it.
#[derive(Debug)]
pub struct Dnsperf {
    child: Child,
    seconds: u64,
    _questions: NamedTempFile,
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
    /// Starts to ask `server` from `pod`, for some seconds, the same questions
    /// (`NAME TYPE`) over and over.
    #[track_caller]
    pub fn start(pod: &Pod, server: IpAddr, questions: &[&str], seconds: u64) -> Self {
        let mut file = NamedTempFile::new().expect("a scratch file");
        writeln!(file, "{}", questions.join("\n")).expect("a scratch file");
        let mut command = pod.command(tools::expect("dnsperf"));
        command.args(["-s", &server.to_string(), "-l", &seconds.to_string()]);
        command.args(["-t", &TIMEOUT_S.to_string(), "-c", "4", "-T", "1", "-d"]);
        command.arg(file.path());
        Self { child: Child::start("dnsperf", command), seconds, _questions: file }
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
