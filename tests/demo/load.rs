//! A second of dnsperf.

use std::{io::Write as _, str::FromStr};

use harness::{node::LOCAL_IP, process};
use tempfile::NamedTempFile;

use crate::{answered_by::kernel_answers, rig::Rig};

const QUERIES: &str = "web.shop.svc.cluster.local A\n\
                       web.shop.svc.cluster.local AAAA\n\
                       api.shop.svc.cluster.local A\n\
                       db.data.svc.cluster.local A\n\
                       kubernetes.default.svc.cluster.local AAAA\n";

/// Asks for a second as fast as dnsperf can; false when a query was lost.
pub fn run(rig: &Rig<'_>) -> bool {
    let (kernel, cpu) = (kernel_answers(rig), rig.agent.process().cpu_time());
    let mut command = rig.pods[0].command("dnsperf");
    let server = LOCAL_IP.to_string();
    let mut queries = NamedTempFile::new().expect("a scratch file");
    queries.write_all(QUERIES.as_bytes()).expect("a scratch file");
    command.args(["-s", &server, "-l", "1", "-c", "2", "-q", "100", "-d"]).arg(queries.path());
    let output = process::run(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (Some(rate), Some(lost), Some(done)) = (
        field::<f64>(&text, "Queries per second:"),
        field::<u64>(&text, "Queries lost:"),
        field::<u64>(&text, "Queries completed:"),
    ) else {
        println!("dnsperf said:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        return false;
    };
    let kernel = kernel_answers(rig) - kernel;
    let cpu = rig.agent.process().cpu_time().saturating_sub(cpu);
    println!(
        "\ndnsperf, one second from a pod: {rate:.0} queries/s, {lost} lost; \
         {kernel} of {done} answered in the kernel; CPU time of the agent: +{} ms",
        cpu.as_millis()
    );
    lost == 0 && kernel >= done
}

/// The number behind `name` in dnsperf's report.
fn field<T: FromStr>(text: &str, name: &str) -> Option<T> {
    let value = text.split(name).nth(1)?.split_whitespace().next()?;
    value.parse().ok()
}
