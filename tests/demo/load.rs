//! A second of dnsperf.

use harness::{dnsperf::Dnsperf, node::LOCAL_IP};

use crate::{answered_by::kernel_answers, rig::Rig};

const QUESTIONS: [&str; 5] = [
    "web.shop.svc.cluster.local A",
    "web.shop.svc.cluster.local AAAA",
    "api.shop.svc.cluster.local A",
    "db.data.svc.cluster.local A",
    "kubernetes.default.svc.cluster.local AAAA",
];

/// Asks for a second as fast as dnsperf can; false when a query was lost.
pub fn run(rig: &Rig<'_>) -> bool {
    let (kernel, cpu) = (kernel_answers(rig), rig.agent.process().cpu_time());
    let report = Dnsperf::start(rig.pods[0].namespace(), LOCAL_IP.into(), &QUESTIONS, 1).finish();
    let kernel = kernel_answers(rig) - kernel;
    let cpu = rig.agent.process().cpu_time().saturating_sub(cpu);
    println!(
        "\n{report}, in one second from a pod; {kernel} of {} answered in the kernel; \
         CPU time of the agent: +{} ms",
        report.completed,
        cpu.as_millis()
    );
    report.lost == 0 && kernel >= report.completed
}
