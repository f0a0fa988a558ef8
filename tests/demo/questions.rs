//! Typical questions, asked with real resolver tools from a pod.

use std::time::Instant;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use harness::{
    node::LOCAL_IP,
    process::{run, run_ok},
};

use crate::{answered_by::Answers, rig::Rig};

/// One question: the tool's arguments, and what has to come of it.
struct Question {
    tool: Tool,
    arguments: &'static [&'static str],
    /// Addresses, sorted; or NODATA, or an RCODE.
    answers: &'static [&'static str],
    by: By,
}

enum Tool {
    /// `dig`, without a cookie.
    Dig,
    /// `getent ahosts`, through the search list and ndots:5.
    Getent,
}

/// Who has to answer last: the search list goes elsewhere before.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Kernel,
    Agent,
    Cache,
    Upstream,
}

const fn question(
    tool: Tool,
    arguments: &'static [&'static str],
    answers: &'static [&'static str],
    by: By,
) -> Question {
    Question { tool, arguments, answers, by }
}

const WEB: &str = "web.shop.svc.cluster.local";
const V4: &str = "10.96.1.1";
const V6: &str = "fd00:10:96::1:1";

const QUESTIONS: [Question; 16] = [
    question(Tool::Dig, &[WEB, "A"], &[V4], By::Kernel),
    question(Tool::Dig, &[WEB, "AAAA"], &[V6], By::Kernel),
    question(Tool::Dig, &["wEb.ShOp.SVC.Cluster.Local", "A"], &[V4], By::Kernel),
    question(
        Tool::Dig,
        &["+noedns", "api.shop.svc.cluster.local", "A"],
        &["10.96.1.2"],
        By::Kernel,
    ),
    question(Tool::Dig, &["api.shop.svc.cluster.local", "AAAA"], &["NODATA"], By::Kernel),
    question(
        Tool::Dig,
        &["db.data.svc.cluster.local", "A"],
        &["10.244.2.10", "10.244.2.11"],
        By::Kernel,
    ),
    question(Tool::Dig, &["+cookie", WEB, "A"], &[V4], By::Agent),
    question(Tool::Dig, &["+tcp", WEB, "A"], &[V4], By::Agent),
    question(Tool::Dig, &["www.example.com", "A"], &["192.0.2.80"], By::Upstream),
    question(Tool::Dig, &["www.example.com", "A"], &["192.0.2.80"], By::Kernel),
    question(Tool::Dig, &["nosuch.example.com", "A"], &["NXDOMAIN"], By::Upstream),
    question(Tool::Dig, &["+tcp", "NOSUCH.example.com", "A"], &["NXDOMAIN"], By::Cache),
    question(Tool::Getent, &["kubernetes"], &["10.96.0.1"], By::Kernel),
    question(Tool::Getent, &["web.shop"], &[V4, V6], By::Kernel),
    question(Tool::Getent, &["db.data.svc"], &["10.244.2.10", "10.244.2.11"], By::Kernel),
    question(Tool::Getent, &["www.example.com"], &["192.0.2.80", "2001:db8::80"], By::Upstream),
];

/// Asks all of them and shows a table; false when something was not as expected.
pub fn ask(rig: &Rig<'_>) -> bool {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["question", "answer", "answered by", "time", ""]);
    let mut all_right = true;
    for question in &QUESTIONS {
        let before = Answers::so_far(rig);
        let (command, answers, time) = ask_one(rig, question);
        let by = Answers::so_far(rig).since(before);
        let is_right = answers == question.answers && question.is_by(by);
        all_right &= is_right;
        table.add_row([
            command,
            answers.join(" "),
            by.to_string(),
            time,
            if is_right { "ok" } else { "WRONG" }.to_owned(),
        ]);
    }
    println!("{table}");
    println!("(dig tells the time of the query, getent is timed as a whole process)");
    all_right
}

impl Question {
    /// Says whether the answers came from where they had to. The search list leads
    /// to other names first, which do not exist: the agent says so.
    fn is_by(&self, answers: Answers) -> bool {
        let expected = match self.by {
            By::Kernel => answers.kernel,
            By::Agent => answers.agent,
            By::Cache => answers.cache,
            By::Upstream => answers.upstream,
        };
        expected != 0 && (expected == answers.total() || matches!(self.tool, Tool::Getent))
    }
}

/// Returns the command as a reader would type it, the sorted answers, and the time.
fn ask_one(rig: &Rig<'_>, question: &Question) -> (String, Vec<String>, String) {
    let arguments = question.arguments;
    match question.tool {
        Tool::Dig => {
            let server = format!("@{LOCAL_IP}");
            let cookie = if arguments.contains(&"+cookie") { "+cookie" } else { "+nocookie" };
            let mut command = rig.pods[0].command("dig");
            command.args(["-u", "+tries=1", "+time=3", &server, cookie]).args(arguments);
            let text = run_ok(&mut command);
            (format!("dig {}", arguments.join(" ")), dig_answers(&text), dig_time(&text))
        }
        Tool::Getent => {
            let began = Instant::now();
            let mut command = rig.pods[0].command("getent");
            let output = run(command.arg("ahosts").args(arguments));
            let time = format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
            let mut answers: Vec<_> = text.lines().filter_map(first).collect();
            answers.sort();
            answers.dedup();
            (format!("getent ahosts {}", arguments.join(" ")), answers, time)
        }
    }
}

/// The addresses in dig's output, or the RCODE where there are none.
fn dig_answers(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let mut fields = line.split_whitespace().skip(3);
        let is_address = matches!(fields.next(), Some("A" | "AAAA"));
        is_address.then(|| fields.next().map(str::to_owned)).flatten()
    };
    let records = text.lines().filter(|line| !line.starts_with(';'));
    let mut answers: Vec<_> = records.filter_map(address).collect();
    if answers.is_empty() {
        let rcode = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
        let rcode = rcode.map(|rcode| if rcode == "NOERROR" { "NODATA" } else { rcode });
        answers.extend(rcode.map(str::to_owned));
    }
    answers.sort();
    answers
}

fn dig_time(text: &str) -> String {
    let time = text.split(";; Query time: ").nth(1).and_then(|rest| rest.lines().next());
    time.map_or("?".to_owned(), |time| time.replace(" usec", " us"))
}
